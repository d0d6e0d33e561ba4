package host_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/wasmtest"
)

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

// measurements is how often something is measured until it is as good as it has to be: others
// may have the machine for a while, and beside a guest that is not slowed it never is.
const measurements = 5

// wantEcho wants the time that echo has measured beside a guest to be at most mostEcho.
func wantEcho(t *testing.T, measure func() time.Duration) {
	t.Helper()
	least := measure()
	for n := 1; least > mostEcho && n < measurements; n++ {
		least = min(least, measure())
	}
	if least > mostEcho {
		t.Errorf("half of the round trips beside it take %v, more than %v", least, mostEcho)
	}
}

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
	wantEcho(t, func() time.Duration {
		s := start(t, m, options{plugin: host.PluginOptions{CPU: 200 * time.Millisecond, Memory: 64 << 20}})
		c := s.open(newStream())
		done := make(chan struct{})
		go func() { _, _ = c.RequestHeaders(5, true); close(done) }()
		p50 := echo(t, 300*time.Millisecond)
		_ = s.host.Close()
		<-done
		return p50
	})
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
	wantEcho(t, func() time.Duration { return echo(t, 300*time.Millisecond) })
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

// TestEightLoops has eight guests that loop for as long as they may, and a ninth that
// is asked for something short all the time.
func TestEightLoops(t *testing.T) {
	for _, procs := range []int{1, 2} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			n, median := eightLoops(t)
			for i := 1; (n < 50 || median > 5*time.Millisecond) && i < measurements; i++ {
				n, median = eightLoops(t)
			}
			if n < 50 {
				t.Errorf("only %d calls were made beside loops of 200ms", n)
			}
			if median > 5*time.Millisecond {
				t.Errorf("half of the calls beside them took more than %v", median)
			}
		})
	}
}

// eightLoops returns how many calls of the ninth there were, and what half of them took at most.
func eightLoops(t *testing.T) (n int, median time.Duration) {
	t.Helper()
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
	t.Logf("%d calls, median %v, p99 %v, most %v", len(times), times[len(times)/2], times[len(times)*99/100], times[len(times)-1])
	return len(times), times[len(times)/2]
}
