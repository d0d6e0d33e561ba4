package host_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
)

// A callbackCase makes one callback happen, on the stream c or otherwise.
type callbackCase struct {
	name   string
	do     func(s *callbackSetup, c *host.Context) (abi.Action, error)
	args   []uint32 // that the guest gets; the stream's id is 2, its root's 1
	action bool     // the answer is an action
}

// callbackSetup is a plugin whose clock is moved by hand.
type callbackSetup struct {
	*setup
	now time.Time
}

func (s *callbackSetup) words(at, n int) []uint32 {
	mem := s.plugin.Peek()
	words := make([]uint32, n)
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(mem[at+8*i:])
	}
	return words
}

func newCallback(t *testing.T, wasm []byte, config string) *callbackSetup {
	t.Helper()
	s := &callbackSetup{now: time.Unix(1000, 0)}
	s.setup = startWasm(t, wasm, options{
		host:   host.HostOptions{ManualTicks: true, Now: func() time.Time { return s.now }},
		plugin: host.PluginOptions{VMConfig: []byte("vm")},
		config: config,
	})
	return s
}

// grpcEvent has a request open a stream, and something happen there.
func grpcEvent(happen func(r *fakeRPC)) func(*callbackSetup, *host.Context) (abi.Action, error) {
	return func(s *callbackSetup, c *host.Context) (abi.Action, error) {
		a, err := c.RequestHeaders(1, true)
		happen(s.grpc.next(s.t))
		for end := time.Now().Add(10 * time.Second); s.words(atStatus, 1)[0] == 0 && time.Now().Before(end); {
			runtime.Gosched() // it is told on another goroutine
		}
		return a, err
	}
}

func callbackCases() []callbackCase {
	nothing := func(*callbackSetup, *host.Context) (abi.Action, error) { return abi.Continue, nil }
	finish := func(_ *callbackSetup, c *host.Context) (abi.Action, error) { return abi.Continue, c.Finish(nil) }
	return []callbackCase{
		{"proxy_on_context_create", nothing, []uint32{1, 0}, false},
		{"proxy_on_vm_start", nothing, []uint32{1, 2}, false},
		{"proxy_on_configure", nothing, []uint32{1, 6}, false},
		{"proxy_on_tick", func(s *callbackSetup, _ *host.Context) (abi.Action, error) {
			s.now = s.now.Add(time.Second)
			if n := s.plugin.RunTicks(); n != 1 {
				s.t.Errorf("%d ticks", n)
			}
			return abi.Continue, nil
		}, []uint32{1}, false},
		{"proxy_on_queue_ready", func(s *callbackSetup, c *host.Context) (abi.Action, error) {
			a, err := c.RequestHeaders(1, true)
			if n := s.plugin.RunQueues(); n != 1 {
				s.t.Errorf("%d calls", n)
			}
			return a, err
		}, []uint32{1, 1}, false},
		{"proxy_on_http_call_response", func(s *callbackSetup, c *host.Context) (abi.Action, error) {
			a, err := c.RequestHeaders(1, true)
			s.caller.next(s.t).answer <- answered
			for end := time.Now().Add(10 * time.Second); s.words(atStatus, 1)[0] == 0 && time.Now().Before(end); {
				runtime.Gosched() // the answer is told on another goroutine
			}
			return a, err
		}, []uint32{1, 4, 3, 10, 1}, false},
		{"proxy_on_grpc_receive_initial_metadata", grpcEvent(func(r *fakeRPC) { r.head(abi.Pair{Name: "a", Value: "1"}, abi.Pair{Name: "b"}) }), []uint32{1, 6, 2}, false},
		{"proxy_on_grpc_receive", grpcEvent(func(r *fakeRPC) { r.message("hello") }), []uint32{1, 6, 5}, false},
		{"proxy_on_grpc_receive_trailing_metadata", grpcEvent(func(r *fakeRPC) {
			r.end(host.GRPCEnd{Outcome: host.CallAnswered, Trailer: []abi.Pair{{Name: "grpc-status", Value: "0"}}})
		}), []uint32{1, 6, 1}, false},
		{"proxy_on_grpc_close", grpcEvent(func(r *fakeRPC) { r.end(host.GRPCEnd{Outcome: host.CallAnswered, Code: 7}) }), []uint32{1, 6, 7}, false},
		{"proxy_on_foreign_function", func(_ *callbackSetup, c *host.Context) (abi.Action, error) {
			return abi.Continue, c.ForeignFunction(9, []byte("abc"))
		}, []uint32{2, 9, 3}, false},
		{"proxy_on_request_headers", func(_ *callbackSetup, c *host.Context) (abi.Action, error) { return c.RequestHeaders(7, true) }, []uint32{2, 7, 1}, true},
		{"proxy_on_request_body", func(_ *callbackSetup, c *host.Context) (abi.Action, error) { return c.RequestBody(1<<31-1, false) }, []uint32{2, 1<<31 - 1, 0}, true},
		{"proxy_on_request_trailers", func(_ *callbackSetup, c *host.Context) (abi.Action, error) { return c.RequestTrailers(3) }, []uint32{2, 3}, true},
		{"proxy_on_response_headers", func(_ *callbackSetup, c *host.Context) (abi.Action, error) { return c.ResponseHeaders(0, false) }, []uint32{2, 0, 0}, true},
		{"proxy_on_response_body", func(_ *callbackSetup, c *host.Context) (abi.Action, error) { return c.ResponseBody(0, true) }, []uint32{2, 0, 1}, true},
		{"proxy_on_response_trailers", func(_ *callbackSetup, c *host.Context) (abi.Action, error) { return c.ResponseTrailers(1) }, []uint32{2, 1}, true},
		{"proxy_on_new_connection", func(_ *callbackSetup, c *host.Context) (abi.Action, error) { return c.NewConnection() }, []uint32{2}, true},
		{"proxy_on_downstream_data", func(_ *callbackSetup, c *host.Context) (abi.Action, error) { return c.DownstreamData(5, true) }, []uint32{2, 5, 1}, true},
		{"proxy_on_upstream_data", func(_ *callbackSetup, c *host.Context) (abi.Action, error) { return c.UpstreamData(1<<31-1, false) }, []uint32{2, 1<<31 - 1, 0}, true},
		{"proxy_on_downstream_connection_close", func(_ *callbackSetup, c *host.Context) (abi.Action, error) {
			return abi.Continue, c.DownstreamClose(abi.PeerRemote)
		}, []uint32{2, 2}, false},
		{"proxy_on_upstream_connection_close", func(_ *callbackSetup, c *host.Context) (abi.Action, error) {
			return abi.Continue, c.UpstreamClose(abi.PeerLocal)
		}, []uint32{2, 1}, false},
		{"proxy_on_done", finish, []uint32{2}, false},
		{"proxy_on_log", finish, []uint32{2}, false},
		{"proxy_on_delete", finish, []uint32{2}, false},
	}
}

