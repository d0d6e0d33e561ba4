package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/plugins/guestbuild"
)

// build compiles the plugin once for all tests.
var build = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "breaker-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "plugin.wasm")
	if _, err := guestbuild.Build(context.Background(), guestbuild.Options{Out: out, Stderr: os.Stderr}); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

var grants = []string{host.GrantLog, host.GrantMetrics, host.GrantSharedData, host.GrantCounters}

func options(config string) plugintest.Options {
	return plugintest.Options{Config: config, Grants: slices.Clone(grants), LogLevel: 0}
}

func run(t *testing.T, o plugintest.Options, f func(*testing.T, *plugintest.Plugin)) {
	t.Helper()
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	plugintest.Run(t, wasm, o, f)
}

var (
	fine  = plugintest.Response{}
	wrong = plugintest.Response{Status: 503}
)

func do(t *testing.T, p *plugintest.Plugin, resp plugintest.Response, want int) *plugintest.Stream {
	t.Helper()
	s := p.Do(plugintest.Request{}, resp)
	if got := s.Client().Status; got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	return s
}

func shows(t *testing.T, p *plugintest.Plugin, want state) {
	t.Helper()
	if got, ok := p.Metric("wproxy_breaker_state;upstream=upstream"); !ok || got != int64(want) {
		t.Errorf("the metric says %d (%t), want %s", got, ok, want)
	}
}

// TestWasmCircle goes once around: closed, open, half-open, open for longer, half-open, closed.
func TestWasmCircle(t *testing.T) {
	t.Run("values", func(t *testing.T) { testCircle(t, nil) })
	t.Run("single", func(t *testing.T) { testCircle(t, []string{abi.ForeignReadValues, abi.ForeignWatch}) })
}

func testCircle(t *testing.T, without []string) {
	o := options(`{"failures":0.5,"min_requests":4,"window":"10s","open_for":"5s","probes":2}`)
	o.Without = without
	run(t, o, func(t *testing.T, p *plugintest.Plugin) {
		do(t, p, fine, 200)
		do(t, p, plugintest.Response{Status: 502, Failure: "connect"}, 502)
		do(t, p, plugintest.Response{Status: 503, Untried: true}, 503) // says nothing
		do(t, p, fine, 200)
		shows(t, p, closed)
		do(t, p, wrong, 503)
		shows(t, p, open)
		s := do(t, p, fine, 503)
		if c := s.Client(); c.Get("retry-after") != "5" || c.Get("content-type") != "text/plain; charset=utf-8" ||
			!strings.Contains(string(c.Body), "not available") {
			t.Errorf("%+v", c)
		}
		if v, _ := s.Property("breaker", "state"); s.Reason() != "breaker_open" || s.Verdict("plugin") != "open" || string(v) != "open" ||
			s.Upstream().Method != "" {
			t.Errorf("reason %q, verdict %q, property %q", s.Reason(), s.Verdict("plugin"), v)
		}
		p.Advance(4999 * time.Millisecond)
		do(t, p, fine, 503)
		p.Advance(time.Millisecond)
		if s := do(t, p, fine, 200); s.Verdict("plugin") != "probe" {
			t.Errorf("verdict %q", s.Verdict("plugin"))
		}
		shows(t, p, halfOpen)
		do(t, p, wrong, 503)
		shows(t, p, open)
		if s := do(t, p, fine, 503); s.Client().Get("retry-after") != "10" {
			t.Errorf("retry-after %q, want the double", s.Client().Get("retry-after"))
		}
		p.Advance(10 * time.Second)
		do(t, p, fine, 200)
		do(t, p, fine, 200)
		shows(t, p, closed)
		for _, line := range []string{
			`breaker: route "test", upstream "upstream": closed -> open: 2 of 4 requests failed; open for 5 s`,
			`open -> half-open: it was open for 5 s`, `half-open -> open: a probe failed; open for 10 s`, `half-open -> closed: 2 probes went well`,
		} {
			if !p.Logged(line) {
				t.Errorf("the log does not have %q", line)
			}
		}
		if n, _ := p.Metric("wproxy_breaker_total;decision=refused"); n != 3 {
			t.Errorf("%d refused, want 3", n)
		}
	})
}

