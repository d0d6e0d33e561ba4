package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	dir, err := os.MkdirTemp("", "ratelimit-test-")
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

func guest(t *testing.T) []byte {
	t.Helper()
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// onBoth runs a test where the buckets live in the host's counters, with and without a gate, and
// where they live in shared data, as on other hosts.
func onBoth(t *testing.T, o plugintest.Options, test func(*testing.T, *plugintest.Plugin)) {
	t.Helper()
	for name, place := range places {
		o := o
		o.Grants, o.Without = place.grants, place.without
		t.Run(name, func(t *testing.T) { plugintest.Run(t, guest(t), o, test) })
	}
}

// A home is where the buckets live: the grants decide, and what the host has not.
type home struct{ grants, without []string }

var places = map[string]home{
	"counters":   {grants: []string{host.GrantLog, host.GrantMetrics, host.GrantCounters}},
	"gateless":   {[]string{host.GrantLog, host.GrantMetrics, host.GrantCounters}, []string{abi.ForeignGate}},
	"sharedData": {[]string{host.GrantLog, host.GrantMetrics, host.GrantSharedData}, []string{abi.ForeignReadValues}},
}

// field returns the values of a field, joined.
func field(r plugintest.Response, name string) string {
	var v []string
	for _, p := range r.Fields {
		if p.Name == name {
			v = append(v, p.Value)
		}
	}
	return strings.Join(v, " | ")
}

func metric(t *testing.T, p *plugintest.Plugin, o outcome, want int64) {
	t.Helper()
	if got, ok := p.Metric("wproxy_limit_total;decision=" + o.String()); !ok || got != want {
		t.Errorf("metric %s: got %d, %t, want %d", o, got, ok, want)
	}
}

func TestWasmLimit(t *testing.T) {
	o := plugintest.Options{Config: `{"rate":"2/s","burst":2,"body":"slow down"}`}
	onBoth(t, o, func(t *testing.T, p *plugintest.Plugin) {
		req := plugintest.Request{Client: "192.0.2.1:4711"}
		for i, want := range []string{`"default";r=1;t=1`, `"default";r=0;t=1`} {
			s := p.Do(req, plugintest.Response{Fields: plugintest.Fields("ratelimit", `"upstream";r=5`)})
			c := s.Client()
			if c.Status != 200 || field(c, "ratelimit") != `"upstream";r=5 | `+want || field(c, "ratelimit-policy") != `"default";q=2;w=1` {
				t.Errorf("request %d: got %d %q %q", i, c.Status, field(c, "ratelimit"), field(c, "ratelimit-policy"))
			}
			if v := s.Verdict("plugin"); v != "" {
				t.Errorf("request %d: verdict %q, want none", i, v)
			}
		}
		s := p.Do(req, plugintest.Response{})
		c := s.Client()
		if c.Status != 429 || string(c.Body) != "slow down" || field(c, "retry-after") != "1" ||
			field(c, "ratelimit") != `"default";r=0;t=1` || field(c, "ratelimit-policy") != `"default";q=2;w=1` ||
			field(c, "content-type") != "text/plain; charset=utf-8" {
			t.Errorf("third request: got %+v", c)
		}
		if s.Reason() != "rate_limited" || s.Verdict("plugin") != "limited" {
			t.Errorf("third request: reason %q, verdict %q", s.Reason(), s.Verdict("plugin"))
		}
		if s.Upstream().Method != "" {
			t.Error("the refused request reached the upstream")
		}
		if s := p.Do(plugintest.Request{Client: "192.0.2.2:1"}, plugintest.Response{}); s.Client().Status != 200 {
			t.Errorf("another client: got %d, want 200", s.Client().Status)
		}
		p.Advance(500 * time.Millisecond)
		if s := p.Do(req, plugintest.Response{}); s.Client().Status != 200 {
			t.Errorf("after half a second: got %d, want 200", s.Client().Status)
		}
		if s := p.Do(req, plugintest.Response{}); s.Client().Status != 429 {
			t.Errorf("right after: got %d, want 429", s.Client().Status)
		}
		metric(t, p, allowed, 4)
		metric(t, p, limited, 2)
	})
}

func TestWasmKeys(t *testing.T) {
	for _, tc := range []struct {
		key  string
		a, b plugintest.Request // a twice, then b
		b200 bool
	}{
		{"client-ip", plugintest.Request{Client: "[2001:db8::1]:1"}, plugintest.Request{Client: "[2001:db8::2]:1"}, true},
		{"client-ip/64", plugintest.Request{Client: "[2001:db8::1]:1"}, plugintest.Request{Client: "[2001:db8::2]:1"}, false},
		{"client-ip", plugintest.Request{Client: "10.0.0.1:1", ClientIP: "192.0.2.1"}, plugintest.Request{Client: "10.0.0.1:1", ClientIP: "192.0.2.2"}, true},
		{"header:x-key", plugintest.Request{Fields: plugintest.Fields("x-key", "a")}, plugintest.Request{Fields: plugintest.Fields("x-key", "b")}, true},
		{"cookie:s", plugintest.Request{Fields: plugintest.Fields("cookie", "s=1")}, plugintest.Request{Fields: plugintest.Fields("cookie", "t=1; s=2")}, true},
		{"query:k", plugintest.Request{Path: "/?k=a"}, plugintest.Request{Path: "/x?y=1&k=%61"}, false},
		{"host", plugintest.Request{Authority: "a.test"}, plugintest.Request{Authority: "b.test"}, true},
		{"path", plugintest.Request{Path: "/a?1"}, plugintest.Request{Path: "/a?2"}, false},
		{"method", plugintest.Request{Method: "GET"}, plugintest.Request{Method: "DELETE"}, true},
		{"global", plugintest.Request{Client: "192.0.2.1:1"}, plugintest.Request{Client: "192.0.2.2:1"}, false},
	} {
		o := plugintest.Options{Config: map[string]any{"rate": "1/h", "key": tc.key}}
		t.Run(strings.ReplaceAll(tc.key, "/", "_"), func(t *testing.T) {
			onBoth(t, o, func(t *testing.T, p *plugintest.Plugin) {
				for i, want := range []int{200, 429} {
					if s := p.Do(tc.a, plugintest.Response{}); s.Client().Status != want {
						t.Errorf("request %d: got %d, want %d", i, s.Client().Status, want)
					}
				}
				if s := p.Do(tc.b, plugintest.Response{}); (s.Client().Status == 200) != tc.b200 {
					t.Errorf("the other request: got %d, want 200: %t", s.Client().Status, tc.b200)
				}
			})
		})
	}
}

func TestWasmReportAndExempt(t *testing.T) {
	o := plugintest.Options{Config: `{"rate":"1/h","key":"global","mode":"report","exempt":{"clients":["10.0.0.0/8"],"headers":{"x-plan":"gold"}}}`}
	onBoth(t, o, func(t *testing.T, p *plugintest.Plugin) {
		for _, r := range []plugintest.Request{{Client: "10.1.1.1:1"}, {Fields: plugintest.Fields("x-plan", "gold")}, {}, {}} {
			s := p.Do(r, plugintest.Response{})
			if c := s.Client(); c.Status != 200 || field(c, "ratelimit") != "" {
				t.Errorf("%+v: got %d, ratelimit %q, want 200 and nothing", r, c.Status, field(c, "ratelimit"))
			}
		}
		if s := p.Do(plugintest.Request{}, plugintest.Response{}); s.Verdict("plugin") != "would-limit" {
			t.Errorf("verdict: got %q, want would-limit", s.Verdict("plugin"))
		}
		metric(t, p, exempted, 2)
		metric(t, p, allowed, 1)
		metric(t, p, reported, 2)
	})
}

func TestWasmMissingKeyDenied(t *testing.T) {
	o := plugintest.Options{Config: `{"rate":"1/h","key":"header:x-key","on_missing_key":"deny","status":403}`}
	onBoth(t, o, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Do(plugintest.Request{}, plugintest.Response{})
		if c := s.Client(); c.Status != 403 || field(c, "retry-after") != "" || s.Reason() != "rate_limit_key_missing" {
			t.Errorf("got %d, retry-after %q, reason %q", c.Status, field(c, "retry-after"), s.Reason())
		}
	})
}

