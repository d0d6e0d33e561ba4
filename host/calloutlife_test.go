package host_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

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
			case <-time.After(30 * time.Second):
				t.Fatal("the call goes on")
			}
			wantOutcome(t, told, host.CallCanceled)
			_ = c.Finish(nil)
		})
	}
}

// An answer that comes when its root has gone is nobody's; those of other roots in the
// same VM are told.
func TestHTTPCallOfDeletedRoot(t *testing.T) {
	t.Parallel()
	g := newCalling()
	g.m.Func("proxy_on_configure", "ii>i", g.make, i32(1))
	g.m.Headers("request", i32(0))
	late := &stubbornCaller{newFakeCaller(), t.Context()}
	o, told := outcomes(options{host: host.HostOptions{Caller: late}})
	s := start(t, g.m, o)
	first := late.next(t)
	other, err := s.plugin.NewRoot(t.Context(), []byte("other"))
	if err != nil {
		t.Fatal(err)
	}
	// The plugin has one VM: what the other root was tried in is gone.
	tried, last := late.next(t), late.next(t)
	if tried.given(t).Err() == nil {
		tried, last = last, tried
	}
	tried.answer <- answered
	wantOutcome(t, told, host.CallCanceled)
	s.root.Close()
	first.answer <- answered
	wantOutcome(t, told, host.CallCanceled)
	last.answer <- answered
	wantOutcome(t, told, host.CallAnswered)
	var c host.Context
	if err := errors.Join(other.Open(&c, newStream()), second(c.RequestHeaders(1, true))); err != nil {
		t.Fatal(err)
	}
	if n, root := u32(c.Memory(), g.told), u32(c.Memory(), g.args); n != 1 || root != 2 {
		t.Errorf("answered %d times, on context %d", n, root)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	other.Close()
}

// A stubbornCaller does not look at the context of a call while the test has not
// answered.
type stubbornCaller struct {
	*fakeCaller
	test context.Context
}

func (s *stubbornCaller) Prepare(r *host.CallRequest) (func(context.Context) host.CallResponse, error) {
	do, err := s.fakeCaller.Prepare(r)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) host.CallResponse { return do(context.WithValue(s.test, givenKey{}, ctx)) }, nil
}

type givenKey struct{}

// given returns the context that the call really has.
func (c *fakeCall) given(t *testing.T) context.Context {
	ctx, ok := c.ctx.Value(givenKey{}).(context.Context)
	if !ok {
		t.Fatal("no stubborn caller")
	}
	return ctx
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
	const head = len("GET" + "/check" + "auth.example.com")
	fields := slices.Repeat([]abi.Pair{{Name: "x"}}, 5000)
	for _, tt := range []struct {
		name     string
		fields   []abi.Pair
		body     string
		trailers []abi.Pair
		size     int // of one; 0: the number is what is bounded
	}{
		{name: "calls"},
		{name: "body", body: strings.Repeat("x", 1<<20), size: head + 1<<20},
		{name: "head", fields: fields, size: head + 5000*(64+1)},
		{name: "trailers", trailers: fields, size: head + 5000*(64+1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := wasmtest.NewGuest()
			g := &calling{m: m, id: m.Slot(4)}
			status := m.Slot(4)
			m.Headers("request", wasmtest.Store32(i32(status), g.send("u", append(slices.Clone(callHead), tt.fields...), tt.body, string(abi.AppendPairs(nil, tt.trailers)), 0)), i32(0))
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
			most, rest := host.MaxCalls, 1<<20
			if tt.size > 0 {
				most, rest = host.MaxCallBytes/tt.size, host.MaxCallBytes%tt.size
			}
			for range most {
				ask(abi.StatusOK)
			}
			ask(abi.StatusInternalFailure)
			wantOutcome(t, told, host.CallRefused)
			first := s.caller.next(t)
			if tt.size > 0 && (first.Room(rest+1) || first.HeadRoom(0, rest+1) || first.HeadRoom(rest/64+1, 0)) {
				t.Error("there is room for more than there is")
			}
			if !first.HeadRoom(1, rest-64) || tt.size > 0 && first.Room(1) {
				t.Errorf("there is no room for an answer of %d bytes, or for more", rest)
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
	if !call.HeadRoom(1000, 64<<10) {
		t.Error("a head is no part of the body")
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
