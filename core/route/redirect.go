package route

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"wproxy/core/exchange"
)

// A Redirect composes the target of a redirect. It is immutable and safe for
// concurrent use.
type Redirect struct {
	to       string // with path; "" for "https"
	status   int
	port     string // ":8443" of the TLS door; "" for 443
	keepPath bool   // to has no path: the request's is appended
	hasQuery bool
}

// NewRedirect returns a redirect to a path ("/new"), an absolute URL, an
// absolute URL without a path (the request's path is kept), or "https" (the
// same URL on the TLS door, whose port is httpsPort; 0: 443). The request's
// query is kept unless to has one. Status is 301, 302, 303, 307 or 308.
func NewRedirect(to string, status, httpsPort int) (*Redirect, error) {
	switch status {
	case 301, 302, 303, 307, 308:
	default:
		return nil, fmt.Errorf("status %d is not a redirect", status)
	}
	d := &Redirect{status: status}
	if to == "https" {
		if httpsPort != 0 && httpsPort != 443 {
			d.port = ":" + strconv.Itoa(httpsPort)
		}
		return d, nil
	}
	u, err := url.Parse(to)
	absolute := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
	if err != nil || !absolute && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//")) || !visible(to) {
		return nil, fmt.Errorf("%q is neither a path nor an absolute URL", to)
	}
	d.to = to
	d.keepPath = absolute && u.Path == "" && u.RawQuery == "" && u.Fragment == ""
	d.hasQuery = strings.ContainsAny(to, "?#")
	return d, nil
}

// visible reports whether s has visible ASCII only: it goes into a field value.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// Status returns the status code.
func (d *Redirect) Status() int { return d.status }

// Location returns the value of the location field for r. For "https" it is
// "" when r names no host (HTTP/1.0), where no URL can be made.
func (d *Redirect) Location(r *exchange.Request) string {
	target := r.Target
	if target == "*" {
		target = "/"
	}
	switch {
	case d.to == "":
		if r.Authority == "" {
			return ""
		}
		return "https://" + withoutPort(r.Authority) + d.port + target
	case d.keepPath:
		return d.to + target
	case d.hasQuery:
		return d.to
	}
	if q, ok := r.Query(); ok {
		return d.to + "?" + q
	}
	return d.to
}

// withoutPort returns the host of an authority; an IPv6 address keeps its
// brackets, which a URL needs.
func withoutPort(authority string) string {
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && i > strings.LastIndexByte(authority, ']') {
		return authority[:i]
	}
	return authority
}
