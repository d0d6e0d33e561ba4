package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"wproxy/plugins"
)

const cacheConfig = `
version = 1
[listeners.main]
address = "@ADDR"
[admin]
address = "@ADMIN"
[log.access]
to = "@ACCESS"
[plugins.cache]
wasm = "builtin:cache"
config = { purge_clients = "127.0.0.1", max_object = "1MiB" }
[upstreams.origin]
servers = ["@ORIGIN"]
[routes.all]
path = "/*"
upstream = "origin"
use = ["cache"]
[routes.other]
path = "/routed"
when = { header = { x-canary = "1" } }
upstream = "origin"
use = ["cache"]
`

// A cacheOrigin answers by path, and counts.
type cacheOrigin struct {
	*httptest.Server
	mu    sync.Mutex
	count map[string]int
	serve map[string]http.HandlerFunc
}

func newCacheOrigin(t *testing.T) *cacheOrigin {
	o := &cacheOrigin{count: map[string]int{}, serve: map[string]http.HandlerFunc{}}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.count[r.URL.Path]++
		n, f := o.count[r.URL.Path], o.serve[r.URL.Path]
		o.mu.Unlock()
		w.Header().Set("x-count", strconv.Itoa(n))
		if f == nil {
			w.WriteHeader(404)
			return
		}
		f(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

// handle answers requests for path.
func (o *cacheOrigin) handle(path string, f http.HandlerFunc) {
	o.mu.Lock()
	o.serve[path] = f
	o.mu.Unlock()
}

// counted returns how many requests there were for path.
func (o *cacheOrigin) counted(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count[path]
}

// A cacheClient asks the proxy.
type cacheClient struct {
	t    *testing.T
	addr string
	http *http.Client
}

// do makes a request with headers "name: value" and returns the answer and its body.
func (c *cacheClient) do(method, path string, headers ...string) (cacheAnswer, string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.addr+path, http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Add(name, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, path, err)
	}
	return cacheAnswer{resp.StatusCode, resp.Header}, string(body)
}

// A cacheAnswer is what was answered, without the body.
type cacheAnswer struct {
	StatusCode int
	Header     http.Header
}

// respondWith returns a handler with a header and a body.
func respondWith(body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Add(name, value)
		}
		_, _ = io.WriteString(w, body)
	}
}

// TestCache runs the cache plugin in a whole proxy.
func TestCache(t *testing.T) {
	if _, err := plugins.Builtin("cache"); err != nil {
		t.Skip(err)
	}
	o := newCacheOrigin(t)
	in := startInstance(t, strings.ReplaceAll(cacheConfig, "@ORIGIN", o.Listener.Addr().String()))
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	client := func(t *testing.T) *cacheClient {
		return &cacheClient{t, in.addr, &http.Client{Transport: tr, Timeout: wireTimeout}}
	}
	t.Run("rules", func(t *testing.T) { testCacheRules(t, o, client(t)) })
	t.Run("poison", func(t *testing.T) { testCachePoison(t, o, client(t)) })
	t.Run("serve", func(t *testing.T) { testCacheServe(t, o, client(t)) })
	t.Run("collapse", func(t *testing.T) { testCacheCollapse(t, o, client(t)) })
	t.Run("fill", func(t *testing.T) { testCacheFill(t, o, client(t), in) })
	t.Run("large", func(t *testing.T) { testCacheLarge(t, o, client(t)) })
	t.Run("refresh", func(t *testing.T) { testCacheRefresh(t, o, client(t)) })
	t.Run("purge", func(t *testing.T) { testCachePurge(t, o, client(t), in) })
	t.Run("log", func(t *testing.T) {
		values, err := in.scrape()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for name := range values {
			found = found || strings.Contains(name, "cache_requests_total") && strings.Contains(name, `result="hit"`) && strings.Contains(name, `route="all"`)
		}
		if !found {
			t.Error("there is no metric of hits")
		}
	})
}

const fresh = "Cache-Control: max-age=600"

