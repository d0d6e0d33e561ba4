package main

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/plugins/internal/ipaddr"
)

// fakeRequest is a request in a table.
type fakeRequest struct {
	headers map[string]string
	client  string
}

func (r fakeRequest) Header(name string) (string, bool) {
	v, ok := r.headers[name]
	return v, ok
}

func (r fakeRequest) Client() (ipaddr.Addr, bool) { return clientAddr(r.client) }

// h makes headers from names and values in turn.
func h(namesAndValues ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(namesAndValues); i += 2 {
		m[namesAndValues[i]] = namesAndValues[i+1]
	}
	return m
}

func parts(t *testing.T, keys ...string) []part {
	t.Helper()
	var out []part
	for _, k := range keys {
		p, problem := parsePart(k)
		if problem != "" {
			t.Fatalf("parsePart(%q): %s", k, problem)
		}
		out = append(out, p)
	}
	return out
}

// keyOf returns the key of a request, made in one go. perRoute says whether route is the scope,
// or all routes together are. It is false if a part is missing.
func keyOf(perRoute bool, route string, parts []part, r request) ([]byte, bool) {
	dst := appendScope(nil, perRoute, route)
	start := len(dst)
	dst, ok := appendParts(dst, parts, r)
	if !ok {
		return append(dst[:start], 0xff), false
	}
	return dst, true
}

func TestKeys(t *testing.T) {
	for _, tc := range []struct {
		name string
		keys []string
		a, b fakeRequest
		same bool
	}{
		{"client", []string{"client-ip"}, fakeRequest{client: "192.0.2.1:1"}, fakeRequest{client: "192.0.2.1:2"}, true},
		{"another client", []string{"client-ip"}, fakeRequest{client: "192.0.2.1:1"}, fakeRequest{client: "192.0.2.2:1"}, false},
		{"client, mapped address", []string{"client-ip"}, fakeRequest{client: "192.0.2.1:1"}, fakeRequest{client: "[::ffff:192.0.2.1]:1"}, true},
		{"IPv4 is not cut by a prefix", []string{"client-ip/8"}, fakeRequest{client: "192.0.2.1:1"}, fakeRequest{client: "192.0.2.2:1"}, false},
		{"IPv6 in full", []string{"client-ip"}, fakeRequest{client: "[2001:db8::1]:1"}, fakeRequest{client: "[2001:db8::2]:1"}, false},
		{"IPv6 prefix", []string{"client-ip/64"}, fakeRequest{client: "[2001:db8::1]:1"}, fakeRequest{client: "[2001:db8::ffff:2]:1"}, true},
		{"another IPv6 prefix", []string{"client-ip/64"}, fakeRequest{client: "[2001:db8::1]:1"}, fakeRequest{client: "[2001:db8:0:1::1]:1"}, false},
		{"IPv6 prefix inside a byte", []string{"client-ip/61"}, fakeRequest{client: "[2001:db8::1]:1"}, fakeRequest{client: "[2001:db8:0:7::1]:1"}, true},
		{"another IPv6 prefix inside a byte", []string{"client-ip/61"}, fakeRequest{client: "[2001:db8::1]:1"}, fakeRequest{client: "[2001:db8:0:8::1]:1"}, false},
		{"header", []string{"header:X-Key"}, fakeRequest{headers: h("x-key", "a", "other", "1")}, fakeRequest{headers: h("x-key", "a", "other", "2")}, true},
		{"another header value", []string{"header:x-key"}, fakeRequest{headers: h("x-key", "a")}, fakeRequest{headers: h("x-key", "b")}, false},
		{"header value keeps its case", []string{"header:x-key"}, fakeRequest{headers: h("x-key", "a")}, fakeRequest{headers: h("x-key", "A")}, false},
		{"cookie", []string{"cookie:s"}, fakeRequest{headers: h("cookie", "a=1; s=x")}, fakeRequest{headers: h("cookie", "s=x;s=y")}, true},
		{"another cookie value", []string{"cookie:s"}, fakeRequest{headers: h("cookie", "s=x")}, fakeRequest{headers: h("cookie", "s=y")}, false},
		{"query", []string{"query:k"}, fakeRequest{headers: h(":path", "/?k=a")}, fakeRequest{headers: h(":path", "/other?x=1&k=a&k=b")}, true},
		{"query, encoded value", []string{"query:k"}, fakeRequest{headers: h(":path", "/?k=a+b")}, fakeRequest{headers: h(":path", "/?k=%61%20b")}, true},
		{"query, encoded name", []string{"query:k"}, fakeRequest{headers: h(":path", "/?k=a")}, fakeRequest{headers: h(":path", "/?%6B=a")}, true},
		{"another query value", []string{"query:k"}, fakeRequest{headers: h(":path", "/?k=a")}, fakeRequest{headers: h(":path", "/?k=b")}, false},
		{"host, any case", []string{"host"}, fakeRequest{headers: h(":authority", "Example.com")}, fakeRequest{headers: h(":authority", "example.COM")}, true},
		{"another host", []string{"host"}, fakeRequest{headers: h(":authority", "a.test")}, fakeRequest{headers: h(":authority", "b.test")}, false},
		{"path without query", []string{"path"}, fakeRequest{headers: h(":path", "/a?1")}, fakeRequest{headers: h(":path", "/a?2")}, true},
		{"another path", []string{"path"}, fakeRequest{headers: h(":path", "/a")}, fakeRequest{headers: h(":path", "/b")}, false},
		{"another method", []string{"method"}, fakeRequest{headers: h(":method", "GET")}, fakeRequest{headers: h(":method", "POST")}, false},
		{"global", []string{"global"}, fakeRequest{client: "192.0.2.1:1"}, fakeRequest{client: "192.0.2.2:1"}, true},
		{"list", []string{"method", "path"}, fakeRequest{headers: h(":method", "GET", ":path", "/a")}, fakeRequest{headers: h(":method", "GET", ":path", "/b")}, false},
		// The border between two values must count.
		{"list, shifted border", []string{"header:a", "header:b"}, fakeRequest{headers: h("a", "xy", "b", "z")}, fakeRequest{headers: h("a", "x", "b", "yz")}, false},
	} {
		p := parts(t, tc.keys...)
		a, okA := keyOf(true, "s", p, tc.a)
		b, okB := keyOf(true, "s", p, tc.b)
		if !okA || !okB {
			t.Errorf("%s: key missing: %t, %t", tc.name, !okA, !okB)
		}
		if (string(a) == string(b)) != tc.same {
			t.Errorf("%s: got %x and %x, want the same: %t", tc.name, a, b, tc.same)
		}
	}
}

