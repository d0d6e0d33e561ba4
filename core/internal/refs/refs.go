// Package refs counts who uses something that is replaced as a whole: a reload swaps the
// snapshot that new work gets, and what uses the old one finishes with it.
package refs

import "sync/atomic"

// A Count is how many use something. The zero Count is drained; its methods are safe for
// concurrent use once Publish has been called.
type Count struct {
	live    atomic.Int64
	drained chan struct{}
}

// Publish begins with one reference, that of whoever hands the thing out.
func (c *Count) Publish() {
	c.drained = make(chan struct{})
	c.live.Store(1)
}

// Acquire adds a reference, unless there is none any more: then whoever has loaded the
// thing has to load what is in its place.
func (c *Count) Acquire() bool {
	for {
		n := c.live.Load()
		if n == 0 {
			return false
		}
		if c.live.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives a reference back.
func (c *Count) Release() {
	if c.live.Add(-1) == 0 {
		close(c.drained)
	}
}

// Drained returns a channel that is closed with the last reference; nil before Publish.
func (c *Count) Drained() <-chan struct{} { return c.drained }
