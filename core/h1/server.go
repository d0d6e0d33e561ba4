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

	mu sync.Mutex
	// Guarded by mu.
	head    *serverConn // list of the open connections that do not rest
	resting restList    // those that do
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
	s.serve(s.open(ctx, nc, facts, nil))
}

// serve serves c until its socket is closed, or it rests: then it is not ours any more.
func (s *Server) serve(c *serverConn) (rests bool) {
	for {
		switch c.awaitRequest() {
		case awaitRests:
			return true
		case awaitOver:
			_ = c.nc.Close() // idle: nobody is waiting for anything
			s.close(c)
			return false
		case awaitCame:
		}
		keep := s.exchange(c)
		switch {
		case c.http2:
			s.serveHTTP2(c)
			return false
		case !keep:
			s.close(c)
			return false
		}
	}
}

// exchange serves one request. If the Handler panics, c is forgotten: whoever recovers closes
// the socket, and knows nothing of us.
func (s *Server) exchange(c *serverConn) (keep bool) {
	x, returned := s.stream(c), false
	defer func() {
		if !returned {
			s.forget(c)
		}
	}()
	keep = x.serve()
	s.recycle(x)
	returned = true
	return keep
}

// serveHTTP2 leaves c, whose client speaks HTTP/2, with what was read from it.
func (s *Server) serveHTTP2(c *serverConn) {
	early := bytes.Clone(c.buffered())
	s.close(c)
	s.o.HTTP2(c.ctx.parent, c.nc, c.facts, early)
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
	if s.resting.first != nil {
		go s.endResting(true) // ends with them: nobody rests from now on
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
	brisk     bool // the last time that c came to rest it did not for long
	watch     watchID
	restUntil moment // when the wait for a request ends that outlasted a goroutine; 0: none does

	owner    Owner // immutable; nil: c does not rest
	state    atomic.Int32
	presence presence
	ctx      connContext

	// Guarded by s.mu.
	rests      bool        // is in s.resting
	prev, next *serverConn // in s.resting, or behind s.head
}

func (s *Server) open(ctx context.Context, nc net.Conn, facts *exchange.Conn, o Owner) *serverConn {
	c := &serverConn{s: s, facts: facts, owner: o, ctx: connContext{parent: ctx}}
	if facts == nil {
		c.facts = factsOf(nc)
	}
	c.attach(nc)
	s.o.Watcher.add(c.raw, c, &c.watch)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.linkLocked(c)
	return c
}

func (s *Server) linkLocked(c *serverConn) {
	c.prev = nil
	if c.next = s.head; c.next != nil {
		c.next.prev = c
	}
	s.head = c
}

func (s *Server) unlinkLocked(c *serverConn) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.head = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
}

// close forgets a connection whose socket is closed.
func (s *Server) close(c *serverConn) {
	s.forget(c)
	c.drop()
	if c.tls != nil {
		c.tls.drop()
	}
}

// forget is the part of close that may be done while somebody is still reading or writing.
func (s *Server) forget(c *serverConn) {
	s.o.Watcher.remove(c.watch)
	c.ctx.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlinkLocked(c)
}

// What awaitRequest has come to.
type awaited uint8

const (
	awaitCame  awaited = iota
	awaitOver          // there will be no request
	awaitRests         // see rest
)

// awaitRequest waits for the first bytes of the next request.
func (c *serverConn) awaitRequest() awaited {
	if c.pipelined = c.pending(); c.pipelined {
		return awaitCame
	}
	c.release()
	c.size = headBuffer
	wait := c.s.o.Idle
	if c.s.draining.Load() && !c.s.leaving.Load() {
		if c.served {
			return awaitOver
		}
		wait = min(wait, c.s.o.HeaderTime)
	} else {
		c.state.Store(connIdle)
		if c.s.draining.Load() && !c.s.leaving.Load() && c.state.CompareAndSwap(connIdle, connClosing) {
			return awaitOver
		}
	}
	rests, err := c.awaitByte(wait)
	switch {
	case rests:
		return awaitRests
	case c.state.Swap(connActive) == connClosing, err != nil:
		return awaitOver
	}
	return awaitCame
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
