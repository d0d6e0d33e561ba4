package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/abi"
	messages "wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

func TestNewGate(t *testing.T) {
	many := func(n int) string {
		return `{"rate":"1/s","exempt":{"clients":["10.0.0.0/8"` + strings.Repeat(`,"10.0.0.0/8"`, n-1) + `]}}`
	}
	for doc, want := range map[string]bool{
		`{"rate":"1/s"}`: true,
		`{"rate":"1/s","key":"global","scope":"plugin"}`:                       true,
		`{"rate":"1/s","key":["client-ip","global"]}`:                          true,
		`{"rate":"1/s","mode":"report"}`:                                       true,
		`{"rate":"1/s","burst":9,"cost":3}`:                                    true,
		`{"rate":"1/s","on_missing_key":"deny"}`:                               true, // it asks where a part is missing
		`{"rate":"1/s","key":"header:x"}`:                                      true,
		`{"rate":"1/s","key":["client-ip","path"]}`:                            true,
		`{"rate":"1/s","key":"method","on_missing_key":"deny"}`:                true,
		`{"rate":"1/s","key":["cookie:A","query:b","host"]}`:                   true,
		`{"rate":"1/s","exempt":{"clients":["10.0.0.0/8","::1"]}}`:             true,
		`{"rate":"1/s","exempt":{"headers":{"x":true,"Y":["a","b"],"z":""}}}`:  true,
		`{"rate":"1/s","algorithm":"leaky-bucket","burst":3}`:                  true,
		`{"rate":"1/s","algorithm":"sliding-window"}`:                          true,
		`{"rate":"9/h","algorithm":"sliding-window","cost":2,"mode":"report"}`: true,
		many(abi.MaxGateExempt):                                                true,
		many(abi.MaxGateExempt + 1):                                            false,
		`{"rate":"1/s","cost":"header:x"}`:                                     false,
		`{"rate":"1/s","concurrency":1}`:                                       true,
		`{"rate":"1/s","algorithm":"leaky-bucket","concurrency":1}`:            true,
		`{"rate":"1/s","algorithm":"sliding-window","concurrency":1}`:          false,
		`{"concurrency":1}`:                                                    true,
		`{"rate":"1/s","key":["path"` + strings.Repeat(`,"path"`, 16) + `]}`:   false, // 17 parts in 34
	} {
		c, err := parseConfig([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		g, ok := newGate(c, &[outcomes]uint32{allowed: 1, exempted: 2})
		if ok != want {
			t.Errorf("%s: got %t, want %t", doc, ok, want)
		}
		if !ok {
			continue
		}
		if (len(g.Fields) == 0) != (c.report || c.unrated) {
			t.Errorf("%s: %d fields", doc, len(g.Fields))
		}
		g.Refusals = newRefusals(c, &[outcomes]uint32{limited: 3, crowded: 4, keyless: 5, reported: 6})
		if _, err := abi.ParseGate(string(abi.AppendGate(nil, g))); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

// TestNewGateAsEver: what the first hosts with gates can do is said as they know it.
func TestNewGateAsEver(t *testing.T) {
	for _, doc := range []string{
		`{"rate":"1/s"}`, `{"rate":"1/s","key":["client-ip","global"],"scope":"plugin"}`, `{"rate":"1/s","burst":9,"cost":3,"mode":"report"}`,
	} {
		c, err := parseConfig([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		g, _ := newGate(c, &[outcomes]uint32{allowed: 1, exempted: 2})
		if g.Slots != 0 || g.Reserve != 0 || g.ExemptMetric != 0 || len(g.Exempt)+len(g.Missing) > 0 {
			t.Errorf("%s: %+v", doc, g)
		}
		for _, p := range g.Key {
			if p.Kind > abi.GateClient {
				t.Errorf("%s: kind %d", doc, p.Kind)
			}
		}
	}
}

// asked returns how many requests the guest was asked about.
func asked(s host.Stats) uint64 { return s.Work[host.CallRequestHeaders].Calls }

// TestWasmGate: with a gate, what comes out is to the byte what comes out without, and the guest
// is asked only where it has something to say.
func TestWasmGate(t *testing.T) {
	for name, config := range map[string]string{
		"defaults":   `{"rate":"3/s"}`,
		"burst":      `{"rate":"40/m","burst":7,"cost":2,"key":"client-ip/48"}`,
		"exact":      `{"rate":"3/s","key":"client-ip"}`,
		"global":     `{"rate":"30/s","burst":4,"key":"global"}`,
		"both":       `{"rate":"2/s","key":["global","client-ip/61","global"]}`,
		"plugin":     `{"rate":"2/s","key":"client-ip","scope":"plugin"}`,
		"plugin all": `{"rate":"9/s","key":"global","scope":"plugin"}`,
		"report":     `{"rate":"2/s","key":"client-ip","mode":"report"}`,
		"deny":       `{"rate":"2/s","key":"client-ip","on_missing_key":"deny"}`,
		"allow":      `{"rate":"2/s","key":"client-ip","on_missing_key":"allow"}`,

		"header":          `{"rate":"2/s","key":"header:x-key"}`,
		"header, share":   `{"rate":"9/s","key":["header:x-key","client-ip"],"burst":3}`,
		"window, share":   `{"rate":"9/s","key":"cookie:sid","algorithm":"sliding-window","scope":"plugin"}`,
		"header, deny":    `{"rate":"2/s","key":"header:x-key","on_missing_key":"deny"}`,
		"header, allow":   `{"rate":"2/s","key":"header:x-key","on_missing_key":"allow","mode":"report"}`,
		"the host's name": `{"rate":"5/s","key":["header:host","method"]}`,
		"cookie":          `{"rate":"2/s","key":["cookie:sid","client-ip/64"]}`,
		"query":           `{"rate":"2/s","key":["query:k y","host"],"scope":"plugin"}`,
		"path":            `{"rate":"4/s","key":["path","method","host"],"burst":2}`,
		"exempt":          `{"rate":"2/s","key":"header:x-key","exempt":{"clients":["192.0.2.2","2001:db8::/47"],"headers":{"x-plan":["gold","silver"],"x-free":true}}}`,
		"exempt, deny":    `{"rate":"2/s","key":"header:x-key","on_missing_key":"deny","exempt":{"clients":"192.0.2.1"},"mode":"report"}`,
		"window":          `{"rate":"6/s","key":["client-ip","header:x-key"],"algorithm":"sliding-window"}`,
		"window, cost":    `{"rate":"40/m","key":"cookie:sid","algorithm":"sliding-window","cost":3,"exempt":{"headers":{"x-plan":"gold"}}}`,
		"window, report":  `{"rate":"2/s","key":"global","algorithm":"sliding-window","mode":"report","scope":"plugin"}`,
		"leaky":           `{"rate":"4/s","key":"header:x-key","algorithm":"leaky-bucket","burst":3,"max_delay":"400ms"}`,
		"leaky, report":   `{"rate":"3/s","key":"client-ip","algorithm":"leaky-bucket","burst":2,"cost":2,"mode":"report"}`,
		"leaky, fast":     `{"rate":"7/s","key":"global","algorithm":"leaky-bucket","max_delay":"1ms"}`,
	} {
		t.Run(name, func(t *testing.T) {
			with, calls := play(t, config, nil)
			without, all := play(t, config, []string{abi.ForeignGate})
			for i := range with {
				if !reflect.DeepEqual(with[i], without[i]) {
					t.Fatalf("step %d: with the gate %+v, without %+v", i, with[i], without[i])
				}
			}
			if calls == 0 || 2*calls >= all {
				t.Errorf("the guest was asked %d times, without the gate %d: want fewer, and some", calls, all)
			}
		})
	}
}

// A step is what one exchange has come to.
type step struct {
	client   plugintest.Response
	upstream plugintest.Request
	verdict  string
	reason   string
	metrics  map[string]int64
}

// play has clients ask two routes at the same times whenever it is called, and returns all
// there is to see, and how often the guest was asked.
func play(t *testing.T, config string, without []string) (steps []step, calls uint64) {
	t.Helper()
	clients := []string{"192.0.2.1:1", "192.0.2.2:1", "[::ffff:192.0.2.1]:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8:0:8::2]:1", "[2001:db9::1]:1"}
	o := plugintest.Options{Config: config, Route: "a", Grants: places["counters"].grants, Without: without, Instances: 2}
	plugintest.Run(t, guest(t), o, func(t *testing.T, p *plugintest.Plugin) {
		routes := []*plugintest.Plugin{p, p.With("b", config)}
		r := rand.New(rand.NewPCG(1, 2))
		for range 80 {
			q := routes[r.IntN(2)]
			req := randomRequest(r)
			req.Client = clients[r.IntN(len(clients))]
			if r.IntN(9) == 0 {
				req.ClientIP = "198.51.100.7"
			}
			s := q.Open(req)
			for range 5 { // it may have to wait
				if !s.Paused() {
					break
				}
				p.Advance(100 * time.Millisecond)
			}
			s.Respond(plugintest.Response{Fields: plugintest.Fields("server", "s", "ratelimit", `"other";r=1`)})
			s.Finish()
			steps = append(steps, step{s.Client(), s.Upstream(), s.Verdict("plugin"), s.Reason(), p.Metrics()})
			p.Advance(time.Duration(r.IntN(300)) * time.Millisecond)
		}
		calls = asked(p.Stats())
	})
	return steps, calls
}

// randomRequest has, often, what keys and exemptions are about.
func randomRequest(r *rand.Rand) plugintest.Request {
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	q := plugintest.Request{
		Method: one("GET", "GET", "POST"), Authority: one("a.test", "A.TEST", "b.test:8080"),
		Path: one("/a", "/a?k%20y=1", "/a?x&%6b+y=%31", "/b?k+y=2", "/b?k+y=", "/a?k+y=1&k+y=2"),
	}
	add := func(name string, values ...string) {
		if r.IntN(4) == 0 {
			return
		}
		q.Fields = append(q.Fields, plugintest.Fields(name, one(values...))...)
	}
	add("x-key", "a", "a", "b", "", strings.Repeat("c", abi.MaxGateValues), strings.Repeat("c", abi.MaxGateValues+1))
	add("x-key", "b")
	add("cookie", "sid=1", "t=2; sid=1", "sid=2;sid=1", "SID=1", "sid=", strings.Repeat("t=1;", abi.MaxGateSource/4)+"sid=1")
	if r.IntN(4) == 0 {
		add("x-plan", "gold", "silver", "Gold", "")
		add("x-free", "", "x")
	}
	return q
}

// TestWasmGateOpen: nobody asks the guest but the first, while tokens last and when they are gone.
func TestWasmGateOpen(t *testing.T) {
	o := plugintest.Options{Config: `{"rate":"1/h","burst":5}`, Grants: places["counters"].grants}
	plugintest.Run(t, guest(t), o, func(t *testing.T, p *plugintest.Plugin) {
		for i := range 7 {
			s := p.Do(plugintest.Request{Client: "192.0.2.1:1"}, plugintest.Response{})
			if got, want := s.Client().Status == 200, i < 5; got != want {
				t.Errorf("request %d: admitted %t, want %t", i, got, want)
			}
			// The first has no table of buckets yet, which the guest has to ask for.
			if got := asked(p.Stats()); got != 1 {
				t.Errorf("request %d: the guest was asked %d times, want 1", i, got)
			}
		}
		metric(t, p, allowed, 5)
		metric(t, p, limited, 2)
		// Other settings of a reload have other buckets; the same settings have the same.
		same, other := p.With("test", o.Config), p.With("test", `{"rate":"1/h","burst":2}`)
		for q, want := range map[*plugintest.Plugin]int{same: 429, other: 200} {
			if s := q.Do(plugintest.Request{Client: "192.0.2.1:1"}, plugintest.Response{}); s.Client().Status != want {
				t.Errorf("after a reload: got %d, want %d", s.Client().Status, want)
			}
		}
	})
}

// TestWasmGatePlaces: with a gate as many are in flight as without, however their exchanges end.
func TestWasmGatePlaces(t *testing.T) {
	for name, config := range map[string]string{
		"alone":    `{"concurrency":2,"key":"header:x-key"}`,
		"report":   `{"concurrency":2,"key":"header:x-key","mode":"report"}`,
		"rate":     `{"rate":"6/s","burst":3,"concurrency":2,"key":["header:x-key","method"]}`,
		"leaky":    `{"rate":"9/s","algorithm":"leaky-bucket","max_delay":"200ms","concurrency":3,"key":"client-ip"}`,
		"exempt":   `{"concurrency":1,"key":"global","exempt":{"headers":{"x-plan":true}}}`,
		"missing":  `{"concurrency":1,"key":"cookie:sid"}`,
		"deny":     `{"concurrency":1,"key":"cookie:sid","on_missing_key":"deny"}`,
		"a window": `{"rate":"9/s","concurrency":3,"key":"global","algorithm":"sliding-window"}`, // has no gate
	} {
		t.Run(name, func(t *testing.T) {
			with, calls := playPlaces(t, config, nil)
			without, all := playPlaces(t, config, []string{abi.ForeignGate})
			for i := range with {
				if !reflect.DeepEqual(with[i], without[i]) {
					t.Fatalf("step %d: with the gate %+v, without %+v", i, with[i], without[i])
				}
			}
			if 2*calls >= all && name != "a window" {
				t.Errorf("the guest was asked %d times, without the gate %d: want fewer", calls, all)
			}
		})
	}
}

// playPlaces is play with exchanges that last.
func playPlaces(t *testing.T, config string, without []string) (steps []step, calls uint64) {
	t.Helper()
	o := plugintest.Options{Config: config, Route: "a", Grants: places["counters"].grants, Without: without, Instances: 2}
	plugintest.Run(t, guest(t), o, func(t *testing.T, p *plugintest.Plugin) {
		r := rand.New(rand.NewPCG(7, 8))
		var open []*plugintest.Stream
		end := func(i int) {
			s := open[i]
			open = append(open[:i], open[i+1:]...)
			if s.Paused() || r.IntN(3) == 0 {
				s.Leave()
			} else {
				s.Respond(plugintest.Response{Fields: plugintest.Fields("server", "s")})
			}
			s.Finish()
			steps = append(steps, step{s.Client(), s.Upstream(), s.Verdict("plugin"), s.Reason(), p.Metrics()})
		}
		for range 150 {
			if len(open) < 6 && r.IntN(2) == 0 {
				req := randomRequest(r)
				req.Client = "192.0.2.1:1"
				open = append(open, p.Open(req))
			} else if len(open) > 0 {
				end(r.IntN(len(open)))
			}
			p.Advance(time.Duration(r.IntN(100)) * time.Millisecond)
		}
		for len(open) > 0 {
			end(0)
		}
		calls = asked(p.Stats())
	})
	return steps, calls
}

// TestWasmGateRefused: settings that are too much for a gate, or for a host that knows less of them, are
// the guest's for each request.
func TestWasmGateRefused(t *testing.T) {
	for name, config := range map[string]string{
		"long": `{"rate":"1/h","key":"client-ip","exempt":{"headers":{"x-plan":"` + strings.Repeat("v", abi.MaxGateBytes) + `"}}}`,
		"many": `{"rate":"1/h","key":"client-ip","exempt":{"clients":["10.0.0.0/8"` + strings.Repeat(`,"10.0.0.0/8"`, abi.MaxGateExempt) + `]}}`,
		"name": `{"rate":"1/h","key":["client-ip","header:` + strings.Repeat("x", abi.MaxGateKey) + `"]}`,
	} {
		root := open(t, config, 1, places["counters"].grants)
		if root.Gate() != nil {
			t.Errorf("%s: there is a gate", name)
		}
		o := plugintest.Options{Config: config, Grants: places["counters"].grants}
		plugintest.Run(t, guest(t), o, func(t *testing.T, p *plugintest.Plugin) {
			q := plugintest.Request{Client: "192.0.2.1:1", Fields: plugintest.Fields(strings.Repeat("x", abi.MaxGateKey), "v")}
			for i, want := range []int{200, 429} {
				if got := p.Do(q, plugintest.Response{}).Client().Status; got != want {
					t.Errorf("%s, request %d: got %d, want %d", name, i, got, want)
				}
			}
			q.Client = "10.0.0.1:1"
			if got := p.Do(q, plugintest.Response{}).Client().Status; got != 200 {
				t.Errorf("%s, somebody else: got %d", name, got)
			}
		})
	}
}

// A wire is both ends of an exchange, for one goroutine; refused is set by an answer of the
// plugin.
type wire struct{ refused bool }

func (w *wire) Answer(_ filter.Filter, a *filter.Answer) error {
	w.refused = a.Head.Status == 429 && a.Head.Fields.Len() == 5 && a.Head.Fields.Value("content-length") == "19" && len(a.Body) == 19
	return nil
}
func (w *wire) Abort(string)         { w.refused = true }
func (w *wire) Fail(*messages.Error) { w.refused = true }
func (w *wire) Reroute(bool)         {}

type sink[H messages.Head] struct{}

func (sink[H]) Head(H, bool) error             { return nil }
func (sink[H]) Data([]byte, bool) error        { return nil }
func (sink[H]) Trailer(*messages.Fields) error { return nil }

// TestWasmManyClientsAtGate is TestWasmManyClients with the filter in front, and so the gate:
// 64 clients take from one bucket past four VMs, and are refused, as it is mostly empty.
func TestWasmManyClientsAtGate(t *testing.T) {
	const burst, rate, clients, duration = 50, 100, 64, 2 * time.Second
	root := open(t, `{"rate":"100/s","burst":50,"key":"global"}`, 4, places["counters"].grants)
	if root.Gate() == nil {
		t.Fatal("there is no gate")
	}
	factory := wasmfilter.New(root, wasmfilter.Options{})
	conn := messages.Conn{Remote: netip.MustParseAddrPort("192.0.2.1:4711")}
	route := filter.Route{Name: "api"}
	var admitted, tried atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	// ask asks again and again, as long as more says so of whether the last one was admitted.
	ask := func(more func(bool) bool) {
		var w wire
		var x filter.Exchange
		req := messages.Request{Method: "GET", Scheme: "https", Conn: &conn}
		resp := messages.Response{Status: 200}
		for more(!w.refused) {
			x.Reset()
			resp.Fields.Reset()
			x.Context, x.Request, x.Route, x.Engine = context.Background(), &req, &route, &w
			w.refused = false
			f, _ := factory.New(&x)
			in, out := f.Request(sink[*messages.Request]{}), f.Response(sink[*messages.Response]{})
			x.SetRequestRun()
			if err := in.Head(&req, true); err == nil && !w.refused {
				admitted.Add(1)
				if err := out.Head(&resp, true); err != nil || resp.Fields.Len() != 2 {
					t.Errorf("%v, %v", err, resp.Fields.List())
				}
			}
			f.Close(nil)
			if tried.Add(1) > 20_000 {
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
	for range clients {
		wg.Go(func() { ask(func(bool) bool { return time.Since(start) < duration }) })
	}
	wg.Wait()
	// What has come since the last of them asked is theirs, too: they may have been kept waiting.
	ask(func(admitted bool) bool { return admitted })
	took := time.Since(start)
	most := burst + int64(rate*took.Seconds()) + 1
	least := (burst + int64(rate*duration.Seconds())) * 99 / 100
	got, calls := admitted.Load(), int64(asked(root.Plugin().Stats()))
	if got > most || got < least {
		t.Errorf("%d of %d admitted in %v, want %d to %d", got, tried.Load(), took, least, most)
	}
	if calls < 1 || calls > clients { // until one of them has made the table
		t.Errorf("the guest was asked %d times", calls)
	}
	fmt.Fprintln(t.Output(), got, "of", tried.Load(), "admitted,", calls, "calls")
}

// TestWasmExactBesideGate: requests that go past four VMs, and requests of settings without a gate, for
// which the four are asked, have the same buckets and windows: together they get what these hold.
func TestWasmExactBesideGate(t *testing.T) {
	const quota, clients, each = 400, 8, 150
	for name, config := range map[string]string{
		"bucket": `{"rate":"1/h","burst":400,"key":["header:x-key","path"],"scope":"plugin"`,
		"window": `{"rate":"400/h","algorithm":"sliding-window","key":["header:x-key","path"],"scope":"plugin"`,
		"leaky":  `{"rate":"1/h","algorithm":"leaky-bucket","burst":400,"max_delay":"1ms","key":["header:x-key","path"],"scope":"plugin"`,
	} {
		root := open(t, config+"}", 4, places["counters"].grants)
		other, err := root.Plugin().NewRoot(context.Background(), []byte(config+`,"exempt":{"clients":["10.0.0.1"`+strings.Repeat(`,"10.0.0.1"`, abi.MaxGateExempt)+`]}}`))
		if err != nil {
			t.Fatal(err)
		}
		if root.Gate() == nil || other.Gate() != nil {
			t.Fatalf("%s: a gate: %t, beside it: %t", name, root.Gate() != nil, other.Gate() != nil)
		}
		var admitted atomic.Int64
		var wg sync.WaitGroup
		for i := range clients {
			factory := wasmfilter.New([]*host.Root{root, other}[i%2], wasmfilter.Options{})
			wg.Go(func() {
				conn := messages.Conn{Remote: netip.MustParseAddrPort("192.0.2.1:4711")}
				req := messages.Request{Method: "GET", Scheme: "https", Target: "/p?q", Conn: &conn}
				req.Fields.Add("x-key", "a")
				var w wire
				var x filter.Exchange
				route := filter.Route{Name: "api"}
				for range each {
					x.Reset()
					x.Context, x.Request, x.Route, x.Engine = context.Background(), &req, &route, &w
					w.refused = false
					f, _ := factory.New(&x)
					in := f.Request(sink[*messages.Request]{})
					f.Response(sink[*messages.Response]{})
					x.SetRequestRun()
					if err := in.Head(&req, true); err == nil && !w.refused {
						admitted.Add(1)
					}
					f.Close(nil)
				}
			})
		}
		wg.Wait()
		calls := int64(asked(root.Plugin().Stats()))
		if n := admitted.Load(); n != quota {
			t.Errorf("%s: %d of %d admitted, want %d", name, n, clients*each, quota)
		}
		if calls >= clients*each {
			t.Errorf("%s: nobody went past the guest", name)
		}
	}
}
