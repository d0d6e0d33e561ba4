package route

import (
	"fmt"
	"regexp"
	"strings"

	"wproxy/core/exchange"
)

// A Rewrite changes the path that the upstream sees. nil changes nothing. It
// is immutable and safe for concurrent use.
type Rewrite struct {
	strip string
	path  string
	regex *regexp.Regexp
	to    string
}

// RewriteSpec says how; Strip comes first, then either Path or Regex with To.
type RewriteSpec struct {
	Strip string // path prefix to take away, at a segment border; "" none
	Path  string // replaces the path; "" no
	Regex string // RE2; where it matches, To replaces the match
	To    string // with $1 or ${1} for groups
}

// NewRewrite compiles s. It returns nil for a spec that changes nothing.
func NewRewrite(s RewriteSpec) (*Rewrite, error) {
	if s == (RewriteSpec{}) {
		return nil, nil
	}
	w := &Rewrite{strip: s.Strip, path: s.Path, to: s.To}
	for _, p := range []string{s.Strip, s.Path} {
		if p == "" {
			continue
		}
		if pat, err := parsePath(p); err != nil {
			return nil, err
		} else if pat.kind != kindExact {
			return nil, fmt.Errorf("path %q: no * is possible here", p)
		}
	}
	if strings.HasSuffix(s.Strip, "/") {
		return nil, fmt.Errorf("path %q: a prefix to strip ends before a slash", s.Strip)
	}
	if s.Regex == "" {
		return w, nil
	}
	if s.Path != "" {
		return nil, fmt.Errorf("path %q and regex %q exclude each other", s.Path, s.Regex)
	}
	var err error
	w.regex, err = regexp.Compile(s.Regex)
	return w, err
}

// Apply changes r's target; the query is kept byte for byte. Stripping a prefix
// allocates nothing, except for a path that becomes empty before a query.
//
// What a regex made is canonicalised again: a group may have caught half a
// segment, and "/a" followed by such a half can become a dot segment that the
// client did not send as one. The error is an *exchange.Error with Status 400;
// r is unchanged then.
func (w *Rewrite) Apply(r *exchange.Request) error {
	if w == nil || r.Target == "" || r.Target[0] != '/' { // "*" has no path to change
		return nil
	}
	if w.strip != "" {
		strip(r, w.strip)
	}
	path := r.Path()
	switch {
	case w.path != "":
		r.SetTarget(w.path+r.Target[len(path):], len(w.path))
	case w.regex != nil:
		m := w.regex.FindStringSubmatchIndex(path)
		if m == nil {
			return nil
		}
		b := make([]byte, 0, len(r.Target)+len(w.to))
		b = append(b, path[:m[0]]...)
		b = w.regex.ExpandString(b, w.to, path, m)
		b = append(b, path[m[1]:]...)
		return r.ParseTarget(string(append(b, r.Target[len(path):]...)))
	}
	return nil
}

// strip takes prefix away where it ends at a segment border.
func strip(r *exchange.Request, prefix string) {
	path := r.Path()
	rest, ok := strings.CutPrefix(path, prefix)
	switch {
	case !ok || rest != "" && rest[0] != '/':
	case rest != "":
		r.SetTarget(r.Target[len(prefix):], len(rest))
	case len(r.Target) == len(path):
		r.SetTarget("/", 1)
	default:
		r.SetTarget("/"+r.Target[len(path):], 1)
	}
}
