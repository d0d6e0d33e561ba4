package exchange

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
)

// Version is an HTTP version.
type Version uint8

// The versions; the zero value is HTTP/1.1.
const (
	HTTP11 Version = iota
	HTTP10
	HTTP2
	HTTP3
)

// String returns the version as it stands on the wire and in request.protocol.
func (v Version) String() string {
	switch v {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP2:
		return "HTTP/2"
	case HTTP3:
		return "HTTP/3"
	default:
		return "HTTP/1.1"
	}
}

// LengthUnknown is the Length of a message framed by its protocol (chunked,
// DATA frames, close) rather than by a known length.
const LengthUnknown = -1

// A Request is the head of a request in the one canonical view that matcher,
// plugins, cache key and upstream share (RFC 3986 6.2.2, RFC 9110 4.2.3): it was
// parsed and normalised once, and what was ambiguous was refused.
type Request struct {
	Method  string
	Scheme  string  // "http" or "https", lower case
	Version Version // of the client's message

	// Authority is the canonical host[:port]: host in lower case, port as sent.
	// It replaces Host; Fields never contain "host". Empty only in HTTP/1.0.
	Authority string

	// Target is canonical path and, if there was one, "?" and the query byte
	// for byte; "*" for OPTIONS *. It is what guests see as :path and, after
	// strip and rewrite, what the upstream sees. Set it through SetTarget.
	Target  string
	pathLen int

	// EncodedSlash is set when the path still contains an encoded slash, NUL
	// or backslash. The engine refuses it (400 encoded_slash) unless the route keeps it.
	EncodedSlash bool

	// Upgrade is the protocol that an h1 client asks to switch to (value of
	// the Upgrade field when Connection nominates it), or "".
	Upgrade string

	// Fields are all fields but host, the framing ones (transfer-encoding,
	// content-length is kept as the guests' view) and hop-by-hop ones
	// (RFC 9110 7.6.1). "te: trailers" is kept if sent.
	Fields Fields

	// Length frames the body: bytes, or LengthUnknown. 0 with end set at Head
	// means there is none.
	Length int64

	// ExpectContinue: the client waits for 100 (the field itself is removed).
	ExpectContinue bool

	Conn *Conn // facts about the client's connection; immutable
}

// Path returns the path part of Target, without the query.
func (r *Request) Path() string { return r.Target[:r.pathLen] }

// Query returns the query without "?", and whether there was a "?".
func (r *Request) Query() (string, bool) {
	if r.pathLen == len(r.Target) {
		return "", false
	}
	return r.Target[r.pathLen+1:], true
}

// SetTarget stores a target that is canonical already, pathLen bytes of it
// being the path. See ParseTarget for what comes from outside.
func (r *Request) SetTarget(target string, pathLen int) { r.Target, r.pathLen = target, pathLen }

// Reset clears r for reuse, keeping the capacity of its Fields.
func (r *Request) Reset() {
	f := r.Fields
	f.Reset()
	*r = Request{}
	r.Fields = f
}

// A Response is the head of a response.
type Response struct {
	Status  int
	Version Version // of the upstream's message
	Fields  Fields  // without framing (content-length is kept as the guests' view) and hop-by-hop fields
	Length  int64   // bytes of the body, or LengthUnknown; of the representation for HEAD and 304
	Upgrade string  // protocol switched to, with status 101
}

// Reset clears r for reuse, keeping the capacity of its Fields.
func (r *Response) Reset() {
	f := r.Fields
	f.Reset()
	*r = Response{Fields: f}
}

// A Conn holds facts about one client connection. It is immutable.
type Conn struct {
	ID         uint64
	Listener   string         // name of the listener
	Remote     netip.AddrPort // the peer of the socket (after PROXY protocol)
	Local      netip.AddrPort
	RemoteIP   string               // Remote.Addr().String(), made once
	RemoteAddr string               // Remote.String(), made once
	LocalAddr  string               // Local.String(), made once
	TLS        *tls.ConnectionState // nil without TLS

	// Certificate is what the client was shown; nil without TLS. ClientPolicy names what was
	// asked of the client's certificate, "": nothing; equal names, equal rules. Identity
	// is who the client has proven to be; nil: nobody.
	Certificate  *x509.Certificate
	ClientPolicy string
	Identity     *Identity

	// Proxied is what the peer has said about the client in a PROXY header; nil: there was
	// none, or it spoke for itself. Remote and Local are as it says, unless it names nobody.
	Proxied *Proxied
}

// Proxied is what a PROXY header says beside the addresses. It is immutable.
type Proxied struct {
	Peer      netip.AddrPort // who has sent it
	Unnamed   bool           // it speaks for a client, and does not say for whom: Remote is the peer's, and the client is not the peer
	TLS       bool           // the client's connection to it is encrypted
	Authority string         // the name of a host that the client has asked for there; "": it does not say
}

// IsUnnamed reports whether the client of c, which may be nil, is somebody whom the peer has not
// named: that the peer may speak for others does not mean that this client may.
func (c *Conn) IsUnnamed() bool { return c != nil && c.Proxied != nil && c.Proxied.Unnamed }

// SchemeOf returns the scheme of requests on c, which may be nil: "https" if the peer has said so
// in a PROXY header, and otherwise that of the codec.
func (c *Conn) SchemeOf(codec string) string {
	if c != nil && c.Proxied != nil && c.Proxied.TLS {
		return "https"
	}
	return codec
}
