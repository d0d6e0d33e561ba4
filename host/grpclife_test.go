package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/wasmtest"
)

// A call and a stream outlive the stream that asked for them: the root is told.
func TestGRPCOutlivesStream(t *testing.T) {
	t.Parallel()
	g := newSpeaking("")
	g.m.Headers("request", g.unary("a"), g.stream(), i32(0))
	o, told := outcomes(options{})
	s := start(t, g.m, o)
	c := s.open(newStream())
	_, _ = c.RequestHeaders(1, true)
	first, second := s.grpc.next(t), s.grpc.next(t)
	if first.Stream {
		first, second = second, first
	}
	if err := c.Finish(nil); err != nil {
		t.Fatal(err)
	}
	second.message("m")
	first.message("n")
	first.end(host.GRPCEnd{Outcome: host.CallAnswered})
	wantOutcome(t, told, host.CallAnswered)
	wantEvents(t, s, `receive 1 10 1 message "m"`, `receive 1 5 1 message "n"`)
}

// A root that is deleted, a VM that dies and a host that closes give them up, silently.
func TestGRPCIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"root", "trap", "trap in a callback", "close"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			g := newSpeaking("proxy_on_grpc_receive", wasmtest.Unreachable())
			g.m.Headers("request", g.unary("a"), g.stream(), i32(0))
			g.m.Headers("response", wasmtest.Unreachable())
			o, told := outcomes(options{})
			s := start(t, g.m, o)
			c := s.open(newStream())
			_, _ = c.RequestHeaders(1, true)
			first, second := s.grpc.next(t), s.grpc.next(t)
			switch how {
			case "root":
				_ = c.Finish(nil)
				s.root.Close()
			case "trap":
				if _, err := c.ResponseHeaders(1, true); err == nil {
					t.Error("no trap")
				}
			case "trap in a callback":
				if second.Stream {
					first, second = second, first
				}
				first.message("boom")
			case "close":
				if err := s.host.Close(); err != nil {
					t.Error(err)
				}
			}
			for _, r := range []*fakeRPC{first, second} {
				select {
				case <-r.done:
				case <-time.After(30 * time.Second):
					t.Fatal("it goes on")
				}
				wantOutcome(t, told, host.CallCanceled)
			}
			if st := s.plugin.Stats(); st.Calls != 0 {
				t.Errorf("%d calls under way", st.Calls)
			}
			_ = c.Finish(nil)
		})
	}
}

// Nothing is told before the callback that asked is over.
func TestGRPCNeverReenters(t *testing.T) {
	t.Parallel()
	m := wasmtest.NewGuest()
	g := &speaking{m: m, id: m.Slot(4)}
	busy, spin, told, early := m.Global(0), m.Global(0), m.Slot(4), m.Slot(4)
	m.Headers("request",
		wasmtest.Set(busy, i32(1)), g.unary("x"), wasmtest.Set(spin, i32(0)),
		wasmtest.Loop(wasmtest.LtU(wasmtest.Get(spin), i32(100_000)), wasmtest.Set(spin, wasmtest.Add(wasmtest.Get(spin), i32(1)))),
		wasmtest.Set(busy, i32(0)), i32(0))
	m.Func("proxy_on_grpc_close", "iii",
		wasmtest.Store32(i32(told), wasmtest.Add(wasmtest.Load32(i32(told)), i32(1))),
		wasmtest.If(wasmtest.Get(busy), wasmtest.Store32(i32(early), i32(1))))
	fast := newFakeGRPC()
	fast.now = &host.GRPCEnd{Outcome: host.CallUnavailable, Code: 14}
	o, outcome := outcomes(options{host: host.HostOptions{GRPC: fast}})
	s := start(t, m, o)
	c := s.open(newStream())
	const calls = 50
	for range calls {
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Fatal(err)
		}
	}
	for range calls {
		wantOutcome(t, outcome, host.CallUnavailable)
	}
	if mem := c.Memory(); u32(mem, told) != calls || u32(mem, early) != 0 {
		t.Errorf("%d answers, early: %d", u32(mem, told), u32(mem, early))
	}
	_ = c.Finish(nil)
}

