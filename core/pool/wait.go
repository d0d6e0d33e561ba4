package pool

import (
	"context"
	"time"
)

// A waiter is an exchange that waits for a connection. It gets one through
// grant, or nil: it may make one, and is counted as open. A closed grant means
// that the pool was closed.
type waiter struct {
	grant      chan Conn // has room for one
	prev, next *waiter
	queued     bool
}

// A queue is the waiters of one server, first come, first served.
type queue struct {
	first, last *waiter
	n           int
}

func (q *queue) push(w *waiter) {
	w.prev, w.queued = q.last, true
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	q.n++
}

func (q *queue) pop() *waiter {
	w := q.first
	if w != nil {
		q.remove(w)
	}
	return w
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.n--
}

// wait waits for a connection of s, or for leave to make one (nil). It is called
// with p.mu held and returns without.
func (p *Pool) wait(ctx context.Context, s *server, key Key, deadline time.Time) (Conn, error) {
	c, granted, err := p.line(ctx, &s.queue, deadline, func() { p.forgetLocked(key, s) })
	if err != nil && granted { // nobody is there for what was granted
		p.mu.Lock()
		p.freeLocked(key)
		p.mu.Unlock()
		if c != nil {
			_ = c.Close()
		}
	}
	return c, err
}

// line waits in q for what is granted. It is called with p.mu held and returns without.
// If it returns an error and granted, what was granted is the caller's to pass on.
// left is called, with p.mu held, when the waiter has left q by itself.
func (p *Pool) line(ctx context.Context, q *queue, deadline time.Time, left func()) (c Conn, granted bool, err error) {
	if p.o.Queue < 0 || q.n >= p.o.Queue {
		p.mu.Unlock()
		return nil, false, unavailable(ReasonFull)
	}
	w := &waiter{grant: make(chan Conn, 1)}
	q.push(w)
	p.mu.Unlock()

	limit := p.o.QueueTime
	if !deadline.IsZero() {
		limit = min(limit, time.Until(deadline))
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case c, ok := <-w.grant:
		if !ok {
			return nil, false, unavailable("pool_closed")
		}
		return c, true, nil
	case <-timer.C:
		err = unavailable(ReasonQueueTime)
	case <-ctx.Done():
		err = ctx.Err()
	}

	p.mu.Lock()
	if w.queued {
		q.remove(w)
		left()
		p.mu.Unlock()
		return nil, false, err
	}
	// Granted in the meantime. What was granted must not be lost: take it when
	// only time was short, pass it on when nobody is there for it.
	p.mu.Unlock()
	c, ok := <-w.grant
	switch {
	case !ok:
		return nil, false, unavailable("pool_closed")
	case ctx.Err() == nil:
		return c, true, nil
	}
	return c, true, err
}
