package wasmfilter_test

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

// nonceEdits set a nonce in request and answer.
func nonceEdits() []host.StandingEdits {
	return []host.StandingEdits{
		{Request: true, Mark: "{n}", Edits: []abi.FieldEdit{
			{Op: abi.FieldSet, Name: "x-nonce", Value: "{n}"},
			{Op: abi.FieldRemove, Name: "x-gone", Value: "{n}"},
			{Op: abi.FieldAddIfMissing, Name: "x-there", Value: "{n}"},
			{Op: abi.FieldSet, Name: "connection", Value: "{n}"},
		}},
		{Request: true, Edits: []abi.FieldEdit{{Op: abi.FieldAdd, Name: "x-plain", Value: "{n}"}}},
		{Mark: "{n}", Edits: []abi.FieldEdit{
			{Op: abi.FieldAdd, Name: "first", Value: "without"},
			{Op: abi.FieldSet, Name: "policy", Value: "a '{n}' b '{n}'{n}"},
			{Op: abi.FieldAddIfMissing, Name: "there", Value: "{n}"},
			{Op: abi.FieldAddIfMissing, Name: "missing", Value: "={n}"},
		}},
	}
}

var isNonce = regexp.MustCompile(`^[A-Za-z0-9+/]{22}$`)

// lines returns the values of a request's field.
func lines(r plugintest.Request, name string) (v []string) {
	for _, f := range r.Fields {
		if f.Name == name {
			v = append(v, f.Value)
		}
	}
	return v
}

// policyOf returns what the edits of an answer leave in policy.
func policyOf(nonce string) string { return "a '" + nonce + "' b '" + nonce + "'" + nonce }

// TestStandingNonce: the nonce is one in an exchange, another in the next, and a client has no say in
// it; beside callbacks as without them.
func TestStandingNonce(t *testing.T) {
	look := func(c *call, kind abi.MapType, name string) string {
		v, _ := c.Map(kind).Get(name)
		return v
	}
	for _, tt := range []struct {
		name   string
		script script
	}{
		{"no callback", script{}},
		{"beside request callbacks", script{onReqHeaders: func(c *call, n int, _ bool) abi.Action {
			if v := look(c, abi.MapRequestHeaders, "x-nonce"); !isNonce.MatchString(v) {
				t.Errorf("the guest was called first: %q", v)
			}
			return abi.Continue
		}}},
		{"beside response callbacks", script{onRespHeaders: func(c *call, n int, _ bool) abi.Action {
			if v := look(c, abi.MapResponseHeaders, "policy"); v != policyOf(look(c, abi.MapRequestHeaders, "x-nonce")) {
				t.Errorf("the guest was called first: %q", v)
			}
			return abi.Continue
		}}},
		{"beside body callbacks", script{onReqBody: cont, onRespBody: cont}},
		{"with an end to be told of", script{onLog: func(*call) {}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{})
				p.LeaveEdits(nonceEdits()...)
				seen := map[string]bool{}
				for range 3 { // a filter is used again
					s := open(t, plugintest.Request{Method: "POST", Body: []byte("q"), Fields: plugintest.Fields(
						"x-nonce", "evil", "x-gone", "1", "x-nonce", "evil too", "x-there", "yes", "x-gone", "2")}, p)
					s.RespondInformational(103, "policy", "early")
					s.Respond(plugintest.Response{Body: []byte("a"), Fields: plugintest.Fields("policy", "theirs", "there", "yes", "policy", "more")})
					s.Finish()
					up, c := s.Upstream(), s.Client()
					nonce := up.Get("x-nonce")
					if !isNonce.MatchString(nonce) || seen[nonce] || len(lines(up, "x-nonce")) != 1 {
						t.Errorf("nonces %q, seen %v", lines(up, "x-nonce"), seen)
					}
					seen[nonce] = true
					if raw, err := base64.RawStdEncoding.Strict().DecodeString(nonce); err != nil || len(raw) != 16 {
						t.Errorf("%q is %d bytes, %v", nonce, len(raw), err)
					}
					if up.Get("x-plain") != "{n}" || up.Get("x-there") != "yes" || len(lines(up, "x-gone")) != 0 || len(lines(up, "connection")) != 0 || string(up.Body) != "q" {
						t.Errorf("upstream %+v", up)
					}
					if c.Get("first") != "without" || len(c.All("policy")) != 1 || c.Get("policy") != policyOf(nonce) ||
						c.Get("there") != "yes" || c.Get("missing") != "="+nonce || string(c.Body) != "a" {
						t.Errorf("client %+v, nonce %q", c, nonce)
					}
					if !s.Rerouted() {
						t.Error("the route is not matched again")
					}
				}
				if tt.name == "no callback" && len(p.open) > 0 {
					t.Error("a context was opened")
				}
			})
		})
	}
}

