package dial

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// A Conn is a TLS connection to a server. Beside what a tls.Conn has, it can be read
// without waiting, says which socket it stands on, and closes without waiting long.
type Conn struct {
	*tls.Conn
	t *transport
}

// newConn starts TLS on nc, as a client.
func newConn(nc net.Conn, cfg *tls.Config) *Conn {
	t := &transport{Conn: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			t.raw = raw
		}
	}
	t.op.attach()
	return &Conn{tls.Client(t, cfg), t}
}

// Socket returns the socket below c, to be watched, not read; nil if there is none.
func (c *Conn) Socket() syscall.RawConn { return c.t.raw }

// TryRead is Read, but does not wait: if there is nothing for the caller, it returns an
// error whose Timeout method reports true, and c goes on. What TLS has to say for
// itself, such as the session tickets that a TLS 1.3 server sends when it likes, is
// taken in on the way. It must not be called during another Read. Everywhere but on
// sockets of Linux it cannot be done and the error is errors.ErrUnsupported.
func (c *Conn) TryRead(p []byte) (int, error) {
	if c.t.raw == nil || !canTry {
		return 0, errCannotTry
	}
	c.t.try = true
	n, err := c.Conn.Read(p)
	c.t.try = false
	return n, err
}

// SetLinger makes Close reset the connection if sec is 0: without the goodbye of TLS,
// so that a message which is cut does not look complete.
func (c *Conn) SetLinger(sec int) error {
	c.t.reset.Store(sec == 0)
	if l, ok := c.t.Conn.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(sec)
	}
	return nil
}

// Close says goodbye, if the socket takes it without waiting, and closes.
func (c *Conn) Close() error {
	if c.t.reset.Load() {
		return c.t.Conn.Close()
	}
	c.t.closing.Store(true)
	return c.Conn.Close()
}

// A transport is what the TLS of a Conn stands on.
type transport struct {
	net.Conn
	raw syscall.RawConn // nil: not a socket

	try bool // owned by the reader
	op  tryOp

	closing atomic.Bool
	reset   atomic.Bool
}

// Read implements net.Conn.
func (t *transport) Read(p []byte) (int, error) {
	var n int
	var err error
	if t.try {
		n, err = t.op.read(t.raw, p)
	} else {
		n, err = t.Conn.Read(p)
	}
	if errors.Is(err, io.EOF) {
		err = errNoGoodbye
	}
	return n, err
}

// errNoGoodbye is a FIN that TLS has not announced. crypto/tls takes it for an end where it
// comes between two records, and anybody on the way can send it: an answer that ends
// with its connection would look complete (RFC 9112 9.8). So it counts as a reset.
var errNoGoodbye = fmt.Errorf("closed without close_notify of TLS: %w", syscall.ECONNRESET)

// SetWriteDeadline implements net.Conn. While the Conn is closed the deadline is ours:
// crypto/tls would wait 5 s for the other end to take a goodbye that it does not need.
func (t *transport) SetWriteDeadline(d time.Time) error {
	if t.closing.Load() {
		if soon := time.Now().Add(closeTime); d.After(soon) {
			d = soon
		}
	}
	return t.Conn.SetWriteDeadline(d)
}

// errWouldWait is the error of a Read that would wait. crypto/tls goes on after errors
// of a net.Error that is temporary.
var errWouldWait error = wouldWait{}

type wouldWait struct{}

// Error implements error.
func (wouldWait) Error() string { return "nothing to read" }

// Timeout implements net.Error.
func (wouldWait) Timeout() bool { return true }

// Temporary implements net.Error.
func (wouldWait) Temporary() bool { return true }