// TestWasmWindow: what is older than the window does not count.
func TestWasmWindow(t *testing.T) {
	run(t, options(`{"failures":1,"min_requests":2,"window":"10s"}`), func(t *testing.T, p *plugintest.Plugin) {
		do(t, p, wrong, 503)
		p.Advance(11 * time.Second)
		do(t, p, wrong, 503)
		shows(t, p, closed)
		p.Advance(8 * time.Second)
		do(t, p, wrong, 503)
		shows(t, p, open)
	})
}

// TestWasmTimes: an upstream that has been well for longer than the window and then fails opens
// the circuit when half of the window is failures, and it closes when the time is over and the
// probes have gone well, each within a slot of the window of the time that was set, however the
// outage lies to the slots.
func TestWasmTimes(t *testing.T) {
	const (
		window, openFor = 10 * time.Second, 5 * time.Second
		slot            = window / windowSlots
		every           = 50 * time.Millisecond
	)
	for _, offset := range []time.Duration{0, 350 * time.Millisecond, 950 * time.Millisecond} {
		run(t, options(`{"failures":0.5,"min_requests":20,"window":"10s","open_for":"5s","probes":3}`), func(t *testing.T, p *plugintest.Plugin) {
			until := func(resp plugintest.Response, limit time.Duration, want state) time.Duration {
				start := p.Now()
				for p.Now().Sub(start) < limit {
					p.Do(plugintest.Request{}, resp)
					if got, _ := p.Metric("wproxy_breaker_state;upstream=upstream"); got == int64(want) {
						break
					}
					p.Advance(every)
				}
				return p.Now().Sub(start)
			}
			p.Advance(offset)
			if took := until(fine, 2*window, open); took < 2*window {
				t.Fatalf("it opened after %v of health", took)
			}
			if took := until(wrong, 2*window, open); took < window/2-slot || took > window/2+slot {
				t.Errorf("it opened %v after the outage began, want %v ± %v", took, window/2, slot)
			}
			if took := until(fine, 2*window, closed); took < openFor || took > openFor+slot {
				t.Errorf("it closed %v after it opened, want %v and up to %v more", took, openFor, slot)
			}
		})
	}
}

// TestWasmSlow: the time until the head counts.
func TestWasmSlow(t *testing.T) {
	run(t, options(`{"failures":false,"slow":1,"slow_call":"2s","min_requests":2}`), func(t *testing.T, p *plugintest.Plugin) {
		for _, took := range []time.Duration{2 * time.Second, 2 * time.Second} {
			s := p.Open(plugintest.Request{})
			p.Advance(took)
			s.Respond(fine)
			s.Finish()
		}
		shows(t, p, open)
		if !p.Logged("2 of 2 requests took 2 s or more") {
			t.Error("the log does not say why")
		}
	})
}

// TestWasmProbesAcrossVMs opens many streams in several VMs while the circuit is half-open:
// exactly so many get through, also when one's client has left.
func TestWasmProbesAcrossVMs(t *testing.T) {
	o := options(`{"failures":false,"consecutive":1,"open_for":"1s","probes":5}`)
	o.Instances = 4
	run(t, o, func(t *testing.T, p *plugintest.Plugin) {
		do(t, p, wrong, 503)
		p.Advance(time.Second)
		enter := func() (through []*plugintest.Stream) {
			for range 40 {
				s := p.Open(plugintest.Request{})
				if s.Upstream().Method != "" {
					through = append(through, s)
				} else {
					s.Finish()
				}
			}
			return through
		}
		probes := enter()
		if len(probes) != 5 {
			t.Fatalf("%d probes, want 5", len(probes))
		}
		probes[0].Leave()
		probes[0].Finish()
		probes[1].Respond(plugintest.Response{Status: 503, Untried: true})
		probes[1].Finish()
		probes[2].Respond(fine)
		probes[2].Finish() // its place is used up
		again := enter()
		if len(again) != 2 {
			t.Fatalf("%d probes in place of two that came to nothing, want 2", len(again))
		}
		for _, s := range append(probes[3:], again...) {
			shows(t, p, halfOpen)
			s.Respond(fine)
			s.Finish()
		}
		shows(t, p, closed)
		do(t, p, fine, 200)
	})
}

