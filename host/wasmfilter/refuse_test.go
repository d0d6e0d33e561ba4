package wasmfilter_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

// refusingGate has a bucket of one token, which comes in ten seconds, for each value of x-key. Who has it
// holds one of two places; x-free is for nothing.
func refusingGate() abi.GateRecord {
	return abi.GateRecord{
		Interval: 10e9, Burst: 1, Cost: 1, Places: 2, PlacesKey: "p", Key: []abi.GatePart{{Kind: abi.GateHeader, Text: "x-key"}},
		Fields: []abi.GateField{{Name: "x-left", Value: []abi.GatePart{{Kind: abi.GateRemaining}}}},
		Refusals: []abi.GateRefusal{
			{Why: abi.GateLimited, Status: 429, Metric: 1, Details: "too_fast", Verdict: "limited", Body: "slow down\n", Fields: []abi.GateField{
				{Name: "retry-after", Value: []abi.GatePart{{Kind: abi.GateRetry, Bits: 2}}},
				{Name: "x-full", Value: []abi.GatePart{{Text: "in "}, {Kind: abi.GateFull}}},
			}},
			{Why: abi.GateCrowded, Status: 503, Metric: 1, Details: "too_many", Verdict: "crowded"},
			{Why: abi.GateKeyless, Metric: 2, Verdict: "keyless"},
		},
	}
}

// refusingGuest has that gate and its table, a standing edit of answers, and traps if it is called.
func refusingGuest(g abi.GateRecord) []byte { return refusalGuest(g, true) }

// refusalGuest is a refusingGuest that traps, or lets all by that it sees. It has an order for what is stored, too.
func refusalGuest(g abi.GateRecord, traps bool) []byte {
	m := wt.NewGuest()
	foreign := m.Env(abi.ImportCallForeignFunction, "iiiiii>i")
	define := m.Env(abi.ImportDefineMetric, "iiii>i")
	out, size := wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	take := m.Data(abi.NewTakeRecord(g.Interval, g.Burst, g.Cost))
	standing := string(abi.AppendStandingEdits(nil, abi.EditsAlways, []abi.FieldEdit{{Name: "x-standing", Value: "set"}}))
	m.Func("proxy_on_configure", "ii>i",
		wt.Call(define, wt.I32(0), m.Str("refused"), out), wt.Drop(),
		wt.Call(define, wt.I32(0), m.Str("keyless"), out), wt.Drop(),
		wt.Call(foreign, m.Str(abi.ForeignGate), m.Str(string(abi.AppendGate(nil, &g))), out, size), wt.Drop(),
		wt.Call(foreign, m.Str(abi.ForeignStandingEdits), m.Str(standing), out, size), wt.Drop(),
		wt.Call(foreign, m.Str(abi.ForeignObjectStanding), m.Str(string((&abi.ObjectStanding{AgeField: "age"}).Append(nil))), out, size), wt.Drop(),
		wt.Call(foreign, m.Str(abi.ForeignTakeCounter), wt.I32(take), wt.I32(abi.TakeRecordSize), out, size), wt.Drop(), wt.I32(1))
	seen := wt.I32(0)
	if traps {
		seen = wt.Unreachable()
	}
	m.Headers("request", seen)
	m.Headers("response", seen)
	return m.Bytes()
}

func keyed(key string, more ...string) plugintest.Request {
	return plugintest.Request{Fields: plugintest.Fields(append([]string{"x-key", key}, more...)...)}
}

// allLines returns the fields of an answer in order.
func allLines(r plugintest.Response) string {
	var b strings.Builder
	for _, f := range r.Fields {
		b.WriteString(f.Name + ": " + f.Value + "\n")
	}
	return b.String()
}

const refusedLines = "retry-after: 10\nx-full: in 10\ncontent-length: 10\ncontent-type: text/plain\nx-standing: set\n"

