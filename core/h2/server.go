package h2

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
)

// A Server serves the connections of one listener. Its methods are safe for
// concurrent use.
type Server struct {
	// Immutable.
	scheme  string
	maxBody int64
	budget  *Budget
	refused func(*Refusal)
	o       options
	h       exchange.Handler

	date     dateCache
	draining atomic.Bool

	mu   sync.Mutex
	head *serverConn // list of the open connections; guarded by mu
}

// NewServer returns a Server that calls h for each exchange.
func NewServer(o ServerOptions, h exchange.Handler) *Server {
	return &Server{
		scheme: cmp.Or(o.Scheme, "http"), maxBody: o.MaxBody, budget: o.Budget, refused: o.Refused, o: o.common(), h: h,
	}
}

// ServeConn serves one client connection and returns when it is closed and all its
// exchanges are over. early is what was read from nc already, from the preface on; it is
// copied. The Handler is called on goroutines of the connection. facts may be nil:
// they are then made from nc's addresses. ctx is the parent of the contexts that the
// Handler gets, one for each exchange. Cancelling it gives up exchanges as far as the
// Handler heeds it; closing nc, from any goroutine, ends everything.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, facts *exchange.Conn, early []byte) {
	c := s.open(ctx, nc, facts, early)
	defer s.close(c)
	err := c.readPreface()
	if err == nil {
		err = c.read()
	}
	err = c.end(err)
	if ce, ok := errors.AsType[*connError](err); ok && ce.reason != "" {
		c.tell(fault{0, ce.reason}, time.Now(), &requestHead{})
	}
	c.endWorkers()
}

// Drain tells all clients that no more requests are wanted (GOAWAY), serves those that
// are on their way, and closes each connection with its last exchange. A connection
// that comes later is told the same. Drain does not wait.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.head; c != nil; c = c.behind {
		c.drain()
	}
}

func (s *Server) open(ctx context.Context, nc net.Conn, facts *exchange.Conn, early []byte) *serverConn {
	c := &serverConn{s: s, facts: facts, ctx: ctx}
	if facts == nil {
		c.facts = factsOf(nc)
	}
	c.share.budget = s.budget
	c.attach(nc, &s.o, c, early)
	c.mu.Lock()
	c.greet()
	c.mu.Unlock()
	s.mu.Lock()
	if c.behind = s.head; c.behind != nil {
		c.behind.before = c
	}
	s.head = c
	s.mu.Unlock()
	if s.draining.Load() {
		c.drain()
	}
	return c
}

// close forgets a connection.
func (s *Server) close(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.before != nil {
		c.before.behind = c.behind
	} else {
		s.head = c.behind
	}
	if c.behind != nil {
		c.behind.before = c.before
	}
}

// readPreface reads what clients send first (RFC 9113 3.4).
func (c *serverConn) readPreface() error {
	c.in.frame = c.now()
	for want := http2.ClientPreface; want != ""; {
		p, err := c.next(len(want))
		if err != nil {
			return err
		}
		if string(p) != want[:len(p)] {
			return &connError{http2.ErrCodeProtocol, ReasonBadPreface}
		}
		want = want[len(p):]
	}
	c.in.frame = 0
	return nil
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

// A dateCache holds the text of the current second for the date field.
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
