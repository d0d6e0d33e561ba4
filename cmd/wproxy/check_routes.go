package main

import (
	"net/http"
	"net/netip"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"wproxy/core/config"
)

// routeWarnings returns the routes, and conditions of routes, that no request can meet.
func routeWarnings(f *config.File) (list config.Problems) {
	for _, r := range f.Routes {
		warn := func(code, key, format string, args ...any) {
			at := "routes." + r.Name
			if key != "" {
				at += "." + key
			}
			list = append(list, f.Problemf(at, "route %q: "+format, append([]any{r.Name}, args...)...).WithCode(code))
		}
		if doors := doorsOf(f, r); !slices.ContainsFunc(doors, func(l *config.Listener) bool { return l.Redirect == "" }) {
			key := ""
			if len(r.Listener) > 0 {
				key = "listener"
			}
			warn(codeUnreachable, key, "no request comes to it: every listener that it is for redirects all of them; name one that does not")
		}
		for i, m := range r.Methods {
			if m == http.MethodConnect {
				warn(codeCondition, "methods["+strconv.Itoa(i)+"]", "methods: CONNECT is answered with 501 before a route is looked for; leave it out")
			}
		}
		for i, p := range r.Path {
			if r.EncodedSlash != "keep" && hasEncodedSlash(p) {
				warn(codeCondition, "path["+strconv.Itoa(i)+"]", "path: %q is refused with 400; set encoded_slash = \"keep\"", p)
			}
		}
		if why := regexNever(r.PathRegex); why != "" {
			warn(codeCondition, "path_regex", "path_regex: %s", why)
		}
		if nobody(r) {
			warn(codeDenied, "deny", "deny: takes all addresses that allow lets in: everybody gets 403; leave one of the two out")
		} else {
			for i, p := range r.Allow {
				if slices.ContainsFunc(r.Deny, func(d netip.Prefix) bool { return within(p, d) }) {
					warn(codeDenied, "allow["+strconv.Itoa(i)+"]", "allow: %s has no effect, because deny takes all of it; leave one of the two out", p)
				}
			}
		}
	}
	return list
}

// doorsOf returns the listeners by which requests can come to r.
func doorsOf(f *config.File, r *config.Route) (list []*config.Listener) {
	for name, l := range f.Listeners {
		if len(r.Listener) == 0 || slices.Contains(r.Listener, name) {
			list = append(list, l)
		}
	}
	return list
}

// hasEncodedSlash reports whether a path in canonical form has one of the characters that
// encoded_slash is about: slash, backslash, NUL.
func hasEncodedSlash(path string) bool {
	return strings.Contains(path, "%2F") || strings.Contains(path, "%5C") || strings.Contains(path, "%00")
}

// nobody reports whether every address that r allows is one that it denies.
func nobody(r *config.Route) bool {
	if len(r.Deny) == 0 {
		return false
	}
	allow := r.Allow
	if len(allow) == 0 { // all
		allow = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	return !slices.ContainsFunc(allow, func(p netip.Prefix) bool {
		return !slices.ContainsFunc(r.Deny, func(d netip.Prefix) bool { return within(p, d) })
	})
}

// within reports whether all addresses of p are in d.
func within(p, d netip.Prefix) bool { return d.Bits() <= p.Bits() && d.Contains(p.Addr()) }

// regexNever says why an expression matches no path in canonical form; "": it may. A path
// begins with a slash and ends where a query or a fragment would begin.
func regexNever(expr string) string {
	if expr == "" {
		return ""
	}
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return "" // an error elsewhere
	}
	re = re.Simplify()
	parts := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		parts = re.Sub
	}
	for i, p := range parts {
		if p.Op != syntax.OpLiteral {
			continue
		}
		text := string(p.Rune)
		if i == 1 && parts[0].Op == syntax.OpBeginText && text[0] != '/' {
			return strconv.Quote(expr) + " can never match: a path begins with /; write ^/"
		}
		if c := strings.IndexAny(text, "?# "); c >= 0 {
			return strconv.Quote(expr) + " can never match: a path has no " + strconv.Quote(text[c:c+1]) +
				"; a query is matched by when.query, and a space is %20"
		}
	}
	return ""
}