func TestRefuse(t *testing.T) {
	plugintest.Run(t, refusingGuest(refusingGate()), gateOptions, func(t *testing.T, p *plugintest.Plugin) {
		if c := p.Do(keyed("a"), plugintest.Response{}).Client(); c.Status != 200 || allLines(c) != "x-standing: set\nx-left: 0\n" {
			t.Fatalf("let through: got %+v", c)
		}
		post := keyed("a")
		post.Method, post.Body, post.Trailers = "POST", []byte("question"), plugintest.Fields("t", "1")
		head, grpc := keyed("a"), keyed("a", "content-type", "application/grpc")
		head.Method, grpc.Method, grpc.Body = "HEAD", "POST", []byte("12345")
		for name, tt := range map[string]struct {
			q      plugintest.Request
			status int
			body   string
			lines  string
		}{
			"GET":  {keyed("a"), 429, "slow down\n", refusedLines},
			"POST": {post, 429, "slow down\n", refusedLines},
			"HEAD": {head, 429, "", refusedLines},
			"gRPC": {grpc, 200, "", "content-type: application/grpc\ngrpc-status: 14\ngrpc-message: slow down%0A\nretry-after: 10\nx-full: in 10\nx-standing: set\n"},
		} {
			s := p.Do(tt.q, plugintest.Response{})
			if c := s.Client(); c.Status != tt.status || string(c.Body) != tt.body || !c.Ended || allLines(c) != tt.lines {
				t.Errorf("%s: got %+v, %q\n%s", name, c, c.Body, allLines(c))
			}
			if s.Upstream().Method != "" || s.Reason() != "too_fast" || s.Verdict("plugin") != "limited" || s.Aborted() != "" {
				t.Errorf("%s: upstream %+v, reason %q, verdict %q, reset %q", name, s.Upstream(), s.Reason(), s.Verdict("plugin"), s.Aborted())
			}
		}
		p.Advance(9 * time.Second) // the least number of seconds is two
		if c := p.Do(keyed("a"), plugintest.Response{}).Client(); c.Get("retry-after") != "2" || c.Get("x-full") != "in 1" {
			t.Errorf("nine seconds later: %+v", c)
		}
		s := p.Do(plugintest.Request{Body: []byte("x")}, plugintest.Response{Body: []byte("y")})
		if c := s.Client(); c.Status != 200 || allLines(c) != "content-length: 1\nx-standing: set\n" || s.Verdict("plugin") != "keyless" || string(s.Upstream().Body) != "x" {
			t.Errorf("without a key: got %+v, verdict %q", c, s.Verdict("plugin"))
		}
		for name, want := range map[string]int64{"refused": 5, "keyless": 1} {
			if n, _ := p.Metric(name); n != want {
				t.Errorf("%s: counted %d, want %d", name, n, want)
			}
		}
		if n := p.Stats().Work[host.CallRequestHeaders].Calls; n != 0 {
			t.Errorf("the guest was called %d times", n)
		}
	})
}

// TestRefuseWhileBodyComes: a body that is on its way goes nowhere, and is no trouble.
func TestRefuseWhileBodyComes(t *testing.T) {
	plugintest.Run(t, refusingGuest(refusingGate()), gateOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(keyed("a"), plugintest.Response{})
		q := keyed("a")
		q.Method, q.More = "POST", true
		for range 3 { // the filter is as new each time
			s := p.Open(q)
			if c := s.Client(); c.Status != 429 || !c.Ended || string(c.Body) != "slow down\n" {
				t.Errorf("got %+v", c)
			}
			s.Send([]byte("some"), false)
			s.Send(nil, false)
			s.SendTrailers("a", "b")
			if s.Upstream().Method != "" || s.Paused() || s.Aborted() != "" {
				t.Errorf("upstream %+v, paused %t, reset %q", s.Upstream(), s.Paused(), s.Aborted())
			}
			s.Finish()
			p.Advance(10 * time.Second)
			if c := p.Do(keyed("a"), plugintest.Response{}).Client(); c.Status != 200 {
				t.Errorf("then: %+v", c)
			}
		}
	})
}

