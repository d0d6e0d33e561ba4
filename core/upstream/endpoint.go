package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
)

// DialFunc makes a connection to a server that lives inside the process, such
// as builtin:httpbin.
type DialFunc func(ctx context.Context) (net.Conn, error)

// An Endpoint is one server of a cluster. It is shared by everything that
// talks to that server; all but Live, its state and its latency is immutable.
type Endpoint struct {
	// What a pick looks at is side by side, as it is cold more often than not.

	status  atomic.Int64 // a status
	latency latency      // time to the first byte
	Weight  int          // at least 1. Immutable

	// Live counts what is going on; written by pool and engine.
	Live Live

	// Immutable.
	Name    string   // as written in the configuration: log field and label
	Network string   // "tcp", "unix", or "pipe" for a server inside the process
	Address string   // host:port, path of the socket, or the name of the pipe
	Scheme  string   // "http" or "https": whether connections are encrypted
	Host    string   // what host = "server" sends as authority
	Dial    DialFunc // only with Network "pipe"
	Tier    int      // 0 is used first, the next one when nothing in it is available

	// The most connections that are open, and exchanges that are under way, at one
	// time; 0: as the pool has it. Set before the Endpoint is used.
	MaxConnections, MaxRequests int

	changes atomic.Pointer[Changes] // of its cluster; nil: it is in none

	// Observer is told what has become of tries. It is set, if at all, before the
	// endpoint serves; nil: nobody is.
	Observer Observer
}

// Live holds counters of one endpoint or cluster.
type Live struct {
	Active   atomic.Int64 // exchanges that hold a connection to it, or wait for one
	Retrying atomic.Int64 // of those, the ones that are not the first try
	Failures atomic.Int64 // tries that failed, since the start
}

// NewEndpoint parses address: host:port, http://host[:port], https://host[:port] or
// unix:/path. A weight below 1 means 1.
func NewEndpoint(address string, weight int) (*Endpoint, error) {
	e := &Endpoint{Name: address, Network: "tcp", Scheme: "http", Weight: max(weight, 1)}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return nil, fmt.Errorf("server %q: unix: needs a path", address)
		}
		e.Network, e.Address, e.Host = "unix", path, "localhost"
		return e, nil
	}
	rest := address
	if scheme, after, ok := strings.Cut(address, "://"); ok {
		if scheme != "http" && scheme != "https" {
			return nil, fmt.Errorf("server %q: scheme %q is not supported (http, https)", address, scheme)
		}
		e.Scheme = scheme
		rest = strings.TrimSuffix(after, "/")
		if !hasPort(rest) {
			rest = net.JoinHostPort(strings.Trim(rest, "[]"), defaultPort(scheme))
		}
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		if ae, ok := errors.AsType[*net.AddrError](err); ok {
			return nil, fmt.Errorf("server %q: %s (host:port or unix:/path)", address, ae.Err)
		}
		return nil, fmt.Errorf("server %q: %w", address, err)
	}
	if host == "" || strings.ContainsAny(host, "/?#@ \t") {
		return nil, fmt.Errorf("server %q: no valid host (host:port or unix:/path)", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("server %q: port %q is not between 1 and 65535", address, port)
	}
	e.Address = rest
	e.setHost()
	return e, nil
}

// UseTLS makes e one to which connections are encrypted, as https:// in front of its
// address does. It is called before anybody else has e.
func (e *Endpoint) UseTLS() {
	e.Scheme = "https"
	e.setHost()
}

// SetHost says what e is called, host:port, where its address is not that: it is an
// address that a name has led to. It is called as UseTLS is, and after it.
func (e *Endpoint) SetHost(authority string) {
	e.Host = strings.TrimSuffix(authority, ":"+defaultPort(e.Scheme))
}

// setHost leaves the port out of Host where the scheme implies it.
func (e *Endpoint) setHost() {
	if e.Network == "tcp" {
		e.SetHost(e.Address)
	}
}

// defaultPort returns the port of a scheme (RFC 9110 4.2).
func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

func hasPort(s string) bool {
	i := strings.LastIndexByte(s, ':')
	return i >= 0 && i > strings.LastIndexByte(s, ']')
}

// NewLocal makes the endpoint of a server inside the process. dial is called
// once per connection.
func NewLocal(name string, weight int, dial DialFunc) *Endpoint {
	return &Endpoint{
		Name: name, Network: "pipe", Address: name, Scheme: "http", Host: "localhost",
		Weight: max(weight, 1), Dial: dial,
	}
}
