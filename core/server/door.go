package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/h2"
	"wproxy/core/internal/tlsconn"
	"wproxy/core/listen"
	"wproxy/core/proxy"
)

// A door is one bound listener with the codec of its connections.
type door struct {
	// Immutable.
	server   *Server
	listener *listen.Listener

	reusePort bool // as it was bound

	codec atomic.Pointer[codec] // of new connections

	// Guarded by Server.mu.
	address string   // as configured
	old     []*codec // with settings of earlier generations, and connections
}

// A codec is the settings that a connection got when it was accepted.
type codec struct {
	name  string // of the listener
	h1    *h1.Server
	h2    *h2.Server
	only2 bool         // HTTP/2 without TLS, and nothing else
	tcp   bool         // what comes is passed on
	tls   *listen.TLS  // nil: without
	gauge Gauge        // of the listener when the codec was made
	open  atomic.Int64 // connections
}

// serve is a connection's goroutine, the first of them if it rests: then the result is true. An
// idle connection that does not waits in it: the frames from here to the wait are kept small
// (TestIdleStack).
func (d *door) serve(ctx context.Context, nc net.Conn, facts *exchange.Conn, over func()) (rests bool) {
	c := d.codec.Load()
	c.enter(facts)
	defer func() {
		if !rests {
			c.leave()
		}
	}()
	defer d.server.recovered()
	if c.tls != nil {
		if nc = d.secure(ctx, c, nc, facts); nc == nil {
			return false
		}
	}
	sc, _ := nc.(*tlsconn.Conn)
	switch {
	case c.tcp:
		d.server.tcp.Serve(ctx, nc, facts)
	case c.speaksH2(facts):
		c.h2.ServeConn(ctx, nc, facts, nil)
	case c.h1.Serve(ctx, nc, facts, &visit{d.server, c, sc, over}):
		return true
	}
	if sc != nil {
		sc.Drop()
	}
	return false
}

// A visit is a connection of HTTP/1.1 that may rest: it implements h1.Owner.
type visit struct {
	server *Server
	codec  *codec
	tls    *tlsconn.Conn // nil: without
	over   func()        // tells the listener
}

// Resume implements h1.Owner.
func (v *visit) Resume(r h1.Resting) { go v.serve(r) } // ends with the connection, or when it rests

// serve is a connection's goroutine after it has rested.
func (v *visit) serve(r h1.Resting) {
	rests := false
	defer func() {
		if !rests {
			v.Over()
		}
	}()
	defer v.server.recovered()
	rests = r.Serve()
}

// Over implements h1.Owner.
func (v *visit) Over() {
	if v.tls != nil {
		v.tls.Drop()
	}
	v.codec.leave()
	v.over()
}

// enter counts a connection. Its listener has the name of c: a reload may have renamed it.
func (c *codec) enter(facts *exchange.Conn) {
	c.open.Add(1)
	facts.Listener = c.name
	c.gauge.Inc()
}

// leave is the end of what enter began.
func (c *codec) leave() {
	c.gauge.Dec()
	c.open.Add(-1)
}

// speaksH2 reports whether a connection, of which nothing was read beyond the handshake,
// is HTTP/2.
func (c *codec) speaksH2(facts *exchange.Conn) bool {
	if c.tls != nil {
		return facts.TLS.NegotiatedProtocol == "h2"
	}
	return c.only2
}

// secure does the handshake of a connection on a goroutine of its own; nil: it has failed,
// and that was told, or it was all that was wanted. A handshake needs a stack of 16 KiB or
// more, which the next one gets when the goroutine has ended. The connection's own
// goroutine would have it until a collection shrinks it.
func (d *door) secure(ctx context.Context, c *codec, nc net.Conn, facts *exchange.Conn) net.Conn {
	secured := make(chan net.Conn, 1)
	go func() { // ends with the handshake, which has a deadline
		defer close(secured)
		defer d.server.recovered()
		if sc := d.handshake(ctx, c, nc, facts); sc != nil {
			secured <- sc
		}
	}()
	return <-secured
}

// handshake does the handshake of a connection; nil: as secure.
func (d *door) handshake(ctx context.Context, c *codec, nc net.Conn, facts *exchange.Conn) *tlsconn.Conn {
	sc, err := c.tls.Handshake(ctx, nc, facts)
	if err != nil {
		if he, ok := errors.AsType[*listen.HandshakeError](err); ok && d.server.o.HandshakeFailed != nil {
			d.server.o.HandshakeFailed(facts, he)
		}
		return nil
	}
	switch facts.TLS.NegotiatedProtocol {
	case "", "h2", "http/1.1":
		return sc
	}
	_ = sc.Close() // what was negotiated is nothing that requests come on; nobody is waiting
	sc.Drop()
	return nil
}

