package host_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

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

// TestHTTPCallEndsWithItsStream: a call is given no longer than the stream that it is
// made for, and never no time at all.
func TestHTTPCallEndsWithItsStream(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		timeout     int
		left        time.Duration // of the stream; 0: it has no deadline
		least, most time.Duration
	}{
		{5000, 0, 5 * time.Second, 5 * time.Second},
		{5000, time.Hour, 5 * time.Second, 5 * time.Second},
		{0, 10 * time.Second, time.Second, 10 * time.Second},
		{50_000, 10 * time.Second, time.Second, 10 * time.Second},
		{50_000, -time.Second, time.Millisecond, time.Millisecond},
	} {
		p := newProbe(v021, "proxy_http_call", "iiiiiiiiii>i", "u", string(abi.AppendPairs(nil, callHead)), "", "", tt.timeout, out(0))
		stream := newStream()
		if tt.left != 0 {
			stream.over = time.Now().Add(tt.left)
		}
		status, _, s := p.run(t, stream, options{})
		if status != abi.StatusOK {
			t.Fatalf("status %v", status)
		}
		if got := s.caller.next(t).Timeout; got < tt.least || got > tt.most {
			t.Errorf("timeout %d ms, %v left: the call has %v, want %v to %v", tt.timeout, tt.left, got, tt.least, tt.most)
		}
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
	at := m.Slot(80)
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
	m.Headers("response", append(append([]wasmtest.Instr{
		wasmtest.Store32(i32(x), i32(0)), wasmtest.Store32(i32(x+4), i32(0)),
	}, look()...), i32(0))...)
	o, told := outcomes(options{})
	s := start(t, m, o)
	c := s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	s.caller.next(t).answer <- answered
	wantOutcome(t, told, host.CallAnswered)
	if _, err := c.ResponseHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	mem := c.Memory()
	var got []uint32
	for i := range int32(19) {
		got = append(got, u32(mem, at+4*i))
	}
	encoded := abi.AppendPairs(nil, append([]abi.Pair{{Name: ":status", Value: "200"}}, answered.Fields...))
	want := []uint32{1, 1, 1, 0, 0, 0 /* during */, 0, 0, 0, 1, 0, uint32(len(encoded)), 2 /* after */, 1, 1, 1, 0, 0, 0}
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
