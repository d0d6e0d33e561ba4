//go:build !race

package wasmfilter_test

import (
	"context"
	"errors"
	"testing"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

// An answering engine passes answers on, as that of a proxy does.
type answering struct {
	noEngine
	to     exchange.Sink[*exchange.Response]
	status int
}

// Answer implements filter.Engine.
func (e *answering) Answer(_ filter.Filter, a *filter.Answer) error {
	e.status = a.Head.Status
	if err := e.to.Head(a.Head, len(a.Body) == 0); err != nil || len(a.Body) == 0 {
		return err
	}
	return e.to.Data(a.Body, true)
}

// refuseAgain returns a function that has a request refused by a gate.
func refuseAgain(t testing.TB, g abi.GateRecord) func() {
	t.Helper()
	h, err := host.NewHost(host.HostOptions{CacheDir: plugintest.CacheDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	p, err := h.Load(context.Background(), refusingGuest(g), host.PluginOptions{Name: "p", Instances: 1, Grants: gateOptions.Grants})
	if err != nil {
		t.Fatal(err)
	}
	root, err := p.NewRoot(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := wasmfilter.New(root, wasmfilter.Options{})
	x := newExchange(t)
	request, route := x.Request, x.Route
	request.Fields.Add("x-key", "0123456789abcdef0123456789abcdef")
	engine := &answering{}
	var req requestEnd
	var back responseEnd
	return func() {
		x.Reset()
		x.Context, x.Request, x.Route, x.Engine = context.Background(), request, route, filter.Engine(engine)
		engine.status = 0
		g, err := f.New(x)
		if err != nil {
			t.Fatal(err)
		}
		in := g.Request(req)
		engine.to = g.Response(back)
		x.SetRequestRun()
		if err := in.Head(x.Request, true); err != nil && !errors.Is(err, exchange.ErrAnswered) {
			t.Fatal(err)
		}
		g.Close(nil)
	}
}

// slowGate is refusingGate with tokens that do not come.
func slowGate(body int) abi.GateRecord {
	g := refusingGate()
	g.Interval = 3600e9
	g.Refusals[0].Body = string(make([]byte, body))
	return g
}

// TestRefuseAllocs: to refuse a request costs no allocation, however long the text.
func TestRefuseAllocs(t *testing.T) {
	for _, body := range []int{0, 20, 1500} {
		ask := refuseAgain(t, slowGate(body))
		ask() // it has the token
		ask() // and the second makes what is kept
		if n := testing.AllocsPerRun(1000, ask); n != 0 {
			t.Errorf("a body of %d: %v allocations, want 0", body, n)
		}
	}
}

func BenchmarkRefuse(b *testing.B) {
	ask := refuseAgain(b, slowGate(20))
	ask()
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}
