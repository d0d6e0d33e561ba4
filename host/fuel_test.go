package host_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/wasmtest"
)

// forever loops without end.
func forever() wasmtest.Instr { return wasmtest.Raw(0x03, 0x40, 0x0c, 0, 0x0b) }

// A hostile is code that a callback runs, and how it has to end.
type hostile struct {
	name  string
	pages uint32
	code  func(m *wasmtest.Module) wasmtest.Instr
	cause host.Cause
}

// hostiles are the ways in which a guest can hold on to the processor.
var hostiles = []hostile{
	{"a loop", 2, func(*wasmtest.Module) wasmtest.Instr { return forever() }, host.CauseCPU},
	{"a loop of calls", 2, func(m *wasmtest.Module) wasmtest.Instr {
		f := m.Func("", "", wasmtest.I32(1), drop())
		return wasmtest.Loop(i32(1), call(f))
	}, host.CauseCPU},
	{"recursion", 2, func(m *wasmtest.Module) wasmtest.Instr {
		f := m.Func("", "")
		f.Body(call(f))
		return call(f)
	}, host.CauseStack},
	{"recursion with a loop", 2, func(m *wasmtest.Module) wasmtest.Instr {
		f := m.Func("", "")
		f.Body(wasmtest.Loop(i32(1), call(f)))
		return call(f)
	}, host.CauseStack},
	{"a tree of calls", 2, func(m *wasmtest.Module) wasmtest.Instr {
		f := m.Func("", "", wasmtest.Seq(slices.Repeat([]wasmtest.Instr{i32(0), drop()}, 20)...))
		for range 40 {
			f = m.Func("", "", call(f), call(f))
		}
		return call(f)
	}, host.CauseCPU},
	{"copies of 64 MiB", 1024, func(*wasmtest.Module) wasmtest.Instr {
		return wasmtest.Loop(i32(1), i32(0), i32(8), i32(64<<20-8), wasmtest.Raw(0xfc, 0x0a, 0, 0))
	}, host.CauseCPU},
	{"host calls", 2, func(m *wasmtest.Module) wasmtest.Instr {
		f := m.Env("proxy_get_header_map_size", "ii>i")
		at := m.Slot(4)
		return wasmtest.Loop(i32(1), call(f, i32(0), i32(at)), drop())
	}, host.CauseCPU},
	{"host calls of WASI", 2, func(m *wasmtest.Module) wasmtest.Instr {
		f := m.Import("wasi_snapshot_preview1", "random_get", "ii>i")
		at := m.Slot(32768)
		return wasmtest.Loop(i32(1), call(f, i32(at), i32(32768)), drop())
	}, host.CauseCPU},
	{"calls in a row", 2, func(m *wasmtest.Module) wasmtest.Instr {
		code := []byte{0x42, 7} // 1,000 divisions
		for range 1000 {
			code = append(code, 0x42, 3, 0x80)
		}
		f := m.Func("", "", wasmtest.Raw(append(code, 0x1a)...))
		return call(m.Func("", "", slices.Repeat([]wasmtest.Instr{call(f)}, 10_000)...))
	}, host.CauseCPU},
	{"memory.grow", 2, func(*wasmtest.Module) wasmtest.Instr {
		return wasmtest.Loop(i32(1), wasmtest.MemoryGrow(i32(0)), drop())
	}, host.CauseCPU},
}

// loader is a module with a hostile on_request_headers.
func (h *hostile) loader() *wasmtest.Module {
	m := wasmtest.NewGuest()
	m.MinPages = h.pages
	m.Headers("request", h.code(m), i32(0))
	return m
}

// collections runs the garbage collector until it is stopped, which returns the
// longest time that it took.
func collections() (stop func() time.Duration) {
	done, most := make(chan struct{}), make(chan time.Duration)
	go func() {
		var worst time.Duration
		for {
			select {
			case <-done:
				most <- worst
				return
			case <-time.After(2 * time.Millisecond):
			}
			began := time.Now()
			runtime.GC()
			worst = max(worst, time.Since(began))
		}
	}()
	return func() time.Duration { close(done); return <-most }
}

// slack is how long something that takes milliseconds may take on a busy machine. A
// guest that is not ended takes for ever.
const slack = 30 * time.Second

