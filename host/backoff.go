package host

import "time"

// A backoff spaces out the replacements of VMs that die. The first death after a
// quiet time is made good at once, since one bad request must not cost a second of
// service; from the second on the wait grows from least to most. A crash loop thus
// costs at most one start per most.
type backoff struct {
	least, most time.Duration

	last time.Time     // of the last death; zero: none
	wait time.Duration // chosen at the last death
}

// died notes a death (or a failed replacement) at now and returns how long to wait
// before the next start.
func (b *backoff) died(now time.Time) time.Duration {
	switch {
	case b.last.IsZero() || now.Sub(b.last) > quietTime+b.wait:
		b.wait = 0
	case b.wait == 0:
		b.wait = b.least
	default:
		b.wait = min(2*b.wait, b.most)
	}
	b.last = now
	return b.wait
}

// left returns how much of the wait is left at now.
func (b *backoff) left(now time.Time) time.Duration {
	return max(b.last.Add(b.wait).Sub(now), 0)
}
