package plugintest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

func drop(in wt.Instr) wt.Instr { return wt.Seq(in, wt.Drop()) }

// marker adds x-seen to requests and, with the configuration as its value, x-p to
// responses; it counts and logs.
func marker() []byte {
	m := wt.NewGuest()
	add := m.Env(abi.ImportAddHeaderMapValue, "iiiii>i")
	buffer := m.Env(abi.ImportGetBufferBytes, "iiiii>i")
	log := m.Env(abi.ImportLog, "iii>i")
	define := m.Env(abi.ImportDefineMetric, "iiii>i")
	increment := m.Env(abi.ImportIncrementMetric, "iI>i")
	ptr, size, metric := wt.I32(m.Slot(4)), wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	m.Func(abi.ExportOnConfigure, "ii>i",
		drop(wt.Call(define, wt.I32(0), m.Str("seen"), metric)),
		drop(wt.Call(log, wt.I32(2), m.Str("configured"))),
		wt.Local(1)) // an empty configuration is refused
	m.Headers("request",
		drop(wt.Call(add, wt.I32(0), m.Str("x-seen"), m.Str("yes"))),
		drop(wt.Call(increment, wt.Load32(metric), wt.I64(1))),
		wt.I32(0))
	m.Headers("response",
		drop(wt.Call(buffer, wt.I32(7), wt.I32(0), wt.I32(100), ptr, size)),
		drop(wt.Call(add, wt.I32(2), m.Str("x-p"), wt.Load32(ptr), wt.Load32(size))),
		wt.I32(0))
	return m.Bytes()
}

func TestExchange(t *testing.T) {
	plugintest.Run(t, marker(), plugintest.Options{Config: map[string]int{"a": 1}}, func(t *testing.T, p *plugintest.Plugin) {
		for range 3 { // the filter is used again
			s := p.Do(
				plugintest.Request{Method: "POST", Path: "/x?y", Body: []byte("in"), Trailers: plugintest.Fields("t", "1")},
				plugintest.Response{Status: 201, Body: []byte("out"), Fields: plugintest.Fields("set-cookie", "a", "set-cookie", "b")},
			)
			up, c := s.Upstream(), s.Client()
			if up.Path != "/x?y" || up.Get("x-seen") != "yes" || string(up.Body) != "in" || len(up.Trailers) != 1 || !up.Ended {
				t.Errorf("upstream has got %+v", up)
			}
			if c.Status != 201 || c.Get("x-p") != `{"a":1}` || len(c.All("set-cookie")) != 2 || string(c.Body) != "out" || c.Length != 3 || !c.Ended {
				t.Errorf("client has got %+v", c)
			}
		}
		if n, ok := p.Metric("seen"); !ok || n != 3 {
			t.Errorf("metric: got %d, %v, want 3", n, ok)
		}
		if !p.Logged("configured") {
			t.Errorf("logs: %+v", p.Logs())
		}
	})
}

func TestWithOtherSettings(t *testing.T) {
	plugintest.Run(t, marker(), plugintest.Options{Config: "one"}, func(t *testing.T, p *plugintest.Plugin) {
		q := p.With("other", "two")
		for _, c := range []struct {
			p    *plugintest.Plugin
			want string
		}{{p, "one"}, {q, "two"}, {p, "one"}} {
			if got := c.p.Do(plugintest.Request{}, plugintest.Response{}).Client().Get("x-p"); got != c.want {
				t.Errorf("configuration: got %q, want %q", got, c.want)
			}
		}
		s := plugintest.Chain{p, q}.Do(plugintest.Request{}, plugintest.Response{})
		if got := strings.Join(s.Client().All("x-p"), " "); got != "two one" {
			t.Errorf("chain: got %q, want %q", got, "two one")
		}
	})
}

// Two plugins in one exchange: the one behind pauses, the one in front does not
// see the rest of the request before it is resumed.
func TestChainOfPlugins(t *testing.T) {
	plugintest.Run(t, marker(), plugintest.Options{Config: "a"}, func(t *testing.T, p *plugintest.Plugin) {
		q := p.Load(pauser(), plugintest.Options{Name: "pauser"})
		s := plugintest.Chain{p, q}.Open(plugintest.Request{Body: []byte("x")})
		if s.Upstream().Method != "" || !s.Paused() {
			t.Fatalf("upstream has got %+v", s.Upstream())
		}
		p.Advance(time.Second)
		if up := s.Upstream(); up.Get("x-seen") != "yes" || string(up.Body) != "x" {
			t.Errorf("upstream has got %+v", up)
		}
		s.Respond(plugintest.Response{})
		if c := s.Client(); c.Get("x-p") != "a" {
			t.Errorf("client has got %+v", c)
		}
	})
}

func TestStart(t *testing.T) {
	var start *host.StartError
	if err := plugintest.Start(t, marker(), plugintest.Options{}); !errors.As(err, &start) || !strings.Contains(err.Error(), "configured") {
		t.Errorf("refused configuration: got %v, want a StartError with the plugin's log", err)
	}
	var load *host.LoadError
	if err := plugintest.Start(t, []byte("no wasm"), plugintest.Options{}); !errors.As(err, &load) {
		t.Errorf("no module: got %v, want a LoadError", err)
	}
	if err := plugintest.Start(t, marker(), plugintest.Options{Config: "x"}); err != nil {
		t.Errorf("good configuration: got %v", err)
	}
}

