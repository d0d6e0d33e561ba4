package tcp

import (
	"errors"
	"net"
	"os"
	"time"
)

// Reasons of connections that do not come to be joined with an upstream.
const (
	reasonHelloTimeout = "hello_timeout"
	reasonBadHello     = "bad_hello"
	reasonNoHello      = "no_hello" // the client closed before it had said anything that can be looked at
)

// peek reads what a client says first, until the name that it asks for is known. What was
// read is returned, to be passed on; tls is false if it is not TLS, and the name then "". The
// reason is "" or why the connection is refused.
func peek(nc net.Conn, within time.Duration) (first []byte, name string, tls bool, reason string) {
	_ = nc.SetReadDeadline(time.Now().Add(within)) // fails on closed connections only, and then so does the read
	defer func() { _ = nc.SetReadDeadline(time.Time{}) }()
	raw := make([]byte, 0, firstRead/2)
	var h helloReader
	for {
		if len(raw) == cap(raw) {
			raw = append(raw, 0)[:len(raw)]
		}
		n, err := nc.Read(raw[len(raw):min(cap(raw), maxHello)])
		raw = raw[:len(raw)+n]
		if n > 0 {
			name, done, bad := h.look(raw)
			switch {
			case errors.Is(bad, errNotTLS):
				return raw, "", false, ""
			case bad != nil:
				return raw, "", true, reasonBadHello
			case done:
				return raw, name, true, ""
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return raw, "", len(raw) > 0, reasonHelloTimeout
		case err != nil:
			return raw, "", len(raw) > 0, reasonNoHello
		case len(raw) >= maxHello:
			return raw, "", true, reasonBadHello // look has found records that are too large before
		}
	}
}

// unrecognizedName is the alert of RFC 6066 3 for a name that is not served, in a record of
// its own: what tells the people at the other end what is wrong.
var unrecognizedName = [...]byte{21, 3, 1, 0, 2, 2, 112}

// tellName tells a client that nothing is served under the name that it asks for.
func tellName(nc net.Conn) {
	_ = nc.SetWriteDeadline(time.Now().Add(closeTime)) // as in peek
	_, _ = nc.Write(unrecognizedName[:])               // nobody is left to tell if it fails
}