// TestHostile wants each way to be ended, with its cause, while collections go on.
func TestHostile(t *testing.T) {
	for _, h := range hostiles {
		t.Run(h.name, func(t *testing.T) {
			s := start(t, h.loader(), options{plugin: host.PluginOptions{Memory: 80 << 20}})
			c := s.open(newStream())
			stop := collections()
			began := time.Now()
			_, err := c.RequestHeaders(5, true)
			took := time.Since(began)
			worst := stop()
			var trap *host.TrapError
			if !errors.As(err, &trap) || trap.Cause != h.cause || trap.Callback != host.CallRequestHeaders {
				t.Fatalf("%v, want a trap with the cause %s", err, h.cause)
			}
			if h.cause == host.CauseCPU && trap.Detail != "CPU budget of 10ms used up" {
				t.Errorf("detail %q", trap.Detail)
			}
			if len(trap.Stack) == 0 || strings.Contains(strings.Join(trap.Stack, " "), "meter") {
				t.Errorf("stack %q, want the guest's own functions", trap.Stack)
			}
			if took > slack || worst > slack {
				t.Errorf("ended after %v, the longest collection beside it took %v", took, worst)
			}
			if s.plugin.Stats().Traps[h.cause] != 1 {
				t.Errorf("traps %v", s.plugin.Stats().Traps)
			}
			if fuel := s.plugin.Stats().Fuel; h.cause == host.CauseCPU && (fuel < 60_000_000 || fuel > 62_000_000) {
				t.Errorf("%d units of fuel, want a little more than the 60,000,000 of 10ms", fuel)
			}
		})
	}
}

// TestLoopEverywhere has an endless loop in each place where a guest's code runs.
func TestLoopEverywhere(t *testing.T) {
	o := options{plugin: host.PluginOptions{Start: 20 * time.Millisecond}}
	for _, name := range []string{"start section", "_initialize", "proxy_on_context_create", "proxy_on_vm_start", "proxy_on_configure"} {
		t.Run(name, func(t *testing.T) {
			m := wasmtest.NewGuest()
			switch name {
			case "start section":
				m.Start(m.Func("", "", forever()))
			case "_initialize":
				m.Func(name, "", forever())
			case "proxy_on_context_create":
				m.Func(name, "ii", forever())
			default:
				m.Func(name, "ii>i", forever(), i32(1))
			}
			s := load(t, m, o)
			began := time.Now()
			_, err := s.plugin.NewRoot(t.Context(), nil)
			var start *host.StartError
			if !errors.As(err, &start) || start.Trap == nil || start.Trap.Cause != host.CauseCPU {
				t.Fatalf("NewRoot() = %v, want a trap with the cause cpu", err)
			}
			if took := time.Since(began); took > slack {
				t.Errorf("took %v", took)
			}
		})
	}
	for name, run := range map[string]func(c *host.Context) error{
		"proxy_on_request_body":      func(c *host.Context) error { _, err := c.RequestBody(1, true); return err },
		"proxy_on_request_trailers":  func(c *host.Context) error { _, err := c.RequestTrailers(1); return err },
		"proxy_on_response_headers":  func(c *host.Context) error { _, err := c.ResponseHeaders(1, true); return err },
		"proxy_on_response_body":     func(c *host.Context) error { _, err := c.ResponseBody(1, true); return err },
		"proxy_on_response_trailers": func(c *host.Context) error { _, err := c.ResponseTrailers(1); return err },
		"proxy_on_done":              func(c *host.Context) error { return c.Finish(nil) },
		"proxy_on_log":               func(c *host.Context) error { return c.Finish(nil) },
		"proxy_on_tick":              nil,
		"proxy_on_delete":            func(c *host.Context) error { return c.Finish(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			m := wasmtest.NewGuest()
			switch name {
			case "proxy_on_done":
				m.Func(name, "i>i", forever(), i32(1))
			case "proxy_on_log", "proxy_on_delete":
				m.Func(name, "i", forever())
			case "proxy_on_tick":
				period := m.Env("proxy_set_tick_period_milliseconds", "i>i")
				m.Func("proxy_on_configure", "ii>i", call(period, i32(1)), drop(), i32(1))
				m.Func(name, "i", forever())
			case "proxy_on_request_trailers", "proxy_on_response_trailers":
				m.Func(name, "ii>i", forever(), i32(0))
			default:
				m.Func(name, "iii>i", forever(), i32(0))
			}
			s := start(t, m, options{})
			c := s.open(newStream())
			if run != nil {
				_ = run(c)
			}
			for began := time.Now(); len(s.plugin.Stats().Traps) == 0 && time.Since(began) < slack; {
				time.Sleep(time.Millisecond) // the timer's goroutine
			}
			if s.plugin.Stats().Traps[host.CauseCPU] == 0 {
				t.Errorf("traps %v, want one with the cause cpu", s.plugin.Stats().Traps)
			}
			_ = c.Finish(nil)
		})
	}
}

