package host

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"wproxy/abi"
)

func TestWindow(t *testing.T) {
	t.Parallel()
	now := int64(1e9)
	clock := func() int64 { return now }
	s := newWindowSpace()
	shape := windowShape{slots: 4, width: 10}
	for i, step := range []struct {
		wait int64
		add  windowAdd
		want abi.AddResult
	}{
		{0, windowAdd{counts: [3]uint32{1, 2, 3}, streak: 2}, abi.AddResult{Added: true, Sums: [3]int64{1, 2, 3}, Streak: 2}},
		{10, windowAdd{counts: [3]uint32{1, 0, 0}, streak: 1}, abi.AddResult{Added: true, Sums: [3]int64{2, 2, 3}, Streak: 3}},
		{30, windowAdd{}, abi.AddResult{Added: true, Sums: [3]int64{1, 0, 0}, Streak: 3}}, // the first slot has left
		{0, windowAdd{tag: 8}, abi.AddResult{Added: true}},                                // another key
		{10, windowAdd{streak: -1}, abi.AddResult{Added: true}},
		{0, windowAdd{counts: [3]uint32{5}, limit: 5}, abi.AddResult{Added: true, Sums: [3]int64{5}}},
		{15, windowAdd{counts: [3]uint32{2}, limit: 6}, abi.AddResult{Sums: [3]int64{5}, Retry: 25}},
		{25, windowAdd{counts: [3]uint32{2}, limit: 6}, abi.AddResult{Added: true, Sums: [3]int64{2}}},
		{-500, windowAdd{counts: [3]uint32{2}}, abi.AddResult{Added: true, Sums: [3]int64{4}}}, // the clock is set back
		{100_000, windowAdd{}, abi.AddResult{Added: true}},
	} {
		now += step.wait
		got, _, ok := s.add(shape, &step.add, clock)
		if got != step.want || !ok {
			t.Errorf("step %d: %+v, %t, want %+v", i, got, ok, step.want)
		}
	}
	for _, bad := range []windowShape{{0, 1}, {65, 1}, {1, 0}, {1, -1}, {64, maxCounterCapacity}} {
		if bad.valid() {
			t.Errorf("%+v is valid", bad)
		}
	}
}

// TestWindowLimit: no window of time, wherever it begins, has more than the limit, and
// nearly as much is let through.
func TestWindowLimit(t *testing.T) {
	t.Parallel()
	const slots, width, limit = 11, 100, 50
	s := newWindowSpace()
	r := rand.New(rand.NewPCG(1, 2))
	var at []int64
	now := int64(0)
	for ; now < 100_000; now += r.Int64N(20) {
		a := windowAdd{tag: 1, counts: [3]uint32{1}, limit: limit}
		got, _, _ := s.add(windowShape{slots, width}, &a, func() int64 { return now })
		if got.Added {
			at = append(at, now)
		} else if got.Retry <= 0 || got.Retry > slots*width {
			t.Fatalf("at %d: %+v", now, got)
		}
	}
	for i := range at {
		if j := i + limit; j < len(at) && at[j]-at[i] < (slots-1)*width {
			t.Fatalf("%d within %d, want no more than %d", limit+1, at[j]-at[i], limit)
		}
	}
	if least := int(now / (slots * width) * limit * 95 / 100); len(at) < least {
		t.Errorf("%d let through, want at least %d", len(at), least)
	}
}

