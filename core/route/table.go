package route

import (
	"errors"
	"strconv"
	"strings"
)

// A Table finds the route of a request. It is immutable and safe for
// concurrent use.
type Table[T any] struct {
	entries []Entry[T]
	index   index
	shadows []Shadow
}

// New builds a table; the specs are not copied deeply and must not change
// afterwards. The error joins one *Error per mistake.
func New[T any](routes []Entry[T]) (*Table[T], error) {
	specs := make([]*Spec, len(routes))
	for i := range routes {
		specs[i] = &routes[i].Spec
	}
	b := newBuilder(specs)
	b.build()
	if len(b.errs) > 0 {
		return nil, errors.Join(b.errs...)
	}
	return &Table[T]{entries: routes, index: b.index, shadows: b.shadows}, nil
}

// Match returns the value of the most specific route for q, and false if there
// is none. It allocates nothing.
func (t *Table[T]) Match(q *Request) (v T, ok bool) {
	c := t.index.start(q)
	for e := c.next(); e != nil; e = c.next() {
		if why, _ := e.lost(q); why == lostNothing {
			return t.entries[e.route].Value, true
		}
	}
	return v, false
}

// An Error is what is wrong with a spec, or with two.
type Error struct {
	// Route is the name of the spec.
	Route string
	// Other is the name of the spec it clashes with, or "".
	Other string
	// Text says what is wrong, without the route's name.
	Text string
}

// Error implements error.
func (e *Error) Error() string { return "route " + strconv.Quote(e.Route) + ": " + e.Text }

// An index holds all entries by host and path.
type index struct {
	exact map[string]*paths // by host
	wild  label             // root of the wildcards, by label from the right
	any   *paths            // routes for any host; nil: none
}

// A label is a node of the tree of wildcards.
type label struct {
	child map[string]*label
	wild  *paths // of "*." in front of the labels that led here; nil: none
}

// paths holds the routes of one host pattern.
type paths struct {
	host  string  // the pattern; "*": any
	next  *paths  // of the next less specific pattern that covers this one
	root  segment // exact paths and prefixes
	regex []*entry
	any   []*entry
	all   []*entry // every entry, for Explain
}

// A segment is a node of the tree of paths, one per path segment.
type segment struct {
	child  map[string]*segment
	exact  []*entry // for the path that ends here
	prefix []*entry // for that and all below
	near   *segment // this, or the nearest above it, with a prefix; nil: none
	up     *segment // the nearest strictly above it with a prefix
}

// An entry is one host pattern and one path pattern of a spec. In every list,
// entries with more conditions come first, then those of higher priority.
type entry struct {
	conditions
	route   int // index of the spec
	name    string
	pattern string // host and path, for people
	path    pattern
}

// start returns a cursor over the entries for q's host and path.
func (x *index) start(q *Request) cursor {
	p := x.exact[q.Host]
	if p == nil {
		p = x.wildcard(q.Host)
	}
	return cursor{path: q.Path, paths: p}
}

// wildcard returns the routes of the longest wildcard for host, else those for any host.
func (x *index) wildcard(host string) *paths {
	best := x.any
	n := &x.wild
	for end := len(host); n.child != nil; {
		i := strings.LastIndexByte(host[:end], '.')
		if n = n.child[host[i+1:end]]; n == nil || i <= 0 {
			break // unknown, or nothing left for the star to stand for
		}
		if n.wild != nil {
			best = n.wild
		}
		end = i
	}
	return best
}

// A cursor visits the entries whose host and path match, the most specific
// first. Both Match and Explain use it, so they cannot disagree.
type cursor struct {
	path  string
	paths *paths   // of the host pattern at hand; nil: none is left
	seg   *segment // the next prefix to visit
	stage stage
	list  []*entry // what is left of the list at hand
}

// stage says which list of a host pattern comes next.
type stage uint8

const (
	stageExact stage = iota
	stagePrefix
	stageRegex
	stageAny
)

// next returns the next entry, or nil.
func (c *cursor) next() *entry {
	for {
		for len(c.list) > 0 {
			e := c.list[0]
			c.list = c.list[1:]
			if e.matchPath(c.path) {
				return e
			}
		}
		if !c.advance() {
			return nil
		}
	}
}

// advance moves to the next list; false if there is none.
func (c *cursor) advance() bool {
	p := c.paths
	if p == nil {
		return false
	}
	switch c.stage {
	case stageExact:
		c.list, c.seg = p.root.walk(c.path)
		c.stage = stagePrefix
	case stagePrefix:
		if c.seg == nil {
			c.stage = stageRegex
			break
		}
		c.list, c.seg = c.seg.prefix, c.seg.up
	case stageRegex:
		c.list, c.stage = p.regex, stageAny
	case stageAny:
		c.list, c.stage, c.paths = p.any, stageExact, p.next
	}
	return true
}

// walk goes down as far as the tree knows path, so a long path costs no more
// than the longest pattern. It returns the entries for exactly path and the
// deepest segment on the way that has a prefix.
func (s *segment) walk(path string) (exact []*entry, near *segment) {
	if path == "" || path[0] != '/' {
		return nil, nil // "*": only routes without a path are for it
	}
	for rest := path[1:]; ; {
		i := strings.IndexByte(rest, '/')
		name := rest
		if i >= 0 {
			name = rest[:i]
		}
		child := s.child[name]
		if child == nil {
			return nil, s.near
		}
		s = child
		if i < 0 {
			return s.exact, s.near
		}
		rest = rest[i+1:]
	}
}
