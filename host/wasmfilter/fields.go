package wasmfilter

import (
	"strings"

	"wproxy/core/exchange"
)

// tokenByte tells the bytes of a field name or method (RFC 9110 5.6.2).
var tokenByte = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}()

func isToken(s string) bool {
	for i := range len(s) {
		if !tokenByte[s[i]] {
			return false
		}
	}
	return s != ""
}

// cleanField returns name in lower case and value without white space around it;
// false if either would break framing, or is no field at all (RFC 9110 5.1, 5.5). A
// control byte in a value is refused on the way in from clients, and so here.
func cleanField(name, value string) (string, string, bool) {
	if !isToken(name) {
		return "", "", false
	}
	value, ok := cleanValue(value)
	return strings.ToLower(name), value, ok
}

func cleanValue(value string) (string, bool) {
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", false
		}
	}
	return value, true
}

// hopByHop reports whether a field is about one connection, or is framing:
// codecs write these themselves (RFC 9110 7.6.1, 9112 6). An edit of one has no
// effect, which is not worth an error to the guest.
func hopByHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade",
		"http2-settings", "expect", "te":
		return true
	}
	return false
}

// sameName compares two field names without regard to case; b is in lower case.
func sameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		c := a[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != b[i] {
			return false
		}
	}
	return true
}

// find returns the index of the first line called name, -1 if there is none.
func find(list []exchange.Field, name string) int {
	for i := range list {
		if sameName(name, list[i].Name) {
			return i
		}
	}
	return -1
}

// roomFor reports whether a line may be added to f.
func roomFor(f *exchange.Fields, name, value string) bool {
	return f.Len() < maxHeadFields && f.Size()+len(name)+len(value) <= maxHeadBytes
}
