// Package pool keeps connections to the servers of one upstream. A connection
// that is at rest is handed out last in, first out: the one used last is the least
// likely to have been closed by the server, and the others grow old and go.
//
// A caller gets a connection with a slot reserved, opens a stream on it, and puts
// it back when the exchange is over. The pool does not know what is said on it.
package pool

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/upstream"
)

// A DialFunc makes a connection to e. It is called without locks held.
type DialFunc func(ctx context.Context, e *upstream.Endpoint) (Conn, error)

// Options of a Pool. Zero means the default (limits.go), negative none.
type Options struct {
	Idle      int           // connections at rest over all servers; negative: none is kept
	IdleTime  time.Duration // how long one rests; negative: none is kept
	PerServer int           // open connections per server; 0 or less: no limit
	Requests  int           // exchanges that have a connection, or make one, per server; 0 or less: no limit
	Queue     int           // exchanges waiting for a connection or their turn, per server; negative: none waits
	QueueTime time.Duration // how long one waits, in all: for its turn, and then for a connection
	Dial      DialFunc      // required

	// Multiplex says whether Dial returns a Multiplexer.
	Multiplex Multiplexing
	// Streams is about how many exchanges a Multiplexer carries: so many wait for one
	// dial. 0: DefaultStreams.
	Streams int
	// DialUpgrade makes connections for upgrades where Dial may return a Multiplexer
	// (Maybe), which has none. Nil: Dial.
	DialUpgrade DialFunc

	// DialFor, if set, makes all connections of Get, each for one source: they serve nobody
	// else. Those of Connect are nobody's, and made by Dial. upgrade asks for what
	// DialUpgrade makes.
	DialFor func(ctx context.Context, e *upstream.Endpoint, from Source, upgrade bool) (Conn, error)
}

// A Source is whom a connection is made for, where servers are told (the PROXY protocol):
// the client, and where it has connected to. The zero Source is nobody in particular.
type Source struct{ Client, Server netip.AddrPort }

// Multiplexing says what connections of a pool can do.
type Multiplexing uint8

const (
	// Never means one exchange at a time.
	Never Multiplexing = iota
	// Maybe means that it shows when they are made.
	Maybe
	// Always means many exchanges at a time.
	Always
)

func (o *Options) applyDefaults() {
	if o.Idle == 0 {
		o.Idle = DefaultIdle
	}
	if o.IdleTime == 0 {
		o.IdleTime = DefaultIdleTime
	}
	if o.IdleTime < 0 {
		o.Idle = -1
	}
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	if o.QueueTime <= 0 {
		o.QueueTime = DefaultQueueTime
	}
	if o.Streams <= 0 {
		o.Streams = DefaultStreams
	}
	if o.DialUpgrade == nil {
		o.DialUpgrade = o.Dial
	}
}

// A Pool keeps the connections of one upstream. Use [New]. It is safe for
// concurrent use.
type Pool struct {
	// Immutable.
	o      Options
	period time.Duration // between two sweeps

	mu sync.Mutex
	// Guarded by mu.
	servers map[Key]*server
	gates   map[Key]*gate // of servers with a limit of requests
	idle    int           // connections at rest, over all servers
	tick    uint64        // sweeps so far: the clock by which connections age
	closed  bool
	sweeper *time.Timer // the one sweeper; armed while something rests
	armed   bool
}

// A server is what the pool knows of one key.
type server struct {
	idle  []resting // used last at the end
	open  int       // connections at rest, in use, and being made
	queue queue

	shared  []*shared // in the order in which they were made
	leaving []*shared // that take no more exchanges, and have some; not counted in open
	dialing *dialing  // the dial that was begun last; nil: it is over
	single  bool      // the connection that was made last is no Multiplexer: others will be like it
}

type resting struct {
	c     Conn
	since uint64 // value of Pool.tick
	from  Source
}

// A Request says what Get is to do.
type Request struct {
	Endpoint *upstream.Endpoint
	// Fresh asks for a new connection: after one at rest turned out to be
	// dead, the others are suspects too. It means nothing for a Multiplexer, which
	// notices by itself.
	Fresh bool
	// Upgrade asks for a connection that can be upgraded, which a Multiplexer cannot.
	Upgrade bool
	// Deadline ends waiting and dialling; zero: only the pool's own bounds do.
	Deadline time.Time
	// Source is whom the connection is for. It means something where the pool is Tied.
	Source Source

	patience time.Time // when waiting in queues ends; zero: it has not waited yet
}

// New makes a Pool. It holds one timer while connections rest; [Pool.Close] ends it.
func New(o Options) *Pool {
	o.applyDefaults()
	p := &Pool{o: o, servers: make(map[Key]*server), gates: make(map[Key]*gate)}
	p.period = min(max(o.IdleTime/sweepsPerIdleTime, minSweep), maxSweep)
	return p
}

