package h1

import (
	"context"
	"net"
	"time"

	"wproxy/core/exchange"
)

// A Server serves the connections of one listener.
type Server struct{ o ServerOptions }

// NewServer returns a Server that calls h for each exchange.
func NewServer(o ServerOptions, h exchange.Handler) *Server { panic("soon") }

// ServeConn serves one client connection and returns when it is closed. facts
// may be nil: they are then made from nc's addresses. ctx is the parent of the
// context that the Handler gets; when it is done, exchanges are given up.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, facts *exchange.Conn) { panic("soon") }

// Drain closes idle connections at once, and the others after the exchange they
// are serving, which is answered with "connection: close". New connections get
// one exchange. It does not wait.
func (s *Server) Drain() { panic("soon") }

// A Watcher notices connections whose other end has gone, with one goroutine
// for all of them. One per process is enough.
type Watcher struct{}

// NewWatcher starts a Watcher. On systems without epoll it returns a Watcher that notices nothing.
func NewWatcher() (*Watcher, error) { panic("soon") }

// Close ends the goroutine and waits for it.
func (w *Watcher) Close() error { panic("soon") }

// A ClientConn is a connection to an upstream. It implements pool.Conn.
type ClientConn struct{}

// NewClientConn takes over nc, an established connection. o may be nil.
func NewClientConn(nc net.Conn, o *ClientOptions) *ClientConn { panic("soon") }

// Reserve takes the connection's one slot.
func (c *ClientConn) Reserve() bool { panic("soon") }

// Open returns the stream of the exchange that Reserve has taken the slot for.
// It also is an exchange.Deadliner. It never blocks and never fails.
func (c *ClientConn) Open(ctx context.Context) (exchange.Upstream, error) { panic("soon") }

// Reused reports whether an exchange has completed on it before.
func (c *ClientConn) Reused() bool { panic("soon") }

// Idle reports whether it is alive, at rest and may serve another exchange.
func (c *ClientConn) Idle() bool { panic("soon") }

// Close closes the connection; a stream on it fails.
func (c *ClientConn) Close() error { panic("soon") }

var _ time.Duration
