package main

import (
	"strconv"
	"strings"
	"testing"

	"wproxy/host/plugintest"
)

// TestWasmMemory: an exchange whose answer goes on for long holds on to nothing of its request, which
// may be as large as the listener lets in.
func TestWasmMemory(t *testing.T) {
	large := make([]string, 0, 300)
	for i := range 150 {
		large = append(large, "x-"+strconv.Itoa(i), strings.Repeat("x", 500))
	}
	for _, tc := range []struct{ name, path, control, said string }{
		{"miss", "/miss?", "max-age=10", "miss"},
		{"refused", "/refused?", "no-store", "miss"},
		{"bypass", "/bypass?", "max-age=10", "bypass"},
		{"hit", "/hit", "max-age=10", "hit"},
		{"hit of a long target", "/hit?" + strings.Repeat("x", 60<<10), "max-age=10", "hit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runWasm(t, `{"key":"header:k"}`, plugintest.Options{Memory: 24 << 20}, func(t *testing.T, p *plugintest.Plugin) {
				resp, fields := answer("body", "cache-control", tc.control), plugintest.Fields(large...)
				switch tc.said {
				case "hit":
					want(t, p, plugintest.Request{Path: tc.path}, resp, "body", "miss")
				case "bypass":
					fields = append(fields, plugintest.Fields("x-host", "h")...)
				}
				for i := range 400 { // 30 MiB
					req := plugintest.Request{Path: tc.path, Fields: fields}
					if tc.said != "hit" {
						req.Path += strconv.Itoa(i)
					}
					s := p.Open(req)
					defer s.Finish()
					if tc.said != "hit" {
						s.Respond(resp)
					}
					if said := s.LogField("cache"); said != tc.said {
						t.Fatalf("%d: a %s, want a %s; the client got %d", i, said, tc.said, s.Client().Status)
					}
				}
			})
		})
	}
}

// TestWasmWaitedMemory: nor does one that has waited for another, from when that is there.
func TestWasmWaitedMemory(t *testing.T) {
	runWasm(t, "", plugintest.Options{Memory: 24 << 20}, func(t *testing.T, p *plugintest.Plugin) {
		fields := plugintest.Fields("cookie", strings.Repeat("x", 60<<10))
		for round := range 8 {
			var waiting []*plugintest.Stream
			path := "/" + strconv.Itoa(round)
			first := p.Open(plugintest.Request{Path: path})
			defer first.Finish()
			for range 75 { // 600 in all, of 60 KiB
				s := p.Open(plugintest.Request{Path: path, Fields: fields})
				defer s.Finish()
				waiting = append(waiting, s)
			}
			resp := answer("half", "cache-control", "max-age=10")
			resp.More = true
			first.Respond(resp)
			first.RespondData(nil, false)
			for i, s := range waiting {
				if c := s.Client(); string(c.Body) != "half" {
					t.Fatalf("round %d, %d: got %d %q", round, i, c.Status, c.Body)
				}
			}
		}
	})
}
