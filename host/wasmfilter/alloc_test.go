//go:build !race

package wasmfilter_test

import (
	"context"
	"testing"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/host"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

// A guest that looks at headers and changes none costs no allocation in steady
// state: filters, contexts and scratch are reused.
func TestAllocsHeadersOnly(t *testing.T) {
	m := wt.NewGuest()
	get := m.Env(abi.ImportGetHeaderMapValue, "iiiii>i")
	property := m.Env(abi.ImportGetProperty, "iiii>i")
	heap := m.Allocator(abi.ExportMalloc) // looked for first; the test resets it
	base := m.Slot(4096)
	ptr, size := wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	look := func(kind int32, name string) wt.Instr {
		return wt.Seq(wt.Set(heap, wt.I32(base)), wt.Call(get, wt.I32(kind), m.Str(name), ptr, size), wt.Drop())
	}
	m.Headers("request", look(0, ":path"), look(0, "x-a"),
		wt.Set(heap, wt.I32(base)), wt.Call(property, m.Str("source\x00address"), ptr, size), wt.Drop(), wt.I32(0))
	m.Headers("response", look(2, ":status"), look(2, "y"), wt.I32(0))

	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p, err := h.Load(context.Background(), m.Bytes(), host.PluginOptions{Name: "p", Instances: 1})
	if err != nil {
		t.Fatal(err)
	}
	root, err := p.NewRoot(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := wasmfilter.New(root, wasmfilter.Options{})
	x := newExchange(t)
	resp := &exchange.Response{Status: 200, Length: 5}
	resp.Fields.Add("y", "z")
	var req requestEnd
	var back responseEnd
	if n := testing.AllocsPerRun(1000, func() {
		x.Verdicts = x.Verdicts[:0]
		g, err := f.New(x)
		if err != nil {
			t.Fatal(err)
		}
		in, out := g.Request(req), g.Response(back)
		if err := in.Head(x.Request, true); err != nil {
			t.Fatal(err)
		}
		if err := out.Head(resp, false); err != nil {
			t.Fatal(err)
		}
		if !out.(exchange.Detacher).Detached() {
			t.Fatal("in the way of the body")
		}
		g.Close(nil)
	}); n != 0 {
		t.Errorf("got %v allocations for an exchange, want 0", n)
	}
}

// Edits that were asked for ahead cost no allocation, and no guest.
func TestAllocsStandingEdits(t *testing.T) {
	f := wasmfilter.NewFake("p", host.Callbacks{}, false, wasmfilter.Options{}, nil, nil)
	f.LeaveEdits(host.StandingEdits{Edits: []abi.FieldEdit{{Name: "x", Value: "1"}, {Op: abi.FieldRemove, Name: "y"}}})
	x := newExchange(t)
	resp := &exchange.Response{Status: 200, Length: 5}
	var req requestEnd
	var back responseEnd
	if n := testing.AllocsPerRun(1000, func() {
		x.Verdicts = x.Verdicts[:0]
		g, err := f.New(x)
		if err != nil {
			t.Fatal(err)
		}
		if g.Request(req) != exchange.Sink[*exchange.Request](req) {
			t.Fatal("in the way of the request")
		}
		out := g.Response(back)
		if err := out.Head(resp, false); err != nil {
			t.Fatal(err)
		}
		if !out.(exchange.Detacher).Detached() {
			t.Fatal("in the way of the body")
		}
		g.Close(nil)
	}); n != 0 {
		t.Errorf("got %v allocations for an exchange, want 0", n)
	}
}
