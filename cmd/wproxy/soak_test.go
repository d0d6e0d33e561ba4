package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/host/wasmtest"
)

// loadWorkers send requests, half of them on connections that are kept.
const loadWorkers = 4

// long reports whether tests that have a long form take it, which the environment
// variable WPROXY_LONG says. It takes many minutes.
func long() bool { return os.Getenv("WPROXY_LONG") != "" }

// A loadRun is requests that go on until it is stopped. Each must be answered well.
type loadRun struct {
	requests, failures atomic.Int64
	stop               func() // waits for the workers
}

// startLoad sends GET /ok of a.test to the instance. check says what is wrong with an
// answer whose status is 200 and whose body is the origin's.
func startLoad(t *testing.T, in *instance, check func(http.Header) error) *loadRun {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	l := &loadRun{stop: sync.OnceFunc(func() { cancel(); wg.Wait() })}
	t.Cleanup(l.stop)
	for i := range loadWorkers {
		wg.Go(func() { // ends with ctx
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: wireTimeout}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				l.requests.Add(1)
				if err := loadOnce(client, in.addr, check); err != nil {
					t.Errorf("request lost: %v", err)
					if l.failures.Add(1) > 10 {
						return
					}
				}
			}
		})
	}
	return l
}

// wait returns when n more requests have been sent.
func (l *loadRun) wait(t *testing.T, n int64) {
	t.Helper()
	before := l.requests.Load()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if l.requests.Load() >= before+n || l.failures.Load() > 0 {
			return
		}
		time.Sleep(500 * time.Microsecond)
	}
	t.Fatalf("no load for %v", patience)
}

// loadOnce sends a request that must be answered well.
func loadOnce(client *http.Client, addr string, check func(http.Header) error) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/ok", nil)
	if err != nil {
		return err
	}
	req.Host = "a.test"
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "ok" {
		return fmt.Errorf("got %d %q, %w", resp.StatusCode, body, err)
	}
	return check(resp.Header)
}

// A footprint is what a process has of what can leak.
type footprint struct {
	heap, resident, goroutines int
	guests                     int // bytes of linear memory of all plugins
	series                     map[string]float64
}

func (u footprint) String() string {
	return fmt.Sprintf("heap %d KiB, resident %d KiB, guests %d KiB, %d goroutines, %d series",
		u.heap>>10, u.resident>>10, u.guests>>10, u.goroutines, len(u.series))
}

// footprint reads the smallest footprint of several moments: what a reload or a request
// in flight holds for the moment is no leak.
func (in *instance) footprint(t *testing.T) footprint {
	t.Helper()
	var least footprint
	for i := range 5 {
		if i > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		u := readFootprint()
		if i == 0 {
			least = u
		}
		least.heap, least.resident = min(least.heap, u.heap), min(least.resident, u.resident)
		least.goroutines = min(least.goroutines, u.goroutines)
	}
	least.guests = int(in.sum(t, "wproxy_plugin_memory_bytes"))
	var err error
	if least.series, err = in.scrape(); err != nil {
		t.Fatal(err)
	}
	return least
}

func readFootprint() footprint {
	runtime.GC()
	runtime.GC() // the second one frees what finalizers and pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := footprint{heap: int(m.HeapAlloc), goroutines: runtime.NumGoroutine()} //nolint:gosec // bytes of one process
	var size, pages int
	if b, err := os.ReadFile("/proc/self/statm"); err == nil { // Linux; elsewhere 0
		if _, err := fmt.Sscan(string(b), &size, &pages); err == nil {
			u.resident = pages * os.Getpagesize()
		}
	}
	return u
}

