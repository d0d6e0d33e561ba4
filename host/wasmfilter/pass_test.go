package wasmfilter_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

// passTime is when tests begin, by their clock.
const passTime = 946684800

const passKey = "http://example.com/a\nr"

// passStore is what a passGuest stores.
var passStore = abi.ObjectStore{
	Key: passKey, Meta: "noted", Record: true, Gone: 30,
	Pass: &abi.ObjectPass{
		Since: passTime, Seconds: 10, Same: []string{"Cache-Control", "x-none"}, There: []string{"set-cookie"},
		Edits: []abi.FieldEdit{{Name: "X-Edit", Value: " host "}, {Op: abi.FieldAdd, Name: "connection", Value: "close"}, {Op: abi.FieldRemove, Name: "x-gone"}},
	},
}

// passGuest has an order for passes. It stores one at an answer with x-store, traps at one with x-trap,
// and says otherwise what it sees of the request: x-guest is its x-auth, and the property mine what
// wproxy.passed is.
func passGuest() []byte { return orderedGuest(passOrder) }

var passOrder = abi.ObjectStanding{
	Absent: []string{"range"}, LogField: "l", LogValue: "hit", CounterHead: "n;route=", CounterTail: ";hit",
	PassValue: "passed", PassTail: ";passed", Repeats: []string{"if-none-match"},
}

// orderedGuest is a passGuest with an order.
func orderedGuest(order abi.ObjectStanding) []byte {
	m := wt.NewGuest()
	foreign := m.Env(abi.ImportCallForeignFunction, "iiiiii>i")
	get := m.Env(abi.ImportGetHeaderMapValue, "iiiii>i")
	ptr, size := wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	args := string(passStore.Append(nil))
	m.Func("proxy_on_configure", "ii>i", wt.Call(foreign, m.Str(abi.ForeignObjectStanding), m.Str(string(order.Append(nil))), ptr, size), wt.Raw(0x45))
	m.Headers("request", wt.I32(0))
	there := func(name string) wt.Instr { return wt.Eq(wt.Call(get, wt.I32(2), m.Str(name), ptr, size), wt.I32(0)) }
	m.Headers(
		"response",
		wt.If(there("x-trap"), wt.Unreachable()),
		wt.If(there("x-store"), wt.If(wt.Ne(wt.Call(foreign, m.Str(abi.ForeignObjectStore), m.Str(args), ptr, size), wt.I32(0)), wt.Unreachable())),
		saysRequest(m, get, ptr, size),
		wt.I32(0),
	)
	m.Func("proxy_on_response_body", "iii>i", wt.I32(0))
	return m.Bytes()
}

// saysRequest has a guest say at an answer what it sees of the request, as a passGuest does.
func saysRequest(m *wt.Module, get *wt.Func, ptr, size wt.Instr) wt.Instr {
	set := m.Env(abi.ImportReplaceHeaderMapValue, "iiiii>i")
	property := m.Env(abi.ImportGetProperty, "iiii>i")
	keep := m.Env(abi.ImportSetProperty, "iiii>i")
	return wt.Seq(
		wt.If(
			wt.Eq(wt.Call(get, wt.I32(0), m.Str("x-auth"), ptr, size), wt.I32(0)),
			wt.Call(set, wt.I32(2), m.Str("x-guest"), wt.Load32(ptr), wt.Load32(size)), wt.Drop(),
		),
		wt.If(
			wt.Eq(wt.Call(property, m.Str(abi.PropertyPassed), ptr, size), wt.I32(0)),
			wt.Call(keep, m.Str("mine"), wt.Load32(ptr), wt.Load32(size)), wt.Drop(),
		),
	)
}

// withoutAuth is a guest that takes x-auth out of requests.
func withoutAuth() []byte {
	m := wt.NewGuest()
	remove := m.Env(abi.ImportRemoveHeaderMapValue, "iii>i")
	m.Headers("request", wt.Call(remove, wt.I32(0), m.Str("x-auth")), wt.Drop(), wt.I32(0))
	return m.Bytes()
}