// TestStandingReroute: edits of a request have the route matched again where those of a guest would.
func TestStandingReroute(t *testing.T) {
	set := abi.FieldEdit{Name: "x", Value: "1"}
	for _, tt := range []struct {
		name      string
		edit      abi.FieldEdit
		noReroute bool
		want      bool
	}{
		{"a line", set, false, true},
		{"a line, switched off", set, true, false},
		{"what is removed", abi.FieldEdit{Op: abi.FieldRemove, Name: "there"}, false, true},
		{"what is not there", abi.FieldEdit{Op: abi.FieldRemove, Name: "x"}, false, false},
		{"what is there", abi.FieldEdit{Op: abi.FieldAddIfMissing, Name: "there"}, false, false},
		{"what has no effect", abi.FieldEdit{Name: "te", Value: "1"}, false, false},
	} {
		for how, script := range map[string]script{"alone": {}, "beside a callback": {onReqHeaders: cont}} {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", script, fakeOptions{Options: wasmfilter.Options{NoReroute: tt.noReroute}})
				p.LeaveEdits(host.StandingEdits{Request: true, Edits: []abi.FieldEdit{tt.edit}})
				s := open(t, plugintest.Request{Fields: plugintest.Fields("there", "1")}, p)
				s.Respond(plugintest.Response{})
				s.Finish()
				if s.Rerouted() != tt.want {
					t.Errorf("%s, %s: matched again: %t, want %t", tt.name, how, s.Rerouted(), tt.want)
				}
			})
		}
	}
}

// TestStandingRequestTooLarge: a request that has no room for its edits is refused, the answer to
// that has its own, and the filter is as new afterwards.
func TestStandingRequestTooLarge(t *testing.T) {
	for name, script := range map[string]script{
		"no callback": {}, "beside a request callback": {onReqHeaders: cont}, "beside a response callback": {onRespHeaders: cont},
		"with an end": {onLog: func(*call) {}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", script, fakeOptions{})
				p.LeaveEdits(nonceEdits()...)
				for range 2 {
					huge := plugintest.Fields("y", strings.Repeat("y", wasmfilter.MaxHeadBytes-60))
					s := open(t, plugintest.Request{Method: "POST", Body: []byte("secret"), Fields: huge}, p)
					s.Finish()
					c := s.Client()
					if c.Status != 431 || s.Reason() != "request_headers_too_large:p" || s.Upstream().Method != "" {
						t.Errorf("client has got %d, reason %q, upstream %q", c.Status, s.Reason(), s.Upstream().Method)
					}
					// A guest that should have been called for the request is not for the answer.
					nonce, edited := strings.TrimPrefix(c.Get("missing"), "="), script.onReqHeaders == nil
					if edited != (c.Get("policy") == policyOf(nonce) && isNonce.MatchString(nonce)) || !edited && len(c.All("policy")) > 0 {
						t.Errorf("the answer's policy is %q, its nonce %q", c.Get("policy"), nonce)
					}
					s = open(t, plugintest.Request{}, p)
					s.Respond(plugintest.Response{})
					s.Finish()
					if c := s.Client(); c.Status != 200 || c.Get("policy") != policyOf(s.Upstream().Get("x-nonce")) {
						t.Errorf("the next exchange: %+v", c)
					}
				}
			})
		})
	}
}

