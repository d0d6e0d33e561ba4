package host

import "time"

// A backoff spaces out the replacements of VMs that die. A few deaths are made good
// at once, since a bad request now and then must not cost the others a second of
// service: immediateRestarts of them in a row, and as many again each quietTime. Beyond
// that the wait grows from least to most, until there has been no death for quietTime.
// A crash loop thus costs at most one start per most.
type backoff struct {
	least, most time.Duration

	last time.Time     // of the last death; zero: none
	wait time.Duration // chosen at the last death
	used time.Duration // of quietTime, by immediate restarts: each uses its share of it
}

// died notes a death at now and returns how long to wait before the next start.
func (b *backoff) died(now time.Time) time.Duration {
	const share = quietTime / immediateRestarts
	if b.quiet(now) {
		b.wait, b.used = 0, 0
	}
	if b.wait == 0 {
		b.used = max(b.used-now.Sub(b.last), 0)
		if b.used+share <= quietTime {
			b.used += share
			b.last = now
			return 0
		}
	}
	return b.grow(now)
}

// failed is died for a start that has failed: trying that again at once is of no use.
func (b *backoff) failed(now time.Time) time.Duration {
	if b.quiet(now) {
		b.wait, b.used = 0, 0
	}
	return b.grow(now)
}

// quiet reports whether what was before now is forgotten.
func (b *backoff) quiet(now time.Time) bool {
	return b.last.IsZero() || now.Sub(b.last) > quietTime+b.wait
}

func (b *backoff) grow(now time.Time) time.Duration {
	b.last, b.wait = now, min(max(2*b.wait, b.least), b.most)
	return b.wait
}

// left returns how much of the wait is left at now.
func (b *backoff) left(now time.Time) time.Duration {
	return max(b.last.Add(b.wait).Sub(now), 0)
}
