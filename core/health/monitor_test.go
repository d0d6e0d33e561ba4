package health_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/health"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// A world is an upstream whose servers do what the test says.
type world struct {
	t       *testing.T
	monitor *health.Monitor
	cluster *upstream.Cluster
	slots   *health.Slots

	mu     sync.Mutex
	dead   map[string]bool
	slow   time.Duration // of each check
	checks map[string][]time.Time
	open   int // checks at a time
	most   int
	events []string
	up     map[string]bool
	capped int
}

func newWorld(t *testing.T, n int) *world {
	t.Helper()
	w := &world{t: t, dead: map[string]bool{}, checks: map[string][]time.Time{}, up: map[string]bool{}, slots: health.NewSlots(0)}
	w.monitor = health.New(health.Options{Upstream: "u", Slots: w.slots, Hooks: health.Hooks{
		Changed: func(e health.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, fmt.Sprintf("%s %s %s %d/%d", e.Kind, e.Server, e.Reason, e.Available, e.Total))
		},
		Available: func(s string, ok bool) { w.mu.Lock(); w.up[s] = ok; w.mu.Unlock() },
		Gone:      func(s string) { w.mu.Lock(); delete(w.up, s); w.mu.Unlock() },
		Ejections: func(_ string, out bool) {
			if !out {
				w.capped++
			}
		},
	}})
	t.Cleanup(w.monitor.Close)
	var all []*upstream.Endpoint
	for i := range n {
		all = append(all, w.endpoint(i, 1))
	}
	w.use(all...)
	return w
}

func name(i int) string { return fmt.Sprintf("10.%d.%d.1:80", i/250, i%250) }

func (w *world) endpoint(i, weight int) *upstream.Endpoint {
	w.t.Helper()
	e, err := upstream.NewEndpoint(name(i), weight)
	if err != nil {
		w.t.Fatal(err)
	}
	w.monitor.Attach(e, true)
	return e
}

func (w *world) use(all ...*upstream.Endpoint) {
	w.t.Helper()
	c, err := upstream.NewCluster("u", all, "")
	if err != nil {
		w.t.Fatal(err)
	}
	w.cluster = c
}

// serve serves the cluster with s.
func (w *world) serve(s health.Settings) {
	s.Connect = w.connect
	w.monitor.Serve(s, w.cluster)
}

func (w *world) connect(ctx context.Context, e *upstream.Endpoint) (pool.Conn, error) {
	w.mu.Lock()
	w.checks[e.Name] = append(w.checks[e.Name], time.Now())
	w.open++
	w.most = max(w.most, w.open)
	dead, slow := w.dead[e.Name], w.slow
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.open--
		w.mu.Unlock()
	}()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if dead {
		return nil, &exchange.Error{Op: "dial", Side: exchange.UpstreamSide, Reason: "upstream_refused"}
	}
	return nopConn{}, nil
}

type nopConn struct{ pool.Conn }

func (nopConn) Close() error { return nil }

func (w *world) kill(i int, dead bool) {
	w.mu.Lock()
	w.dead[name(i)] = dead
	w.mu.Unlock()
}

// said takes the events so far.
func (w *world) said() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.events
	w.events = nil
	return e
}

func (w *world) expect(want ...string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.said(); !slices.Equal(got, want) {
		w.t.Errorf("events\n got %q\nwant %q", got, want)
	}
}