// TestStandingRequestOnly: without edits of answers the filter is not in their way, and in the log if
// the request has come by.
func TestStandingRequestOnly(t *testing.T) {
	p := newPlugin("p", script{}, fakeOptions{})
	p.LeaveEdits(host.StandingEdits{Request: true, Edits: []abi.FieldEdit{{Name: "x", Value: "1"}}})
	for _, comes := range []bool{true, false, true} { // a filter is used again
		x := newExchange(t)
		x.SetRequestRun()
		f, err := p.New(x)
		if err != nil {
			t.Fatal(err)
		}
		back := exchange.Sink[*exchange.Response](responseEnd{})
		if f.Response(back) != back {
			t.Error("in the way of the answer")
		}
		in, want := f.Request(requestEnd{}), 0
		if comes {
			want = 1
			if err := in.Head(x.Request, false); err != nil || !in.(exchange.Detacher).Detached() || x.Request.Fields.Value("x") != "1" {
				t.Errorf("%v, in the way of the body: %t", err, !in.(exchange.Detacher).Detached())
			}
		}
		f.Close(nil)
		if len(x.Verdicts) != want {
			t.Errorf("the log has %+v, want %d", x.Verdicts, want)
		}
	}
}

// TestStandingUpgrade: both heads of an exchange that becomes a tunnel have their edits, and its bytes pass.
func TestStandingUpgrade(t *testing.T) {
	p := newPlugin("p", script{}, fakeOptions{})
	p.LeaveEdits(nonceEdits()...)
	x := newExchange(t)
	x.Request.Upgrade = "websocket"
	x.SetRequestRun()
	f, err := p.New(x)
	if err != nil {
		t.Fatal(err)
	}
	up, down := &collector[*exchange.Request]{t: t}, &collector[*exchange.Response]{t: t}
	in, out := f.Request(up), f.Response(down)
	h := &exchange.Response{Status: 101, Upgrade: "websocket"}
	for _, err := range []error{in.Head(x.Request, false), out.Head(h, false), in.Data([]byte("ping"), false), out.Data([]byte("pong"), false)} {
		if err != nil {
			t.Error(err)
		}
	}
	f.Close(nil)
	if nonce := x.Request.Fields.Value("x-nonce"); !isNonce.MatchString(nonce) || h.Fields.Value("policy") != policyOf(nonce) ||
		string(up.body) != "ping" || string(down.body) != "pong" {
		t.Errorf("nonce %q, the answer has %v; %q, %q", nonce, h.Fields.List(), up.body, down.body)
	}
}

// TestStandingNonceOfOwnAnswers: an answer that was made before the request came by has a nonce of
// its own, and one that others have made the request's; no guest has to be alive.
func TestStandingNonceOfOwnAnswers(t *testing.T) {
	dead := wasmfilter.NewFake("p", host.Callbacks{}, false, wasmfilter.Options{}, nil, func(host.Stream) (wasmfilter.Guest, error) {
		return nil, errors.New("dead")
	})
	dead.LeaveEdits(nonceEdits()...)
	seen := map[string]bool{}
	for range 3 {
		x := newExchange(t) // its request has not run
		f, err := dead.New(x)
		if err != nil {
			t.Fatal(err)
		}
		f.Request(requestEnd{})
		h := &exchange.Response{Status: 302}
		if err := f.Response(responseEnd{}).Head(h, true); err != nil {
			t.Fatal(err)
		}
		f.Close(nil)
		nonce := strings.TrimPrefix(h.Fields.Value("missing"), "=")
		if !isNonce.MatchString(nonce) || seen[nonce] || h.Fields.Value("policy") != policyOf(nonce) {
			t.Errorf("the answer has %v; seen %v", h.Fields.List(), seen)
		}
		seen[nonce] = true
	}
	synctest.Test(t, func(t *testing.T) {
		refuses := newPlugin("q", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
			v, _ := c.Map(abi.MapRequestHeaders).Get("x-nonce")
			c.Reply(host.Reply{Status: 403, Details: v})
			return abi.Pause
		}}, fakeOptions{})
		s := plugintest.OpenFilters(t, []filter.Factory{dead, refuses}, &filter.Route{Name: "r"}, 0, plugintest.Request{})
		s.Finish()
		if c := s.Client(); c.Status != 403 || c.Get("policy") != policyOf(s.Reason()) || !isNonce.MatchString(s.Reason()) {
			t.Errorf("got %+v; the request's nonce was %q", c, s.Reason())
		}
	})
}