// Each callback of each version is made once, with its arguments, and what it answers is
// what the host's caller gets.
func TestCallbacks(t *testing.T) {
	tested := map[string]bool{}
	for _, tt := range callbackCases() {
		tested[tt.name] = true
		for _, version := range []string{"0_1_0", "0_2_0", "0_2_1", "0_2_100"} {
			t.Run(tt.name+"/"+version, func(t *testing.T) {
				answers := []uint32{0}
				if tt.action {
					answers = []uint32{0, 1, 2, 3, 4, 99, 0xffffffff}
				}
				for _, answer := range answers {
					s := newCallback(t, watGuest(t, "callback/"+tt.name, "proxy_abi_version_"+version), "plugin")
					if tt.action {
						s.plugin.Poke(atAnswer, binary.LittleEndian.AppendUint32(nil, answer))
					}
					c := s.open(newStream())
					got, err := tt.do(s, c)
					if err != nil || uint32(got) != answer {
						t.Errorf("answer %d: got %d, %v", answer, got, err)
					}
					if s.words(atStatus, 1)[0] != 1 || !slices.Equal(s.words(atArgs, len(tt.args)), tt.args) {
						t.Errorf("%d calls with %d, want one with %d", s.words(atStatus, 1)[0], s.words(atArgs, len(tt.args)), tt.args)
					}
					_ = c.Finish(nil)
				}
			})
		}
	}
	for _, name := range host.CallbackNames() {
		if !tested[name] {
			t.Errorf("%s is made, and has no test here", name)
		}
	}
}