// TestKeysOfDifferentKinds: the same text under different keys and scopes is not one bucket.
func TestKeysOfDifferentKinds(t *testing.T) {
	r := fakeRequest{headers: h("k", "v", "l", "v", "cookie", "k=v", ":path", "/?k=v", ":authority", "v", ":method", "v")}
	seen := map[string]string{}
	for _, scope := range []string{"a", "b", ""} {
		for _, key := range []string{"header:k", "header:l", "cookie:k", "query:k", "host", "method", "global"} {
			b, ok := keyOf(scope != "", scope, parts(t, key), r)
			if !ok {
				t.Fatalf("%s: missing", key)
			}
			if before, dup := seen[string(b)]; dup {
				t.Errorf("%s %s is the key of %s", scope, key, before)
			}
			seen[string(b)] = scope + " " + key
		}
	}
}

func TestMissingKey(t *testing.T) {
	for _, tc := range []struct {
		keys []string
		r    fakeRequest
	}{
		{[]string{"header:k"}, fakeRequest{}},
		{[]string{"header:k"}, fakeRequest{headers: h("k", "")}},
		{[]string{"cookie:k"}, fakeRequest{}},
		{[]string{"cookie:k"}, fakeRequest{headers: h("cookie", "kk=1; k; xk=2")}},
		{[]string{"query:k"}, fakeRequest{headers: h(":path", "/k=1")}},
		{[]string{"query:k"}, fakeRequest{headers: h(":path", "/?k")}},
		{[]string{"query:k"}, fakeRequest{headers: h(":path", "/?kk=1&K=2")}},
		{[]string{"client-ip"}, fakeRequest{client: "unix:/run/x"}},
		{[]string{"method", "header:k"}, fakeRequest{headers: h(":method", "GET")}},
	} {
		a, ok := keyOf(true, "s", parts(t, tc.keys...), tc.r)
		if ok {
			t.Errorf("%q of %v: got key %x, want none", tc.keys, tc.r, a)
		}
		// What was read before the missing part must not tell requests apart.
		b, _ := keyOf(true, "s", parts(t, "header:none"), fakeRequest{})
		if string(a) != string(b) {
			t.Errorf("%q of %v: got %x, want the one bucket of requests without a key, %x", tc.keys, tc.r, a, b)
		}
	}
}