// TestWasmScope runs two routes in the same VMs.
func TestWasmScope(t *testing.T) {
	for scope, want := range map[string]int{"route": 200, "plugin": 429} {
		config := fmt.Sprintf(`{"rate":"1/h","scope":%q}`, scope)
		onBoth(t, plugintest.Options{Route: "a", Config: config}, func(t *testing.T, p *plugintest.Plugin) {
			q := p.With("b", config)
			if s := p.Do(plugintest.Request{}, plugintest.Response{}); s.Client().Status != 200 {
				t.Errorf("scope %s, route a: got %d, want 200", scope, s.Client().Status)
			}
			if s := q.Do(plugintest.Request{}, plugintest.Response{}); s.Client().Status != want {
				t.Errorf("scope %s, route b: got %d, want %d", scope, s.Client().Status, want)
			}
		})
	}
}

// TestWasmExactAcrossVMs has several VMs decide at the same time about one key: the clock stands
// still, so exactly burst requests get through.
func TestWasmExactAcrossVMs(t *testing.T) {
	const burst, each, workers = 60, 30, 4
	o := plugintest.Options{Instances: workers, Config: map[string]any{"rate": "1/h", "burst": burst, "key": "global"}}
	onBoth(t, o, func(t *testing.T, p *plugintest.Plugin) {
		streams := make([]*plugintest.Stream, 0, workers*each)
		for range each {
			// Streams that are open at the same time are spread over the VMs.
			var open []*plugintest.Stream
			for range workers {
				open = append(open, p.Open(plugintest.Request{}))
			}
			for _, s := range open {
				s.Respond(plugintest.Response{})
				s.Finish()
			}
			streams = append(streams, open...)
		}
		admitted := 0
		for _, s := range streams {
			if s.Client().Status == 200 {
				admitted++
			}
		}
		if admitted != burst {
			t.Errorf("%d of %d admitted, want %d", admitted, len(streams), burst)
		}
	})
}