func tcpCheck() health.Settings {
	return health.Settings{Key: "tcp", Panic: 0.5, Check: &health.Check{
		Protocol: health.TCP, Every: 10 * time.Second, EveryDown: 2 * time.Second, Timeout: time.Second,
		Thresholds: health.Thresholds{Up: 2, Down: 3},
	}}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.serve(tcpCheck())
		time.Sleep(time.Minute)
		w.expect()
		w.kill(1, true)
		time.Sleep(34 * time.Second) // three intervals, and what jitter adds
		w.expect("down 10.0.1.1:80 refused 2/3")
		if w.cluster.Endpoints[1].Available() || !w.cluster.Endpoints[0].Available() {
			t.Error("the endpoints do not say so")
		}
		st := w.monitor.Snapshot()[name(1)]
		if st.Up || st.Available || st.Reason != "refused" || st.Since.IsZero() || st.LastCheck.IsZero() {
			t.Errorf("status %+v", st)
		}
		time.Sleep(time.Minute)
		w.expect() // still down: no line
		w.mu.Lock()
		var gaps time.Duration
		list := w.checks[name(1)]
		for i := len(list) - 10; i < len(list); i++ {
			gap := list[i].Sub(list[i-1])
			gaps += gap
			if gap < 1800*time.Millisecond || gap > 2200*time.Millisecond {
				t.Errorf("a server that is down is checked after %v", gap)
			}
		}
		w.mu.Unlock()
		if gaps == 20*time.Second {
			t.Error("the interval has no jitter")
		}
		w.kill(1, false)
		time.Sleep(5 * time.Second) // two of its intervals
		w.expect("up 10.0.1.1:80  3/3")
		if !w.cluster.Endpoints[1].Available() || w.monitor.Snapshot()[name(1)].Reason != "" {
			t.Error("it is up, and nothing says so")
		}
	})
}

func TestStartIsSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1000)
		start := time.Now()
		w.serve(tcpCheck())
		time.Sleep(12 * time.Second)
		synctest.Wait()
		perSlot := map[int64]int{}
		for i := range 1000 {
			list := w.checks[name(i)]
			if len(list) == 0 {
				t.Fatalf("%s was not checked within an interval", name(i))
			}
			perSlot[int64(list[0].Sub(start)/(100*time.Millisecond))]++
		}
		for slot, n := range perSlot {
			if n > 80 { // 50 are the pace
				t.Errorf("%d first checks in the tenth of a second %d", n, slot)
			}
		}
		w.monitor.Close()
	})
}

func TestChecksAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2000)
		w.slow = time.Hour // as long as the timeout lets it
		w.serve(tcpCheck())
		time.Sleep(time.Minute)
		synctest.Wait()
		w.mu.Lock()
		most := w.most
		w.mu.Unlock()
		if most > health.MaxChecks || most < health.MaxChecks/2 {
			t.Errorf("%d checks at a time, want at most %d", most, health.MaxChecks)
		}
		if st := w.monitor.Snapshot()[name(7)]; st.Reason != "timeout" {
			t.Errorf("reason %q", st.Reason)
		}
		w.monitor.Close()
		time.Sleep(2 * time.Second)
	})
}

func outlier() health.Settings {
	return health.Settings{Panic: 0.5, Outlier: &health.Outlier{
		Errors: 3, On: []string{"connect", "503"}, Base: 30 * time.Second, Longest: 5 * time.Minute, Share: 0.5,
	}}
}

func TestEjections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.serve(outlier())
		fail := func(i int) {
			for range 3 {
				w.cluster.Endpoints[i].Observer.Failed("connect")
			}
		}
		e := w.cluster.Endpoints[0]
		e.Observer.Failed("connect")
		e.Observer.Failed("connect")
		e.Observer.Answered(200)
		e.Observer.Failed("connect")
		e.Observer.Failed("queue") // does not count
		e.Observer.Answered(503)   // does
		w.expect()
		e.Observer.Failed("connect")
		w.expect("ejected 10.0.0.1:80 3 failures in a row 3/4")
		if e.Available() || e.Reasons() != upstream.Ejected {
			t.Error("it is not out")
		}
		time.Sleep(time.Second)
		fail(1)
		w.expect("ejected 10.0.1.1:80 3 failures in a row 2/4")
		fail(2) // a third would be more than half
		w.expect()
		if w.capped != 1 || !w.cluster.Endpoints[2].Available() {
			t.Errorf("%d ejections were refused, want 1", w.capped)
		}
		time.Sleep(30 * time.Second)
		w.expect("returned 10.0.0.1:80  3/4", "returned 10.0.1.1:80  4/4")
		fail(0)
		w.expect("ejected 10.0.0.1:80 3 failures in a row 3/4")
		time.Sleep(59 * time.Second)
		w.expect()
		time.Sleep(time.Second)
		w.expect("returned 10.0.0.1:80  4/4") // the second takes twice as long
	})
}

func TestPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		s := tcpCheck()
		s.Check.Thresholds = health.Thresholds{Up: 1, Down: 1}
		w.serve(s)
		time.Sleep(time.Second)
		w.kill(0, true)
		time.Sleep(12 * time.Second)
		w.expect("down 10.0.0.1:80 refused 2/3")
		if w.cluster.Panic() {
			t.Error("two of three are enough")
		}
		w.kill(1, true)
		time.Sleep(12 * time.Second)
		w.expect("down 10.0.1.1:80 refused 1/3", "panic   1/3")
		if !w.cluster.Panic() || !w.monitor.Panicking() {
			t.Error("no panic")
		}
		// What is drained is neither counted on nor missed.
		if changed, err := w.monitor.Drain(name(0)); !changed || err != nil {
			t.Errorf("drain: %v, %v", changed, err)
		}
		w.expect("drained 10.0.0.1:80  1/2", "panic_end   1/2")
		s.Panic = 0
		w.kill(2, true)
		w.serve(s)
		time.Sleep(12 * time.Second)
		w.expect("down 10.0.2.1:80 refused 0/2")
	})
}

func TestPanicOfTiers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		all := w.cluster.Endpoints
		all[2].Tier = 1
		w.use(all...)
		s := tcpCheck()
		s.Check.Thresholds.Down = 1
		w.serve(s)
		w.kill(0, true)
		w.kill(1, true)
		time.Sleep(12 * time.Second)
		if w.cluster.Panic() {
			t.Error("there is a backup server")
		}
		w.kill(2, true)
		time.Sleep(12 * time.Second)
		if !w.cluster.Panic() {
			t.Error("now there is none")
		}
	})
}

// TestDrain drains over a reload that makes other endpoints.
func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.serve(health.Settings{})
		if _, err := w.monitor.Drain("10.9.9.9:80"); !errors.Is(err, health.ErrNoServer) {
			t.Errorf("got %v", err)
		}
		_, _ = w.monitor.Drain(name(0))
		if changed, err := w.monitor.Drain(name(0)); changed || err != nil {
			t.Errorf("a second time: %v, %v", changed, err)
		}
		w.expect("drained 10.0.0.1:80  1/1")
		old := w.cluster.Endpoints
		w.use(w.endpoint(0, 7), old[1])
		w.serve(health.Settings{})
		w.monitor.Detach(old[0])
		w.expect()
		if st, _ := w.cluster.Endpoints[0].State(); st != upstream.Draining {
			t.Errorf("after the reload it is %s", st)
		}
		_, _ = w.monitor.Ready(name(0))
		w.expect("ready 10.0.0.1:80  2/2")
		if !w.cluster.Endpoints[0].Available() {
			t.Error("it is not available")
		}
		// A server that has gone is forgotten.
		w.use(old[1])
		w.serve(health.Settings{})
		if _, ok := w.monitor.Snapshot()[name(0)]; ok || len(w.up) != 1 {
			t.Error("it is still there")
		}
	})
}

// TestReloadKeepsState changes the set, then the checks, then takes them away.
func TestReloadKeepsState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.serve(tcpCheck())
		w.kill(0, true)
		time.Sleep(11 * time.Second)
		w.expect("down 10.0.0.1:80 refused 2/3") // the first result decides
		since := w.monitor.Snapshot()[name(0)].Since

		all := w.cluster.Endpoints
		w.use(all[0], all[1], w.endpoint(3, 1))
		w.serve(tcpCheck())
		if st := w.monitor.Snapshot()[name(0)]; st.Up || !st.Since.Equal(since) {
			t.Errorf("other servers: %+v", st)
		}
		w.kill(0, false)
		other := tcpCheck()
		other.Key, other.Check.Thresholds.Up = "other", 5
		w.serve(other)
		time.Sleep(time.Second)
		w.expect()
		if st := w.monitor.Snapshot()[name(0)]; st.Up || !st.Since.Equal(since) {
			t.Errorf("other checks: %+v", st)
		}
		time.Sleep(13 * time.Second)
		w.expect("up 10.0.0.1:80  3/3")
		w.kill(0, true)
		time.Sleep(40 * time.Second)
		w.expect("down 10.0.0.1:80 refused 2/3")
		w.serve(health.Settings{})
		w.expect("up 10.0.0.1:80 it is not checked any more 3/3")
		if !w.cluster.Endpoints[0].Available() || !w.monitor.Snapshot()[name(0)].Up || !w.up[name(0)] {
			t.Error("without checks nothing speaks against it")
		}
	})
}
