package h1

import "strings"

// nextMember cuts the first member, without white space around it, from a
// comma-separated list. A comma at the very end counts as an empty member that
// nobody sees.
func nextMember(list string) (member, rest string) {
	if i := strings.IndexByte(list, ','); i >= 0 {
		member, rest = list[:i], list[i+1:]
	} else {
		member = list
	}
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

// equalFold compares ASCII without case; b is in lower case. strings.EqualFold
// would take the Kelvin sign for a k.
func equalFold(a, b string) bool {
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

// lower puts a token in lower case.
func lower(s string) string { return strings.ToLower(s) }
