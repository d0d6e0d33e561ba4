package route

import (
	"regexp"
	"slices"
	"strings"

	"wproxy/core/exchange"
)

// conditions is what an entry asks for beside host, exact path and prefix.
type conditions struct {
	regex     *regexp.Regexp // nil: none
	literal   string         // every path that regex matches starts with it
	methods   []string
	listeners []string
	headers   []Condition
	query     []Condition
	priority  int
}

// count is the number of further conditions, which decides between entries for
// the same host and path.
func (c *conditions) count() int {
	n := len(c.headers) + len(c.query)
	if len(c.methods) > 0 {
		n++
	}
	if len(c.listeners) > 0 {
		n++
	}
	return n
}

// matchPath reports whether the regex, if any, matches.
func (c *conditions) matchPath(path string) bool {
	return c.regex == nil || strings.HasPrefix(path, c.literal) && c.regex.MatchString(path)
}

// loss says which condition did not hold.
type loss uint8

const (
	lostNothing loss = iota
	lostMethod
	lostListener
	lostHeader
	lostQuery
)

// lost returns the first condition that q does not meet; i is the index of a
// header or query condition.
func (c *conditions) lost(q *Request) (why loss, i int) {
	if len(c.methods) > 0 && !slices.Contains(c.methods, q.Method) {
		return lostMethod, 0
	}
	if len(c.listeners) > 0 && !slices.Contains(c.listeners, q.Listener) {
		return lostListener, 0
	}
	for i := range c.headers {
		if !c.headers[i].met(fieldValue(q.Fields, c.headers[i].Name)) {
			return lostHeader, i
		}
	}
	for i := range c.query {
		if !c.query[i].metQuery(q.Query) {
			return lostQuery, i
		}
	}
	return lostNothing, 0
}

// met reports whether a field that is there n times, with this value if n is
// 1, meets c.
func (c *Condition) met(value string, n int) bool {
	switch {
	case c.Absent:
		return n == 0
	case len(c.Values) == 0:
		return n > 0
	default:
		return n == 1 && slices.Contains(c.Values, value)
	}
}

// fieldValue returns how many lines called name there are, and the value of
// the last.
func fieldValue(f *exchange.Fields, name string) (value string, n int) {
	if f == nil {
		return "", 0
	}
	for i := range f.Len() {
		if l := f.At(i); l.Name == name {
			value = l.Value
			n++
		}
	}
	return value, n
}

// metQuery is met for a parameter of a raw query. Values stay encoded: the
// condition's are compared while decoding, so nothing is allocated.
func (c *Condition) metQuery(query string) bool {
	value, n := queryValue(query, c.Name)
	if n != 1 || c.Absent || len(c.Values) == 0 {
		return c.met("", n)
	}
	for _, v := range c.Values {
		if equalDecoded(value, v) {
			return true
		}
	}
	return false
}

// queryValue returns how many parameters called name a raw query has, and the
// encoded value of the last. Parameters are separated by "&".
func queryValue(query, name string) (value string, n int) {
	for query != "" {
		var p string
		p, query, _ = strings.Cut(query, "&")
		k, v, _ := strings.Cut(p, "=")
		if p != "" && equalDecoded(k, name) {
			value = v
			n++
		}
	}
	return value, n
}

// QueryValue returns the value of the parameter called name of a raw query, encoded as
// it was sent, and how many there are; the last counts.
func QueryValue(query, name string) (value string, n int) { return queryValue(query, name) }

// equalDecoded reports whether encoded, with "+" for a space and %XX, stands
// for plain. A bad escape stands for itself.
func equalDecoded(encoded, plain string) bool {
	j := 0
	for i := 0; i < len(encoded); i++ {
		c := encoded[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(encoded):
			hi, ok1 := exchange.HexDigit(encoded[i+1])
			lo, ok2 := exchange.HexDigit(encoded[i+2])
			if ok1 && ok2 {
				c = hi<<4 | lo
				i += 2
			}
		}
		if j >= len(plain) || plain[j] != c {
			return false
		}
		j++
	}
	return j == len(plain)
}

// disjoint reports whether no request can meet both a and b. It may say false
// for some that are: two regular expressions are told apart by their literal
// beginnings only.
func disjoint(a, b *conditions) bool {
	if a.regex != nil && b.regex != nil && !strings.HasPrefix(a.literal, b.literal) && !strings.HasPrefix(b.literal, a.literal) {
		return true
	}
	if disjointSets(a.methods, b.methods) || disjointSets(a.listeners, b.listeners) {
		return true
	}
	return disjointLists(a.headers, b.headers) || disjointLists(a.query, b.query)
}

// disjointSets: an empty set means any.
func disjointSets(a, b []string) bool {
	return len(a) > 0 && len(b) > 0 && !slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// disjointLists compares the conditions on the same names.
func disjointLists(a, b []Condition) bool {
	for i := range a {
		j := slices.IndexFunc(b, func(c Condition) bool { return c.Name == a[i].Name })
		if j >= 0 && (a[i].Absent != b[j].Absent || disjointSets(a[i].Values, b[j].Values)) {
			return true
		}
	}
	return false
}

// covers reports whether every request that meets b meets a. It may say false
// for some that do.
func covers(a, b *conditions) bool {
	if a.regex != nil && (b.regex == nil || a.regex.String() != b.regex.String()) {
		return false
	}
	return subset(b.methods, a.methods) && subset(b.listeners, a.listeners) &&
		implied(a.headers, b.headers) && implied(a.query, b.query)
}

// subset reports whether a is within b; an empty set means any.
func subset(a, b []string) bool {
	if len(b) == 0 {
		return true
	}
	return len(a) > 0 && !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

// implied reports whether who meets all of b meets all of a.
func implied(a, b []Condition) bool {
	for i := range a {
		j := slices.IndexFunc(b, func(c Condition) bool { return c.Name == a[i].Name })
		if j < 0 || a[i].Absent != b[j].Absent || !subset(b[j].Values, a[i].Values) {
			return false
		}
	}
	return true
}
