// Package gaterule is what a gate (abi.ForeignGate) reads of a request: the key that its tokens are
// taken by, and whether it is exempt from that. It has no state but the rules, and calls nothing but
// the Head of a request; what it makes it appends to what it is given.
package gaterule

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"wproxy/abi"
)

// A Request is what a gate is asked about.
type Request struct {
	Route  string     // its name
	Client netip.Addr // after trust_proxy; invalid: it is not known
	Head   Head
}

// A Head is the head of a request, as a guest sees it.
type Head interface {
	// Get returns the first line called name, which is in lower case, or a pseudo field;
	// "host" is :authority.
	Get(name string) (value string, ok bool)
}

// A Key says what the keys of requests are made of. It is immutable.
type Key struct {
	parts []part
	reads int // parts that are read from the head
}

// A part is an abi.GatePart of a key.
type part struct {
	abi.GatePart
	field string // that it is read from; "": none
}

// NewKey returns the key of these parts, which parsing has found to be of a key; false if a name
// is none.
func NewKey(parts []abi.GatePart) (k Key, ok bool) {
	for _, p := range parts {
		field := ""
		switch p.Kind {
		case abi.GateHeader:
			field, ok = p.Text, isName(p.Text)
		case abi.GateCookie:
			field, ok = "cookie", p.Text != ""
		case abi.GateQuery:
			field, ok = ":path", p.Text != ""
		case abi.GatePath:
			field, ok = ":path", true
		case abi.GateMethod:
			field, ok = ":method", true
		case abi.GateHost:
			field, ok = ":authority", true
		default:
			ok = true
		}
		if !ok {
			return Key{}, false
		}
		if field != "" {
			k.reads++
		}
		k.parts = append(k.parts, part{p, field})
	}
	return k, true
}

// Reads returns how many parts are read from the head.
func (k *Key) Reads() int { return k.reads }

// isName reports whether s can be the name of a field in lower case.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || 'A' <= c && c <= 'Z' || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// A Found says whether a request has a key.
type Found uint8

// A request has a key, lacks a part of it, or has more of it than a gate looks at.
const (
	Known Found = iota
	Missing
	TooLong
)

// Append appends the key of a request, or some of it if that is not known.
func (k *Key) Append(dst []byte, r *Request) ([]byte, Found) {
	left := abi.MaxGateValues
	for i := range k.parts {
		p := &k.parts[i]
		switch p.Kind {
		case abi.GateText:
			dst = append(dst, p.Text...)
		case abi.GateRoute:
			dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.Route)))
			dst = append(dst, r.Route...)
		case abi.GateClient:
			switch client := r.Client.Unmap(); {
			case client.Is4():
				b := client.As4()
				dst = append(append(dst, uint8(len(b)), 0, 0, 0), b[:]...)
			case client.Is6():
				b := client.As16()
				keepBits(&b, int(p.Bits))
				dst = append(append(dst, uint8(len(b)), 0, 0, 0), b[:]...)
			default:
				return dst, Missing
			}
		default:
			at := len(dst)
			dst = append(dst, 0, 0, 0, 0)
			var found Found
			if dst, found = p.appendValue(dst, r.Head, left); found != Known {
				return dst, found
			}
			n := len(dst) - at - 4
			binary.LittleEndian.PutUint32(dst[at:], uint32(n))
			left -= n
		}
	}
	return dst, Known
}

// keepBits sets all but the first n bits to zero.
func keepBits(b *[16]byte, n int) {
	for i := n / 8; i < len(b); i++ {
		if i == n/8 {
			b[i] &= ^(byte(0xff) >> (n % 8))
			continue
		}
		b[i] = 0
	}
}

// appendValue appends what the part is in a request's head, up to most bytes as they came.
func (p *part) appendValue(dst []byte, h Head, most int) ([]byte, Found) {
	v, _ := h.Get(p.field)
	switch p.Kind { //nolint:exhaustive // the others are all of it
	case abi.GateCookie, abi.GateQuery:
		if len(v) > abi.MaxGateSource {
			return dst, TooLong
		}
		if p.Kind == abi.GateCookie {
			v, _ = Cookie(v, p.Text)
		} else {
			v = queryValue(v, p.Text)
		}
	case abi.GatePath:
		v, _, _ = strings.Cut(v, "?")
	}
	switch {
	case v == "":
		return dst, Missing
	case len(v) > most:
		return dst, TooLong
	case p.Kind == abi.GateQuery:
		return appendDecoded(dst, v), Known
	case p.Kind == abi.GateHost:
		return appendLower(dst, v), Known
	}
	return append(dst, v...), Known
}

// Cookie returns the value of the first cookie of that name in a cookie field (RFC 6265, section 5.4).
func Cookie(field, name string) (value string, ok bool) {
	for more := true; more; {
		var pair string
		pair, field, more = strings.Cut(field, ";")
		if n, v, ok := strings.Cut(strings.Trim(pair, " \t"), "="); ok && n == name {
			return v, true
		}
	}
	return "", false
}

// queryValue returns the value, not decoded, of the first query parameter of a target that is
// called name, decoded; "" if there is none.
func queryValue(target, name string) string {
	_, query, _ := strings.Cut(target, "?")
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if n, v, _ := strings.Cut(pair, "="); isDecoded(n, name) {
			return v
		}
	}
	return ""
}

// isDecoded reports whether s decoded is want.
func isDecoded(s, want string) bool {
	at := 0
	for i := 0; i < len(s); at++ {
		c, n := decodeByte(s[i:])
		if at == len(want) || want[at] != c {
			return false
		}
		i += n
	}
	return at == len(want)
}

func appendDecoded(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		c, n := decodeByte(s[i:])
		dst = append(dst, c)
		i += n
	}
	return dst
}

// decodeByte returns the first byte of a component of a query, decoded, and how many bytes it is made
// of. A bad escape stays as it is (WHATWG URL, percent-decode).
func decodeByte(s string) (c byte, n int) {
	switch c = s[0]; {
	case c == '+':
		return ' ', 1
	case c == '%' && len(s) > 2:
		high, ok1 := hexDigit(s[1])
		low, ok2 := hexDigit(s[2])
		if ok1 && ok2 {
			return high<<4 | low, 3
		}
	}
	return c, 1
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// appendLower appends ASCII letters in lower case, and the rest as it is.
func appendLower(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
