package plugintest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"

	wt "wproxy/host/wasmtest"
)

// asker asks the upstream "auth" about each request, as often as n, and lets the request
// pass when a 200 comes; any other answer is the client's.
func asker(n int) []byte {
	m := wt.NewGuest()
	httpCall := m.Env(abi.ImportHTTPCall, "iiiiiiiiii>i")
	effective := m.Env(abi.ImportSetEffectiveContext, "i>i")
	resume := m.Env(abi.ImportContinueStream, "i>i")
	reply := m.Env(abi.ImportSendLocalResponse, "iiiiiiii>i")
	value := m.Env(abi.ImportGetHeaderMapValue, "iiiii>i")
	body := m.Env(abi.ImportGetBufferBytes, "iiiii>i")
	id, ptr := m.Slot(4), m.Slot(8)
	asker, size := m.Slot(256), wt.I32(ptr+4)
	head := abi.AppendPairs(nil, plugintest.Fields(":method", "GET", ":path", "/check?u=1", ":authority", "auth.test", "x-a", "1"))
	var ask []wt.Instr
	for range n {
		ask = append(ask,
			drop(wt.Call(httpCall, m.Str("auth"), m.Str(string(head)), m.Str("who?"), m.Str(""), wt.I32(500), wt.I32(id))),
			wt.Store32(wt.Add(wt.I32(asker), wt.Load32(wt.I32(id))), wt.Local(0)))
	}
	m.Headers("request", append(ask, wt.I32(1))...)
	m.Func(abi.ExportOnHTTPCallResponse, "iiiii",
		drop(wt.Call(effective, wt.Load32(wt.Add(wt.I32(asker), wt.Local(1))))),
		drop(wt.Call(value, wt.I32(6), m.Str(":status"), wt.I32(ptr), size)),
		wt.If(wt.Eq(wt.Local(2), wt.I32(0)),
			drop(wt.Call(reply, wt.I32(502), m.Str("reset"), m.Str(""), m.Str(""), wt.I32(-1))), wt.Return()),
		wt.If(wt.Eq(wt.Load8(wt.Load32(wt.I32(ptr))), wt.I32('2')), drop(wt.Call(resume, wt.I32(0))), wt.Return()),
		drop(wt.Call(body, wt.I32(4), wt.I32(0), wt.I32(1<<20), wt.I32(ptr), size)),
		drop(wt.Call(reply, wt.I32(403), m.Str("asked"), wt.Load32(wt.I32(ptr)), wt.Load32(size), m.Str(""), wt.I32(-1))))
	return m.Bytes()
}

var mayAsk = plugintest.Options{Grants: []string{"log", "call:auth"}}

func TestCallouts(t *testing.T) {
	plugintest.Run(t, asker(1), mayAsk, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Open(plugintest.Request{Method: "POST", Body: []byte("the body")})
		calls := p.Callouts()
		if len(calls) != 1 || !s.Paused() || s.Upstream().Method != "" {
			t.Fatalf("%d calls, upstream %+v", len(calls), s.Upstream())
		}
		c := calls[0]
		r := c.Request
		if c.Upstream != "auth" || c.Timeout != 500*time.Millisecond || r.Method != "GET" || r.Path != "/check?u=1" ||
			r.Authority != "auth.test" || r.Get("x-a") != "1" || string(r.Body) != "who?" {
			t.Errorf("call %+v", c)
		}
		c.Answer(plugintest.Response{})
		if up := s.Upstream(); string(up.Body) != "the body" || !up.Ended || len(p.Callouts()) != 0 {
			t.Errorf("after the answer: upstream %+v", up)
		}
		c.Answer(plugintest.Response{Status: 500}) // no second one
		s.Respond(plugintest.Response{Body: []byte("ok")})
		s.Finish()
		if got := s.Client(); got.Status != 200 || string(got.Body) != "ok" {
			t.Errorf("client %+v", got)
		}
	})
}

func TestCalloutsFail(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(p *plugintest.Plugin, c *plugintest.Callout)
		status int
		body   string
	}{
		{"denied", func(_ *plugintest.Plugin, c *plugintest.Callout) {
			c.Answer(plugintest.Response{Status: 401, Body: []byte("no")})
		}, 403, "no"},
		{"unavailable", func(_ *plugintest.Plugin, c *plugintest.Callout) { c.Fail(host.CallUnavailable, "upstream_refused") }, 403, "upstream_refused"},
		{"timeout", func(_ *plugintest.Plugin, c *plugintest.Callout) { c.Fail(host.CallTimeout, "timeout") }, 403, "request timeout"},
		{"its own timeout", func(p *plugintest.Plugin, _ *plugintest.Callout) { p.Advance(500 * time.Millisecond) }, 403, "request timeout"},
		{"reset", func(_ *plugintest.Plugin, c *plugintest.Callout) { c.Fail(host.CallReset, "reset") }, 502, ""},
		{"too large", func(_ *plugintest.Plugin, c *plugintest.Callout) {
			c.Answer(plugintest.Response{Body: make([]byte, 1<<20+1)})
		}, 502, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plugintest.Run(t, asker(1), mayAsk, func(t *testing.T, p *plugintest.Plugin) {
				s := p.Open(plugintest.Request{})
				tt.do(p, p.Callouts()[0])
				if got := s.Client(); got.Status != tt.status || !strings.Contains(string(got.Body), tt.body) {
					t.Errorf("client %+v, want %d %q", got, tt.status, tt.body)
				}
				if s.Upstream().Method != "" {
					t.Error("the request was passed on")
				}
				s.Finish()
			})
		})
	}
}

