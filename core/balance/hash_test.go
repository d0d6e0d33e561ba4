package balance_test

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"testing"
	"time"

	"wproxy/core/balance"
	"wproxy/core/upstream"
)

var hashing = []balance.Algorithm{balance.HashRing, balance.Maglev}

// owners returns the endpoint of each key.
func owners(p balance.Picker) []string {
	names := make([]string, fewer(100_000))
	for i := range names {
		names[i] = p.Pick(key(i), nil).Name
	}
	return names
}

// moved counts the keys with another owner, and those of them that were not from's.
func moved(before, after []string, from string) (all, others int) {
	for i, name := range before {
		if after[i] != name {
			all++
			if name != from {
				others++
			}
		}
	}
	return all, others
}

// TestDisruption: when a server leaves the set, no more keys move than it had, and with
// Maglev about as many in a hundred; when one is only down, its own and no others do,
// and they come back to it.
func TestDisruption(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		for _, n := range []int{3, 10, 100} {
			t.Run(fmt.Sprintf("%s/%d", a, n), func(t *testing.T) {
				t.Parallel()
				before := owners(picker(t, balance.Options{Algorithm: a}, equal(n)))
				gone := equal(n)[n/2].Name
				had := 0
				for _, name := range before {
					if name == gone {
						had++
					}
				}
				epsilon := 0.0
				if a == balance.Maglev {
					epsilon = 0.02
				}
				keys := float64(len(before))
				share := float64(had) / keys
				if share > 1.3/float64(n) {
					t.Errorf("one of %d has %.1f %% of the keys", n, 100*share)
				}

				after := owners(picker(t, balance.Options{Algorithm: a}, slices.Delete(equal(n), n/2, n/2+1)))
				all, others := moved(before, after, gone)
				if float64(others) > epsilon*keys || all-others != had {
					t.Errorf("left: %d keys moved, %d of them not its; it had %d", all, others, had)
				}

				endpoints := equal(n)
				p := picker(t, balance.Options{Algorithm: a}, endpoints)
				endpoints[n/2].Set(upstream.Unhealthy, time.Unix(1, 0))
				down := owners(p)
				if all, others := moved(before, down, gone); others != 0 || all != had {
					t.Errorf("down: %d keys moved, %d of them not its; it had %d", all, others, had)
				}
				if _, others := moved(down, after, ""); a == balance.HashRing && others != 0 {
					t.Errorf("%d keys moved again when who was down was taken out", others)
				}
				spread := map[string]int{}
				for i := range down {
					if before[i] == gone {
						spread[down[i]]++
					}
				}
				for name, k := range spread {
					if even := float64(had) / float64(n-1); float64(k) > 4*even+30 {
						t.Errorf("%s inherited %d of %d keys", name, k, had)
					}
				}
				endpoints[n/2].Clear(upstream.Unhealthy, time.Unix(2, 0))
				if all, _ := moved(before, owners(p), ""); all != 0 {
					t.Errorf("%d keys have not come back", all)
				}
			})
		}
	}
}

// TestOrderOfServersMeansNothing: two instances whose files list the same servers in
// another order agree.
func TestOrderOfServersMeansNothing(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		one := servers(1, 5, 2, 3, 1)
		two := servers(1, 5, 2, 3, 1)
		slices.Reverse(two)
		if n, _ := moved(owners(picker(t, balance.Options{Algorithm: a}, one)), owners(picker(t, balance.Options{Algorithm: a}, two)), ""); n != 0 {
			t.Errorf("%s: %d keys have another owner", a, n)
		}
	}
}

