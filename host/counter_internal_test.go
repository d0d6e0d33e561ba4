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
	table := &counterTable{counterLimit: counterLimit{interval: 100, burst: 3}}
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
		if got := table.take(7, step.cost, clock); got != step.want {
			t.Errorf("step %d: got %+v, want %+v", i, got, step.want)
		}
	}
}

// TestCounterConcurrent: what is admitted at one time is what the bucket holds,
// whoever takes at the same time, and keys do not see each other.
func TestCounterConcurrent(t *testing.T) {
	t.Parallel()
	table := &counterTable{counterLimit: counterLimit{interval: 10, burst: 1000}}
	var admitted [3]atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 3000 {
				key := i % len(admitted)
				if table.take(uint64(key)*counterPages, 1, func() int64 { return 1 }).admitted { // all on one page
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
	table := &counterTable{counterLimit: l}
	r := rand.New(rand.NewPCG(1, 2))
	const victim = 1
	got, crowded := int64(0), false
	for ; now < 100_000; now += r.Int64N(3) {
		for range 3 {
			d := table.take(uint64(2+r.IntN(400))*counterPages, 1+r.Int64N(5), clock) // the same page
			crowded = crowded || d.crowded
		}
		if table.take(victim*counterPages, 1, clock).admitted {
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

// TestCounterTables: tables whose buckets are full make room for others, and those in use
// do not.
func TestCounterTables(t *testing.T) {
	t.Parallel()
	s := newCounterSpace()
	now := int64(1000)
	clock := func() int64 { return now }
	for i := range int64(maxCounterTables) {
		if !s.table(counterLimit{100, i + 1}, now).take(1, 1, clock).admitted {
			t.Fatal("not admitted")
		}
	}
	if s.table(counterLimit{1, 1}, now) != nil {
		t.Error("there are more tables than there may be")
	}
	if s.table(counterLimit{100, 1}, now) == nil {
		t.Error("a table in use is gone")
	}
	now += 100
	if s.table(counterLimit{1, 1}, now) == nil {
		t.Error("tables at rest did not make room")
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

func BenchmarkCounterTake(b *testing.B) {
	h := &Host{}
	table := &counterTable{counterLimit: counterLimit{interval: 10, burst: 1000}}
	for b.Loop() {
		table.take(7, 1, h.counterClock)
	}
}
