package h1

import (
	"bytes"
	"strings"
	"testing"

	"wproxy/core/exchange"
)

func TestIsValue(t *testing.T) {
	for n := range 20 {
		for at := range n {
			for c := range 256 {
				b := bytes.Repeat([]byte{'x'}, n)
				b[at] = byte(c)
				if got, want := isValue(b), isValueSlow(b); got != want {
					t.Fatalf("%q: got %v, want %v", b, got, want)
				}
				b[n-1] = 0x80 // next to a byte that borrows
				if got, want := isValue(b), isValueSlow(b); got != want {
					t.Fatalf("%q: got %v, want %v", b, got, want)
				}
			}
		}
	}
}

// TestHeadInPieces: a head that arrives in two pieces, split anywhere, parses to
// the same as one that arrives at once, and any part of it is not a head.
func TestHeadInPieces(t *testing.T) {
	const head = "POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-A:  b \r\n\r\n"
	for at := range len(head) {
		var h requestHead
		b := []byte(head + "abc")
		n, f := h.scan(b[:at], 10)
		if n != 0 || !f.ok() {
			t.Fatalf("the first %d bytes: got %d, %v", at, n, f)
		}
		if n, f = h.scan(b, 10); n != len(head) || !f.ok() {
			t.Fatalf("split at %d: got %d, %v", at, n, f)
		}
		var r exchange.Request
		if f := h.parse(b[:n], &r, "http"); !f.ok() {
			t.Fatalf("split at %d: %v", at, f)
		}
		if r.Target != "/a?b" || r.Length != 3 || r.Fields.Value("x-a") != "b" {
			t.Errorf("split at %d: got %+v", at, r)
		}
	}
}

func TestChunkedPieces(t *testing.T) {
	// Data of several chunks in one read comes out as one piece.
	var d chunked
	in := []byte("3\r\nabc\r\n2;x\r\nde\r\n1\r\nf\r\n0\r\nrest")
	data, n, done, f := d.next(in)
	if string(data) != "abcdef" || !done || !f.ok() || string(in[n:]) != "rest" {
		t.Errorf("got %q, %d, %v, %v", data, n, done, f)
	}
}

func TestChunkSize(t *testing.T) {
	zeros := strings.Repeat("0", maxChunkDigits)
	for in, want := range map[string]struct{ done, ok bool }{
		"0\r\n":                {true, true},
		zeros + "\r\n":         {true, true},
		zeros + " ;x\r\n":      {true, true},
		zeros + "0\r\n":        {false, false},
		zeros[1:] + "1\r\n":    {false, true},
		zeros + "1\r\n":        {false, false},
		"7fffffffffffffff\r\n": {false, true},
		"8000000000000000\r\n": {false, false},
	} {
		var d chunked
		if _, _, done, f := d.next([]byte(in)); done != want.done || f.ok() != want.ok {
			t.Errorf("%q: got done %v, %v, want %v", in, done, f, want)
		}
	}
}

func TestUpgradeTo(t *testing.T) {
	for in, want := range map[string]string{
		"websocket": "websocket", "h2c": "", "H2C": "", "h2c, websocket": "websocket", "HTTP/2.0": "", "a/b, h2c": "a/b", "": "", "a b": "", ",": "", "x/": "", "TLS/1.0, HTTP/1.1": "TLS/1.0",
	} {
		if got := upgradeTo(in); got != want {
			t.Errorf("upgradeTo(%q): got %q, want %q", in, got, want)
		}
	}
}

func TestConnectionOptions(t *testing.T) {
	for in, want := range map[string]struct{ close, alive, upgrade, ok bool }{
		"close": {true, false, false, true}, "Keep-Alive, Upgrade": {false, true, true, true}, "close , keep-alive": {true, true, false, true},
		",,close,": {true, false, false, true}, "": {false, false, false, true}, "a b": {}, "a;b": {}, "\"close\"": {},
	} {
		var f facts
		got := f.addOptions(in).ok()
		if got != want.ok || got && (f.close != want.close || f.alive != want.alive || f.upgrade != want.upgrade) {
			t.Errorf("%q: got %v %+v, want %+v", in, got, f, want)
		}
	}
}

// TestFactsReused: nothing of a head is left when the scratch has parsed another one, also of one
// that was refused.
func TestFactsReused(t *testing.T) {
	const plain = "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nx-b: 2\r\n\r\n"
	for _, before := range []string{
		"GET / HTTP/1.1\r\nhost: a\r\nconnection: x-a, x-b, close\r\nx-a: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nhost: a\r\nconnection: x-a\r\nconnection: x-b, \"\r\n\r\n",
		"POST / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: upgrade\r\nupgrade: c\r\nexpect: d\r\ntransfer-encoding: chunked\r\n\r\n",
	} {
		var h requestHead
		for i, in := range []string{before, plain} {
			var r exchange.Request
			b := []byte(in)
			h.section.reset()
			n, f := h.scan(b, 100)
			if n == 0 || !f.ok() {
				t.Fatalf("scan: %d, %+v", n, f)
			}
			f = h.parse(b, &r, "http")
			if i == 0 {
				continue
			}
			want := said{length: exchange.LengthUnknown, hosts: 1, host: "a"}
			if !f.ok() || r.Fields.Value("x-a") != "1" || r.Fields.Value("x-b") != "2" || h.said != want ||
				h.nOptions != 0 || h.options != [maxOptions]string{} {
				t.Errorf("after %q: %+v, %+v, %+v", before, f, r.Fields.List(), h.facts)
			}
		}
		h.reset()
		if h.said != (said{length: exchange.LengthUnknown}) || len(h.lines) != 0 {
			t.Errorf("after reset: %+v", h)
		}
	}
}
