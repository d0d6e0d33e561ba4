//go:build !race

package wasmfilter_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/wasmfilter"
)

// passRoom returns a root that has said of a key that what comes there is refused, and what makes an
// exchange for it.
func passRoom(tb testing.TB, method string) (root *host.Root, run func() error) {
	tb.Helper()
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { h.Close() })
	p, err := h.Load(context.Background(), orderedGuest(unsafeOrder), host.PluginOptions{Name: "p", Instances: 1, Grants: []string{host.GrantObjects, host.GrantMetrics}})
	if err != nil {
		tb.Fatal(err)
	}
	root, err = p.NewRoot(context.Background(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	store := objects.New(objects.Options{})
	note := wasmfilter.NewPass(root.StandingLookup(), time.Now().Unix()+1000, abi.FieldEdit{Name: "x-edit", Value: "1"})
	store.Space(p.VMID()).Put("https://api.example:8443/a\napi", objects.Record{Meta: []byte("m"), Note: note}, nil)
	f := wasmfilter.New(root, wasmfilter.Options{Objects: store})
	x := newExchange(tb)
	request, route := x.Request, x.Route
	request.Method, request.Target = method, "/a"
	var resp exchange.Response
	var req requestEnd
	var back responseEnd
	return root, func() error {
		x.Reset()
		x.Context, x.Request, x.Route, x.Engine = context.Background(), request, route, filter.Engine(noEngine{})
		resp.Reset()
		resp.Status = 200
		g, err := f.New(x)
		if err != nil {
			tb.Fatal(err)
		}
		in, out := g.Request(req), g.Response(back)
		defer g.Close(nil)
		if err := in.Head(x.Request, true); err != nil {
			return err
		}
		if err := out.Head(&resp, false); err != nil {
			return err
		}
		if !out.(exchange.Detacher).Detached() || resp.Fields.Has("x-edit") != (method == "GET") {
			tb.Fatal("in the way of the body, or without the edit")
		}
		return out.Data(nil, true)
	}
}

// TestPassAllocs: a request that goes by costs no allocation.
func TestPassAllocs(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) { testPassAllocs(t, method) })
	}
}

func testPassAllocs(t *testing.T, method string) {
	root, run := passRoom(t, method)
	if n := testing.AllocsPerRun(1000, func() {
		if err := run(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	// Where nothing could be shown to the guest, nothing goes by.
	root.Close()
	if err := run(); err == nil {
		t.Error("a request has gone by without a guest")
	}
}

// TestPassMemory: what passes take of the heap is what they say, or less.
func TestPassMemory(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var resp exchange.Response
	resp.Status = 200
	for range 20 {
		resp.Fields.Add("x", strings.Repeat("v", 17))
	}
	for name, a := range map[string]*abi.ObjectPass{
		"nothing": {},
		"names":   {Same: []string{"a", "bb", "cache-control"}, There: []string{strings.Repeat("n", 33), "d"}},
		"lines":   {Same: []string{"x"}},
		"edits":   {Edits: []abi.FieldEdit{{Name: "x", Value: strings.Repeat("v", 33)}, {Name: "yy", Value: "zz"}, {Name: strings.Repeat("n", 33)}}},
	} {
		kept := make([]objects.Note, 4000)
		before, said := heap(), int64(0)
		for i := range kept {
			kept[i] = wasmfilter.MakePass(a, &resp)
			said += kept[i].Size()
		}
		if took := heap() - before; said < took || said > 3*took {
			t.Errorf("%s: passes say %d bytes, of the heap they take %d", name, said, took)
		}
		runtime.KeepAlive(kept)
	}
	for range 20 {
		resp.Fields.Add("x", "v")
	}
	if wasmfilter.MakePass(&abi.ObjectPass{Same: []string{"x"}}, &resp) != nil {
		t.Error("any number of lines is kept")
	}
}

func BenchmarkPass(b *testing.B) {
	_, run := passRoom(b, "GET")
	b.ReportAllocs()
	for b.Loop() {
		if err := run(); err != nil {
			b.Fatal(err)
		}
	}
}
