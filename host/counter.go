package host

import (
	"math"
	"sync"
	"sync/atomic"
)

// A counterSpace has the token buckets of one vm_id (abi.ForeignTakeCounter). Its lock
// and those of its tables are below a VM's, and nothing waits under them.
type counterSpace struct {
	key tagKey // of tags; set before the first of them is made

	// Guarded by mu.
	mu     sync.Mutex
	tables map[counterLimit]*counterTable
	bytes  int64 // of all tables, with all buckets that they may come to have
	full   int64 // until then none of them can be given up
}

// A counterLimit is what buckets of one table have in common: a time means something
// else in another one.
type counterLimit struct{ interval, burst int64 }

// capacity is the time an empty bucket needs to become full, in nanoseconds.
func (l counterLimit) capacity() int64 { return l.burst * l.interval }

// A counterTable is cut into pages, each with a lock of its own, so that it cannot grow
// past a bound whatever keys come, and two VMs rarely meet on one. It begins with a few.
// When one of them has no room left it makes room for a table with more pages, until it
// is as large as may be, or all of them together are: then keys begin to displace each
// other, and it does not grow any more, as a key that comes back would find a new bucket.
type counterTable struct {
	counterLimit
	pages []counterPage // as many as a power of two

	// rest is when all buckets are full again, or a little later, and gone tells that the
	// table has made room. Whoever takes writes rest and then looks at gone; who gives
	// the table up does the opposite: one of them sees the other.
	rest  atomic.Int64
	gone  atomic.Bool
	fixed atomic.Bool // it does not grow

	// debt is the most, in nanoseconds, that a charge has left a bucket to owe beyond
	// empty.
	debt atomic.Int64
}

type counterPage struct {
	mu      sync.Mutex
	buckets []counterBucket // at most pageBuckets; guarded by mu
}

// A counterBucket has the time at which it will be full, which is all that a token
// bucket is. A bucket that is not there is full.
type counterBucket struct {
	tag  uint64 // hash of the key
	full int64  // nanoseconds on the clock of the host
}

func newCounterSpace() *counterSpace {
	return &counterSpace{key: newTagKey(), tables: map[counterLimit]*counterTable{}}
}

func newCounterTable(l counterLimit, pages int) *counterTable {
	t := &counterTable{counterLimit: l, pages: make([]counterPage, pages)}
	t.rest.Store(math.MinInt64)
	t.fixed.Store(pages >= counterPages)
	return t
}

// counterBytes is what a table of that many pages may come to hold.
func counterBytes(pages int) int64 { return counterTableBytes + int64(pages)*counterPageBytes }

// find returns the table of a limit; nil if there is none, so that all its buckets are full.
func (s *counterSpace) find(l counterLimit) *counterTable {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tables[l]
}

// table returns the table of a limit, which is made if there is none; nil when others that
// are in use have all the room. It may be remembered for as long as take counts in it.
// looked is how many tables were looked at to make room.
func (s *counterSpace) table(l counterLimit, now int64) (t *counterTable, looked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tables[l]; t != nil {
		return t, 0
	}
	fits, looked := s.roomLocked(counterBytes(counterFirstPages), nil, now)
	if !fits {
		return nil, looked
	}
	t = newCounterTable(l, counterFirstPages)
	s.tables[l] = t
	s.bytes += counterBytes(counterFirstPages)
	s.full = math.MinInt64 // t is at rest
	return t, looked
}

// roomLocked reports whether there is room for n bytes more, after tables at rest, other
// than keep, have made some if they have to: nothing is lost with them.
func (s *counterSpace) roomLocked(n int64, keep *counterTable, now int64) (fits bool, looked int) {
	if s.bytes+n <= maxCounterBytes {
		return true, 0
	}
	if now < s.full {
		return false, 0
	}
	looked, s.full = len(s.tables), math.MaxInt64
	for l, t := range s.tables {
		if t != keep && t.leave(now) {
			delete(s.tables, l)
			s.bytes -= counterBytes(len(t.pages))
			t.forget()
			continue
		}
		s.full = min(s.full, t.rest.Load())
	}
	return s.bytes+n <= maxCounterBytes, looked
}