// TestWasmProbesOfDeadVM: places of probes whose VM has died are given to others, each once. What
// kills it here is that a long answer takes more work than one callback may do.
func TestWasmProbesOfDeadVM(t *testing.T) {
	o := options(`{"failures":false,"consecutive":1,"open_for":"1s","probes":3,"fallback":{"headers":{"x-long":"` + strings.Repeat("x", 200<<10) + `"}}}`)
	o.Instances, o.CPU = 2, 100*time.Microsecond
	run(t, o, func(t *testing.T, p *plugintest.Plugin) {
		do(t, p, wrong, 503)
		p.Advance(time.Second)
		probe := func() *plugintest.Stream {
			s := p.Open(plugintest.Request{})
			if s.Upstream().Method == "" {
				t.Fatalf("a probe does not get through: %+v", s.Client())
			}
			return s
		}
		die := func() {
			s := p.Open(plugintest.Request{})
			if traps := p.Stats().Traps; len(traps) != 1 || s.Reason() != "plugin_failed:plugin" || s.Upstream().Method != "" {
				t.Fatalf("one request more than there are probes: traps %v, reason %q", traps, s.Reason())
			}
			s.Finish()
		}
		dead := []*plugintest.Stream{probe(), probe(), probe()}
		die()
		shows(t, p, halfOpen)
		fresh := []*plugintest.Stream{probe(), probe(), probe()}
		for _, s := range dead { // they cannot give back what they do not have any more
			s.Respond(fine)
			s.Finish()
			if got := s.Client().Status; got != 503 {
				t.Errorf("a stream of the dead VM is answered with %d", got)
			}
		}
		for _, s := range fresh {
			shows(t, p, halfOpen)
			s.Respond(fine)
			s.Finish()
		}
		shows(t, p, closed)
	})
}

// TestWasmFallback: other answers, and another upstream.
func TestWasmFallback(t *testing.T) {
	o := options(`{"failures":false,"consecutive":1,"fallback":{"status":200,"headers":{"content-type":"application/json","x-from":"breaker"},"body":"[]"}}`)
	run(t, o, func(t *testing.T, p *plugintest.Plugin) {
		do(t, p, wrong, 503)
		c := do(t, p, wrong, 200).Client()
		if string(c.Body) != "[]" || c.Get("x-from") != "breaker" || c.Get("content-type") != "application/json" || c.Get("retry-after") != "" {
			t.Errorf("%+v", c)
		}
	})
	o = options(`{"failures":false,"consecutive":1,"fallback_upstream":"backup"}`)
	run(t, o, func(t *testing.T, p *plugintest.Plugin) {
		do(t, p, wrong, 503)
		if s := do(t, p, fine, 503); s.Reason() != "breaker_open" || !p.Logged(`needs the grant "upstream:backup"`) {
			t.Errorf("without the grant: reason %q", s.Reason())
		}
	})
	o.Grants = append(o.Grants, host.GrantUpstream+"backup")
	run(t, o, func(t *testing.T, p *plugintest.Plugin) {
		if s := do(t, p, wrong, 503); s.Selected() != "" {
			t.Errorf("closed: sent to %q", s.Selected())
		}
		for range 3 { // what comes of them says nothing of the other upstream
			if s := do(t, p, wrong, 503); s.Selected() != "backup" || s.Verdict("plugin") != "fallback" || s.Reason() != "" {
				t.Errorf("open: sent to %q, verdict %q, reason %q", s.Selected(), s.Verdict("plugin"), s.Reason())
			}
		}
	})
}

// TestWasmRoutes: routes have circuits of their own.
func TestWasmRoutes(t *testing.T) {
	o := options(`{"failures":false,"consecutive":1}`)
	o.Route = "a"
	run(t, o, func(t *testing.T, p *plugintest.Plugin) {
		q := p.With("b", o.Config)
		do(t, p, wrong, 503)
		do(t, p, fine, 503)
		do(t, q, fine, 200)
	})
}

// TestWasmRefuses: a bad setting, and a host that cannot count.
func TestWasmRefuses(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		config string
		grants []string
		want   string
	}{
		{`{"probes":0}`, grants, `breaker: setting "probes": 0 is not a whole number`},
		{`{}`, host.DefaultGrants(), `breaker: the host does not grant "counters"`},
	} {
		err := plugintest.Start(t, wasm, plugintest.Options{Config: tc.config, Grants: tc.grants})
		var e *host.StartError
		if !errors.As(err, &e) || !strings.Contains(err.Error()+strings.Join(e.Log, "\n"), tc.want) {
			t.Errorf("%s: %v, want %s", tc.config, err, tc.want)
		}
	}
}
