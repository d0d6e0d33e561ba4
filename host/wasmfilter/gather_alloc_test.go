//go:build !race

package wasmfilter_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/wasmfilter"
)

// A storeGuest leads and stores, as the cache does, and allocates nothing.
type storeGuest struct {
	s    host.Stream
	key  []byte
	args []byte
}

func (g *storeGuest) RequestHeaders(int, bool) (abi.Action, error) {
	g.args = append(append(g.args[:0], 0, 0, 0, 0), g.key...)
	_, status := g.s.(host.ObjectStream).Object(host.ObjectJoin, nil, g.args)
	if status != abi.StatusOK {
		panic(status)
	}
	return abi.Continue, nil
}

func (g *storeGuest) ResponseHeaders(int, bool) (abi.Action, error) {
	o := abi.ObjectStore{Key: unsafe.String(&g.key[0], len(g.key)), Meta: "0123456789012345678901234567890123456789"}
	g.args = o.Append(g.args[:0])
	if _, status := g.s.(host.ObjectStream).Object(host.ObjectStore, nil, g.args); status != abi.StatusOK {
		panic(status)
	}
	return abi.Continue, nil
}

func (*storeGuest) RequestBody(int, bool) (abi.Action, error)  { return abi.Continue, nil }
func (*storeGuest) RequestTrailers(int) (abi.Action, error)    { return abi.Continue, nil }
func (*storeGuest) ResponseBody(int, bool) (abi.Action, error) { return abi.Continue, nil }
func (*storeGuest) ResponseTrailers(int) (abi.Action, error)   { return abi.Continue, nil }
func (*storeGuest) Finish(func() host.Stream) error            { return nil }
func (*storeGuest) GuestCost() (time.Duration, int64)          { return 0, 0 }

// storeRoom returns what makes an exchange for a new key, whose answer comes in pieces and is
// stored, in a space that is full.
func storeRoom(tb testing.TB, pieces ...string) (run func()) {
	tb.Helper()
	g := &storeGuest{}
	f := wasmfilter.NewFake("p", host.Callbacks{RequestHeaders: true, ResponseHeaders: true}, false, wasmfilter.Options{}, nil,
		func(s host.Stream) (wasmfilter.Guest, error) {
			g.s = s
			return g, nil
		})
	f.StoreIn(objects.New(objects.Options{Bytes: 8 << 20}).Space("a"))
	x := newExchange(tb)
	request, route := x.Request, x.Route
	request.Method = "GET"
	var resp exchange.Response
	var req requestEnd
	var back responseEnd
	var e filter.Engine = &fillEngine{}
	list, length := make([][]byte, len(pieces)), 0
	for i, p := range pieces {
		list[i], length = []byte(p), length+len(p)
	}
	n := 0
	run = func() {
		n++
		g.key = append(strconv.AppendInt(append(g.key[:0], "http://api.example/"...), int64(n), 10), "\napi"...)
		x.Reset()
		x.Context, x.Request, x.Route, x.Engine = context.Background(), request, route, e
		resp.Reset()
		resp.Status, resp.Length = 200, int64(length)
		resp.Fields.Add("content-type", "text/html; charset=utf-8")
		resp.Fields.Add("cache-control", "public, max-age=600")
		resp.Fields.Add("etag", `"0123456789abcdef"`)
		resp.Fields.Add("date", "Sun, 06 Nov 1994 08:49:37 GMT")
		h, err := f.New(x)
		if err != nil {
			tb.Fatal(err)
		}
		out := h.Response(back)
		if err := h.Request(req).Head(x.Request, true); err != nil {
			tb.Fatal(err)
		}
		if err := out.Head(&resp, false); err != nil {
			tb.Fatal(err)
		}
		for i, p := range list {
			if err := out.Data(p, i == len(list)-1); err != nil {
				tb.Fatal(err)
			}
		}
		h.Close(nil)
	}
	for range 8000 {
		run()
	}
	return run
}

// TestStoreAllocs: storing an answer allocates what is kept, which is the object, its key,
// metadata, and fields, and for what the guest asks: the key of a join, who
// would wait, and what is to be stored. There is no goroutine, and nothing for the body.
func TestStoreAllocs(t *testing.T) {
	for name, pieces := range map[string][]string{
		"one piece": {strings.Repeat("x", 1024)},
		"pieces":    {strings.Repeat("x", 600), strings.Repeat("y", 424)},
	} {
		if n := testing.AllocsPerRun(2000, storeRoom(t, pieces...)); n > 7 {
			t.Errorf("%s: %v allocations, want 7", name, n)
		}
	}
}

func BenchmarkStore(b *testing.B) {
	for name, pieces := range map[string][]string{
		"1KiB":         {strings.Repeat("x", 1024)},
		"1KiB, pieces": {strings.Repeat("x", 600), strings.Repeat("y", 424)},
		"32KiB":        {strings.Repeat("x", 16<<10), strings.Repeat("x", 16<<10)},
		"96KiB":        {strings.Repeat("x", 48<<10), strings.Repeat("x", 48<<10)},
	} {
		b.Run(name, func(b *testing.B) {
			run := storeRoom(b, pieces...)
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}
