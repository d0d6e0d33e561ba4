package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	messages "wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

// A wire is both ends of an exchange, for one goroutine.
type wire struct{ refused bool }

func (w *wire) Answer(filter.Filter, *filter.Answer) error { w.refused = true; return nil }
func (w *wire) Abort(string)                               { w.refused = true }
func (w *wire) Fail(*messages.Error)                       { w.refused = true }
func (w *wire) Reroute(bool)                               {}

type sink[H messages.Head] struct{}

func (sink[H]) Head(H, bool) error             { return nil }
func (sink[H]) Data([]byte, bool) error        { return nil }
func (sink[H]) Trailer(*messages.Fields) error { return nil }

// TestWasmManyAtWatch: clients come at the same time, past four VMs and through them, and some of
// their answers are failures. Exactly the request that is enough opens the circuit.
func TestWasmManyAtWatch(t *testing.T) {
	t.Parallel()
	const clients, each, failing = 16, 400, 97
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var lines []string
	h, err := host.NewHost(host.HostOptions{CacheDir: plugintest.CacheDir(), Log: func(e host.LogEntry) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(e.Message, " -> ") {
			lines = append(lines, e.Message)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p, err := h.Load(context.Background(), wasm, host.PluginOptions{Name: "breaker", Instances: 4, Grants: grants})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	const enough = clients*each + 1
	root, err := p.NewRoot(context.Background(), fmt.Appendf(nil, `{"failures":0.000001,"min_requests":%d,"window":"24h"}`, enough))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if root.Watch() == nil {
		t.Fatal("there is no watch")
	}
	factory := wasmfilter.New(root, wasmfilter.Options{})
	conn := messages.Conn{Remote: netip.MustParseAddrPort("192.0.2.1:4711")}
	route := filter.Route{Name: "api", Cluster: "backend"}
	var number, refused atomic.Int64
	run := func(n int) {
		var w wire
		var x filter.Exchange
		req := messages.Request{Method: "GET", Scheme: "https", Conn: &conn}
		var resp messages.Response
		for range n {
			x.Reset()
			x.Context, x.Request, x.Route, x.Engine = context.Background(), &req, &route, &w
			f, _ := factory.New(&x)
			in, out := f.Request(sink[*messages.Request]{}), f.Response(sink[*messages.Response]{})
			x.SetRequestRun()
			if err := in.Head(&req, true); err != nil || w.refused {
				refused.Add(1)
				w.refused = false
				f.Close(nil)
				continue
			}
			resp.Status = 200
			if i := number.Add(1); i > clients*each/2 && i%failing == 0 { // the first half is all well
				resp.Status = 503
			}
			x.Mu.Lock()
			x.Response, x.Upstream = &resp, filter.Outcome{Cluster: "backend", Attempts: 1}
			x.Mu.Unlock()
			if err := out.Head(&resp, true); err != nil {
				t.Error(err)
			}
			f.Close(nil)
		}
	}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() { run(each) })
	}
	wg.Wait()
	mu.Lock()
	if len(lines) > 0 || refused.Load() > 0 {
		t.Errorf("one is missing, and %d were refused: %q", refused.Load(), lines)
	}
	mu.Unlock()
	run(1)
	run(1)
	mu.Lock()
	defer mu.Unlock()
	if want := fmt.Sprintf("of %d requests failed", enough); len(lines) != 1 || !strings.Contains(lines[0], want) || refused.Load() != 1 {
		t.Errorf("the last: %q, %d refused, want %q", lines, refused.Load(), want)
	}
	s := p.Stats()
	if n := s.Work[host.CallRequestHeaders].Calls; n > 64 {
		t.Errorf("the guest was asked about %d requests", n)
	}
	if n := s.Work[host.CallResponseHeaders].Calls; n > clients*each/2+64 {
		t.Errorf("the guest was asked about %d answers", n)
	}
}