// Header callbacks of ABI 0.1.0 lack end_of_stream; any may lack its result.
func TestCallbackTypes(t *testing.T) {
	for _, side := range []string{"request", "response"} {
		src := readGuest(t, "callback/proxy_on_"+side+"_headers")
		short := strings.Replace(src, "(param i32 i32 i32)", "(param i32 i32)", 1)
		short = strings.Replace(short, "    (i32.store (i32.const 1048) (local.get 2))\n", "", 1)
		for name, src := range map[string]string{
			"two parameters": short,
			"no result":      strings.Replace(strings.Replace(src, "i32 i32 i32) (result i32)", "i32 i32 i32)", 1), "\n    (i32.load (i32.const 1096))))", "))", 1),
		} {
			s := newCallback(t, assemble(t, src), "")
			s.plugin.Poke(atAnswer, []byte{1})
			c := s.open(newStream())
			f := c.RequestHeaders
			if side == "response" {
				f = c.ResponseHeaders
			}
			want := abi.Continue
			if name == "two parameters" {
				want = abi.Pause
			}
			a, err := f(4, true)
			if err != nil || a != want {
				t.Errorf("%s, %s: %v, %v", side, name, a, err)
			}
			if got := s.words(atArgs, 2); !slices.Equal(got, []uint32{2, 4}) {
				t.Errorf("%s, %s: called with %d", side, name, got)
			}
			_ = c.Finish(nil)
		}
	}
}

