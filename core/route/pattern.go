package route

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"wproxy/core/exchange"
)

// maxErrors is where the list of mistakes is cut: beyond, they have one cause.
const maxErrors = 1000

// kind is the kind of a path pattern.
type kind uint8

const (
	kindExact kind = iota
	kindPrefix
	kindRegex
	kindAny
)

// A pattern is a path pattern. path has no "/*".
type pattern struct {
	kind kind
	path string
}

// parsePath parses "/a", "/a/*" and "/*".
func parsePath(s string) (pattern, error) {
	if s == "/*" {
		return pattern{kind: kindAny}, nil
	}
	p := pattern{kindExact, s}
	if fixed, ok := strings.CutSuffix(s, "/*"); ok {
		p = pattern{kindPrefix, fixed}
	}
	if strings.Contains(p.path, "*") || !strings.HasPrefix(p.path, "/") {
		return p, fmt.Errorf("path %q: begins with /, and has a * at the end after a slash only", s)
	}
	var r exchange.Request
	if err := r.ParseTarget(p.path); err != nil {
		return p, fmt.Errorf("path %q is not a valid path: %w", s, err)
	}
	if _, query := r.Query(); query {
		return p, fmt.Errorf("path %q has a query", s)
	}
	if r.Path() != p.path {
		return p, fmt.Errorf("path %q can never match: requests are matched in canonical form, which is %q", s, r.Path()+s[len(p.path):])
	}
	return p, nil
}

// String returns the pattern as it was written.
func (p pattern) String() string {
	switch p.kind {
	case kindPrefix:
		return p.path + "/*"
	case kindAny:
		return "/*"
	default:
		return p.path
	}
}

// describe writes host and path as messages show them; any host goes without saying.
func describe(host string, p pattern) string {
	if host == "*" {
		return strings.TrimPrefix(p.String(), " ")
	}
	return host + p.String()
}

// checkHost checks a host pattern and returns it with "*" for any.
func checkHost(h string) (string, error) {
	if h == "*" {
		return h, nil
	}
	name := strings.TrimPrefix(h, "*.")
	if name == "" || strings.ContainsAny(name, "*/ ") || strings.ToLower(name) != name ||
		strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") {
		return "", fmt.Errorf("host %q is not a name in lower case, a name after \"*.\", or \"*\"", h)
	}
	return h, nil
}

// literalPrefix returns what every path that the expression matches starts
// with. "" is always true.
func literalPrefix(re *regexp.Regexp) string {
	s, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return ""
	}
	s = s.Simplify()
	if s.Op != syntax.OpConcat || len(s.Sub) < 2 || s.Sub[0].Op != syntax.OpBeginText {
		return ""
	}
	if l := s.Sub[1]; l.Op == syntax.OpLiteral && l.Flags&syntax.FoldCase == 0 {
		return string(l.Rune)
	}
	return ""
}

// A Shadow is a route that can never match.
type Shadow struct {
	Route   string // that can never match
	By      string // what covers it
	Pattern string // host and path that By covers, e.g. "api.example.com/v1/*"; without host: any
}

// String says so in words.
func (s Shadow) String() string {
	return fmt.Sprintf("route %q can never match: %q covers %s with no extra condition", s.Route, s.By, s.Pattern)
}

// Shadowed returns the routes that can never match because others cover them,
// by name. A route that is covered by several others together is not found.
func (t *Table[T]) Shadowed() []Shadow { return t.shadows }
