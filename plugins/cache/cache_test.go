package main

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
)

func headOf(pairs ...string) *head {
	h := &head{}
	for i := 0; i < len(pairs); i += 2 {
		h.pairs = append(h.pairs, abi.Pair{Name: pairs[i], Value: pairs[i+1]})
	}
	return h
}

// noon is the time at which tests are, in seconds since 1970.
var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC).Unix()

func at(offset int64) string { return formatDate(noon + offset) }

func TestControl(t *testing.T) {
	for _, tc := range []struct {
		line string
		edit func(c *control)
	}{
		{"max-age=5", func(c *control) { c.maxAge = 5 }},
		{"MAX-AGE=5 ,no-store", func(c *control) { c.maxAge, c.noStore = 5, true }},
		{" max-age=5 , s-maxage=6", func(c *control) { c.maxAge, c.sMaxAge = 5, 6 }},
		{"max-age=5, max-age=3", func(c *control) { c.maxAge = 3 }},
		{`max-age="5"`, func(c *control) { c.maxAge = 5 }},
		{"max-age='5'", func(c *control) { c.maxAge = 0 }},
		{"max-age=5.0", func(c *control) { c.maxAge = 0 }},
		{"max-age=-1", func(c *control) { c.maxAge = 0 }},
		{"max-age", func(c *control) { c.maxAge = 0 }},
		{"max-age=99999999999999999999", func(c *control) { c.maxAge = maxSeconds }},
		{`x="max-age=5, no-store", public`, func(c *control) { c.public = true }},
		{`x="a\", max-age=5`, func(*control) {}},
		{`no-cache="A, b", private="c"`, func(c *control) { c.noCacheFields, c.private = []string{"a", "b"}, true }},
		{"no-cache", func(c *control) { c.noCache = true }},
		{"must-revalidate,,proxy-revalidate,must-understand,immutable", func(c *control) {
			c.mustRevalidate, c.proxyRevalidate, c.mustUnderstand, c.immutable = true, true, true, true
		}},
		{"stale-while-revalidate=1,stale-if-error=2,max-stale,min-fresh=4,only-if-cached", func(c *control) {
			c.staleRevalidate, c.staleError, c.maxStale, c.minFresh, c.onlyIfCached = 1, 2, maxSeconds, 4, true
		}},
		{"", func(*control) {}},
	} {
		want := newControl()
		want.present = true
		tc.edit(&want)
		if got := headOf("cache-control", tc.line).control("cache-control"); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", tc.line, got, want)
		}
	}
}

func TestDates(t *testing.T) {
	for _, s := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06 nov 1994 08:49:37 gmt"} {
		if got, ok := parseDate(s, noon); !ok || got != 784111777 {
			t.Errorf("%q: got %d, %v", s, got, ok)
		}
	}
	for _, s := range []string{
		"", "0", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 6 Nov 1994 08:49:37 GMT", "06 Nov 1994 08:49:37 GMT",
		"Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 8:49:37 GMT", "Sun, 06-Nov-1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT",
	} {
		if got, ok := parseDate(s, noon); ok {
			t.Errorf("%q: got %d", s, got)
		}
	}
}

