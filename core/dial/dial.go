// Package dial makes connections to upstreams: TCP, unix sockets, and servers
// inside the process, encrypted or not. It is where a protocol is chosen for a
// connection. Failures are *exchange.Error that say how to answer and
// that the request may be tried again, because no byte of it was sent.
package dial

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// Versions of the PROXY protocol for Options.SendProxy
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
const (
	NoProxy = iota
	ProxyV1 // a line of text
	ProxyV2 // binary
)

// Options are how to connect. Zero values mean the defaults (limits.go).
type Options struct {
	// ConnectTimeout bounds one attempt; Total all of them, with name resolution.
	ConnectTimeout, Total time.Duration

	// Protocol is what is spoken. Auto is the zero value.
	Protocol Protocol

	// TLS encrypts the connections to endpoints whose scheme is https; it must be set
	// where there are any.
	TLS *TLS

	// SendProxy begins connections with a PROXY header of this version, in front of TLS: it
	// tells the server whom they are for (DialFor). Those of Dial are wproxy's own, as
	// health checks are: LOCAL, which is UNKNOWN in version 1.
	SendProxy int

	// NewConn wraps a connection in HTTP/1.1. It owns nc from then on.
	NewConn func(nc net.Conn) pool.Conn

	// NewHTTP2 does so in HTTP/2. It must be set with the protocol HTTP2; nil with
	// Auto is as HTTP1.
	NewHTTP2 func(nc net.Conn) pool.Conn
}

// A Dialer makes connections. It is immutable and safe for concurrent use.
type Dialer struct {
	o   Options
	net net.Dialer
}

// New makes a Dialer; o.NewConn must be set.
func New(o Options) *Dialer {
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = DefaultConnectTimeout
	}
	if o.Total <= 0 {
		o.Total = DefaultConnectTotal
	}
	if o.NewHTTP2 == nil && o.Protocol == Auto {
		o.Protocol = HTTP1
	}
	return &Dialer{o: o, net: net.Dialer{KeepAlive: keepAlive}}
}

// Dial connects to e. The error is an *exchange.Error with RetryAlways, Status
// 502 or 504, and one of the reasons upstream_refused, upstream_unreachable,
// upstream_connect_timeout, upstream_unresolved, and of TLS upstream_tls_verify (the
// certificate is not believed), upstream_tls_timeout, upstream_alpn (no protocol in
// common) and upstream_tls_handshake (anything else), of HTTP/2 upstream_no_http2 (the
// server does not speak it), upstream_closed (it has closed or reset the connection without
// a word) and upstream_tls_alert (it has ended TLS behind the handshake), or ctx's error when that was done first.
func (d *Dialer) Dial(ctx context.Context, e *upstream.Endpoint) (pool.Conn, error) {
	return d.DialFor(ctx, e, pool.Source{})
}

// DialFor is Dial for a client: with SendProxy, nobody else may use the connection.
func (d *Dialer) DialFor(ctx context.Context, e *upstream.Endpoint, from pool.Source) (pool.Conn, error) {
	total, cancel := context.WithTimeout(ctx, d.o.Total)
	defer cancel()
	nc, err := d.socket(total, e, from)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, failure(err)
	}
	h2 := d.o.Protocol == HTTP2
	if e.Scheme == "https" {
		c, proto, err := d.o.TLS.handshake(total, nc, e, d.o.Protocol)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, err
		}
		nc, h2 = c, proto == alpnH2
	}
	if !h2 {
		return d.o.NewConn(nc), nil
	}
	c := d.o.NewHTTP2(nc)
	if err := d.ready(total, c); err != nil {
		_ = c.Close() // the error says why it is of no use
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return c, nil
}

// Socket connects to e for a client, as DialFor does, and leaves it at that: there is no TLS
// and no protocol on the connection, but the PROXY header has been sent. It is for who
// passes bytes on. The errors are those of Dial.
func (d *Dialer) Socket(ctx context.Context, e *upstream.Endpoint, from pool.Source) (net.Conn, error) {
	total, cancel := context.WithTimeout(ctx, d.o.Total)
	defer cancel()
	nc, err := d.socket(total, e, from)
	switch {
	case err == nil:
		return nc, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, failure(err)
	}
}

// socket connects to e and says whom that is for.
func (d *Dialer) socket(ctx context.Context, e *upstream.Endpoint, from pool.Source) (net.Conn, error) {
	nc, err := d.connect(ctx, e)
	if err != nil || d.o.SendProxy == NoProxy {
		return nc, err
	}
	if err := introduce(ctx, nc, d.o.SendProxy, from); err != nil {
		_ = nc.Close() // the error says why it is of no use
		return nil, err
	}
	return nc, nil
}

// ready waits until the server has shown that it speaks HTTP/2.
func (d *Dialer) ready(ctx context.Context, c pool.Conn) error {
	r, ok := c.(interface {
		Ready(ctx context.Context) error
	})
	if !ok {
		return nil
	}
	err := r.Ready(ctx)
	if err == nil {
		return nil
	}
	e := tlsError("upstream_no_http2", err)
	switch op, ok := errors.AsType[*net.OpError](err); {
	case ok && op.Op == "remote error": // an alert; crypto/tls does not export its type
		e.Reason = "upstream_tls_alert"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		// Nothing was said that is not HTTP/2: a server that is restarting, and one behind
		// a balancer that is full, look like that. It has the name that it has in HTTP/1.1.
		e.Reason = "upstream_closed"
	case ctx.Err() != nil:
		e.Status = 504
	}
	return e
}

// connect resolves the name and tries its addresses (race.go), each for at most
// ConnectTimeout. net.Dialer would share what is left of the deadline between
// them, which is not the promise that the configuration makes.
func (d *Dialer) connect(ctx context.Context, e *upstream.Endpoint) (net.Conn, error) {
	if e.Dial != nil {
		return e.Dial(ctx)
	}
	if e.Network != "tcp" {
		return d.attempt(ctx, e.Network, e.Address)
	}
	host, port, err := net.SplitHostPort(e.Address)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) != nil {
		return d.attempt(ctx, "tcp", e.Address)
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	return race(ctx, interleave(addrs), func(ctx context.Context, a string) (net.Conn, error) {
		return d.attempt(ctx, "tcp", net.JoinHostPort(a, port))
	})
}

func (d *Dialer) attempt(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.o.ConnectTimeout)
	defer cancel()
	// TCP_NODELAY is Go's default; said here because the codec counts on it:
	// it writes a head and its first body bytes at once and waits for nothing.
	nc, err := d.net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if t, ok := nc.(*net.TCPConn); ok {
		_ = t.SetNoDelay(true) // fails only on a socket that is dead already, which the first write shows
	}
	return nc, nil
}

// failure says how a failed connect is answered.
func failure(err error) *exchange.Error {
	f := &exchange.Error{
		Op: "dial", Side: exchange.UpstreamSide, Retry: exchange.RetryAlways,
		Status: 502, Reason: "upstream_unreachable", Err: err,
	}
	var dns *net.DNSError
	var ne net.Error
	switch {
	case errors.As(err, &dns):
		f.Reason = "upstream_unresolved"
		if dns.IsTimeout {
			f.Status = 504
		}
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		f.Reason = "upstream_refused"
	case errors.Is(err, syscall.ECONNRESET): // taken, and closed before we knew
		f.Reason = "upstream_closed"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		f.Status, f.Reason = 504, "upstream_connect_timeout"
	}
	return f
}
