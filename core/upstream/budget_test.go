package upstream

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// run plays seconds of traffic, rate requests a second of which share want a retry,
// and returns how many requests were made and how many retries allowed.
func (b *Budget) run(now *time.Time, seconds, rate, share, least float64) (requests, retries int) {
	gap := time.Duration(float64(time.Second) / rate)
	wanted := 0.0
	for range int(seconds * rate) {
		*now = now.Add(gap)
		b.Pay(20)
		requests++
		if wanted += share; wanted >= 1 {
			wanted--
			if b.Take(*now, least) {
				retries++
			}
		}
	}
	return requests, retries
}

// TestBudgetBoundsRetries: whatever comes before, and however many want one, retries
// are at most the share of the requests, and what the floor allows.
func TestBudgetBoundsRetries(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{1, 10, 100, 1000, 20_000} {
		start := time.Now()
		now := start
		b := &Budget{at: start}
		total, taken := 0, 0
		for _, phase := range []struct{ seconds, share float64 }{{5, 1}, {20, 0}, {5, 1}, {5, 0.3}, {10, 1}} {
			n, k := b.run(&now, phase.seconds, rate, phase.share, 3)
			total, taken = total+n, taken+k
			if most := 0.2*float64(total) + 3*(now.Sub(start)+budgetWindow).Seconds(); float64(taken) > most {
				t.Fatalf("%v/s: %d retries of %d requests in %v, want at most %.0f", rate, taken, total, now.Sub(start), most)
			}
		}
		if rate >= 100 && float64(total+taken) > 1.25*float64(total) {
			t.Errorf("%v/s: %d tries for %d requests", rate, total+taken, total)
		}
		if rate >= 100 && taken < total/10 {
			t.Errorf("%v/s: only %d retries of %d requests", rate, taken, total)
		}
	}
}

// TestBudgetLetsOneOfThreeDie: a third of the requests may be retried for two and a
// half seconds, which is what health checks have to notice.
func TestBudgetLetsOneOfThreeDie(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{30, 300, 3000} {
		now := time.Now()
		b := &Budget{at: now}
		b.run(&now, 10, rate, 0, 0)
		if n, k := b.run(&now, 2.5, rate, 1./3, 3); k < n/3 {
			t.Errorf("%v/s: %d of %d wanted retries were allowed", rate, k, n/3)
		}
	}
}

func TestBudgetFloor(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := &Budget{at: now}
	take := func(n int, least float64) (taken int) {
		for range n {
			if b.Take(now, least) {
				taken++
			}
		}
		return taken
	}
	if n := take(10, 0); n != 0 {
		t.Errorf("no floor: %d", n)
	}
	if n := take(20, 3); n != 9 {
		t.Errorf("3/s: %d at once, want those of 3 s", n)
	}
	now = now.Add(time.Second / 3)
	if n := take(10, 3); n != 1 {
		t.Errorf("3/s: %d after a third of a second, want 1", n)
	}
	now = now.Add(time.Hour)
	if n := take(20, 3); n != 9 {
		t.Errorf("3/s: %d after an hour, want 9", n)
	}
	now = now.Add(time.Hour)
	if n := take(10, 0.1); n != 1 {
		t.Errorf("6/m: %d at once, want 1", n)
	}
	now = now.Add(9 * time.Second)
	if n := take(10, 0.1); n != 0 {
		t.Errorf("6/m: %d after 9 s, want 0", n)
	}
	now = now.Add(time.Second)
	if n := take(10, 0.1); n != 1 {
		t.Errorf("6/m: %d after 10 s, want 1", n)
	}
}

// TestBudgetClockGoesBack: a clock that jumps loses nothing and gives nothing away.
func TestBudgetClockGoesBack(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := &Budget{at: now}
	for range 100 {
		b.Pay(20)
	}
	taken := 0
	for i := range 100 {
		if b.Take(now.Add(-time.Duration(i)*time.Second), 0) {
			taken++
		}
	}
	if taken != 20 {
		t.Errorf("got %d, want 20", taken)
	}
}

func TestBudgetConcurrently(t *testing.T) {
	t.Parallel()
	b := &Budget{at: time.Now()}
	var taken atomic.Int64
	var wg sync.WaitGroup
	const workers, each = 8, 1000
	for range workers {
		wg.Go(func() {
			for range each {
				b.Pay(20)
				if b.Take(time.Now(), 0) {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := taken.Load(); n > workers*each/5 || n < workers*each/6 {
		t.Errorf("%d retries of %d requests", n, workers*each)
	}
}
