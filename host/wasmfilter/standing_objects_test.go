//go:build !race

package wasmfilter_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host/wasmfilter"
)

// A streamEngine passes on what filters answer with, and nothing else.
type streamEngine struct {
	noEngine
	to *clientEnd
}

func (e streamEngine) Stream(_ filter.Filter, _ *exchange.Response, _ string, p filter.Pusher) error {
	return p.Push(e.to)
}
func (streamEngine) MayFill(filter.Filling) bool { return false }
func (streamEngine) Fill(filter.Filling) bool    { return false }
func (streamEngine) Filled()                     {}
func (streamEngine) Refresh(filter.Filter) bool  { return false }

// clientEnd is where an answer arrives.
type clientEnd struct {
	age, ttl string
	bytes    int
	ended    bool
}

func (c *clientEnd) Head(h *exchange.Response, end bool) error {
	c.age, c.ttl, c.ended = h.Fields.Value("age"), h.Fields.Value("ttl"), end
	return nil
}

func (c *clientEnd) Data(p []byte, end bool) error {
	c.bytes, c.ended = c.bytes+len(p), end
	return nil
}
func (*clientEnd) Trailer(*exchange.Fields) error { return nil }

// TestStandingServe: with an order, a message whose promise is good is served without the guest, which would
// trap here, and without an allocation; any reason not to has the guest called.
func TestStandingServe(t *testing.T) {
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }
	o := abi.ObjectStanding{Absent: []string{"range"}, AgeField: "age", TTLField: "ttl", TTLPrefix: "c=", LogField: "l", LogValue: "v", CounterHead: "n"}
	p, root := orderRoot(t, clock, o)
	store := objects.New(objects.Options{Now: clock})
	space := store.Space(p.VMID())
	put := func(key string, status int, promise objects.Promise, whole bool) {
		fill := space.Fill(key, objects.FillOptions{Length: 5, Record: objects.Record{Status: status, Promise: promise}})
		_ = fill.Write([]byte("12345"))
		if whole {
			fill.End("")
		}
	}
	good := objects.Promise{Since: 990, Age: 1, Lifetime: 100}
	const url = "https://api.example:8443/"
	put(url+"a\napi", 200, good, true)
	put(url+"over\napi", 200, objects.Promise{Since: 990, Age: 1, Lifetime: 11}, true)
	put(url+"none\napi", 200, objects.Promise{}, true)
	put(url+"part\napi", 200, good, false)
	put(url+"record\napi", 0, good, true)
	put(url+"route\nother", 200, good, true)
	put(url+strings.Repeat("x", 5000)+"\napi", 200, good, true)

	f := wasmfilter.New(root, wasmfilter.Options{Objects: store, OnError: wasmfilter.OnErrorOpen})
	x := newExchange(t)
	request, route, refresh := x.Request, x.Route, false
	var client clientEnd
	var engine filter.Engine = streamEngine{to: &client}
	run := func(method, target string, end bool) bool {
		client = clientEnd{}
		x.Reset()
		x.Context, x.Request, x.Route, x.Engine, x.Refresh = context.Background(), request, route, engine, refresh
		x.Request.Method, x.Request.Target = method, target
		g, err := f.New(x)
		if err != nil {
			t.Fatal(err)
		}
		err = g.Request(requestEnd{}).Head(x.Request, end)
		g.Close(nil)
		return errors.Is(err, exchange.ErrAnswered)
	}
	if n := testing.AllocsPerRun(100, func() {
		if !run("GET", "/a", true) || client.bytes != 5 || !client.ended || client.age != "11" || client.ttl != "c=89" {
			t.Fatalf("got %+v", client)
		}
	}); n != 0 {
		t.Errorf("%v allocations for an answer, want 0", n)
	}
	if len(x.Verdicts) != 1 || x.Verdicts[0].Plugin != "p" || len(x.LogFields) != 1 || x.LogFields[0] != (exchange.Field{Name: "l", Value: "v"}) {
		t.Errorf("the log would say %+v, %+v", x.Verdicts, x.LogFields)
	}
	if !run("HEAD", "/a", true) || client.bytes != 0 || !client.ended {
		t.Errorf("a HEAD gets %+v", client)
	}
	for sec := range int64(89) { // each second has its texts
		now = time.Unix(1000+sec, 0)
		if !run("GET", "/a", true) || client.age != strconv.FormatInt(11+sec, 10) || client.ttl != "c="+strconv.FormatInt(89-sec, 10) {
			t.Fatalf("after %d seconds: %+v", sec, client)
		}
	}
	now = time.Unix(900, 0) // a clock that was put back makes nothing younger than it came
	if !run("GET", "/a", true) || client.age != "1" {
		t.Errorf("before it came: %+v", client)
	}
	now = time.Unix(1000, 0)
	reasons := map[string]func() bool{
		"it is over":           func() bool { return run("GET", "/over", true) },
		"no promise":           func() bool { return run("GET", "/none", true) },
		"not whole":            func() bool { return run("GET", "/part", true) },
		"a record":             func() bool { return run("GET", "/record", true) },
		"another route":        func() bool { return run("GET", "/route", true) },
		"a long target":        func() bool { return run("GET", "/"+strings.Repeat("x", 5000), true) },
		"nothing stored":       func() bool { return run("GET", "/b", true) },
		"method":               func() bool { return run("POST", "/a", true) },
		"method in lower case": func() bool { return run("get", "/a", true) },
		"a body":               func() bool { return run("GET", "/a", false) },
		"a refresh": func() bool {
			refresh = true
			defer func() { refresh = false }()
			return run("GET", "/a", true)
		},
		"a field": func() bool {
			request.Fields.Add("range", "bytes=0-1")
			defer request.Fields.Remove("range")
			return run("GET", "/a", true)
		},
		"an engine that cannot": func() bool {
			was := engine
			engine = noEngine{}
			defer func() { engine = was }()
			return run("GET", "/a", true)
		},
	}
	for name, ask := range reasons {
		if ask() {
			t.Errorf("%s: got %+v without the guest", name, client)
		}
	}
	if !run("GET", "/a", true) {
		t.Error("the guest has failed, and what needs none is not served")
	}
	if traps := p.Stats().Traps; len(traps) == 0 {
		t.Error("the guest was never called")
	}
}
