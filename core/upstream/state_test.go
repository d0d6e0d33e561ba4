package upstream_test

import (
	"sync"
	"testing"
	"time"

	"wproxy/core/upstream"
)

func TestState(t *testing.T) {
	t.Parallel()
	e := upstream.NewLocal("a", 1, nil)
	at := func(s int64) time.Time { return time.Unix(1_000_000+s, 123_456_000) }
	check := func(step string, want upstream.State, reasons upstream.Reason, since time.Time) {
		t.Helper()
		state, got := e.State()
		if state != want || e.Reasons() != reasons || !got.Equal(since) || e.Available() != (want == upstream.Up) {
			t.Fatalf("%s: got %v (%b) since %v, available %t", step, state, e.Reasons(), got, e.Available())
		}
	}
	check("new", upstream.Up, 0, time.Time{})
	for _, tt := range []struct {
		name    string
		clear   bool
		reason  upstream.Reason
		second  int64
		changed bool
		want    upstream.State
		reasons upstream.Reason
		since   int64
	}{
		{"healthy, which it was", true, upstream.Unhealthy, 1, false, upstream.Up, 0, -1},
		{"a check fails", false, upstream.Unhealthy, 2, true, upstream.Down, upstream.Unhealthy, 2},
		{"again", false, upstream.Unhealthy, 3, false, upstream.Down, upstream.Unhealthy, 2},
		{"ejected too: down as it was", false, upstream.Ejected, 4, false, upstream.Down, upstream.Unhealthy | upstream.Ejected, 2},
		{"healthy, but ejected", true, upstream.Unhealthy, 5, false, upstream.Down, upstream.Ejected, 2},
		{"drained", false, upstream.Drained, 6, true, upstream.Draining, upstream.Ejected | upstream.Drained, 6},
		{"a check ends no drain", true, upstream.Ejected, 7, false, upstream.Draining, upstream.Drained, 6},
		{"ready", true, upstream.Drained, 8, true, upstream.Up, 0, 8},
	} {
		change := e.Set
		if tt.clear {
			change = e.Clear
		}
		if changed := change(tt.reason, at(tt.second)); changed != tt.changed {
			t.Fatalf("%s: changed %t", tt.name, changed)
		}
		since := at(tt.since)
		if tt.since < 0 {
			since = time.Time{}
		}
		check(tt.name, tt.want, tt.reasons, since)
	}
}

// TestChanges: whoever works from a cluster sees every change by its count,
// whichever goroutine made it, and in the cluster's successor too.
func TestChanges(t *testing.T) {
	t.Parallel()
	var all []*upstream.Endpoint
	for _, name := range []string{"a", "b", "c", "d"} {
		all = append(all, upstream.NewLocal(name, 1, nil))
	}
	first, err := upstream.NewCluster("u", all[:3], "")
	if err != nil {
		t.Fatal(err)
	}
	next, err := upstream.NewCluster("u", all[1:], "")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, e := range all {
		wg.Go(func() {
			for range 1000 {
				e.Set(upstream.Unhealthy, time.Unix(1, 0))
				e.Clear(upstream.Unhealthy, time.Unix(2, 0))
			}
		})
	}
	wg.Wait()
	if n := next.Changes().Count(); n != 8000 || first.Changes() != next.Changes() {
		t.Errorf("counted %d changes, want 8000", n)
	}
	if next.Panic() || !next.SetPanic(true) || next.SetPanic(true) || !next.Panic() || next.Changes().Count() != 8001 {
		t.Error("panic mode is not what it was set to, or was not counted")
	}
	alien := upstream.NewLocal("e", 1, nil)
	if _, err := upstream.NewCluster("v", []*upstream.Endpoint{alien}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := upstream.NewCluster("u", []*upstream.Endpoint{all[0], alien}, ""); err == nil {
		t.Error("endpoints of two upstreams were put together: changes of one would be missed")
	}
}

func TestLatency(t *testing.T) {
	e := upstream.NewLocal("a", 1, nil)
	now := time.Unix(1000, 0)
	near := func(what string, want time.Duration) {
		t.Helper()
		if got := e.Latency(now); got < want-want/100 || got > want+want/100 {
			t.Fatalf("%s: got %v, want %v", what, got, want)
		}
	}
	if e.Latency(now) != 0 {
		t.Fatal("known before the first answer")
	}
	e.ObserveLatency(100*time.Millisecond, now)
	near("first", 100*time.Millisecond)
	e.ObserveLatency(400*time.Millisecond, now)
	near("slower counts at once", 400*time.Millisecond)
	now = now.Add(10 * time.Second)
	near("half after a half-life", 200*time.Millisecond)
	now = now.Add(5 * time.Second)
	near("between two", 150*time.Millisecond)
	now = now.Add(-5 * time.Second)
	e.ObserveLatency(100*time.Millisecond, now)
	near("faster counts by the time that has passed: 400/e + 100(1-1/e)", 210363*time.Microsecond)
	now = now.Add(time.Hour)
	if got := e.Latency(now); got > time.Microsecond {
		t.Fatalf("got %v after an hour", got)
	}
	if n := testing.AllocsPerRun(100, func() { e.ObserveLatency(time.Second, now); e.LatencyAt(now.UnixNano()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
