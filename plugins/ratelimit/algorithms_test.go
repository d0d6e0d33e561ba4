package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/plugintest"
)

// onCounters runs a test of what needs the host's counters.
func onCounters(t *testing.T, o plugintest.Options, test func(*testing.T, *plugintest.Plugin)) {
	t.Helper()
	o.Grants = places["counters"].grants
	plugintest.Run(t, guest(t), o, test)
}

// admittedOf opens n streams and returns those that got through to the upstream.
func admittedOf(p *plugintest.Plugin, n int) (through []*plugintest.Stream) {
	for range n {
		if s := p.Open(plugintest.Request{}); s.Upstream().Method != "" {
			through = append(through, s)
		} else if !s.Paused() {
			s.Finish()
		}
	}
	return through
}

// TestWasmLeakyBucket: requests that come at once go on at the rate, in their order, and what
// would have to wait for too long is refused.
func TestWasmLeakyBucket(t *testing.T) {
	o := plugintest.Options{Instances: 3, Config: `{"rate":"10/s","algorithm":"leaky-bucket","burst":2,"max_delay":"300ms","key":"global"}`}
	onCounters(t, o, func(t *testing.T, p *plugintest.Plugin) {
		var streams []*plugintest.Stream
		for range 7 {
			streams = append(streams, p.Open(plugintest.Request{}))
		}
		// Two at once, three that wait for 100, 200 and 300 ms, and two that are refused.
		for elapsed := range 4 {
			for i, s := range streams {
				on := s.Upstream().Method != ""
				if want := i < 2+elapsed && i < 5; on != want {
					t.Errorf("after %d ms: request %d: passed on %t, want %t", elapsed*100, i, on, want)
				}
				if refused := s.Client().Status == 429; refused != (i >= 5) {
					t.Errorf("request %d: refused %t", i, refused)
				}
			}
			p.Advance(99 * time.Millisecond)
			for i := 2 + elapsed; i < 5; i++ {
				if streams[i].Upstream().Method != "" {
					t.Errorf("request %d went on too early", i)
				}
			}
			p.Advance(time.Millisecond)
		}
		for i, s := range streams {
			s.Respond(plugintest.Response{})
			s.Finish()
			want := map[bool]string{true: "delayed", false: ""}[i >= 2 && i < 5]
			if v := s.Verdict("plugin"); i < 5 && v != want {
				t.Errorf("request %d: verdict %q, want %q", i, v, want)
			}
		}
		metric(t, p, allowed, 2)
		metric(t, p, delayed, 3)
		metric(t, p, limited, 2)
	})
}

// TestWasmLeakyBucketLeaves: a client that leaves while it waits is forgotten.
func TestWasmLeakyBucketLeaves(t *testing.T) {
	o := plugintest.Options{Config: `{"rate":"1/s","algorithm":"leaky-bucket","max_delay":"5s","key":"global"}`}
	onCounters(t, o, func(t *testing.T, p *plugintest.Plugin) {
		admittedOf(p, 1)
		s := p.Open(plugintest.Request{})
		if !s.Paused() {
			t.Fatal("the second request does not wait")
		}
		s.Leave()
		s.Finish()
		p.Advance(10 * time.Second)
		if s.Upstream().Method != "" {
			t.Error("the request of a client that has left was passed on")
		}
	})
}

// TestWasmSlidingWindow: a bucket would let four through around a second's border.
func TestWasmSlidingWindow(t *testing.T) {
	o := plugintest.Options{Instances: 2, Config: `{"rate":"4/s","algorithm":"sliding-window","key":"global"}`}
	onCounters(t, o, func(t *testing.T, p *plugintest.Plugin) {
		do := func(want int) *plugintest.Stream {
			t.Helper()
			s := p.Do(plugintest.Request{}, plugintest.Response{})
			if got := s.Client().Status; got != want {
				t.Errorf("got %d, want %d", got, want)
			}
			return s
		}
		do(200)
		if got := field(do(200).Client(), "ratelimit"); got != `"default";r=2;t=1` {
			t.Errorf("ratelimit: %q", got)
		}
		p.Advance(900 * time.Millisecond)
		do(200)
		do(200)
		if c := do(429).Client(); field(c, "retry-after") != "1" || field(c, "ratelimit") != `"default";r=0;t=1` {
			t.Errorf("%+v", c)
		}
		p.Advance(170 * time.Millisecond) // the first two have left, and the sixteenth that they were in
		do(200)
		do(200)
		do(429)
		p.Advance(1100 * time.Millisecond)
		do(200)
	})
}

