//go:build !race

package wasmfilter_test

import (
	"context"
	"testing"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

// TestGateAllocs: a request that a gate lets past, by what is in its head, and its answer, cost no
// allocation.
func TestGateAllocs(t *testing.T) {
	gate := abi.GateRecord{
		Interval: 1, Burst: 1 << 40, Cost: 1,
		Key: []abi.GatePart{
			{Kind: abi.GateHeader, Text: "x-key"},
			{Kind: abi.GateCookie, Text: "sid"},
			{Kind: abi.GateQuery, Text: "q"},
			{Kind: abi.GateHost},
			{Kind: abi.GateMethod},
			{Kind: abi.GateClient, Bits: 64},
		},
		Fields: []abi.GateField{{Name: "x-policy", Value: []abi.GatePart{{Text: "three"}}}},
		Exempt: []abi.GatePart{abi.GateNetwork([]byte{10, 0, 0, 0}, 8), {Kind: abi.GateHas, Text: "x-free"}},
	}
	m := wt.NewGuest()
	foreign := m.Env(abi.ImportCallForeignFunction, "iiiiii>i")
	out, size := wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	take := m.Data(abi.NewTakeRecord(gate.Interval, gate.Burst, gate.Cost))
	m.Func("proxy_on_configure", "ii>i",
		wt.Call(foreign, m.Str(abi.ForeignGate), m.Str(string(abi.AppendGate(nil, &gate))), out, size), wt.Drop(),
		wt.Call(foreign, m.Str(abi.ForeignTakeCounter), wt.I32(take), wt.I32(abi.TakeRecordSize), out, size), wt.Drop(), wt.I32(1))
	m.Headers("request", wt.Unreachable())
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p, err := h.Load(context.Background(), m.Bytes(), host.PluginOptions{Name: "p", Instances: 1, Grants: []string{host.GrantCounters}})
	if err != nil {
		t.Fatal(err)
	}
	root, err := p.NewRoot(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f := wasmfilter.New(root, wasmfilter.Options{})
	x := newExchange(t)
	request, route := x.Request, x.Route
	request.Target, request.Authority = "/a?q=%41", "Example.com"
	request.Fields.Add("x-key", "0123456789abcdef0123456789abcdef")
	request.Fields.Add("cookie", "theme=dark; sid=0123456789abcdef")
	var resp exchange.Response
	var req requestEnd
	var back responseEnd
	for _, lines := range []int{1, 0} { // of the answer
		if n := testing.AllocsPerRun(1000, func() {
			x.Reset()
			x.Context, x.Request, x.Route, x.Engine = context.Background(), request, route, filter.Engine(noEngine{})
			resp.Reset()
			resp.Status = 200
			g, err := f.New(x)
			if err != nil {
				t.Fatal(err)
			}
			in, out := g.Request(req), g.Response(back)
			defer g.Close(nil)
			if err := in.Head(x.Request, true); err != nil {
				t.Fatal(err)
			}
			if err := out.Head(&resp, true); err != nil || resp.Fields.Len() != lines {
				t.Fatal(err, resp.Fields.List())
			}
		}); n != 0 {
			t.Errorf("%v allocations, want 0", n)
		}
		request.Fields.Add("x-free", "1")
	}
}