func TestAppendDecoded(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "abc": "abc", "a+b": "a b", "%41%6a": "Aj", "%": "%", "%4": "%4", "%zz": "%zz", "%2": "%2", "a%00b": "a\x00b", "%%41": "%A",
	} {
		if got := string(appendDecoded(nil, in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("a=1; k=2", "/p?k=%41&l", "x")
	f.Fuzz(func(t *testing.T, cookies, path, header string) {
		r := fakeRequest{headers: h("cookie", cookies, ":path", path, "k", header), client: header}
		p := []part{{kind: byCookie, name: "k"}, {kind: byQuery, name: "k"}, {kind: byHeader, name: "k"}, {kind: byPath}}
		full, ok := keyOf(true, "s", p, r)
		if most := len(cookies) + 2*len(path) + len(header) + 64; len(full) > most {
			t.Errorf("key of %d bytes from %d", len(full), most-64)
		}
		if again, ok2 := keyOf(true, "s", p, r); ok2 != ok || string(again) != string(full) {
			t.Error("the same request has two keys")
		}
	})
}

func FuzzClientAddr(f *testing.F) {
	for _, s := range []string{"192.0.2.1:4711", "0.0.0.0:0", "255.255.255.255:65535", "[2001:db8::1]:1", "01.2.3.4:5", "1.2.3:4", "256.1.1.1:1", "1.2.3.4:", "1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := clientAddr4(text)
		want, fits := ipaddr.ParseWithPort(text)
		switch {
		case ok && !fits:
			// A port above 65535 is the one thing that is not looked at.
			if want, fits := ipaddr.Parse(text[:strings.LastIndexByte(text, ':')]); !fits || want != got {
				t.Errorf("%q: got %v, which is no address", text, got)
			}
		case ok && want != got:
			t.Errorf("%q: got %v, want %v", text, got, want)
		case !ok && fits && text[0] != '[' && len(text) <= len("255.255.255.255:65535"):
			t.Errorf("%q: left to the slow way, which reads %v", text, want)
		}
	})
}

// TestKeysInTurn: a checker, which keeps the beginning of the last key, makes the keys that appendKey
// does, whatever came before.
func TestKeysInTurn(t *testing.T) {
	long := strings.Repeat("x", 2*maxScratch)
	requests := []fakeRequest{
		{h("a", "1", ":path", "/?q=2"), "192.0.2.1:1"},
		{h("a", "", ":path", "/?q=2"), "192.0.2.1:1"},
		{h(":path", "/"), ""},
		{h("a", long, ":path", "/?q="+long), "[2001:db8::1]:1"},
		{h("a", "123", ":path", "/?q=1"), "192.0.2.2:1"},
	}
	routes := []string{"r", "r", "", "route", "r"}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, doc := range []string{
		`{"rate":"1/s","key":"header:a"}`, `{"rate":"1/s","key":["header:a","query:q"]}`, `{"rate":"1/s","key":["query:q","header:a"]}`,
		`{"rate":"1/s","key":"client-ip","scope":"plugin"}`, `{"rate":"1/s","key":["header:a","client-ip"],"algorithm":"sliding-window"}`,
		`{"concurrency":3,"key":"header:a"}`, `{"rate":"1/s","key":"global","on_missing_key":"allow"}`,
	} {
		c, err := parseConfig([]byte(doc))
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		k := newChecker(c, nil, nil)
		k.counters = &quietCounters{}
		for i := range 300 {
			r, route := requests[rng.IntN(len(requests))], routes[rng.IntN(len(routes))]
			want, wantOK := keyOf(!c.scopePlugin, route, c.parts, r)
			record, at, ok := k.key(r, route)
			if string(record[at:]) != string(want) || ok != wantOK {
				t.Fatalf("%s, %d: key %q, %t, want %q, %t", doc, i, record[at:], ok, want, wantOK)
			}
			k.check(r, route)
			if ok && string(k.last[at:]) != string(want) {
				t.Fatalf("%s, %d: %q was counted, want %q", doc, i, k.last[at:], want)
			}
		}
	}
}

func TestAppendDecimal(t *testing.T) {
	for _, n := range []int64{0, 9, 10, 99, 100, math.MaxUint32 - 1, math.MaxUint32, math.MaxUint32 + 1, 10 * math.MaxUint32, math.MaxInt64} {
		if got := string(appendDecimal(nil, n)); got != strconv.FormatInt(n, 10) {
			t.Errorf("%d is written %s", n, got)
		}
	}
}

// quietCounters answer without allocating.
type quietCounters struct{}

func (*quietCounters) take(record []byte) bool {
	abi.TakeRecord(record).SetResult(abi.TakeResult{Admitted: true, Remaining: 1, Full: 1})
	return true
}
func (c *quietCounters) charge(record []byte) bool { return c.take(record) }
func (*quietCounters) add(record []byte) bool {
	abi.AddRecord(record).SetResult(abi.AddResult{Added: true})
	return true
}

func (*quietCounters) acquire(record []byte) bool {
	abi.AcquireRecord(record).SetResult(true, 1)
	return true
}
