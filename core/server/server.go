// Package server runs what serves: it binds the listeners, gives every
// connection a codec and the engine, swaps configurations, and is the only place
// with a shutdown order.
//
// The nouns: a [Generation] is one configuration ready to serve, a door is one
// listener with the codec of its connections. The one rule of use: what Start
// or Reload was given belongs to the Server, and is released by it, once, when
// nothing can use it any more. A Generation that was refused stays the caller's.
//
// server does not know what a configuration file or a plugin is.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wproxy/core/certs"
	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/h2"
	"wproxy/core/listen"
	"wproxy/core/proxy"
	"wproxy/core/tcp"
)

// Options are what does not change with a reload. The functions are called
// from many goroutines and must not block.
type Options struct {
	Proxy proxy.Options
	TCP   tcp.Options

	// Connections returns what counts the open connections of a listener. It
	// is called when a configuration begins to serve, and what it returned is
	// used for as long as connections are open that came in then. Required.
	Connections func(listener string) Gauge

	// Inherit, if set, returns the socket that a listener is to have, if the process was
	// started with it, else nil; foreign as in listen.Options.
	Inherit func(ctx context.Context, name, address string) (socket net.Listener, foreign bool)

	// AcceptError is told about each failed accept, and how long the listener
	// pauses because of it. Required.
	AcceptError func(listener string, err error, pause time.Duration)

	// TooMany is told about each connection that was closed at once because its client
	// has as many as it may have. nil: nobody is.
	TooMany func(listener string)

	// ProxyRefused, if set, is told about each connection of peer that was refused because
	// it does not begin with a PROXY header, and has to.
	ProxyRefused func(listener string, peer netip.AddrPort, err *listen.ProxyError)

	// Refused is told about each request that never became an exchange, on the
	// connection's goroutine; p is what it never came to. Required.
	Refused func(p *proxy.Proxy, r *h1.Refusal)

	// Cut, if set, is told what Stop closes because the time for it to end by itself is
	// over: open connections, and how many of them are tunnels.
	Cut func(connections, tunnels int)
	// Generations is the most old generations that have exchanges or connections that are
	// passed on; 0: DefaultGenerations. A reload that makes it more ends what is left of the
	// oldest.
	Generations int
	// Ended, if set, is told how many of both that were.
	Ended func(exchanges int)
	// HandshakeFailed, if set, is told about each connection that did not come to speak
	// TLS, on its goroutine. It has been closed.
	HandshakeFailed func(c *exchange.Conn, err *listen.HandshakeError)

	// Panicked is told about a panic on a connection's goroutine: a bug. That
	// connection is closed and the others go on, because one request that hits
	// the bug must not be able to end everybody's. nil: the process ends.
	Panicked func(v any, stack []byte)
}

// A Gauge goes up and down. Its methods are called from many goroutines.
type Gauge interface {
	Inc()
	Dec()
}

// A Generation is one configuration, ready to serve.
type Generation struct {
	Listeners []Listener // names are unique; as in Snapshot.Listeners
	Snapshot  *proxy.Snapshot
	TCP       *tcp.Snapshot // for listeners with TCP; nil: there are none. Complete may fill it in

	// Complete, if set, is called once, when all listeners are bound and before
	// anybody is let in: what has effects outside of the generation, such as
	// running code of plugins, is left to it. It may fill in what Snapshot points
	// to. An error refuses the generation.
	Complete func(ctx context.Context) error

	// Release frees what the generation alone uses. It is called once, when it
	// serves no more and its last exchange is over. Required.
	Release func()
}

// A Listener says where clients connect, and how they are served.
type Listener struct {
	Name        string
	Address     string         // as in listen.Options
	Connections int            // as in listen.Options
	PerClient   int            // as in listen.Options
	Exempt      []netip.Prefix // as in listen.Options
	Settings    listen.Settings
	HTTP1       h1.ServerOptions
	HTTP2       h2.ServerOptions // the scheme is HTTP1's

	// Speaks says what connections without TLS may begin with. The zero value is
	// HTTP/1.1.
	Speaks Protocols

	// TCP has connections passed on by Generation.TCP, whatever is spoken; within TLS, if
	// there is some.
	TCP bool

	// TLS, if set, has the certificates: clients speak TLS, and nothing else. It is the
	// generation's, and used by connections for as long as they are open.
	TLS *certs.Store

	// Bound, if set, is told where the listener is when it begins to serve, each time.
	Bound func(net.Addr)
}