// TestStandingNonceOfEach: two plugins have each their own.
func TestStandingNonceOfEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var both []*plugin
		for _, name := range []string{"a", "b"} {
			p := newPlugin(name, script{}, fakeOptions{})
			p.LeaveEdits(
				host.StandingEdits{Request: true, Mark: "$", Edits: []abi.FieldEdit{{Name: name, Value: "$"}}},
				host.StandingEdits{Mark: "$", Edits: []abi.FieldEdit{{Name: name, Value: "$"}}})
			both = append(both, p)
		}
		s := open(t, plugintest.Request{}, both...)
		s.Respond(plugintest.Response{})
		s.Finish()
		up, c := s.Upstream(), s.Client()
		if up.Get("a") != c.Get("a") || up.Get("b") != c.Get("b") || up.Get("a") == up.Get("b") || !isNonce.MatchString(up.Get("a")) {
			t.Errorf("upstream %v, client %v", up.Fields, c.Fields)
		}
	})
}

// TestStandingNonceHammer: exchanges beside each other never have one another's, whatever becomes
// of the texts afterwards.
func TestStandingNonceHammer(t *testing.T) {
	const workers, rounds = 8, 300
	f := wasmfilter.NewFake("p", host.Callbacks{}, false, wasmfilter.Options{}, nil, nil)
	f.LeaveEdits(nonceEdits()...)
	var mu sync.Mutex
	heads := map[string]string{} // policies by nonce, kept as a codec might
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				x := newExchange(t)
				x.SetRequestRun()
				g, err := f.New(x)
				if err != nil {
					t.Error(err)
					return
				}
				h := &exchange.Response{Status: 200}
				back := g.Response(responseEnd{})
				if g.Request(requestEnd{}).Head(x.Request, true) != nil || back.Head(h, true) != nil {
					t.Error("a head was refused")
				}
				g.Close(nil)
				nonce := x.Request.Fields.Value("x-nonce")
				mu.Lock()
				if heads[nonce] != "" {
					t.Errorf("%q came twice", nonce)
				}
				heads[nonce] = h.Fields.Value("policy")
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for nonce, policy := range heads {
		if policy != policyOf(nonce) || !isNonce.MatchString(nonce) {
			t.Errorf("nonce %q, policy %q", nonce, policy)
		}
	}
	if len(heads) != workers*rounds {
		t.Errorf("%d nonces, want %d", len(heads), workers*rounds)
	}
}

