package h2

import "time"

// A moment is a point in time, counted from conn.base; 0 is none.
type moment = time.Duration

// A rate is how often something may happen.
type rate struct {
	burst     int // at once
	perSecond int // in the long run
}

// A bucket counts what happens against a rate: it leaks.
type bucket struct {
	level int    // how much is in it
	since moment // up to when it has leaked
}

// add adds one at now, and reports whether that is within r.
func (b *bucket) add(now moment, r rate) bool {
	// Leak whole units only, and keep the rest of the time: slow calls would never
	// leak anything otherwise. In a minute everything has leaked, and the product stays
	// within its bounds.
	if out := int(min(now-b.since, time.Minute) * moment(r.perSecond) / time.Second); b.level <= out {
		b.level, b.since = 0, now
	} else if out > 0 {
		b.level -= out
		b.since += moment(out) * time.Second / moment(r.perSecond)
	}
	b.level++
	return b.level <= r.burst
}

// refund takes n out.
func (b *bucket) refund(n int) { b.level = max(b.level-n, 0) }

// buckets is what a connection counts. Guarded by conn.mu.
type buckets struct {
	resets, control, priority, windows, unknown, empty, tiny, late, lateData, lateHeads, cancels bucket
}

// count adds one to b and returns an error that ends the connection when that is
// too much.
func (c *conn) count(b *bucket, r rate, reason string) error {
	c.mu.Lock()
	ok := b.add(c.now(), r)
	c.mu.Unlock()
	if !ok {
		return calm(reason)
	}
	return nil
}
