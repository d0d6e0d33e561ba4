package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
)

// narrowFields are by what clients ask for a variant, for a part, or for nothing if they have it.
var narrowFields = [][2]string{
	{"accept-encoding", "gzip"},
	{"accept-encoding", "gzip, br"},
	{"accept-encoding", "br,gzip"}, // the same variant
	{"accept-encoding", ""},
	{"x", "1"},
	{"x", "2"},
	{"range", "bytes=1-2"},
	{"range", "bytes=-3"},
	{"range", "bytes=99-"},
	{"range", "bytes=0-0,2-3"},
	{"if-range", `"1"`},
	{"if-range", "Fri, 31 Dec 1999 23:00:00 GMT"},
	{"if-none-match", `"1"`},
	{"if-none-match", `W/"2", "1"`},
	{"if-none-match", "*"},
	{"if-none-match", `"x"`},
	{"if-modified-since", "Fri, 31 Dec 1999 23:00:00 GMT"},
	{"if-modified-since", "Friday, 31-Dec-99 23:00:01 GMT"},
	{"if-modified-since", "Sat, 01 Jan 2000 00:01:00 GMT"},
	{"if-modified-since", "x"},
	{"if-match", `"1"`},
	{"if-unmodified-since", "Sat, 01 Jan 2000 00:00:00 GMT"},
	{"cookie", "c=1"},
}

// narrow makes a request in one of the ways that there are in the time of a test, or, rarely, in another.
func (d *driver) narrow() plugintest.Request {
	r := plugintest.Request{Path: d.one([]string{"/plain", "/plain", "/vary", "/vary", "/vary", "/both"}), Method: d.one([]string{"", "", "", "", "", "HEAD"})}
	ways := rand.New(rand.NewPCG(uint64(d.rand.IntN(8)), 5)) //nolint:gosec // the same each time
	list := narrowFields
	switch d.rand.IntN(12) {
	case 0:
		ways = d.rand
	case 1:
		list = append(slices.Clone(list), requestFields...)
	}
	for range ways.IntN(4) {
		f := list[ways.IntN(len(list))]
		r.Fields = append(r.Fields, abi.Pair{Name: f[0], Value: f[1]})
	}
	return r
}

// version makes the answer to a request: mostly what it was before.
func (d *driver) version(up *plugintest.Request) plugintest.Response {
	v := d.versions[up.Path]
	if v == 0 || d.rand.IntN(10) == 0 {
		v = 1 + d.rand.IntN(3)
		d.versions[up.Path] = v
	}
	tag := fmt.Sprintf(`"%d"`, v)
	r := plugintest.Response{Fields: plugintest.Fields("etag", tag, "cache-control", d.one([]string{"max-age=20", "max-age=20", "max-age=20", "max-age=5, stale-while-revalidate=5"}))}
	if d.rand.IntN(2) == 0 {
		r.Fields = append(r.Fields, plugintest.Fields("last-modified", "Fri, 31 Dec 1999 23:00:00 GMT", "content-type", "text/plain")...)
	}
	switch up.Path {
	case "/vary":
		r.Fields = append(r.Fields, plugintest.Fields("vary", "Accept-Encoding")...)
	case "/both":
		r.Fields = append(r.Fields, plugintest.Fields("vary", d.one([]string{"accept-encoding, x", "accept-encoding, x", "accept-encoding, x", "x"}))...)
	}
	if up.Get("if-none-match") == tag && d.rand.IntN(2) == 0 {
		r.Status = 304
		return r
	}
	switch d.rand.IntN(20) {
	case 0:
		r.Fields = append(r.Fields, d.fields(responseFields, 1)...)
	case 1:
		r.Status, r.Fields = 404, append(r.Fields, plugintest.Fields("age", "3")...)
	case 2:
		return plugintest.Response{Status: 502, Failure: "connect", Body: []byte("none")}
	}
	r.Body = []byte(strings.Repeat(up.Get("accept-encoding")+fmt.Sprint(v), 3))
	return r
}

