//go:build !race

package wasmfilter_test

import (
	"context"
	"runtime"
	"testing"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
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

// Nonces and media types cost no guest either, and of an allocation a small part: texts in heads
// may be kept by anybody, so they are not written over, but many share one.
func TestAllocsStandingNonce(t *testing.T) {
	f := wasmfilter.NewFake("p", host.Callbacks{}, false, wasmfilter.Options{}, nil, nil)
	f.LeaveEdits(nonceStanding()...)
	x := newExchange(t)
	resp := &exchange.Response{Status: 200, Length: 5}
	resp.Fields.Add("content-type", "text/html; charset=utf-8")
	const runs = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if n := testing.AllocsPerRun(runs, func() { exchangeNonce(t, f, x, resp) }); n != 0 {
		t.Errorf("got %v allocations for an exchange, want less than 1", n)
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > runs/4 {
		t.Errorf("got %d allocations for %d exchanges", n, runs)
	}
}

// nonceStanding is what securityheaders orders with a nonce and two media types, roughly.
func nonceStanding() []host.StandingEdits {
	rest := []abi.FieldEdit{{Name: "x-content-type-options", Value: "nosniff"}, {Name: "x-frame-options", Value: "DENY"}, {Name: "referrer-policy", Value: "no-referrer"}}
	policy := []abi.FieldEdit{{Name: "content-security-policy", Value: "default-src 'self'; script-src 'nonce-{nonce}'"}}
	return []host.StandingEdits{
		{Request: true, Mark: "{nonce}", Edits: []abi.FieldEdit{{Name: "x-csp-nonce", Value: "{nonce}"}}},
		{Except: []string{"text/html", "image/*"}, Edits: rest},
		{Types: []string{"text/html"}, Mark: "{nonce}", Edits: policy},
		{Types: []string{"text/html"}, Edits: rest},
		{Types: []string{"image/*"}, Except: []string{"image/svg+xml"}, Edits: rest[:1]},
	}
}

func exchangeNonce(tb testing.TB, f *wasmfilter.Factory, x *filter.Exchange, resp *exchange.Response) {
	x.Verdicts = x.Verdicts[:0]
	g, err := f.New(x)
	if err != nil {
		tb.Fatal(err)
	}
	in, out := g.Request(requestEnd{}), g.Response(responseEnd{})
	if in.Head(x.Request, false) != nil || out.Head(resp, false) != nil {
		tb.Fatal("a head was refused")
	}
	if !in.(exchange.Detacher).Detached() || !out.(exchange.Detacher).Detached() {
		tb.Fatal("in the way of a body")
	}
	g.Close(nil)
}

func BenchmarkStanding(b *testing.B) {
	plain := []host.StandingEdits{{Edits: nonceStanding()[3].Edits}}
	for name, list := range map[string][]host.StandingEdits{"plain": plain, "nonce and types": nonceStanding()} {
		b.Run(name, func(b *testing.B) {
			f := wasmfilter.NewFake("p", host.Callbacks{}, false, wasmfilter.Options{}, nil, nil)
			f.LeaveEdits(list...)
			x := newExchange(b)
			resp := &exchange.Response{Status: 200, Length: 5}
			resp.Fields.Add("content-type", "text/html; charset=utf-8")
			b.ReportAllocs()
			for b.Loop() {
				if name == "plain" {
					g, _ := f.New(x)
					_ = g.Response(responseEnd{}).Head(resp, true)
					g.Close(nil)
					x.Verdicts = x.Verdicts[:0]
					continue
				}
				exchangeNonce(b, f, x, resp)
			}
		})
	}
}
