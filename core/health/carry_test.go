package health_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/health"
	"wproxy/core/upstream"
)

// TestCarry: a monitor in another process knows what the one before knew, and goes on from
// there: who is down, ejected (and for how long still) and drained.
func TestCarry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		check := health.Settings{
			Check:   &health.Check{Protocol: health.TCP, Every: time.Second, EveryDown: time.Second, Timeout: time.Second, Thresholds: health.Thresholds{Up: 2, Down: 2}},
			Outlier: &health.Outlier{Errors: 1, On: []string{"upstream_reset"}, Base: time.Minute, Longest: time.Hour, Share: 1}, Key: "k",
		}
		old := newWorld(t, 4)
		old.dead[name(0)] = true
		old.serve(check)
		time.Sleep(5 * time.Second)
		old.cluster.Endpoints[1].Observer.Failed("upstream_reset")
		if _, err := old.monitor.Drain(name(2)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		b, err := json.Marshal(old.monitor.Carry()) // as plain data
		if err != nil {
			t.Fatal(err)
		}
		var carried map[string]health.Carried
		if err := json.Unmarshal(b, &carried); err != nil {
			t.Fatal(err)
		}
		was := old.monitor.Snapshot()
		old.monitor.Close()

		next := newWorld(t, 3)
		next.dead[name(0)] = true
		next.monitor.Adopt(carried)
		for i, e := range next.cluster.Endpoints { // before it serves
			if e.Available() {
				t.Errorf("server %d is available", i)
			}
		}
		late := next.endpoint(3, 1) // found later
		next.use(append(next.cluster.Endpoints, late)...)
		next.serve(check)
		now := next.monitor.Snapshot()
		for i := range 4 {
			a, b := was[name(i)], now[name(i)]
			if a.Up != b.Up || a.Ejected != b.Ejected || a.Drained != b.Drained || a.Reason != b.Reason || !a.Since.Equal(b.Since) || !a.Until.Equal(b.Until) {
				t.Errorf("server %d: %+v, was %+v", i, b, a)
			}
		}
		if !late.Available() {
			t.Error("a server that was well is not")
		}
		time.Sleep(35 * time.Second)
		synctest.Wait()
		if next.monitor.Snapshot()[name(1)].Ejected != true {
			t.Error("an ejection is over too early")
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if next.monitor.Snapshot()[name(1)].Ejected {
			t.Error("an ejection never ends")
		}
		if !strings.Contains(strings.Join(next.events, ";"), "returned "+name(1)) {
			t.Errorf("events %q", next.events)
		}
	})
}

// TestCarryOver: what has ended meanwhile is over, and what has no checks is up.
func TestCarryOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		past := time.Now().Add(-time.Second)
		w.monitor.Adopt(map[string]health.Carried{
			name(0): {State: health.State{Up: true}, Ejection: health.Ejection{Out: true, Times: 1, Until: past}},
			name(1): {State: health.State{Known: true, Reason: "refused", Since: past}},
			"gone":  {},
		})
		if e := w.cluster.Endpoints[0]; !e.Available() {
			t.Error("an ejection that is over")
		}
		if e := w.cluster.Endpoints[1]; e.Available() {
			t.Error("down, and available")
		}
		w.serve(health.Settings{})
		for i, e := range w.cluster.Endpoints {
			if !e.Available() {
				t.Errorf("server %d is not available without checks", i)
			}
		}
	})
}

var _ upstream.Observer = (*health.Server)(nil)