// TestRepeatDifferential: what the host repeats is what the guest would have answered once more, byte for byte.
func TestRepeatDifferential(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for name, settings := range map[string][2]string{
		"defaults":     {`{}`, `{"name":"other"}`},
		"no status":    {`{"cache_status":false,"stale_if_error":"9s"}`, `{}`},
		"honour":       {`{"client_cache_control":"honour","bypass_headers":["x"]}`, `{}`},
		"alone":        {`{"collapse":false,"purge_clients":["192.0.2.0/24"],"store_set_cookie":true}`, `{"max_ttl":"7s"}`},
		"bypass range": {`{"bypass_headers":["range","cookie"],"max_ttl":"9s"}`, `{}`},
		"key":          {`{"key":["cookie:c"]}`, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			allOf, someOf := uint64(0), uint64(0)
			for seed := range uint64(2) {
				guest, alone := differ(t, wasm, settings[0], func(p *plugintest.Plugin) []string {
					d := driver{p: p, rand: rand.New(rand.NewPCG(seed, 9)), versions: map[string]int{}} //nolint:gosec // the same each time
					d.other = p.With("test", settings[1])
					for range 600 {
						d.step()
						if d.rand.IntN(40) == 0 {
							d.note("a variant purged", p.Purge("http://example.com/vary\ntest\nvary\x00set:accept-encoding:"+d.one([]string{"gzip", "br,gzip"})))
						}
					}
					return d.end()
				})
				allOf, someOf = allOf+guest[0], someOf+alone[0]
			}
			// Because of the rest of the order alone it is five of six.
			t.Logf("the guest was called %d times, and %d without a standing order", someOf, allOf)
			if someOf >= allOf*3/4 {
				t.Errorf("the guest was called %d times, and %d without a standing order", someOf, allOf)
			}
		})
	}
}

