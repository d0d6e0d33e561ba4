package host

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

func TestCounterTake(t *testing.T) {
	t.Parallel()
	now := int64(1e9)
	clock := func() int64 { return now }
	table := newCounterTable(counterLimit{interval: 100, burst: 3}, counterFirstPages)
	for i, step := range []struct {
		at   int64 // added to now
		cost int64
		want taken
	}{
		{0, 0, taken{admitted: true, remaining: 3}},
		{0, 2, taken{admitted: true, remaining: 1, full: 200}},
		{0, 2, taken{remaining: 1, full: 200, retry: 100}},
		{0, 1, taken{admitted: true, remaining: 0, full: 300}},
		{99, 1, taken{remaining: 0, full: 201, retry: 1}},
		{1, 1, taken{admitted: true, remaining: 0, full: 300}},
		{300, 3, taken{admitted: true, remaining: 0, full: 300}},
		{-5000, 1, taken{remaining: 0, full: 300, retry: 100}}, // the clock is set back: nobody owes more than all
		{300, 3, taken{remaining: 0, full: 300, retry: 300}},   // the bucket's own time is still ahead
		{4700 + 300, 3, taken{admitted: true, remaining: 0, full: 300}},
	} {
		now += step.at
		if got, state := table.take(7, step.cost, clock); got != step.want || state != takeDone {
			t.Errorf("step %d: got %+v, want %+v", i, got, step.want)
		}
	}
}

