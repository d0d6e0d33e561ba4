package host_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/host"
)

// recycleGuest says what happens to its contexts. A request grows its memory by as many
// pages as it has headers; 99 headers want the VM to be rebuilt. on_tick says so.
const recycleGuest = `(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $set (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 512) "create" "done" "delete" "wasm_need_rebuild" "true")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 0))
  (func (export "proxy_on_context_create") (param i32 i32)
    (if (i32.eqz (local.get 1)) (then (drop (call $log (i32.const 2) (i32.const 512) (i32.const 6))))))
  (func (export "proxy_on_request_headers") (param i32) (param $n i32) (param i32) (result i32)
    (if (i32.eq (local.get $n) (i32.const 99))
      (then (drop (call $set (i32.const 528) (i32.const 17) (i32.const 545) (i32.const 4))) (return (i32.const 0))))
    (drop (memory.grow (local.get $n)))
    (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "proxy_on_done") (param $id i32) (result i32)
    (if (i32.eq (local.get $id) (i32.const 1)) (then (drop (call $log (i32.const 2) (i32.const 518) (i32.const 4)))))
    (i32.const 1))
  (func (export "proxy_on_delete") (param $id i32)
    (if (i32.eq (local.get $id) (i32.const 1)) (then (drop (call $log (i32.const 2) (i32.const 522) (i32.const 6)))))))`

func TestRecycle(t *testing.T) {
	for _, tt := range []struct {
		name    string
		o       host.PluginOptions
		headers []int // of the requests before a replacement is due
	}{
		{"requests", host.PluginOptions{RecycleRequests: 3}, []int{0, 0, 0}},
		{"memory", host.PluginOptions{RecycleMemory: 5 << 16}, []int{0, 1, 2}},
		{"the guest wants it", host.PluginOptions{}, []int{0, 0, 99}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := startWasm(t, assemble(t, recycleGuest), options{plugin: tt.o})
				request := func(n int) *host.Context {
					c := s.open(newStream())
					if _, err := c.RequestHeaders(n, true); err != nil {
						t.Fatal(err)
					}
					return c
				}
				var long *host.Context // begins on the old VM and outlives it in the pool
				for i, n := range tt.headers {
					if got := s.plugin.Stats().Recycled; got != 0 {
						t.Fatalf("recycled before request %d", i)
					}
					c := request(n)
					if i == 0 {
						long = c
					} else {
						_ = c.Finish(nil)
					}
				}
				synctest.Wait()
				if st := s.plugin.Stats(); st.Recycled != 1 || st.Instances != 2 || len(st.Traps) > 0 {
					t.Errorf("stats: %+v, want one replaced and two alive", st)
				}
				wantLines(t, s.log.lines(true), "create", "create")
				c := request(0) // on the new one
				if got := c.ID(); got != 2 {
					t.Errorf("the stream has id %d, want the first of its VM", got)
				}
				if _, err := long.ResponseHeaders(1, true); err != nil {
					t.Errorf("a stream of the old VM: %v", err)
				}
				_ = long.Finish(nil)
				synctest.Wait()
				wantLines(t, s.log.lines(true), "create", "create", "done", "delete")
				if st := s.plugin.Stats(); st.Instances != 1 {
					t.Errorf("%d instances, want 1", st.Instances)
				}
				_ = c.Finish(nil)
			})
		})
	}
}

// Memory that is there from the start is no reason: the successor would have it too.
func TestRecycleMemoryOfTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWasm(t, assemble(t, recycleGuest), options{plugin: host.PluginOptions{RecycleMemory: 1 << 16}})
		for range 5 {
			c := s.open(newStream())
			if _, err := c.RequestHeaders(0, true); err != nil {
				t.Fatal(err)
			}
			_ = c.Finish(nil)
			synctest.Wait()
		}
		if got := s.plugin.Stats().Recycled; got != 0 {
			t.Errorf("%d VMs recycled", got)
		}
	})
}