// Several calls of several streams are answered in any order, each stream by its own;
// a stream that has gone is no reason not to answer.
func TestManyCallouts(t *testing.T) {
	plugintest.Run(t, asker(3), mayAsk, func(t *testing.T, p *plugintest.Plugin) {
		var streams []*plugintest.Stream
		for range 3 {
			streams = append(streams, p.Open(plugintest.Request{}))
		}
		calls := p.Callouts()
		if len(calls) != 9 {
			t.Fatalf("%d calls", len(calls))
		}
		streams[0].Leave()
		streams[0].Finish()
		calls[8].Answer(plugintest.Response{}) // of the last stream
		if streams[2].Upstream().Method == "" || streams[1].Upstream().Method != "" {
			t.Error("an answer went to the wrong stream")
		}
		for i, c := range slices.Backward(calls[:8]) {
			status := 200
			if i == 5 { // the first answer of the second stream
				status = 403
			}
			c.Answer(plugintest.Response{Status: status})
		}
		if streams[1].Client().Status != 403 || streams[1].Upstream().Method != "" {
			t.Errorf("the second stream: %+v", streams[1].Client())
		}
		if len(p.Callouts()) != 0 || p.Stats().Traps != nil && len(p.Stats().Traps) > 0 {
			t.Errorf("%d calls are left, traps %v", len(p.Callouts()), p.Stats().Traps)
		}
	})
}

// Without the grant there is no call, and the end of the plugin ends what is left.
func TestCalloutsNeedGrant(t *testing.T) {
	plugintest.Run(t, asker(1), plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
		p.Open(plugintest.Request{})
		if len(p.Callouts()) != 0 || !p.Logged("without being granted") {
			t.Errorf("%d calls, logs %v", len(p.Callouts()), p.Logs())
		}
	})
	plugintest.Run(t, asker(1), mayAsk, func(t *testing.T, p *plugintest.Plugin) {
		p.Open(plugintest.Request{})
		if len(p.Callouts()) != 1 {
			t.Error("no call")
		}
	})
}

// Calls that are made when a body is there, or the answer of the upstream: what is held
// back can be read and changed from the callback for the answer.
func TestCalloutsOnBodyAndResponse(t *testing.T) {
	m := wt.NewGuest()
	httpCall := m.Env(abi.ImportHTTPCall, "iiiiiiiiii>i")
	effective := m.Env(abi.ImportSetEffectiveContext, "i>i")
	resume := m.Env(abi.ImportContinueStream, "i>i")
	add := m.Env(abi.ImportAddHeaderMapValue, "iiiii>i")
	get := m.Env(abi.ImportGetBufferBytes, "iiiii>i")
	set := m.Env(abi.ImportSetBufferBytes, "iiiii>i")
	log := m.Env(abi.ImportLog, "iii>i")
	id, ptr := m.Slot(4), m.Slot(8)
	side := m.Global(0) // whose answer is awaited
	head := m.Str(string(abi.AppendPairs(nil, plugintest.Fields(":method", "GET", ":path", "/", ":authority", "a"))))
	ask := wt.Seq(drop(wt.Call(httpCall, m.Str("auth"), head, m.Str(""), m.Str(""), wt.I32(0), wt.I32(id))))
	m.Body("request", wt.If(wt.Local(2), ask), wt.I32(1))
	m.Headers("response", wt.Set(side, wt.I32(1)), ask, wt.I32(1))
	m.Func(abi.ExportOnHTTPCallResponse, "iiiii",
		drop(wt.Call(effective, wt.I32(2))),
		drop(wt.Call(get, wt.Get(side), wt.I32(0), wt.I32(1000), wt.I32(ptr), wt.I32(ptr+4))),
		drop(wt.Call(log, wt.I32(2), wt.Load32(wt.I32(ptr)), wt.Load32(wt.I32(ptr+4)))),
		wt.IfElse(wt.Get(side),
			drop(wt.Call(add, wt.I32(2), m.Str("x-asked"), m.Str("yes"))),
			drop(wt.Call(set, wt.I32(0), wt.I32(0), wt.I32(0x7fffffff), m.Str("a new body")))),
		drop(wt.Call(resume, wt.Get(side))))
	plugintest.Run(t, m.Bytes(), mayAsk, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Open(plugintest.Request{Method: "POST", Body: []byte("one "), More: true})
		if len(p.Callouts()) != 0 {
			t.Error("a call before the body was whole")
		}
		s.Send([]byte("two"), true)
		if !s.Paused() {
			t.Error("not paused")
		}
		p.Callouts()[0].Answer(plugintest.Response{})
		if !p.Logged("one two") || string(s.Upstream().Body) != "a new body" || !s.Upstream().Ended {
			t.Errorf("logs %v, upstream %+v", p.Logs(), s.Upstream())
		}
		s.Respond(plugintest.Response{Body: []byte("the answer")})
		if s.Client().Status != 0 {
			t.Errorf("the client has got %+v", s.Client())
		}
		p.Callouts()[0].Answer(plugintest.Response{})
		if c := s.Client(); c.Get("x-asked") != "yes" || string(c.Body) != "the answer" || !c.Ended {
			t.Errorf("the client has got %+v", c)
		}
		s.Finish()
	})
}