// TestCounterConcurrent: what is admitted at one time is what the bucket holds,
// whoever takes at the same time, and keys do not see each other.
func TestCounterConcurrent(t *testing.T) {
	t.Parallel()
	table := newCounterTable(counterLimit{interval: 10, burst: 1000}, counterFirstPages)
	var admitted [3]atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 3000 {
				key := i % len(admitted)
				if d, _ := table.take(uint64(key)*counterPages, 1, func() int64 { return 1 }); d.admitted { // all on one page
					admitted[key].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for key := range admitted {
		if n := admitted[key].Load(); n != 1000 {
			t.Errorf("key %d: %d admitted, want 1000", key, n)
		}
	}
}

// TestCounterCrowded: pushing a key out of a full page with others never wins it tokens.
func TestCounterCrowded(t *testing.T) {
	t.Parallel()
	now := int64(0)
	clock := func() int64 { return now }
	l := counterLimit{interval: 10, burst: 5}
	table := newCounterTable(l, counterPages)
	r := rand.New(rand.NewPCG(1, 2))
	const victim = 1
	got, crowded := int64(0), false
	for ; now < 100_000; now += r.Int64N(3) {
		for range 3 {
			d, _ := table.take(uint64(2+r.IntN(400))*counterPages, 1+r.Int64N(5), clock) // the same page
			crowded = crowded || d.crowded
		}
		if d, _ := table.take(victim*counterPages, 1, clock); d.admitted {
			got++
		}
	}
	if most := now/l.interval + l.burst; got > most {
		t.Errorf("%d admitted, want at most %d", got, most)
	}
	if !crowded {
		t.Error("the page was never crowded")
	}
	if n := len(table.pages[0].buckets); n != counterPageBuckets {
		t.Errorf("the page has %d buckets, want %d", n, counterPageBuckets)
	}
}

// fill takes from buckets of other limits until there is no room for another, and returns
// how many limits there were.
func fill(t *testing.T, s *counterSpace, now, interval int64) (n int64) {
	t.Helper()
	for ; ; n++ {
		table, _ := s.table(counterLimit{interval, n + 1}, now)
		if table == nil {
			return n
		}
		if d, state := table.take(1, 1, func() int64 { return now }); !d.admitted || state != takeDone {
			t.Fatalf("limit %d: %+v, %v", n, d, state)
		}
	}
}

// TestCounterTables: tables whose buckets are full make room for others, and those in use
// do not. Nobody looks for some before there can be any.
func TestCounterTables(t *testing.T) {
	t.Parallel()
	s := newCounterSpace()
	now := int64(1000)
	if n := fill(t, s, now, 100); n < 4000 {
		t.Errorf("room for %d limits, want thousands", n)
	}
	if s.bytes > maxCounterBytes {
		t.Errorf("%d bytes of tables, want at most %d", s.bytes, int64(maxCounterBytes))
	}
	for range 2 {
		if table, looked := s.table(counterLimit{1, 1}, now); table != nil || looked != 0 {
			t.Errorf("a table over the bound: %v after a look at %d", table != nil, looked)
		}
	}
	if s.find(counterLimit{100, 1}) == nil {
		t.Error("a table in use is gone")
	}
	now += 200
	if table, _ := s.table(counterLimit{1, 1}, now); table == nil {
		t.Error("tables at rest did not make room")
	}
	if len(s.tables) != 1 || s.bytes != counterBytes(counterFirstPages) {
		t.Errorf("%d tables of %d bytes are left, want the new one", len(s.tables), s.bytes)
	}
	for _, l := range []counterLimit{{0, 1}, {1, 0}, {-1, 1}, {1 << 62, 4}, {maxCounterCapacity, 2}} {
		if l.valid() {
			t.Errorf("%+v is valid", l)
		}
	}
	if l := (counterLimit{maxCounterCapacity, 1}); !l.valid() {
		t.Errorf("%+v is not valid", l)
	}
}

// takeFrom takes as a VM does that remembers no table.
func (s *counterSpace) takeFrom(l counterLimit, tag uint64, cost int64, clock func() int64) (d taken, ok bool) {
	for {
		t, _ := s.table(l, clock())
		if t == nil {
			return taken{}, false
		}
		d, state := t.take(tag, cost, clock)
		switch state {
		case takeDone:
			return d, true
		case takeGrow:
			s.grow(t, clock())
		case takeGone:
		}
	}
}

// TestCounterGrow: a table grows with the keys that are short of tokens, which find what they
// had left, and up to its bound. No key is displaced before that.
func TestCounterGrow(t *testing.T) {
	t.Parallel()
	s := newCounterSpace()
	clock := func() int64 { return 1000 }
	l := counterLimit{1e9, 2}
	r := rand.New(rand.NewPCG(1, 2))
	var tags []uint64
	for len(tags) < 12_000 {
		tags = append(tags, r.Uint64())
		if d, ok := s.takeFrom(l, tags[len(tags)-1], 1, clock); !ok || !d.admitted || d.crowded || d.remaining != 1 {
			t.Fatalf("key %d: %+v, %v", len(tags), d, ok)
		}
	}
	for i, tag := range tags {
		if d, ok := s.takeFrom(l, tag, 0, clock); !ok || d.remaining != 1 {
			t.Fatalf("key %d afterwards: %+v, %v", i, d, ok)
		}
	}
	if n := len(s.tables[l].pages); n != counterPages {
		t.Errorf("%d pages for 12,000 keys, want %d", n, counterPages)
	}
	if s.bytes != counterBytes(counterPages) || s.bytes > 1300<<10 {
		t.Errorf("%d bytes counted", s.bytes)
	}
	for range 200_000 {
		if _, ok := s.takeFrom(l, r.Uint64(), 1, clock); !ok {
			t.Fatal("refused")
		}
	}
	if n := len(s.tables[l].pages); n != counterPages {
		t.Errorf("%d pages, want at most %d", n, counterPages)
	}
}

// TestCounterGrowBounded: where there is no room to grow keys displace each other, and the table
// does not grow later: a key that was displaced would find a full bucket.
func TestCounterGrowBounded(t *testing.T) {
	t.Parallel()
	s := newCounterSpace()
	now := int64(1000)
	clock := func() int64 { return now }
	l := counterLimit{1e9, 2}
	for i := range uint64(counterPageBuckets) {
		s.takeFrom(l, i*counterPages, 1, clock)
	}
	fill(t, s, now, 100)
	if d, ok := s.takeFrom(l, 99*counterPages, 1, clock); !ok || !d.crowded || d.remaining != 0 {
		t.Errorf("a new key on a full page: %+v, %v", d, ok)
	}
	now += 1000 // all other limits are at rest
	if d, ok := s.takeFrom(l, 98*counterPages, 1, clock); !ok || !d.crowded {
		t.Errorf("another one: %+v, %v", d, ok)
	}
	if n := len(s.tables[l].pages); n != counterFirstPages {
		t.Errorf("the table has grown to %d pages", n)
	}
}

// TestCounterTableGone: a VM remembers the table that it used last. One that has made room
// for others meanwhile must not be counted in: the next VM has a new table of that limit,
// and a key would have two buckets.
func TestCounterTableGone(t *testing.T) {
	t.Parallel()
	s := newCounterSpace()
	now := int64(1000)
	clock := func() int64 { return now }
	limit := counterLimit{100, 1 << 20}
	remembered, _ := s.table(limit, now)
	fill(t, s, now, 100)
	for _, cost := range []int64{0, 1} {
		if _, state := remembered.take(7, cost, clock); state != takeGone {
			t.Errorf("a table that is gone counts: %v", state)
		}
	}
	now += 1e9
	if d, ok := s.takeFrom(limit, 7, 1, clock); !ok || !d.admitted {
		t.Errorf("a new table of its limit: %+v, %v", d, ok)
	}
}

// TestCounterTableGoneConcurrent: what is taken while tables make room for others, or grow, is
// counted, or the taker is told to look for its table again.
func TestCounterTableGoneConcurrent(t *testing.T) {
	t.Parallel()
	s := newCounterSpace()
	s.bytes = maxCounterBytes - 8*counterBytes(counterFirstPages) - counterBytes(counterPages)
	var now atomic.Int64
	var others sync.WaitGroup
	stop := make(chan struct{})
	others.Go(func() { // ends with stop
		for i := int64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
				s.table(counterLimit{1, i%1000 + 1}, now.Load())
			}
		}
	})
	for round := range int64(300) {
		now.Add(1e9) // what was taken in the last round is full again
		limit := counterLimit{1000 + round, 2}
		var admitted atomic.Int64
		var takers sync.WaitGroup
		for k := range uint64(4) {
			takers.Go(func() {
				for i := range uint64(20) { // others, which make it grow
					s.takeFrom(limit, (1+k*20+i)*counterFirstPages, 1, now.Load)
					if i == 10 {
						if d, _ := s.takeFrom(limit, 0, 1, now.Load); d.admitted {
							admitted.Add(1)
						}
					}
				}
			})
		}
		takers.Wait()
		if n := admitted.Load(); n != limit.burst {
			t.Errorf("round %d: %d admitted, want %d", round, n, limit.burst)
		}
	}
	close(stop)
	others.Wait()
}

func BenchmarkCounterTake(b *testing.B) {
	h := &Host{}
	table := newCounterTable(counterLimit{interval: 10, burst: 1000}, counterFirstPages)
	for b.Loop() {
		table.take(7, 1, h.counterClock)
	}
}
