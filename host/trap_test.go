package host_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// A trap in any callback kills the VM, with an error that says what and where.
func TestTrapInEachCallback(t *testing.T) {
	type step struct {
		name, sig string
		run       func(c *host.Context) error
	}
	headers := func(c *host.Context) error { _, err := c.RequestHeaders(1, false); return err }
	finish := func(c *host.Context) error { return c.Finish(nil) }
	for _, st := range []step{
		{"proxy_on_context_create", "ii", headers},
		{"proxy_on_request_headers", "iii>i", headers},
		{"proxy_on_request_body", "iii>i", func(c *host.Context) error { _, err := c.RequestBody(1, false); return err }},
		{"proxy_on_request_trailers", "ii>i", func(c *host.Context) error { _, err := c.RequestTrailers(1); return err }},
		{"proxy_on_response_headers", "iii>i", func(c *host.Context) error { _, err := c.ResponseHeaders(1, false); return err }},
		{"proxy_on_response_body", "iii>i", func(c *host.Context) error { _, err := c.ResponseBody(1, false); return err }},
		{"proxy_on_response_trailers", "ii>i", func(c *host.Context) error { _, err := c.ResponseTrailers(1); return err }},
		{"proxy_on_done", "i>i", finish},
		{"proxy_on_log", "i", finish},
		{"proxy_on_delete", "i", finish},
	} {
		t.Run(st.name, func(t *testing.T) {
			m := wasmtest.NewGuest()
			inner := m.Func("", "", wasmtest.Unreachable())
			body := []wasmtest.Instr{
				wasmtest.If(wasmtest.GtU(wasmtest.Local(0), i32(1)), say(m, "last words"), call(inner)), // not for the root
			}
			if strings.Contains(st.sig, ">") {
				body = append(body, i32(0))
			}
			m.Func(st.name, st.sig, body...)
			if st.name != "proxy_on_request_headers" {
				m.Headers("request", i32(0))
			}
			s := start(t, m, options{})
			c := s.open(newStream())
			other := s.open(newStream())
			bystander := newStream()
			third := s.open(bystander)
			if st.name != "proxy_on_context_create" && st.name != "proxy_on_request_headers" {
				for _, c := range []*host.Context{c, other, third} {
					if _, err := c.RequestHeaders(1, false); err != nil {
						t.Fatal(err)
					}
				}
			}
			err := st.run(c)
			var te *host.TrapError
			if !errors.As(err, &te) {
				t.Fatalf("%v, want a TrapError", err)
			}
			if te.Plugin != "test" || "proxy_"+te.Callback.String() != st.name || te.Cause != host.CauseTrap || te.Detail != "unreachable" {
				t.Errorf("trap %+v", te)
			}
			if te.Route != "r1" || te.RequestID != "id1" {
				t.Errorf("the trap is of route %q, request %q", te.Route, te.RequestID)
			}
			if len(te.Stack) != 2 || te.Stack[0] != "func2" && te.Stack[0] != "func3" || te.Stack[1] != st.name {
				t.Errorf("stack %q, want the inner function and %s", te.Stack, st.name)
			}
			if !slices.Equal(te.Log, []string{"last words"}) {
				t.Errorf("log %q", te.Log)
			}
			if !s.log.contains(false, "unreachable") {
				t.Errorf("the trap was not logged: %q", s.log.lines(false))
			}
			bound := st.name != "proxy_on_context_create" && st.name != "proxy_on_request_headers"
			if bound {
				if !errors.Is(bystander.failed, te) {
					t.Errorf("a stream in between was told %v, want the same trap", bystander.failed)
				}
				if _, err := other.RequestBody(1, true); !errors.Is(err, te) && st.name == "proxy_on_request_body" {
					t.Errorf("another stream got %v, want the same trap", err)
				}
			}
			said := len(s.log.lines(true))
			if _, err := c.RequestHeaders(1, true); err == nil {
				t.Error("a callback after the trap works")
			}
			_ = c.Finish(nil)
			if bound { // others may meet the VM that has taken the place of the dead one
				_ = other.Finish(nil)
				_ = third.Finish(nil)
			}
			if n := len(s.log.lines(true)); n != said {
				t.Errorf("the dead VM was called: %q", s.log.lines(true))
			}
			if n := s.plugin.Stats().Traps[host.CauseTrap]; n != 1 {
				t.Errorf("%d traps counted, want 1", n)
			}
			if !bound {
				_ = other.Finish(nil)
				_ = third.Finish(nil)
			}
		})
	}
}

