//go:build !race && !invariants

package h1

import (
	"testing"

	"wproxy/core/exchange"
)

var benchHead = "GET /index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: test/1.0 (like a browser)\r\n" +
	"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nConnection: keep-alive\r\nCookie: a=b; c=d\r\n\r\n"

func TestParseAppendAllocs(t *testing.T) {
	var h requestHead
	var r exchange.Request
	b, out := make([]byte, len(benchHead)), make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(1000, func() {
		parseOnce(t, b, &h, &r)
		out, _ = appendFields(appendRequestLine(out[:0], &r), &r.Fields)
	}); n > 1 {
		t.Errorf("parse and append: got %v allocations, want 1: the string of the head", n)
	}
	var d chunked
	chunks := []byte("5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\n")
	work := make([]byte, len(chunks))
	if n := testing.AllocsPerRun(1000, func() {
		copy(work, chunks)
		d = chunked{}
		if data, _, done, f := d.next(work); !f.ok() || !done || len(data) != 8 {
			t.Fatal("bad chunks")
		}
	}); n > 0 {
		t.Errorf("chunks: got %v allocations, want 0", n)
	}
}

func parseOnce(tb testing.TB, b []byte, h *requestHead, r *exchange.Request) {
	tb.Helper()
	copy(b, benchHead)
	h.section.reset()
	r.Reset()
	n, f := h.scan(b, 200)
	if !f.ok() || n != len(b) {
		tb.Fatal(f)
	}
	if f := h.parse(b, r, "http"); !f.ok() {
		tb.Fatal(f)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	var h requestHead
	var r exchange.Request
	buf := make([]byte, len(benchHead))
	b.ReportAllocs()
	b.SetBytes(int64(len(benchHead)))
	for b.Loop() {
		parseOnce(b, buf, &h, &r)
	}
}