// TestLoopInAllocator: the allocator, called inside of a host function, has what is
// left of the callback's budget.
func TestLoopInAllocator(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Unexport("proxy_on_memory_allocate")
	m.Func("proxy_on_memory_allocate", "i>i", forever(), i32(0))
	f := m.Env("proxy_get_header_map_value", "iiiii>i")
	at := m.Slot(8)
	m.Headers("request", call(f, i32(0), m.Str(":path"), i32(at), i32(at+4)), drop(), i32(0))
	s := start(t, m, options{})
	_, err := s.open(newStream()).RequestHeaders(5, true)
	var trap *host.TrapError
	if !errors.As(err, &trap) || trap.Cause != host.CauseCPU || trap.Callback != host.CallMemoryAllocate {
		t.Fatalf("%v, want a trap of the allocator with the cause cpu", err)
	}
	if fuel := s.plugin.Stats().Fuel; fuel > 62_000_000 {
		t.Errorf("%d units of fuel, want what one callback may use", fuel)
	}
}

// TestReferences: making references takes no memory of the host, however often.
func TestReferences(t *testing.T) {
	m := wasmtest.NewGuest()
	refFunc := wasmtest.Raw(0xd2, 0, 0x1a) // of an exported function
	m.Headers("request",
		wasmtest.Loop(wasmtest.Local(1), refFunc, wasmtest.SetLocal(1, wasmtest.Sub(wasmtest.Local(1), i32(1)))), i32(0))
	s := start(t, m, options{plugin: host.PluginOptions{CPU: time.Second}})
	c := s.open(newStream())
	heap := func() uint64 {
		runtime.GC()
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		return ms.HeapAlloc
	}
	before := heap()
	if _, err := c.RequestHeaders(200_000, true); err != nil {
		t.Fatal(err)
	}
	if after := heap(); after > before+2<<20 { // it was 40 bytes for each
		t.Errorf("200,000 references took %d KiB", (after-before)>>10)
	}
	runtime.KeepAlive(s)
}

// TestOverspent: a call that is over before the fuel is looked at has a budget as well.
func TestOverspent(t *testing.T) {
	m := wasmtest.NewGuest()
	f := m.Env("proxy_get_header_map_size", "ii>i")
	at := m.Slot(4)
	m.FuncLocals("proxy_on_request_headers", "iii>i", "i",
		wasmtest.Loop(wasmtest.LtU(wasmtest.Local(3), wasmtest.Local(1)),
			call(f, i32(0), i32(at)), drop(), wasmtest.SetLocal(3, wasmtest.Add(wasmtest.Local(3), i32(1)))), i32(0))
	s := start(t, m, options{plugin: host.PluginOptions{CPU: 100 * time.Microsecond}})
	c := s.open(newStream())
	var before uint64
	n := 1
	var err error
	for ; err == nil && n < 2000; n++ { // each a little longer than the one before
		before = s.plugin.Stats().Fuel
		_, err = c.RequestHeaders(n, true)
	}
	var trap *host.TrapError
	if !errors.As(err, &trap) || trap.Cause != host.CauseCPU {
		t.Fatalf("%v, want a trap with the cause cpu", err)
	}
	if used := s.plugin.Stats().Fuel - before; used > 600_000+120_000 {
		t.Errorf("ended with %d units", used)
	}
}

// TestDeep: calls may go as deep as the option says, and what a stack has grown to is
// given back.
func TestDeep(t *testing.T) {
	m := wasmtest.NewGuest()
	f := m.Func("", "i>i")
	f.Body(wasmtest.If(wasmtest.Local(0), call(f, wasmtest.Sub(wasmtest.Local(0), i32(1))), wasmtest.Return()), i32(0))
	m.Headers("request", call(f, wasmtest.Local(1)))
	for _, tt := range []struct {
		stack int64
		depth int
		ok    bool
	}{
		{64 << 10, 300, true},
		{64 << 10, 2000, false},
		{0, 2000, true},
		{0, 20_000, false},
		{16 << 20, 100_000, true},
	} {
		t.Run(fmt.Sprintf("%d/%d", tt.stack, tt.depth), func(t *testing.T) {
			s := start(t, m, options{plugin: host.PluginOptions{Stack: tt.stack}})
			c := s.open(newStream())
			for range 3 { // room is given back, so it is the same each time
				_, err := c.RequestHeaders(tt.depth, true)
				var trap *host.TrapError
				if tt.ok && err != nil || !tt.ok && (!errors.As(err, &trap) || trap.Cause != host.CauseStack) {
					t.Fatalf("depth %d of %d bytes: %v", tt.depth, tt.stack, err)
				}
			}
		})
	}
}