// drain tells c's connections to finish.
func (c *codec) drain() {
	c.h1.Drain()
	c.h2.Drain()
}

// leave tells every codec to finish, without hurry.
func (d *door) leave() {
	for _, c := range d.codecs() {
		c.h1.Leave()
		c.h2.Drain() // says so first, and serves what is on its way
	}
}

// drain tells every codec to finish, and gives up who has not come to one.
func (d *door) drain() {
	d.listener.Drain()
	for _, c := range d.codecs() {
		c.drain()
	}
}

// set makes new connections use l's settings. The server's lock is held.
func (d *door) set(l Listener) {
	c := d.server.newCodec(&l)
	if l.Bound != nil {
		l.Bound(d.listener.Addr())
	}
	d.old = slices.DeleteFunc(d.old, func(c *codec) bool { return c.open.Load() == 0 })
	if was := d.codec.Swap(c); was != nil {
		// Even with no connection open: one may be on its way from Load to
		// Add. It is dropped the next time.
		d.old = append(d.old, was)
		if was.name != l.Name { // its connections have the old name for ever
			was.drain()
		}
	}
	d.address = l.Address
	d.listener.SetConnections(l.Connections)
	d.listener.SetPerClient(l.PerClient, l.Exempt)
	d.listener.SetSettings(l.Settings)
}

// newCodec makes the codec of l's new connections.
func (s *Server) newCodec(l *Listener) *codec {
	o1, o2 := l.HTTP1, l.HTTP2
	o1.Refused = s.refused
	if l.TLS != nil {
		o1.Scheme = "https"
	}
	o2.Scheme = o1.Scheme
	o2.Refused = func(r *h2.Refusal) { s.refused((*h1.Refusal)(r)) } // they have the same fields
	c := &codec{
		name: l.Name, gauge: s.o.Connections(l.Name),
		h2: h2.NewServer(o2, func(ctx context.Context, x exchange.Client) {
			defer s.recovered() // that stream is reset, and the others go on
			s.serve(ctx, x)
		}),
		only2: l.Speaks.H2C && !l.Speaks.H1 && l.TLS == nil,
		tcp:   l.TCP,
	}
	if l.Speaks.H2C {
		o1.HTTP2 = c.h2.ServeConn
	}
	c.h1 = h1.NewServer(o1, s.serve)
	if l.TLS != nil {
		c.tls = &listen.TLS{Store: l.TLS, Timeout: cmp.Or(o1.HeaderTime, h1.DefaultHeaderTime), Gate: s.gate}
	}
	return c
}

// A change is a set of doors that is bound but not yet in use.
type change struct {
	keep    map[*door]Listener
	open    map[*door]Listener
	doors   []*door // all of them, in the order of the listeners
	leaving []*door
}

// prepare binds what is new. The lock is held; until commit only Stop may have it.
func (s *Server) prepare(ctx context.Context, ls []Listener) (*change, error) {
	c := &change{keep: map[*door]Listener{}, open: map[*door]Listener{}, leaving: slices.Clone(s.doors)}
	take := func(match func(*door) bool) *door {
		i := slices.IndexFunc(c.leaving, match)
		if i < 0 {
			return nil
		}
		d := c.leaving[i]
		c.leaving = slices.Delete(c.leaving, i, i+1)
		return d
	}
	c.doors = make([]*door, len(ls))
	for i, l := range ls {
		c.doors[i] = take(func(d *door) bool { return d.address == l.Address && d.codec.Load().name == l.Name })
	}
	for i, l := range ls {
		if c.doors[i] == nil { // renamed?
			c.doors[i] = take(func(d *door) bool { return d.address == l.Address })
		}
		if c.doors[i] == nil { // spelled differently?
			c.doors[i] = take(func(d *door) bool { return listen.Same(ctx, l.Address, d.listener.Addr()) })
		}
		if d := c.doors[i]; d != nil && d.reusePort != l.Settings.Socket.ReusePort {
			c.giveUp()
			return nil, errBound(&l)
		}
		if d := c.doors[i]; d != nil {
			c.keep[d] = l
			continue
		}
		d, err := s.bind(ctx, l)
		if err != nil {
			c.giveUp()
			return nil, s.explain(err, l)
		}
		c.doors[i] = d
		c.open[d] = l
	}
	return c, nil
}