// grow makes a table with more pages of t, or sees to it that t does not ask again. work is how
// many pages and tables were looked at.
func (s *counterSpace) grow(t *counterTable, now int64) (work int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables[t.counterLimit] != t {
		return 0 // another was first
	}
	n := min(len(t.pages)*counterGrowth, counterPages)
	more := counterBytes(n) - counterBytes(len(t.pages))
	fits, looked := s.roomLocked(more, t, now)
	if !fits {
		t.fixed.Store(true)
		return looked
	}
	larger := newCounterTable(t.counterLimit, n)
	t.gone.Store(true)
	for i := range t.pages {
		p := &t.pages[i]
		p.mu.Lock()
		for _, b := range p.buckets { // no page gets those of two
			to := larger.page(b.tag)
			to.buckets = append(to.buckets, b)
		}
		p.buckets = nil // see forget
		p.mu.Unlock()
	}
	larger.rest.Store(t.rest.Load())
	larger.debt.Store(t.debt.Load())
	s.tables[t.counterLimit] = larger
	s.bytes += more
	return looked + n
}

// leave takes t out of use if nothing is lost with it. A VM may remember it and take a
// moment later; then it has to find the new table of the limit, as others will.
func (t *counterTable) leave(now int64) bool {
	t.gone.Store(true)
	if t.rest.Load() <= now {
		return true
	}
	t.gone.Store(false)
	return false
}

// forget lets go of the buckets of a table that is gone, which gates and VMs remember until they are
// asked the next time: the room has been given to others.
func (t *counterTable) forget() {
	for i := range t.pages {
		p := &t.pages[i]
		p.mu.Lock()
		p.buckets = nil
		p.mu.Unlock()
	}
}

// owe notes that a bucket will be full at that time. It adds an eighth, so that one bucket
// that is taken from again and again does not write each time what all VMs read.
func (t *counterTable) owe(full, now int64) {
	for {
		old := t.rest.Load()
		if full <= old || t.rest.CompareAndSwap(old, full+(full-now)/8) {
			return
		}
	}
}

func (t *counterTable) page(tag uint64) *counterPage {
	return &t.pages[tag&uint64(len(t.pages)-1)]
}

// A taken is the outcome of a take; times are in nanoseconds from now.
type taken struct {
	admitted, crowded      bool
	remaining, full, retry int64
}

// What a take has come to.
type takeState uint8

const (
	takeDone takeState = iota
	takeGone           // the table is not in use any more: ask for it again
	takeGrow           // the table has to grow first
)

// take takes cost tokens from the bucket of a tag if they are there. However many VMs
// take at the same time, a key is admitted at most rate * time + burst. clock is
// read under the page's lock: time never goes back for a bucket, unless the clock is
// set back; no bucket then owes more than an empty one does. Nothing is taken unless it is done.
func (t *counterTable) take(tag uint64, cost int64, clock func() int64) (taken, takeState) {
	p := t.page(tag)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := clock()
	i, crowded := p.find(tag, now)
	if crowded && !t.fixed.Load() {
		if cost > 0 {
			return taken{}, takeGrow
		}
		i, crowded = len(p.buckets), false // a larger table has no bucket of it
	}
	full := now
	if i < len(p.buckets) {
		b := &p.buckets[i]
		if b.tag == tag || crowded {
			full = min(max(b.full, now), now+t.capacity()+t.debt.Load())
		}
	}
	latest := now + t.capacity() // when an empty bucket would be full
	after := full + cost*t.interval
	admitted := after <= latest
	if admitted && cost > 0 {
		t.owe(after, now)
	}
	if t.gone.Load() {
		return taken{}, takeGone
	}
	if !admitted {
		return taken{remaining: max(latest-full, 0) / t.interval, full: full - now, retry: after - latest}, takeDone
	}
	if cost > 0 {
		p.put(i, counterBucket{tag, after})
	}
	return taken{
		admitted: true, crowded: crowded && cost > 0,
		remaining: (latest - after) / t.interval, full: after - now,
	}, takeDone
}