// TestWindowConcurrent: what is added is counted, whoever adds at the same time.
func TestWindowConcurrent(t *testing.T) {
	t.Parallel()
	s := newWindowSpace()
	shape := windowShape{slots: 4, width: 10}
	var wg sync.WaitGroup
	var admitted atomic.Int64
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				a := windowAdd{tag: 1, counts: [3]uint32{1, 1}, limit: 1000}
				if got, _, ok := s.add(shape, &a, func() int64 { return 1 }); ok && got.Added {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != 1000 {
		t.Errorf("%d admitted, want 1000", n)
	}
}

// TestWindowCrowded: a key that is pushed out by others gets nothing by it, and memory is
// bounded.
func TestWindowCrowded(t *testing.T) {
	t.Parallel()
	const slots, width, limit = 11, 1000, 5
	s := newWindowSpace()
	now := int64(0)
	clock := func() int64 { return now }
	r := rand.New(rand.NewPCG(3, 4))
	got, crowded := int64(0), false
	for ; now < 100*width; now += r.Int64N(20) {
		for range 3 {
			a := windowAdd{tag: uint64(2+r.IntN(300)) * windowPages, counts: [3]uint32{1}, limit: limit} // one page
			d, _, _ := s.add(windowShape{slots, width}, &a, clock)
			crowded = crowded || d.Crowded
		}
		a := windowAdd{tag: windowPages, counts: [3]uint32{1}, limit: limit}
		if d, _, _ := s.add(windowShape{slots, width}, &a, clock); d.Added {
			got++
		}
	}
	if most := limit * (now/((slots-1)*width) + 1); got > most {
		t.Errorf("%d let through, want at most %d", got, most)
	}
	if !crowded {
		t.Error("the page was never crowded")
	}
	for i := range 60_000 {
		a := windowAdd{tag: r.Uint64(), counts: [3]uint32{1}}
		if _, _, ok := s.add(windowShape{64, width + int64(i%8)}, &a, clock); !ok && i < 1000 {
			t.Fatal("no room for the first keys")
		}
	}
	if n := s.bytes.Load(); n > maxWindowBytes {
		t.Errorf("%d bytes, want at most %d", n, int64(maxWindowBytes))
	}
	// When all of them are empty they make room for others.
	now += 1000 * 64 * width
	a := windowAdd{tag: 1}
	if _, _, ok := s.add(windowShape{2, 7}, &a, clock); !ok {
		t.Error("empty windows did not make room")
	}
	if len(s.tables) != 1 || s.bytes.Load() != windowTableBytes+(windowShape{2, 7}).pageBytes() {
		t.Errorf("%d tables of %d bytes are left", len(s.tables), s.bytes.Load())
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	s := newPlaceSpace()
	a := placeAsk{tag: 1, most: 3, forget: 10}
	for i := range 4 {
		if got, p := s.take(a, 0); got != (i < 3) || p.held != int64(min(i+1, 3)) {
			t.Errorf("take %d: %t, %+v", i, got, p)
		}
	}
	if p := s.release(1); p.held != 2 {
		t.Errorf("release: %+v", p)
	}
	if done, p, _ := s.keep(a, 0); !done || p.held != 1 || p.kept != 1 {
		t.Errorf("keep: %t, %+v", done, p)
	}
	for i := range 2 {
		if got, _ := s.take(a, 5); got != (i == 0) {
			t.Errorf("with one kept: take %d: %t", i, got)
		}
	}
	if got, _ := s.take(a, 14); got { // asking keeps it
		t.Error("a place more")
	}
	if got, p := s.take(a, 24); !got || p.kept != 0 || p.held != 3 {
		t.Errorf("forgotten: %t, %+v", got, p)
	}
	for range 3 {
		s.release(1)
	}
	if len(s.keys) != 0 || s.kept != 0 {
		t.Errorf("%d keys are left, %d kept", len(s.keys), s.kept)
	}
	for i := range uint64(maxKept + 10) {
		one := placeAsk{tag: i + 100, most: 1, forget: 10}
		s.take(one, 0)
		if done, _, _ := s.keep(one, 0); done != (i < maxKept) {
			t.Fatalf("keep %d: %t", i, done)
		}
	}
	one := placeAsk{tag: 100 + maxKept, most: 1, forget: 10} // held still
	if done, _, _ := s.keep(one, 11); !done || s.kept != 1 {
		t.Errorf("what may be forgotten makes room: %t, %d", done, s.kept)
	}
}

// TestCounterCharge: a bucket owes what it was charged, and no more than that is taken.
func TestCounterCharge(t *testing.T) {
	t.Parallel()
	now := int64(0)
	clock := func() int64 { return now }
	table := newCounterTable(counterLimit{interval: 10, burst: 5}, counterFirstPages)
	if d, _ := table.charge(1, 3, clock); !d.admitted || d.remaining != 2 || d.full != 30 {
		t.Errorf("%+v", d)
	}
	if d, _ := table.charge(1, 100, clock); d.admitted || d.remaining != 0 || d.full != 1030 {
		t.Errorf("%+v", d)
	}
	if d, _ := table.take(1, 1, clock); d.admitted || d.remaining != 0 || d.retry != 990 {
		t.Errorf("%+v", d)
	}
	now = 989
	if d, _ := table.take(1, 1, clock); d.admitted || d.retry != 1 {
		t.Errorf("%+v", d)
	}
	now = 990
	if d, _ := table.take(1, 1, clock); !d.admitted {
		t.Errorf("%+v", d)
	}
	if d, _ := table.take(2, 5, clock); !d.admitted {
		t.Errorf("another key: %+v", d)
	}
}
