package route

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Candidate is a route that Explain looked at.
type Candidate[T any] struct {
	Name    string // of the route
	Value   T
	Pattern string // host and path that came nearest, e.g. "api.example.com/v1/*"; without host: any
	Lost    string // "": it wins; else why it does not, beginning with the condition
}

// Explain returns the route that Match returns, if any, then those that lost,
// the nearest first, at most limit in all: first those whose host and path
// match, in the order in which Match tries them, then those whose path does
// not, then those whose host does not.
func (t *Table[T]) Explain(q *Request, limit int) []Candidate[T] {
	var winner *entry
	var list []Candidate[T]
	seen := make([]bool, len(t.entries))
	add := func(e *entry, lost string) {
		if !seen[e.route] {
			seen[e.route] = true
			list = append(list, Candidate[T]{e.name, t.entries[e.route].Value, e.pattern, lost})
		}
	}
	c := t.index.start(q)
	for e := c.next(); e != nil; e = c.next() {
		why, i := e.lost(q)
		switch {
		case why != lostNothing:
			// A later pattern of the same spec has the same conditions.
			add(e, e.describe(q, why, i))
		case winner == nil:
			winner = e
			add(e, "")
		default:
			add(e, "less specific than route "+strconv.Quote(winner.name))
		}
	}
	if i := slices.IndexFunc(list, func(c Candidate[T]) bool { return c.Lost == "" }); i > 0 {
		w := list[i]
		copy(list[1:], list[:i])
		list[0] = w
	}
	for p := t.index.start(q).paths; p != nil; p = p.next {
		for _, e := range sorted(p.all) {
			add(e, fmt.Sprintf("path: %q does not match", q.Path))
		}
	}
	for _, e := range sorted(t.index.entries()) {
		add(e, fmt.Sprintf("host: %q does not match", q.Host))
	}
	return list[:min(len(list), max(limit, 0))]
}

// sorted returns the entries by name of their route.
func sorted(list []*entry) []*entry {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *entry) int { return cmp.Compare(a.name, b.name) })
	return list
}

// entries returns every entry.
func (x *index) entries() []*entry {
	var list []*entry
	for _, p := range x.exact {
		list = append(list, p.all...)
	}
	if x.any != nil {
		list = append(list, x.any.all...)
	}
	return x.wild.entries(list)
}

// entries appends the entries at and below n.
func (n *label) entries(list []*entry) []*entry {
	if n.wild != nil {
		list = append(list, n.wild.all...)
	}
	for _, c := range n.child {
		list = c.entries(list)
	}
	return list
}

// describe says why q lost in words.
func (c *conditions) describe(q *Request, why loss, i int) string {
	switch why {
	case lostMethod:
		return fmt.Sprintf("method: %s is not %s", q.Method, or(c.methods))
	case lostListener:
		return fmt.Sprintf("listener: %q is not %s", q.Listener, or(c.listeners))
	case lostHeader:
		value, n := fieldValue(q.Fields, c.headers[i].Name)
		return "header " + c.headers[i].describe(value, n)
	case lostQuery:
		value, n := queryValue(q.Query, c.query[i].Name)
		return "query " + c.query[i].describe(value, n)
	default:
		return ""
	}
}

// describe says why a value that is there n times does not meet c.
func (c *Condition) describe(value string, n int) string {
	switch {
	case n == 0:
		return c.Name + ": is not there"
	case c.Absent:
		return c.Name + ": is there"
	case n > 1:
		return fmt.Sprintf("%s: is there %d times, so it has no one value", c.Name, n)
	default:
		return fmt.Sprintf("%s: %q is not %s", c.Name, value, or(c.Values))
	}
}

// or joins alternatives.
func or(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return strings.Join(quoted, " or ")
}