// TestWasmConcurrency: so many at a time across VMs, and a place is free when its exchange is
// over, whatever the end.
func TestWasmConcurrency(t *testing.T) {
	o := plugintest.Options{Instances: 4, Config: `{"concurrency":5,"key":"global"}`}
	onCounters(t, o, func(t *testing.T, p *plugintest.Plugin) {
		open := admittedOf(p, 30)
		if len(open) != 5 {
			t.Fatalf("%d in flight, want 5", len(open))
		}
		s := p.Do(plugintest.Request{}, plugintest.Response{})
		if c := s.Client(); c.Status != 429 || field(c, "retry-after") != "1" || field(c, "ratelimit") != "" ||
			s.Reason() != "concurrency_limited" || s.Verdict("plugin") != "limited" {
			t.Errorf("%d, reason %q, verdict %q", c.Status, s.Reason(), s.Verdict("plugin"))
		}
		open[0].Respond(plugintest.Response{})
		open[0].Finish()
		open[1].Leave()
		open[1].Finish()
		open[2].Respond(plugintest.Response{More: true}) // its answer is still on its way
		if again := admittedOf(p, 10); len(again) != 2 {
			t.Errorf("%d in place of two that are over", len(again))
		}
		metric(t, p, allowed, 7)
		metric(t, p, crowded, 25+1+8)
	})
}

// TestWasmConcurrencyAndRate: what is refused for one takes nothing from the other.
func TestWasmConcurrencyAndRate(t *testing.T) {
	o := plugintest.Options{Config: `{"concurrency":1,"rate":"2/h","key":"global"}`}
	onCounters(t, o, func(t *testing.T, p *plugintest.Plugin) {
		for i, want := range []int{1, 1, 0} {
			open := admittedOf(p, 3)
			if len(open) != want {
				t.Errorf("round %d: %d in flight, want %d", i, len(open), want)
			}
			for _, s := range open {
				s.Respond(plugintest.Response{})
				s.Finish()
			}
		}
		metric(t, p, crowded, 4)
		metric(t, p, limited, 3)
	})
}

// TestWasmCost: the response says what it has cost, and a debt is paid before there is more.
func TestWasmCost(t *testing.T) {
	o := plugintest.Options{Config: `{"rate":"10/s","burst":20,"cost":"header:x-cost","key":"global"}`}
	onCounters(t, o, func(t *testing.T, p *plugintest.Plugin) {
		for i, step := range []struct {
			wait   time.Duration
			cost   string
			status int
			limit  string
		}{
			{0, "5", 200, `"default";r=15;t=1`},
			{0, "", 200, `"default";r=14;t=1`},
			{0, "not a number", 200, `"default";r=13;t=1`},
			{0, "0", 200, `"default";r=13;t=1`},
			{0, "33", 200, `"default";r=0;t=4`}, // 20 more than there were
			{1999 * time.Millisecond, "1", 429, `"default";r=0;t=3`},
			{0, "1", 429, `"default";r=0;t=3`},
			{101 * time.Millisecond, "1", 200, `"default";r=0;t=2`},
		} {
			p.Advance(step.wait)
			var resp plugintest.Response
			if step.cost != "" {
				resp.Fields = plugintest.Fields("x-cost", step.cost)
			}
			c := p.Do(plugintest.Request{}, resp).Client()
			if c.Status != step.status || field(c, "ratelimit") != step.limit {
				t.Errorf("step %d: %d, %q, want %d, %q", i, c.Status, field(c, "ratelimit"), step.status, step.limit)
			}
		}
	})
}

// TestWasmReportOfAll: in report mode nothing is refused and nothing waits.
func TestWasmReportOfAll(t *testing.T) {
	for _, config := range []string{
		`{"rate":"1/h","algorithm":"leaky-bucket","max_delay":"30m","key":"global","mode":"report"}`,
		`{"rate":"20/m","algorithm":"leaky-bucket","max_delay":"1m","key":"global","mode":"report"}`,
		`{"rate":"1/m","algorithm":"sliding-window","key":"global","mode":"report"}`,
		`{"concurrency":1,"key":"global","mode":"report"}`,
		`{"rate":"1/h","cost":"header:x","key":"global","mode":"report"}`,
	} {
		onCounters(t, plugintest.Options{Config: config}, func(t *testing.T, p *plugintest.Plugin) {
			open := admittedOf(p, 1)
			if strings.Contains(config, "cost") {
				open[0].Respond(plugintest.Response{})
			}
			if n := len(admittedOf(p, 2)); n != 2 {
				t.Errorf("%s: %d let through at once, want 2", config, n)
			}
			metric(t, p, reported, 2)
		})
	}
}

// TestWasmNeedsCounters: without the host's counters the plugin says what it cannot do.
func TestWasmNeedsCounters(t *testing.T) {
	for config, setting := range map[string]string{
		`{"rate":"1/s","algorithm":"leaky-bucket"}`: "algorithm", `{"rate":"1/s","algorithm":"sliding-window"}`: "algorithm",
		`{"concurrency":1}`: "concurrency", `{"rate":"1/s","cost":"header:x"}`: "cost",
	} {
		err := plugintest.Start(t, guest(t), plugintest.Options{Config: config, Grants: places["sharedData"].grants})
		var e *host.StartError
		if !errors.As(err, &e) || !strings.Contains(strings.Join(e.Log, "\n"), `setting "`+setting+`": needs a host with wproxy's counters`) {
			t.Errorf("%s: %v", config, err)
		}
	}
}
