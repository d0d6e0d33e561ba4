package strict

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// checkTarget wants the one form in which a proxy forwards a target: origin
// form (or "*" with OPTIONS), its path canonical after RFC 3986 6.2.2: no dot
// segments, no raw or encoded byte that could have been the other way, escapes
// in upper case. The query is opaque, but visible ASCII.
func checkTarget(method, target string) error {
	if target == "*" && method == "OPTIONS" {
		return nil
	}
	if !strings.HasPrefix(target, "/") {
		return violation("target %q is not in origin form", target)
	}
	path, query, _ := strings.Cut(target, "?")
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return violation("byte %#x in the query of %q", c, target)
		}
	}
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' {
			if i+2 >= len(path) || !upperHex(path[i+1]) || !upperHex(path[i+2]) {
				return violation("escape in %q is not canonical", target)
			}
			v, err := strconv.ParseUint(path[i+1:i+3], 16, 8)
			if err != nil || unreserved(byte(v)) || v == 0 {
				return violation("escape %s in %q", path[i:i+3], target)
			}
			i += 2
			continue
		}
		if !unreserved(c) && strings.IndexByte("/!$&'()*+,;=:@", c) < 0 {
			return violation("byte %#x in the path of %q", c, target)
		}
	}
	for seg := range strings.SplitSeq(path, "/") {
		if seg == "." || seg == ".." {
			return violation("dot segment in %q", target)
		}
	}
	return nil
}

func upperHex(c byte) bool { return '0' <= c && c <= '9' || 'A' <= c && c <= 'F' }

// unreserved is RFC 3986 2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// hopByHop are fields that end at a proxy (RFC 9110 7.6.1 and appendix B.2 of
// RFC 7230; the http2-settings field of RFC 7540 3.2.1).
var hopByHop = []string{
	"keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authentication-info", "http2-settings", "expect",
}

// checkRequestFields checks what RFC 9112 and RFC 9110 say of the fields of a
// request that a proxy sends.
func checkRequestFields(f Fields) error {
	host := f.All("host")
	if len(host) != 1 {
		return violation("%d host fields: %q", len(host), host)
	}
	if err := checkHost(host[0]); err != nil {
		return err
	}
	if _, err := parseFraming(f); err != nil {
		return err
	}
	for _, name := range append(hopByHop, "proxy-authorization") {
		if v := f.All(name); v != nil {
			return violation("field %s: %q ends at the proxy", name, v)
		}
	}
	if err := checkConnection(f); err != nil {
		return err
	}
	for _, v := range list(f.All("te")) {
		if v != "trailers" {
			return violation("te: %s", v)
		}
	}
	return nil
}

// checkConnection: a connection field only names what belongs to this hop, and
// upgrade is there exactly when it is nominated.
func checkConnection(f Fields) error {
	options := list(f.All("connection"))
	for _, o := range options {
		if !slices.Contains([]string{"close", "keep-alive", "upgrade", "te"}, o) {
			return violation("connection: %s was passed on", o)
		}
	}
	upgrade := f.All("upgrade")
	if (len(upgrade) > 0) != slices.Contains(options, "upgrade") {
		return violation("upgrade %q with connection %q", upgrade, options)
	}
	for _, u := range list(upgrade) {
		if strings.HasPrefix(u, "h2c") {
			return violation("upgrade: %s", u)
		}
	}
	return nil
}

// checkHost wants uri-host [":" port] (RFC 9110 7.2), in lower case.
func checkHost(h string) error {
	host := h
	if i := strings.LastIndexByte(h, ':'); i >= 0 && !strings.HasSuffix(h, "]") {
		host = h[:i]
		if n, err := parseLength(h[i+1:], 10); err != nil || n < 1 || n > 65535 {
			return violation("host %q", h)
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if a, err := netip.ParseAddr(inner); !ok || err != nil || !a.Is6() {
			return violation("host %q", h)
		}
		return nil
	}
	for i := range len(host) {
		if c := host[i]; !unreserved(c) || 'A' <= c && c <= 'Z' {
			return violation("host %q", h)
		}
	}
	if host == "" {
		return violation("empty host")
	}
	return nil
}

// checkResponseFields checks the fields of a final response from a proxy.
func checkResponseFields(resp *Response) error {
	fr, err := parseFraming(resp.Fields)
	if err != nil {
		return err
	}
	if (resp.Status == 204 || resp.Status == 101) && (fr.chunked || fr.has) {
		return violation("framing fields in a %d response (RFC 9112 6.1, RFC 9110 8.6)", resp.Status)
	}
	for _, name := range []string{"keep-alive", "proxy-connection", "proxy-authentication-info"} {
		if v := resp.Fields.All(name); v != nil {
			return violation("field %s: %q ends at the proxy", name, v)
		}
	}
	if n := len(resp.Fields.All("date")); n != 1 {
		return violation("%d date fields (RFC 9110 6.6.1)", n)
	}
	return checkConnection(resp.Fields)
}
