//go:build !race

package wasmfilter_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// What becomes of the answers of a missRun.
const (
	missUnstored = iota // the engine does not have them stored
	missStored
	missRefused // as a model has it
)

// missRun returns what makes an exchange of a request for which nothing is stored. It goes by, if the order has
// that, and its answer is compared and found to be like the one before.
func missRun(tb testing.TB, order abi.ObjectStanding, what int) (r *missRoom, run func()) {
	tb.Helper()
	store := missStore()
	store.Key = "https://api.example:8443/a\nr"
	r = newMissRoom(tb, order, store, time.Now)
	var e missExchange
	r.teach(tb, &e)
	if what == missRefused {
		r.teachRefusal(tb, &e)
	}
	x := newExchange(tb)
	request := x.Request
	request.Method, request.Target = "GET", "/a"
	resp := &e.resp
	engine := filter.Engine(noEngine{}) // which cannot store
	if what == missStored {
		engine = &e.engine
	}
	var req requestEnd
	var back responseEnd
	body := []byte("abc")
	return r, func() {
		x.Reset()
		x.Context, x.Request, x.Route, x.Engine = context.Background(), request, missRoute, engine
		resp.Reset()
		resp.Status, resp.Length = 200, 3
		resp.Fields.Add("etag", "1")
		resp.Fields.Add("server", "s")
		resp.Fields.Add("content-length", "3")
		if what == missRefused {
			resp.Fields.Add("set-cookie", "2")
		}
		if !order.Misses {
			resp.Fields.Add("x-store", "1")
		}
		f, err := r.New(x)
		if err != nil {
			tb.Fatal(err)
		}
		in, out := f.Request(req), f.Response(back)
		if err := in.Head(x.Request, true); err != nil {
			tb.Fatal(err)
		}
		if err := out.Head(resp, false); err != nil {
			tb.Fatal(err)
		}
		if order.Misses && resp.Fields.Value("x-edit") != "host" {
			tb.Fatal("it is not like the model")
		}
		if err := out.Data(body, true); err != nil {
			tb.Fatal(err)
		}
		if what == missStored {
			e.engine.cut(nil)
		}
		f.Close(nil)
		if what != missUnstored && !r.space.Delete("https://api.example:8443/a\nr") {
			tb.Fatal("nothing is stored")
		}
	}
}

// TestMissAllocs: a request that goes by costs no allocation but for what is to be stored.
func TestMissAllocs(t *testing.T) {
	for _, joins := range []bool{false, true} {
		order := missOrder()
		order.Joins = joins
		_, run := missRun(t, order, missUnstored)
		if n := testing.AllocsPerRun(1000, run); n > 1 { // of what the engine refuses: key, metadata and fields
			t.Errorf("joins %t: %v allocations, want 1", joins, n)
		}
	}
}

// TestMissStoredAllocs: an answer that is stored is two allocations that are kept with it, the object, and its key, metadata and
// fields; and one that is refused as well.
func TestMissStoredAllocs(t *testing.T) {
	for name, what := range map[string]int{"stored": missStored, "refused": missRefused} {
		_, run := missRun(t, missOrder(), what)
		if n := testing.AllocsPerRun(1000, run); n > 2 {
			t.Errorf("%s: %v allocations, want 2", name, n)
		}
	}
}

// TestMissCompareAllocs: to go by and to be compared costs none, whatever comes of it.
func TestMissCompareAllocs(t *testing.T) {
	order := missOrder()
	order.Joins = false
	r := newMissRoom(t, order, missStore(), time.Now)
	var e missExchange
	r.teach(t, &e)
	x := newExchange(t)
	request := x.Request
	request.Method, request.Target = "GET", "/a"
	var answer exchange.Response
	answer.Status = 200
	answer.Fields.Add("date", missDate)
	answer.Fields.Add("etag", "1")
	answer.Fields.Add("x-none", "1")
	if n := testing.AllocsPerRun(1000, func() {
		x.Reset()
		x.Context, x.Request, x.Route, x.Engine = context.Background(), request, missRoute, filter.Engine(noEngine{})
		f, err := r.New(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Request(requestEnd{}).Head(x.Request, true); err != nil {
			t.Fatal(err)
		}
		if r.Fits(f, &answer) {
			t.Fatal("it fits")
		}
		f.Close(exchange.ErrReset)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// BenchmarkMiss is a miss that is stored, by the host and by a guest that does next to nothing else, and one
// that the engine has not stored.
func BenchmarkMiss(b *testing.B) {
	never := missOrder()
	never.Misses, never.Joins, never.MissAlone = false, false, nil
	for _, bb := range []struct {
		name  string
		order abi.ObjectStanding
		what  int
	}{{"host", missOrder(), missStored}, {"guest", never, missStored}, {"unstored", missOrder(), missUnstored}, {"refused", missOrder(), missRefused}} {
		b.Run(bb.name, func(b *testing.B) {
			_, run := missRun(b, bb.order, bb.what)
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}

// BenchmarkMissNew is a miss of a new key each time, with as many exchanges under way as have others out of the
// processor's cache, in a space that is full.
func BenchmarkMissNew(b *testing.B) {
	for name, what := range map[string]int{"stored": missStored, "refused": missRefused} {
		b.Run(name, func(b *testing.B) {
			r := newMissRoom(b, missOrder(), missStore(), time.Now)
			r.space.Limit(64 << 20)
			type one struct {
				e    missExchange
				req  exchange.Request
				out  exchange.Sink[*exchange.Response]
				next responseEnd
			}
			var list [64]one
			var e missExchange
			r.teach(b, &e)
			r.teachRefusal(b, &e)
			body := []byte(strings.Repeat("x", 1000))
			n := 0
			run := func() {
				n++
				o := &list[n%len(list)]
				x, resp := &o.e.x, &o.e.resp
				if o.e.f != nil {
					resp.Reset()
					resp.Status, resp.Length = 200, int64(len(body))
					resp.Fields.Add("server", "nginx")
					resp.Fields.Add("content-type", "text/html; charset=utf-8")
					resp.Fields.Add("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")
					resp.Fields.Add("etag", "1")
					resp.Fields.Add("content-length", "1000")
					if what == missRefused {
						resp.Fields.Add("set-cookie", "2")
					}
					if err := o.out.Head(resp, false); err != nil {
						b.Fatal(err)
					}
					if err := o.out.Data(body, true); err != nil {
						b.Fatal(err)
					}
					o.e.f.Close(nil)
				}
				x.Reset()
				o.req.Reset()
				o.req.Method, o.req.Scheme, o.req.Authority = "GET", "http", "example.com"
				target := "/some/path/page-" + strconv.Itoa(n)
				o.req.SetTarget(target, len(target))
				o.req.Fields.Add("user-agent", "bench")
				o.req.Fields.Add("accept", "*/*")
				x.Context, x.Request, x.Route, x.Engine = context.Background(), &o.req, missRoute, &o.e.engine
				f, err := r.New(x)
				if err != nil {
					b.Fatal(err)
				}
				o.e.f = f
				in := f.Request(requestEnd{})
				o.out = f.Response(o.next)
				if err := in.Head(&o.req, true); err != nil {
					b.Fatal(err)
				}
			}
			for range 70_000 {
				run()
			}
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}
