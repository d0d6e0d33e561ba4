package exchange

import (
	"net/http"
	"net/netip"
	"strings"
)

// ReasonBadHost is the reason of errors from [Request.ParseAuthority].
const ReasonBadHost = "bad_host"

// maxHost is the length in bytes of the longest host: that of a DNS name
// (RFC 1035 2.3.4).
const maxHost = 255

// ParseAuthority validates s as uri-host[:port] (RFC 9110 7.2, RFC 3986 3.2.2;
// no userinfo, path, list or white space) and stores its canonical form: host in
// lower case, without the dot of the DNS root, an IPv6 address as in RFC 5952, no
// empty port. Host names consist of letters, digits, "-", "_", "~" and single
// dots; percent-encoding and the other characters of a reg-name, which no name
// in DNS has, are refused, and so is a port that is not 1 to 65535 without
// leading zeros. A canonical s is kept as it is, without allocating. The error is
// an *Error with Status 400 and a Reason; r is unchanged then.
func (r *Request) ParseAuthority(s string) error {
	host, port, ok := splitPort(s)
	if !ok || host == "" || len(host) > maxHost {
		return hostError()
	}
	if host[0] == '[' {
		return r.parseIPLiteral(s, host, port)
	}
	canonical := len(host)+len(port) == len(s)
	dot := true // whether the byte before is a dot: a label must not be empty
	for i := 0; i < len(host); i++ {
		c := host[i]
		switch {
		case c == '.':
			if dot {
				return hostError()
			}
		case 'A' <= c && c <= 'Z':
			canonical = false
		case !unreserved(c):
			return hostError()
		}
		dot = c == '.'
	}
	if dot {
		host, canonical = host[:len(host)-1], false
	}
	if !canonical {
		s = strings.ToLower(host) + port
	}
	r.Authority = s
	return nil
}

func hostError() error {
	return &Error{Op: "parse host", Side: ClientSide, Status: http.StatusBadRequest, Reason: ReasonBadHost}
}

// parseIPLiteral is ParseAuthority for "[" IPv6address "]". Zones and IPvFuture
// are refused.
func (r *Request) parseIPLiteral(s, host, port string) error {
	if host[len(host)-1] != ']' {
		return hostError()
	}
	lit := host[1 : len(host)-1]
	addr, err := netip.ParseAddr(lit)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return hostError()
	}
	var scratch [64]byte
	b := append(scratch[:0], '[')
	b = addr.AppendTo(b)
	b = append(b, ']')
	b = append(b, port...)
	if string(b) != s {
		s = string(b)
	}
	r.Authority = s
	return nil
}

// StripPort makes the authority one without a port.
func (r *Request) StripPort() {
	if host, port, _ := splitPort(r.Authority); port != "" {
		r.Authority = host
	}
}

// splitPort splits s into host and port. port has its colon, and is "" for an
// empty one.
func splitPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.IndexByte(s[i:], ']') >= 0 {
		return s, "", true
	}
	host, port = s[:i], s[i:]
	if len(port) == 1 {
		return host, "", true
	}
	if len(port) > 6 || port[1] == '0' {
		return "", "", false
	}
	n := 0
	for _, c := range []byte(port[1:]) {
		if c < '0' || c > '9' {
			return "", "", false
		}
		n = n*10 + int(c-'0')
	}
	return host, port, n <= 65535
}

// Hostname returns the host of Authority without port and brackets.
func (r *Request) Hostname() string {
	a := r.Authority
	if a != "" && a[0] == '[' {
		if i := strings.IndexByte(a, ']'); i > 0 {
			return a[1:i]
		}
	}
	if i := strings.LastIndexByte(a, ':'); i >= 0 {
		return a[:i]
	}
	return a
}
