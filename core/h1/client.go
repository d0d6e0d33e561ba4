package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"wproxy/core/exchange"
)

// A ClientConn is a connection to an upstream, with one slot. It implements
// pool.Conn; its methods are safe for concurrent use.
//
// It serves another exchange only if nothing about the last one was odd: it is
// closed after bad framing, an upstream's "connection: close" or early close, an
// answer that was not read to its end, an answer that came before the request
// was complete, and bytes behind the answer.
type ClientConn struct {
	conn

	// Immutable.
	o     *ClientOptions
	watch watchID
	facts *tls.ConnectionState // nil: in clear

	state  atomic.Int32
	reused atomic.Bool
	fin    atomic.Bool // the upstream has closed

	// Owned by who has the slot.
	quiet peekOp
	turn  turn
}

// States of a ClientConn.
const (
	clientIdle = iota
	clientBusy
	clientClosed
)

// NewClientConn takes over nc, an established connection. o may be nil, and must
// not change afterwards.
func NewClientConn(nc net.Conn, o *ClientOptions) *ClientConn {
	if o == nil {
		o = new(ClientOptions)
	}
	c := &ClientConn{o: o}
	c.attach(nc)
	c.quiet.attach()
	c.turn.tries = c.rawTurn
	if c.tls != nil {
		st := c.tls.tls.State()
		c.facts = &st
	}
	o.Watcher.add(c.raw, c, &c.watch)
	return c
}

// Reserve takes the slot. False: it is taken, or the connection is closed.
//
// A connection that has served an exchange is looked at first, which costs a
// system call. One that the upstream has closed is of no use, and a request that
// must not be repeated (RFC 9110 9.2.2) would be lost on it. And what came while
// nobody was asking is an answer to nobody: the next request would get it for its
// own (RFC 9112 9.2), and the request after that the answer to this one.
func (c *ClientConn) Reserve() bool {
	if !c.state.CompareAndSwap(clientIdle, clientBusy) {
		return false
	}
	if c.reused.Load() {
		if c.unasked() {
			_ = c.Close() // there is nobody to tell
			return false
		}
	}
	return true
}

// unasked reports whether c, which is at rest, has ended, or has brought something that
// nobody asked for. What cannot be known is taken for no. c is nobody else's.
func (c *ClientConn) unasked() bool {
	p := c.quiet.peek(&c.conn)
	if c.tls == nil || p == peekUnknown {
		return p == peekEnd || p == peekBytes
	}
	if p == peekNothing && !c.pending() && c.tls.tls.Records().Held() == 0 {
		return false
	}
	// Bytes under TLS may be none for us: a TLS 1.3 server sends session tickets when
	// it likes. TLS takes them in; what is left is data, an end, or nothing.
	err := c.rawFill(limit{}, false)
	return !errors.Is(err, errWouldBlock) || c.tls.tls.Records().Foreign()
}

// Open returns the stream of the exchange that Reserve has taken the slot for.
// It never blocks and does not look at ctx: who wants the stream to end calls
// Reset.
//
// The stream is an exchange.Deadliner and an exchange.Releaser. The slot is given
// back when the request has ended and Feed has returned nil; after an error of
// Feed, or Reset, the connection is closed. After an error of a Sink method the
// stream can still be fed, since the upstream may have answered early; whoever
// does not, calls Reset.
func (c *ClientConn) Open(context.Context) (exchange.Upstream, error) {
	x, _ := clientStreams.Get().(*clientStream)
	if x == nil {
		x = new(clientStream)
	}
	x.open(c)
	return x, nil
}

// clientStreams holds released streams.
var clientStreams sync.Pool

// TLS returns the state of the TLS that c stands on; nil: it is in clear. It is not to be
// changed.
func (c *ClientConn) TLS() *tls.ConnectionState { return c.facts }

// Reused reports whether an exchange has completed on c before.
func (c *ClientConn) Reused() bool { return c.reused.Load() }

// Idle reports whether c is alive, at rest and may serve another exchange.
func (c *ClientConn) Idle() bool { return c.state.Load() == clientIdle }

// Close closes the connection; a stream on it fails. Only the first call has an
// effect.
func (c *ClientConn) Close() error {
	if !c.retire() {
		return nil
	}
	return c.nc.Close()
}

// retire makes c unusable for ever and reports whether it was usable before.
func (c *ClientConn) retire() bool {
	if c.state.Swap(clientClosed) == clientClosed {
		return false
	}
	c.o.Watcher.remove(c.watch)
	return true
}

// forget gives back what TLS holds of a connection that is closed and that nobody reads.
func (c *ClientConn) forget() {
	if c.tls != nil {
		c.tls.drop()
	}
}

// giveBack gives the slot back.
func (c *ClientConn) giveBack() {
	c.reused.Store(true)
	if !c.state.CompareAndSwap(clientBusy, clientIdle) {
		return // closed meanwhile
	}
	if c.fin.Load() {
		c.closeIdle()
	}
}

// readable implements watched. It is not asked for.
func (*ClientConn) readable() {}

// otherEndGone implements watched. During an exchange the reader sees for itself, but
// one that has not tried to read (rawTurn) must be made to look.
func (c *ClientConn) otherEndGone(bool) {
	c.fin.Store(true)
	if !c.closeIdle() {
		_ = c.nc.SetReadDeadline(past) // fails on closed connections only
	}
}

// closeIdle closes c if it is at rest.
func (c *ClientConn) closeIdle() bool {
	if !c.state.CompareAndSwap(clientIdle, clientClosed) {
		return false
	}
	c.o.Watcher.remove(c.watch)
	_ = c.nc.Close() // the upstream has closed it already
	c.forget()
	return true
}
