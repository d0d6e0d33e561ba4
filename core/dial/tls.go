package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"

	"wproxy/core/exchange"
	"wproxy/core/internal/tlsconn"
	"wproxy/core/upstream"
)

// TLSOptions say how servers are verified, and what they are shown.
type TLSOptions struct {
	// ServerName is the name that certificates must have, and SNI; "": the host of
	// the server's address.
	ServerName string
	// CA is a PEM file of the authorities that are believed; "": the system's.
	CA string
	// Cert and Key are PEM files of the client certificate; "": none.
	Cert, Key string
	// InsecureSkipVerify takes any certificate.
	InsecureSkipVerify bool
	// MinVersion is the lowest version, as in crypto/tls; 0: TLS 1.2.
	MinVersion uint16
	// Reloaded, if set, is told about files that changed and were read again, with
	// the error if they are no good: then what was read before stays in use. It is
	// called on the goroutine of a dial.
	Reloaded func(err error)
}

// Protocol says what is spoken on connections.
type Protocol uint8

const (
	// Auto is HTTP/2 or HTTP/1.1 over TLS, as the server likes (ALPN, RFC 7301), and
	// HTTP/1.1 in clear.
	Auto Protocol = iota
	// HTTP1 is HTTP/1.1 only.
	HTTP1
	// HTTP2 is HTTP/2 only; in clear with prior knowledge (RFC 9113 3.3).
	HTTP2
	// Plain is whatever the client speaks: nothing is offered.
	Plain
)

// alpnH1 and alpnH2 are the names of protocols in ALPN.
const (
	alpnH1 = "http/1.1"
	alpnH2 = "h2"
)

// alpn returns what is offered for p.
func (p Protocol) alpn() []string {
	switch p {
	case HTTP1:
		return []string{alpnH1}
	case HTTP2:
		return []string{alpnH2}
	case Plain:
		return nil
	default:
		return []string{alpnH2, alpnH1}
	}
}

// A TLS makes encrypted connections to the servers of one upstream. It is safe for
// concurrent use.
type TLS struct {
	o     TLSOptions
	files *files
}

// NewTLS reads the files that o names. The error is a *[FileError].
func NewTLS(o TLSOptions) (*TLS, error) {
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS12
	}
	f, err := openFiles(&o)
	if err != nil {
		return nil, err
	}
	return &TLS{o: o, files: f}, nil
}

// handshake encrypts nc, a connection to e, on which next is to be spoken, and returns
// the protocol that was agreed on. It closes nc when it fails. ctx bounds it.
func (t *TLS) handshake(ctx context.Context, nc net.Conn, e *upstream.Endpoint, p Protocol) (*tlsconn.Conn, string, error) {
	held := t.files.current()
	cfg := &tls.Config{
		ServerName:         t.serverName(e),
		RootCAs:            held.roots,
		MinVersion:         t.o.MinVersion,
		NextProtos:         p.alpn(),
		InsecureSkipVerify: t.o.InsecureSkipVerify, //nolint:gosec // only when the configuration says so; `check` and the log warn
		ClientSessionCache: sessionsOf{held.sessions, e.Network + "|" + e.Address + "|" + cfgProto(p) + "|"},
	}
	if c := held.cert; c != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}
	c := tlsconn.Client(nc, cfg)
	err := c.Handshake(ctx)
	if err != nil {
		_ = nc.Close() // it is the handshake's error that tells
		return nil, "", tlsFailure(ctx, err)
	}
	got := c.State().NegotiatedProtocol
	if p == HTTP2 && got != alpnH2 {
		_ = c.Close() // nothing was said on it
		return nil, "", tlsError("upstream_alpn", errNoH2)
	}
	return c, got, nil
}

var errNoH2 = errors.New("the server does not offer HTTP/2 (ALPN h2)")

// cfgProto keeps sessions of different protocols apart: one that is resumed has the
// protocol of its own handshake on some servers.
func cfgProto(p Protocol) string { return strings.Join(p.alpn(), ",") }

// serverName returns the name that e's certificate must have.
func (t *TLS) serverName(e *upstream.Endpoint) string {
	if t.o.ServerName != "" {
		return t.o.ServerName
	}
	host, _, err := net.SplitHostPort(e.Host) // not its address: that may be what a name has led to
	if err != nil {
		return strings.Trim(e.Host, "[]")
	}
	return host
}

// sessionsOf is the part of a cache that belongs to one server: a session is of no use
// to another one, though both have the same name.
type sessionsOf struct {
	cache  tls.ClientSessionCache
	prefix string
}

// Get implements tls.ClientSessionCache.
func (s sessionsOf) Get(key string) (*tls.ClientSessionState, bool) {
	return s.cache.Get(s.prefix + key)
}

// Put implements tls.ClientSessionCache.
func (s sessionsOf) Put(key string, cs *tls.ClientSessionState) { s.cache.Put(s.prefix+key, cs) }

// tlsFailure says how a failed handshake is answered. No byte of a request was sent.
func tlsFailure(ctx context.Context, err error) *exchange.Error {
	var (
		unverified *tls.CertificateVerificationError
		authority  x509.UnknownAuthorityError
		name       x509.HostnameError
		invalid    x509.CertificateInvalidError
		op         *net.OpError
		ne         net.Error
	)
	switch {
	case errors.As(err, &unverified), errors.As(err, &authority), errors.As(err, &name), errors.As(err, &invalid):
		return tlsError("upstream_tls_verify", err)
	case ctx.Err() != nil, errors.As(err, &ne) && ne.Timeout():
		e := tlsError("upstream_tls_timeout", err)
		e.Status = 504
		return e
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "no application protocol"):
		return tlsError("upstream_alpn", err) // the alert of RFC 7301 3.2; crypto/tls does not export its type
	default:
		return tlsError("upstream_tls_handshake", err)
	}
}

func tlsError(reason string, err error) *exchange.Error {
	return &exchange.Error{
		Op: "dial", Side: exchange.UpstreamSide, Retry: exchange.RetryAlways, Status: 502, Reason: reason, Err: err,
	}
}