// Tied reports whether connections belong to the source that they were made for.
func (p *Pool) Tied() bool { return p.o.DialFor != nil }

// Get returns a connection with a slot reserved, one at rest or a new one, and
// how long it took to make it (0: it was there). It waits while there may be no
// more. An error is an *exchange.Error, with reason queue_full, queue_timeout or
// pool_closed or from Dial, or the error of ctx.
func (p *Pool) Get(ctx context.Context, r Request) (Conn, time.Duration, error) {
	key := KeyOf(r.Endpoint)
	r.Upgrade = r.Upgrade && p.o.Multiplex == Maybe // elsewhere all connections are alike
	if p.o.DialFor == nil {
		r.Source = Source{}
	}
	limit := p.requests(r.Endpoint)
	if limit <= 0 {
		return p.get(ctx, key, r)
	}
	if err := p.enter(ctx, key, limit, &r); err != nil {
		return nil, 0, err
	}
	c, took, err := p.get(ctx, key, r)
	if err != nil {
		p.leave(key)
	}
	return c, took, err
}

// get is Get for who has its turn.
func (p *Pool) get(ctx context.Context, key Key, r Request) (Conn, time.Duration, error) {
	most := r.Endpoint.MaxConnections
	if most <= 0 {
		most = p.o.PerServer
	}
	var awaited *dialing // has ended, or nil
	p.mu.Lock()
	for {
		if p.closed {
			p.mu.Unlock()
			return nil, 0, unavailable("pool_closed")
		}
		s := p.serverLocked(key)
		if p.o.Multiplex != Never && !r.Upgrade {
			c := p.shareLocked(key, s, r.Source)
			if awaited != nil && awaited.waiting == 0 {
				p.offerAllLocked(key)
			}
			if c != nil {
				p.mu.Unlock()
				return c, 0, nil
			}
			awaited = nil
			s = p.serverLocked(key) // those that were of no use may have been the last
		}
		if i := s.restingFor(&r.Source); i >= 0 && !r.Fresh {
			c := p.popLocked(s, i)
			p.mu.Unlock()
			// Outside the lock: it may ask the kernel whether the peer has closed.
			if c.Reserve() {
				return c, 0, nil
			}
			_ = c.Close() // dead already
			p.mu.Lock()
			p.freeLocked(key)
			continue
		}
		if d := s.dialing; d != nil && d.from == r.Source && !r.Upgrade && !s.single && d.waiting < p.o.Streams-1 {
			if err := p.await(ctx, key, d, r.Deadline); err != nil { // unlocks meanwhile
				p.mu.Unlock()
				return nil, 0, err
			}
			awaited = d
			continue
		}
		if most <= 0 || s.open < most {
			s.open++
			p.mu.Unlock()
			return p.dial(ctx, key, r)
		}
		if len(s.idle) > 0 { // Fresh, or others', and no room: one at rest gives way
			c := p.popLocked(s, 0)
			p.mu.Unlock()
			_ = c.Close()
			return p.dial(ctx, key, r) // in its place
		}
		if (r.Upgrade || p.Tied()) && p.yieldLocked(s) {
			p.mu.Unlock()
			return p.dial(ctx, key, r) // in its place
		}
		g, err := p.wait(ctx, s, key, &r) // unlocks
		switch {
		case err != nil:
			return nil, 0, err
		case g.c == nil:
			return p.dial(ctx, key, r)
		case g.reserved || g.c.Reserve():
			return g.c, 0, nil
		}
		_ = g.c.Close()
		p.mu.Lock()
		p.freeLocked(key)
	}
}

// dial makes a connection, for which server.open has been counted. p.mu is not held.
func (p *Pool) dial(ctx context.Context, key Key, r Request) (Conn, time.Duration, error) {
	if !r.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.Deadline)
		defer cancel()
	}
	d := p.beginDial(key, &r)
	start := time.Now()
	c, err := p.make(ctx, &r)
	took := max(time.Since(start), 1)
	if err == nil && !c.Reserve() { // the server took it and closed it again, before anything was asked
		_ = c.Close()
		err = &exchange.Error{
			Op: "dial", Side: exchange.UpstreamSide, Retry: exchange.RetryAlways, Status: 502, Reason: "upstream_closed",
		}
	}
	if d != nil {
		p.endDial(ctx, key, d, c, err)
	}
	if err != nil {
		p.mu.Lock()
		p.freeLocked(key)
		p.mu.Unlock()
		return nil, took, err
	}
	return c, took, nil
}

// make makes a connection for r.
func (p *Pool) make(ctx context.Context, r *Request) (Conn, error) {
	switch {
	case p.o.DialFor != nil:
		return p.o.DialFor(ctx, r.Endpoint, r.Source, r.Upgrade)
	case r.Upgrade:
		return p.o.DialUpgrade(ctx, r.Endpoint)
	default:
		return p.o.Dial(ctx, r.Endpoint)
	}
}

