package h2

import (
	"context"
	"sync"
	"time"

	"wproxy/core/exchange"
)

// A streamContext is the context of one exchange. The parent hears of it only when
// somebody asks for Done, which on the plain path nobody does; then it is used for one
// exchange only.
type streamContext struct {
	mu sync.Mutex
	// Guarded by mu.
	parent context.Context
	ended  context.Context // cancelled, with the cause; nil: c is not, as far as is known
	done   chan struct{}   // nil: nobody has asked
	stop   func() bool     // ends the watch of parent
}

// cancel cancels c. Only the first call has an effect.
func (c *streamContext) cancel(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil || c.parent == nil {
		return
	}
	// What context.Cause looks for is private to package context: one of its own
	// contexts has it.
	ended, cancel := context.WithCancelCause(context.WithoutCancel(c.parent))
	cancel(cause)
	c.ended = ended
	if c.done != nil {
		c.stop()
		close(c.done)
	}
}

// end cancels c for whoever has kept it beyond the exchange; as a rule that is nobody,
// and nothing is made for it.
func (c *streamContext) end() {
	c.mu.Lock()
	asked := c.done != nil
	c.mu.Unlock()
	if asked {
		c.cancel(context.Canceled)
	}
}

// used reports whether somebody may hold on to c.
func (c *streamContext) used() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done != nil || c.ended != nil
}

// Deadline implements context.Context.
func (c *streamContext) Deadline() (time.Time, bool) { return c.from().Deadline() }

// Err implements context.Context.
func (c *streamContext) Err() error { return c.from().Err() }

// Value implements context.Context.
func (c *streamContext) Value(key any) any { return c.from().Value(key) }

// from returns the context that knows.
func (c *streamContext) from() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return c.ended
	}
	return c.parent
}

// Done implements context.Context.
func (c *streamContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.ended != nil {
			close(c.done)
		} else {
			parent := c.parent
			c.stop = context.AfterFunc(parent, func() { c.cancel(context.Cause(parent)) })
		}
	}
	return c.done
}

// A presence knows whom to tell when the client has gone (architecture, rule 11).
type presence struct {
	mu sync.Mutex
	// Guarded by mu, which is held while r is told: r is not touched after notify(nil).
	r    exchange.Resetter
	id   uint32 // of the stream
	gone bool
}

// begin begins an exchange.
func (p *presence) begin(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.r, p.id, p.gone = nil, id, false
}

// notify is exchange.GoneNotifier's ResetWhenGone.
func (p *presence) notify(r exchange.Resetter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.r = r
	if r != nil && p.gone {
		r.Reset(exchange.CodeCancel)
	}
}

// lose tells that the client of stream id has gone.
func (p *presence) lose(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.id != id {
		return false // another exchange
	}
	p.gone = true
	if p.r != nil {
		p.r.Reset(exchange.CodeCancel)
	}
	return true
}
