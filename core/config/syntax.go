package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// checkHostPattern checks "a.example.com", "*.example.com", "*" and addresses.
func checkHostPattern(h string) error {
	name := strings.TrimPrefix(h, "*.")
	if h == "*" || isName(name) && !strings.HasSuffix(name, ".") {
		return nil
	}
	if _, err := netip.ParseAddr(h); err == nil {
		return nil
	}
	switch {
	case h == "":
		return errors.New("is empty; leave it out for any host")
	case strings.Contains(name, "*"):
		return fmt.Errorf("%q: a * stands for whole labels at the front only; for example \"*.example.com\"", h)
	case strings.Contains(h, "/"):
		return fmt.Errorf("%q: a host has no scheme and no path; leave them out", h)
	case strings.Contains(h, ":"):
		return fmt.Errorf("%q: a host has no port; restrict the route by listener instead", h)
	case strings.HasSuffix(h, "."):
		return fmt.Errorf("%q: write it without the dot at the end; requests are matched without it", h)
	case !isASCII(h):
		return fmt.Errorf("%q: write an internationalised name in its ASCII form (xn--)", h)
	}
	return fmt.Errorf("%q is not a host name; for example www.example.com", h)
}

// checkPathPattern checks "/a", "/a/*" and "/*".
func checkPathPattern(p string) error {
	fixed := strings.TrimSuffix(p, "/*")
	switch {
	case p == "":
		return errors.New("is empty; leave it out for any path")
	case p[0] != '/':
		return fmt.Errorf("%q: a path begins with /; write it", p)
	case strings.ContainsAny(p, "?#"):
		return fmt.Errorf("%q: a path has no query; use when = { query = { ... } }", p)
	case strings.HasSuffix(fixed, "*"):
		return fmt.Errorf("%q: write \"%s/*\" for everything below it; a * inside a segment needs path_regex", p, strings.TrimRight(fixed, "*/"))
	case strings.Contains(fixed, "*"):
		return fmt.Errorf("%q: a * stands at the end, after a slash; for more use path_regex", p)
	case strings.HasSuffix(fixed, "/") && fixed != p:
		return fmt.Errorf("%q: an empty segment before the *; write %q", p, strings.TrimRight(fixed, "/")+"/*")
	case strings.ContainsAny(p, " \t"):
		return fmt.Errorf("%q: write a space as %%20", p)
	}
	return nil
}

// checkTemplate checks a replacement against the groups of re.
func checkTemplate(re *regexp.Regexp, to string) error {
	if !strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "$") {
		return fmt.Errorf("%q does not begin with / or a group, so that the result would not be a path; begin it with /", to)
	}
	for _, ref := range templateRefs.FindAllStringSubmatch(to, -1) {
		name := ref[1] + ref[2]
		if name == "" { // "$$" or a lone "$"
			continue
		}
		if n, err := strconv.Atoi(name); err == nil {
			if n > re.NumSubexp() {
				return fmt.Errorf("%q: $%d, but the regex has %d groups; they count from 1", to, n, re.NumSubexp())
			}
		} else if re.SubexpIndex(name) < 0 {
			return fmt.Errorf("%q: the regex has no group %q; write ${1} to end a group's number", to, name)
		}
	}
	return nil
}

// templateRefs finds $$, $1, $name, ${1} and ${name}, by the rules of regexp.Expand.
var templateRefs = regexp.MustCompile(`\$(?:\$|(\w+)|\{(\w+)\})`)

// isTarget reports whether s has only bytes that may stand in a URL.
func isTarget(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return false
		}
	}
	return true
}

// isASCII reports whether s has no byte above 0x7f.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// isToken reports whether s is a token (RFC 9110 5.6.2): a method or field name.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