// TestRefusePlaces: who is refused for want of tokens has a place until the exchange ends, as with the guest; who is
// refused for want of a place has none.
func TestRefusePlaces(t *testing.T) {
	plugintest.Run(t, refusingGuest(refusingGate()), gateOptions, func(t *testing.T, p *plugintest.Plugin) {
		first, second := p.Open(keyed("a")), p.Open(keyed("a"))
		third := p.Open(keyed("a"))
		if a, b, c := first.Client(), second.Client(), third.Client(); a.Status != 0 || b.Status != 429 || c.Status != 503 || allLines(c) != "x-standing: set\n" {
			t.Errorf("got %+v, %+v, %+v", a, b, c)
		}
		third.Finish()
		if third.Verdict("plugin") != "crowded" || third.Reason() != "too_many" {
			t.Errorf("verdict %q, reason %q", third.Verdict("plugin"), third.Reason())
		}
		second.Finish()
		if s := p.Do(keyed("a"), plugintest.Response{}); s.Client().Status != 429 {
			t.Errorf("with a place: got %+v", s.Client())
		}
		first.Respond(plugintest.Response{})
		first.Finish()
		a, b := p.Open(keyed("a")), p.Open(keyed("a"))
		if a.Client().Status != 429 || b.Client().Status != 429 {
			t.Errorf("with two places: got %+v, %+v", a.Client(), b.Client())
		}
		a.Finish()
		b.Finish()
	})
}

// gateFactory returns a factory with a gate, for chains with scripts.
func gateFactory(t *testing.T, g abi.GateRecord) *wasmfilter.Factory {
	t.Helper()
	f, _ := storingGate(t, refusingGuest(g))
	return f
}

// storingGate returns it for a guest, with what may be stored.
func storingGate(t *testing.T, guest []byte) (*wasmfilter.Factory, *objects.Space) {
	t.Helper()
	h, err := host.NewHost(host.HostOptions{CacheDir: plugintest.CacheDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	p, err := h.Load(t.Context(), guest, host.PluginOptions{Name: "p", Instances: 1, Grants: append([]string{host.GrantObjects}, gateOptions.Grants...)})
	if err != nil {
		t.Fatal(err)
	}
	root, err := p.NewRoot(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	store := objects.New(objects.Options{})
	return wasmfilter.New(root, wasmfilter.Options{Objects: store}), store.Space(p.VMID())
}

// chain opens an exchange of key "a" through these.
func chain(t *testing.T, factories ...filter.Factory) *plugintest.Stream {
	t.Helper()
	return plugintest.OpenFilters(t, factories, &filter.Route{Name: "r"}, time.Minute, keyed("a"))
}

// TestRefuseInChain: those in front see the refusal, and may edit it; those behind see nothing of the exchange, but
// for one that is told of every end, which sees its status.
func TestRefuseInChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := gateFactory(t, refusingGate())
		var status atomic.Value
		front := newPlugin("front", script{onReqHeaders: cont, onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
			m := c.Map(abi.MapResponseHeaders)
			full, _ := m.Get("x-full")
			m.Set("x-full", full+", says front")
			return abi.Continue
		}, onRespBody: func(c *call, _ int, _ bool) abi.Action {
			c.Buffer(abi.BufferResponseBody).Replace(0, 4, []byte("SLOW"))
			return abi.Continue
		}, onLog: func(c *call) {
			full, _ := c.Map(abi.MapResponseHeaders).Get("x-full")
			status.Store(full)
		}}, fakeOptions{})
		var code []byte
		logs := newPlugin("logs", script{onLog: func(c *call) { code, _ = c.Property(nil, abi.JoinPath("response", "code")) }}, fakeOptions{})
		behind := newPlugin("behind", script{onReqHeaders: cont, onRespHeaders: cont}, fakeOptions{})
		for i, want := range []string{"x-left: 0\nx-standing: set\n", refusedLines, refusedLines} {
			s := chain(t, front, gate, logs, behind)
			if i == 0 {
				s.Respond(plugintest.Response{})
				s.Finish()
				continue
			}
			s.Finish()
			c := s.Client()
			if c.Status != 429 || string(c.Body) != "SLOW down\n" || c.Get("x-full") != "in 10, says front" || c.Get("x-standing") != "set" {
				t.Errorf("got %+v %q, want about %s", c, c.Body, want)
			}
			if got, _ := status.Load().(string); got != "in 10, says front" {
				t.Errorf("the log in front has %q", got)
			}
			if len(code) == 0 || code[0] != 429&0xff || code[1] != 429>>8 {
				t.Errorf("the log behind has status %v", code)
			}
		}
		if got := behind.log(); got != "request_headers response_headers log" {
			t.Errorf("behind: %q", got)
		}
	})
}

