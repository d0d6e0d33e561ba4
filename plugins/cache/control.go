package main

import (
	"strings"

	"wproxy/plugins/internal/settings"
)

// A control is what Cache-Control and its kin say (RFC 9111, 5.2; RFC 5861; RFC 8246). Times are in
// seconds; -1: not said.
type control struct {
	present bool // there is a field at all
	strict  bool // numbers in quotes are none, as in structured fields

	noStore, noCache, private, public               bool
	mustRevalidate, proxyRevalidate, mustUnderstand bool
	immutable, onlyIfCached                         bool
	maxAge, sMaxAge, staleRevalidate, staleError    int64
	maxStale, minFresh                              int64
	noCacheFields                                   []string // names that no-cache is restricted to
}

func newControl() control {
	return control{maxAge: -1, sMaxAge: -1, staleRevalidate: -1, staleError: -1, maxStale: -1, minFresh: -1}
}

// add reads a line of the field. A directive that comes twice is taken at its strictest.
func (c *control) add(line string) {
	c.present = true
	for line != "" {
		var name, value string
		var has, quoted bool
		name, value, has, quoted, line = cutDirective(line)
		switch {
		case is(name, "no-store"):
			c.noStore = true
		case is(name, "no-cache"):
			if has && value != "" {
				c.noCacheFields = append(c.noCacheFields, fieldNames(value)...)
			} else {
				c.noCache = true
			}
		case is(name, "private"): // with names too: the rest is not worth the risk
			c.private = true
		case is(name, "public"):
			c.public = true
		case is(name, "must-revalidate"):
			c.mustRevalidate = true
		case is(name, "proxy-revalidate"):
			c.proxyRevalidate = true
		case is(name, "must-understand"):
			c.mustUnderstand = true
		case is(name, "immutable"):
			c.immutable = true
		case is(name, "only-if-cached"):
			c.onlyIfCached = true
		case is(name, "max-age"):
			least(&c.maxAge, value, quoted && c.strict)
		case is(name, "s-maxage"):
			least(&c.sMaxAge, value, quoted && c.strict)
		case is(name, "stale-while-revalidate"):
			least(&c.staleRevalidate, value, quoted && c.strict)
		case is(name, "stale-if-error"):
			least(&c.staleError, value, quoted && c.strict)
		case is(name, "max-stale") && !has:
			c.maxStale = maxSeconds
		case is(name, "max-stale"):
			least(&c.maxStale, value, quoted && c.strict)
		case is(name, "min-fresh"):
			least(&c.minFresh, value, quoted && c.strict)
		}
	}
}

// is reports whether a name is another, without regard to case: most are not even as long.
func is(name, other string) bool { return len(name) == len(other) && equalFold(name, other) }

// trim cuts white space off both ends.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// least sets to to the seconds in value unless it is less already. What is no number is
// 0: a time that cannot be read must not make anything fresh (RFC 9111, 4.2.1). Quotes are
// accepted, as recipients ought to (5.2), unless the field is strict.
func least(to *int64, value string, bad bool) {
	n, ok := number(value)
	if !ok || bad {
		n = 0
	}
	n = min(n, maxSeconds)
	if *to < 0 || n < *to {
		*to = n
	}
}

// cutDirective cuts the first directive off a line.
func cutDirective(line string) (name, value string, has, quoted bool, rest string) {
	i := 0
	for i < len(line) && line[i] != ',' && line[i] != '=' {
		i++
	}
	name = trim(line[:i])
	if i == len(line) || line[i] == ',' {
		return name, "", false, false, line[min(i+1, len(line)):]
	}
	line = line[i+1:]
	if line == "" || line[0] != '"' {
		i = strings.IndexByte(line, ',')
		if i < 0 {
			i = len(line)
		}
		return name, trim(line[:i]), true, false, line[min(i+1, len(line)):]
	}
	for i = 1; i < len(line) && line[i] != '"'; i++ {
		if line[i] == '\\' {
			i++
		}
	}
	value = line[1:min(i, len(line))]
	if i = min(i+1, len(line)); true {
		line = line[i:]
	}
	if i = strings.IndexByte(line, ','); i < 0 {
		return name, value, true, true, ""
	}
	return name, value, true, true, line[i+1:]
}

// fieldNames returns the names in a list, in lower case.
func fieldNames(list string) []string {
	var out []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.Trim(name, " \t\""); name != "" {
			out = addName(out, settings.Lower(name))
		}
	}
	return out
}