var passOptions = plugintest.Options{Route: "r", Grants: []string{host.GrantObjects, host.GrantMetrics}}

// passRequest and passAnswer are what goes by.
func passRequest() plugintest.Request {
	return plugintest.Request{Path: "/a", Fields: plugintest.Fields("x-auth", "mine")}
}

func passAnswer(more ...string) plugintest.Response {
	return plugintest.Response{
		Fields: append(plugintest.Fields("cache-control", "a", "set-cookie", "b", "cache-control", "c", "x-gone", "1"), plugintest.Fields(more...)...),
		Body:   []byte("answer"), Trailers: plugintest.Fields("t", "u"),
	}
}

// without returns fields without those of a name.
func without(fields []abi.Pair, name string) (out []abi.Pair) {
	for _, f := range fields {
		if f.Name != name {
			out = append(out, f)
		}
	}
	return out
}

// TestPass: a request for what was refused, and an answer that is like the one before, are none of the guest's;
// any other answer is, with the request as it was.
func TestPass(t *testing.T) {
	plugintest.Run(t, passGuest(), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		chain := plugintest.Chain{p, p.Load(withoutAuth(), plugintest.Options{Name: "q"})}
		if s := chain.Do(passRequest(), passAnswer("x-store", "1")); line(s.Client(), "x-guest") == "mine" || s.LogField("l") != "" {
			t.Fatalf("the first: %+v", s.Client())
		}
		count := int64(0)
		for name, tc := range map[string]struct {
			change func(r *plugintest.Response)
			goesBy bool
		}{
			"the same": {func(*plugintest.Response) {}, true},
			"more fields": {func(r *plugintest.Response) {
				r.Fields = append(r.Fields, plugintest.Fields("set-cookie", "other", "y", "z")...)
			}, true},
			"another status":              {func(r *plugintest.Response) { r.Status = 201 }, false},
			"a line changed":              {func(r *plugintest.Response) { r.Fields[0].Value = "other" }, false},
			"a line more":                 {func(r *plugintest.Response) { r.Fields = append(r.Fields, plugintest.Fields("cache-control", "d")...) }, false},
			"a line less":                 {func(r *plugintest.Response) { r.Fields = r.Fields[:2] }, false},
			"none of them":                {func(r *plugintest.Response) { r.Fields = without(r.Fields, "cache-control") }, false},
			"lines in another order":      {func(r *plugintest.Response) { r.Fields[0], r.Fields[2] = r.Fields[2], r.Fields[0] }, false},
			"one that was not there":      {func(r *plugintest.Response) { r.Fields = append(r.Fields, plugintest.Fields("x-none", "")...) }, false},
			"one that is not there now":   {func(r *plugintest.Response) { r.Fields = without(r.Fields, "set-cookie") }, false},
			"an upstream that is down":    {func(r *plugintest.Response) { *r = plugintest.Response{Status: 502, Failure: "connect"} }, false},
			"an answer without upstreams": {func(r *plugintest.Response) { *r = plugintest.Response{Status: 503, Untried: true} }, false},
		} {
			before := calls(p)
			resp := passAnswer()
			tc.change(&resp)
			s := chain.Open(passRequest())
			s.RespondInformational(103, "link", "</x>")
			s.Respond(resp)
			s.Finish()
			c, after := s.Client(), calls(p)
			told, _ := s.Property("mine")
			if after.req != before.req || after.resp-before.resp != map[bool]uint64{false: 1}[tc.goesBy] || after.respBody > before.respBody == tc.goesBy && len(resp.Body) > 0 {
				t.Errorf("%s: calls %+v, before %+v", name, after, before)
			}
			if string(c.Body) != string(resp.Body) || len(c.Trailers) != len(resp.Trailers) || len(s.Informational()) != 1 || s.Upstream().Get("x-auth") != "" {
				t.Errorf("%s: a message is not whole: %+v", name, c)
			}
			if !tc.goesBy {
				if line(c, "x-guest") != "mine" || line(c, "x-edit") != "" || s.LogField("l") != "" || string(told) != string(abi.AppendPassed(nil, passTime, passKey, []byte("noted"))) {
					t.Errorf("%s: the guest saw %q of %+v", name, told, c)
				}
				continue
			}
			count++
			if line(c, "x-edit") != "host" || line(c, "x-gone") != "" || line(c, "connection") != "" || line(c, "x-guest") != "" || s.LogField("l") != "passed" {
				t.Errorf("%s: got %+v, log %q", name, c, s.LogField("l"))
			}
		}
		if n, _ := p.Metric("n;route=r;passed"); n != count {
			t.Errorf("counted %d, want %d", n, count)
		}
		p.Purge("")
		if n, bytes := p.Stored(); n != 0 || bytes != 0 {
			t.Errorf("%d messages are left, %d bytes", n, bytes)
		}
	})
}

