package balance_test

import (
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/balance"
	"wproxy/core/upstream"
)

func TestOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		weights []int
		want    string // one period, begun anywhere
	}{
		{"one", []int{7}, "a"},
		{"equal", []int{1, 1, 1}, "abc"},
		{"equal and large", []int{50, 50}, "ab"},
		{"smooth", []int{5, 1, 1}, "aabacaa"}, // the example of nginx's commit
		{"three to one", []int{3, 1}, "aaba"},
		{"without a weight", []int{0, -1}, "ab"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			starts := map[string]bool{}
			for range 200 {
				p := picker(t, balance.Options{}, servers(tt.weights...))
				var got strings.Builder
				for range 3 * len(tt.want) {
					got.WriteString(p.Pick(0, nil).Name)
				}
				if !strings.Contains(strings.Repeat(tt.want, 4), got.String()) {
					t.Fatalf("got %s, want %s again and again", got.String(), tt.want)
				}
				starts[got.String()] = true
			}
			if len(tt.want) > 1 && len(starts) < 2 {
				t.Error("all of 200 pickers began with the same endpoint")
			}
		})
	}
}

// TestLargeWeights: weights whose exact period would be far too long keep their
// shares, whichever goroutine picks.
func TestLargeWeights(t *testing.T) {
	t.Parallel()
	p := picker(t, balance.Options{}, servers(1_000_003, 500_009, 7))
	got := count(p, 4, 25_000)
	if a, b := got["a"], got["b"]; a < 66_000 || a > 67_300 || b < 32_700 || b > 34_000 || got["c"] == 0 {
		t.Errorf("got %v", got)
	}
}

// TestManyWeights: where the smooth algorithm would take too long, shares are the
// same and turns as even.
func TestManyWeights(t *testing.T) {
	t.Parallel()
	weights := make([]int, 2000)
	total := 0
	for i := range weights {
		weights[i] = 1 + i%3
		total += weights[i]
	}
	all := servers(weights...)
	p := picker(t, balance.Options{}, all)
	got := count(p, 1, 3*total)
	last := map[*upstream.Endpoint]int{}
	for i, e := range all {
		if got[e.Name] != 3*weights[i] {
			t.Fatalf("%s of weight %d was picked %d times in three periods", e.Name, weights[i], got[e.Name])
		}
	}
	for i := range 2 * total {
		e := p.Pick(0, nil)
		if before, ok := last[e]; ok {
			if gap, even := i-before, total/e.Weight; gap < even/2 {
				t.Fatalf("%s was picked again after %d turns, every %d would be even", e.Name, gap, even)
			}
		}
		last[e] = i
	}
}

// count picks on some goroutines and counts names.
func count(p balance.Picker, goroutines, picks int) map[string]int {
	got := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			mine := map[string]int{}
			for range picks {
				mine[p.Pick(0, nil).Name]++
			}
			mu.Lock()
			defer mu.Unlock()
			for k, n := range mine {
				got[k] += n
			}
		})
	}
	wg.Wait()
	return got
}

// TestFairUnderConcurrency: no goroutine gets another's turn, so the counts of
// round-robin are exact; and a neighbour of one that is down gets no more than the rest.
func TestFairUnderConcurrency(t *testing.T) {
	t.Parallel()
	all := equal(10)
	p := picker(t, balance.Options{}, all)
	for name, n := range count(p, 8, 5000) {
		if n != 4000 {
			t.Errorf("%s was picked %d times of 40000", name, n)
		}
	}
	all[3].Set(upstream.Unhealthy, time.Unix(1, 0))
	p.Pick(0, nil) // the view is new from here on
	got := count(p, 9, 4000)
	for name, n := range got {
		if n < 3999 || n > 4001 {
			t.Errorf("with one down, %s was picked %d times of 36000", name, n)
		}
	}
	if len(got) != 9 {
		t.Errorf("picked %d endpoints of 9", len(got))
	}
}

// TestFlapping: while states change all the time, picks go on, and what was down all the
// while is never picked.
func TestFlapping(t *testing.T) {
	t.Parallel()
	for _, a := range algorithms {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			all := equal(100)
			p := picker(t, balance.Options{Algorithm: a}, all)
			all[0].Set(upstream.Unhealthy, time.Unix(1, 0))
			p.Pick(0, nil)
			stop := make(chan struct{})
			var flapper, pickers sync.WaitGroup
			flapper.Go(func() { // ends with stop
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					e := all[1+i%98]
					e.Set(upstream.Unhealthy, time.Unix(int64(i), 0))
					e.Clear(upstream.Unhealthy, time.Unix(int64(i), 0))
				}
			})
			for g := range 4 {
				pickers.Go(func() {
					for i := range fewer(3000) {
						switch e := p.Pick(key(i*4+g), nil); e {
						case nil:
							t.Error("nobody was picked")
							return
						case all[0]:
							t.Error("picked who is down")
							return
						}
					}
				})
			}
			pickers.Wait()
			close(stop)
			flapper.Wait()
		})
	}
}

// TestSlowStart: an endpoint that comes back gets a tenth of its share, and more
// with time, until it has it all. Time is synctest's.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	for _, a := range []balance.Algorithm{balance.RoundRobin, balance.Random, balance.Random2, balance.LeastConn} {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				picks, near := fewer(60_000), 0.01
				if raceDetector {
					near = 0.025
				}
				all := servers(1, 1, 2, 2)
				p := picker(t, balance.Options{Algorithm: a, SlowStart: 30 * time.Second}, all)
				share := func() float64 {
					n := 0
					for range picks {
						if p.Pick(0, nil) == all[3] {
							n++
						}
					}
					return float64(n) / float64(picks)
				}
				full := share()
				if math.Abs(full-1.0/3) > near && a != balance.Random2 {
					t.Fatalf("share of %.3f at first, although a start of wproxy is no slow start", full)
				}
				all[3].Set(upstream.Unhealthy, time.Now())
				if s := share(); s != 0 {
					t.Fatalf("share of %.3f while down", s)
				}
				time.Sleep(time.Minute)
				all[3].Clear(upstream.Unhealthy, time.Now())
				before := 0.0
				for _, second := range []int{0, 3, 9, 15, 24} {
					time.Sleep(time.Duration(second)*time.Second - time.Duration(before)*time.Second)
					before = float64(second)
					// Of weights 1, 1, 2 and 2w.
					w := max(0.1, before/30)
					want := 2 * w / (4 + 2*w)
					got := share()
					switch a {
					case balance.RoundRobin, balance.Random:
						if math.Abs(got-want) > near {
							t.Errorf("after %d s: share of %.3f, want %.3f", second, got, want)
						}
					default: // nobody has a request, and it counts as if it had one
						if got > want+near {
							t.Errorf("after %d s: share of %.3f, want at most %.3f", second, got, want)
						}
					}
				}
				time.Sleep(6 * time.Second)
				if s := share(); math.Abs(s-full) > near {
					t.Errorf("share of %.3f when it is over, want %.3f", s, full)
				}
			})
		})
	}
}