func TestTrapCauses(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Unexport("proxy_on_memory_allocate")
	m.Func("proxy_on_memory_allocate", "i>i", wasmtest.Unreachable(), i32(0))
	recurse := m.Func("", "")
	*recurse = *m.Func("", "", call(recurse))
	get := m.Env("proxy_get_property", "iiii>i")
	exit := m.Import("wasi_snapshot_preview1", "proc_exit", "i")
	write := m.Import("wasi_snapshot_preview1", "fd_write", "iiii>i")
	at := m.Slot(8)
	text := "panic: oh no" // without a newline
	vec := m.Slot(8)
	textAt := m.Data([]byte(text))
	one := func(n int32, body ...wasmtest.Instr) wasmtest.Instr {
		return wasmtest.If(wasmtest.Eq(wasmtest.Local(1), i32(n)), body...)
	}
	m.Headers("request",
		one(1, call(get, m.Str("plugin_name"), i32(at), i32(at+4)), drop()),
		one(2, wasmtest.Store32(i32(vec), i32(textAt)), wasmtest.Store32(i32(vec+4), i32(int32(len(text)))),
			call(write, i32(2), i32(vec), i32(1), i32(at)), drop(), call(exit, i32(2))),
		one(3, wasmtest.Load32(i32(-4)), drop()),
		one(4, call(exit, i32(0))),
		i32(0))
	for n, want := range map[int]host.TrapError{
		1: {Callback: host.CallMemoryAllocate, Cause: host.CauseTrap, Detail: "unreachable"},
		2: {Callback: host.CallRequestHeaders, Cause: host.CauseExit, Detail: text + " (exit status 2)", Log: []string{text}},
		3: {Callback: host.CallRequestHeaders, Cause: host.CauseTrap, Detail: "out of bounds memory access"},
		4: {Callback: host.CallRequestHeaders, Cause: host.CauseExit, Detail: "exit status 0"},
	} {
		s := start(t, m, options{})
		c := s.open(newStream())
		_, err := c.RequestHeaders(n, true)
		var te *host.TrapError
		if !errors.As(err, &te) || te.Callback != want.Callback || te.Cause != want.Cause || te.Detail != want.Detail || !slices.Equal(te.Log, want.Log) {
			t.Errorf("case %d: %+v, want %+v", n, te, want)
		}
		_ = c.Finish(nil)
	}
}

// What a Go guest says when it panics is not lost: neither to the traceback, which is
// longer than what is kept, nor to the limits of what is logged.
func TestPanicMessage(t *testing.T) {
	m := wasmtest.NewGuest()
	exit := m.Import("wasi_snapshot_preview1", "proc_exit", "i")
	write := m.Import("wasi_snapshot_preview1", "fd_write", "iiii>i")
	slot := m.Slot(8)
	stderr := func(s string) wasmtest.Instr {
		vec := m.Slot(8)
		return wasmtest.Seq(wasmtest.Store32(i32(vec), i32(m.Data([]byte(s)))), wasmtest.Store32(i32(vec+4), i32(int32(len(s)))),
			call(write, i32(2), i32(vec), i32(1), i32(slot)), drop())
	}
	trace := "\ngoroutine 1 [running]:\n" + strings.Repeat("main.f(0x1, 0x2)\n\t/src/f.go:12 +0x3\n", 20) + "exit status 2\n"
	m.Headers("request", say(m, "noise"), stderr("panic: not this time\n"), i32(0))
	m.Headers("response", say(m, "about to"), stderr("panic: assignment to entry in nil map [recovered]\n\tpanic: again\n"), stderr(trace),
		call(exit, i32(2)), i32(0))
	for _, level := range []abi.LogLevel{abi.LogTrace, abi.LogCritical} {
		s := start(t, m, options{plugin: host.PluginOptions{LogLevel: level}})
		c := s.open(newStream())
		for range host.LogBurst {
			if _, err := c.RequestHeaders(1, false); err != nil {
				t.Fatal(err)
			}
		}
		_, err := c.ResponseHeaders(1, true)
		var te *host.TrapError
		if !errors.As(err, &te) {
			t.Fatalf("%v, want a TrapError", err)
		}
		if want := "panic: assignment to entry in nil map [recovered] (exit status 2)"; te.Detail != want || te.Cause != host.CauseExit {
			t.Errorf("level %v: %v, %q, want %q", level, te.Cause, te.Detail, want)
		}
		want := []string{"noise", "panic: not this time", "about to", "panic: assignment to entry in nil map [recovered]"}
		if got := te.Log[max(len(te.Log)-len(want), 0):]; !slices.Equal(got, want) {
			t.Errorf("level %v: the last lines are %q, want %q", level, got, want)
		}
		_ = c.Finish(nil)
	}
}

