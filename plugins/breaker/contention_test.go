package main

import (
	"context"
	"iter"
	"sync"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
)

// fakeStream is an exchange as the host sees it, with the few things the plugin asks for.
type fakeStream struct {
	status  string // of the upstream's response
	replied bool
}

func (s *fakeStream) Map(abi.MapType) host.Map          { return fakeMap{s} }
func (s *fakeStream) Buffer(abi.BufferType) host.Buffer { return nil }
func (s *fakeStream) SetProperty(string, []byte)        {}
func (s *fakeStream) Resume(abi.StreamType)             {}
func (s *fakeStream) Close(abi.StreamType)              {}
func (s *fakeStream) Reply(host.Reply)                  { s.replied = true }
func (s *fakeStream) ClearRouteCache()                  {}

func (s *fakeStream) Property(dst []byte, path string) ([]byte, bool) {
	switch path {
	case "route_name":
		return append(dst, "api"...), true
	case "cluster_name":
		return append(dst, "backend"...), true
	case "upstream\x00attempts":
		return append(dst, 1, 0, 0, 0, 0, 0, 0, 0), true
	}
	return dst, false
}

type fakeMap struct{ s *fakeStream }

func (fakeMap) Len() int                       { return 1 }
func (m fakeMap) Get(string) (string, bool)    { return m.s.status, m.s.status != "" }
func (fakeMap) Set(string, string) bool        { return true }
func (fakeMap) Add(string, string) bool        { return true }
func (fakeMap) Remove(string) bool             { return true }
func (fakeMap) Replace([]abi.Pair) bool        { return true }
func (fakeMap) All() iter.Seq2[string, string] { return func(func(string, string) bool) {} }

// TestWasmProbesAtOnce: goroutines push requests through all VMs at once, for real, while the circuit is
// half open: exactly so many get through, and one for each that comes to nothing.
func TestWasmProbesAtOnce(t *testing.T) {
	t.Parallel()
	const vms, clients, probes, rounds = 4, 32, 5, 6
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.NewHost(host.HostOptions{CacheDir: plugintest.CacheDir(), Log: func(host.LogEntry) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p, err := h.Load(context.Background(), wasm, host.PluginOptions{Name: "breaker", Instances: vms, Grants: grants})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	root, err := p.NewRoot(context.Background(), []byte(`{"failures":false,"consecutive":1,"open_for":"150ms","open_for_growth":1,"probes":5}`))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	type one struct {
		context host.Context
		stream  fakeStream
	}
	enter := func() *one {
		x := &one{}
		if err := root.Open(&x.context, &x.stream); err != nil {
			t.Error(err)
		} else if _, err := x.context.RequestHeaders(4, true); err != nil {
			t.Error(err)
		}
		return x
	}
	leave := func(x *one, status string) {
		if x.stream.status = status; status != "" {
			if _, err := x.context.ResponseHeaders(3, false); err != nil {
				t.Error(err)
			}
		}
		if err := x.context.Finish(nil); err != nil {
			t.Error(err)
		}
	}
	// crowd has all clients come at the same time, and returns those that got through.
	crowd := func() (through []*one) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				x := enter()
				if x.stream.replied {
					leave(x, "")
					return
				}
				mu.Lock()
				through = append(through, x)
				mu.Unlock()
			})
		}
		wg.Wait()
		return through
	}
	for round := range rounds {
		begun := time.Now()
		leave(enter(), "503") // opens it
		early := crowd()
		if len(early) != 0 && time.Since(begun) < 150*time.Millisecond {
			t.Fatalf("%d got through an open circuit", len(early))
		}
		for _, x := range early { // that took longer than it is open
			leave(x, "503")
		}
		time.Sleep(160 * time.Millisecond)
		got := crowd()
		if len(got) != probes {
			t.Fatalf("round %d: %d probes, want %d", round, len(got), probes)
		}
		for _, x := range got[:2] {
			leave(x, "") // their clients have left
		}
		again := crowd()
		if len(again) != 2 {
			t.Fatalf("round %d: %d in the place of 2 that came to nothing", round, len(again))
		}
		if round%3 == 2 { // one fails, while others come
			var wg sync.WaitGroup
			wg.Go(func() { leave(again[0], "503") })
			if more := crowd(); len(more) != 0 {
				t.Fatalf("round %d: %d more beside a probe that fails", round, len(more))
			}
			wg.Wait()
			again = again[1:]
		}
		for _, x := range append(got[2:], again...) {
			leave(x, "200")
		}
		if round%3 == 2 {
			time.Sleep(160 * time.Millisecond)
			for _, x := range crowd() {
				leave(x, "200")
			}
		}
		x := enter()
		if x.stream.replied {
			t.Fatalf("round %d: it does not close", round)
		}
		leave(x, "200")
	}
}