// testCacheRules asks for each path twice: what must not be stored is asked for twice.
func testCacheRules(t *testing.T, o *cacheOrigin, c *cacheClient) {
	for _, tc := range []struct {
		name    string
		first   []string // of the request
		second  []string
		answer  []string
		asked   int // how often the origin is
		cookies bool
	}{
		{"fresh", nil, nil, []string{fresh}, 1, false},
		{"nothing said", nil, nil, nil, 2, false},
		{"no-store", nil, nil, []string{"Cache-Control: no-store, max-age=600"}, 2, false},
		{"private", nil, nil, []string{"Cache-Control: private, max-age=600"}, 2, false},
		{"private field", nil, nil, []string{`Cache-Control: private="x-a", max-age=600`}, 2, false},
		{"vary star", nil, nil, []string{fresh, "Vary: *"}, 2, false},
		{"set-cookie", nil, nil, []string{fresh, "Set-Cookie: a=b"}, 2, false},
		{"authorization", []string{"Authorization: Basic YTpi"}, nil, []string{fresh}, 2, false},
		{"authorization, public", []string{"Authorization: Basic YTpi"}, nil, []string{"Cache-Control: public, max-age=600"}, 1, false},
		{"other host", nil, []string{"Host: other.example"}, []string{fresh}, 2, false},
		{"vary, the same", []string{"X-A: 1"}, []string{"X-A: 1"}, []string{fresh, "Vary: X-A"}, 1, false},
		{"vary, another", []string{"X-A: 1"}, []string{"X-A: 2"}, []string{fresh, "Vary: X-A"}, 2, false},
		{"cdn-cache-control", nil, nil, []string{"Cache-Control: no-store", "CDN-Cache-Control: max-age=60"}, 1, false},
		{"targeted, no-store", nil, nil, []string{fresh, "CDN-Cache-Control: no-store"}, 2, false},
	} {
		path := "/rules/" + strings.NewReplacer(" ", "-", ",", "").Replace(tc.name)
		o.handle(path, respondWith("body of "+tc.name, tc.answer...))
		_, first := c.do("GET", path, tc.first...)
		_, second := c.do("GET", path, tc.second...)
		if got := o.counted(path); got != tc.asked || first != second {
			t.Errorf("%s: the origin was asked %d times, want %d (%q, %q)", tc.name, got, tc.asked, first, second)
		}
	}
}

// testCachePoison tries to have an answer stored that others would not have got.
func testCachePoison(t *testing.T, o *cacheOrigin, c *cacheClient) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprintf(w, "%s %s %s %s %s", r.Host, r.URL.RequestURI(), r.Header.Get("X-Original-Url"), r.Header.Get("X-Http-Method-Override"), body)
		for _, name := range []string{"X-Host", "X-Forwarded-Scheme", "X-Forwarded-Host", "X-Forwarded-Port", "X_forwarded_host", "Forwarded", "X-Original-Host", "X-Forwarded-Prefix", "X-Rewrite-Url"} {
			if v := r.Header.Get(name); v != r.Host { // as the proxy itself says
				fmt.Fprintf(w, " %s", v)
			}
		}
	}
	for i, bad := range [][]string{
		{"X-Original-URL: /admin"},
		{"X-Rewrite-URL: /admin"},
		{"X-HTTP-Method-Override: DELETE"},
		{"X-Host: evil.example"},
		{"X-Forwarded-Scheme: http"},
		{"X-Forwarded-Host: evil.example"}, // dropped, or set, whoever sends it
		{"X-Forwarded-Port: 1337"},
		{"X_Forwarded_Host: evil.example"},
		{"Forwarded: host=evil.example"},
		{"X-Original-Host: evil.example"},
		{"X-Forwarded-Prefix: /evil"},
	} {
		path := "/poison/header" + strconv.Itoa(i)
		o.handle(path, echo)
		_, clean := c.do("GET", path+"?clean")
		c.do("GET", path, bad...)
		_, after := c.do("GET", path)
		if want := strings.Replace(clean, "?clean", "", 1); after != want {
			t.Errorf("%v: others get %q, want %q", bad, after, want)
		}
	}
	// A GET with a body, which is not in the key.
	o.handle("/poison/fat", echo)
	resp, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+c.addr+"/poison/fat", strings.NewReader("evil"))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.http.Do(resp); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	if _, body := c.do("GET", "/poison/fat"); strings.Contains(body, "evil") {
		t.Errorf("the answer to a GET with a body is served to others: %q", body)
	}
	// Other routes may have another upstream.
	o.handle("/routed", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		_, _ = io.WriteString(w, "canary "+r.Header.Get("X-Canary"))
	})
	c.do("GET", "/routed", "X-Canary: 1")
	if _, body := c.do("GET", "/routed"); body != "canary " {
		t.Errorf("another route's answer is served: %q", body)
	}
	// What is the same path is the same key; what is another is another.
	o.handle("/poison/p", echo)
	o.handle("/poison/q", echo)
	_, a := c.do("GET", "/poison/x/../p")
	_, b := c.do("GET", "/poison/%70")
	if a != b || o.counted("/poison/p") != 1 {
		t.Errorf("one path has two keys: %q, %q", a, b)
	}
	_, a = c.do("GET", "/poison/q?a=1&b=2")
	if _, b = c.do("GET", "/poison/q?b=2&a=1"); a == b {
		t.Errorf("two queries have one key: %q", a)
	}
}