func TestWasmRefusesSettings(t *testing.T) {
	for config, want := range map[string]string{
		`{}`:                          `setting "rate": is missing`,
		`{"rate":"1/s","brust":5}`:    `setting "brust": unknown (did you mean "burst"?)`,
		`{"rate":"1/s","cost":"x"}`:   `setting "cost": must be a number`,
		`{"rate":"1/s","rate":"2/s"}`: `"rate" appears twice`,
	} {
		err := plugintest.Start(t, guest(t), plugintest.Options{Config: config})
		var start *host.StartError
		if !errors.As(err, &start) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want a StartError with %s", config, err, want)
		}
	}
}

// TestWasmRefusals: each refusal says its own numbers, whatever the one before it said.
func TestWasmRefusals(t *testing.T) {
	o := plugintest.Options{Config: `{"rate":"1/m","burst":2,"key":"header:x-key","on_missing_key":"deny"}`}
	onBoth(t, o, func(t *testing.T, p *plugintest.Plugin) {
		ask := func(key, want string) {
			t.Helper()
			var req plugintest.Request
			if key != "" {
				req.Fields = plugintest.Fields("x-key", key)
			}
			c := p.Do(req, plugintest.Response{}).Client()
			if got := field(c, "retry-after") + " " + field(c, "ratelimit"); c.Status != 429 && want != "" || c.Status == 429 && got != want {
				t.Errorf("key %q: got %d %q, want %q", key, c.Status, got, want)
			}
		}
		ask("a", "")
		ask("a", "")
		ask("a", `60 "default";r=0;t=120`)
		ask("a", `60 "default";r=0;t=120`)
		p.Advance(10 * time.Second)
		ask("a", `50 "default";r=0;t=110`)
		ask("", ` `)
		ask("a", `50 "default";r=0;t=110`)
		ask("b", "")
		ask("b", "")
		ask("b", `60 "default";r=0;t=120`)
		ask("", ` `)
		p.Advance(10 * time.Second)
		ask("a", `40 "default";r=0;t=100`)
		ask("b", `50 "default";r=0;t=110`)
	})
}
