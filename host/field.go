package host

import "strings"

// fieldByte says what a byte may be part of.
const (
	inName  = 1 << iota // a token (RFC 9110 5.6.2)
	inLower             // a token in lower case
	inValue             // a field value (RFC 9110 5.5): no control byte but HTAB
	noUpper             // anything but an upper case letter
)

// fieldBytes classifies bytes.
var fieldBytes = func() (t [256]byte) {
	for c := range t {
		if c < 'A' || c > 'Z' {
			t[c] |= noUpper
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= inValue
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		t[c] |= inName | inLower
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] |= inName
	}
	return t
}()

// all reports whether every byte of s is of that class.
func all(s string, class byte) bool {
	for i := range len(s) {
		if fieldBytes[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// IsToken reports whether s can be a field name or a method.
func IsToken(s string) bool { return s != "" && all(s, inName) }

// CleanField returns name in lower case and value without white space around it;
// false if either would break framing, or is no field at all (RFC 9110 5.1, 5.5). A
// control byte in a value is refused on the way in from clients, and so here.
func CleanField(name, value string) (string, string, bool) {
	if !IsToken(name) {
		return "", "", false
	}
	value = strings.Trim(value, " \t")
	return strings.ToLower(name), value, all(value, inValue)
}

// HopByHop reports whether a field is about one connection, or is framing: codecs write these
// themselves (RFC 9110 7.6.1, 9112 6). An edit of one by a guest has no effect, which is not
// worth an error. name is in lower case.
func HopByHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade",
		"http2-settings", "expect", "te":
		return true
	}
	return false
}

// isClean reports whether CleanField would change nothing.
func isClean(name, value string) bool {
	if name == "" || !all(name, inLower) || !all(value, inValue) {
		return false
	}
	if value == "" {
		return true
	}
	first, last := value[0], value[len(value)-1]
	return first != ' ' && first != '\t' && last != ' ' && last != '\t'
}

// A FieldMap is a Map that takes a field which the host has found to be clean already:
// CleanField would change nothing. What guests set is mostly the same from exchange to
// exchange, so it is worth to look at it once.
type FieldMap interface {
	Map
	SetClean(name, value string) bool // as Set
	AddClean(name, value string) bool // as Add
}

// A fieldCache has fields that a guest has set lately, as strings of the host, so that
// a field that is set for every exchange is copied and checked once. A guest has its
// constants at the same addresses all the time: these say where a field is looked for,
// and its bytes are what it is found by.
type fieldCache struct {
	list [fieldCacheSize]cachedField
	next uint8 // whose turn it is to go
}

type cachedField struct{ name, value string }

// find returns the field equal to name and value, which are borrowed; nil if it is not
// there. place is where it is looked for.
func (c *fieldCache) find(place uint32, name, value string) *cachedField {
	for i := range uint32(fieldCacheWays) {
		e := &c.list[(place+i)%fieldCacheSize]
		if e.name == name && e.value == value && name != "" {
			return e
		}
	}
	return nil
}

// keep remembers a clean field: where there is room, or one of that name is, as it is
// likely that this is its next value.
func (c *fieldCache) keep(place uint32, name, value string) {
	if len(name)+len(value) > fieldCacheBytes {
		return
	}
	c.next++
	at := &c.list[(place+uint32(c.next)%fieldCacheWays)%fieldCacheSize]
	for i := range uint32(fieldCacheWays) {
		if e := &c.list[(place+i)%fieldCacheSize]; e.name == "" || e.name == name {
			at = e
			break
		}
	}
	*at = cachedField{name, value}
}

// fieldPlace returns the place of a field with its parts at these addresses.
func fieldPlace(name, value uint64) uint32 {
	return (uint32(name)*0x9e3779b1 ^ uint32(value)*0x85ebca77) >> (32 - fieldCacheBits)
}