// A plugin whose on_vm_start or on_configure answers false is not started.
func TestStartRefused(t *testing.T) {
	for name, callback := range map[string]host.Callback{"proxy_on_vm_start": host.CallVMStart, "proxy_on_configure": host.CallConfigure} {
		src := strings.Replace(readGuest(t, "callback/"+name), `(i32.const 1096) "\01"`, `(i32.const 1096) "\00"`, 1)
		s := loadWasm(t, assemble(t, src), options{})
		_, err := s.plugin.NewRoot(t.Context(), nil)
		var start *host.StartError
		if !errors.As(err, &start) || start.Callback != callback {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// on_done that answers false puts the end of a stream off until proxy_done, which is told
// from a callback of another stream.
func TestDoneOfAnother(t *testing.T) {
	s := startWasm(t, watGuest(t, "call/proxy_done", v021), options{host: host.HostOptions{ManualTicks: true}})
	first, kept := s.open(newStream()), newStream()
	if _, err := first.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	id := first.ID()
	_ = first.Finish(func() host.Stream { return kept })
	done := func(id uint32) abi.Status {
		s.plugin.Poke(atArgs, binary.LittleEndian.AppendUint32(nil, id))
		c := s.open(newStream())
		if _, err := c.RequestHeaders(1, true); err != nil {
			t.Fatal(err)
		}
		_ = c.Finish(nil)
		return abi.Status(binary.LittleEndian.Uint32(s.plugin.Peek()[atStatus:]))
	}
	if got := done(0); got != abi.StatusNotFound {
		t.Errorf("its own, not pending: %v", got)
	}
	if got := done(id); got != abi.StatusOK {
		t.Errorf("the one that waits: %v", got)
	}
	if got := done(id); got != abi.StatusNotFound {
		t.Errorf("the one that waits, again: %v", got)
	}
}

// The orders of abi.md 4 and 5: what begins and ends around each way through an exchange.
func TestCallbackOrders(t *testing.T) {
	end := []string{"done 2", "log 2", "delete 2"}
	for _, tt := range []struct {
		name string
		do   func(c *host.Context)
		want []string // between the start of the root and its end
	}{
		{"headers only", func(c *host.Context) {
			_, _ = c.RequestHeaders(1, true)
			_, _ = c.ResponseHeaders(1, true)
		}, append([]string{"context_create 2", "request_headers 2", "response_headers 2"}, end...)},
		{"bodies in chunks", func(c *host.Context) {
			_, _ = c.RequestHeaders(1, false)
			_, _ = c.RequestBody(1, false)
			_, _ = c.RequestBody(0, true)
			_, _ = c.ResponseHeaders(1, false)
			_, _ = c.ResponseBody(5, true)
		}, append([]string{"context_create 2", "request_headers 2", "request_body 2", "request_body 2", "response_headers 2", "response_body 2"}, end...)},
		{"trailers end messages", func(c *host.Context) {
			_, _ = c.RequestHeaders(1, false)
			_, _ = c.RequestBody(1, false)
			_, _ = c.RequestTrailers(1)
			_, _ = c.ResponseHeaders(1, false)
			_, _ = c.ResponseTrailers(1)
		}, append([]string{"context_create 2", "request_headers 2", "request_body 2", "request_trailers 2", "response_headers 2", "response_trailers 2"}, end...)},
		{
			"reset after the head", func(c *host.Context) { _, _ = c.RequestHeaders(1, false) },
			append([]string{"context_create 2", "request_headers 2"}, end...),
		},
		{"the response overtakes the request", func(c *host.Context) {
			_, _ = c.RequestHeaders(1, false)
			_, _ = c.ResponseHeaders(1, false)
			_, _ = c.RequestBody(1, true)
			_, _ = c.ResponseBody(1, true)
		}, append([]string{"context_create 2", "request_headers 2", "response_headers 2", "request_body 2", "response_body 2"}, end...)},
		{
			"an answer before the request", func(c *host.Context) { _, _ = c.ResponseHeaders(1, true) },
			append([]string{"context_create 2", "response_headers 2"}, end...),
		},
		{"nothing but the end", func(*host.Context) {}, append([]string{"context_create 2"}, end...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, tracer(), options{})
			c := s.open(newStream())
			tt.do(c)
			if err := c.Finish(nil); err != nil {
				t.Error(err)
			}
			s.root.Close()
			want := slices.Concat([]string{"context_create 1", "vm_start 1", "configure 1"}, tt.want, []string{"done 1", "delete 1"})
			wantLines(t, s.log.lines(true), want...)
		})
	}
}

// A guest that hears of nothing but new contexts hears of every stream (abi.md 4.4).
func TestContextCreateAlone(t *testing.T) {
	s := newCallback(t, watGuest(t, "callback/proxy_on_context_create", v021), "")
	c := s.open(newStream())
	_, _ = c.RequestHeaders(1, true)
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	if got := s.words(atStatus, 3); !slices.Equal(got, []uint32{2, 2, 1}) {
		t.Errorf("calls and arguments %d, want 2 calls, the second with 2 and 1", got)
	}
}

// Roots in one VM start one after the other, each with its own calls, and a root ends
// after its streams.
func TestRootOrder(t *testing.T) {
	s := start(t, tracer(), options{})
	second, err := s.plugin.NewRoot(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	c := s.open(newStream())
	_, _ = c.RequestHeaders(1, true)
	s.root.Close()
	_, _ = c.ResponseHeaders(1, true)
	_ = c.Finish(nil)
	second.Close()
	// The second root is tried in a spare VM, whose own first root it is.
	wantLines(t, s.log.lines(true),
		"context_create 1", "vm_start 1", "configure 1",
		"context_create 1", "vm_start 1", "configure 1", "done 1", "delete 1",
		"context_create 2", "vm_start 2", "configure 2",
		"context_create 3", "request_headers 3", "response_headers 3", "done 3", "log 3", "delete 3",
		"done 1", "delete 1", "done 2", "delete 2")
}

// All kinds of start functions, from text: the order in which they run.
func TestStartKinds(t *testing.T) {
	const src = `(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) "_initialize" "main" "_start" "section")
  (func $say (param i32 i32) (drop (call $log (i32.const 2) (local.get 0) (local.get 1))))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 0))
  (func $initialize (call $say (i32.const 512) (i32.const 11)))
  (func $main (param i32 i32) (result i32) (call $say (i32.const 523) (i32.const 4)) (i32.const 0))
  (func $start (call $say (i32.const 527) (i32.const 6)))
  (func $section (call $say (i32.const 533) (i32.const 7)))
  @)`
	exports := map[string]string{
		"_initialize": `(export "_initialize" (func $initialize))`,
		"main":        `(export "main" (func $main))`,
		"_start":      `(export "_start" (func $start))`,
		"section":     `(start $section)`,
	}
	for _, tt := range []struct{ has, want []string }{
		{nil, nil},
		{[]string{"_initialize"}, []string{"_initialize"}},
		{[]string{"_initialize", "main"}, []string{"_initialize", "main"}},
		{[]string{"_initialize", "main", "_start"}, []string{"_initialize", "main"}},
		{[]string{"main"}, nil},
		{[]string{"_start"}, []string{"_start"}},
		{[]string{"main", "_start"}, []string{"_start"}},
		{[]string{"section"}, []string{"section"}},
		{[]string{"section", "_initialize"}, []string{"section", "_initialize"}},
	} {
		var fields string
		for _, name := range tt.has {
			fields += exports[name]
		}
		s := startWasm(t, assemble(t, strings.Replace(src, "@", fields, 1)), options{})
		if got := s.log.lines(true); !slices.Equal(got, tt.want) {
			t.Errorf("with %q: %q ran, want %q", tt.has, got, tt.want)
		}
	}
}
