package balance_test

import (
	"strings"
	"sync"
	"testing"

	"wproxy/core/balance"
	"wproxy/core/upstream"
)

func servers(weights ...int) []*upstream.Endpoint {
	var all []*upstream.Endpoint
	for i, w := range weights {
		all = append(all, upstream.NewLocal(string(rune('a'+i)), w, nil))
	}
	return all
}

func TestOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		weights []int
		want    string
	}{
		{"one", []int{7}, "aaa"},
		{"equal", []int{1, 1, 1}, "abcabc"},
		{"equal and large", []int{50, 50}, "abab"},
		{"smooth", []int{5, 1, 1}, "aabacaaaabacaa"}, // the example of nginx's commit
		{"three to one", []int{3, 1}, "aabaaaba"},
		{"without a weight", []int{0, -1}, "abab"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := balance.NewRoundRobin(servers(tt.weights...))
			var got strings.Builder
			for range tt.want {
				got.WriteString(p.Pick(0, nil).Name)
			}
			if got.String() != tt.want {
				t.Errorf("got %s, want %s", got.String(), tt.want)
			}
		})
	}
}

func TestTried(t *testing.T) {
	t.Parallel()
	all := servers(5, 1, 1)
	p := balance.NewRoundRobin(all)
	for range 20 {
		var tried []*upstream.Endpoint
		seen := map[string]bool{}
		for range all {
			e := p.Pick(0, tried)
			if e == nil || seen[e.Name] {
				t.Fatalf("picked %v after %v", e, tried)
			}
			seen[e.Name] = true
			tried = append(tried, e)
		}
		if e := p.Pick(0, tried); e != nil {
			t.Fatalf("picked %s although all were tried", e.Name)
		}
	}
}

func TestSharesByWeight(t *testing.T) {
	t.Parallel()
	// Weights whose exact period would be far too long keep their shares.
	weights := []int{1_000_003, 500_009, 7}
	p := balance.NewRoundRobin(servers(weights...))
	const picks = 100_000
	got := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			mine := map[string]int{}
			for range picks / 4 {
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
	if a, b := got["a"], got["b"]; a < 66_000 || a > 67_300 || b < 32_700 || b > 34_000 || got["c"] == 0 {
		t.Errorf("got %v of %d", got, picks)
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	p := balance.NewRoundRobin(servers(3, 2, 1))
	tried := servers(1)
	if n := testing.AllocsPerRun(1000, func() { p.Pick(0, nil); p.Pick(0, tried) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}