// Protocols is what may be spoken without TLS. With both, the client's first bytes
// decide.
type Protocols struct {
	H1  bool // HTTP/1.0 and HTTP/1.1
	H2C bool // HTTP/2 with prior knowledge (RFC 9113 3.3)
}

// Info is what there is to know of a listener that serves.
type Info struct {
	Name, Address string
	Open          int    // connections
	Total         uint64 // connections, since it was bound
}

// A Server serves. Its methods are safe for concurrent use.
type Server struct {
	// Immutable.
	o       Options
	proxy   *proxy.Proxy
	tcp     *tcp.Proxy
	gate    listen.Gate    // of TLS handshakes
	retired sync.WaitGroup // goroutines that wait for old generations
	stopped chan struct{}  // closed when Stop is through

	connections atomic.Uint64 // accepted so far; their ids

	reloading sync.Mutex // held for the whole of Reload; taken before mu

	mu sync.Mutex
	// Guarded by mu.
	doors    []*door   // that accept
	leaving  []*door   // that do not, but have connections
	old      []swapped // that have exchanges, the oldest first
	release  func()    // of the generation that serves
	draining bool
}

// ErrDraining is returned by Reload once Stop was called.
var ErrDraining = errors.New("wproxy is stopping")

// ErrStuck is returned by Stop when an exchange does not end when it is reset.
var ErrStuck = errors.New("an exchange did not end when it was reset")

// Start binds g's listeners and serves. If one of them cannot be bound nothing
// is left behind, and g is still the caller's.
func Start(ctx context.Context, o Options, g Generation) (*Server, error) {
	s := &Server{o: o, stopped: make(chan struct{}), gate: listen.NewGate(runtime.GOMAXPROCS(0))}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.prepare(ctx, g.Listeners)
	if err != nil {
		return nil, err
	}
	if err := g.complete(ctx); err != nil {
		c.giveUp()
		return nil, err
	}
	s.proxy = proxy.New(o.Proxy, g.Snapshot)
	s.tcp = tcp.New(o.TCP, g.tcpSnapshot())
	s.release = g.Release
	s.commit(c)
	return s, nil
}

// complete calls Complete.
func (g *Generation) complete(ctx context.Context) error {
	if g.Complete == nil {
		return nil
	}
	return g.Complete(ctx)
}

// tcpSnapshot returns TCP, or what stands for it where there is none.
func (g *Generation) tcpSnapshot() *tcp.Snapshot {
	if g.TCP == nil {
		return &tcp.Snapshot{}
	}
	return g.TCP
}

// Reload makes g serve: what can fail, binding new listeners and completing g, comes
// first, and then nothing has changed and g is still the caller's. Listeners with the same
// address keep their socket and connections; connections of those that are gone
// end after the exchange they are in.
func (s *Server) Reload(ctx context.Context, g Generation) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	c, err := s.bindAll(ctx, g.Listeners)
	if err != nil {
		return err
	}
	if err := g.complete(ctx); err != nil { // takes its time: Stop does not wait for it
		c.giveUp()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		c.giveUp()
		return ErrDraining
	}
	// The snapshot first: a connection must find its listener in it.
	s.addLeaving(c, g.Snapshot)
	old := swapped{s.proxy.Swap(g.Snapshot), s.tcp.Swap(g.tcpSnapshot())}
	release := s.release
	s.release = g.Release
	s.old = append(s.old, old)
	s.retired.Go(func() { // ends with the old generation's last exchange; Stop resets those
		old.wait()
		s.forget(old)
		release()
	})
	s.endOldest()
	s.commit(c)
	return nil
}

// Generations returns how many configurations have exchanges, the one that serves among
// them.
func (s *Server) Generations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.old) + 1
}

// bindAll is prepare for a server that serves.
func (s *Server) bindAll(ctx context.Context, ls []Listener) (*change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil, ErrDraining
	}
	return s.prepare(ctx, ls)
}

// Stop ends everything in order: stop accepting, let exchanges finish until ctx
// is done, reset the rest, release the generations. It returns when all of that
// has happened; called again it waits for the first. Should an exchange not end
// even then, which would be a bug, Stop returns ErrStuck and releases no more.
func (s *Server) Stop(ctx context.Context) error { return s.stop(ctx, false) }