// What a footprint may grow by, from a third of the changes to the last.
const (
	// heapSlack is for pools and maps that have not seen their most yet. It is less
	// than the settings of two thirds of the reloads, which are padded for that.
	heapSlack = 2 << 20
	// residentSlack is for the collector's pace, which lets garbage of twice the heap
	// lie about, and for fragments; a VM or a module that is kept, each some 2 MiB,
	// is past it after a few changes.
	residentSlack = 32 << 20
	// guestSlack is for the guests' own collectors: half a page of a compiled guest.
	guestSlack = 4 << 20
	// goroutineSlack is for connections between client, proxy and server, which
	// come and go.
	goroutineSlack = 4*loadWorkers + 4
)

// flat fails unless late is early but for what may differ.
func flat(t *testing.T, early, late footprint) {
	t.Helper()
	t.Logf("after a third: %v", early)
	t.Logf("at the end:    %v", late)
	for _, g := range []struct {
		name              string
		early, late, most int
	}{
		{"heap", early.heap, late.heap, heapSlack},
		{"resident memory", early.resident, late.resident, residentSlack},
		{"memory of guests", early.guests, late.guests, guestSlack},
		{"goroutines", early.goroutines, late.goroutines, goroutineSlack},
	} {
		if g.late > g.early+g.most {
			t.Errorf("%s: %d after a third of the changes, %d at the end: it may grow by %d", g.name, g.early, g.late, g.most)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(late.series)) {
		if _, ok := early.series[name]; !ok {
			t.Errorf("a new series: %s", name)
		}
	}
}

// countingGuest is a guest that marks answers and whose mood, the first setting, decides
// whether it starts ("fine"), refuses to, or traps. It keeps no memory of its settings, and has
// a gauge "contexts" of its contexts alive, roots and streams, in all VMs.
func countingGuest(mark string) *wasmtest.Module {
	i32, i64, local, call, drop := wasmtest.I32, wasmtest.I64, wasmtest.Local, wasmtest.Call, wasmtest.Drop
	m := &wasmtest.Module{MinPages: 2}
	m.Func("proxy_abi_version_0_2_1", "")
	heap := m.Allocator("proxy_on_memory_allocate")
	buffer := m.Env("proxy_get_buffer_bytes", "iiiii>i")
	add := m.Env("proxy_add_header_map_value", "iiiii>i")
	define := m.Env("proxy_define_metric", "iiii>i")
	increment := m.Env("proxy_increment_metric", "iI>i")
	at, size, gauge := m.Slot(4), m.Slot(4), m.Slot(4)
	const pluginConfiguration, responseHeaders, kindGauge = 7, 2, 1
	count := func(n int64) wasmtest.Instr {
		return wasmtest.Seq(call(increment, wasmtest.Load32(i32(gauge)), i64(n)), drop())
	}
	mood := wasmtest.Load8(wasmtest.Add(wasmtest.Load32(i32(at)), i32(int32(len(`{"mood":"`)))))
	m.FuncLocals("proxy_on_configure", "ii>i", "i",
		wasmtest.SetLocal(2, wasmtest.Get(heap)),
		call(buffer, i32(pluginConfiguration), i32(0), local(1), i32(at), i32(size)), drop(),
		wasmtest.Set(heap, local(2)),
		wasmtest.If(wasmtest.Eq(mood, i32('t')), wasmtest.Unreachable()),
		call(define, i32(kindGauge), m.Str("contexts"), i32(gauge)), drop(),
		count(1),
		wasmtest.Eq(mood, i32('f')))
	m.Func("proxy_on_context_create", "ii", wasmtest.If(local(1), count(1)))
	m.Func("proxy_on_delete", "i", count(-1))
	m.Headers("response", call(add, i32(responseHeaders), m.Str(guestMark), m.Str(mark)), drop(), i32(0))
	return m
}

const contextsGauge = "wproxy_guest_contexts"

// onlyRoots fails unless the counting guests have no contexts but one root in each VM.
func (in *instance) onlyRoots(t *testing.T) {
	t.Helper()
	strict.Eventually(t, "without contexts but those of one root", func() bool {
		n := in.sum(t, contextsGauge)
		return n >= 1 && n <= float64(runtime.GOMAXPROCS(0))
	})
}
