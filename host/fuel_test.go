package host_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
const slack = 5 * time.Second

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

// echo returns what half of the round trips over loopback take for d, on the processors
// that there are.
func echo(t *testing.T, d time.Duration) time.Duration {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var times []time.Duration
	b := make([]byte, 1)
	for end := time.Now().Add(d); time.Now().Before(end); {
		began := time.Now()
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(began))
		time.Sleep(time.Millisecond)
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// mostEcho is well above what a round trip takes beside a guest that is slowed, about a
// millisecond, and below what it takes beside one that is not: the network is polled
// every 10 ms then, and a round trip is several of those.
const mostEcho = 15 * time.Millisecond

// TestChase has a guest that waits for memory all the time: it does little work for the
// time that it takes.
func TestChase(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	m := wasmtest.NewGuest()
	m.MinPages = 1024
	m.FuncLocals("proxy_on_request_headers", "iii>i", "i", wasmtest.Raw(
		0x41, 1, 0x21, 3, 0x03, 0x40,
		// x = x*1664525 + 1013904223 + load((x >> 6) & 0x3fffffc)
		0x20, 3, 0x41, 0x8d, 0xcc, 0xe5, 0x00, 0x6c, 0x41, 0x9f, 0xe6, 0xbb, 0xe3, 0x03, 0x6a,
		0x20, 3, 0x41, 6, 0x76, 0x41, 0xfc, 0xff, 0xff, 0x1f, 0x71, 0x28, 2, 0, 0x6a, 0x21, 3,
		0x0c, 0, 0x0b, 0x41, 0))
	m.Func("proxy_on_configure", "ii>i", i32(0), i32(1), i32(60<<20), wasmtest.Raw(0xfc, 0x0b, 0), i32(1))
	s := start(t, m, options{plugin: host.PluginOptions{CPU: 200 * time.Millisecond, Memory: 64 << 20}})
	c := s.open(newStream())
	done := make(chan struct{})
	go func() { _, _ = c.RequestHeaders(5, true); close(done) }()
	if p50 := echo(t, 300*time.Millisecond); p50 > mostEcho {
		t.Errorf("half of the round trips beside it take more than %v", p50)
	}
	_ = s.host.Close()
	<-done
}

// TestRow has a queue that feeds itself with calls too short to be slowed by themselves.
func TestRow(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	m := wasmtest.NewGuest()
	reg := m.Env("proxy_register_shared_queue", "iii>i")
	enq := m.Env("proxy_enqueue_shared_queue", "iii>i")
	at := m.Slot(16)
	feed := wasmtest.Seq(call(enq, wasmtest.Load32(i32(at)), m.Str("x")), drop())
	m.Func("proxy_on_configure", "ii>i", call(reg, m.Str("q"), i32(at)), drop(), feed, feed, i32(1))
	m.FuncLocals("proxy_on_queue_ready", "ii", "i",
		wasmtest.Loop(wasmtest.LtU(wasmtest.Local(2), i32(100_000)), wasmtest.SetLocal(2, wasmtest.Add(wasmtest.Local(2), i32(1)))), feed)
	s := start(t, m, options{})
	if p50 := echo(t, 300*time.Millisecond); p50 > mostEcho {
		t.Errorf("half of the round trips beside it take more than %v", p50)
	}
	if calls := s.plugin.Stats().Fuel / 900_000; calls < 20 {
		t.Errorf("only %d calls of on_queue_ready", calls)
	}
}

// TestManyEnds: a callback that ends many streams does not make all of their last calls.
func TestManyEnds(t *testing.T) {
	const streams, most = 100, 16
	m := wasmtest.NewGuest()
	effective := m.Env("proxy_set_effective_context", "i>i")
	ended := m.Env("proxy_done", ">i")
	m.FuncLocals("proxy_on_request_headers", "iii>i", "i",
		wasmtest.Loop(wasmtest.LtU(wasmtest.Local(3), wasmtest.Local(1)),
			wasmtest.SetLocal(3, wasmtest.Add(wasmtest.Local(3), i32(1))),
			call(effective, wasmtest.Local(3)), drop(), call(ended), drop()), i32(0))
	m.Func("proxy_on_done", "i>i", i32(0))
	m.Func("proxy_on_log", "i")
	var logs atomic.Int32
	returned, stuck := make(chan struct{}), atomic.Bool{}
	s := start(t, m, options{plugin: host.PluginOptions{OnCall: func(cb host.Callback, _ time.Duration) {
		if cb == host.CallLog && logs.Add(1) == most+1 {
			select {
			case <-returned:
			case <-time.After(slack):
				stuck.Store(true)
			}
		}
	}}})
	for range streams {
		c := s.open(newStream())
		if _, err := c.RequestHeaders(0, true); err != nil {
			t.Fatal(err)
		}
		if err := c.Finish(func() host.Stream { return newStream() }); err != nil {
			t.Fatal(err)
		}
	}
	c := s.open(newStream())
	if _, err := c.RequestHeaders(streams+2, true); err != nil {
		t.Fatal(err)
	}
	close(returned)
	for began := time.Now(); logs.Load() < streams && time.Since(began) < slack; {
		time.Sleep(time.Millisecond)
	}
	if n := logs.Load(); n < streams || stuck.Load() {
		t.Errorf("%d streams of %d were ended; by the callback itself: %v", n, streams, stuck.Load())
	}
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

// TestEightLoops has eight guests that loop for as long as they may, and a ninth that
// is asked for something short all the time.
func TestEightLoops(t *testing.T) {
	for _, procs := range []int{1, 2} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			h, err := host.NewHost(host.HostOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			loop := &hostile{pages: 2, code: func(*wasmtest.Module) wasmtest.Instr { return forever() }}
			quick := wasmtest.NewGuest()
			quick.Headers("request", i32(0))
			root := func(name string, m *wasmtest.Module) *host.Root {
				p, err := h.Load(t.Context(), m.Bytes(), host.PluginOptions{Name: name, Instances: 1, CPU: 25 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				r, err := p.NewRoot(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			bystander := root("quick", quick)
			var wg sync.WaitGroup
			for i := range 8 {
				r := root(fmt.Sprintf("loop%d", i), loop.loader())
				wg.Go(func() { // ends with its budget
					var c host.Context
					if err := r.Open(&c, newStream()); err != nil {
						t.Error(err)
						return
					}
					var trap *host.TrapError
					if _, err := c.RequestHeaders(1, true); !errors.As(err, &trap) || trap.Cause != host.CauseCPU {
						t.Errorf("%v, want a trap with the cause cpu", err)
					}
				})
			}
			loops := make(chan struct{})
			go func() { wg.Wait(); close(loops) }()
			var times []time.Duration
			for running := true; running; {
				select {
				case <-loops:
					running = false
				case <-time.After(time.Millisecond):
				}
				began := time.Now()
				var c host.Context
				if err := bystander.Open(&c, newStream()); err != nil {
					t.Fatal(err)
				}
				if _, err := c.RequestHeaders(1, true); err != nil {
					t.Fatal(err)
				}
				_ = c.Finish(nil)
				times = append(times, time.Since(began))
			}
			slices.Sort(times)
			if len(times) < 50 {
				t.Errorf("only %d calls were made beside loops of 200ms", len(times))
			}
			if median := times[len(times)/2]; median > 5*time.Millisecond {
				t.Errorf("half of the calls beside them took more than %v", median)
			}
			t.Logf("%d calls, median %v, p99 %v, most %v", len(times), times[len(times)/2], times[len(times)*99/100], times[len(times)-1])
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
