package health_test

import (
	"testing"
	"time"

	"wproxy/core/health"
	"wproxy/core/upstream"
)

// TestOutAlready: a server that is out, and gets requests all the same as all are tried,
// does not cost the monitor's lock and a reason for each that it fails.
func TestOutAlready(t *testing.T) {
	w := newWorld(t, 1)
	w.serve(health.Settings{Outlier: &health.Outlier{Errors: 10, On: []string{"reset"}, Base: time.Hour, Longest: time.Hour, Share: 1}})
	o := w.cluster.Endpoints[0].Observer
	for range 20 {
		o.Failed("reset")
	}
	if w.cluster.Endpoints[0].Available() {
		t.Fatal("it is not ejected")
	}
	if n := testing.AllocsPerRun(1000, func() { o.Failed("reset") }); n > 0 {
		t.Errorf("%v allocations for each failure of a server that is out", n)
	}
}

// TestRatioOfClockSetBack: tries from before the clock was set back are not within the
// window for as long as that lasts.
func TestRatioOfClockSetBack(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	m := health.New(health.Options{Upstream: "u", Slots: health.NewSlots(0), Now: func() time.Time { return now }})
	defer m.Close()
	e, err := upstream.NewEndpoint("10.0.0.1:80", 1)
	if err != nil {
		t.Fatal(err)
	}
	m.Attach(e, true)
	c, err := upstream.NewCluster("u", []*upstream.Endpoint{e}, "")
	if err != nil {
		t.Fatal(err)
	}
	m.Serve(health.Settings{Outlier: &health.Outlier{
		Ratio: 0.5, Min: 20, Window: 10 * time.Second, On: []string{"reset"}, Base: time.Minute, Longest: time.Minute, Share: 1,
	}}, c)
	ten := func() {
		for range 5 {
			e.Observer.Answered(200)
			e.Observer.Failed("reset")
		}
	}
	ten()
	now = now.Add(-time.Hour)
	ten()
	now = now.Add(time.Minute)
	for range 2 { // of another window each
		e.Observer.Failed("reset")
		now = now.Add(time.Minute)
	}
	if !e.Available() {
		t.Error("ejected for tries that were an hour, and windows, apart")
	}
}
