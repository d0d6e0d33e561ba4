package host_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// callHead is what a call has to have.
var callHead = []abi.Pair{{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/check"}, {Name: ":authority", Value: "auth.example.com"}}

// A fakeCaller is a Caller whose upstreams are the test. It knows the upstreams u and v.
type fakeCaller struct {
	reject error
	now    *host.CallResponse // every call is answered so, at once
	calls  chan *fakeCall
}

// A fakeCall is a call that waits for its answer.
type fakeCall struct {
	*host.CallRequest
	ctx    context.Context
	answer chan host.CallResponse
}

func newFakeCaller() *fakeCaller { return &fakeCaller{calls: make(chan *fakeCall, 2000)} }

func (f *fakeCaller) Prepare(r *host.CallRequest) (func(context.Context) host.CallResponse, error) {
	if f.reject != nil {
		return nil, f.reject
	}
	if r.Upstream != "u" && r.Upstream != "v" {
		return nil, host.ErrNoUpstream
	}
	return func(ctx context.Context) host.CallResponse {
		c := &fakeCall{r, ctx, make(chan host.CallResponse, 1)}
		f.calls <- c
		if f.now != nil {
			return *f.now
		}
		select {
		case resp := <-c.answer:
			return resp
		case <-ctx.Done():
			return host.CallResponse{Outcome: host.CallCanceled}
		}
	}, nil
}

// next returns the next call.
func (f *fakeCaller) next(t *testing.T) *fakeCall {
	t.Helper()
	select {
	case c := <-f.calls:
		return c
	case <-time.After(10 * time.Second):
		t.Fatal("no call was made")
		return nil
	}
}

var answered = host.CallResponse{
	Outcome: host.CallAnswered, Status: 200, Body: []byte("the answer"),
	Fields:   []abi.Pair{{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}},
	Trailers: []abi.Pair{{Name: "x-end", Value: "y"}},
}

// A calling is a guest that makes HTTP calls, and writes down in its memory what it is
// told of the answers.
type calling struct {
	m      *wasmtest.Module
	make   wasmtest.Instr // makes the usual call and drops the status
	told   int32          // how often it was answered
	args   int32          // the five arguments of the last answer
	head   int32          // ptr and len of map 6, as read there
	trail  int32          // of map 7
	body   int32          // of buffer 4
	status int32          // code, ptr, len of get_status
	id     int32          // of the call made last
}

// newCalling makes the guest; in its callback for answers it runs then.
func newCalling(then ...wasmtest.Instr) *calling {
	m := wasmtest.NewGuest()
	c := &calling{m: m, told: m.Slot(4), args: m.Slot(20), head: m.Slot(8), trail: m.Slot(8), body: m.Slot(8), status: m.Slot(12), id: m.Slot(4)}
	c.make = wasmtest.Seq(c.call("u", callHead, "body", 1000), drop())
	pairs := m.Env("proxy_get_header_map_pairs", "iii>i")
	buffer := m.Env("proxy_get_buffer_bytes", "iiiii>i")
	status := m.Env("proxy_get_status", "iii>i")
	body := []wasmtest.Instr{wasmtest.Store32(i32(c.told), wasmtest.Add(wasmtest.Load32(i32(c.told)), i32(1)))}
	for i := range 5 {
		body = append(body, wasmtest.Store32(i32(c.args+int32(4*i)), wasmtest.Local(i)))
	}
	body = append(body,
		call(pairs, i32(6), i32(c.head), i32(c.head+4)), drop(),
		call(pairs, i32(7), i32(c.trail), i32(c.trail+4)), drop(),
		call(buffer, i32(4), i32(0), i32(0x7fffffff), i32(c.body), i32(c.body+4)), drop(),
		call(status, i32(c.status), i32(c.status+4), i32(c.status+8)), drop())
	m.Func("proxy_on_http_call_response", "iiiii", append(body, then...)...)
	return c
}

// call makes a call and leaves its status.
func (c *calling) call(upstream string, head []abi.Pair, body string, timeout int32) wasmtest.Instr {
	f := c.m.Env("proxy_http_call", "iiiiiiiiii>i")
	return call(f, c.m.Str(upstream), c.m.Str(string(abi.AppendPairs(nil, head))), c.m.Str(body), c.m.Str(""), i32(timeout), i32(c.id))
}

func u32(mem []byte, at int32) uint32 { return binary.LittleEndian.Uint32(mem[at:]) }

// text returns what a ptr and a len at that address lead to.
func text(mem []byte, at int32) string {
	ptr, n := u32(mem, at), u32(mem, at+4)
	return string(mem[ptr : ptr+n])
}

func pairsText(t *testing.T, data string) string {
	t.Helper()
	pairs, err := abi.ParsePairs(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	return (&fakeMap{pairs: pairs}).String()
}

// outcomes makes options whose plugin tells outcomes to the channel.
func outcomes(o options) (options, chan host.CallOutcome) {
	told := make(chan host.CallOutcome, 5000)
	o.plugin.OnCallout = func(_ string, out host.CallOutcome) { told <- out }
	return o, told
}

func wantOutcome(t *testing.T, told chan host.CallOutcome, want host.CallOutcome) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Fatalf("outcome %v, want %v", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("no outcome, want %v", want)
	}
}

func TestHTTPCallStatus(t *testing.T) {
	t.Parallel()
	enc := func(p ...abi.Pair) string { return string(abi.AppendPairs(nil, p)) }
	head, broken := enc(callHead...), "\x01\x00\x00"
	with := func(name, value string) string {
		return enc(append(slices.Clone(callHead), abi.Pair{Name: name, Value: value})...)
	}
	for _, tt := range []struct {
		name           string
		upstream, head string
		body, trailers string
		timeout        int
		want           abi.Status
		log            string
		grants         []string
		caller         host.Caller
		misuse         bool
		emptyAuthority bool
		wantFields     string
		wantTimeout    time.Duration
		wantTrailers   string
	}{
		{name: "as it should be", upstream: "u", head: head, body: "b", timeout: 250, wantTimeout: 250 * time.Millisecond},
		{name: "no timeout", upstream: "u", head: head, wantTimeout: time.Minute},
		{name: "very long timeout", upstream: "u", head: head, timeout: 0x7fffffff, wantTimeout: 10 * time.Minute},
		{name: "scheme, case, host", upstream: "u", head: with("Host", "evil") + "", wantTimeout: time.Minute},
		{name: "fields", upstream: "u", head: with("X-Token", " t "), wantFields: "x-token=t", wantTimeout: time.Minute},
		{name: "trailers", upstream: "u", head: head, trailers: enc(abi.Pair{Name: "X-Sum", Value: "1"}), wantTrailers: "x-sum=1", wantTimeout: time.Minute},
		{name: "broken trailers are none", upstream: "u", head: head, trailers: broken, wantTimeout: time.Minute},
		{name: "negative timeout", upstream: "u", head: head, timeout: -1, want: 2, log: "negative", misuse: true},
		{name: "unknown upstream", upstream: "x", head: head, want: 2, log: `"x"`, misuse: true},
		{name: "no upstream", upstream: "", head: head, want: 2, log: "no such upstream", misuse: true},
		{name: "no headers", upstream: "u", want: 2, log: ":authority", misuse: true},
		{name: "broken headers are none", upstream: "u", head: broken, want: 2, log: ":authority", misuse: true},
		{name: "no method", upstream: "u", head: enc(callHead[1:]...), want: 2, log: ":method", misuse: true},
		{name: "no path", upstream: "u", head: enc(callHead[0], callHead[2]), want: 2, log: ":path", misuse: true},
		{name: "no authority", upstream: "u", head: enc(callHead[:2]...), want: 2, log: ":authority", misuse: true},
		{name: "empty authority", upstream: "u", head: enc(callHead[0], callHead[1], abi.Pair{Name: ":authority"}), wantTimeout: time.Minute, emptyAuthority: true},
		{name: "host is no authority", upstream: "u", head: enc(callHead[0], callHead[1], abi.Pair{Name: "host", Value: "h"}), want: 2, misuse: true},
		{name: "line break in a value", upstream: "u", head: with("x", "a\r\nb: c"), want: 2, log: "CR, LF", misuse: true},
		{name: "line break in a name", upstream: "u", head: with("x\nb", "a"), want: 2, misuse: true},
		{name: "unknown pseudo header", upstream: "u", head: with(":protocol", "websocket"), want: 2, misuse: true},
		{name: "bad trailer", upstream: "u", head: head, trailers: enc(abi.Pair{Name: "x y", Value: "1"}), want: 2, misuse: true},
		{name: "large body", upstream: "u", head: head, body: strings.Repeat("x", 1<<20+1), want: 10, log: "too large"},
		{name: "large headers", upstream: "u", head: with("x", strings.Repeat("x", 64<<10)), want: 10, log: "too large"},
		{name: "large trailers", upstream: "u", head: head, trailers: strings.Repeat("x", 64<<10+1), want: 10, log: "too large"},
		{name: "upstream that is not granted", upstream: "v", head: head, want: 10, log: `"call:v"`},
		{name: "only another one is granted", upstream: "u", head: head, want: 10, log: `"call:u"`, grants: []string{"call:v"}},
		{name: "nothing is granted", upstream: "u", head: head, want: 10, log: `"call:UPSTREAM"`, grants: []string{"log", "metrics"}},
		{name: "the caller does not like it", upstream: "u", head: head, want: 2, log: "bad path", misuse: true, caller: &fakeCaller{reject: errors.New("bad path")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProbe(v021, "proxy_http_call", "iiiiiiiiii>i", tt.upstream, tt.head, tt.body, tt.trailers, tt.timeout, out(0))
			status, mem, s := p.run(t, newStream(), options{host: host.HostOptions{Caller: tt.caller}, plugin: host.PluginOptions{Grants: tt.grants}})
			if status != tt.want {
				t.Errorf("status %v, want %v", status, tt.want)
			}
			if tt.log != "" && !s.log.contains(false, tt.log) {
				t.Errorf("the host logged %q, want a line with %q", s.log.lines(false), tt.log)
			}
			if got := s.plugin.Stats().Misuse; (got == 1) != tt.misuse {
				t.Errorf("%d misuses", got)
			}
			if tt.want != abi.StatusOK {
				p.area(t, mem, 0) // no id
				if s.caller != nil && len(s.caller.calls) > 0 {
					t.Error("a call was made")
				}
				return
			}
			if id := u32(p.area(t, mem, 4), 0); id != 4 {
				t.Errorf("id %d, want 4", id)
			}
			r := s.caller.next(t)
			if tt.emptyAuthority {
				r.Authority += "auth.example.com"
			}
			if r.Plugin != "test" || r.Upstream != "u" || r.Method != "GET" || r.Path != "/check" || r.Authority != "auth.example.com" || string(r.Body) != tt.body {
				t.Errorf("request %+v", r.CallRequest)
			}
			if got := (&fakeMap{pairs: r.Fields}).String(); got != tt.wantFields {
				t.Errorf("fields %q, want %q", got, tt.wantFields)
			}
			if got := (&fakeMap{pairs: r.Trailers}).String(); got != tt.wantTrailers {
				t.Errorf("trailers %q, want %q", got, tt.wantTrailers)
			}
			if r.Timeout != tt.wantTimeout {
				t.Errorf("timeout %v, want %v", r.Timeout, tt.wantTimeout)
			}
		})
	}
}

// A host without a Caller has nobody to make a call.
func TestHTTPCallWithoutCaller(t *testing.T) {
	t.Parallel()
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p := newProbe(v021, "proxy_http_call", "iiiiiiiiii>i", "u", string(abi.AppendPairs(nil, callHead)), "", "", 0, out(0))
	plugin, err := h.Load(t.Context(), p.m.Bytes(), host.PluginOptions{Name: "p", Grants: []string{"call:u"}})
	if err != nil {
		t.Fatal(err)
	}
	root, err := plugin.NewRoot(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var c host.Context
	if err := errors.Join(root.Open(&c, newStream()), second(c.RequestHeaders(1, true))); err != nil {
		t.Fatal(err)
	}
	if got := abi.Status(u32(c.Memory(), p.status)); got != abi.StatusInternalFailure {
		t.Errorf("status %v", got)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// What the guest sees of an answer, and of a failure.
func TestHTTPCallAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name              string
		resp              host.CallResponse
		head, trail, body string
		counts            [3]uint32
		code              uint32
		message           string
	}{
		{"answer", answered, ":status=200 x-a=1 x-a=2", "x-end=y", "the answer", [3]uint32{3, 10, 1}, 0, ""},
		{"empty answer", host.CallResponse{Outcome: host.CallAnswered, Status: 204}, ":status=204", "", "", [3]uint32{1, 0, 0}, 0, ""},
		{
			"no connection",
			host.CallResponse{Outcome: host.CallUnavailable, Reason: "upstream_refused"},
			":status=503 content-length=94 content-type=text/plain", "",
			"upstream connect error or disconnect/reset before headers. reset reason: upstream_refused",
			[3]uint32{3, 0, 0},
			11, "upstream_refused",
		},
		{
			"timeout",
			host.CallResponse{Outcome: host.CallTimeout, Reason: "timeout", Status: 200, Body: []byte("half")},
			":status=504 content-length=24 content-type=text/plain", "", "upstream request timeout",
			[3]uint32{3, 24, 0},
			11, "timeout",
		},
		{
			"reset, or too large",
			host.CallResponse{Outcome: host.CallReset, Reason: "reset", Status: 200, Body: []byte("half"), Fields: answered.Fields},
			"", "", "",
			[3]uint32{0, 0, 0},
			11, "reset",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newCalling()
			g.m.Headers("request", g.make, i32(0))
			o, told := outcomes(options{})
			s := start(t, g.m, o)
			c := s.open(newStream())
			if _, err := c.RequestHeaders(1, true); err != nil {
				t.Fatal(err)
			}
			s.caller.next(t).answer <- tt.resp
			wantOutcome(t, told, tt.resp.Outcome)
			mem := c.Memory()
			if n := u32(mem, g.told); n != 1 {
				t.Fatalf("answered %d times", n)
			}
			if tt.name == "no connection" {
				n := uint32(len(tt.body))
				tt.counts[1], tt.head = n, strings.Replace(tt.head, "94", fmt.Sprint(n), 1)
			}
			got := [5]uint32{}
			for i := range got {
				got[i] = u32(mem, g.args+int32(4*i))
			}
			if want := [5]uint32{1, 4, tt.counts[0], tt.counts[1], tt.counts[2]}; got != want {
				t.Errorf("arguments %v, want %v", got, want)
			}
			if h := pairsText(t, text(mem, g.head)); h != tt.head {
				t.Errorf("headers %q, want %q", h, tt.head)
			}
			if h := pairsText(t, text(mem, g.trail)); h != tt.trail {
				t.Errorf("trailers %q, want %q", h, tt.trail)
			}
			if b := text(mem, g.body); b != tt.body {
				t.Errorf("body %q, want %q", b, tt.body)
			}
			if code, m := u32(mem, g.status), text(mem, g.status+4); code != tt.code || m != tt.message {
				t.Errorf("get_status %d %q, want %d %q", code, m, tt.code, tt.message)
			}
			if err := c.Finish(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// An answer is there while its callback runs and at no other time, whatever context is
// the effective one; and it can be read only.
func TestHTTPCallAnswerIsScoped(t *testing.T) {
	t.Parallel()
	m := wasmtest.NewGuest()
	at := m.Slot(64)
	n := int32(0)
	store := func(v wasmtest.Instr) wasmtest.Instr {
		n += 4
		return wasmtest.Store32(i32(at+n-4), v)
	}
	g := &calling{m: m, id: m.Slot(4)}
	value := m.Env("proxy_get_header_map_value", "iiiii>i")
	add := m.Env("proxy_add_header_map_value", "iiiii>i")
	size := m.Env("proxy_get_header_map_size", "ii>i")
	bufferStatus := m.Env("proxy_get_buffer_status", "iii>i")
	setBuffer := m.Env("proxy_set_buffer_bytes", "iiiii>i")
	effective := m.Env("proxy_set_effective_context", "i>i")
	x := m.Slot(8)
	look := func() []wasmtest.Instr {
		return []wasmtest.Instr{
			store(call(value, i32(6), m.Str(":status"), i32(x), i32(x+4))),
			store(call(value, i32(7), m.Str("x-end"), i32(x), i32(x+4))),
			store(call(bufferStatus, i32(4), i32(x), i32(x+4))),
			store(wasmtest.Load32(i32(x + 4))), // flags
			store(call(size, i32(6), i32(x))),
			store(wasmtest.Load32(i32(x))),
		}
	}
	m.Headers("request", append(append(look(), call(g.m.Env("proxy_http_call", "iiiiiiiiii>i"),
		m.Str("u"), m.Str(string(abi.AppendPairs(nil, callHead))), m.Str(""), m.Str(""), i32(0), i32(g.id)), drop()), i32(1))...)
	inside := []wasmtest.Instr{
		call(effective, i32(2)), drop(),
		call(add, i32(6), m.Str("x-new"), m.Str("v")), drop(),
		wasmtest.Store32(i32(x), i32(0)), wasmtest.Store32(i32(x+4), i32(0)),
	}
	inside = append(inside, look()...)
	inside = append(inside, store(call(setBuffer, i32(4), i32(0), i32(0), m.Str("more"))))
	m.Func("proxy_on_http_call_response", "iiiii", inside...)
	o, told := outcomes(options{})
	s := start(t, m, o)
	c := s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	s.caller.next(t).answer <- answered
	wantOutcome(t, told, host.CallAnswered)
	mem := c.Memory()
	var got []uint32
	for i := range int32(13) {
		got = append(got, u32(mem, at+4*i))
	}
	encoded := abi.AppendPairs(nil, append([]abi.Pair{{Name: ":status", Value: "200"}}, answered.Fields...))
	want := []uint32{1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, uint32(len(encoded)), 2}
	if !slices.Equal(got, want) {
		t.Errorf("statuses %v, want %v", got, want)
	}
	if !s.log.contains(false, "a header map was changed that is not there") {
		t.Errorf("logged %q", s.log.lines(false))
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
}

// The asking stream has gone when the answer comes: the root is told all the same, once.
func TestHTTPCallOutlivesStream(t *testing.T) {
	t.Parallel()
	g := newCalling()
	g.m.Headers("request", g.make, i32(1))
	g.m.Func("proxy_on_log", "i", g.make) // and one that begins with the end
	o, told := outcomes(options{})
	s := start(t, g.m, o)
	c, other := s.open(newStream()), s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	if _, err := other.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	first, second := s.caller.next(t), s.caller.next(t)
	if err := c.Finish(nil); err != nil {
		t.Fatal(err)
	}
	third := s.caller.next(t)
	for i, call := range []*fakeCall{third, second, first} { // any order
		if call.ctx.Err() != nil {
			t.Errorf("call %d was given up", i)
		}
		call.answer <- answered
		wantOutcome(t, told, host.CallAnswered)
		mem := other.Memory()
		if n, root := u32(mem, g.told), u32(mem, g.args); n != uint32(i+1) || root != 1 {
			t.Errorf("answered %d times, on context %d", n, root)
		}
	}
	if id := u32(other.Memory(), g.id); id != 12 {
		t.Errorf("the third call has the id %d", id)
	}
	if err := other.Finish(nil); err != nil {
		t.Error(err)
	}
}

// A stream that is paused goes on, or is answered, from the callback for the answer.
func TestHTTPCallResumes(t *testing.T) {
	t.Parallel()
	g := newCalling()
	g.m.Headers("request", g.make, i32(1))
	g.m.Unexport("proxy_on_http_call_response")
	effective := g.m.Env("proxy_set_effective_context", "i>i")
	resume := g.m.Env("proxy_continue_stream", "i>i")
	reply := g.m.Env("proxy_send_local_response", "iiiiiiii>i")
	add := g.m.Env("proxy_add_header_map_value", "iiiii>i")
	g.m.Func("proxy_on_http_call_response", "iiiii",
		wasmtest.Store32(i32(g.told), call(effective, i32(2))),
		call(add, i32(0), g.m.Str("x-user"), g.m.Str("joe")), drop(),
		call(resume, i32(0)), drop(),
		call(reply, i32(403), g.m.Str("denied"), g.m.Str(""), g.m.Str(""), i32(-1)), drop())
	o, told := outcomes(options{})
	s := start(t, g.m, o)
	st := newStream()
	c := s.open(st)
	if act, err := c.RequestHeaders(1, true); err != nil || act != abi.Pause {
		t.Fatal(act, err)
	}
	s.caller.next(t).answer <- answered
	wantOutcome(t, told, host.CallAnswered)
	c.Memory() // locks: the stream is ours again
	if got := strings.Join(st.events, ", "); got != "resume Request" || st.reply == nil || st.reply.Status != 403 {
		t.Errorf("events %q, reply %+v", got, st.reply)
	}
	if v, _ := st.maps[abi.MapRequestHeaders].Get("x-user"); v != "joe" {
		t.Errorf("x-user %q", v)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
}

// An answer that is there at once is not told before the callback that asked, and all
// that it does, is over.
func TestHTTPCallNeverReenters(t *testing.T) {
	t.Parallel()
	m := wasmtest.NewGuest()
	g := &calling{m: m, id: m.Slot(4)}
	busy, told, early := m.Global(0), m.Slot(4), m.Slot(4)
	asks := g.call("u", callHead, "", 0)
	spin := m.Global(0)
	m.Headers("request",
		wasmtest.Set(busy, i32(1)), asks, drop(),
		wasmtest.Set(spin, i32(0)),
		wasmtest.Loop(wasmtest.LtU(wasmtest.Get(spin), i32(200_000)), wasmtest.Set(spin, wasmtest.Add(wasmtest.Get(spin), i32(1)))),
		wasmtest.Set(busy, i32(0)), i32(0))
	m.Func("proxy_on_http_call_response", "iiiii",
		wasmtest.Store32(i32(told), wasmtest.Add(wasmtest.Load32(i32(told)), i32(1))),
		wasmtest.If(wasmtest.Get(busy), wasmtest.Store32(i32(early), i32(1))))
	fast := newFakeCaller()
	fast.now = &answered
	o, outcome := outcomes(options{host: host.HostOptions{Caller: fast}})
	s := start(t, m, o)
	c := s.open(newStream())
	const calls = 100
	for range calls {
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Fatal(err)
		}
	}
	for range calls {
		wantOutcome(t, outcome, host.CallAnswered)
	}
	mem := c.Memory()
	if n := u32(mem, told); n != calls || u32(mem, early) != 0 {
		t.Errorf("%d answers, early: %d", n, u32(mem, early))
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
}

// Calls may be made wherever there is a context.
func TestHTTPCallFromEverywhere(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"proxy_on_context_create", "proxy_on_vm_start", "proxy_on_configure", "proxy_on_tick"} {
		g := newCalling()
		switch name {
		case "proxy_on_context_create":
			g.m.Func(name, "ii", g.make)
		case "proxy_on_tick":
			g.m.Func(name, "i", g.make)
			g.m.Func("proxy_on_configure", "ii>i", call(g.m.Env("proxy_set_tick_period_milliseconds", "i>i"), i32(1)), drop(), i32(1))
		default:
			g.m.Func(name, "ii>i", g.make, i32(1))
		}
		o, told := outcomes(options{})
		s := start(t, g.m, o)
		s.caller.next(t).answer <- answered
		wantOutcome(t, told, host.CallAnswered)
	}
}

// A root that is deleted, a VM that dies and a host that closes give their calls up,
// and the guest is not told.
func TestHTTPCallIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"root", "trap", "close"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			g := newCalling()
			g.m.Headers("request", g.make, i32(0))
			g.m.Headers("response", wasmtest.Unreachable())
			o, told := outcomes(options{})
			s := start(t, g.m, o)
			c := s.open(newStream())
			if _, err := c.RequestHeaders(1, true); err != nil {
				t.Fatal(err)
			}
			pending := s.caller.next(t)
			switch how {
			case "root":
				if err := c.Finish(nil); err != nil {
					t.Error(err)
				}
				s.root.Close()
			case "trap":
				if _, err := c.ResponseHeaders(1, true); err == nil {
					t.Error("no trap")
				}
			case "close":
				if err := s.host.Close(); err != nil {
					t.Error(err)
				}
			}
			select {
			case <-pending.ctx.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the call goes on")
			}
			wantOutcome(t, told, host.CallCanceled)
			_ = c.Finish(nil)
		})
	}
}

// A root that waits for proxy_done hears of its answers.
func TestHTTPCallWhileRootIsDone(t *testing.T) {
	t.Parallel()
	g := newCalling()
	g.m.Unexport("proxy_on_http_call_response")
	g.m.Func("proxy_on_http_call_response", "iiiii", say(g.m, "answered"), call(g.m.Env("proxy_done", ">i")), drop())
	g.m.Func("proxy_on_configure", "ii>i", g.make, i32(1))
	g.m.Func("proxy_on_done", "i>i", i32(0))
	g.m.Func("proxy_on_delete", "i", say(g.m, "deleted"))
	o, told := outcomes(options{})
	s := start(t, g.m, o)
	pending := s.caller.next(t)
	s.root.Close()
	pending.answer <- answered
	wantOutcome(t, told, host.CallAnswered)
	if got := s.log.lines(true); !slices.Equal(got, []string{"answered", "deleted"}) {
		t.Errorf("the guest logged %q", got)
	}
}

// A trap in the callback is one of the VM, like any other.
func TestHTTPCallAnswerTraps(t *testing.T) {
	t.Parallel()
	g := newCalling(wasmtest.Unreachable())
	g.m.Headers("request", g.make, g.make, i32(1))
	o, told := outcomes(options{})
	s := start(t, g.m, o)
	st := newStream()
	c := s.open(st)
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	s.caller.next(t).answer <- answered
	wantOutcome(t, told, host.CallAnswered)
	wantOutcome(t, told, host.CallCanceled) // the other one
	<-st.woken
	if trap, ok := errors.AsType[*host.TrapError](st.failed); !ok || trap.Callback != host.CallHTTPCallResponse {
		t.Errorf("the stream got %v", st.failed)
	}
	_ = c.Finish(nil)
}

// What one plugin may have under way is bounded, in number and in bytes; what has ended
// does not count.
func TestHTTPCallLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		body string
		most int
	}{
		{"calls", "", host.MaxCalls},
		{"bytes", strings.Repeat("x", 1<<20), host.MaxCallBytes >> 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := wasmtest.NewGuest()
			g := &calling{m: m, id: m.Slot(4)}
			status := m.Slot(4)
			m.Headers("request", wasmtest.Store32(i32(status), g.call("u", callHead, tt.body, 0)), i32(0))
			o, told := outcomes(options{})
			s := start(t, m, o)
			c := s.open(newStream())
			ask := func(want abi.Status) {
				t.Helper()
				if _, err := c.RequestHeaders(1, true); err != nil {
					t.Fatal(err)
				}
				if got := abi.Status(u32(c.Memory(), status)); got != want {
					t.Fatalf("status %v, want %v", got, want)
				}
			}
			for range tt.most {
				ask(abi.StatusOK)
			}
			ask(abi.StatusInternalFailure)
			wantOutcome(t, told, host.CallRefused)
			first := s.caller.next(t)
			if tt.body != "" && first.Room(1) {
				t.Error("there is room for an answer")
			}
			first.answer <- answered
			wantOutcome(t, told, host.CallAnswered)
			ask(abi.StatusOK)
			ask(abi.StatusInternalFailure)
			if err := c.Finish(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// Room is what one answer may have.
func TestHTTPCallRoom(t *testing.T) {
	t.Parallel()
	g := newCalling()
	g.m.Headers("request", g.make, i32(0))
	s := start(t, g.m, options{})
	c := s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	call := s.caller.next(t)
	if !call.Room(1<<20-1) || call.Room(2) || !call.Room(1) || call.Room(1) {
		t.Error("an answer may have 1 MiB")
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
}

// Streams, answers, ends and the end of the host at the same time.
func TestHTTPCallHammer(t *testing.T) {
	t.Parallel()
	g := newCalling()
	g.m.Headers("request", g.make, g.make, i32(0))
	g.m.Func("proxy_on_log", "i", g.make)
	fast := newFakeCaller()
	fast.calls = make(chan *fakeCall, 100_000)
	fast.now = &answered
	var answers atomic.Int64
	s := start(t, g.m, options{
		host:   host.HostOptions{Caller: fast},
		plugin: host.PluginOptions{Instances: 3, OnCallout: func(string, host.CallOutcome) { answers.Add(1) }},
	})
	done := make(chan struct{})
	const workers, each = 8, 100
	for range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			for range each {
				var c host.Context
				if s.root.Open(&c, newStream()) == nil {
					_, _ = c.RequestHeaders(1, true)
					_ = c.Finish(nil)
				}
			}
		}()
	}
	for range workers {
		<-done
	}
	if err := s.host.Close(); err != nil {
		t.Error(err)
	}
	if got := answers.Load(); got != workers*each*3 {
		t.Errorf("%d outcomes, want %d", got, workers*each*3)
	}
}
