package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// resolve fills Network and Dial from Address.
func (s *ServerEntry) resolve() error {
	a := s.Address
	switch {
	case strings.HasPrefix(a, "builtin:"):
		s.Network, s.Dial = "builtin", strings.TrimPrefix(a, "builtin:")
		if s.Dial != "httpbin" {
			return fmt.Errorf("%q: there is no such built-in server; there is \"builtin:httpbin\"", a)
		}
		return nil
	case strings.HasPrefix(a, "unix:"):
		s.Network, s.Dial = "unix", strings.TrimPrefix(a, "unix:")
		return checkSocket(a, s.Dial)
	}
	s.Network, s.Dial = "tcp", a
	if scheme, rest, ok := strings.Cut(a, "://"); ok && (scheme == "http" || scheme == "https") {
		s.Scheme = scheme
		rest = strings.TrimSuffix(rest, "/")
		if strings.ContainsAny(rest, "/?#@") {
			return fmt.Errorf("%q: a server is an address; a path belongs into `rewrite` or `strip` of a route", a)
		}
		s.Dial = rest
		if !hasPort(rest) {
			s.Dial = net.JoinHostPort(strings.Trim(rest, "[]"), map[string]string{"http": "80", "https": "443"}[scheme])
		}
	}
	if scheme, _, ok := strings.Cut(s.Dial, "://"); ok {
		return fmt.Errorf("%q: unknown scheme %q; write host:port, http://host, https://host or unix:/path", a, scheme)
	}
	host, port, err := splitAddress(s.Dial)
	if err != nil {
		return fmt.Errorf("%q: %w; write host:port, http://host, https://host, unix:/path or builtin:httpbin", a, err)
	}
	if host == "" {
		return fmt.Errorf("%q: names no host; write host:port", a)
	}
	if port == 0 {
		return fmt.Errorf("%q: port 0 cannot be connected to; write another", a)
	}
	return nil
}

// hasPort reports whether s ends in ":" and something that is not part of a
// bare or bracketed IPv6 address.
func hasPort(s string) bool {
	if strings.HasSuffix(s, "]") {
		return false
	}
	return strings.Count(s, ":") == 1 || strings.Contains(s, "]:")
}

// checkSocket checks the path of a unix: address.
func checkSocket(address, path string) error {
	if !filepath.IsAbs(path) && !strings.HasPrefix(path, "@") {
		return fmt.Errorf("%q: the path of a socket is absolute; for example unix:/run/x.sock", address)
	}
	if len(path) > 107 { // sun_path of Linux has 108 bytes with the NUL
		return fmt.Errorf("%q: the path of a socket has at most 107 bytes; choose a shorter one", address)
	}
	return nil
}

// checkListen checks an address to listen on.
func checkListen(a string) error {
	if path, ok := strings.CutPrefix(a, "unix:"); ok {
		return checkSocket(a, path)
	}
	host, _, err := splitAddress(a)
	if err != nil {
		return fmt.Errorf("%q: %w; write host:port, :port or unix:/path", a, err)
	}
	if host == "" || isName(host) {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("%q: %q is neither an address nor a name", a, host)
	}
	return nil
}

// sameSocket reports whether not both of a and b can be bound: they are the same, or one of
// them is their port on every address. What is no address is none of its concern.
func sameSocket(a, b string) bool {
	hostA, portA, errA := splitAddress(a)
	hostB, portB, errB := splitAddress(b)
	if errA != nil || errB != nil {
		return a == b
	}
	every := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	return portA == portB && portA != 0 && (hostA == hostB || every(hostA) || every(hostB))
}

// splitAddress splits host:port and checks both.
func splitAddress(s string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		if strings.Count(s, ":") > 1 && !strings.Contains(s, "[") {
			return "", 0, errors.New("an IPv6 address goes into brackets, [::1]:8080")
		}
		return "", 0, errors.New("has no port")
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not a port from 0 to 65535", p)
	}
	if host == "" || isName(host) {
		return host, int(n), nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return "", 0, fmt.Errorf("%q is neither an address nor a name", host)
	}
	return host, int(n), nil
}

// isName reports whether s is a DNS name or IPv4 address: labels of letters,
// digits, hyphens and underscores (which DNS allows and container networks use).
func isName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	for l := range strings.SplitSeq(s, ".") {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for _, c := range []byte(l) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