// A panic in a host function is a bug of the host; it kills one VM, not the
// process.
func TestHostPanic(t *testing.T) {
	p := newProbe(v021, "proxy_get_property", "iiii>i", "x", out(0), out(4))
	s := start(t, p.m, options{})
	c := s.open(panicky{newStream()})
	_, err := c.RequestHeaders(1, true)
	var te *host.TrapError
	if !errors.As(err, &te) || te.Cause != host.CauseHost || !strings.Contains(te.Detail, "index out of range") {
		t.Errorf("%v, want a TrapError of the host", err)
	}
	if !s.log.contains(false, "trap_test.go") {
		t.Errorf("the Go stack was not logged")
	}
	_ = c.Finish(nil)
}

type panicky struct{ *fakeStream }

func (panicky) Property([]byte, string) ([]byte, bool) {
	none := make([]int, len(os.Args))
	return nil, none[len(none)] == 0
}

// crasher traps in on_request_headers when it is told of 13 headers.
func crasher() *wasmtest.Module {
	m := wasmtest.NewGuest()
	m.Headers("request", wasmtest.If(wasmtest.Eq(wasmtest.Local(1), i32(13)), wasmtest.Unreachable()), i32(0))
	return m
}

// VMs that die are replaced: the first at once, then with a wait that grows.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, crasher(), options{plugin: host.PluginOptions{RestartMin: time.Second, RestartMax: 4 * time.Second}})
		kill := func() {
			t.Helper()
			c := s.open(newStream())
			var te *host.TrapError
			if _, err := c.RequestHeaders(13, true); !errors.As(err, &te) {
				t.Fatalf("%v, want a trap", err)
			}
			_ = c.Finish(nil)
		}
		works := func() error {
			c := s.open(newStream())
			defer c.Finish(nil)
			_, err := c.RequestHeaders(1, true)
			return err
		}
		for i, wait := range []time.Duration{0, 0, 0, 0, 0, time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second} {
			kill()
			synctest.Wait()
			if wait > 0 {
				var nv *host.NoVMError
				var te *host.TrapError
				if err := works(); !errors.As(err, &nv) || !errors.As(err, &te) {
					t.Errorf("death %d: %v, want a NoVMError that wraps the trap", i, err)
				}
				time.Sleep(wait - time.Millisecond)
				synctest.Wait()
				if err := works(); err == nil {
					t.Errorf("death %d: replaced in less than %v", i, wait)
				}
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
			if err := works(); err != nil {
				t.Errorf("death %d: not replaced after %v: %v", i, wait, err)
			}
		}
		time.Sleep(2 * time.Minute) // quiet
		kill()
		synctest.Wait()
		if err := works(); err != nil {
			t.Errorf("after a quiet time: %v", err)
		}
		if st := s.plugin.Stats(); st.Traps[host.CauseTrap] != 10 || st.Restarts != 10 {
			t.Errorf("Stats() = %+v, want 10 traps and 10 restarts", st)
		}
	})
}

