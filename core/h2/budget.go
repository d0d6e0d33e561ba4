package h2

import "sync/atomic"

// A Budget bounds what the requests of all connections together make wproxy hold: bodies
// that nobody has taken yet, heads, and the growth of windows. Each connection may hold
// connShare besides, so that who asks for little is served whatever others do. Its methods
// are safe for concurrent use.
type Budget struct {
	limit, used atomic.Int64
}

// NewBudget returns a Budget of so many bytes.
func NewBudget(bytes int64) *Budget {
	b := new(Budget)
	b.Limit(bytes)
	return b
}

// Limit changes the number of bytes. What is held beyond it is not taken away.
func (b *Budget) Limit(bytes int64) { b.limit.Store(max(bytes, 0)) }

// Used returns how many bytes are taken.
func (b *Budget) Used() int64 { return b.used.Load() }

// take takes n bytes. False: there are not as many.
func (b *Budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.limit.Load() {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

// A share is what one connection holds, and has taken of the Budget for that. Guarded by
// conn.mu.
type share struct {
	budget *Budget // nil: no bound
	held   int     // bytes of heads, and of buffers with bodies
	grown  int     // bytes that windows have grown by: they may come at any time
	taken  int     // of the budget
}

// hold notes that n more bytes are held. False: they must not be.
func (h *share) hold(n int) bool {
	if more := h.due(n, 0) - h.taken; h.budget != nil && more > 0 {
		if !h.budget.take(more) {
			return false
		}
		h.taken += more
	}
	h.held += n
	return true
}

// grow takes n bytes for the growth of a window. False: there are not as many.
func (h *share) grow(n int) bool {
	if h.budget != nil {
		more := h.due(0, n) - h.taken
		if more > 0 && !h.budget.take(more) {
			return false
		}
		h.taken += max(more, 0)
	}
	h.grown += n
	return true
}

// letGo notes that n bytes are held no more, and that windows are smaller by shrunk.
func (h *share) letGo(n, shrunk int) {
	h.held -= n
	h.grown -= shrunk
	if h.budget != nil {
		// It may become more: of a window that is gone, bytes may still be here.
		due := h.due(0, 0)
		h.budget.used.Add(int64(due - h.taken))
		h.taken = due
	}
}

// due returns how many bytes of the budget h needs with n more bytes, and windows that have
// grown by more. What has been promised to a window is there for whatever is held.
func (h *share) due(n, more int) int {
	grown := h.grown + more
	return grown + max(h.held+n-connShare-grown, 0)
}