// What waits to be sent is bounded, and a guest that sends more than that hears of it as of
// a status of the server's.
func TestGRPCSendLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		size  int
		count int
		text  string
	}{
		{"much", 600 << 10, 3, "too much waits to be sent"},
		{"large", host.MaxGRPCMessage + 1, 1, "a message is too large to be sent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newSpeaking("")
			big := strings.Repeat("x", tt.size)
			body := []wasmtest.Instr{g.stream()}
			statuses := g.m.Slot(16)
			for i := range tt.count {
				body = append(body, wasmtest.Store32(i32(statuses+4*int32(i)), g.send(big, 0)))
			}
			g.m.Headers("request", append(body, i32(0))...)
			slow := &slowGRPC{newFakeGRPC()}
			o, told := outcomes(options{host: host.HostOptions{GRPC: slow}})
			s := start(t, g.m, o)
			c := s.open(newStream())
			if _, err := c.RequestHeaders(1, true); err != nil {
				t.Fatal(err)
			}
			wantOutcome(t, told, host.CallReset)
			mem := c.Memory()
			for i := range tt.count {
				if st := u32(mem, statuses+4*int32(i)); st != 0 {
					t.Errorf("send %d: status %d", i, st)
				}
			}
			wantEvents(t, s, "receive_trailing_metadata 1 6 0", fmt.Sprintf("close 1 6 8 status 8 %q", tt.text))
			_ = c.Finish(nil)
		})
	}
}

// slowGRPC takes nothing.
type slowGRPC struct{ *fakeGRPC }

func (s *slowGRPC) PrepareGRPC(r *host.GRPCRequest) (func(ctx context.Context, c *host.GRPCCall) host.GRPCEnd, error) {
	if _, err := s.fakeGRPC.PrepareGRPC(r); err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ *host.GRPCCall) host.GRPCEnd {
		<-ctx.Done()
		return host.GRPCEnd{Outcome: host.CallCanceled}
	}, nil
}

// The number of calls of HTTP and gRPC is bounded together, and what has ended does not count.
func TestGRPCLimits(t *testing.T) {
	t.Parallel()
	g := newSpeaking("")
	st := g.m.Slot(4)
	f := g.m.Env("proxy_grpc_stream", "iiiiiiiii>i")
	g.m.Headers("request", wasmtest.Store32(i32(st), call(f, g.m.Str("u"), g.m.Str("s"), g.m.Str("m"), g.m.Str(""), i32(g.id))), i32(0))
	o, told := outcomes(options{})
	s := start(t, g.m, o)
	c := s.open(newStream())
	for i := range host.MaxCalls + 1 {
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Fatal(err)
		}
		if i == host.MaxCalls-1 {
			if got := u32(c.Memory(), st); got != 0 {
				t.Fatalf("stream %d: status %d", i, got)
			}
		}
	}
	wantOutcome(t, told, host.CallRefused)
	if got := u32(c.Memory(), st); got != 10 {
		t.Errorf("one too many: status %d", got)
	}
	s.grpc.next(t).end(host.GRPCEnd{Outcome: host.CallAnswered})
	wantOutcome(t, told, host.CallAnswered)
	_, _ = c.RequestHeaders(1, true)
	if got := u32(c.Memory(), st); got != 0 {
		t.Errorf("after one has ended: status %d", got)
	}
	_ = c.Finish(nil)
}

// Many streams at a time, from all sides: every one is accounted for once.
func TestGRPCHammer(t *testing.T) {
	t.Parallel()
	g := &speaking{m: wasmtest.NewGuest()}
	g.id = g.m.Slot(4)
	for _, name := range grpcExports {
		g.m.Func(name, "iii", wasmtest.Seq())
	}
	g.m.Headers("request", g.stream(), g.send("a", 0), drop(), g.unary("b"), i32(0))
	g.m.Headers("response", g.stream(), g.send("a", 0), drop(), g.cancel(), drop(), i32(0))
	var told atomic.Int64
	o := options{plugin: host.PluginOptions{Instances: 2, OnCallout: func(string, host.CallOutcome) { told.Add(1) }}}
	s := start(t, g.m, o)
	const workers, each = 4, 50
	stop := make(chan struct{})
	var servers, clients sync.WaitGroup
	servers.Go(func() {
		for {
			select {
			case r := <-s.grpc.calls:
				servers.Go(func() {
					r.head()
					r.message("x")
					r.end(host.GRPCEnd{Outcome: host.CallAnswered})
				})
			case <-stop:
				return
			}
		}
	})
	for range workers {
		clients.Go(func() {
			for range each {
				c := s.open(newStream())
				_, err1 := c.RequestHeaders(1, true)
				_, err2 := c.ResponseHeaders(1, true)
				if err := errors.Join(err1, err2, c.Finish(nil)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	for end := time.Now().Add(20 * time.Second); told.Load() < 3*workers*each && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	servers.Wait()
	if n := told.Load(); n != 3*workers*each {
		t.Errorf("%d outcomes, want %d", n, 3*workers*each)
	}
	if st := s.plugin.Stats(); st.Calls != 0 || len(st.Traps) != 0 {
		t.Errorf("stats %+v", st)
	}
	if n := s.plugin.CallBytes(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
}