// Connect makes a connection as Get would, which the pool neither counts nor keeps: it
// is for who wants to know whether one can be made.
func (p *Pool) Connect(ctx context.Context, e *upstream.Endpoint) (Conn, error) {
	return p.o.Dial(ctx, e)
}

// Put gives back what Get returned for e, once its exchange is over. A connection
// that cannot serve another one is closed. Where the pool is Tied, it is for PutFor.
func (p *Pool) Put(e *upstream.Endpoint, c Conn) { p.PutFor(e, c, Source{}) }

// PutFor is Put for a connection that Get returned for a source.
func (p *Pool) PutFor(e *upstream.Endpoint, c Conn, from Source) {
	if p.o.DialFor == nil {
		from = Source{}
	}
	key := KeyOf(e)
	if p.o.Multiplex != Never {
		if m, ok := c.(Multiplexer); ok {
			p.putShared(key, m)
			if p.requests(e) > 0 {
				p.leave(key)
			}
			return
		}
	}
	idle := c.Idle()
	p.mu.Lock()
	if p.requests(e) > 0 { // as it was at Get: e is the same
		p.leaveLocked(key)
	}
	s := p.serverLocked(key)
	if !idle || p.closed {
		p.freeLocked(key)
		p.mu.Unlock()
		_ = c.Close()
		return
	}
	var old Conn
	if w := s.queue.pop(); w != nil {
		if w.from != from {
			c, old = nil, c // its place goes to w, and not c
		}
		w.grant <- grant{c: c} // has room for one
		p.mu.Unlock()
		if old != nil {
			_ = old.Close()
		}
		return
	}
	switch {
	case p.o.Idle < 0, p.idle >= p.o.Idle && len(s.idle) == 0:
		s.open--
		p.forgetLocked(key, s)
		old = c
	case p.idle >= p.o.Idle: // the newest stays, the oldest goes
		old = p.popLocked(s, 0)
		s.open--
		fallthrough
	default:
		s.idle = append(s.idle, resting{c, p.tick, from})
		p.idle++
		p.armLocked()
	}
	p.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
}

// Close closes connections at rest, and those in use when they come back. Who
// waits is refused.
func (p *Pool) Close() {
	p.mu.Lock()
	var all []Conn
	p.closed = true
	for _, s := range p.servers {
		for _, i := range s.idle {
			all = append(all, i.c)
		}
		s.open -= len(s.idle)
		s.idle = nil
		all = append(all, p.closeShared(s)...)
		for w := s.queue.pop(); w != nil; w = s.queue.pop() {
			close(w.grant)
		}
	}
	for _, g := range p.gates {
		for w := g.queue.pop(); w != nil; w = g.queue.pop() {
			close(w.grant)
		}
	}
	p.idle = 0
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	p.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// Stats are a pool's counts at one moment.
type Stats struct{ Idle, Open, Waiting int }

// Stats counts connections and who waits for one, over all servers.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := Stats{Idle: p.idle}
	for _, s := range p.servers {
		st.Open += s.open
		st.Waiting += s.queue.n
	}
	for _, g := range p.gates {
		st.Waiting += g.queue.n
	}
	return st
}

func (p *Pool) serverLocked(key Key) *server {
	s := p.servers[key]
	if s == nil {
		s = &server{}
		p.servers[key] = s
	}
	return s
}

// restingFor returns the index of the connection at rest that is from's and was used last;
// -1: there is none.
func (s *server) restingFor(from *Source) int {
	i := len(s.idle) - 1
	for i >= 0 && s.idle[i].from != *from {
		i--
	}
	return i
}

// popLocked takes the connection at index i off the list of those at rest.
func (p *Pool) popLocked(s *server, i int) Conn {
	c := s.idle[i].c
	n := len(s.idle) - 1
	copy(s.idle[i:], s.idle[i+1:])
	s.idle[n] = resting{}
	s.idle = s.idle[:n]
	p.idle--
	return c
}

// freeLocked gives up one open connection: who waits longest may make another.
func (p *Pool) freeLocked(key Key) {
	s := p.serverLocked(key)
	if w := s.queue.pop(); w != nil {
		w.grant <- grant{} // its place among the open ones goes to w
		return
	}
	s.open--
	p.forgetLocked(key, s)
}

// forgetLocked drops what is known of a server without connections, so that
// addresses that come and go leave nothing behind.
func (p *Pool) forgetLocked(key Key, s *server) {
	if s.open == 0 && s.queue.n == 0 && len(s.leaving) == 0 {
		delete(p.servers, key)
	}
}

func unavailable(reason string) *exchange.Error {
	return &exchange.Error{Op: "get connection", Side: exchange.UpstreamSide, Status: 503, Reason: reason}
}
