package host

import "strings"

// fieldByte says what a byte may be part of.
const (
	inName  = 1 << iota // a token (RFC 9110 5.6.2)
	inLower             // a token in lower case
	inValue             // a field value (RFC 9110 5.5): no control byte but HTAB
)

// fieldBytes classifies bytes.
var fieldBytes = func() (t [256]byte) {
	for c := range t {
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
// constants at the same addresses all the time: these are where a field is looked for,
// and its bytes are what it is found by.
type fieldCache [fieldCacheSize]struct{ name, value string }

// find returns the strings equal to name and value, which are borrowed. Without them
// place is where keep puts them.
func (c *fieldCache) find(at, valueAt uint64, name, value string) (place uint32, ownName, ownValue string, ok bool) {
	place = (uint32(at)*0x9e3779b1 ^ uint32(valueAt)*0x85ebca77) >> (32 - fieldCacheBits)
	e := &c[place]
	if e.name != name || e.value != value || name == "" {
		return place, "", "", false
	}
	return place, e.name, e.value, true
}

// keep remembers a clean field.
func (c *fieldCache) keep(place uint32, name, value string) {
	if len(name)+len(value) <= fieldCacheBytes {
		c[place].name, c[place].value = name, value
	}
}
