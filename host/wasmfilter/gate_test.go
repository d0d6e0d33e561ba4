package wasmfilter_test

import (
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

// gateInterval is how long gateGuest's bucket takes for a token; it holds three.
const gateInterval = 100 * time.Millisecond

// gateGuest has a gate with one bucket, takes from the same when it is called, traps if that is
// empty, and says on the answer that it was called. It has a standing edit besides. Who says x-free is
// exempt.
func gateGuest() []byte {
	g := abi.GateRecord{
		Interval: gateInterval.Nanoseconds(), Burst: 3, Cost: 1, Metric: 1, Key: []abi.GatePart{{Text: "key"}},
		Fields: []abi.GateField{
			{Name: "x-policy", Value: []abi.GatePart{{Text: "three"}}},
			{Name: "x-left", Value: []abi.GatePart{{Text: "left "}, {Kind: abi.GateRemaining}, {Text: ", full in "}, {Kind: abi.GateFull}}},
		},
		Exempt: []abi.GatePart{{Kind: abi.GateHas, Text: "x-free"}, abi.GateEqual("host", "free.example")}, ExemptMetric: 2,
	}
	m := wt.NewGuest()
	foreign := m.Env(abi.ImportCallForeignFunction, "iiiiii>i")
	define := m.Env(abi.ImportDefineMetric, "iiii>i")
	add := m.Env(abi.ImportAddHeaderMapValue, "iiiii>i")
	out, size := wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	args := string(abi.AppendGate(nil, &g))
	standing := string(abi.AppendStandingEdits(nil, abi.EditsAlways, []abi.FieldEdit{{Name: "x-standing", Value: "set"}}))
	record := append(abi.NewTakeRecord(g.Interval, g.Burst, g.Cost), "key"...)
	at := m.Data(record)
	m.Func("proxy_on_configure", "ii>i",
		wt.Call(define, wt.I32(0), m.Str("admitted"), out), wt.Drop(),
		wt.Call(define, wt.I32(0), m.Str("exempt"), out), wt.Drop(),
		wt.Call(foreign, m.Str(abi.ForeignGate), m.Str(args), out, size), wt.Drop(),
		wt.Call(foreign, m.Str(abi.ForeignStandingEdits), m.Str(standing), out, size), wt.Drop(), wt.I32(1))
	m.Headers("request",
		wt.Call(foreign, m.Str(abi.ForeignTakeCounter), wt.I32(at), wt.I32(int32(len(record))), out, size), wt.Drop(),
		wt.If(wt.Eq(wt.And(wt.Load32(wt.I32(at+4)), wt.I32(1)), wt.I32(0)), wt.Unreachable()),
		wt.I32(0))
	m.Headers("response", wt.Call(add, wt.I32(2), m.Str("x-guest"), m.Str("was here")), wt.Drop(), wt.I32(0))
	return m.Bytes()
}

var gateOptions = plugintest.Options{Grants: []string{host.GrantCounters, host.GrantMetrics}}

// line returns the values of a field, joined.
func line(r plugintest.Response, name string) string {
	var v []string
	for _, f := range r.Fields {
		if f.Name == name {
			v = append(v, f.Value)
		}
	}
	return strings.Join(v, " | ")
}

func TestGate(t *testing.T) {
	plugintest.Run(t, gateGuest(), gateOptions, func(t *testing.T, p *plugintest.Plugin) {
		post := plugintest.Request{Method: "POST", Body: []byte("question"), Trailers: plugintest.Fields("a", "b")}
		up := plugintest.Response{Body: []byte("answer"), Fields: plugintest.Fields("x-left", "others"), Trailers: plugintest.Fields("c", "d")}
		for i, want := range []struct{ guest, left, policy string }{
			{"was here", "others", ""}, // there is no bucket yet
			{"", "others | left 1, full in 1", "three"},
			{"", "others | left 0, full in 1", "three"},
		} {
			s := p.Do(post, up)
			c := s.Client()
			if c.Status != 200 || line(c, "x-guest") != want.guest || line(c, "x-left") != want.left || line(c, "x-policy") != want.policy || line(c, "x-standing") != "set" {
				t.Errorf("request %d: got %d %v, want %+v", i, c.Status, c.Fields, want)
			}
			if u := s.Upstream(); string(u.Body) != "question" || len(u.Trailers) != 1 || string(c.Body) != "answer" || len(c.Trailers) != 1 {
				t.Errorf("request %d: a message has not come whole: %+v, %+v", i, u, c)
			}
		}
		if n, _ := p.Metric("admitted"); n != 2 {
			t.Errorf("counted %d, want 2", n)
		}
		if n := p.Stats().Work[host.CallRequestHeaders].Calls; n != 1 {
			t.Errorf("the guest was called %d times, want 1", n)
		}
	})
}

// TestGateExempt: who is exempt goes on, whatever is left, and gets no lines but the standing ones. What
// plugins in front of the gate have made of a head is what it looks at.
func TestGateExempt(t *testing.T) {
	plugintest.Run(t, gateGuest(), gateOptions, func(t *testing.T, p *plugintest.Plugin) {
		free := plugintest.Request{Fields: plugintest.Fields("x-free", "")}
		up := plugintest.Response{Fields: plugintest.Fields("x-left", "others")}
		for i, req := range []plugintest.Request{free, {Authority: "free.example"}, free, free, free} {
			c := p.Do(req, up).Client()
			if c.Status != 200 || line(c, "x-guest") != "" || line(c, "x-left") != "others" || line(c, "x-policy") != "" || line(c, "x-standing") != "set" {
				t.Errorf("request %d: got %d %v", i, c.Status, c.Fields)
			}
		}
		m := wt.NewGuest()
		remove := m.Env(abi.ImportRemoveHeaderMapValue, "iii>i")
		m.Headers("request", wt.Call(remove, wt.I32(0), m.Str("x-free")), wt.Drop(), wt.I32(0))
		not := p.Load(m.Bytes(), plugintest.Options{Name: "not"})
		m = wt.NewGuest()
		add := m.Env(abi.ImportAddHeaderMapValue, "iiiii>i")
		m.Headers("request", wt.Call(add, wt.I32(0), m.Str("x-free"), m.Str("1")), wt.Drop(), wt.I32(0))
		made := p.Load(m.Bytes(), plugintest.Options{Name: "made"})
		if c := (plugintest.Chain{not, p}).Do(free, up).Client(); line(c, "x-guest") != "was here" { // there is no bucket yet
			t.Errorf("no more exempt: got %d %v", c.Status, c.Fields)
		}
		if c := (plugintest.Chain{made, p}).Do(plugintest.Request{}, up).Client(); c.Status != 200 || line(c, "x-left") != "others" {
			t.Errorf("made exempt: got %d %v", c.Status, c.Fields)
		}
		if c := p.Do(plugintest.Request{}, up).Client(); line(c, "x-left") != "others | left 1, full in 1" {
			t.Errorf("somebody else: got %d %v", c.Status, c.Fields)
		}
		for name, want := range map[string]int64{"admitted": 1, "exempt": 6} {
			if n, _ := p.Metric(name); n != want {
				t.Errorf("%s: counted %d, want %d", name, n, want)
			}
		}
	})
}

// TestGateHead: a gate sees what a guest would, as TestMapRead has it.
func TestGateHead(t *testing.T) {
	r := exchange.Request{Method: "GET", Scheme: "https", Target: "/a?b=c", Authority: "example.com"}
	for _, f := range [][2]string{{"cookie", "a"}, {"x-a", "1"}, {"cookie", "b"}, {"x-empty", ""}} {
		r.Fields.Add(f[0], f[1])
	}
	h := wasmfilter.GateHead(&r)
	for name, want := range map[string]string{
		":path": "/a?b=c", ":authority": "example.com", "host": "example.com", ":method": "GET", ":scheme": "https", "cookie": "a", "x-a": "1", "x-empty": "",
	} {
		if got, ok := h.Get(name); !ok || got != want {
			t.Errorf("Get(%q): got %q, %v, want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{":status", ":x", "x-b"} {
		if got, ok := h.Get(name); ok {
			t.Errorf("Get(%q): got %q, want none", name, got)
		}
	}
}

// TestGateAnswers: an answer of another plugin gets the lines, as it does from the callback.
func TestGateAnswers(t *testing.T) {
	plugintest.Run(t, gateGuest(), gateOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(plugintest.Request{}, plugintest.Response{})
		m := wt.NewGuest()
		reply := m.Env(abi.ImportSendLocalResponse, "iiiiiiii>i")
		m.Headers("request", wt.Call(reply, wt.I32(403), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(0), wt.I32(-1)), wt.Drop(), wt.I32(1))
		q := p.Load(m.Bytes(), plugintest.Options{Name: "reply"})
		s := plugintest.Chain{p, q}.Do(plugintest.Request{}, plugintest.Response{})
		if c := s.Client(); c.Status != 403 || line(c, "x-left") != "left 1, full in 1" {
			t.Errorf("behind the gate: got %d %v", c.Status, c.Fields)
		}
		s = plugintest.Chain{q, p}.Do(plugintest.Request{}, plugintest.Response{})
		if c := s.Client(); c.Status != 403 || line(c, "x-left") != "" {
			t.Errorf("before it: got %d %v", c.Status, c.Fields)
		}
	})
}

// TestGateTooLarge: an answer that has no room for the lines is given up, as if a guest had added
// them, and the filter is as new for the next exchange.
func TestGateTooLarge(t *testing.T) {
	plugintest.Run(t, gateGuest(), gateOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(plugintest.Request{}, plugintest.Response{})
		huge := plugintest.Response{Fields: plugintest.Fields("x", strings.Repeat("x", wasmfilter.MaxHeadBytes-20))}
		s := p.Do(plugintest.Request{}, huge)
		if c := s.Client(); c.Status != 502 || s.Reason() != "response_headers_too_large:plugin" {
			t.Errorf("got %d, reason %q", c.Status, s.Reason())
		}
		p.Advance(time.Second)
		for range 2 {
			s := p.Do(plugintest.Request{}, plugintest.Response{})
			if c := s.Client(); c.Status != 200 || line(c, "x-policy") != "three" {
				t.Errorf("the next: got %d %v", c.Status, c.Fields)
			}
		}
	})
}

// TestGateDead: a gate is shut while its plugin has no VM, and on_error says what becomes of the
// request as if there were no gate. With a VM again it opens.
func TestGateDead(t *testing.T) {
	for onError, want := range map[wasmfilter.OnError]int{wasmfilter.OnErrorClose: 503, wasmfilter.OnErrorOpen: 200} {
		o := gateOptions
		o.OnError = onError
		plugintest.Run(t, gateGuest(), o, func(t *testing.T, p *plugintest.Plugin) {
			do := func() plugintest.Response { return p.Do(plugintest.Request{}, plugintest.Response{}).Client() }
			for range 3 {
				if c := do(); c.Status != 200 {
					t.Fatalf("got %d", c.Status)
				}
			}
			for i := 0; p.Stats().Instances > 0; i++ { // it is empty: each of these traps
				if c := do(); c.Status != want || line(c, "x-left") != "" {
					t.Fatalf("a trap: got %d %v, want %d", c.Status, c.Fields, want)
				}
				p.Advance(time.Millisecond) // the VM is replaced, but for the last
				if i > 20 {
					t.Fatal("the VM comes back and back")
				}
			}
			p.Advance(3 * gateInterval)
			if c := do(); c.Status != want || line(c, "x-left") != "" || p.Stats().Instances > 0 {
				t.Errorf("without a VM: got %d %v, want %d", c.Status, c.Fields, want)
			}
			p.Advance(time.Minute)
			if c := do(); c.Status != 200 || line(c, "x-left") != "left 2, full in 1" {
				t.Errorf("with a VM again: got %d %v", c.Status, c.Fields)
			}
		})
	}
}

// TestGateInformational: a 1xx is not the answer, and a client that leaves is no trouble.
func TestGateInformational(t *testing.T) {
	plugintest.Run(t, gateGuest(), gateOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(plugintest.Request{}, plugintest.Response{})
		s := p.Open(plugintest.Request{})
		s.RespondInformational(103, "link", "</style.css>")
		s.Respond(plugintest.Response{})
		if c := s.Client(); c.Status != 200 || line(c, "x-left") != "left 1, full in 1" || len(s.Informational()) != 1 {
			t.Errorf("got %d %v after %v", c.Status, c.Fields, s.Informational())
		}
		s.Finish()
		s = p.Open(plugintest.Request{Method: "POST", Body: []byte("x")})
		s.Leave()
		s.Finish()
		p.Advance(time.Second)
		if c := p.Do(plugintest.Request{}, plugintest.Response{}).Client(); line(c, "x-left") != "left 2, full in 1" {
			t.Errorf("after a client that has left: got %d %v", c.Status, c.Fields)
		}
	})
}
