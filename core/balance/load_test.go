package balance_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/balance"
	"wproxy/core/upstream"
)

// TestLeastConnIsExact: up to 32 endpoints nobody is picked while another has fewer
// requests for its weight.
func TestLeastConnIsExact(t *testing.T) {
	t.Parallel()
	for range 200 {
		weights := make([]int, 1+rand.IntN(32))
		for i := range weights {
			weights[i] = 1 + rand.IntN(5)
		}
		all := servers(weights...)
		p := picker(t, balance.Options{Algorithm: balance.LeastConn}, all)
		for range 200 {
			e := p.Pick(0, nil)
			for _, o := range all {
				if int(o.Live.Active.Load())*e.Weight < int(e.Live.Active.Load())*o.Weight {
					t.Fatalf("%s has %d requests for a weight of %d, but %s %d for %d was picked",
						o.Name, o.Live.Active.Load(), o.Weight, e.Name, e.Live.Active.Load(), e.Weight)
				}
			}
			e.Live.Active.Add(1)
			if rand.IntN(3) == 0 {
				if o := all[rand.IntN(len(all))]; o.Live.Active.Load() > 0 {
					o.Live.Active.Add(-1)
				}
			}
		}
	}
}

// TestSampledLoad: with many endpoints the most loaded one stays near the average: the
// bound is that of two choices, ln ln n / ln 2 above it (Mitzenmacher 2001), and a
// random choice would be well beyond.
func TestSampledLoad(t *testing.T) {
	t.Parallel()
	const n, each = 500, 20
	fullest := func(a balance.Algorithm) int64 {
		all := equal(n)
		p := picker(t, balance.Options{Algorithm: a}, all)
		for range n * each {
			p.Pick(0, nil).Live.Active.Add(1)
		}
		most := int64(0)
		for _, e := range all {
			most = max(most, e.Live.Active.Load())
		}
		return most
	}
	two, five, chance := fullest(balance.Random2), fullest(balance.LeastConn), fullest(balance.Random)
	if two > each+5 || five > each+3 || chance < each+8 {
		t.Errorf("fullest of %d with %d each: random-2 %d, least-conn %d, random %d", n, each, two, five, chance)
	}
}

// TestLeastTime: the faster of two servers gets more, and one that was slow
// once is tried again and comes back. Time is synctest's.
func TestLeastTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := servers(1, 1, 1)
		p := picker(t, balance.Options{Algorithm: balance.LeastTime}, all)
		var mu sync.Mutex
		slow := 500 * time.Millisecond // of b; the others take 10 ms
		run := func(clients int, d time.Duration) map[string]int {
			got := map[string]int{}
			var wg sync.WaitGroup
			end := time.Now().Add(d)
			for range clients {
				wg.Go(func() {
					for time.Now().Before(end) {
						mu.Lock() // a pick sees those before
						e := p.Pick(0, nil)
						e.Live.Active.Add(1)
						got[e.Name]++
						took := 10 * time.Millisecond
						if e == all[1] {
							took = slow
						}
						mu.Unlock()
						time.Sleep(took)
						e.ObserveLatency(took, time.Now())
						e.Live.Active.Add(-1)
					}
				})
			}
			wg.Wait()
			return got
		}
		got := run(6, 20*time.Second)
		if total := got["a"] + got["b"] + got["c"]; got["b"] == 0 || got["b"]*50 > total || got["a"]*3 < got["c"] || got["c"]*3 < got["a"] {
			t.Errorf("b takes 50 times as long: %v", got)
		}
		slow = 10 * time.Millisecond
		run(6, 90*time.Second) // it finds out
		got = run(6, 20*time.Second)
		if total := got["a"] + got["b"] + got["c"]; got["b"]*5 < total {
			t.Errorf("b is as fast as the others again: %v", got)
		}
	})
}

// TestUnknownLatency: a server that nothing is known about is not sent everything
// before its first answer.
func TestUnknownLatency(t *testing.T) {
	t.Parallel()
	all := servers(1, 1)
	p := picker(t, balance.Options{Algorithm: balance.LeastTime}, all)
	all[0].ObserveLatency(20*time.Millisecond, time.Now())
	for range 10 {
		p.Pick(0, nil).Live.Active.Add(1)
	}
	if a, b := all[0].Live.Active.Load(), all[1].Live.Active.Load(); b != 1 || a != 9 {
		t.Errorf("the known one has %d, the unknown one %d", a, b)
	}
}

// TestFewestInStates: who has fewest, but is down or tried, is not picked.
func TestFewestInStates(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 40} {
		all := equal(n)
		for i, e := range all {
			e.Live.Active.Add(int64(10 + i))
		}
		p := picker(t, balance.Options{Algorithm: balance.LeastConn}, all)
		all[0].Set(upstream.Unhealthy, time.Unix(1, 0))
		for range 100 {
			if e := p.Pick(0, all[1:2]); e == all[0] || e == all[1] || n == 3 && e != all[2] {
				t.Fatalf("of %d, picked %s", n, e.Name)
			}
		}
	}
}
