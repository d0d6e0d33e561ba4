package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
)

// seeds adds what the corpus sends.
func seeds(f *testing.F, files ...string) {
	f.Helper()
	for _, file := range files {
		cases, err := exchangetest.ReadCorpus("../../testdata/h1/" + file + ".txt")
		if err != nil {
			f.Fatal(err)
		}
		for _, c := range cases {
			if len(c.Send) < 2000 {
				f.Add([]byte(c.Send))
			}
		}
	}
}

// parseRequestHead parses the head at the start of b as a server does.
func parseRequestHead(b []byte) (*exchange.Request, *requestHead, int, fault) {
	h, r := new(requestHead), new(exchange.Request)
	b = bytes.Clone(b)
	n, f := h.scan(b, DefaultMaxFields+1)
	if n == 0 || !f.ok() {
		return r, h, n, f
	}
	return r, h, n, h.parse(b[:n], r, "http")
}

// FuzzRequestHead: what is accepted and written again is accepted by net/http as
// the same request, and parses again to the same one.
func FuzzRequestHead(f *testing.F) {
	seeds(f, "request-good", "request-bad")
	f.Fuzz(func(t *testing.T, b []byte) {
		r, h, n, bad := parseRequestHead(b)
		if n == 0 || !bad.ok() {
			return
		}
		if r.Length == exchange.LengthUnknown != h.chunked {
			t.Fatalf("Length %d, chunked %v", r.Length, h.chunked)
		}
		if r.Authority == "" { // HTTP/1.0: the engine fills it in
			r.Authority = "filled.in"
		}
		out := appendWhole(r)
		again, _, m, bad := parseRequestHead(out)
		if m != len(out) || !bad.ok() {
			t.Fatalf("what we wrote is refused: %v\n%q", bad, out)
		}
		if again.Method != r.Method || again.Target != r.Target || again.Authority != r.Authority || again.Length != r.Length {
			t.Fatalf("not the same request:\n%+v\n%+v", r, again)
		}
		if !slices.Equal(endToEnd(r), endToEnd(again)) {
			t.Fatalf("not the same fields:\n%v\n%v", r.Fields, again.Fields)
		}
		sameForNetHTTP(t, r, out)
	})
}

// appendWhole writes a head as the client does.
func appendWhole(r *exchange.Request) []byte {
	var x clientStream
	b := appendRequestLine(nil, r)
	b, _ = appendFields(b, &r.Fields)
	b, _ = x.appendFraming(b, r, r.Length == 0)
	return append(b, crlf...)
}

func endToEnd(r *exchange.Request) []exchange.Field {
	var list []exchange.Field
	for _, x := range r.Fields.List() {
		if x.Name != "content-length" && x.Name != "te" {
			list = append(list, x)
		}
	}
	return list
}

// sameForNetHTTP checks that http.ReadRequest sees in out what we see in r.
func sameForNetHTTP(t *testing.T, r *exchange.Request, out []byte) {
	t.Helper()
	q, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
	if err != nil {
		if excepted(r) {
			return
		}
		t.Fatalf("net/http refuses: %v\n%q", err, out)
	}
	length := q.ContentLength
	if q.Method != r.Method || q.RequestURI != r.Target || q.Host != r.Authority || length != r.Length {
		t.Fatalf("net/http sees %s %q host %q length %d, we see %s %q host %q length %d",
			q.Method, q.RequestURI, q.Host, length, r.Method, r.Target, r.Authority, r.Length)
	}
}

// excepted is the list of what we accept and http.ReadRequest does not, with why.
func excepted(r *exchange.Request) bool {
	// net/http refuses "PRI *" and the like only as a server; it parses here.
	// A path that starts with "//" and has a bad authority in net/url's eyes,
	// such as "//[": RFC 9112 3.2.1 knows no authority in origin-form.
	return strings.HasPrefix(r.Target, "//")
}

// FuzzResponseHead: no panic, and what is accepted is accepted by net/http with
// the same status and framing.
func FuzzResponseHead(f *testing.F) {
	seeds(f, "response-good", "response-bad")
	f.Fuzz(func(t *testing.T, b []byte) {
		h, r := new(responseHead), new(exchange.Response)
		work := bytes.Clone(b)
		n, bad := h.scan(work, DefaultMaxFields+1)
		if n == 0 || !bad.ok() || !h.parse(work[:n], r, "GET").ok() {
			return
		}
		q, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b[:n])), nil)
		if err != nil {
			t.Fatalf("net/http refuses: %v\n%q", err, b[:n])
		}
		defer q.Body.Close()
		if q.StatusCode != r.Status {
			t.Fatalf("status: net/http sees %d, we see %d", q.StatusCode, r.Status)
		}
		if !h.noBody && q.ContentLength != r.Length {
			t.Fatalf("length: net/http sees %d, we see %d", q.ContentLength, r.Length)
		}
	})
}

// FuzzChunked: split anywhere the result is the same, and net/http reads the same
// data from what we accept.
func FuzzChunked(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"), 3)
	f.Add([]byte("0\r\n\r\n"), 1)
	f.Add([]byte("5 ;a\r\nhello\r\n00\r\nX: y\r\n\r\n"), 8)
	f.Add([]byte("ffffffffffffffff\r\n"), 2)
	f.Add([]byte("00000000000000000\r\n"), 4)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		if at < 0 || at > len(b) {
			at = len(b) / 2
		}
		whole, used, done, ok := decodeAll(b)
		split, used2, done2, ok2 := decodeAll(b[:at], b[at:])
		bytewise, used3, done3, ok3 := decodeAll(bytesOf(b)...)
		if !bytes.Equal(whole, split) || used != used2 || done != done2 || ok != ok2 {
			t.Fatalf("split at %d: %q %d %v %v, whole: %q %d %v %v", at, split, used2, done2, ok2, whole, used, done, ok)
		}
		if !bytes.Equal(whole, bytewise) || used != used3 || done != done3 || ok != ok3 {
			t.Fatalf("byte by byte: %q %d %v %v, whole: %q %d %v %v", bytewise, used3, done3, ok3, whole, used, done, ok)
		}
		if !done || !ok || bytes.Contains(b, []byte(" ;")) || bytes.Contains(b, []byte("\t;")) {
			// Exception: white space before an extension, which RFC 9112 7.1.1
			// tells us to accept, is refused by net/http.
			return
		}
		wire := append([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), b[:used]...)
		q, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(append(wire, crlf...))))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(q.Body)
		if err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("net/http reads %q, %v; we read %q", got, err, whole)
		}
	})
}

func bytesOf(b []byte) [][]byte {
	var out [][]byte
	for i := range b {
		out = append(out, b[i:i+1])
	}
	return out
}

// decodeAll decodes pieces one after the other. After a fault, data and used are
// not compared: a fault may come before or after data of the same piece was seen.
func decodeAll(pieces ...[]byte) (data []byte, used int, done, ok bool) {
	var d chunked
	for _, p := range pieces {
		out, n, end, f := d.next(bytes.Clone(p))
		if !f.ok() {
			return nil, 0, false, false
		}
		data = append(data, out...)
		used += n
		if end {
			return data, used, true, true
		}
	}
	return data, used, false, true
}
