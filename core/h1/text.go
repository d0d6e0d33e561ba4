package h1

import (
	"encoding/binary"
	"strings"

	"wproxy/core/exchange"
)

// isValue reports whether b may stand in a field value: no control bytes but tab
// (RFC 9110 5.5). Eight bytes at a time, because most bytes of a head are in values.
func isValue(b []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		// A byte of control has its high bit set if the byte of x is below
		// 0x20, one of del if it is 0x7f; later ones may be set as well.
		control := (x - ones*' ') &^ x
		y := x ^ ones*0x7f
		del := (y - ones) &^ y
		if (control|del)&high != 0 && !isValueSlow(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return isValueSlow(b)
}

func isValueSlow(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// nextMember cuts the first member, without white space around it, from a
// comma-separated list. A comma at the very end counts as an empty member that
// nobody sees.
func nextMember(list string) (member, rest string) {
	member, rest, _ = strings.Cut(list, ",")
	for member != "" && isOWS(member[0]) {
		member = member[1:]
	}
	for member != "" && isOWS(member[len(member)-1]) {
		member = member[:len(member)-1]
	}
	return member, rest
}

// listHas reports whether a list has member m (in lower case), parameters aside.
func listHas(list, m string) bool {
	for list != "" {
		var x string
		x, list = nextMember(list)
		if i := strings.IndexByte(x, ';'); i >= 0 {
			x = x[:i]
		}
		if equalFold(x, m) {
			return true
		}
	}
	return false
}

// equalFold is exchange.EqualFold.
func equalFold(a, b string) bool { return exchange.EqualFold(a, b) }

// lower puts a token in lower case.
func lower(s string) string { return strings.ToLower(s) }
