package h2

import (
	"encoding/binary"
	"strconv"
	"strings"

	"wproxy/core/exchange"
)

// tokens says which bytes a field name may have: those of a token (RFC 9110 5.6.2)
// that are not upper case (RFC 9113 8.2.1).
var tokens = tokenTable()

func tokenTable() (t [256]bool) {
	for c := 'a'; c <= 'z'; c++ {
		t[c] = true
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789") {
		t[c] = true
	}
	return t
}

// isName reports whether s is a field name.
func isName(s string) bool {
	for i := range len(s) {
		if !tokens[s[i]] {
			return false
		}
	}
	return s != ""
}

// isMethod reports whether s is a token.
func isMethod(s string) bool {
	for i := range len(s) {
		if c := s[i]; !tokens[c] && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != ""
}

// isValue reports whether s is a field value: no control bytes but tab, as in
// package h1, and no white space at an end (RFC 9113 8.2.1).
func isValue(s string) bool {
	if s == "" {
		return true
	}
	if isSpace(s[0]) || isSpace(s[len(s)-1]) {
		return false
	}
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(s) >= 8 {
		x := binary.LittleEndian.Uint64([]byte(s[:8]))
		y := x ^ ones*0x7f
		if ((x-ones*' ')&^x|(y-ones)&^y)&high != 0 && !isText(s[:8]) {
			return false
		}
		s = s[8:]
	}
	return isText(s)
}

func isText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// specific reports whether a field is about a connection, so that HTTP/2 does not
// have it (RFC 9113 8.2.2). "te" is judged by itself.
func specific(name string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// checkField judges a field line, which is no pseudo-field.
func checkField(f *exchange.Field) fault {
	switch {
	case !isName(f.Name):
		return bad(ReasonBadField)
	case !isValue(f.Value):
		return bad(ReasonBadValue)
	case specific(f.Name):
		return bad(ReasonConnSpecific)
	case f.Name == "te" && f.Value != "trailers":
		return bad(ReasonConnSpecific)
	}
	return fault{}
}

// parseLength parses a content-length: 1*DIGIT below 2^63 (RFC 9110 8.6).
func parseLength(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// setTrailer judges a trailer section and keeps it in dst (RFC 9113 8.1, RFC 9110
// 6.5.1): what frames a message, or says how to treat it, is dropped.
func setTrailer(dst *exchange.Fields, b *block) fault {
	if !b.fault.ok() || b.size > maxTrailer {
		return fault{431, ReasonTrailerTooBig}
	}
	for i := range b.fields {
		f := &b.fields[i]
		if strings.HasPrefix(f.Name, ":") {
			return bad(ReasonPseudo)
		}
		if x := checkField(f); !x.ok() {
			return x
		}
		if !notInTrailer(f.Name) {
			dst.Add(f.Name, f.Value)
		}
	}
	return fault{}
}

// notInTrailer is as forbiddenTrailer of package h1.
func notInTrailer(name string) bool {
	switch name {
	case "content-length", "host", "te", "trailer", "expect", "http2-settings", "content-encoding",
		"content-type", "content-range", "authorization", "proxy-authenticate", "proxy-authorization",
		"proxy-authentication-info", "set-cookie", "cookie", "cache-control":
		return true
	}
	return specific(name)
}