// FuzzDate: what net/http writes is read as the same time, and what is read is written the
// same way.
func FuzzDate(f *testing.F) {
	f.Add(int64(784111777), "Sun, 06 Nov 1994 08:49:37 GMT")
	f.Add(int64(0), "Sunday, 06-Nov-94 08:49:37 GMT")
	f.Fuzz(func(t *testing.T, n int64, s string) {
		n = ((n % 253402300800) + 253402300800) % 253402300800 // to the year 9999
		want := time.Unix(n, 0).UTC().Format(http.TimeFormat)
		if got := formatDate(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
		if got, ok := parseDate(want, noon); !ok || got != n {
			t.Errorf("%q: got %d, %v", want, got, ok)
		}
		if got, ok := parseDate(s, noon); ok && got >= 0 {
			if again, ok := parseDate(formatDate(got), noon); !ok || again != got {
				t.Errorf("%q: %d became %d", s, got, again)
			}
		}
	})
}

// FuzzHead: the parsers take whatever a head has.
func FuzzHead(f *testing.F) {
	f.Add(`max-age=5, private="a\"b`, "a, *", `"a", W/"b"`, "bytes=1-2", "/a/../b")
	c, err := parseConfig(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, cc, vary, tags, ranges, location string) {
		req := headOf(":method", "GET", "if-none-match", tags, "range", ranges, "cache-control", cc, "accept-language", vary)
		resp := headOf(":status", "200", "cache-control", cc, "vary", vary, "etag", tags, "age", ranges, "expires", cc, "cdn-cache-control", cc)
		v := c.judge(req, resp, noon, noon)
		if v.lifetime < 0 || v.age < 0 {
			t.Errorf("lifetime %d, age %d", v.lifetime, v.age)
		}
		b := v.encode()
		if got, ok := parseMeta(b); !ok || !reflect.DeepEqual(got.encode(), b) {
			t.Error("the metadata do not come back")
		}
		for n := range b {
			if _, ok := parseMeta(b[:n]); ok {
				t.Errorf("%d of %d bytes are taken for metadata", n, len(b))
			}
		}
		notModified(req, &v.meta, noon)
		v.status = 200
		if p := wanted(req, &v.meta, 10, noon); p.status == 206 && (p.offset < 0 || p.length < 1 || p.offset+p.length > 10) {
			t.Errorf("%q: got %+v of 10 bytes", ranges, p)
		}
		if names, ok := varyNames(resp); ok {
			appendVariant(nil, listOf(names), req)
		}
		if u, ok := resolve("http://h/a/b?c", location); ok && u[:len("http://h/")] != "http://h/" {
			t.Errorf("%q leads to %q", location, u)
		}
	})
}