// A plugin that cannot be restarted does not spin.
func TestRestartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := crasher()
		// on_configure fails when shared data says so.
		slot := m.Slot(16)
		get := m.Env("proxy_get_shared_data", "iiiii>i")
		set := m.Env("proxy_set_shared_data", "iiiii>i")
		m.Func("proxy_on_configure", "ii>i", say(m, "configure"),
			call(get, m.Str("k"), i32(slot), i32(slot+4), i32(slot+8))) // 0 (OK) if it is there
		m.Headers("response", call(set, m.Str("k"), m.Str("v"), i32(0)))
		s := start(t, m, options{plugin: host.PluginOptions{RestartMin: time.Second, RestartMax: time.Minute}})
		c := s.open(newStream())
		if _, err := c.ResponseHeaders(1, true); err != nil {
			t.Fatal(err)
		}
		_, _ = c.RequestHeaders(13, true)
		_ = c.Finish(nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		tries := len(s.log.lines(true)) - 1
		if tries < 10 || tries > 20 {
			t.Errorf("%d tries in 10 minutes, want about 15", tries)
		}
		c = s.open(newStream())
		var se *host.StartError
		if _, err := c.RequestHeaders(1, true); !errors.As(err, &se) {
			t.Errorf("%v, want a NoVMError with the StartError", err)
		}
		_ = c.Finish(nil)
	})
}

// What any exchange may say about a plugin does not fill the log.
func TestWarn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, wasmtest.NewGuest(), options{})
		for range 100 {
			s.plugin.Warn("too large")
		}
		wantLines(t, s.log.lines(false), "too large")
		time.Sleep(time.Minute)
		s.plugin.Warn("too large")
		wantLines(t, s.log.lines(false), "too large", "too large (and 99 such lines before)")
	})
}

func TestBackoff(t *testing.T) {
	now := time.Unix(1000, 0)
	b := host.NewBackoff(time.Second, 5*time.Second)
	for i, step := range []struct{ after, want time.Duration }{
		{0, 0}, // a burst
		{0, 0},
		{0, 0},
		{time.Second, 0},
		{time.Second, 0},
		{time.Second, time.Second},
		{time.Second, 2 * time.Second},
		{0, 4 * time.Second},
		{time.Minute, 5 * time.Second},
		{65 * time.Second, 5 * time.Second},
		{66 * time.Second, 0},
		{0, 0},
		{0, 0},
		{0, 0},
		{0, 0},
		{12 * time.Second, 0}, // room for one more
		{11 * time.Second, time.Second},
		{62 * time.Second, 0},
	} {
		now = now.Add(step.after)
		if got := b.Died(now); got != step.want {
			t.Errorf("step %d: wait %v, want %v", i, got, step.want)
		}
	}
	for i := range 100 { // now and then, for long
		if now = now.Add(13 * time.Second); b.Died(now) != 0 {
			t.Errorf("death %d of a few a minute has to wait", i)
		}
	}
	b = host.NewBackoff(time.Second, 5*time.Second)
	for i, want := range []int{1, 2, 4, 5, 5} {
		if got := b.Failed(now); got != time.Duration(want)*time.Second {
			t.Errorf("failed start %d: wait %v, want %ds", i, got, want)
		}
	}
	if b.Died(now) == 0 {
		t.Error("a VM that dies after failed starts is replaced at once")
	}
}

// Streams of many goroutines over several VMs, some of which die.
func TestConcurrency(t *testing.T) {
	s := start(t, crasher(), options{plugin: host.PluginOptions{Instances: 3, RestartMin: time.Millisecond, RestartMax: time.Millisecond}})
	deadline := time.Now().Add(150 * time.Millisecond)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			var c host.Context
			for i := 0; time.Now().Before(deadline); i++ {
				if err := s.root.Open(&c, newStream()); err != nil {
					t.Error(err)
					return
				}
				n := 1
				if g == 0 && i%10 == 9 {
					n = 13
				}
				if a, err := c.RequestHeaders(n, true); a != abi.Continue || err != nil && errors.As(err, new(*host.ClosedError)) {
					t.Errorf("%v, %v", a, err)
				}
				_, _ = c.ResponseHeaders(1, true)
				_ = c.Finish(func() host.Stream { return newStream() })
			}
		})
	}
	wg.Go(func() {
		for time.Now().Before(deadline) {
			r, err := s.plugin.NewRoot(t.Context(), nil)
			if err == nil {
				r.Close()
			}
		}
	})
	wg.Wait()
	st := s.plugin.Stats()
	if st.Streams != 0 || st.Instances > 3 || st.Traps[host.CauseTrap] == 0 {
		t.Errorf("Stats() = %+v", st)
	}
}