// TestOwnersStayTheSame pins owners of keys: they must not change with a version of
// wproxy, as instances of two versions serve side by side while one replaces the other.
func TestOwnersStayTheSame(t *testing.T) {
	t.Parallel()
	for a, want := range map[balance.Algorithm]string{balance.HashRing: "cadbcbbacdbbabbbcbdadbdbdcddbddbcddbdadd", balance.Maglev: "bbbdabdccddbadbdddbdcdaddbabddbdadddbbbb"} {
		p := picker(t, balance.Options{Algorithm: a}, servers(1, 2, 1, 3))
		got := ""
		for i := range 40 {
			got += p.Pick(key(i), nil).Name
		}
		if got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
}

// TestNoKey: what has no key goes anywhere, by weight.
func TestNoKey(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		all := servers(1, 2, 5)
		p := picker(t, balance.Options{Algorithm: a}, all)
		got := count(p, 1, 80_000)
		x, _ := chiSquare([]float64{float64(got["a"]), float64(got["b"]), float64(got["c"])}, []float64{10_000, 20_000, 50_000})
		if x > 30 { // 2 degrees of freedom: once in three million
			t.Errorf("%s: %v", a, got)
		}
	}
}

// TestBoundedLoad: even if all requests had one key, nobody has more than the
// bound's multiple of an even share, and while there is room a key stays.
func TestBoundedLoad(t *testing.T) {
	t.Parallel()
	for _, a := range hashing {
		for _, bound := range []float64{1.1, 1.25, 2} {
			t.Run(fmt.Sprint(a, bound), func(t *testing.T) {
				t.Parallel()
				weights := []int{1, 1, 2, 1, 3, 1, 1, 2, 1, 1}
				const total = 14
				all := servers(weights...)
				c := cluster(t, all)
				p, err := balance.New(c, balance.Options{Algorithm: a, Bound: bound})
				if err != nil {
					t.Fatal(err)
				}
				home := p.Pick(key(1), nil)
				for i := range 2000 {
					c.Live.Active.Add(1)
					k := key(1)
					if i%5 == 0 {
						k = key(i)
					}
					e := p.Pick(k, nil)
					e.Live.Active.Add(1)
					most := math.Ceil(bound * float64(i+1) * float64(e.Weight) / total)
					if got := float64(e.Live.Active.Load()); got > max(most, 8) {
						t.Fatalf("%s of weight %d has %.0f of %d requests, want at most %.0f", e.Name, e.Weight, got, i+1, most)
					}
				}
				if got, least := float64(home.Live.Active.Load()), 0.99*bound*2000*float64(home.Weight)/total; got < least-1 {
					t.Errorf("%s, where most requests belong, has %.0f of them, want it full: %.0f", home.Name, got, least)
				}
				c.Live.Active.Store(1)
				for _, e := range all {
					e.Live.Active.Store(0)
				}
				if e := p.Pick(key(1), nil); e != home {
					t.Errorf("with nothing to do, the key is at %s and not at %s", e.Name, home.Name)
				}
			})
		}
	}
}

// TestKey: keys that differ in one bit, in length or in order have hashes that
// differ in half of their bits.
func TestKey(t *testing.T) {
	t.Parallel()
	if balance.Key("") == 0 || balance.Key("\x00") == balance.Key("") || balance.Key("\x00\x00") == balance.Key("\x00") {
		t.Error("zeros or nothing are taken for no key, or for each other")
	}
	if balance.Key("aaaaaaaabbbbbbbb") == balance.Key("bbbbbbbbaaaaaaaa") {
		t.Error("order means nothing")
	}
	for _, n := range []int{1, 7, 8, 9, 16, 40} {
		differ, tries := 0, 0
		for i := range 500 {
			raw := []byte(fmt.Sprintf("%0*d", n, i))[:n]
			h := balance.Key(string(raw))
			for bit := range n * 8 {
				raw[bit/8] ^= 1 << (bit % 8)
				differ += bits.OnesCount64(h ^ balance.Key(string(raw)))
				tries++
				raw[bit/8] ^= 1 << (bit % 8)
			}
		}
		if mean := float64(differ) / float64(tries); mean < 31 || mean > 33 {
			t.Errorf("%d bytes: %.1f bits of 64 change with one", n, mean)
		}
	}
}