// TestRepeatEnds: an answer is repeated from the third time on, until it is not what the guest would say any more. A variant as
// it is needs no repeat.
func TestRepeatEnds(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	type request struct {
		path   string
		fields []abi.Pair
	}
	var (
		gzip    = request{"/v", plugintest.Fields("accept-encoding", "gzip")}
		brotli  = request{"/v", plugintest.Fields("accept-encoding", "br")}
		reload  = request{"/v", plugintest.Fields("accept-encoding", "gzip", "if-none-match", `"1"`)}
		plain   = request{"/p", nil}
		known   = request{"/p", plugintest.Fields("if-none-match", `"1"`)}
		dated   = request{"/p", plugintest.Fields("if-modified-since", "Sat, 01 Jan 2000 01:00:00 GMT")}
		part    = request{"/p", plugintest.Fields("range", "bytes=1-2")}
		outside = request{"/p", plugintest.Fields("range", "bytes=99-")}
	)
	o := plugintest.Options{Config: `{}`, Grants: []string{host.GrantLog, host.GrantMetrics, host.GrantObjects}}
	plugintest.Run(t, wasm, o, func(_ *testing.T, p *plugintest.Plugin) {
		version, vary := "1", "accept-encoding"
		// ask makes an exchange, and says whether the upstream was asked, and the guest entered.
		ask := func(r request) (got plugintest.Response, asked, entered bool) {
			before := p.Stats().Work[host.CallRequestHeaders].Calls
			s := p.Open(plugintest.Request{Path: r.path, Fields: r.fields})
			if up := s.Upstream(); up.Method != "" {
				asked = true
				resp := plugintest.Response{Fields: plugintest.Fields("etag", `"`+version+`"`, "cache-control", "max-age=60"), Body: []byte(version + "234")}
				if r.path == "/v" {
					resp.Fields = append(resp.Fields, plugintest.Fields("vary", vary)...)
				}
				if up.Get("if-none-match") == `"`+version+`"` {
					resp.Status, resp.Body = 304, nil
				}
				s.Respond(resp)
			}
			s.Finish()
			return s.Client(), asked, p.Stats().Work[host.CallRequestHeaders].Calls > before
		}
		want := func(when string, r request, status int, body string, asked, entered bool) {
			t.Helper()
			got, a, e := ask(r)
			if got.Status != status || string(got.Body) != body || a != asked || e != entered {
				t.Errorf("%s: %v: got %d %q, asked %t, entered %t; want %d %q, %t, %t", when, r, got.Status, got.Body, a, e, status, body, asked, entered)
			}
		}
		repeated := func(r request, status int, body string) {
			t.Helper()
			want("the first time", r, status, body, false, true)
			want("the second time", r, status, body, false, true)
			want("the third time", r, status, body, false, false)
			want("the fourth time", r, status, body, false, false)
		}
		begin := func() {
			t.Helper()
			p.Purge("")
			version, vary = "1", "accept-encoding"
			for _, r := range []request{gzip, brotli, plain} {
				ask(r)
			}
			for _, r := range []request{gzip, brotli} {
				want("a variant", r, 200, "1234", false, false)
			}
			for _, r := range []request{reload, known, dated} {
				repeated(r, 304, "")
			}
			repeated(part, 206, "23")
			repeated(outside, 416, "")
		}
		begin()
		p.Purge("http://example.com/v\n")
		want("after a purge", gzip, 200, "1234", true, false) // by as a miss
		want("after that", reload, 304, "", false, true)

		begin()
		p.Purge("http://example.com/v\ntest\nvary\x00set:accept-encoding:gzip")
		want("the other variant", brotli, 200, "1234", false, false)
		version = "9"
		want("without its variant", gzip, 200, "9234", true, false) // by as a miss
		want("with another one", reload, 200, "9234", false, true)
		want("the other variant", brotli, 200, "1234", false, false)

		begin()
		vary = "accept-encoding, x"
		want("something that is not there yet", request{"/v", plugintest.Fields("accept-encoding", "zstd")}, 200, "1234", true, false)
		want("after another list of names", gzip, 200, "1234", false, true)
		want("after that, once more", gzip, 200, "1234", false, true)
		want("after that, again", gzip, 200, "1234", false, true) // by the second list: one may come for the first

		begin()
		p.Advance(time.Minute) // it is not fresh any more
		version = "2"
		want("as it was updated", known, 200, "2234", true, true)
		want("after it was", known, 200, "2234", false, true)
		want("after it was, again", known, 200, "2234", false, true)
		want("after it was, at last", known, 200, "2234", false, false)
		want("what others have of it", request{"/p", plugintest.Fields("if-none-match", `"2"`)}, 304, "", false, true)
		want("a part of it", part, 206, "23", false, true)

		begin()
		p.Advance(time.Minute)
		want("as it is validated", gzip, 200, "1234", true, true)
		want("after that", gzip, 200, "1234", false, false) // what has led to it is the same
		want("what is not", brotli, 200, "1234", true, true)

		// What would change the answer is the guest's.
		begin()
		for _, r := range []request{
			{"/v", plugintest.Fields("accept-encoding", "gzip", "if-none-match", `"0"`)},
			{"/p", plugintest.Fields("if-none-match", `"1"`, "if-none-match", `"1"`)},
			{"/p", plugintest.Fields("if-none-match", `"0"`)},
			{"/p", plugintest.Fields("range", "bytes=1-3")},
		} {
			if _, _, entered := ask(r); !entered {
				t.Errorf("%v is answered without the guest", r)
			}
		}
		want("what means the same", request{"/v", plugintest.Fields("accept-encoding", ", GZIP")}, 200, "1234", false, false)
		head := func() uint64 {
			before := p.Stats().Work[host.CallRequestHeaders].Calls
			s := p.Open(plugintest.Request{Method: "HEAD", Path: "/v", Fields: gzip.fields})
			s.Finish()
			if got := s.Client(); got.Status != 200 || len(got.Body) > 0 || s.LogField("cache") != "hit" {
				t.Errorf("a HEAD got %+v", got)
			}
			return p.Stats().Work[host.CallRequestHeaders].Calls - before
		}
		if n := head(); n != 0 {
			t.Errorf("the guest is entered %d times for a HEAD", n)
		}
		hits, _ := p.Metric("wproxy_cache_requests_total;route=test;result=hit")
		want("a hit", gzip, 200, "1234", false, false)
		if now, _ := p.Metric("wproxy_cache_requests_total;route=test;result=hit"); now != hits+1 {
			t.Errorf("%d hits are counted as one", now-hits)
		}
	})
}

