package h2

import (
	"strings"
	"testing"

	"wproxy/core/exchange"
)

// FuzzParseResponse: a head that is accepted can be written in HTTP/1.1 without changing
// its meaning. Lines are "name: value".
func FuzzParseResponse(f *testing.F) {
	for _, s := range []string{
		":status: 200\ncontent-type: text/plain", ":status: 204", ":status: 304\ncontent-length: 5", ":status: 101",
		":status: 200\n:status: 200", "a: b\n:status: 200", ":status: 200\nA: b", ":status: 200\nconnection: close",
		":status: 200\ncontent-length: 1\ncontent-length: 1", ":status: 200\ncontent-length: +1", ":status: 200\na: b\rc", ":status:  200",
	} {
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, head bool) {
		var b block
		lengths := 0
		for line := range strings.SplitSeq(text, "\n") {
			name, value, ok := strings.Cut(line, ": ")
			if !ok {
				continue
			}
			b.fields = append(b.fields, exchange.Field{Name: name, Value: value})
			if name == "content-length" {
				lengths++
			}
		}
		method := "GET"
		if head {
			method = "HEAD"
		}
		var h exchange.Response
		body, x := parseResponse(&h, &b, method)
		if !x.ok() {
			return
		}
		if h.Status < 100 || h.Status > 599 || h.Status == 101 || h.Fields.Len() != len(b.fields)-1 || lengths > 1 {
			t.Errorf("accepted: %q: status %d, %d fields", text, h.Status, h.Fields.Len())
		}
		if body < exchange.LengthUnknown || h.Length < exchange.LengthUnknown {
			t.Errorf("%q: length %d, body %d", text, h.Length, body)
		}
		if (head || h.Status < 200 || h.Status == 204 || h.Status == 304) && body != 0 {
			t.Errorf("%q has no body, and %d bytes are awaited", text, body)
		}
		for _, v := range h.Fields.List() {
			if v.Name == "" || strings.ContainsAny(v.Name, ": \r\n\x00ABCDEFGHIJKLMNOPQRSTUVWXYZ") || strings.ContainsAny(v.Value, "\r\n\x00") ||
				strings.TrimSpace(v.Value) != v.Value && strings.Trim(v.Value, " \t") != v.Value || v.Name == "connection" || v.Name == "transfer-encoding" {
				t.Errorf("accepted: %q", v)
			}
		}
	})
}
