package h1

import (
	"bytes"
	"net/http"
	"strconv"

	"wproxy/core/exchange"
)

// appendStatusLine appends a status line (RFC 9112 4). The version is ours,
// whatever the client's (RFC 9110 6.2).
func appendStatusLine(dst []byte, status int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(dst, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10), ' ')
	dst = append(dst, http.StatusText(status)...)
	return append(dst, "\r\n"...)
}

// appendRequestLine appends a request line and the Host field, which is to come
// first (RFC 9110 7.2).
func appendRequestLine(dst []byte, r *exchange.Request) []byte {
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst = append(dst, r.Target...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	return appendField(dst, "host", r.Authority)
}

func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "content-length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

// appendFields appends the field lines that are not the codec's own business:
// framing comes from Length, and hop-by-hop fields are decided per connection.
// It returns how many it appended.
func appendFields(dst []byte, f *exchange.Fields) ([]byte, int) {
	n := 0
	for _, x := range f.List() {
		if !ownField(x.Name) {
			dst = appendField(dst, x.Name, x.Value)
			n++
		}
	}
	return dst, n
}

// ownField reports whether only the codec writes the field called name.
func ownField(name string) bool {
	switch name {
	case "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection",
		"upgrade", "host", "http2-settings":
		return true
	}
	return false
}

// appendTrailer appends the last chunk and the trailer section (RFC 9112 7.1),
// and returns how many lines that were.
func appendTrailer(dst []byte, f *exchange.Fields) ([]byte, int) {
	dst = append(dst, "0\r\n"...)
	n := 2
	for _, x := range f.List() {
		if !forbiddenTrailer(x.Name) {
			dst = appendField(dst, x.Name, x.Value)
			n++
		}
	}
	return append(dst, "\r\n"...), n
}

// appendChunkSize appends the line in front of a chunk of n bytes.
func appendChunkSize(dst []byte, n int) []byte {
	dst = strconv.AppendUint(dst, uint64(n), 16)
	return append(dst, "\r\n"...)
}

const (
	crlf      = "\r\n"
	lastChunk = "0\r\n\r\n"
	// chunkOverhead is the most bytes that surround the data of a chunk, the
	// last chunk included.
	chunkOverhead = 16 + len(crlf) + len(crlf) + len(lastChunk)
)

// headSize is how many bytes a head with these fields has at most; others are
// those of the start line's variable parts.
func headSize(f *exchange.Fields, others int) int {
	return f.Size() + f.Len()*len(": \r\n") + others + headOverhead
}

// headOverhead is the most bytes that a head has beside its fields: the fixed
// parts of the start line, and date, connection, upgrade and framing fields.
const headOverhead = 320

// intact reports whether the head b consists of exactly as many lines as were
// written, each ended by CRLF and without a NUL: no field value brought lines of
// its own (response splitting, request smuggling). Whoever edits Fields has to
// refuse such values; this is the net under them, and counting bytes is cheap.
func intact(b []byte, lines int) bool {
	return bytes.Count(b, newline) == lines && bytes.Count(b, carriageReturn) == lines && bytes.IndexByte(b, 0) < 0
}

var (
	newline        = []byte{'\n'}
	carriageReturn = []byte{'\r'}
)
