package balance_test

import (
	"testing"
	"time"

	"wproxy/core/balance"
	"wproxy/core/upstream"
)

// TestClockSetBack: what came up, or was slow, at a time that is still to come has not
// to wait for it: the clock was set, or the picker's and the states' are not the same.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	const n = 10_000
	share := func(p balance.Picker, e *upstream.Endpoint) float64 {
		got := 0
		for range n {
			if p.Pick(0, nil) == e {
				got++
			}
		}
		return float64(got) / n
	}
	later := time.Now().Add(time.Hour)
	all := equal(4)
	p := picker(t, balance.Options{SlowStart: 10 * time.Second}, all)
	all[0].Set(upstream.Unhealthy, time.Now())
	all[0].Clear(upstream.Unhealthy, later)
	if s := share(p, all[0]); s < 0.2 {
		t.Errorf("a server that came up before the clock was set back has %.3f of the requests", s)
	}

	all = equal(2)
	p = picker(t, balance.Options{Algorithm: balance.LeastTime}, all)
	all[0].ObserveLatency(10*time.Second, later)
	all[1].ObserveLatency(time.Second, time.Now())
	if s := share(p, all[0]); s == 0 {
		t.Error("a server that was slow before the clock was set back is not asked again")
	}
}
