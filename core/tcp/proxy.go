package tcp

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"wproxy/core/access"
	"wproxy/core/exchange"
	"wproxy/core/metrics"
)

// Reasons of connections that wproxy ends, in the log.
const (
	// ReasonDrain is that of a connection that was left when wproxy ended.
	ReasonDrain = "drain"
	// ReasonRouteGone is that of one whose route a reload has taken away or changed, and
	// whose time was over.
	ReasonRouteGone = "route_gone"

	// ReasonReloads is that of one that was ended because it has outlived too many reloads.
	ReasonReloads = "too_many_reloads"

	reasonNoRoute = "no_route"
	reasonDenied  = "denied"
	reasonTooMany = "too_many_connections"
	reasonIdle    = "idle_timeout"
	reasonTimeout = "timeout"
	reasonGone    = "client_gone"
	reasonReset   = "upstream_reset"
)

// Options are what does not change with a reload.
type Options struct {
	Metrics *metrics.Metrics // required

	// Recorder keeps notable connections; nil: nobody does.
	Recorder *access.Recorder
}

// A Proxy is the engine. Use [New]. It is safe for concurrent use.
type Proxy struct {
	// Immutable.
	metrics *metrics.Metrics
	records *access.Recorder // may be nil
	pipes   *pipes

	current atomic.Pointer[Snapshot]

	mu sync.Mutex
	// Guarded by mu.
	open  map[*conn]struct{}
	ended bool // EndAll was called: there are no more
}

// New makes an engine that serves s.
func New(o Options, s *Snapshot) *Proxy {
	p := &Proxy{metrics: o.Metrics, records: o.Recorder, pipes: newPipes(), open: map[*conn]struct{}{}}
	s.refs.Publish()
	p.current.Store(s)
	return p
}

// Swap makes s serve and returns what served before. Connections go on. Those whose route is
// the same in s, with all that it uses, move over to it, so that what they came in with can
// go; those whose route is not the same end after s.Grace.
func (p *Proxy) Swap(s *Snapshot) (old *Snapshot) {
	s.refs.Publish()
	old = p.current.Swap(s)
	p.mu.Lock()
	left := false
	for c := range p.open {
		left = p.moveLocked(c, s) || left
	}
	p.mu.Unlock()
	if left {
		p.endLeftLater(s.Grace)
	}
	old.refs.Release()
	return old
}

// moveLocked sees what becomes of a connection now that s serves; true if s leaves it without
// a route. One that has none yet goes on with what it came in with: see settle.
func (p *Proxy) moveLocked(c *conn, s *Snapshot) (left bool) {
	if c.route == nil || c.snap == s {
		return false
	}
	next := s.Routes[c.route.Name]
	if next == nil || next.Mark != c.route.Mark {
		if c.left.IsZero() {
			c.left = time.Now()
		}
		return true
	}
	c.left = time.Time{}
	if next.Parts == c.route.Parts && s.refs.Acquire() {
		c.snap.refs.Release() // all that the connection uses is part of s, too
		c.snap = s
	}
	return false
}

// settle notes the route of a connection. A reload may have come since it was accepted.
func (p *Proxy) settle(c *conn, r *Route) {
	p.mu.Lock()
	c.route = r
	s := p.current.Load()
	left := p.moveLocked(c, s)
	p.mu.Unlock()
	if left {
		p.endLeftLater(s.Grace)
	}
}

// endLeftLater ends connections without a route when their time is over.
func (p *Proxy) endLeftLater(grace time.Duration) {
	time.AfterFunc(grace, func() { // at most one for each reload of the last grace, and one for each connection that it met
		p.endSome(ReasonRouteGone, func(c *conn) bool { return !c.left.IsZero() && time.Since(c.left) >= grace })
	})
}

// EndAll ends all connections, in order as far as TCP has one, and lets no more begin. It
// returns how many there were, and does not wait for their end.
func (p *Proxy) EndAll() int {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	return p.endSome(ReasonDrain, func(*conn) bool { return true })
}

// EndOn ends the connections that keep s, which was swapped out. It returns how many there
// were, and does not wait for their end.
func (p *Proxy) EndOn(s *Snapshot) int {
	return p.endSome(ReasonReloads, func(c *conn) bool { return c.snap == s && !c.isOver() })
}

func (p *Proxy) endSome(reason string, which func(*conn) bool) int {
	p.mu.Lock()
	var some []*conn
	for c := range p.open {
		if which(c) {
			some = append(some, c)
		}
	}
	p.mu.Unlock()
	for _, c := range some {
		c.abort(reason, false)
	}
	return len(some)
}

// Open returns how many connections there are.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// Serve joins a connection with an upstream, on the calling goroutine, and returns when it is
// over and nc is closed. facts belong to nc, and must not change. ctx ends it.
func (p *Proxy) Serve(ctx context.Context, nc net.Conn, facts *exchange.Conn) {
	c := &conn{p: p, client: nc, facts: facts, start: time.Now()}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if !p.begin(c) {
		c.cancel()
		_ = nc.Close() // nothing was read of it
		return
	}
	stop := context.AfterFunc(ctx, func() { c.abort(ReasonDrain, false) })
	defer func() {
		stop()
		c.end()
	}()
	if c.run() {
		c.join()
	}
}

// begin makes c one of the open connections.
func (p *Proxy) begin(c *conn) bool {
	for {
		if c.snap = p.current.Load(); c.snap.refs.Acquire() {
			break // else it was swapped out and drained in between
		}
	}
	p.mu.Lock()
	ended := p.ended
	if !ended {
		p.open[c] = struct{}{}
	}
	p.mu.Unlock()
	if ended {
		c.snap.refs.Release()
	}
	return !ended
}

// forget ends that, and returns what c was served by, with its reference.
func (p *Proxy) forget(c *conn) *Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	return c.snap
}
