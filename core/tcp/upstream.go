package tcp

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"wproxy/core/exchange"
	"wproxy/core/pool"
)

// A plainConn is a connection to an upstream, for one client: the pool counts it, and never
// keeps it.
type plainConn struct {
	net.Conn
	used atomic.Bool
}

// NewConn is for the Dial of an Upstream's pool. It owns nc.
func NewConn(nc net.Conn) pool.Conn { return &plainConn{Conn: nc} }

var errNoExchange = errors.New("tcp: a plain connection has no exchanges")

// Reserve implements pool.Conn: there is one slot, once.
func (p *plainConn) Reserve() bool { return p.used.CompareAndSwap(false, true) }

// Open implements pool.Conn. Nobody calls it.
func (p *plainConn) Open(context.Context) (exchange.Upstream, error) { return nil, errNoExchange }

// Reused implements pool.Conn.
func (p *plainConn) Reused() bool { return false }

// Idle implements pool.Conn.
func (p *plainConn) Idle() bool { return false }
