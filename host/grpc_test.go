package host_test

import (
	"encoding/binary"
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

// A speaking is a guest that makes gRPC calls, and logs what it is told: one line for each
// callback, its arguments, and what it reads there.
type speaking struct {
	m  *wasmtest.Module
	id int32 // of the call made last
}

var grpcExports = []string{
	"proxy_on_grpc_receive_initial_metadata", "proxy_on_grpc_receive", "proxy_on_grpc_receive_trailing_metadata", "proxy_on_grpc_close",
}

// newSpeaking makes the guest. then is added to the callback of that name.
func newSpeaking(callback string, then ...wasmtest.Instr) *speaking {
	g := &speaking{m: wasmtest.NewGuest()}
	g.id = g.m.Slot(4)
	g.listen(grpcExports, callback, then...)
	return g
}

// newSpeakingAs is newSpeaking, with the names of the SDK for C++.
func newSpeakingAs(other bool) *speaking {
	g := &speaking{m: wasmtest.NewGuest()}
	g.id = g.m.Slot(4)
	names := slices.Clone(grpcExports)
	if other {
		names[2] = "proxy_on_grpc_trailing_metadata"
	}
	g.listen(names, "")
	return g
}

func (g *speaking) listen(names []string, callback string, then ...wasmtest.Instr) {
	m := g.m
	for i, name := range names {
		out := m.Slot(64)
		pairs := m.Env("proxy_get_header_map_pairs", "iii>i")
		buffer := m.Env("proxy_get_buffer_bytes", "iiiii>i")
		status := m.Env("proxy_get_status", "iii>i")
		log := m.Env("proxy_log", "iii>i")
		body := []wasmtest.Instr{
			wasmtest.Store32(i32(out), wasmtest.Local(0)), wasmtest.Store32(i32(out+4), wasmtest.Local(1)), wasmtest.Store32(i32(out+8), wasmtest.Local(2)),
			call(pairs, i32(4), i32(out+16), i32(out+20)), drop(),
			call(pairs, i32(5), i32(out+24), i32(out+28)), drop(),
			wasmtest.Store32(i32(out+12), call(buffer, i32(5), i32(0), i32(0x7fffffff), i32(out+32), i32(out+36))),
			call(status, i32(out+40), i32(out+44), i32(out+48)), drop(),
			wasmtest.Store32(i32(out+52), i32(int32(i))),
			call(log, i32(2), i32(out), i32(56)), drop(),
			call(log, i32(2), wasmtest.Load32(i32(out+16)), wasmtest.Load32(i32(out+20))), drop(),
			call(log, i32(2), wasmtest.Load32(i32(out+24)), wasmtest.Load32(i32(out+28))), drop(),
			call(log, i32(2), wasmtest.Load32(i32(out+32)), wasmtest.Load32(i32(out+36))), drop(),
			call(log, i32(2), wasmtest.Load32(i32(out+44)), wasmtest.Load32(i32(out+48))), drop(),
			wasmtest.Store32(i32(out+36), i32(0)),
		}
		if name == callback {
			body = append(body, then...)
		}
		m.Func(name, "iii", body...)
	}
}

// unary makes a call and drops the status.
func (g *speaking) unary(message string) wasmtest.Instr {
	f := g.m.Env("proxy_grpc_call", "iiiiiiiiiiii>i")
	return wasmtest.Seq(call(f, g.m.Str("u"), g.m.Str("pkg.Svc"), g.m.Str("Do"), g.m.Str(""), g.m.Str(message), i32(1000), i32(g.id)), drop())
}

// stream opens one and drops the status.
func (g *speaking) stream() wasmtest.Instr {
	f := g.m.Env("proxy_grpc_stream", "iiiiiiiii>i")
	return wasmtest.Seq(call(f, g.m.Str("u"), g.m.Str("pkg.Svc"), g.m.Str("Chat"), g.m.Str(""), i32(g.id)), drop())
}

// send sends on the stream opened last and leaves the status.
func (g *speaking) send(message string, end int32) wasmtest.Instr {
	return call(g.m.Env("proxy_grpc_send", "iiii>i"), wasmtest.Load32(i32(g.id)), g.m.Str(message), i32(end))
}

func (g *speaking) cancel() wasmtest.Instr {
	return call(g.m.Env("proxy_grpc_cancel", "i>i"), wasmtest.Load32(i32(g.id)))
}

func (g *speaking) close() wasmtest.Instr {
	return call(g.m.Env("proxy_grpc_close", "i>i"), wasmtest.Load32(i32(g.id)))
}

// events reads the log of a speaking guest: "receive 1 6 5: 'hello'", with what could be read.
func events(t *testing.T, s *setup) []string {
	t.Helper()
	var list []string
	lines := s.log.lines(true)
	for i := 0; i+4 < len(lines); i += 5 {
		b := []byte(lines[i])
		if len(b) != 56 {
			t.Fatalf("line %d has %d bytes: %q", i, len(b), lines[i])
		}
		n := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
		text := fmt.Sprintf("%s %d %d %d", strings.TrimPrefix(grpcExports[n(52)], "proxy_on_grpc_"), n(0), n(4), n(8))
		if lines[i+1] != "" {
			text += " head " + pairsText(t, lines[i+1])
		}
		if lines[i+2] != "" {
			text += " trailer " + pairsText(t, lines[i+2])
		}
		if n(12) == 0 {
			text += fmt.Sprintf(" message %q", lines[i+3])
		}
		if n(40) != 0 || lines[i+4] != "" {
			text += fmt.Sprintf(" status %d %q", n(40), lines[i+4])
		}
		list = append(list, text)
	}
	return list
}

func wantEvents(t *testing.T, s *setup, want ...string) {
	t.Helper()
	if got := events(t, s); !slices.Equal(got, want) {
		t.Errorf("the guest was told\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// What a guest sees of a unary call: its message, or its status, and nothing else.
func TestGRPCCallAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		messages []string
		end      host.GRPCEnd
		want     string
		outcome  host.CallOutcome
	}{
		{"well", []string{"answer"}, host.GRPCEnd{Outcome: host.CallAnswered}, `receive 1 5 6 message "answer"`, host.CallAnswered},
		{"well, and empty", []string{""}, host.GRPCEnd{Outcome: host.CallAnswered}, `receive 1 5 0 message ""`, host.CallAnswered},
		{"a status", nil, host.GRPCEnd{Outcome: host.CallAnswered, Code: 7, Message: "no"}, `close 1 5 7 status 7 "no"`, host.CallAnswered},
		{"a message and a status", []string{"x"}, host.GRPCEnd{Outcome: host.CallAnswered, Code: 5}, `close 1 5 5 status 5 ""`, host.CallAnswered},
		{"well, without a message", nil, host.GRPCEnd{Outcome: host.CallAnswered}, `close 1 5 13 status 13 "the call went well, and no message came"`, host.CallAnswered},
		{"two messages", []string{"a", "b"}, host.GRPCEnd{Outcome: host.CallAnswered}, `close 1 5 13 status 13 "more than one message came for a call that has one"`, host.CallReset},
		{"no connection", nil, host.GRPCEnd{Outcome: host.CallUnavailable, Code: 14, Message: "refused"}, `close 1 5 14 status 14 "refused"`, host.CallUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newSpeaking("")
			g.m.Headers("request", g.unary("question"), i32(1))
			o, told := outcomes(options{})
			s := start(t, g.m, o)
			c := s.open(newStream())
			if _, err := c.RequestHeaders(1, true); err != nil {
				t.Fatal(err)
			}
			r := s.grpc.next(t)
			r.wantSent(t, true, "question")
			r.head(abi.Pair{Name: "x", Value: "y"}) // not told
			for _, m := range tt.messages {
				r.message(m)
			}
			r.end(tt.end)
			wantOutcome(t, told, tt.outcome)
			wantEvents(t, s, tt.want)
			if n := s.plugin.Stats().Calls; n != 0 {
				t.Errorf("%d calls are under way", n)
			}
			if err := c.Finish(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a call is asked for, and what cannot be asked for.
func TestGRPCCallArguments(t *testing.T) {
	t.Parallel()
	enc := func(kv ...string) string {
		var p []abi.Pair
		for i := 0; i < len(kv); i += 2 {
			p = append(p, abi.Pair{Name: kv[i], Value: kv[i+1]})
		}
		return string(abi.AppendPairs(nil, p))
	}
	for _, tt := range []struct {
		name, service, method, metadata string
		timeout                         int
		want                            abi.Status
		log                             string
		fields                          string
		wait                            time.Duration
	}{
		{name: "plain", service: "pkg.Svc", method: "Do", timeout: 250, wait: 250 * time.Millisecond},
		{name: "no timeout", service: "pkg.Svc", method: "Do", wait: time.Minute},
		{name: "very long timeout", service: "pkg.Svc", method: "Do", timeout: 0x7fffffff, wait: 10 * time.Minute},
		{name: "metadata", service: "s", method: "m", metadata: enc("X-Token", "t", "x-token", "u", "a-bin", "AP8=,AA"), fields: "x-token=t x-token=u a-bin=AP8=,AA", wait: time.Minute},
		{name: "broken metadata are none", service: "s", method: "m", metadata: "\x01\x00\x00", wait: time.Minute},
		{name: "pseudo field", service: "s", method: "m", metadata: enc(":path", "/evil"), want: 4, log: "pseudo"},
		{name: "line break", service: "s", method: "m", metadata: enc("a", "b\r\nc: d"), want: 4, log: "must not have"},
		{name: "no base64 in -Bin", service: "s", method: "m", metadata: enc("A-Bin", "!"), want: 4, log: "base64"},
		{name: "raw bytes in -bin", service: "s", method: "m", metadata: enc("a-bin", "\x00\xff"), want: 4, log: "base64"},
		{name: "slash", service: "a/../b", method: "m", want: 4, log: "service or method"},
		{name: "dots", service: "..", method: "m", want: 4, log: "service or method"},
		{name: "no method", service: "s", method: "", want: 4, log: "service or method"},
		{name: "query", service: "s", method: "m?x", want: 4, log: "service or method"},
		{name: "large metadata", service: "s", method: "m", metadata: strings.Repeat("x", 64<<10+1), want: 10, log: "too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProbe(v021, "proxy_grpc_call", "iiiiiiiiiiii>i", "u", tt.service, tt.method, tt.metadata, "m", tt.timeout, out(0))
			status, _, s := p.run(t, newStream(), options{})
			if status != tt.want {
				t.Errorf("status %v, want %v", status, tt.want)
			}
			if tt.log != "" && !s.log.contains(false, tt.log) {
				t.Errorf("the host logged %q, want a line with %q", s.log.lines(false), tt.log)
			}
			if tt.want != abi.StatusOK {
				return
			}
			r := s.grpc.next(t)
			if got := (&fakeMap{pairs: r.Metadata}).String(); got != tt.fields || r.Service != tt.service || r.Method != tt.method || r.Timeout != tt.wait || r.Stream {
				t.Errorf("asked for %+v", r.GRPCRequest)
			}
		})
	}
}

// A call without anybody who makes it.
func TestGRPCWithoutCaller(t *testing.T) {
	t.Parallel()
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p := newProbe(v021, "proxy_grpc_stream", "iiiiiiiii>i", "u", "s", "m", "", out(0))
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
	_ = c.Finish(nil)
}

func protoBytes(number uint32, s string) string { return string(abi.AppendProtoBytes(nil, number, s)) }

// An upstream may be named by an Envoy GrpcService; its exact name comes first.
func TestGRPCService(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, upstream string
		timeout        int
		want           abi.Status
		authority      string
		fields         string
		wait           time.Duration
	}{
		{name: "envoy_grpc", upstream: protoBytes(1, protoBytes(1, "u")), wait: time.Minute, fields: "own=1"},
		{name: "with all", upstream: protoBytes(1, protoBytes(1, "u")+protoBytes(2, "auth.test")) + protoBytes(3, "\x08\x02\x10\x01") +
			protoBytes(5, protoBytes(1, "X-From")+protoBytes(2, "service")), authority: "auth.test", wait: 2*time.Second + 1, fields: "x-from=service own=1"},
		{name: "the guest's timeout counts", upstream: protoBytes(1, protoBytes(1, "u")) + protoBytes(3, "\x08\x02"), timeout: 100, wait: 100 * time.Millisecond, fields: "own=1"},
		{name: "google_grpc", upstream: protoBytes(2, protoBytes(1, "u")), wait: time.Minute, fields: "own=1"},
		{name: "a negative timeout is none", upstream: protoBytes(1, protoBytes(1, "u")) + protoBytes(3, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), wait: time.Minute, fields: "own=1"},
		{name: "unknown cluster", upstream: protoBytes(1, protoBytes(1, "x")), want: 4},
		{name: "not granted", upstream: protoBytes(1, protoBytes(1, "v")), want: 10},
		{name: "no name", upstream: protoBytes(1, ""), want: 4},
		{name: "name with control bytes", upstream: protoBytes(1, protoBytes(1, "\x1b[0m")), want: 4},
		{name: "cut", upstream: protoBytes(1, protoBytes(1, "u"))[:3], want: 4},
		{name: "bad metadata", upstream: protoBytes(1, protoBytes(1, "u")) + protoBytes(5, protoBytes(1, "a")+protoBytes(2, "b\n")), want: 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProbe(v021, "proxy_grpc_call", "iiiiiiiiiiii>i", tt.upstream, "s", "m", string(abi.AppendPairs(nil, []abi.Pair{{Name: "own", Value: "1"}})), "m", tt.timeout, out(0))
			status, _, s := p.run(t, newStream(), options{})
			if status != tt.want {
				t.Fatalf("status %v, want %v: %q", status, tt.want, s.log.lines(false))
			}
			if tt.want != abi.StatusOK {
				return
			}
			r := s.grpc.next(t)
			if got := (&fakeMap{pairs: r.Metadata}).String(); got != tt.fields || r.Upstream != "u" || r.Authority != tt.authority || r.Timeout != tt.wait {
				t.Errorf("asked for %+v", r.GRPCRequest)
			}
		})
	}
}

// The guest of early SDKs has no metadata, and everything else where it belongs.
func TestGRPCEarlyTypes(t *testing.T) {
	t.Parallel()
	p := newProbe("proxy_abi_version_0_1_0", "proxy_grpc_call", "iiiiiiiiii>i", "u", "pkg.Svc", "Do", "question", 250, out(0))
	status, mem, s := p.run(t, newStream(), options{})
	r := s.grpc.next(t)
	r.wantSent(t, true, "question")
	if status != abi.StatusOK || u32(p.area(t, mem, 4), 0) != 5 || r.Service != "pkg.Svc" || r.Method != "Do" || r.Timeout != 250*time.Millisecond || len(r.Metadata) != 0 {
		t.Errorf("status %v, asked for %+v", status, r.GRPCRequest)
	}
	p = newProbe("proxy_abi_version_0_1_0", "proxy_grpc_stream", "iiiiiii>i", "u", "pkg.Svc", "Do", out(0))
	status, mem, s = p.run(t, newStream(), options{})
	r = s.grpc.next(t)
	if status != abi.StatusOK || u32(p.area(t, mem, 4), 0) != 6 || r.Service != "pkg.Svc" || r.Method != "Do" || !r.Stream || r.Timeout != 0 {
		t.Errorf("status %v, asked for %+v", status, r.GRPCRequest)
	}
}

// A stream: metadata, messages, trailing metadata and status, each readable in its callback
// alone. C++ and AssemblyScript have another name for one of them.
func TestGRPCStream(t *testing.T) {
	t.Parallel()
	for _, other := range []bool{false, true} {
		g := newSpeakingAs(other)
		g.m.Headers("request", g.stream(), g.send("one", 0), drop(), g.send("", 0), drop(), g.send("two", 1), drop(), i32(1))
		o, told := outcomes(options{})
		s := start(t, g.m, o)
		c := s.open(newStream())
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Fatal(err)
		}
		r := s.grpc.next(t)
		r.wantSent(t, true, "one", "", "two")
		r.head(abi.Pair{Name: ":status", Value: "200"}, abi.Pair{Name: "x-bin", Value: "AA"})
		r.message("hello")
		r.message("")
		r.end(host.GRPCEnd{Outcome: host.CallAnswered, Code: 9, Message: "enough", Trailer: []abi.Pair{{Name: "grpc-status", Value: "9"}}})
		wantOutcome(t, told, host.CallAnswered)
		wantEvents(t, s,
			"receive_initial_metadata 1 6 2 head :status=200 x-bin=AA",
			`receive 1 6 5 message "hello"`,
			`receive 1 6 0 message ""`,
			"receive_trailing_metadata 1 6 1 trailer grpc-status=9",
			`close 1 6 9 status 9 "enough"`)
		_ = c.Finish(nil)
	}
}

// Outside of their callbacks there is nothing to read; nothing of it can be written.
func TestGRPCViews(t *testing.T) {
	t.Parallel()
	m := wasmtest.NewGuest()
	g := &speaking{m: m, id: m.Slot(4)}
	at, x, n := m.Slot(80), m.Slot(8), int32(0)
	store := func(v wasmtest.Instr) wasmtest.Instr {
		n += 4
		return wasmtest.Store32(i32(at+n-4), v)
	}
	value := m.Env("proxy_get_header_map_value", "iiiii>i")
	add := m.Env("proxy_add_header_map_value", "iiiii>i")
	buffer := m.Env("proxy_get_buffer_bytes", "iiiii>i")
	set := m.Env("proxy_set_buffer_bytes", "iiiii>i")
	flags := m.Env("proxy_get_buffer_status", "iii>i")
	look := func() []wasmtest.Instr {
		return []wasmtest.Instr{
			store(call(value, i32(4), m.Str("a"), i32(x), i32(x+4))), store(call(value, i32(5), m.Str("a"), i32(x), i32(x+4))),
			store(call(buffer, i32(5), i32(0), i32(9), i32(x), i32(x+4))), store(call(flags, i32(5), i32(x), i32(x+4))),
		}
	}
	m.Func("proxy_on_grpc_receive", "iii", slices.Concat(look(), []wasmtest.Instr{
		call(add, i32(4), m.Str("a"), m.Str("b")), drop(), store(call(set, i32(5), i32(0), i32(0), m.Str("b"))),
	})...)
	m.Headers("request", slices.Concat([]wasmtest.Instr{g.stream()}, look(), []wasmtest.Instr{i32(0)})...)
	s := start(t, m, options{})
	c := s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	s.grpc.next(t).message("hello")
	mem := c.Memory()
	var got []uint32
	for i := range int32(9) {
		got = append(got, u32(mem, at+4*i))
	}
	if want := []uint32{1, 1, 0, 0, 2, 1, 1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("statuses %v, want %v", got, want)
	}
	_ = c.Finish(nil)
}

// close ends the guest's side of a stream, and all of a call; after cancel there is silence.
func TestGRPCCloseAndCancel(t *testing.T) {
	t.Parallel()
	t.Run("close a stream", func(t *testing.T) {
		t.Parallel()
		g := newSpeaking("")
		statuses := g.m.Slot(8)
		g.m.Headers("request", g.stream(), g.send("x", 0), drop(),
			wasmtest.Store32(i32(statuses), g.close()), wasmtest.Store32(i32(statuses+4), g.send("late", 0)), i32(0))
		o, told := outcomes(options{})
		s := start(t, g.m, o)
		c := s.open(newStream())
		_, _ = c.RequestHeaders(1, true)
		r := s.grpc.next(t)
		r.wantSent(t, true, "x")
		if mem := c.Memory(); u32(mem, statuses) != 0 || u32(mem, statuses+4) != 2 {
			t.Errorf("close %d, send behind it %d", u32(mem, statuses), u32(mem, statuses+4))
		}
		r.message("still told")
		r.end(host.GRPCEnd{Outcome: host.CallAnswered})
		wantOutcome(t, told, host.CallAnswered)
		wantEvents(t, s, `receive 1 6 10 message "still told"`, "receive_trailing_metadata 1 6 0", "close 1 6 0")
		_ = c.Finish(nil)
	})
	for _, tt := range []struct {
		name  string
		begin func(g *speaking) []wasmtest.Instr
	}{
		{"close a call", func(g *speaking) []wasmtest.Instr { return []wasmtest.Instr{g.unary("x"), g.close(), drop()} }},
		{"cancel a call", func(g *speaking) []wasmtest.Instr { return []wasmtest.Instr{g.unary("x"), g.cancel(), drop()} }},
		{"cancel a stream", func(g *speaking) []wasmtest.Instr { return []wasmtest.Instr{g.stream(), g.cancel(), drop()} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newSpeaking("")
			g.m.Headers("request", append(tt.begin(g), i32(0))...)
			o, told := outcomes(options{})
			s := start(t, g.m, o)
			c := s.open(newStream())
			_, _ = c.RequestHeaders(1, true)
			<-s.grpc.next(t).done
			wantOutcome(t, told, host.CallCanceled)
			wantEvents(t, s)
			if n := s.plugin.Stats().Calls; n != 0 {
				t.Errorf("%d calls under way", n)
			}
			_ = c.Finish(nil)
		})
	}
	t.Run("cancel in a callback", func(t *testing.T) {
		t.Parallel()
		for i, name := range grpcExports[:3] {
			g := &speaking{m: wasmtest.NewGuest()}
			g.id = g.m.Slot(4)
			cancel := g.m.Env("proxy_grpc_cancel", "i>i")
			g.m.Func(name, "iii", say(g.m, "told"), call(cancel, wasmtest.Local(1)), drop())
			for _, other := range grpcExports[i+1:] {
				g.m.Func(other, "iii", say(g.m, "more"))
			}
			g.m.Headers("request", g.stream(), i32(0))
			o, told := outcomes(options{})
			s := start(t, g.m, o)
			c := s.open(newStream())
			_, _ = c.RequestHeaders(1, true)
			r := s.grpc.next(t)
			r.head()
			r.message("x")
			r.end(host.GRPCEnd{Outcome: host.CallAnswered})
			want := host.CallCanceled
			if i == 2 {
				want = host.CallAnswered // it was over
			}
			wantOutcome(t, told, want)
			if got := s.log.lines(true); !slices.Equal(got, []string{"told"}) {
				t.Errorf("%s: the guest logged %q", name, got)
			}
			_ = c.Finish(nil)
		}
	})
}
