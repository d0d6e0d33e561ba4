package route

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A builder makes an index from specs.
type builder struct {
	specs   []*Spec
	index   index
	hosts   map[string]*paths
	errs    []error
	clashes map[[2]int]bool // pairs of specs that were reported
	shadows []Shadow
}

func newBuilder(specs []*Spec) *builder {
	return &builder{
		specs:   specs,
		index:   index{exact: map[string]*paths{}},
		hosts:   map[string]*paths{},
		clashes: map[[2]int]bool{},
	}
}

// addf records a mistake.
func (b *builder) addf(route, other, format string, args ...any) {
	if len(b.errs) < maxErrors {
		b.errs = append(b.errs, &Error{Route: route, Other: other, Text: fmt.Sprintf(format, args...)})
	}
}

func (b *builder) build() {
	names := map[string]bool{}
	for i, s := range b.specs {
		if names[s.Name] {
			b.addf(s.Name, s.Name, "is there twice")
		}
		names[s.Name] = true
		b.spec(i, s)
	}
	b.link()
	covered := make([]*entry, len(b.specs)) // by what the spec's last pattern is covered
	open := make([]bool, len(b.specs))      // some pattern of the spec can match
	hosts := make([]string, 0, len(b.hosts))
	for h := range b.hosts {
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	for _, h := range hosts {
		p := b.hosts[h]
		b.finish(&p.root, nil)
		b.list(&p.regex)
		b.list(&p.any)
		for _, e := range p.all {
			if by := p.coverOf(e); by != nil {
				covered[e.route] = by
			} else {
				open[e.route] = true
			}
		}
	}
	for i, by := range covered {
		if by != nil && !open[i] {
			b.shadows = append(b.shadows, Shadow{Route: b.specs[i].Name, By: by.name, Pattern: by.pattern})
		}
	}
	slices.SortFunc(b.shadows, func(x, y Shadow) int { return cmp.Compare(x.Route, y.Route) })
}

// spec adds the entries of one spec: each host with each path.
func (b *builder) spec(i int, s *Spec) {
	c := conditions{methods: s.Methods, listeners: s.Listeners, headers: s.Headers, query: s.Query, priority: s.Priority}
	patterns, ok := b.patterns(s, &c)
	for _, list := range [][]Condition{s.Headers, s.Query} {
		names := map[string]bool{}
		for _, x := range list {
			if x.Name == "" || names[x.Name] || x.Absent && len(x.Values) > 0 {
				b.addf(s.Name, "", "condition on %q is empty, there twice, or both absent and with a value", x.Name)
			}
			names[x.Name] = true
		}
	}
	hosts := s.Hosts
	if len(hosts) == 0 {
		hosts = []string{"*"}
	}
	seen := map[string]bool{}
	for _, h := range hosts {
		h, err := checkHost(h)
		if err != nil {
			b.addf(s.Name, "", "%v", err)
			continue
		}
		if seen[h] || !ok {
			continue
		}
		seen[h] = true
		p := b.host(h)
		for _, pat := range patterns {
			e := &entry{conditions: c, route: i, name: s.Name, pattern: describe(h, pat), path: pat}
			p.add(pat, e)
		}
	}
}

// patterns parses the paths of a spec, and puts its regex into c.
func (b *builder) patterns(s *Spec, c *conditions) (list []pattern, ok bool) {
	if s.PathRegex != "" {
		re, err := regexp.Compile(s.PathRegex)
		if err != nil || len(s.Paths) > 0 {
			b.addf(s.Name, "", "path_regex is not valid, or there is a path too: %v", err)
			return nil, false
		}
		c.regex, c.literal = re, literalPrefix(re)
		return []pattern{{kindRegex, " ~ " + s.PathRegex}}, true
	}
	if len(s.Paths) == 0 {
		return []pattern{{kind: kindAny}}, true
	}
	ok = true
	for _, path := range s.Paths {
		p, err := parsePath(path)
		if err != nil {
			b.addf(s.Name, "", "%v", err)
			ok = false
		} else if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list, ok
}

// host returns the paths of a host pattern, new if need be.
func (b *builder) host(h string) *paths {
	if p := b.hosts[h]; p != nil {
		return p
	}
	p := &paths{host: h}
	b.hosts[h] = p
	name, wild := strings.CutPrefix(h, "*.")
	switch {
	case h == "*":
		b.index.any = p
	case wild:
		n := &b.index.wild
		for end := len(name); end >= 0; {
			i := strings.LastIndexByte(name[:end], '.')
			if n.child == nil {
				n.child = map[string]*label{}
			}
			part := name[i+1 : end]
			if n.child[part] == nil {
				n.child[part] = &label{}
			}
			n = n.child[part]
			end = i
		}
		n.wild = p
	default:
		b.index.exact[h] = p
	}
	return p
}

// add puts e where the cursor finds it.
func (p *paths) add(pat pattern, e *entry) {
	p.all = append(p.all, e)
	switch pat.kind {
	case kindRegex:
		p.regex = append(p.regex, e)
	case kindAny:
		p.any = append(p.any, e)
	case kindExact, kindPrefix:
		s := &p.root
		for part := range strings.SplitSeq(pat.path[1:], "/") {
			if s.child == nil {
				s.child = map[string]*segment{}
			}
			if s.child[part] == nil {
				s.child[part] = &segment{}
			}
			s = s.child[part]
		}
		if pat.kind == kindExact {
			s.exact = append(s.exact, e)
		} else {
			s.prefix = append(s.prefix, e)
		}
	}
}

// link ties every host pattern to the next less specific one that covers it.
func (b *builder) link() {
	for h, p := range b.hosts {
		if h != "*" {
			p.next = b.index.wildcard(strings.TrimPrefix(h, "*."))
		}
	}
}

// finish ties the segments below s to the prefixes above them and sorts their lists.
func (b *builder) finish(s, above *segment) {
	s.up, s.near = above, above
	if len(s.prefix) > 0 {
		s.near = s
	}
	b.list(&s.exact)
	b.list(&s.prefix)
	parts := make([]string, 0, len(s.child))
	for part := range s.child {
		parts = append(parts, part)
	}
	slices.Sort(parts) // so that mistakes come in a fixed order
	for _, part := range parts {
		b.finish(s.child[part], s.near)
	}
}

// list sorts entries for the same host and path, and reports those between
// which nothing decides.
func (b *builder) list(list *[]*entry) {
	l := *list
	slices.SortStableFunc(l, func(x, y *entry) int {
		return cmp.Or(cmp.Compare(y.count(), x.count()), cmp.Compare(y.priority, x.priority),
			cmp.Compare(x.literal, y.literal), cmp.Compare(x.name, y.name))
	})
	for i, x := range l {
		for _, y := range l[i+1:] {
			if x.count() != y.count() || x.priority != y.priority || !strings.HasPrefix(y.literal, x.literal) {
				break // sorted: no later one has the same rank and a literal that starts with x's
			}
			b.clash(x, y)
		}
	}
}

// clash reports x and y if one request can meet both.
func (b *builder) clash(x, y *entry) {
	if x.route == y.route || disjoint(&x.conditions, &y.conditions) {
		return
	}
	if x.name > y.name {
		x, y = y, x
	}
	pair := [2]int{x.route, y.route}
	if b.clashes[pair] {
		return
	}
	b.clashes[pair] = true
	where := x.pattern
	if y.pattern != where {
		where += " and " + y.pattern
	}
	b.addf(y.name, x.name, "is as specific as route %q for %s, and a request can meet both: "+
		"give one of them a further condition or a priority", x.name, where)
}

// coverOf returns an entry that always wins over e, or nil. Only entries that
// come before e can: those of the same list with a higher priority and, for a
// regex, the prefixes that contain all it can match.
func (p *paths) coverOf(e *entry) *entry {
	if e.regex != nil {
		s := &p.root
		for rest, ok := strings.CutPrefix(e.literal, "/"); ok && s != nil; {
			var part string
			if part, rest, ok = strings.Cut(rest, "/"); !ok {
				break // the last segment may go on beyond the literal
			}
			if s = s.child[part]; s != nil {
				if by := first(s.prefix, e); by != nil {
					return by
				}
			}
		}
		return first(p.regex, e)
	}
	return first(p.listOf(e), e)
}

// listOf returns the list that holds e, which has no regex.
func (p *paths) listOf(e *entry) []*entry {
	if e.path.kind == kindAny {
		return p.any
	}
	s := &p.root
	for part := range strings.SplitSeq(e.path.path[1:], "/") {
		s = s.child[part]
	}
	if e.path.kind == kindPrefix {
		return s.prefix
	}
	return s.exact
}

// first returns the first entry before e in list that covers e. list may be of
// other entries only.
func first(list []*entry, e *entry) *entry {
	for _, x := range list {
		if x == e {
			return nil
		}
		if x.route != e.route && covers(&x.conditions, &e.conditions) {
			return x
		}
	}
	return nil
}