// TestRepeatAsked: the host is told that it may repeat what is a hit of what may be served for as long as it is
// fresh, with the names by which that was found, and nothing else.
func TestRepeatAsked(t *testing.T) {
	get := func(more ...string) *head {
		return headOf(append([]string{":method", "GET", ":path", "/a"}, more...)...)
	}
	ok := func(more ...string) *head {
		return headOf(append([]string{":status", "200", "cache-control", "max-age=60", "etag", `"1"`}, more...)...)
	}
	names := func(list ...string) string { return string(abi.AppendNames(nil, list)) }
	fresh := ok()
	for name, tc := range map[string]struct {
		stored  []*head // answers to req, or to get() and so on, one after the other
		by      []*head // the requests; nil: req
		req     *head
		after   int64
		change  func(o *abi.ObjectInfo)
		without bool // the host does not repeat
		said    string
		want    string
	}{
		"a condition":          {stored: []*head{fresh}, req: get("if-none-match", `"1"`), said: "hit", want: names()},
		"a range":              {stored: []*head{fresh}, req: get("range", "bytes=1-2"), said: "hit", want: names()},
		"a HEAD":               {stored: []*head{fresh}, by: []*head{get()}, req: headOf(":method", "HEAD", ":path", "/a"), said: "hit", want: names()},
		"a variant":            {stored: []*head{ok("vary", "b, A")}, req: get("a", "1"), said: "hit", want: names("a", "b")},
		"of two lists":         {stored: []*head{ok("vary", "a"), ok("vary", "b")}, by: []*head{get("a", "1"), get("a", "2")}, req: get("a", "2"), said: "hit", want: names("b")},
		"by the second list":   {stored: []*head{ok("vary", "a"), ok("vary", "b")}, by: []*head{get("a", "1"), get("a", "2", "b", "1")}, req: get("a", "1"), said: "hit"},
		"stale":                {stored: []*head{headOf(":status", "200", "cache-control", "max-age=1, stale-while-revalidate=9")}, req: get(), after: 5, said: "stale"},
		"not whole":            {stored: []*head{fresh}, req: get(), change: func(o *abi.ObjectInfo) { o.Whole = false }, said: "collapsed"},
		"fields are withheld":  {stored: []*head{headOf(":status", "200", "cache-control", `max-age=9, no-cache="x"`)}, req: get(), said: "hit"},
		"others are behind":    {stored: []*head{ok("cache-status", "other; hit")}, req: get(), said: "hit"},
		"a host that does not": {stored: []*head{fresh}, req: get("range", "bytes=1-2"), without: true, said: "hit"},
	} {
		c, err := parseConfig(nil)
		if err != nil {
			t.Fatal(err)
		}
		c.repeats = !tc.without
		f := &fakeHost{clock: noon, objects: map[string]abi.ObjectInfo{}, flying: map[string]bool{}}
		for i, resp := range tc.stored {
			req := tc.req
			if tc.by != nil {
				req = tc.by[i]
			}
			f.ask(t, c, req, resp)
		}
		for key, o := range f.objects {
			if tc.change != nil {
				tc.change(&o)
				f.objects[key] = o
			}
		}
		f.clock += tc.after
		_, said := f.ask(t, c, tc.req, nil)
		if said != tc.said || f.served == nil || f.served.Repeat != tc.want {
			t.Errorf("%s: %s, %+v; want %s, %q", name, said, f.served, tc.said, tc.want)
		}
	}
}

// TestLesser: each order that a host may refuse is followed by one that says less, and is no order about requests
// that the one before was not about, or served in part.
func TestLesser(t *testing.T) {
	c, err := parseConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	o, _ := c.standing()
	for n, says := range []struct{ unsafe, repeats, misses, passes bool }{
		{true, true, true, true}, {false, true, true, true}, {false, false, true, true}, {false, false, false, true}, {},
	} {
		if n > 0 && !lesser(&o, n-1) {
			t.Errorf("there is no order %d", n)
		}
		if len(o.SafeMethods) > 0 != says.unsafe || len(o.Repeats) > 0 != says.repeats || o.Misses != says.misses || o.Joins != says.misses || o.Passes() != says.passes {
			t.Errorf("order %d: %+v", n, o)
		}
		for _, name := range append(slices.Clone(oneClients[:]), c.bypass...) {
			if !slices.Contains(o.Absent, name) && !slices.Contains(o.Repeats, name) {
				t.Errorf("order %d is about requests with %s", n, name)
			}
		}
		var got abi.ObjectStanding
		if got.Parse(string(o.Append(nil))) != nil {
			t.Errorf("order %d is refused by every host", n)
		}
	}
	if lesser(&o, 4) {
		t.Error("there is no end of orders")
	}
}
