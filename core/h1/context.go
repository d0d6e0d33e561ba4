package h1

import (
	"context"
	"sync"
	"time"
)

// A connContext is the context of a client's connection. It is a part of it: one of
// package context would cost an idle connection 250 bytes, most of them in the list of
// the parent's children. The parent hears of it only when somebody asks for Done, which
// on the plain path nobody does.
type connContext struct {
	parent context.Context // immutable

	mu sync.Mutex
	// Guarded by mu.
	ended context.Context // cancelled, with the cause; nil: c is not, as far as is known
	done  chan struct{}   // nil: nobody has asked
	stop  func() bool     // ends the watch of parent
}

// cancel cancels c. Only the first call has an effect.
func (c *connContext) cancel(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
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

// Deadline implements context.Context.
func (c *connContext) Deadline() (time.Time, bool) { return c.parent.Deadline() }

// Err implements context.Context.
func (c *connContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return c.ended.Err()
	}
	return c.parent.Err()
}

// Value implements context.Context.
func (c *connContext) Value(key any) any {
	c.mu.Lock()
	from := c.parent
	if c.ended != nil {
		from = c.ended
	}
	c.mu.Unlock()
	return from.Value(key)
}

// Done implements context.Context.
func (c *connContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.ended != nil {
			close(c.done)
		} else {
			c.stop = context.AfterFunc(c.parent, func() { c.cancel(context.Cause(c.parent)) })
		}
	}
	return c.done
}

// end cancels c for whoever has kept it beyond the connection; as a rule that is
// nobody, and nothing is made for it.
func (c *connContext) end() {
	c.mu.Lock()
	asked := c.done != nil
	c.mu.Unlock()
	if asked {
		c.cancel(context.Canceled)
	}
}
