package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
)

// TestUnsafe: what a request by any method, and its answer, does to what is stored is the same whether the host has an
// order for it or not; with one, the guest hears of answers only that name other URLs.
func TestUnsafe(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	const shown = 200 // and up to 399: what an answer to an unsafe request has to have for anything to be deleted
	methods := []string{"POST", "PUT", "DELETE", "PATCH", "post", "X", "PURGE", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "SEARCH", "REPORT"}
	answers := []plugintest.Response{
		{Body: []byte("done")},
		{Status: 201, Fields: plugintest.Fields("location", "/b")},
		{Status: 204},
		{Status: 303, Fields: plugintest.Fields("location", "http://example.com/b")},
		{Fields: plugintest.Fields("content-location", "b", "location", "https://example.com/a")},
		{Status: 400, Fields: plugintest.Fields("location", "/b")},
		{Status: 500},
		{Status: 502, Failure: "connect"},
		{Status: 399, Trailers: plugintest.Fields("t", "u"), Body: []byte("x")},
		{Status: 199 + 200},
	}
	for _, settings := range []string{`{"default_ttl":"60s"}`, `{"default_ttl":"60s","purge_clients":["127.0.0.0/8"],"cache_status":false}`} {
		run := func(without bool) (log []string) {
			o := plugintest.Options{Config: settings, Grants: []string{host.GrantLog, host.GrantMetrics, host.GrantObjects}}
			if without {
				o.Without = []string{abi.ForeignObjectStanding}
			}
			plugintest.Run(t, wasm, o, func(t *testing.T, p *plugintest.Plugin) {
				get := func(path string, fields ...string) *plugintest.Stream {
					return p.Do(plugintest.Request{Path: path, Fields: plugintest.Fields(fields...)}, plugintest.Response{Body: []byte("stored " + path)})
				}
				for i, method := range methods {
					for j, answer := range answers {
						for _, path := range []string{"/a", "/b", "/a?q"} {
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
							s.Respond(answer)
						}
						s.Finish()
						after := calls(p)
						line := fmt.Sprintf("%s %d: %+v %q %s %s;", method, j, s.Client(), s.LogField("cache"), s.Reason(), s.Verdict("plugin"))
						for _, path := range []string{"/a", "/b", "/a?q"} {
							line += " " + get(path).LogField("cache")
						}
						log = append(log, line)
						ordered := !slices.Contains(safeMethods[1:], method) && (method != "PURGE" || !strings.Contains(settings, "purge"))
						if without || !ordered {
							continue
						}
						named := slices.ContainsFunc(answer.Fields, func(f abi.Pair) bool { return strings.HasSuffix(f.Name, "location") })
						want := [2]uint64{0, 0}
						if status := max(answer.Status, shown); named && status < 400 {
							want[1] = 1
						}
						if got := [2]uint64{after[0] - before[0], after[1] - before[1]}; got != want {
							t.Errorf("%s, answer %d: the guest was called %d times, want %d", method, j, got, want)
						}
					}
				}
				for name, n := range p.Metrics() {
					if strings.HasPrefix(name, "wproxy_cache_requests_total") {
						log = append(log, fmt.Sprint(name, n))
					}
				}
				slices.Sort(log[len(methods)*len(answers):])
			})
			return log
		}
		want, got := run(true), run(false)
		gone := 0
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				t.Fatalf("got\n%s\nthe guest does\n%s", got[min(i, len(got)-1)], want[i])
			}
			if strings.Contains(want[i], "; miss") {
				gone++
			}
		}
		if len(got) != len(want) || gone < 30 {
			t.Errorf("%d lines, want %d; %d times something was deleted", len(got), len(want), gone)
		}
	}
}

// calls returns how many request and response heads the guest has been shown.
func calls(p *plugintest.Plugin) [2]uint64 {
	w := p.Stats().Work
	return [2]uint64{w[host.CallRequestHeaders].Calls, w[host.CallResponseHeaders].Calls}
}
