package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/plugins/guestbuild"
)

// build compiles the plugin once for all tests.
var build = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "cache-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "plugin.wasm")
	if _, err := guestbuild.Build(context.Background(), guestbuild.Options{Out: out, Stderr: os.Stderr}); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

// TestWasmStarts: the real .wasm takes settings that are right and says what is wrong with
// others, or with the host.
func TestWasmStarts(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	all := []string{host.GrantLog, host.GrantMetrics, host.GrantObjects}
	for _, tc := range []struct {
		name, config string
		grants       []string
		want         string // in the error; "": it starts
	}{
		{"defaults", "", all, ""},
		{"settings", `{"default_ttl":"1m","key":"header:x"}`, all, ""},
		{"a wrong key", `{"default_tll":"1m"}`, all, `did you mean "default_ttl"`},
		{"a wrong value", `{"max_size":"lots"}`, all, `"max_size": must be a number of bytes`},
		{"no grant", "", []string{host.GrantLog, host.GrantMetrics}, `takes "objects" in the plugin's grant`},
	} {
		err := plugintest.Start(t, wasm, plugintest.Options{Config: []byte(tc.config), Grants: tc.grants})
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
}

func runWasm(t *testing.T, settings string, o plugintest.Options, f func(*testing.T, *plugintest.Plugin)) {
	t.Helper()
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	o.Config, o.Grants = settings, []string{host.GrantLog, host.GrantMetrics, host.GrantObjects}
	plugintest.Run(t, wasm, o, f)
}

// answer is a response with a body and fields.
func answer(body string, namesAndValues ...string) plugintest.Response {
	return plugintest.Response{Body: []byte(body), Fields: plugintest.Fields(namesAndValues...)}
}

// want runs an exchange and checks what the client gets, and what the log says of it.
func want(t *testing.T, p *plugintest.Plugin, req plugintest.Request, resp plugintest.Response, body, said string) {
	t.Helper()
	s := p.Do(req, resp)
	if c := s.Client(); string(c.Body) != body || !c.Ended || s.LogField("cache") != said {
		t.Errorf("%s %s: got %d %q, ended %t, the log says %q; want %q, %q", req.Method, req.Path, c.Status, c.Body, c.Ended, s.LogField("cache"), body, said)
	}
	if asked := s.Upstream().Method != ""; asked != (said == "miss" || said == "bypass" || said == "revalidated") {
		t.Errorf("%s %s: a %s, and the upstream was asked: %t", req.Method, req.Path, said, asked)
	}
}

// TestWasmLife: an answer is stored, served, refreshed, validated and purged.
func TestWasmLife(t *testing.T) {
	runWasm(t, "", plugintest.Options{}, func(t *testing.T, p *plugintest.Plugin) {
		a := plugintest.Request{Path: "/a"}
		fresh := answer("one", "cache-control", "max-age=10, stale-while-revalidate=10", "etag", `"1"`)
		want(t, p, a, fresh, "one", "miss")
		want(t, p, a, plugintest.Response{}, "one", "hit")
		p.Advance(11 * time.Second)
		want(t, p, a, plugintest.Response{}, "one", "stale")
		list := p.Refreshes()
		if len(list) != 1 {
			t.Fatalf("%d refreshes, want 1", len(list))
		}
		want(t, p, a, plugintest.Response{}, "one", "stale") // one is enough
		if more := p.Refreshes(); len(more) != 0 {
			t.Errorf("%d more refreshes", len(more))
		}
		if up := list[0].Upstream(); up.Get("if-none-match") != `"1"` {
			t.Errorf("the refresh asks with %v", up.Fields)
		}
		list[0].Respond(answer("two", "cache-control", "max-age=10", "etag", `"2"`))
		list[0].Finish()
		want(t, p, a, plugintest.Response{}, "two", "hit")
		p.Advance(11 * time.Second)
		want(t, p, a, plugintest.Response{Status: 304, Fields: plugintest.Fields("etag", `"2"`, "set-cookie", "mine=1")}, "two", "revalidated")
		if s := p.Do(a, plugintest.Response{}); s.Client().Get("set-cookie") != "" {
			t.Errorf("another client gets the cookie %q", s.Client().Get("set-cookie"))
		}
		if n := p.Purge("http://example.com/a\n"); n != 1 {
			t.Errorf("%d purged", n)
		}
		if n, bytes := p.Stored(); n != 0 || bytes != 0 {
			t.Errorf("%d messages and %d bytes are left", n, bytes)
		}
		for name, want := range map[string]int64{
			"wproxy_cache_requests_total;route=test;result=hit": 3, "wproxy_cache_requests_total;route=test;result=stale": 2,
			"wproxy_cache_requests_total;route=test;result=miss": 1, "wproxy_cache_refreshes_total;route=test;result=miss": 1,
		} {
			if got, _ := p.Metric(name); got != want {
				t.Errorf("%s: %d, want %d", name, got, want)
			}
		}
	})
}

// TestWasmFill: those who come while an answer is stored get it as it comes, whatever becomes of
// the client that asked for it, in whichever instance they are.
func TestWasmFill(t *testing.T) {
	runWasm(t, "", plugintest.Options{Instances: 4}, func(t *testing.T, p *plugintest.Plugin) {
		a := plugintest.Request{Path: "/a"}
		first := p.Open(a)
		var waiting []*plugintest.Stream
		for range 20 {
			s := p.Open(a)
			if s.Upstream().Method != "" || !s.Paused() {
				t.Fatal("a second request goes to the upstream")
			}
			waiting = append(waiting, s)
		}
		waiting[0].Leave() // who waits may go
		waiting[0].Finish()
		resp := answer("half ", "cache-control", "max-age=10")
		resp.More = true
		first.Respond(resp)
		if c := first.Client(); c.Status != 0 {
			t.Errorf("what is at hand goes on before it is known to be all: %+v", c)
		}
		first.RespondData(nil, false)
		for _, s := range waiting[1:] {
			if c := s.Client(); string(c.Body) != "half " || c.Ended {
				t.Fatalf("got %+v of a half", c)
			}
		}
		first.Leave()
		first.RespondData([]byte("rest"), true)
		for _, s := range waiting[1:] {
			s.Finish()
			if c := s.Client(); string(c.Body) != "half rest" || !c.Ended || s.LogField("cache") != "collapsed" {
				t.Errorf("got %q, ended %t, %q", c.Body, c.Ended, s.LogField("cache"))
			}
		}
		first.Finish()
		want(t, p, a, plugintest.Response{}, "half rest", "hit")

		// An answer that is cut is cut for those who have begun, and nobody else gets it.
		b := plugintest.Request{Path: "/b"}
		first = p.Open(b)
		second := p.Open(b)
		resp = answer("part", "cache-control", "max-age=10", "content-length", "100")
		resp.More = true
		first.Respond(resp)
		first.RespondData(nil, false)
		first.Finish()
		if c := second.Client(); string(c.Body) != "part" || c.Ended {
			t.Errorf("of a cut answer: %+v", c)
		}
		second.Finish()
		want(t, p, b, answer("whole"), "whole", "miss")

		// One that is cut before anybody has seen any of it leaves the lead to another.
		early := plugintest.Request{Path: "/early"}
		first, second = p.Open(early), p.Open(early)
		first.Respond(resp)
		first.Finish()
		if second.Upstream().Method == "" {
			t.Error("nobody takes the place of one that was cut early")
		}
		second.Respond(answer("early", "cache-control", "max-age=1"))
		second.Finish()
		if got := string(second.Client().Body); got != "early" {
			t.Errorf("after one that was cut early the second gets %q", got)
		}

		// A leader that goes before there is an answer leaves the lead to another.
		c := plugintest.Request{Path: "/c"}
		first, second = p.Open(c), p.Open(c)
		first.Leave()
		first.Finish()
		if second.Upstream().Method == "" {
			t.Error("nobody takes the place of the first")
		}
		second.Respond(answer("c", "cache-control", "max-age=1"))
		second.Finish()
		if got := string(second.Client().Body); got != "c" {
			t.Errorf("the second gets %q", got)
		}
	})
}

// TestWasmWindow: what is too large streams through, and is not stored; with less memory than an
// answer needs, it does the same.
func TestWasmWindow(t *testing.T) {
	for name, settings := range map[string]string{"max_object": `{"max_object":"4KiB"}`, "memory": ""} {
		t.Run(name, func(t *testing.T) {
			runWasm(t, settings, plugintest.Options{Objects: 128 << 10}, func(t *testing.T, p *plugintest.Plugin) {
				s := p.Open(plugintest.Request{Path: "/large"})
				resp := answer("", "cache-control", "max-age=10")
				resp.More = true
				s.Respond(resp)
				piece := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
				for i := range 64 {
					s.RespondData(piece, i == 63)
					if _, held := p.Stored(); held > 400<<10 {
						t.Fatalf("%d bytes are held", held)
					}
				}
				s.Finish()
				if c := s.Client(); len(c.Body) != 64*len(piece) || !c.Ended {
					t.Errorf("got %d bytes, ended %t", len(c.Body), c.Ended)
				}
				if n, held := p.Stored(); n != 0 || held != 0 {
					t.Errorf("%d messages, %d bytes are stored", n, held)
				}
			})
		})
	}
}
