package main

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"wproxy/abi"
	"wproxy/core/config"
	"wproxy/core/health"
	"wproxy/core/metrics"
	"wproxy/host"
)

// TestWindow: what is compared is a minute old, when somebody has looked for so long, and
// nothing is kept for nobody.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newView(metrics.New(), &guestSecrets{})
		begin := time.Now()
		for range 300 {
			s := &sample{at: time.Now()}
			v.liveMu.Lock()
			old, kept := v.window(s), len(v.samples)
			v.liveMu.Unlock()
			got, watched := s.at.Sub(old.at), s.at.Sub(begin)
			if watched < windowTime && got != watched || watched >= windowTime && (got < windowTime || got >= windowTime+sampleTime) {
				t.Fatalf("after %v: compared with what was %v before", watched, got)
			}
			if kept > int(windowTime/sampleTime)+2 {
				t.Fatalf("%d samples are kept", kept)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(unwatched)
		synctest.Wait()
		v.liveMu.Lock()
		defer v.liveMu.Unlock()
		if v.samples != nil {
			t.Errorf("nobody looks, and %d samples are kept", len(v.samples))
		}
		s := &sample{at: time.Now()}
		if v.window(s) != s {
			t.Error("the first look after a while is compared with something")
		}
		v.forgets.Stop()
	})
}

// TestTrapped: the last trap is kept, without secrets, until its plugin goes.
func TestTrapped(t *testing.T) {
	t.Parallel()
	v := newView(metrics.New(), &guestSecrets{})
	if v.lastTrap("p") != nil {
		t.Error("there is a trap already")
	}
	v.trapped(&host.TrapError{Plugin: "p", Callback: host.CallLog, Cause: host.CauseTrap, Detail: "unreachable", Stack: []string{"a", "b"}, Log: []string{"x"}})
	v.trapped(&host.TrapError{Plugin: "p", Callback: host.CallTick, Cause: host.CauseCPU, Stack: []string{"c"}, Route: "r", RequestID: "1"})
	got := v.lastTrap("p")
	if got == nil || got.Callback != "on_tick" || got.Cause != "cpu" || got.Stack[0] != "c" || got.Route != "r" || got.RequestID != "1" {
		t.Errorf("got %+v", got)
	}
	v.forget(&generation{plugins: map[string]*loadedPlugin{"p": {}}})
	if v.lastTrap("p") == nil {
		t.Error("a reload that keeps the plugin forgets its trap")
	}
	v.forget(&generation{})
	if v.lastTrap("p") != nil {
		t.Error("a plugin that is gone has a trap")
	}
}

// TestMarksOfEvents is what the time line says of what happens.
func TestMarksOfEvents(t *testing.T) {
	t.Parallel()
	v := newView(metrics.New(), &guestSecrets{})
	v.markHealth(health.Event{Kind: health.Down, Upstream: "u", Server: "a:1", Reason: "refused"})
	v.markHealth(health.Event{Kind: health.Panic, Upstream: "u"})
	v.markReload(nil, nil)
	v.markReload([]string{`route "a": changed`, `plugin "p": its .wasm changed`, "x", "y", "z"}, nil)
	v.markReload(nil, errors.New("line 1\nline 2"))
	var got []string
	for _, m := range v.timeline.Marks(0) {
		got = append(got, m.Kind+"|"+m.Text)
	}
	want := []string{
		"down|u/a:1: down (refused)", "panic|u: too few servers are up, all are tried", "reload|reload: nothing changed",
		`plugin|reload: route "a": changed; plugin "p": its .wasm changed; x; y`, "refused|reload refused: line 1",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestCircuits: a change of a breaker's circuit is told once, whichever instance says so,
// and is forgotten with its plugin or route.
func TestCircuits(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	v := newView(m, &guestSecrets{})
	g := &guestMetrics{m, func(plugin string) bool { return plugin == "breaker" }, v.circuit}
	route := []byte("api")
	one, two := g.Metric("breaker", "wproxy_breaker_state;upstream=app", abi.MetricGauge), g.Metric("breaker", "wproxy_breaker_state;upstream=app", abi.MetricGauge)
	borrowed := unsafe.String(&route[0], len(route)) // as the host lends it
	one.Set(0, borrowed)                             // its first request
	one.Set(1, borrowed)
	two.Set(1, borrowed)
	two.Set(2, borrowed)
	two.Set(7, borrowed) // none
	two.Set(0, borrowed)
	g.Metric("mine", "wproxy_breaker_state", abi.MetricGauge).Set(1, "api") // somebody else's
	g.Metric("breaker", "wproxy_breaker_state", abi.MetricGauge).Set(1, "split")
	copy(route, "xxx")
	var got []string
	for _, m := range v.timeline.Marks(0) {
		got = append(got, m.Kind+"|"+m.Text)
	}
	want := []string{
		"circuit_open|breaker breaker: route api, upstream app: closed -> open",
		"circuit_half-open|breaker breaker: route api, upstream app: open -> half-open",
		"circuit_closed|breaker breaker: route api, upstream app: half-open -> closed",
		"circuit_open|breaker breaker: route split: closed -> open",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if series, ok := m.Guest("breaker", "wproxy_breaker_state;route=api;upstream=app", metrics.Gauge, true); !ok || series.Value() != 0 {
		t.Error("the metric does not have the state")
	}
	gen := &generation{
		plugins: map[string]*loadedPlugin{"breaker": {}},
		file:    &config.File{Routes: map[string]*config.Route{"split": {}}},
	}
	if list := v.circuitList(gen); len(list) != 2 || list[0].Route != "split" || list[0].State != "open" || list[1].Route != "api" || list[1].State != "closed" {
		t.Errorf("got %+v", list)
	}
	v.forget(gen)
	if list := v.circuitList(gen); len(list) != 1 || list[0].Route != "split" {
		t.Errorf("a route that is gone has a circuit: %+v", list)
	}
	for i := range 2 * shownCircuits {
		v.circuit("breaker", "u", strconv.Itoa(i), 0)
	}
	if n := len(v.circuits); n > shownCircuits {
		t.Errorf("%d circuits are remembered", n)
	}
}

// TestManyServers: when there are too many to show, what is not well is shown.
func TestManyServers(t *testing.T) {
	t.Parallel()
	l := &Live{Status: &Status{}, Failing: map[string]uint64{}, Cut: map[string]int{}}
	for i := range 400 {
		u := UpstreamStatus{Name: string(rune('a'+i%26)) + strings.Repeat("x", i), Servers: []ServerStatus{{Address: "1", State: "up"}, {Address: "2", State: "up"}}}
		if i >= 390 {
			u.Servers[1].State = "down"
		}
		l.Status.Upstreams = append(l.Status.Upstreams, u)
	}
	l.servers(&sample{failures: map[string]int64{"a/1": 7}}, &sample{failures: map[string]int64{"a/1": 4}})
	if l.Servers != (ServerCounts{Total: 800, Up: 790, Down: 10}) || l.Failing["a/1"] != 3 {
		t.Errorf("counts: %+v, failing: %v", l.Servers, l.Failing)
	}
	rows, down := 0, 0
	for _, u := range l.Status.Upstreams {
		for _, s := range u.Servers {
			rows++
			if s.State == "down" {
				down++
			}
		}
	}
	if rows != shownRows || down != 10 || l.Cut["servers"] != 300 {
		t.Errorf("%d rows with %d that are down, %v left out", rows, down, l.Cut)
	}
}
