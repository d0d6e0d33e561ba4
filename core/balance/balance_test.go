package balance_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"wproxy/core/balance"
	"wproxy/core/upstream"
)

// algorithms are all of them.
var algorithms = []balance.Algorithm{
	balance.RoundRobin, balance.Random, balance.Random2, balance.LeastConn, balance.LeastTime, balance.HashRing, balance.Maglev,
}

// servers makes endpoints a, b, c... with these weights.
func servers(weights ...int) []*upstream.Endpoint {
	var all []*upstream.Endpoint
	for i, w := range weights {
		name := string(rune('a' + i))
		if len(weights) > 26 {
			name = fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250)
		}
		all = append(all, upstream.NewLocal(name, w, nil))
	}
	return all
}

// equal makes n endpoints of weight 1.
func equal(n int) []*upstream.Endpoint {
	weights := make([]int, n)
	for i := range weights {
		weights[i] = 1
	}
	return servers(weights...)
}

func cluster(t testing.TB, endpoints []*upstream.Endpoint) *upstream.Cluster {
	t.Helper()
	c, err := upstream.NewCluster("u", endpoints, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func picker(t testing.TB, o balance.Options, endpoints []*upstream.Endpoint) balance.Picker {
	t.Helper()
	p, err := balance.New(cluster(t, endpoints), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fewer returns n, or a part of it with the race detector, which looks for something else.
func fewer(n int) int {
	if raceDetector {
		return n / 5
	}
	return n
}

// key returns a key that differs for each i.
func key(i int) uint64 { return balance.Key(fmt.Sprintf("user-%d", i)) }

// chiSquare is how far observed counts are from the expected: about degrees of
// freedom ± √(2·degrees) when they are drawn from it.
func chiSquare(got, want []float64) (x float64, degrees int) {
	for i := range got {
		x += (got[i] - want[i]) * (got[i] - want[i]) / want[i]
	}
	return x, len(got) - 1
}

// TestShares: every algorithm gives each endpoint its share by weight. What is drawn is
// within six standard deviations of chi-square, so one run in 10^8 is wrong; what
// is computed is nearer than that, or has a bound of its own.
func TestShares(t *testing.T) {
	t.Parallel()
	picks := fewer(100_000)
	for _, weights := range [][]int{{1, 1, 1}, {5, 1, 1}, {3, 7, 11, 1, 2}, {1000, 500, 250}, make([]int, 40)} {
		if len(weights) == 40 {
			for i := range weights {
				weights[i] = 1 + i%4
			}
		}
		total := 0
		for _, w := range weights {
			total += w
		}
		for _, a := range algorithms {
			t.Run(fmt.Sprintf("%s/%d of %d", a, len(weights), total), func(t *testing.T) {
				t.Parallel()
				all := servers(weights...)
				p := picker(t, balance.Options{Algorithm: a}, all)
				count := map[*upstream.Endpoint]float64{}
				for i := range picks {
					count[p.Pick(key(i), nil)]++
				}
				var got, want []float64
				for i, e := range all {
					got, want = append(got, count[e]), append(want, float64(picks*weights[i])/float64(total))
				}
				x, degrees := chiSquare(got, want)
				limit := float64(degrees) + 6*math.Sqrt(2*float64(degrees))
				switch a {
				case balance.HashRing: // the points are where they are: 1/√256 for a weight of 1, twice that at √2 of them
					for i := range got {
						points := 256 * float64(weights[i])
						if off := math.Abs(got[i]/want[i] - 1); off > 4.5/math.Sqrt(points)+0.05 {
							t.Errorf("endpoint %d: %.0f, want %.0f: off by %.1f %%", i, got[i], want[i], off*100)
						}
					}
				case balance.Maglev:
					for i := range got {
						if off := math.Abs(got[i] - want[i]); off > 0.02*want[i]+6*math.Sqrt(want[i]) {
							t.Errorf("endpoint %d: %.0f, want %.0f", i, got[i], want[i])
						}
					}
				case balance.Random, balance.Random2:
					if x > limit {
						t.Errorf("chi-square %.1f with %d degrees of freedom: %v, want %v", x, degrees, got, want)
					}
				case balance.RoundRobin, balance.LeastConn, balance.LeastTime:
					if len(weights) == 40 && a != balance.RoundRobin { // they are drawn
						break
					}
					for i := range got {
						if math.Abs(got[i]-want[i]) > 1+0.001*want[i] {
							t.Errorf("endpoint %d: %.0f, want %.0f", i, got[i], want[i])
						}
					}
				}
			})
		}
	}
}

// TestEveryEndpointOnce: with those tried left out, each algorithm comes to every
// endpoint, tier by tier, and then to an end.
func TestEveryEndpointOnce(t *testing.T) {
	t.Parallel()
	for _, a := range algorithms {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{1, 2, 7, 50} {
				all := equal(n)
				for i, e := range all {
					e.Weight, e.Tier = 1+i%3, i%2*10 // the odd ones are second
				}
				p := picker(t, balance.Options{Algorithm: a, Bound: 1.25}, all)
				for i := range 20 {
					var tried []*upstream.Endpoint
					for range all {
						k := key(i)
						if i%2 == 0 {
							k = 0
						}
						e := p.Pick(k, tried)
						if e == nil {
							t.Fatalf("%d endpoints: none after %d", n, len(tried))
						}
						for _, o := range tried {
							if o == e || o.Tier > e.Tier {
								t.Fatalf("%d endpoints: picked %s of tier %d after %s of tier %d", n, e.Name, e.Tier, o.Name, o.Tier)
							}
						}
						tried = append(tried, e)
					}
					if e := p.Pick(key(i), tried); e != nil {
						t.Fatalf("picked %s although all were tried", e.Name)
					}
				}
			}
		})
	}
}

// TestStates: who is down gets nothing, the next tier is for when nobody is up, those
// that are down are tried when nobody is at all or in panic mode, and who drains
// never is.
func TestStates(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for _, a := range algorithms {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			all := servers(1, 2, 3, 1, 1, 1)
			all[3].Tier, all[4].Tier, all[5].Tier = 1, 1, 2
			c := cluster(t, all)
			p, err := balance.New(c, balance.Options{Algorithm: a, Bound: 1.25})
			if err != nil {
				t.Fatal(err)
			}
			expect := func(step, want string) {
				t.Helper()
				got := map[string]bool{}
				for i := range 2000 {
					if e := p.Pick(key(i)*uint64(i%2), nil); e != nil {
						got[e.Name] = true
					}
				}
				names := ""
				for _, e := range all {
					if got[e.Name] {
						names += e.Name
					}
				}
				if names != want {
					t.Errorf("%s: picked %q, want %q", step, names, want)
				}
			}
			expect("all are up", "abc")
			all[1].Set(upstream.Unhealthy, now)
			expect("b is down", "ac")
			all[0].Set(upstream.Ejected, now)
			all[2].Set(upstream.Drained, now)
			expect("the first tier is out", "de")
			c.SetPanic(true)
			expect("panic: the first tier, but not who drains", "ab")
			c.SetPanic(false)
			all[3].Set(upstream.Unhealthy, now)
			all[4].Set(upstream.Unhealthy, now)
			expect("the last tier", "f")
			all[5].Set(upstream.Unhealthy, now)
			expect("nobody is up: all are tried", "ab")
			all[2].Clear(upstream.Drained, now)
			expect("c is back", "c")
			for _, e := range all {
				e.Set(upstream.Drained, now)
			}
			expect("all drain", "")
			for _, e := range all {
				e.Clear(upstream.Drained|upstream.Unhealthy|upstream.Ejected, now)
			}
			expect("all are up again", "abc")
		})
	}
}

func TestUnknownAlgorithm(t *testing.T) {
	t.Parallel()
	if _, err := balance.New(cluster(t, equal(1)), balance.Options{Algorithm: "best"}); err == nil {
		t.Error("made a picker of an algorithm that is not there")
	}
}