// errBound is why reuse_port of a listener cannot change.
func errBound(l *Listener) error {
	return fmt.Errorf("listener %q: reuse_port is decided when the socket is bound, and that on %s is bound: restart, or go by way of another port",
		l.Name, l.Address)
}

// giveUp closes what was bound.
func (c *change) giveUp() {
	for d := range c.open {
		_ = d.listener.Close() // nobody was let in
	}
}

// explain adds to the error of binding l that it is ourselves who are in the way:
// two sockets for overlapping addresses cannot be there at the same time, and
// giving up the old one first could leave us with none.
func (s *Server) explain(err error, l Listener) error {
	_, port, _ := net.SplitHostPort(l.Address)
	if !errors.Is(err, syscall.EADDRINUSE) || port == "" {
		return err
	}
	for _, d := range s.doors {
		ours := d.listener.Addr().String()
		if _, p, bad := net.SplitHostPort(ours); bad == nil && p == port {
			return fmt.Errorf("%w by this wproxy's own listener %q on %s: a reload cannot exchange one for the other; restart, or go by way of another port",
				err, d.codec.Load().name, ours)
		}
	}
	return err
}

// bind makes a door that does not accept yet.
func (s *Server) bind(ctx context.Context, l Listener) (*door, error) {
	d := &door{server: s, address: l.Address, reusePort: l.Settings.Socket.ReusePort}
	var err error
	var socket net.Listener
	foreign := false
	if s.o.Inherit != nil {
		socket, foreign = s.o.Inherit(ctx, l.Name, l.Address)
	}
	if socket != nil && !foreign && listen.SharesPort(socket) != d.reusePort { // a service manager has its own way
		_ = socket.Close() // a copy
		return nil, errBound(&l)
	}
	d.listener, err = listen.Listen(ctx, listen.Options{
		Socket: socket, Foreign: foreign,
		Name: l.Name, Address: l.Address, Connections: l.Connections, Serve: d.serve, Settings: l.Settings,
		NextID: func() uint64 { return s.connections.Add(1) },
		AcceptError: func(err error, pause time.Duration) {
			s.o.AcceptError(d.codec.Load().name, err, pause)
		},
		TooMany: func() {
			if s.o.TooMany != nil {
				s.o.TooMany(d.codec.Load().name)
			}
		},
		ProxyRefused: func(peer netip.AddrPort, err *listen.ProxyError) {
			if s.o.ProxyRefused != nil {
				s.o.ProxyRefused(d.codec.Load().name, peer, err)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// commit puts a change into use. It cannot fail. The lock is held.
func (s *Server) commit(c *change) {
	s.doors = c.doors
	for d, l := range c.keep {
		d.set(l)
	}
	for d, l := range c.open {
		d.set(l)
		d.listener.Start()
	}
	s.leaving = slices.DeleteFunc(s.leaving, func(d *door) bool {
		open, _ := d.listener.Open()
		return open == 0
	})
	for _, d := range c.leaving {
		_ = d.listener.Close() // the socket is gone either way
		d.drain()
		s.leaving = append(s.leaving, d)
	}
}

// addLeaving makes next know the names that connections still have although
// no listener has them any more. They are being drained, but a request that is on
// its way in is served by next, and must be trusted like those before it: with
// what a renamed listener has now, and what one that is gone had. The lock is held.
func (s *Server) addLeaving(c *change, next *proxy.Snapshot) {
	named := func(ls []*proxy.Listener, name string) *proxy.Listener {
		for _, l := range ls {
			if l.Name == name {
				return l
			}
		}
		return nil
	}
	add := func(name string, as *proxy.Listener) {
		if as != nil && named(next.Listeners, name) == nil {
			l := *as
			l.Name = name
			next.Listeners = append(next.Listeners, &l)
		}
	}
	for d, l := range c.keep {
		now := named(next.Listeners, l.Name)
		for _, old := range d.codecs() {
			add(old.name, now)
		}
	}
	before := s.proxy.Snapshot().Listeners
	for _, d := range slices.Concat(c.leaving, s.leaving) {
		for _, old := range d.codecs() {
			add(old.name, named(before, old.name))
		}
	}
}

// codecs returns all that connections may have. The lock is held.
func (d *door) codecs() []*codec { return append([]*codec{d.codec.Load()}, d.old...) }
