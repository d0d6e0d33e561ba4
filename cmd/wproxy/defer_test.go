package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/host/wasmtest"
)

// inspector is a guest that waits for the whole request body, at most 4 bytes of
// which it allows.
func inspector() *wasmtest.Module {
	m := wasmtest.NewGuest()
	reply := m.Env("proxy_send_local_response", "iiiiiiii>i")
	m.Headers("request", wasmtest.I32(0))
	m.Body("request",
		wasmtest.If(wasmtest.Eq(wasmtest.Local(2), wasmtest.I32(0)), wasmtest.I32(1), wasmtest.Return()),
		wasmtest.If(wasmtest.GtU(wasmtest.Local(1), wasmtest.I32(4)),
			wasmtest.Call(reply, wasmtest.I32(403), m.Str("too_much"), m.Str("no"), wasmtest.I32(0), wasmtest.I32(0), wasmtest.I32(-1)), wasmtest.Drop(),
			wasmtest.I32(1), wasmtest.Return()),
		wasmtest.I32(0))
	return m
}

// TestNoUpstreamBeforeTheBody: a plugin that lets the head pass and looks at the body
// decides before an upstream is dialed.
func TestNoUpstreamBeforeTheBody(t *testing.T) {
	origin := strict.NewOrigin(t, echo)
	in := startGuest(t, origin.Addr(), inspector())
	for _, tt := range []struct {
		name, framing, first, rest string
		interim                    int
		status                     int
		origin                     string // what it gets
	}{
		{"denied", "Content-Length: 6", "abc", "def", 0, 403, ""},
		{"denied, chunked", "Transfer-Encoding: chunked", "3\r\nabc\r\n", "3\r\ndef\r\n0\r\n\r\n", 0, 403, ""},
		{"denied, trailers", "Transfer-Encoding: chunked", "6\r\nabcdef\r\n", "0\r\nX-T: 1\r\n\r\n", 0, 403, ""},
		{"denied, invited", "Content-Length: 6\r\nExpect: 100-continue", "", "abcdef", 100, 403, ""},
		{"allowed", "Content-Length: 4", "ab", "cd", 0, 200, "POST / abcd"},
		{"allowed, trailers", "Transfer-Encoding: chunked", "1\r\na\r\n", "0\r\nX-T: 1\r\n\r\n", 0, 200, "POST / a"},
		{"allowed, invited", "Content-Length: 4\r\nExpect: 100-continue", "", "abcd", 100, 200, "POST / abcd"},
		{"allowed, empty", "Transfer-Encoding: chunked", "", "0\r\n\r\n", 0, 200, "POST /"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := origin.Accepted()
			w := in.dial(t)
			defer w.Close()
			if _, err := fmt.Fprintf(w, "POST / HTTP/1.1\r\nHost: a.test\r\n%s\r\n\r\n%s", tt.framing, tt.first); err != nil {
				t.Fatal(err)
			}
			if tt.interim != 0 { // it comes before a byte of the body is sent
				line, err := w.r.Buffered().Peek(len("HTTP/1.1 100"))
				if err != nil || string(line) != "HTTP/1.1 100" {
					t.Fatalf("got %q, %v; want 100", line, err)
				}
				if n := origin.Accepted(); n != before {
					t.Errorf("%d connections before the body", n-before)
				}
			}
			if _, err := io.WriteString(w, tt.rest); err != nil {
				t.Fatal(err)
			}
			resp, err := w.r.ReadResponse("POST")
			if err != nil || resp.Status != tt.status {
				t.Fatalf("got %+v, %v; want %d", resp, err, tt.status)
			}
			if got := string(resp.Body); tt.origin != "" && strings.TrimSpace(got) != tt.origin {
				t.Errorf("the origin has got %q, want %q", got, tt.origin)
			}
			if n := origin.Accepted(); tt.origin == "" && n != before {
				t.Errorf("%d connections for a request that was denied", n-before)
			}
			origin.CloseConns() // the next one needs a connection again
		})
	}
	if _, partial, violations := origin.Take(); len(partial)+len(violations) > 0 {
		t.Errorf("the origin has seen %v, %q", partial, violations)
	}
}