// charge takes cost tokens from the bucket of a tag whether they are there or not. What
// it owes then is at most maxCounterCapacity.
func (t *counterTable) charge(tag uint64, cost int64, clock func() int64) (taken, takeState) {
	p := t.page(tag)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := clock()
	i, crowded := p.find(tag, now)
	if crowded && !t.fixed.Load() {
		return taken{}, takeGrow
	}
	full := now
	if i < len(p.buckets) && (p.buckets[i].tag == tag || crowded) {
		full = min(max(p.buckets[i].full, now), now+t.capacity()+t.debt.Load())
	}
	latest := now + t.capacity()
	after := min(full+cost*t.interval, max(full, now+maxCounterCapacity))
	t.owe(after, now)
	if t.gone.Load() {
		return taken{}, takeGone
	}
	for {
		old := t.debt.Load()
		if after-latest <= old || t.debt.CompareAndSwap(old, after-latest) {
			break
		}
	}
	p.put(i, counterBucket{tag, after})
	return taken{
		admitted: after <= latest, crowded: crowded, remaining: max(latest-after, 0) / t.interval, full: after - now,
	}, takeDone
}

// put stores a bucket; a new one may find the page grown to the next size.
func (p *counterPage) put(i int, b counterBucket) {
	if i == len(p.buckets) {
		p.buckets = append(p.buckets, b)
		return
	}
	p.buckets[i] = b
}

// find returns the index of a key's bucket, len(p.buckets) for one that has to be
// added. A new key takes, in this order, a bucket that is full again (nothing is lost
// with it), a new one, or the one nearest to full.
//
// In the last case, crowded, the key inherits the time of the one it displaces, and that
// is what keeps eviction from being a bypass: the least time on a page never
// decreases, so a key that was displaced and comes back, displacing again, owes no less
// than when it left. (The replacement rule of the space-saving algorithm: Metwally,
// Agrawal, El Abbadi, 2005.)
func (p *counterPage) find(tag uint64, now int64) (i int, crowded bool) {
	least := 0
	for i := range p.buckets {
		if p.buckets[i].tag == tag {
			return i, false
		}
		if p.buckets[i].full < p.buckets[least].full {
			least = i
		}
	}
	switch n := len(p.buckets); {
	case n > 0 && p.buckets[least].full <= now:
		return least, false
	case n < counterPageBuckets:
		return n, false
	}
	return least, true
}

// admit is take where a bucket has the tokens, has so many left after that, and is at its place, or
// has one that nobody has to leave; otherwise nothing is taken, and the outcome is not admitted. If it is
// the tokens of a bucket that is at its place, and they would not be there without the reserve either, the
// outcome is that of take, which has a retry. gone: the table is not in use any more.
func (t *counterTable) admit(tag uint64, cost, reserve int64, h *Host) (d taken, gone bool) {
	p := t.page(tag)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := h.counterClock()
	i, crowded := p.find(tag, now)
	if crowded {
		return taken{}, t.gone.Load()
	}
	full := now
	if i < len(p.buckets) && p.buckets[i].tag == tag {
		full = min(max(p.buckets[i].full, now), now+t.capacity()+t.debt.Load())
	}
	latest, after := now+t.capacity(), full+cost*t.interval
	switch {
	case after > latest:
		return taken{remaining: max(latest-full, 0) / t.interval, full: full - now, retry: after - latest}, t.gone.Load()
	case after > latest-reserve*t.interval:
		return taken{}, t.gone.Load()
	}
	t.owe(after, now)
	if t.gone.Load() {
		return taken{}, true
	}
	p.put(i, counterBucket{tag, after})
	return taken{admitted: true, remaining: (latest - after) / t.interval, full: after - now}, false
}