// testCacheServe is about answers from what is stored.
func testCacheServe(t *testing.T, o *cacheOrigin, c *cacheClient) {
	o.handle("/serve", respondWith("0123456789", fresh, `ETag: "v1"`, "Last-Modified: Sat, 01 Nov 2025 10:00:00 GMT", "X-A: b"))
	c.do("GET", "/serve")
	for _, tc := range []struct {
		name, method string
		headers      []string
		status       int
		body         string
		field, value string
	}{
		{"whole", "GET", nil, 200, "0123456789", "X-A", "b"},
		{"head", "HEAD", nil, 200, "", "Content-Length", "10"},
		{"etag", "GET", []string{`If-None-Match: "x", W/"v1"`}, 304, "", "Etag", `"v1"`},
		{"other etag", "GET", []string{`If-None-Match: "v2"`, "If-Modified-Since: Sat, 01 Nov 2036 10:00:00 GMT"}, 200, "0123456789", "", ""},
		{"since", "GET", []string{"If-Modified-Since: Sat, 01 Nov 2025 10:00:00 GMT"}, 304, "", "", ""},
		{"before", "GET", []string{"If-Modified-Since: Sat, 01 Nov 2025 09:59:59 GMT"}, 200, "0123456789", "", ""},
		{"range", "GET", []string{"Range: bytes=2-4"}, 206, "234", "Content-Range", "bytes 2-4/10"},
		{"open range", "GET", []string{"Range: bytes=7-"}, 206, "789", "Content-Range", "bytes 7-9/10"},
		{"last", "GET", []string{"Range: bytes=-3"}, 206, "789", "Content-Range", "bytes 7-9/10"},
		{"too far", "GET", []string{"Range: bytes=10-"}, 416, "", "Content-Range", "bytes */10"},
		{"two ranges", "GET", []string{"Range: bytes=1-2,4-5"}, 200, "0123456789", "", ""},
		{"if-range", "GET", []string{"Range: bytes=0-0", `If-Range: "v1"`}, 206, "0", "", ""},
		{"other if-range", "GET", []string{"Range: bytes=0-0", `If-Range: "v2"`}, 200, "0123456789", "", ""},
	} {
		resp, body := c.do(tc.method, "/serve", tc.headers...)
		if resp.StatusCode != tc.status || body != tc.body || tc.field != "" && resp.Header.Get(tc.field) != tc.value {
			t.Errorf("%s: got %d %q %s=%q, want %d %q %q", tc.name, resp.StatusCode, body, tc.field, resp.Header.Get(tc.field), tc.status, tc.body, tc.value)
		}
		if resp.Header.Get("Age") == "" || !strings.Contains(resp.Header.Get("Cache-Status"), "wproxy; hit") {
			t.Errorf("%s: age %q, cache-status %q", tc.name, resp.Header.Get("Age"), resp.Header.Get("Cache-Status"))
		}
	}
	if n := o.counted("/serve"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// testCachePurge removes by every way that there is.
func testCachePurge(t *testing.T, o *cacheOrigin, c *cacheClient, in *instance) {
	base := "http://" + in.addr
	o.handle("/purge/a", respondWith("a", fresh, "Cache-Tag: one, two"))
	o.handle("/purge/b", respondWith("b", fresh, "Surrogate-Key: two three"))
	for i, tc := range []struct {
		name string
		do   func() string
		a, b int // how often the origin is asked anew
	}{
		{"PURGE", func() string { r, _ := c.do("PURGE", "/purge/a"); return strconv.Itoa(r.StatusCode) }, 1, 0},
		{"POST", func() string { r, _ := c.do("POST", "/purge/b"); return strconv.Itoa(r.StatusCode) }, 0, 2}, // the POST itself is one
		{"url", func() string { return purgeCommand(in, "--url", base+"/purge/x/../a") }, 1, 0},
		{"prefix", func() string { return purgeCommand(in, "--prefix", base+"/purge/") }, 1, 1},
		{"tag", func() string { return purgeCommand(in, "--tag", "three") }, 0, 1},
		{"tag of both", func() string { return purgeCommand(in, "--tag", "two") }, 1, 1},
		{"other tag", func() string { return purgeCommand(in, "--tag", "four") }, 0, 0},
	} {
		c.do("GET", "/purge/a")
		c.do("GET", "/purge/b")
		a, b := o.counted("/purge/a"), o.counted("/purge/b")
		said := tc.do()
		c.do("GET", "/purge/a")
		c.do("GET", "/purge/b")
		if a, b = o.counted("/purge/a")-a, o.counted("/purge/b")-b; a != tc.a || b != tc.b {
			t.Errorf("%d %s: asked %d and %d times, want %d and %d (%s)", i, tc.name, a, b, tc.a, tc.b, said)
		}
	}
	if out := purgeCommand(in, "--url", "nonsense"); !strings.Contains(out, "http://") {
		t.Errorf("a purge of nonsense says %q", out)
	}
}

func purgeCommand(in *instance, args ...string) string {
	var b syncBuffer
	run(context.Background(), append([]string{"cache", "purge", "-c", in.file}, args...), &b, &b)
	return b.String()
}
