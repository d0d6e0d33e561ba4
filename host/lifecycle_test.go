package host_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// tracer is a guest that logs each callback as "name id", and on_context_create
// with the parent.
func tracer() *wasmtest.Module { return tracerOf("", abi.Pause) }

// tracerOf is a tracer whose lines have a prefix, and which answers trailers of the
// response.
func tracerOf(prefix string, trailers abi.Action) *wasmtest.Module {
	m := wasmtest.NewGuest()
	for _, cb := range []struct {
		name, sig string
		result    []wasmtest.Instr
	}{
		{"context_create", "ii", nil},
		{"vm_start", "ii>i", []wasmtest.Instr{i32(1)}},
		{"configure", "ii>i", []wasmtest.Instr{i32(1)}},
		{"request_headers", "iii>i", []wasmtest.Instr{i32(0)}},
		{"request_body", "iii>i", []wasmtest.Instr{i32(0)}},
		{"request_trailers", "ii>i", []wasmtest.Instr{i32(0)}},
		{"response_headers", "iii>i", []wasmtest.Instr{i32(0)}},
		{"response_body", "iii>i", []wasmtest.Instr{i32(0)}},
		{"response_trailers", "ii>i", []wasmtest.Instr{i32(int32(trailers))}},
		{"done", "i>i", []wasmtest.Instr{i32(1)}},
		{"log", "i", nil},
		{"delete", "i", nil},
	} {
		m.Func("proxy_on_"+cb.name, cb.sig, append([]wasmtest.Instr{sayID(m, prefix+cb.name, wasmtest.Local(0))}, cb.result...)...)
	}
	return m
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the guest logged\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestLifecycle(t *testing.T) {
	s := start(t, tracer(), options{})
	c := s.open(newStream())
	for _, f := range []func() (abi.Action, error){
		func() (abi.Action, error) { return c.RequestHeaders(5, false) },
		func() (abi.Action, error) { return c.RequestBody(10, false) },
		func() (abi.Action, error) { return c.RequestTrailers(1) },
		func() (abi.Action, error) { return c.ResponseHeaders(2, false) },
		func() (abi.Action, error) { return c.ResponseBody(0, true) },
	} {
		if a, err := f(); a != abi.Continue || err != nil {
			t.Errorf("callback = %v, %v, want Continue", a, err)
		}
	}
	if a, err := c.ResponseTrailers(1); a != abi.Pause || err != nil {
		t.Errorf("ResponseTrailers() = %v, %v, want Pause", a, err)
	}
	if got := s.plugin.Stats().Streams; got != 1 {
		t.Errorf("Streams = %d, want 1", got)
	}
	if c.GuestTime() <= 0 {
		t.Errorf("GuestTime() = %v", c.GuestTime())
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	if got := s.plugin.Stats().Streams; got != 0 {
		t.Errorf("Streams after Finish = %d, want 0", got)
	}
	// The same memory serves the next stream, which has another id.
	if err := s.root.Open(c, newStream()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ResponseHeaders(1, true); err != nil {
		t.Error(err)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	s.root.Close()
	s.plugin.Close()
	wantLines(t, s.log.lines(true),
		"context_create 1", "vm_start 1", "configure 1",
		"context_create 2", "request_headers 2", "request_body 2", "request_trailers 2",
		"response_headers 2", "response_body 2", "response_trailers 2",
		"done 2", "log 2", "delete 2",
		"context_create 3", "response_headers 3", "done 3", "log 3", "delete 3",
		"done 1", "delete 1")
}

// The arguments of callbacks, and the calls with fewer of ABI 0.1.0.
func TestCallbackArguments(t *testing.T) {
	m := wasmtest.NewGuestVersion("proxy_abi_version_0_1_0")
	at := m.Slot(64)
	store := func(slot int32, local int) wasmtest.Instr {
		return wasmtest.Store32(i32(at+4*slot), wasmtest.Local(local))
	}
	m.Func("proxy_on_context_create", "ii", store(0, 0), store(1, 1))
	m.Func("proxy_on_request_headers", "ii>i", store(2, 0), store(3, 1), i32(1))
	m.Func("proxy_on_response_headers", "iii", store(4, 0), store(5, 1), store(6, 2))
	m.Func("proxy_on_response_body", "iii>i", store(7, 1), store(8, 2), i32(3))
	s := start(t, m, options{})
	if got := s.plugin.Version(); got != abi.Version010 {
		t.Errorf("Version() = %v, want 0.1.0", got)
	}
	if got, want := s.plugin.Callbacks(), (host.Callbacks{RequestHeaders: true, ResponseHeaders: true, ResponseBody: true, End: true}); got != want {
		t.Errorf("Callbacks() = %+v, want %+v", got, want)
	}
	c := s.open(newStream())
	if a, err := c.RequestHeaders(5, true); a != abi.Pause || err != nil {
		t.Errorf("RequestHeaders() = %v, %v, want Pause", a, err)
	}
	if a, err := c.RequestBody(5, true); a != abi.Continue || err != nil { // not exported
		t.Errorf("RequestBody() = %v, %v, want Continue", a, err)
	}
	if a, err := c.ResponseHeaders(6, true); a != abi.Continue || err != nil { // no result
		t.Errorf("ResponseHeaders() = %v, %v, want Continue", a, err)
	}
	if a, err := c.ResponseBody(77, true); a != abi.BodyStopIterationNoBuffer || err != nil {
		t.Errorf("ResponseBody() = %v, %v, want 3", a, err)
	}
	mem := c.Memory()
	for i, want := range []byte{2, 1, 2, 5, 2, 6, 1, 77, 1} {
		if got := mem[at+4*int32(i)]; got != want {
			t.Errorf("argument %d is %d, want %d", i, got, want)
		}
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
}

func TestStartFunctions(t *testing.T) {
	log := func(m *wasmtest.Module, name, sig string, rest ...wasmtest.Instr) *wasmtest.Func {
		return m.Func(name, sig, append([]wasmtest.Instr{say(m, name)}, rest...)...)
	}
	exit := func(m *wasmtest.Module, code int32) wasmtest.Instr {
		return wasmtest.Call(m.Import("wasi_snapshot_preview1", "proc_exit", "i"), i32(code))
	}
	for _, tt := range []struct {
		name  string
		build func(m *wasmtest.Module)
		want  []string
		err   string
	}{
		{"none", func(*wasmtest.Module) {}, nil, ""},
		{"_start", func(m *wasmtest.Module) { log(m, "_start", "") }, []string{"_start"}, ""},
		{"_initialize and main", func(m *wasmtest.Module) {
			log(m, "main", "ii>i", i32(3))
			log(m, "_start", "")
			log(m, "_initialize", "")
		}, []string{"_initialize", "main"}, ""},
		{"_initialize and __main_void", func(m *wasmtest.Module) {
			log(m, "_initialize", "")
			log(m, "__main_void", ">i", i32(0))
		}, []string{"_initialize", "__main_void"}, ""},
		{"main alone", func(m *wasmtest.Module) { log(m, "main", "ii>i", i32(0)) }, nil, ""},
		{"start section", func(m *wasmtest.Module) { m.Start(log(m, "begin", "")) }, []string{"begin"}, ""},
		{"exit 0", func(m *wasmtest.Module) { log(m, "_start", "", exit(m, 0)) }, []string{"_start"}, ""},
		{"exit 3", func(m *wasmtest.Module) { log(m, "_start", "", exit(m, 3)) }, []string{"_start"}, "exit status 3"},
		{"trap", func(m *wasmtest.Module) { log(m, "_initialize", "", wasmtest.Unreachable()) }, []string{"_initialize"}, "unreachable"},
		{"trap in the start section", func(m *wasmtest.Module) { m.Start(m.Func("", "", wasmtest.Unreachable())) }, nil, "unreachable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := wasmtest.NewGuest()
			tt.build(m)
			s := load(t, m, options{})
			_, err := s.plugin.NewRoot(t.Context(), nil)
			wantLines(t, s.log.lines(true), tt.want...)
			if tt.err == "" {
				if err != nil {
					t.Errorf("NewRoot() = %v", err)
				}
				return
			}
			var se *host.StartError
			if !errors.As(err, &se) || se.Callback != host.CallStart || se.Trap == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("NewRoot() = %v, want a StartError with %q", err, tt.err)
			}
			if !slices.Equal(se.Log, tt.want) {
				t.Errorf("its log is %q, want %q", se.Log, tt.want)
			}
		})
	}
}

// Before there is a context, and inside of the allocator, a guest may only log.
func TestEarlyHostCalls(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Unexport("proxy_on_memory_allocate")
	at := m.Slot(16)
	get := m.Env("proxy_get_property", "iiii>i")
	name := m.Str("plugin_name")
	try := func(slot int32) wasmtest.Instr {
		return wasmtest.Store32(i32(at+slot), call(get, name, i32(at+8), i32(at+12)))
	}
	m.Func("_initialize", "", say(m, "starting"), try(0))
	m.Func("malloc", "i>i", say(m, "allocating"), try(4), i32(4096))
	m.Headers("request", call(get, name, i32(at+8), i32(at+12)))
	s := start(t, m, options{})
	c := s.open(newStream())
	if status, err := c.RequestHeaders(1, true); status != 0 || err != nil { // the status is the action here
		t.Errorf("get_property in a callback: %d, %v, want OK", status, err)
	}
	mem := c.Memory()
	if mem[at] != 10 || mem[at+4] != 10 {
		t.Errorf("statuses %d while starting, %d while allocating, want 10 (InternalFailure)", mem[at], mem[at+4])
	}
	wantLines(t, s.log.lines(true), "starting", "allocating")
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
}

// The configurations and the plugin's own properties are there from the first
// callback on: SDKs pick the plugin's class by them in on_context_create.
func TestRootCallbacks(t *testing.T) {
	m := wasmtest.NewGuest()
	out := m.Slot(16)
	get := m.Env("proxy_get_property", "iiii>i")
	buffer := m.Env("proxy_get_buffer_bytes", "iiiii>i")
	config := m.Env("proxy_get_configuration", "ii>i")
	echo := func(in wasmtest.Instr) wasmtest.Instr { // logs what was got
		return wasmtest.Seq(in, drop(), call(logFunc(m), i32(2), wasmtest.Load32(i32(out)), wasmtest.Load32(i32(out+4))), drop())
	}
	m.Func("proxy_on_context_create", "ii", echo(call(get, m.Str("plugin_root_id"), i32(out), i32(out+4))))
	m.Func("proxy_on_vm_start", "ii>i",
		echo(call(buffer, i32(6), i32(0), wasmtest.Local(1), i32(out), i32(out+4))),
		echo(call(config, i32(out), i32(out+4))), i32(1))
	m.Func("proxy_on_configure", "ii>i",
		echo(call(buffer, i32(7), i32(0), wasmtest.Local(1), i32(out), i32(out+4))),
		echo(call(config, i32(out), i32(out+4))), i32(1))
	s := start(t, m, options{plugin: host.PluginOptions{RootID: "the root", VMConfig: []byte("vm")}, config: "plug"})
	wantLines(t, s.log.lines(true), "the root", "vm", "vm", "plug", "plug")
}

func TestRefusedSettings(t *testing.T) {
	for _, cb := range []string{"vm_start", "configure"} {
		t.Run(cb, func(t *testing.T) {
			m := wasmtest.NewGuest()
			m.Func("proxy_on_"+cb, "ii>i", say(m, "key x is unknown"), i32(0))
			m.Func("proxy_on_done", "i>i", say(m, "done"), i32(1))
			m.Func("proxy_on_delete", "i", say(m, "delete"))
			s := load(t, m, options{})
			_, err := s.plugin.NewRoot(t.Context(), []byte("{}"))
			var se *host.StartError
			if !errors.As(err, &se) || se.Trap != nil || se.Callback.String() != "on_"+cb {
				t.Fatalf("NewRoot() = %v, want a StartError of on_%s", err, cb)
			}
			if !strings.Contains(err.Error(), "key x is unknown") {
				t.Errorf("the error %q has no log line of the plugin", err)
			}
			wantLines(t, s.log.lines(true), "key x is unknown", "done", "delete")
			if n := s.plugin.Stats().Instances; n != 0 {
				t.Errorf("%d instances are left", n)
			}
		})
	}
}

// A reload starts new settings in a spare VM; the one that serves never sees those
// that make the plugin trap.
func TestNewRootIsTriedAside(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Func("proxy_on_configure", "ii>i", // configurations longer than 3 bytes trap
		wasmtest.If(wasmtest.GtU(wasmtest.Local(1), i32(3)), wasmtest.Unreachable()), i32(1))
	m.Headers("request", i32(0))
	s := start(t, m, options{config: "one"})
	c := s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	_, err := s.plugin.NewRoot(t.Context(), []byte("fatal"))
	var se *host.StartError
	if !errors.As(err, &se) || se.Trap == nil || se.Callback != host.CallConfigure {
		t.Fatalf("NewRoot() = %v, want a trap in on_configure", err)
	}
	if _, err := c.ResponseHeaders(1, true); err != nil {
		t.Errorf("the stream of the old root: %v", err)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	if st := s.plugin.Stats(); len(st.Traps) != 0 || st.Instances != 1 {
		t.Errorf("Stats() = %+v, want one VM and no traps", st)
	}
	two, err := s.plugin.NewRoot(t.Context(), []byte("two"))
	if err != nil {
		t.Fatal(err)
	}
	if n := s.plugin.Stats().Instances; n != 1 { // the pool is full: tried, thrown away, and added
		t.Errorf("%d instances, want 1", n)
	}
	if err := two.Open(c, newStream()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Error(err)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
}

// Roots are counted; streams that are open keep theirs.
func TestRootReferences(t *testing.T) {
	s := start(t, tracer(), options{})
	again := s.root.Retain()
	s.root.Close()
	c := new(host.Context)
	if err := again.Open(c, newStream()); err != nil {
		t.Fatalf("Open() on a root that is retained = %v", err)
	}
	again.Close()
	s.plugin.Close()
	if err := again.Open(new(host.Context), newStream()); !isClosed(err) {
		t.Errorf("Open() on a closed root = %v, want a ClosedError", err)
	}
	if _, err := s.plugin.NewRoot(t.Context(), nil); !isClosed(err) {
		t.Errorf("NewRoot() on a closed plugin = %v, want a ClosedError", err)
	}
	if _, err := c.RequestHeaders(1, true); err != nil { // bound only now
		t.Errorf("RequestHeaders() of an open stream = %v", err)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	if err := s.host.Close(); err != nil {
		t.Error(err)
	}
	wantLines(t, s.log.lines(true), "context_create 1", "vm_start 1", "configure 1",
		"context_create 2", "request_headers 2", "done 2", "log 2", "delete 2", "done 1", "delete 1")
}

func isClosed(err error) bool {
	var ce *host.ClosedError
	return errors.As(err, &ce)
}

// Closing the host does not wait for streams; they are told.
func TestHostClose(t *testing.T) {
	s := start(t, tracer(), options{})
	st := newStream()
	c := s.open(st)
	if _, err := c.RequestHeaders(1, false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.host.Close(); err != nil {
			t.Error(err)
		}
	}
	if !isClosed(st.failed) {
		t.Errorf("the stream was told %v, want a ClosedError", st.failed)
	}
	if _, err := c.RequestBody(1, true); !isClosed(err) {
		t.Errorf("RequestBody() = %v, want a ClosedError", err)
	}
	if err := c.Finish(nil); err != nil {
		t.Errorf("Finish() = %v", err)
	}
	if _, err := s.host.Load(t.Context(), tracer().Bytes(), host.PluginOptions{Name: "x"}); !isClosed(err) {
		t.Errorf("Load() = %v, want a ClosedError", err)
	}
	if n := len(s.log.lines(true)); n != 5 {
		t.Errorf("%d lines were logged: %q", n, s.log.lines(true))
	}
}

// A guest that exports nothing but on_log is told of every stream, also of one that
// has ended before anything happened to it.
func TestLogOnly(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Func("proxy_on_log", "i", sayID(m, "log", wasmtest.Local(0)))
	s := start(t, m, options{})
	c := s.open(newStream())
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	if err := s.root.Open(c, newStream()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RequestHeaders(1, true); err != nil {
		t.Error(err)
	}
	if err := c.Finish(nil); err != nil {
		t.Error(err)
	}
	wantLines(t, s.log.lines(true), "log 2", "log 3")
}
