package host_test

import (
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/wasmtest"
)

// A blocker is a stream whose property takes until it is released, so that the
// VM is busy meanwhile.
type blocker struct {
	*fakeStream
	entered, release chan struct{}
}

func newBlocker() blocker {
	return blocker{newStream(), make(chan struct{}), make(chan struct{})}
}

func (b blocker) Property(dst []byte, _ string) ([]byte, bool) {
	close(b.entered)
	<-b.release
	return dst, false
}

// blocking is a guest that reads a property in on_request_headers.
func blocking() *wasmtest.Module {
	m := wasmtest.NewGuest()
	at := m.Slot(8)
	m.Headers("request", call(m.Env("proxy_get_property", "iiii>i"), m.Str("x"), i32(at), i32(at+4)), drop(), i32(0))
	m.Headers("response", i32(0))
	return m
}

// The pool grows when a stream finds all VMs busy, up to its bound; a stream goes
// to a VM that is free.
//
// No bubble of synctest: a goroutine that waits for a mutex keeps its clock still.
func TestPoolGrows(t *testing.T) {
	s := start(t, blocking(), options{plugin: host.PluginOptions{Instances: 2}})
	var wg sync.WaitGroup
	run := func(st host.Stream) {
		c := s.open(st)
		wg.Go(func() {
			if _, err := c.RequestHeaders(1, true); err != nil {
				t.Error(err)
			}
			if err := c.Finish(nil); err != nil {
				t.Error(err)
			}
		})
	}
	stats := func(instances int, waits uint64) {
		t.Helper()
		waitFor(t, func() bool {
			st := s.plugin.Stats()
			return st.Instances == instances && st.Waits == waits
		})
	}
	stats(1, 0)
	first, second, third, fourth := newBlocker(), newBlocker(), newBlocker(), newBlocker()
	close(second.release)
	close(fourth.release)
	run(first)
	<-first.entered
	run(second) // waits for the one VM, and another one is started
	stats(2, 1)
	run(third)
	<-third.entered // on the other VM, while the first is still busy
	run(fourth)     // all are busy, and there will be no more
	stats(2, 2)
	close(first.release)
	close(third.release)
	wg.Wait()
	if st := s.plugin.Stats(); st.Streams != 0 || st.Instances != 2 {
		t.Errorf("Stats() = %+v, want 2 VMs and no streams", st)
	}
}

// A stream stays on the VM that it was bound to, also when another one is free.
func TestStreamStaysOnItsVM(t *testing.T) {
	s := start(t, blocking(), options{plugin: host.PluginOptions{Instances: 2}})
	c, other, b := s.open(newStream()), s.open(newStream()), newBlocker()
	if _, err := c.ResponseHeaders(1, false); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	busy := s.open(b)
	wg.Go(func() { _, _ = busy.RequestHeaders(1, true) })
	<-b.entered
	served := make(chan struct{})
	wg.Go(func() { _, _ = other.ResponseHeaders(1, true) }) // makes the pool grow
	waitFor(t, func() bool { return s.plugin.Stats().Instances == 2 })
	wg.Go(func() { _, _ = c.ResponseHeaders(1, true); close(served) })
	select {
	case <-served:
		t.Error("the stream was served by another VM")
	case <-time.After(20 * time.Millisecond):
	}
	close(b.release)
	wg.Wait()
	for _, c := range []*host.Context{c, other, busy} {
		_ = c.Finish(nil)
	}
}

// waitFor waits for what other goroutines will do soon.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("waited for 30 s in vain")
}