// A root that waits for proxy_done keeps its VM until the time for it is over, and the
// plugin can be closed meanwhile.
func TestRecycleWaitsForDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := strings.Replace(recycleGuest, "    (i32.const 1))\n  (func (export \"proxy_on_delete\")", "    (i32.const 0))\n  (func (export \"proxy_on_delete\")", 1)
		s := startWasm(t, assemble(t, src), options{plugin: host.PluginOptions{RecycleRequests: 1}})
		c := s.open(newStream())
		if _, err := c.RequestHeaders(0, true); err != nil {
			t.Fatal(err)
		}
		_ = c.Finish(nil)
		synctest.Wait()
		wantLines(t, s.log.lines(true), "create", "create", "done")
		if st := s.plugin.Stats(); st.Instances != 2 {
			t.Errorf("%d instances, want 2", st.Instances)
		}
		time.Sleep(host.DelayedDone + time.Second)
		synctest.Wait()
		wantLines(t, s.log.lines(true), "create", "create", "done", "delete")
		if st := s.plugin.Stats(); st.Instances != 1 {
			t.Errorf("%d instances, want 1", st.Instances)
		}
		c = s.open(newStream())
		_, _ = c.RequestHeaders(0, true)
		_ = c.Finish(nil)
		s.root.Close()
		s.plugin.Close()
	})
}

// Streams never find the pool empty while VMs take each other's places.
func TestRecycleHammer(t *testing.T) {
	s := startWasm(t, assemble(t, recycleGuest), options{plugin: host.PluginOptions{RecycleRequests: 20, Instances: 2}})
	deadline := time.Now().Add(500 * time.Millisecond)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var c host.Context
			for time.Now().Before(deadline) {
				if err := s.root.Open(&c, newStream()); err != nil {
					t.Error(err)
					return
				}
				a, err := c.RequestHeaders(1, false)
				_, err2 := c.ResponseHeaders(1, true)
				if err := errors.Join(err, err2, c.Finish(nil)); err != nil || a != abi.Continue {
					t.Error(a, err)
					return
				}
			}
		})
	}
	wg.Wait()
	st := s.plugin.Stats()
	if st.Recycled < 2 || st.Instances > 4 {
		t.Errorf("stats: %+v", st)
	}
	if ends, begins := strings.Count(fmt.Sprint(s.log.lines(true)), "delete"), strings.Count(fmt.Sprint(s.log.lines(true)), "create"); begins-ends != st.Instances {
		t.Errorf("%d roots began and %d ended, %d VMs are there", begins, ends, st.Instances)
	}
}

func heapInUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// 200 generations of a plugin, with streams that outlive theirs: each is closed when its
// last stream has ended, shared data stay, and nothing piles up.
func TestGenerations(t *testing.T) {
	h, log := newTestHost(t, host.HostOptions{})
	load := func(i int) (*host.Plugin, *host.Root) {
		src := strings.Replace(recycleGuest, `"create"`, fmt.Sprintf(`"%06d"`, i%2), 1) // two modules
		p, err := h.Load(t.Context(), assemble(t, src), host.PluginOptions{Name: "swap", Instances: 1})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.NewRoot(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return p, r
	}
	p, r := load(0)
	var before, after int
	for i := 1; i <= 200; i++ {
		var c host.Context
		if err := r.Open(&c, newStream()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.RequestHeaders(1, false); err != nil {
			t.Fatal(err)
		}
		next, root := load(i)
		r.Close()
		p.Close()
		if _, err := c.ResponseHeaders(1, true); err != nil { // of the generation before
			t.Fatal(err)
		}
		if got := p.Stats().Instances; got != 1 {
			t.Errorf("generation %d: %d instances with a stream open", i, got)
		}
		if err := c.Finish(nil); err != nil {
			t.Error(err)
		}
		p, r = next, root
		switch i {
		case 50:
			before = heapInUse()
		case 200:
			after = heapInUse()
		}
	}
	for range 3000 {
		if h.Plugins() == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := h.Plugins(); got != 1 {
		t.Errorf("%d generations are still there", got)
	}
	if after > before+before/2+1<<20 {
		t.Errorf("the heap has grown from %d to %d bytes over 150 generations", before, after)
	}
	if got := strings.Count(fmt.Sprint(log.lines(true)), "delete"); got != 200 {
		t.Errorf("%d roots ended, want 200", got)
	}
}
