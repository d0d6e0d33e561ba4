package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"wproxy/host/plugintest"
)

// TestUnsafe: what a request by any method, and its answer, does to what is stored is the same whether the host has an
// order for it or not; with one, the guest hears only of successful answers that name other URLs.
func TestUnsafe(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	methods := []string{"POST", "PUT", "DELETE", "PATCH", "post", "X", "PURGE", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "SEARCH", "REPORT"}
	answers := []struct {
		plugintest.Response
		shown uint64 // to the guest, after an unsafe request
	}{
		{plugintest.Response{Status: 200, Body: []byte("done")}, 0},
		{plugintest.Response{Status: 201, Fields: plugintest.Fields("location", "/b")}, 1},
		{plugintest.Response{Status: 204}, 0},
		{plugintest.Response{Status: 303, Fields: plugintest.Fields("location", "http://example.com/b")}, 1},
		{plugintest.Response{Status: 200, Fields: plugintest.Fields("content-location", "b", "location", "https://example.com/a")}, 1},
		{plugintest.Response{Status: 399, Trailers: plugintest.Fields("t", "u"), Body: []byte("x")}, 0},
		{plugintest.Response{Status: 400, Fields: plugintest.Fields("location", "/b")}, 0},
		{plugintest.Response{Status: 500}, 0},
		{plugintest.Response{Status: 502, Failure: "connect"}, 0},
	}
	paths := []string{"/a", "/b", "/a?q"}
	for _, settings := range []string{`{"default_ttl":"60s"}`, `{"default_ttl":"60s","purge_clients":["127.0.0.0/8"],"cache_status":false}`, `{"default_ttl":"60s","key":["header:x","header:y"]}`} {
		gone := 0
		var shown [][2]uint64 // heads, by the exchange; of the run with the order, which is the last
		differ(t, wasm, settings, func(p *plugintest.Plugin) (log []string) {
			get := func(path string) string {
				return p.Do(plugintest.Request{Path: path}, plugintest.Response{Body: []byte("stored " + path)}).LogField("cache")
			}
			gone, shown = 0, nil
			for i, method := range methods {
				for j, answer := range answers {
					for _, path := range paths {
						get(path)
					}
					req := plugintest.Request{Method: method, Path: "/a", Fields: plugintest.Fields("x", "y", "authorization", "z", "if-none-match", `"1"`)}
					if (i+j)%2 == 0 {
						req.Body = []byte("question")
					}
					before := calls(p)
					s := p.Open(req)
					if s.Upstream().Method != "" {
						s.RespondInformational(103, "location", "/b")
						s.Respond(answer.Response)
					}
					s.Finish()
					after := calls(p)
					shown = append(shown, [2]uint64{after[0] - before[0], after[1] - before[1]})
					line := fmt.Sprintf("%s %d: %+v %q %s %s;", method, j, s.Client(), s.LogField("cache"), s.Reason(), s.Verdict("plugin"))
					for _, path := range paths {
						line += " " + get(path)
					}
					if log = append(log, line); strings.Contains(line, "; miss") {
						gone++
					}
				}
			}
			for _, r := range []result{bypass, hit, miss} {
				n, ok := p.Metric("wproxy_cache_requests_total;route=test;result=" + r.String())
				if !ok || n == 0 {
					t.Errorf("%v: counted %d, %t", r, n, ok)
				}
				log = append(log, fmt.Sprint(r, n))
			}
			return log
		})
		if gone < 30 {
			t.Errorf("only %d times something was deleted", gone)
		}
		for i, method := range methods {
			if method == "PURGE" && strings.Contains(settings, "purge") {
				continue // the guest's
			}
			for j, answer := range answers {
				if slices.Contains(safeMethods[1:], method) {
					answer.shown = 0
				}
				if got, want := shown[i*len(answers)+j], ([2]uint64{0, answer.shown}); got != want {
					t.Errorf("%s, answer %d: the guest was called %d times, want %d", method, j, got, want)
				}
			}
		}
	}
}