// TestPassNot: what the pass is not about is the guest's from the beginning.
func TestPassNot(t *testing.T) {
	plugintest.Run(t, passGuest(), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(passRequest(), passAnswer("x-store", "1"))
		other := p.With("r", nil) // as after a reload
		for name, tc := range map[string]struct {
			p      *plugintest.Plugin
			change func(r *plugintest.Request)
		}{
			"HEAD":           {p, func(r *plugintest.Request) { r.Method = "HEAD" }},
			"POST":           {p, func(r *plugintest.Request) { r.Method = "POST" }},
			"a body":         {p, func(r *plugintest.Request) { r.Body = []byte("x") }},
			"a field":        {p, func(r *plugintest.Request) { r.Fields = plugintest.Fields("range", "bytes=0-1") }},
			"a condition":    {p, func(r *plugintest.Request) { r.Fields = plugintest.Fields("if-none-match", `"1"`) }},
			"another target": {p, func(r *plugintest.Request) { r.Path = "/A" }},
			"another host":   {p, func(r *plugintest.Request) { r.Authority = "example.org" }},
			"a long target":  {p, func(r *plugintest.Request) { r.Path = "/" + strings.Repeat("a", 5000) }},
			"other settings": {other, func(*plugintest.Request) {}},
		} {
			req := passRequest()
			tc.change(&req)
			before := calls(p)
			resp := passAnswer()
			if req.Method == "HEAD" {
				resp.Body, resp.Trailers = nil, nil
			}
			tc.p.Do(req, resp)
			if after := calls(p); after.req != before.req+1 || after.resp != before.resp+1 {
				t.Errorf("%s: calls %+v, before %+v", name, after, before)
			}
		}
		// An answer that comes too late, of which the guest may have to note something, and one that
		// comes just in time.
		p.Advance(8 * time.Second)
		for _, left := range []time.Duration{time.Second, time.Second} {
			before := calls(p)
			s := p.Open(passRequest())
			p.Advance(left)
			s.Respond(passAnswer())
			s.Finish()
			late := p.Now().Unix() >= passTime+10
			if after := calls(p); after.req != before.req || after.resp > before.resp != late {
				t.Errorf("at %d seconds: calls %+v, before %+v", p.Now().Unix()-passTime, after, before)
			}
		}
		before := calls(p)
		p.Do(passRequest(), passAnswer())
		if after := calls(p); after.req != before.req+1 {
			t.Error("a pass that is over lets requests by")
		}
	})
}

