package health_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/core/balance"
	"wproxy/core/health"
	"wproxy/core/upstream"
)

// TestFlipUnderPicks: while one of 1,000 servers is drained and readied all the time,
// nobody who picks waits for that, and the server is out of the picks soon after.
func TestFlipUnderPicks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1000)
	w.serve(outlier())
	for _, algorithm := range []balance.Algorithm{balance.RoundRobin, balance.LeastConn} {
		picker, err := balance.New(w.cluster, balance.Options{Algorithm: algorithm})
		if err != nil {
			t.Fatal(err)
		}
		var stop atomic.Bool
		var picks atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for !stop.Load() {
					e := picker.Pick(0, nil)
					if e == nil {
						t.Error("nobody was picked")
						return
					}
					e.Observer.Answered(200)
					picks.Add(1)
				}
			})
		}
		flips := 0
		// As many of each as show that neither keeps the other from getting on; it takes
		// milliseconds on a machine that has nothing else to do.
		deadline := time.Now().Add(20 * time.Second)
		for ; flips < 200 || picks.Load() < 10_000; flips++ {
			if time.Now().After(deadline) {
				t.Errorf("%s: %d picks during %d flips: they wait", algorithm, picks.Load(), flips)
				break
			}
			i := flips % 1000
			if _, err := w.monitor.Drain(name(i)); err != nil {
				t.Fatal(err)
			}
			// A pick that finds another one at work on the change goes on without it.
			for until := time.Now().Add(5 * time.Second); picked(picker, w.cluster.Endpoints[i]); {
				if time.Now().After(until) {
					t.Fatalf("%s: %s is picked although it is drained", algorithm, name(i))
				}
			}
			if _, err := w.monitor.Ready(name(i)); err != nil {
				t.Fatal(err)
			}
		}
		stop.Store(true)
		wg.Wait()
	}
}

// picked reports whether one of many picks has e.
func picked(p balance.Picker, e *upstream.Endpoint) bool {
	for range 1000 {
		if p.Pick(0, nil) == e {
			return true
		}
	}
	return false
}

// TestObserverUnderLoad: failures of many goroutines eject a server once, and count no
// lock on the way of the others.
func TestObserverUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10)
	s := outlier()
	s.Outlier.Errors, s.Outlier.Ratio, s.Outlier.Min, s.Outlier.Window = 0, 0.5, 1000, time.Minute
	w.serve(s)
	e := w.cluster.Endpoints[3]
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1000 {
				if i%4 == 0 {
					e.Observer.Answered(200)
				} else {
					e.Observer.Failed("connect")
				}
			}
		})
	}
	wg.Wait()
	if e.Reasons() != upstream.Ejected || w.monitor.Snapshot()[name(3)].Ejections != 1 {
		t.Errorf("%+v", w.monitor.Snapshot()[name(3)])
	}
}

// TestManyServers: of 10,000 servers that all fail, half are taken out.
func TestManyServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10_000)
	w.serve(outlier())
	for _, e := range w.cluster.Endpoints {
		for range 3 {
			e.Observer.Failed("connect")
		}
	}
	if got := len(w.said()); got != 5000 { // half of them; the others may not be out as well
		t.Errorf("%d events, want 5000", got)
	}
}

func BenchmarkFlip(b *testing.B) {
	m := health.New(health.Options{Upstream: "u", Slots: health.NewSlots(0)})
	defer m.Close()
	var all []*upstream.Endpoint
	for i := range 1000 {
		e, err := upstream.NewEndpoint(name(i), 1)
		if err != nil {
			b.Fatal(err)
		}
		m.Attach(e, true)
		all = append(all, e)
	}
	c, err := upstream.NewCluster("u", all, "")
	if err != nil {
		b.Fatal(err)
	}
	m.Serve(health.Settings{Panic: 0.3}, c)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = m.Drain(name(7))
		_, _ = m.Ready(name(7))
	}
}

func BenchmarkAnswered(b *testing.B) {
	m := health.New(health.Options{Upstream: "u", Slots: health.NewSlots(0)})
	defer m.Close()
	e, err := upstream.NewEndpoint(name(0), 1)
	if err != nil {
		b.Fatal(err)
	}
	m.Attach(e, true)
	c, err := upstream.NewCluster("u", []*upstream.Endpoint{e}, "")
	if err != nil {
		b.Fatal(err)
	}
	m.Serve(health.Settings{Outlier: &health.Outlier{Errors: 5, Ratio: 0.5, Min: 10, Window: time.Second, On: []string{"connect"}, Share: 1}}, c)
	b.ReportAllocs()
	for b.Loop() {
		e.Observer.Answered(200)
	}
}