// TestRefuseOutrun: a refusal takes the place of a response that somebody behind holds, if it is a moment late; if
// that has passed by, the guest is to find out.
func TestRefuseOutrun(t *testing.T) {
	for _, passed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			gate := gateFactory(t, refusingGate())
			s := chain(t, gate)
			s.Respond(plugintest.Response{})
			s.Finish()
			front := newPlugin("front", script{onReqHeaders: pause}, fakeOptions{})
			held := newPlugin("held", script{onRespHeaders: pause}, fakeOptions{})
			s = chain(t, front, gate, held)
			s.Respond(plugintest.Response{Body: []byte("secret"), More: passed})
			if passed {
				held.tick(resume(abi.StreamResponse))
			}
			front.tick(resume(abi.StreamRequest))
			if c := s.Client(); c.Status != 0 && !passed {
				t.Fatalf("got %+v before it is let go", c)
			}
			held.tick(resume(abi.StreamResponse))
			s.Finish()
			switch c := s.Client(); {
			case passed && (c.Status != 200 || s.Aborted() != "plugin_failed:p"):
				t.Errorf("it has passed by: got %+v, reset %q", c, s.Aborted())
			case !passed && (c.Status != 429 || string(c.Body) != "slow down\n" || !c.Ended):
				t.Errorf("got %+v", c)
			}
			// Nobody holds a place.
			a, b := chain(t, gate), chain(t, gate)
			for _, s := range []*plugintest.Stream{a, b} {
				if c := s.Client(); c.Status != 429 && !passed {
					t.Errorf("then: got %+v", c)
				}
				s.Finish()
			}
		})
	}
}

// TestRefuseLate: whom the guest lets by, as it is too late for a refusal, has no place any more.
func TestRefuseLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, _ := storingGate(t, refusalGuest(refusingGate(), false))
		s := chain(t, gate)
		s.Respond(plugintest.Response{})
		s.Finish()
		for range 3 { // there are two
			front := newPlugin("front", script{onReqHeaders: pause}, fakeOptions{})
			held := newPlugin("held", script{onRespHeaders: pause}, fakeOptions{})
			s = chain(t, front, gate, held)
			s.Respond(plugintest.Response{Body: []byte("early"), More: true})
			held.tick(resume(abi.StreamResponse))
			front.tick(resume(abi.StreamRequest))
			s.RespondData(nil, true)
			s.Finish()
			if c := s.Client(); c.Status != 200 || string(c.Body) != "early" {
				t.Errorf("got %+v", c)
			}
		}
		a, b := chain(t, gate), chain(t, gate)
		for _, s := range []*plugintest.Stream{a, b} {
			if c := s.Client(); c.Status != 429 {
				t.Errorf("then: got %+v", c)
			}
			s.Finish()
		}
	})
}

// TestRefuseStored: a refusal goes before what is stored.
func TestRefuseStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, space := storingGate(t, refusingGuest(refusingGate()))
		space.PutWhole("http://example.com/\nr", &objects.Whole{Body: []byte("stored"), Record: objects.Record{Status: 200, Promise: objects.Promise{Lifetime: 1 << 40}}})
		for i := range 4 {
			s := chain(t, gate)
			if s.Upstream().Method != "" {
				s.Respond(plugintest.Response{Body: []byte("fetched")})
			}
			s.Finish()
			if c, refused := s.Client(), i > 0; refused != (c.Status == 429) || refused != (s.Reason() == "too_fast") || !refused && string(c.Body) != "fetched" {
				t.Errorf("request %d: got %+v, reason %q", i, c, s.Reason())
			}
		}
		if n, _ := space.Used(); n == 0 {
			t.Error("nothing was stored")
		}
		space.DeletePrefix("")
		if n, _ := space.Used(); n != 0 {
			t.Errorf("%d bytes are held by nobody", n)
		}
	})
}