// pauser pauses each request and resumes the latest one at the next tick, a
// second later.
func pauser() []byte {
	m := wt.NewGuest()
	tick := m.Env(abi.ImportSetTickPeriod, "i>i")
	effective := m.Env(abi.ImportSetEffectiveContext, "i>i")
	resume := m.Env(abi.ImportContinueStream, "i>i")
	now := m.Env(abi.ImportGetCurrentTime, "i>i")
	log := m.Env(abi.ImportLog, "iii>i")
	paused := m.Global(0)
	at := wt.I32(m.Slot(8))
	m.Func(abi.ExportOnConfigure, "ii>i", drop(wt.Call(tick, wt.I32(1000))), wt.I32(1))
	m.Headers("request", wt.Set(paused, wt.Local(0)), drop(wt.Call(now, at)), wt.I32(1))
	m.Body("request", wt.I32(0))
	m.Func(abi.ExportOnTick, "i",
		wt.If(wt.Get(paused),
			drop(wt.Call(effective, wt.Get(paused))),
			wt.Set(paused, wt.I32(0)),
			drop(wt.Call(resume, wt.I32(0)))))
	m.Func(abi.ExportOnLog, "i", drop(wt.Call(log, wt.I32(2), m.Str("logged"))))
	return m.Bytes()
}

func TestTicksAndTime(t *testing.T) {
	plugintest.Run(t, pauser(), plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
		p.Advance(300 * time.Millisecond)
		s := p.Open(plugintest.Request{Method: "POST", Body: []byte("hello")})
		p.Advance(600 * time.Millisecond)
		if !s.Paused() || s.Upstream().Method != "" {
			t.Fatalf("before the tick the upstream has got %+v", s.Upstream())
		}
		p.Advance(100 * time.Millisecond)
		if up := s.Upstream(); string(up.Body) != "hello" || !up.Ended {
			t.Fatalf("after the tick the upstream has got %+v", up)
		}
		s.Respond(plugintest.Response{})
		if p.Logged("logged") {
			t.Error("on_log before the end")
		}
		s.Finish()
		if !p.Logged("logged") {
			t.Error("no on_log")
		}
		// One that nobody resumes: the client leaves, then the limit.
		gone := p.Open(plugintest.Request{})
		gone.Leave()
		if gone.Paused() {
			t.Error("still paused after the client has left")
		}
		gone.Finish()
		p.Advance(3 * time.Second) // the tick finds a stream that is no more
	})
}

func TestPauseLimit(t *testing.T) {
	o := plugintest.Options{Pause: 500 * time.Millisecond}
	plugintest.Run(t, pauser(), o, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Open(plugintest.Request{})
		p.Advance(510 * time.Millisecond)
		if c := s.Client(); c.Status != 504 || s.Reason() != "plugin_timeout:plugin" {
			t.Errorf("client has got %+v, reason %q", c, s.Reason())
		}
	})
}

// trapper traps in on_response_headers, replies to requests with trailers.
func trapper() []byte {
	m := wt.NewGuest()
	reply := m.Env(abi.ImportSendLocalResponse, "iiiiiiii>i")
	m.Headers("response", wt.Unreachable())
	m.Trailers("request",
		drop(wt.Call(reply, wt.I32(418), m.Str("no trailers"), m.Str("short and stout"), wt.I32(0), wt.I32(0), wt.I32(-1))),
		wt.I32(1))
	return m.Bytes()
}

func TestTrap(t *testing.T) {
	for onError, want := range map[wasmfilter.OnError]int{wasmfilter.OnErrorClose: 503, wasmfilter.OnErrorOpen: 200} {
		plugintest.Run(t, trapper(), plugintest.Options{OnError: onError}, func(t *testing.T, p *plugintest.Plugin) {
			for i := range 3 {
				s := p.Do(plugintest.Request{}, plugintest.Response{Body: []byte("x")})
				if c := s.Client(); c.Status != want || !c.Ended {
					t.Errorf("OnError %d, exchange %d: client has got %+v", onError, i, c)
				}
				p.Advance(time.Minute) // the VM is replaced
			}
			if p.Stats().Traps[host.CauseTrap] != 3 {
				t.Errorf("traps: got %v, want 3", p.Stats().Traps)
			}
		})
	}
}

func TestReply(t *testing.T) {
	// The reply goes through the guest's own response callbacks, and they trap.
	o := plugintest.Options{OnError: wasmfilter.OnErrorOpen}
	plugintest.Run(t, trapper(), o, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Do(plugintest.Request{Method: "POST", Body: []byte("x"), Trailers: plugintest.Fields("a", "b")}, plugintest.Response{})
		if c := s.Client(); c.Status != 418 || string(c.Body) != "short and stout" || s.Reason() != "no_trailers" {
			t.Errorf("client has got %+v, reason %q", c, s.Reason())
		}
	})
}