// Leave is Stop for a server whose sockets another process has: clients are sent there one
// by one, and none is hung up on that has done nothing but wait (h1.Server.Leave), until ctx
// is done.
func (s *Server) Leave(ctx context.Context) error { return s.stop(ctx, true) }

func (s *Server) stop(ctx context.Context, leave bool) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		<-s.stopped
		return nil
	}
	s.draining = true
	doors := slices.Concat(s.doors, s.leaving)
	s.doors, s.leaving = nil, doors
	s.mu.Unlock()
	defer close(s.stopped)

	for _, d := range doors {
		if leave {
			_ = d.listener.Leave() // as below
			continue
		}
		_ = d.listener.Close() // the socket is gone either way
	}
	for _, d := range doors {
		if leave {
			d.leave()
		} else {
			d.drain()
		}
	}
	late := wait(ctx, doors) != nil
	if late && leave { // what rests is nothing to be told of
		for _, d := range doors {
			d.drain()
		}
		late = waitFor(restTime, doors) != nil
	}
	if late {
		s.cut(doors)
		for _, d := range doors {
			d.listener.HangUp()
		}
		if waitFor(hangUpTime, doors) != nil {
			for _, d := range doors {
				d.listener.Abort()
			}
			if waitFor(abortTime, doors) != nil {
				return ErrStuck
			}
		}
	}
	if !s.waitRetired(abortTime) {
		return ErrStuck
	}
	s.release()
	return nil
}

// cut ends tunnels and what is passed on, which do not end by themselves, and tells what is left.
func (s *Server) cut(doors []*door) {
	connections := 0
	for _, d := range doors {
		open, _ := d.listener.Open()
		connections += open
	}
	tunnels := s.proxy.EndTunnels() + s.tcp.EndAll()
	if s.o.Cut != nil && connections > 0 {
		s.o.Cut(connections, tunnels)
	}
}

// waitRetired waits until the old generations are released. Their exchanges
// have ended with their connections, so it is a matter of moments, unless one
// ended in a way that its count did not survive, which is a bug.
func (s *Server) waitRetired(most time.Duration) bool {
	done := make(chan struct{})
	go func() { // ends with the last of them; the process is about to end otherwise
		s.retired.Wait()
		close(done)
	}()
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// wait waits for the end of all connections, or of ctx.
func wait(ctx context.Context, doors []*door) error {
	for _, d := range doors {
		if err := d.listener.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func waitFor(d time.Duration, doors []*door) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return wait(ctx, doors)
}

// A Socket is a listener's socket, for another process.
type Socket struct {
	Name, Address string // of the listener, as configured
	Foreign       bool   // as in listen.Options
	File          *os.File
}

// Sockets returns copies of the sockets of all listeners that accept. The files are the
// caller's to close.
func (s *Server) Sockets() (all []Socket, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if err != nil {
			for _, o := range all {
				_ = o.File.Close() // a copy
			}
		}
	}()
	if s.draining {
		return nil, ErrDraining
	}
	for _, d := range s.doors {
		f, err := d.listener.File()
		if err != nil {
			return all, fmt.Errorf("listener %q: %w", d.codec.Load().name, err)
		}
		all = append(all, Socket{Name: d.codec.Load().name, Address: d.address, Foreign: d.listener.Foreign(), File: f})
	}
	return all, nil
}

// Draining reports whether Stop was called.
func (s *Server) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Snapshot returns what serves.
func (s *Server) Snapshot() *proxy.Snapshot { return s.proxy.Snapshot() }

// Listeners returns the listeners that accept, ordered by name.
func (s *Server) Listeners() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	infos := make([]Info, 0, len(s.doors))
	for _, d := range s.doors {
		open, total := d.listener.Open()
		infos = append(infos, Info{d.codec.Load().name, listen.String(d.listener.Addr()), open, total})
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

// serve is the handler of every exchange.
func (s *Server) serve(ctx context.Context, c exchange.Client) { s.proxy.Serve(ctx, c) }

// refused passes a refusal on.
func (s *Server) refused(r *h1.Refusal) { s.o.Refused(s.proxy, r) }

// recovered turns a panic of a connection's goroutine into a report.
func (s *Server) recovered() {
	if s.o.Panicked == nil {
		return
	}
	if v := recover(); v != nil {
		s.o.Panicked(v, debug.Stack())
	}
}