// TestStandingTypes: edits are for media types, whatever content-type looks like.
func TestStandingTypes(t *testing.T) {
	edit := func(value string) []abi.FieldEdit {
		return []abi.FieldEdit{{Op: abi.FieldAdd, Name: "x", Value: value}}
	}
	p := newPlugin("p", script{}, fakeOptions{})
	p.LeaveEdits(
		host.StandingEdits{Types: []string{"text/html"}, Edits: edit("html")},
		host.StandingEdits{Types: []string{"text/html"}, When: abi.EditsTLS, Edits: edit("html-tls")}, // the same types again
		host.StandingEdits{Types: []string{"image/*", "font/woff2"}, Except: []string{"image/svg+xml"}, Edits: edit("media")},
		host.StandingEdits{Types: []string{"image/svg+xml"}, Edits: edit("svg")},
		// What edits do to the type is no type of the answer.
		host.StandingEdits{Edits: []abi.FieldEdit{{Op: abi.FieldSet, Name: "content-type", Value: "text/html"}}},
		host.StandingEdits{Except: []string{"text/html", "image/*", "font/woff2"}, Edits: edit("other")},
		host.StandingEdits{Types: []string{"text/html"}, Edits: edit("html2")},
	)
	for _, tt := range []struct {
		want  string
		lines []string // of content-type
	}{
		{"other", nil},
		{"other", []string{""}},
		{"other", []string{";"}},
		{"other", []string{" "}},
		{"other", []string{"text/htmlx"}},
		{"other", []string{"text/plain", "text/html"}},
		{"other", []string{"text/plain, text/html"}},
		{"other", []string{"image/"}},
		{"other", []string{"image"}},
		{"other", []string{"imagex/png"}},
		{"other", []string{`"text/html"`}},
		{"other", []string{"text /html"}},
		{"other", []string{"", "text/html"}},
		{"html html2", []string{"text/html"}},
		{"html html2", []string{"Text/HTML; charset=utf-8"}},
		{"html html2", []string{" \ttext/html\t ;a=\";\""}},
		{"html html2", []string{"text/html, image/png"}},
		{"html html2", []string{"text/html", "image/png"}},
		{"html html2", []string{"text/html;"}},
		{"media", []string{"image/png"}},
		{"media", []string{"IMAGE/PNG;a"}},
		{"media", []string{"font/woff2"}},
		{"media", []string{"image/*"}},
		{"media", []string{"image/svg+xmlx"}},
		{"svg", []string{"image/svg+xml"}},
		{"svg", []string{"Image/SVG+xml;x"}},
		{"other", []string{"font/woff"}},
		{"other", []string{"text/\u212atml"}},
		{"other", []string{"text\x00/html"}},
	} {
		x := newExchange(t)
		x.Request.Scheme = "http"
		x.SetRequestRun()
		f, err := p.New(x)
		if err != nil {
			t.Fatal(err)
		}
		h := &exchange.Response{Status: 200}
		for _, l := range tt.lines {
			h.Fields.Add("content-type", l)
		}
		if err := f.Response(responseEnd{}).Head(h, true); err != nil {
			t.Fatal(err)
		}
		f.Close(nil)
		var got []string
		for _, l := range h.Fields.List() {
			if l.Name == "x" {
				got = append(got, l.Value)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q: %q, want %q", tt.lines, got, tt.want)
		}
	}
}

// standingGateGuest has a gate whose bucket never has a token twice, and nonceEdits. It says on requests
// that it was called.
func standingGateGuest() []byte {
	m := wt.NewGuest()
	foreign := m.Env(abi.ImportCallForeignFunction, "iiiiii>i")
	add := m.Env(abi.ImportAddHeaderMapValue, "iiiii>i")
	out, size := wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	gate := string(abi.AppendGate(nil, &abi.GateRecord{Interval: 1e15, Burst: 3, Cost: 1, Key: []abi.GatePart{{Text: "key"}}}))
	record := append(abi.NewTakeRecord(1e15, 3, 1), "key"...)
	at := m.Data(record)
	m.Func("proxy_on_configure", "ii>i",
		wt.Call(foreign, m.Str(abi.ForeignGate), m.Str(gate), out, size), wt.Drop(),
		wt.Call(foreign, m.Str(abi.ForeignStandingList), m.Str(string(abi.AppendStandingList(nil, nonceEdits()))), out, size), wt.Drop(),
		wt.I32(1))
	m.Headers("request",
		wt.Call(foreign, m.Str(abi.ForeignTakeCounter), wt.I32(at), wt.I32(int32(len(record))), out, size), wt.Drop(),
		wt.Call(add, wt.I32(0), m.Str("x-guest"), m.Str("was here")), wt.Drop(), wt.I32(0))
	return m.Bytes()
}

// TestStandingNonceAtGate: a request that goes past the guest has the edits of the others.
func TestStandingNonceAtGate(t *testing.T) {
	plugintest.Run(t, standingGateGuest(), gateOptions, func(t *testing.T, p *plugintest.Plugin) {
		huge := plugintest.Fields("y", strings.Repeat("y", wasmfilter.MaxHeadBytes-60))
		seen := map[string]bool{}
		for i, tt := range []struct {
			guest string
			large bool
		}{{"was here", false}, {"", false}, {"", true}, {"was here", true}, {"was here", false}} { // no bucket yet; two tokens; none
			req := plugintest.Request{Fields: plugintest.Fields("x-nonce", "evil")}
			if tt.large {
				req.Fields = huge
			}
			s := p.Do(req, plugintest.Response{})
			up, c := s.Upstream(), s.Client()
			nonce := up.Get("x-nonce")
			if tt.large {
				if c.Status != 431 || s.Reason() != "request_headers_too_large:plugin" || up.Method != "" {
					t.Errorf("request %d: got %d, reason %q", i, c.Status, s.Reason())
				}
				nonce = strings.TrimPrefix(c.Get("missing"), "=")
			} else if up.Get("x-guest") != tt.guest || len(lines(up, "x-nonce")) != 1 || !s.Rerouted() {
				t.Errorf("request %d: upstream has %v, matched again: %t", i, up.Fields, s.Rerouted())
			}
			if tt.large && tt.guest != "" { // as a guest that should have been called for the request, and was not
				if len(c.All("policy")) > 0 {
					t.Errorf("request %d: the client has %v", i, c.Fields)
				}
				continue
			}
			if !isNonce.MatchString(nonce) || seen[nonce] || c.Get("policy") != policyOf(nonce) {
				t.Errorf("request %d: nonce %q, the client has %v", i, nonce, c.Fields)
			}
			seen[nonce] = true
		}
	})
}