// TestCloseEndsLoops: Close does not wait for a guest's budget.
func TestCloseEndsLoops(t *testing.T) {
	loop := &hostile{pages: 2, code: func(*wasmtest.Module) wasmtest.Instr { return forever() }}
	s := start(t, loop.loader(), options{plugin: host.PluginOptions{CPU: time.Hour}})
	c := s.open(newStream())
	ended := make(chan error, 1)
	go func() { _, err := c.RequestHeaders(1, true); ended <- err }()
	time.Sleep(20 * time.Millisecond) // it loops, and has a slot
	began := time.Now()
	if err := s.host.Close(); err != nil {
		t.Fatal(err)
	}
	var closed *host.ClosedError
	if err := <-ended; !errors.As(err, &closed) {
		t.Errorf("%v, want a ClosedError", err)
	}
	if took := time.Since(began); took > slack {
		t.Errorf("Close took %v", took)
	}
	if s.log.contains(false, "trap") {
		t.Error("the end is told as a trap")
	}
}

// TestCloseEndsStart: the same while a root starts.
func TestCloseEndsStart(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Func("proxy_on_configure", "ii>i", say(m, "in"), forever(), i32(1))
	s := load(t, m, options{plugin: host.PluginOptions{Start: time.Hour}})
	ended := make(chan error, 1)
	go func() { _, err := s.plugin.NewRoot(t.Context(), nil); ended <- err }()
	for !s.log.contains(true, "in") {
		time.Sleep(time.Millisecond)
	}
	if err := s.host.Close(); err != nil {
		t.Fatal(err)
	}
	var closed *host.ClosedError
	if err := <-ended; !errors.As(err, &closed) {
		t.Errorf("NewRoot() = %v, want a ClosedError", err)
	}
}

// TestReserved: what the host adds is the host's.
func TestReserved(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Import("wproxy:meter", "refill", "")
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	_, err = h.Load(t.Context(), m.Bytes(), host.PluginOptions{Name: "x"})
	var refused *host.LoadError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "the host's own") {
		t.Errorf("Load() = %v", err)
	}
}

// TestBudgetRange wants options out of range to be refused.
func TestBudgetRange(t *testing.T) {
	for _, o := range []host.PluginOptions{
		{CPU: -1}, {CPU: time.Microsecond}, {CPU: 2 * time.Hour}, {Start: time.Microsecond}, {Stack: 1}, {Stack: 1 << 30},
	} {
		o.Name = "x"
		if o.Validate() == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// TestBill: the work of a plugin is booked by callback, and the most memory that an
// instance has had is known when that instance is gone.
func TestBill(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Headers("request", wasmtest.Loop(wasmtest.Local(1), wasmtest.SetLocal(1, wasmtest.Sub(wasmtest.Local(1), i32(1)))), i32(0))
	m.Headers("response", wasmtest.MemoryGrow(i32(8)), drop(), i32(0))
	s := start(t, m, options{})
	before := s.plugin.Stats()
	c := s.open(newStream())
	if _, err := c.RequestHeaders(10_000, true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ResponseHeaders(1, true); err != nil {
		t.Fatal(err)
	}
	after := s.plugin.Stats()
	req, resp := after.Work[host.CallRequestHeaders], after.Work[host.CallResponseHeaders]
	if req.Calls != 1 || resp.Calls != 1 || req.Fuel < 10_000 || resp.Fuel == 0 || resp.Fuel > req.Fuel {
		t.Errorf("10,000 rounds are %v of on_request_headers, one growth %v of on_response_headers", req, resp)
	}
	if grown := after.MemoryHigh - before.MemoryHigh; grown != 8<<16 || after.MemoryHigh != after.MemoryBytes {
		t.Errorf("memory: %d and before %d, now %d", after.MemoryHigh, before.MemoryHigh, after.MemoryBytes)
	}
}