// Plugins that are loaded, used and closed leave nothing behind: no goroutine (see
// TestMain), no reservation of memory, no machine code.
func TestReloadsLeaveNothing(t *testing.T) {
	maps := func() int {
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Skip(err)
		}
		return strings.Count(string(b), "\n")
	}
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	generation := func(n int) {
		t.Helper()
		m := ticker(1000)
		m.Custom("generation", []byte{byte(n), byte(n >> 8)})
		p, err := h.Load(t.Context(), m.Bytes(), host.PluginOptions{Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r, err := p.NewRoot(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
		}
		p.Close()
	}
	settled := func() int {
		runtime.GC()
		time.Sleep(20 * time.Millisecond) // plugins are freed in the background
		return maps()
	}
	for n := range 20 {
		generation(n)
	}
	before := settled()
	for n := range 200 {
		generation(100 + n)
	}
	if after := settled(); after > before+40 {
		t.Errorf("%d mappings after 200 more generations, %d before", after, before)
	}
}

// OnCall is told of each callback.
func TestOnCall(t *testing.T) {
	var calls []host.Callback
	s := start(t, tracer(), options{plugin: host.PluginOptions{OnCall: func(cb host.Callback, d time.Duration) {
		if d < 0 {
			t.Errorf("%v took %v", cb, d)
		}
		calls = append(calls, cb)
	}}})
	c := s.open(newStream())
	if _, err := c.RequestBody(1, true); err != nil {
		t.Fatal(err)
	}
	_ = c.Finish(nil)
	want := []host.Callback{
		host.CallContextCreate, host.CallVMStart, host.CallConfigure,
		host.CallContextCreate, host.CallRequestBody, host.CallDone, host.CallLog, host.CallDelete,
	}
	if len(calls) != len(want) {
		t.Fatalf("calls %v, want %v", calls, want)
	}
	for i := range want {
		if calls[i] != want[i] {
			t.Errorf("call %d is %v, want %v", i, calls[i], want[i])
		}
	}
}

// More memory than its cap is refused to a guest, which may go on.
func TestMemoryCap(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Headers("request", wasmtest.Eq(wasmtest.MemoryGrow(wasmtest.Local(1)), i32(-1)))
	s := start(t, m, options{plugin: host.PluginOptions{Memory: 10 * wasmtest.PageSize}})
	c := s.open(newStream())
	for _, step := range []struct{ pages, refused int }{{7, 0}, {2, 1}, {1, 0}, {1, 1}, {0, 0}, {65536, 1}} {
		if a, err := c.RequestHeaders(step.pages, true); int(a) != step.refused || err != nil {
			t.Errorf("growing by %d pages: refused %d, %v, want %d", step.pages, a, err, step.refused)
		}
	}
	if n := s.plugin.Stats().MemoryBytes; n != 10*wasmtest.PageSize {
		t.Errorf("MemoryBytes = %d", n)
	}
	_ = c.Finish(nil)
}

// A guest that dies in its first tick may do so before its VM is in the pool. The pool
// is filled again all the same.
func TestSpareDiesBeforeItJoins(t *testing.T) {
	m := wasmtest.NewGuest()
	tick := m.Env("proxy_set_tick_period_milliseconds", "i>i")
	// The tick becomes due while the guest is still busy being configured.
	m.FuncLocals("proxy_on_configure", "ii>i", "i",
		call(tick, i32(1)), drop(),
		wasmtest.SetLocal(2, i32(20_000_000)),
		wasmtest.Loop(wasmtest.Ne(wasmtest.Local(2), i32(0)), wasmtest.SetLocal(2, wasmtest.Sub(wasmtest.Local(2), i32(1)))),
		i32(1))
	m.Func("proxy_on_tick", "i", wasmtest.Unreachable())
	m.Headers("request", i32(0))
	for range 4 {
		s := load(t, m, options{plugin: host.PluginOptions{RestartMin: time.Millisecond, RestartMax: time.Millisecond}})
		if _, err := s.plugin.NewRoot(t.Context(), nil); err != nil {
			continue // it was quicker still
		}
		for end := time.Now().Add(10 * time.Second); s.plugin.Stats().Traps[host.CauseTrap] == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the pool is empty and nobody fills it")
			}
		}
	}
}