// TestPassHeld: what a request has gone by because of stays until its end, whatever becomes of the key, and
// no longer.
func TestPassHeld(t *testing.T) {
	plugintest.Run(t, passGuest(), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		for _, resp := range []plugintest.Response{passAnswer(), passAnswer("cache-control", "d")} {
			for _, leaves := range []bool{false, true} {
				p.Do(passRequest(), passAnswer("x-store", "1"))
				before := calls(p)
				s := p.Open(passRequest())
				if n := p.Purge(""); n != 1 {
					t.Fatalf("purged %d", n)
				}
				if leaves {
					s.Leave()
				} else {
					s.Respond(resp)
				}
				s.Finish()
				if after := calls(p); after.req != before.req {
					t.Error("the request was the guest's")
				}
				if told, _ := s.Property("mine"); !leaves && len(resp.Fields) > 4 && string(told) != string(abi.AppendPassed(nil, passTime, passKey, []byte("noted"))) {
					t.Errorf("the guest was told %q", told)
				}
				if n, bytes := p.Stored(); n != 0 || bytes != 0 {
					t.Errorf("%d messages are left, %d bytes", n, bytes)
				}
			}
		}
	})
}

// TestPassTooLarge: an answer without room for the edits is the guest's.
func TestPassTooLarge(t *testing.T) {
	plugintest.Run(t, passGuest(), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(passRequest(), passAnswer("x-store", "1"))
		before := calls(p)
		s := p.Do(passRequest(), passAnswer("x", strings.Repeat("x", wasmfilter.MaxHeadBytes-60)))
		if c, after := s.Client(), calls(p); after.resp != before.resp+1 || c.Status == 0 {
			t.Errorf("got %d, calls %+v, before %+v", c.Status, after, before)
		}
	})
}

// TestPassTraps: a guest that fails at an answer that it is shown fails the exchange as on_error has it.
func TestPassTraps(t *testing.T) {
	for onError, want := range map[wasmfilter.OnError]int{wasmfilter.OnErrorClose: 503, wasmfilter.OnErrorOpen: 201} {
		o := passOptions
		o.OnError = onError
		plugintest.Run(t, passGuest(), o, func(t *testing.T, p *plugintest.Plugin) {
			p.Do(passRequest(), passAnswer("x-store", "1"))
			trap := passAnswer("x-trap", "1")
			trap.Status = 201
			if c := p.Do(passRequest(), trap).Client(); c.Status != want {
				t.Errorf("got %d, want %d", c.Status, want)
			}
			// Without an instance, and with one again.
			p.Do(passRequest(), passAnswer())
			p.Advance(5 * time.Second)
			before := calls(p)
			if s := p.Do(passRequest(), passAnswer()); s.Client().Status != 200 || s.LogField("l") != "passed" || calls(p) != before {
				t.Errorf("the next: %+v", s.Client())
			}
		})
	}
}

// TestPassRefused: a pass of which an edit would be refused, or that is larger with what is
// compared than may be, is not taken, and nothing is stored.
func TestPassRefused(t *testing.T) {
	was := passStore
	defer func() { passStore = was }()
	for name, tc := range map[string]struct {
		pass  abi.ObjectPass
		value string
		taken bool
	}{
		"as much as may be":   {abi.ObjectPass{Same: []string{"v"}}, strings.Repeat("x", abi.MaxPassText-2), true},
		"a byte more":         {abi.ObjectPass{Same: []string{"v"}}, strings.Repeat("x", abi.MaxPassText-1), false},
		"no name":             {abi.ObjectPass{Same: []string{"a b"}}, "", false},
		"a pseudo field":      {abi.ObjectPass{There: []string{":status"}}, "", false},
		"an edit of a length": {abi.ObjectPass{Edits: []abi.FieldEdit{{Name: "Content-Length", Value: "1"}}}, "", false},
		"an edit of a status": {abi.ObjectPass{Edits: []abi.FieldEdit{{Name: ":status", Value: "200"}}}, "", false},
		"a line break":        {abi.ObjectPass{Edits: []abi.FieldEdit{{Name: "a", Value: "b\r\nc: d"}}}, "", false},
	} {
		tc.pass.Since, tc.pass.Seconds = passTime, 10
		passStore.Pass = &tc.pass
		plugintest.Run(t, passGuest(), passOptions, func(t *testing.T, p *plugintest.Plugin) {
			c := p.Do(passRequest(), plugintest.Response{Fields: plugintest.Fields("x-store", "1", "v", tc.value)}).Client()
			n, bytes := p.Stored()
			if taken := c.Status == 200 && n == 1; taken != tc.taken || taken && bytes < int64(len(tc.value)) {
				t.Errorf("%s: taken %t, %d bytes are counted", name, taken, bytes)
			}
		})
	}
}

