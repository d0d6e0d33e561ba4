package host

import (
	"hash/maphash"
	"sync"
)

// A counterSpace has the token buckets of one vm_id (abi.ForeignTakeCounter). Its lock
// and those of its tables are below a VM's, and nothing waits under them.
type counterSpace struct {
	seed maphash.Seed // random: nobody outside can make keys that meet on one page

	mu     sync.Mutex
	tables map[counterLimit]*counterTable // guarded by mu
}

// A counterLimit is what buckets of one table have in common: a time means something
// else in another one.
type counterLimit struct{ interval, burst int64 }

// capacity is the time an empty bucket needs to become full, in nanoseconds.
func (l counterLimit) capacity() int64 { return l.burst * l.interval }

// A counterTable is cut into pages, each with a lock of its own, so that it cannot grow
// past a bound whatever keys come, and two VMs rarely meet on one.
type counterTable struct {
	counterLimit
	pages [counterPages]counterPage
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
	return &counterSpace{seed: maphash.MakeSeed(), tables: map[counterLimit]*counterTable{}}
}

// table returns the table of a limit; nil when there are too many that are in use.
func (s *counterSpace) table(l counterLimit, now int64) *counterTable {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[l]
	if t != nil {
		return t
	}
	if len(s.tables) >= maxCounterTables {
		for k, old := range s.tables {
			if old.rests(now) { // nothing is lost with it
				delete(s.tables, k)
			}
		}
		if len(s.tables) >= maxCounterTables {
			return nil
		}
	}
	t = &counterTable{counterLimit: l}
	s.tables[l] = t
	return t
}

// rests reports whether all buckets of t are full.
func (t *counterTable) rests(now int64) bool {
	for i := range t.pages {
		p := &t.pages[i]
		p.mu.Lock()
		for _, b := range p.buckets {
			if b.full > now {
				p.mu.Unlock()
				return false
			}
		}
		p.mu.Unlock()
	}
	return true
}

// A taken is the outcome of a take; times are in nanoseconds from now.
type taken struct {
	admitted, crowded      bool
	remaining, full, retry int64
}

// take takes cost tokens from the bucket of a tag if they are there. However many VMs
// take at the same time, a key is admitted at most rate * time + burst. clock is
// read under the page's lock: time never goes back for a bucket, unless the clock is
// set back; no bucket then owes more than an empty one does.
func (t *counterTable) take(tag uint64, cost int64, clock func() int64) taken {
	p := &t.pages[tag%counterPages]
	p.mu.Lock()
	defer p.mu.Unlock()
	now := clock()
	i, crowded := p.find(tag, now)
	full := now
	if i < len(p.buckets) {
		b := &p.buckets[i]
		if b.tag == tag || crowded {
			full = min(max(b.full, now), now+t.capacity())
		}
	}
	latest := now + t.capacity() // when an empty bucket would be full
	after := full + cost*t.interval
	if after > latest {
		return taken{remaining: (latest - full) / t.interval, full: full - now, retry: after - latest}
	}
	if cost > 0 {
		p.put(i, counterBucket{tag, after})
	}
	return taken{
		admitted: true, crowded: crowded && cost > 0,
		remaining: (latest - after) / t.interval, full: after - now,
	}
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