func TestJudge(t *testing.T) {
	c, err := parseConfig([]byte(`{"default_ttl":"20s","negative_ttl":"7s","max_ttl":"1d","stale_if_error":"9s"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		req    []string
		resp   []string
		why    string // "": it is stored
		lives  int64
		age    int64
		fresh  bool
		onErr  int64
		noDate bool
	}{
		{name: "max-age", resp: []string{"cache-control", "max-age=5"}, lives: 5, fresh: true, onErr: 9},
		{name: "s-maxage", resp: []string{"cache-control", "max-age=5, s-maxage=6"}, lives: 6, fresh: true},
		{name: "expires", resp: []string{"expires", at(8)}, lives: 8, fresh: true, onErr: 9},
		{name: "expires, twice", resp: []string{"expires", at(8), "expires", at(8), "etag", "x"}, onErr: 9},
		{name: "max", resp: []string{"cache-control", "max-age=9999999"}, lives: 86400, fresh: true, onErr: 9},
		{name: "nothing", lives: 20, fresh: true, onErr: 9},
		{name: "heuristic", resp: []string{"last-modified", at(-1000)}, lives: 100, fresh: true, onErr: 9},
		{name: "heuristic of a future", resp: []string{"last-modified", at(1000)}, onErr: 9},
		{name: "age", resp: []string{"cache-control", "max-age=5", "age", "6", "etag", "x"}, lives: 5, age: 6, onErr: 9},
		{name: "ages", resp: []string{"cache-control", "max-age=5", "age", "1, 6"}, lives: 5, age: 1, fresh: true, onErr: 9},
		{name: "slow date", resp: []string{"date", at(-3), "cache-control", "max-age=5"}, lives: 5, age: 3, fresh: true, onErr: 9},
		{name: "negative", resp: []string{":status", "404"}, lives: 7, fresh: true, onErr: 9},
		{name: "error", resp: []string{":status", "500", "cache-control", "max-age=5"}, lives: 5, fresh: true},
		{name: "error, not fresh", resp: []string{":status", "500"}, why: "not-fresh"},
		{name: "not fresh", resp: []string{"cache-control", "max-age=0, stale-if-error=0"}, why: "not-fresh"},
		{name: "no-cache", resp: []string{"cache-control", "no-cache", "etag", "x"}, lives: 20, onErr: 9},
		{name: "pragma", resp: []string{"pragma", "no-cache", "etag", "x"}, lives: 20, onErr: 9},
		{name: "no-store", resp: []string{"cache-control", "no-store, max-age=5"}, why: "no-store"},
		{name: "understood", resp: []string{"cache-control", "no-store, must-understand, max-age=5"}, lives: 5, fresh: true, onErr: 9},
		{name: "not understood", resp: []string{":status", "299", "cache-control", "must-understand, max-age=5"}, why: "must-understand"},
		{name: "private", resp: []string{"cache-control", "private, max-age=5"}, why: "private"},
		{name: "cookie", resp: []string{"cache-control", "max-age=5", "set-cookie", "a"}, why: "set-cookie"},
		{name: "authorization", req: []string{"authorization", "a"}, resp: []string{"cache-control", "max-age=5"}, why: "authorization"},
		{name: "authorization, s-maxage", req: []string{"authorization", "a"}, resp: []string{"cache-control", "s-maxage=5"}, lives: 5, fresh: true},
		{name: "too large", resp: []string{"cache-control", "max-age=5", "content-length", "16777217"}, why: "too-large"},
		{name: "as large as may be", resp: []string{"cache-control", "max-age=5", "content-length", "16777216"}, lives: 5, fresh: true, onErr: 9},
		{name: "partial", resp: []string{":status", "206", "cache-control", "max-age=5"}, why: "status"},
		{name: "targeted", resp: []string{"cdn-cache-control", "max-age=4", "cache-control", "no-store", "expires", "0"}, lives: 4, fresh: true, onErr: 9},
		{name: "malformed", resp: []string{"cdn-cache-control", "max-age=4, &", "cache-control", "no-store"}, why: "no-store"},
	} {
		resp := headOf(tc.resp...)
		if !resp.has(":status") {
			resp.pairs = append(resp.pairs, abi.Pair{Name: ":status", Value: "200"})
		}
		if !resp.has("date") {
			resp.pairs = append(resp.pairs, abi.Pair{Name: "date", Value: at(0)})
		}
		v := c.judge(headOf(tc.req...), resp, noon, noon)
		if v.why != tc.why || v.store != (tc.why == "") {
			t.Errorf("%s: got %q, want %q", tc.name, v.why, tc.why)
			continue
		}
		if v.store && (v.lifetime != tc.lives || v.age != tc.age || v.fresh(noon) != tc.fresh || v.onError != tc.onErr) {
			t.Errorf("%s: lifetime %d, age %d, fresh %v, on error %d", tc.name, v.lifetime, v.age, v.fresh(noon), v.onError)
		}
	}
}

func TestVariants(t *testing.T) {
	for _, tc := range []struct {
		name string
		a, b []string
		same bool
	}{
		{"x", []string{"x", "1,2"}, []string{"x", "1, 2"}, true},
		{"x", []string{"x", "1,2"}, []string{"x", "1", "x", "2"}, true},
		{"x", []string{"x", "1,2"}, []string{"x", "2,1"}, false},
		{"x", []string{"x", "a"}, []string{"x", "A"}, false},
		{"x", nil, []string{"x", ""}, false},
		{"accept-language", []string{"accept-language", "en, DE;q=0.5"}, []string{"accept-language", "de; q=0.5,en"}, true},
		{"accept-encoding", []string{"accept-encoding", "gzip, br"}, []string{"accept-encoding", "br"}, false},
	} {
		a, b := appendVariant(nil, listOf([]string{tc.name}), headOf(tc.a...)), appendVariant(nil, listOf([]string{tc.name}), headOf(tc.b...))
		if (string(a) == string(b)) != tc.same {
			t.Errorf("%v and %v: %q, %q", tc.a, tc.b, a, b)
		}
	}
}

func TestResolve(t *testing.T) {
	for ref, want := range map[string]string{
		"/x": "http://h/x", "x?y": "http://h/a/x?y", "?y": "http://h/a/b?y", "http://h/x#f": "http://h/x", "HTTP://H/x": "http://h/x", "//h/x": "http://h/x",
		"http://other/x": "", "https://h/x": "", "//other/x": "", "": "", "http://h.evil/x": "", "http://h": "", "#f": "",
	} {
		got, _ := resolve("http://h/a/b?c", ref)
		if got != want {
			t.Errorf("%q: got %q, want %q", ref, got, want)
		}
	}
}

// TestVaryNames: what is no name is as little known as anything at all.
func TestVaryNames(t *testing.T) {
	for vary, want := range map[string]string{
		"b, A": "a b", "a,,a": "a", "*": "-", "a, *": "-", "x:1": "-", "a b": "-", "a, \x00": "-", "": "",
	} {
		got := "-"
		if names, ok := varyNames(headOf(":status", "200", "vary", vary)); ok {
			got = strings.Join(names, " ")
		}
		if got != want {
			t.Errorf("%q: %q, want %q", vary, got, want)
		}
	}
}