// TestPassProperties: a guest that is shown an answer finds the request as it went by in properties too, also
// where it ends its stream later.
func TestPassProperties(t *testing.T) {
	m := wt.NewGuest()
	foreign := m.Env(abi.ImportCallForeignFunction, "iiiiii>i")
	property := m.Env(abi.ImportGetProperty, "iiii>i")
	get := m.Env(abi.ImportGetHeaderMapValue, "iiiii>i")
	set := m.Env(abi.ImportReplaceHeaderMapValue, "iiiii>i")
	log := m.Env(abi.ImportLog, "iii>i")
	ptr, size := wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	order := abi.ObjectStanding{PassValue: "passed"}
	m.Func("proxy_on_configure", "ii>i", wt.Call(foreign, m.Str(abi.ForeignObjectStanding), m.Str(string(order.Append(nil))), ptr, size), wt.Raw(0x45))
	m.Headers("request", wt.I32(0))
	tell := func(path, field string) wt.Instr {
		return wt.If(
			wt.Eq(wt.Call(property, m.Str(path), ptr, size), wt.I32(0)),
			wt.Call(set, wt.I32(2), m.Str(field), wt.Load32(ptr), wt.Load32(size)), wt.Drop(),
		)
	}
	m.Headers(
		"response",
		wt.If(
			wt.Eq(wt.Call(get, wt.I32(2), m.Str("x-store"), ptr, size), wt.I32(0)),
			wt.Call(foreign, m.Str(abi.ForeignObjectStore), m.Str(string(passStore.Append(nil))), ptr, size), wt.Drop(),
		),
		tell("request\x00headers\x00x-auth", "x-one"), tell("request\x00url_path", "x-path"), tell("request\x00query", "x-query"),
		wt.I32(0),
	)
	m.Func("proxy_on_done", "i>i", wt.I32(0))
	m.Func("proxy_on_log", "i", wt.If( // after the exchange, as on_done has it
		wt.Eq(wt.Call(property, m.Str("request\x00headers\x00x-auth"), ptr, size), wt.I32(0)),
		wt.Call(log, wt.I32(4), wt.Load32(ptr), wt.Load32(size)), wt.Drop(),
	))
	o := passOptions
	o.Grants = append(slices.Clone(o.Grants), host.GrantLog)
	plugintest.Run(t, m.Bytes(), o, func(t *testing.T, p *plugintest.Plugin) {
		chain := plugintest.Chain{p, p.Load(withoutAuth(), plugintest.Options{Name: "q"})}
		chain.Do(passRequest(), passAnswer("x-store", "1"))
		before := calls(p)
		resp := passAnswer()
		resp.Status = 201
		c := chain.Do(passRequest(), resp).Client()
		if after := calls(p); after.req != before.req || after.resp != before.resp+1 {
			t.Fatalf("calls %+v, before %+v", after, before)
		}
		if line(c, "x-one") != "mine" || line(c, "x-path") != "/a" || line(c, "x-query") != "" {
			t.Errorf("the guest saw %+v", c)
		}
		if p.Logged("mine") {
			t.Fatal("its stream has ended")
		}
		p.Advance(time.Hour)
		if !p.Logged("mine") {
			t.Errorf("when its stream had ended the guest saw %+v", p.Logs())
		}
	})
}
