// Package objectkey is what the key of a stored message has of the fields of a request, as a plugin
// may order it (abi.ObjectStanding.Key). It has no state but the parts, and calls nothing but Fields and what a gate reads cookies
// with; what it makes it appends to what it is given.
package objectkey

import (
	"bytes"
	"slices"
	"strings"

	"wproxy/abi"
	"wproxy/host/gaterule"
)

// Fields are those of a request, without pseudo fields.
type Fields interface {
	Len() int
	// Line returns the i-th line; its name is in lower case.
	Line(i int) (name, value string)
}

// A part is one of the three kinds of abi.ObjectStanding.Key.
type part struct {
	kind kind
	name string // of a cookie, or of a field in lower case
	text string // what a key has of it whatever the request
}

type kind uint8

const (
	cookie kind = iota
	list
	set
)

// Parts are those of a key, in their order. They are immutable.
type Parts []part

// New returns the parts of a key from how abi.ObjectStanding.Key has them; false if one of them is none. isToken says
// whether a name can be that of a field or a cookie.
func New(texts []string, isToken func(string) bool) (Parts, bool) {
	var parts Parts
	for _, text := range texts {
		k, name, _ := strings.Cut(text, ":")
		if !isToken(name) {
			return nil, false
		}
		p := part{name: strings.ToLower(name)}
		switch k {
		case "cookie":
			p = part{kind: cookie, name: name} // in which case counts
		case "list":
			p.kind = list
		case "set":
			p.kind = set
		default:
			return nil, false
		}
		p.text = "\x00" + k + ":" + p.name
		parts = append(parts, p)
	}
	return parts, true
}

// Append appends what a key has of f. It returns some of it, and false, if that takes dst
// more than most bytes, those of white space in members included.
func (k Parts) Append(dst []byte, f Fields, most int) ([]byte, bool) {
	for i := range k {
		p := &k[i]
		ok := len(dst)+len(p.text) <= most
		if !ok {
			return dst, false
		}
		dst = append(dst, p.text...)
		if p.kind == cookie {
			dst, ok = p.appendCookie(dst, f, most)
		} else {
			dst, ok = p.appendMembers(dst, f, most)
		}
		if !ok {
			return dst, false
		}
	}
	return dst, true
}

// appendCookie appends the value of the first cookie of that name, if there is one.
func (p *part) appendCookie(dst []byte, f Fields, most int) ([]byte, bool) {
	value, ok := cookieValue(f, p.name)
	if !ok {
		return dst, true
	}
	if len(dst)+1+len(value) > most {
		return dst, false
	}
	return append(append(dst, ':'), value...), true
}

// cookieValue returns the value of the first cookie of that name.
func cookieValue(f Fields, name string) (value string, ok bool) {
	for i := range f.Len() {
		if n, line := f.Line(i); n == "cookie" {
			if value, ok = gaterule.Cookie(line, name); ok {
				return value, true
			}
		}
	}
	return "", false
}

// appendMembers appends the members of a list or a set, if there is one.
func (p *part) appendMembers(dst []byte, f Fields, most int) ([]byte, bool) {
	first, n := -1, 0 // where members begin, and how many there are
	for i := range f.Len() {
		name, rest := f.Line(i)
		if name != p.name {
			continue
		}
		if first < 0 {
			if len(dst) >= most {
				return dst, false
			}
			dst = append(dst, ':')
			first = len(dst)
		}
		for more := true; more; {
			var m string
			m, rest, more = strings.Cut(rest, ",")
			if m = strings.Trim(m, " \t"); m == "" {
				continue
			}
			if len(dst)+1+len(m) > most {
				return dst, false
			}
			if n > 0 {
				dst = append(dst, ',')
			}
			n++
			if p.kind == set {
				dst = appendFolded(dst, m)
			} else {
				dst = append(dst, m...)
			}
		}
	}
	if p.kind == set && n > 1 && n <= abi.MaxSetMembers {
		dst = sortMembers(dst, first)
	}
	return dst, true
}

// appendFolded appends a member of a set: in lower case and without white space.
func appendFolded(dst []byte, m string) []byte {
	for i := range len(m) {
		switch c := m[i]; {
		case c == ' ' || c == '\t':
		case 'A' <= c && c <= 'Z':
			dst = append(dst, c+'a'-'A')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// sortMembers sorts the members that b has from first on, which are no more than abi.MaxSetMembers, with commas
// between them.
func sortMembers(b []byte, first int) []byte {
	var room [abi.MaxSetMembers][]byte
	members := room[:0]
	for rest, more := b[first:], true; more; {
		var m []byte
		m, rest, more = bytes.Cut(rest, []byte{','})
		members = append(members, m)
	}
	if slices.IsSortedFunc(members, bytes.Compare) {
		return b
	}
	slices.SortFunc(members, bytes.Compare)
	end := len(b)
	for _, m := range members { // behind them, as they are parts of it
		b = append(append(b, m...), ',')
	}
	copy(b[first:end], b[end:])
	return b[:end]
}
