package h1

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"wproxy/core/exchange"
)

// A Server serves the connections of one listener. Its methods are safe for
// concurrent use.
type Server struct {
	// Immutable.
	o ServerOptions
	h exchange.Handler

	streams  sync.Pool // of *serverStream
	date     dateCache
	draining atomic.Bool
	leaving  atomic.Bool // see Leave

	mu   sync.Mutex
	head *serverConn // list of the open connections; guarded by mu
}

// NewServer returns a Server that calls h for each exchange.
func NewServer(o ServerOptions, h exchange.Handler) *Server {
	o.applyDefaults()
	return &Server{o: o, h: h}
}

// ServeConn serves one client connection and returns when it is closed. It
// calls the Handler on the calling goroutine and starts none. facts may be nil:
// they are then made from nc's addresses. ctx is the parent of the context that
// the Handler gets, which is one for the whole connection. Cancelling ctx gives up
// exchanges as far as the Handler heeds it; closing nc, from any goroutine,
// ends everything.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, facts *exchange.Conn) {
	c := s.open(ctx, nc, facts)
	early := s.serveRequests(c)
	s.close(c)
	if early != nil {
		s.o.HTTP2(ctx, nc, c.facts, early)
	}
}

// serveRequests serves c until its socket is closed. If its client turns out to speak
// HTTP/2, it is not closed, and the result is what was read from it.
func (s *Server) serveRequests(c *serverConn) []byte {
	for c.awaitRequest() {
		x := s.stream(c)
		keep := x.serve()
		s.recycle(x)
		if c.http2 {
			return bytes.Clone(c.buffered())
		}
		if !keep {
			return nil
		}
	}
	_ = c.nc.Close() // idle: nobody is waiting for anything
	return nil
}

// Drain closes idle connections at once, and the others after the exchange they
// are serving, which is answered with "connection: close" if its head has not
// been sent yet. A connection that comes later is served one exchange. Drain does
// not wait.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.leaving.Store(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.head; c != nil; c = c.next {
		if c.state.CompareAndSwap(connIdle, connClosing) {
			_ = c.nc.Close() // awaitRequest returns
		}
	}
}

// Leave is a Drain that costs no client a request: idle connections stay until their next
// request, which is answered with "connection: close", or until Drain. A connection that
// is closed the moment that its client uses it again would be a request that failed, and
// one that no client may send again unless it is idempotent (RFC 9112 9.3.1, 9.6). It is for
// an end that is in no hurry, since somebody else serves already.
func (s *Server) Leave() {
	s.leaving.Store(true)
	s.draining.Store(true)
}

// States of a serverConn, for Drain.
const (
	connActive = iota
	connIdle
	connClosing
)

// A serverConn is what a client's connection keeps between exchanges; idle
// ones are many, so it is small.
type serverConn struct {
	conn

	// Immutable.
	s     *Server
	facts *exchange.Conn

	// Owned by the connection's goroutine.
	served    bool // an exchange was served
	http2     bool // the client speaks HTTP/2
	pipelined bool // the request was there before the last answer had ended
	watch     watchID

	state    atomic.Int32
	presence presence
	ctx      connContext

	prev, next *serverConn // guarded by s.mu
}

func (s *Server) open(ctx context.Context, nc net.Conn, facts *exchange.Conn) *serverConn {
	c := &serverConn{s: s, facts: facts, ctx: connContext{parent: ctx}}
	if facts == nil {
		c.facts = factsOf(nc)
	}
	c.attach(nc)
	s.o.Watcher.add(c.raw, c, &c.watch)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.next = s.head; c.next != nil {
		c.next.prev = c
	}
	s.head = c
	return c
}

// close forgets a connection whose socket is closed.
func (s *Server) close(c *serverConn) {
	s.o.Watcher.remove(c.watch)
	c.drop()
	if c.tls != nil {
		c.tls.drop()
	}
	c.ctx.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.head = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
}

// awaitRequest waits for the first bytes of the next request. False: there will
// be none.
func (c *serverConn) awaitRequest() bool {
	if c.pipelined = c.pending(); c.pipelined {
		return true
	}
	c.release()
	c.size = headBuffer
	wait := c.s.o.Idle
	if c.s.draining.Load() && !c.s.leaving.Load() {
		if c.served {
			return false
		}
		wait = min(wait, c.s.o.HeaderTime)
	} else {
		c.state.Store(connIdle)
		if c.s.draining.Load() && !c.s.leaving.Load() && c.state.CompareAndSwap(connIdle, connClosing) {
			return false
		}
	}
	err := c.fill(limit{timeout: wait}, c.s.o.MaxHead)
	return c.state.Swap(connActive) != connClosing && err == nil
}

// stream returns a stream for the next exchange on c.
func (s *Server) stream(c *serverConn) *serverStream {
	x, _ := s.streams.Get().(*serverStream)
	if x == nil {
		x = new(serverStream)
	}
	x.open(c)
	return x
}

// recycle takes back a stream after its exchange. In the invariants build it is
// not used again, so that a late call is found.
func (s *Server) recycle(x *serverStream) {
	x.close()
	if !invariants {
		s.streams.Put(x)
	}
}

// factsOf describes a connection that came without facts.
func factsOf(nc net.Conn) *exchange.Conn {
	f := new(exchange.Conn)
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		f.Remote = a.AddrPort()
		f.RemoteIP, f.RemoteAddr = f.Remote.Addr().String(), f.Remote.String()
	}
	if a, ok := nc.LocalAddr().(*net.TCPAddr); ok {
		f.Local = a.AddrPort()
		f.LocalAddr = f.Local.String()
	}
	return f
}

// A dateCache holds the text of the current second for the Date field.
type dateCache struct{ text atomic.Pointer[dateText] }

type dateText struct {
	second int64
	text   string
}

// at returns t as in RFC 9110 5.6.7.
func (d *dateCache) at(t time.Time) string {
	second := t.Unix()
	if x := d.text.Load(); x != nil && x.second == second {
		return x.text
	}
	x := &dateText{second, t.UTC().Format(http.TimeFormat)}
	d.text.Store(x)
	return x.text
}
