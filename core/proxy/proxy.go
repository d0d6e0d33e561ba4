// Package proxy is the engine: it takes an exchange from a codec, finds its
// route, runs it through the route's filters and joins it with an upstream.
//
// The nouns: a [Proxy] is the engine; a [Snapshot] is everything that a reload
// can change, plain data that cmd/wproxy fills; a [Route] and an [Upstream] are
// its parts. The one rule: an exchange loads the snapshot once and keeps it to
// the end.
//
// The engine does not know which codec it holds, nor what a plugin is made of.
// proxy.go swaps snapshots, serve.go walks one exchange through, guard.go ends it at its deadline, request.go
// prepares its head, forwarded.go says whom to believe about the client,
// decide.go finds the route, chain.go links filters, connect.go is the way to the
// upstream, open.go the connection of one try, duplex.go the second goroutine of a
// streaming body, retry.go says when to try again, backoff.go how long to wait before
// that, try.go bounds a try and drops an answer that is not passed on, response.go is the
// way back, reply.go makes answers, challenge.go those to ACME servers, record.go
// accounts. pick.go chooses upstream and server, sticky.go keeps clients on theirs.
// stream.go lets filters keep answers, callout.go makes requests that no client has asked for, mirror.go copies of those that
// one has; fault.go makes a route fail on purpose. secure.go is what is looked at before a
// route is found, grpc.go what is different for a client that speaks gRPC, tunnel.go what
// becomes of an exchange after a 101, trace.go makes spans of what was done, end.go ends
// exchanges that have outlived too many reloads.
package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"wproxy/core/access"
	"wproxy/core/exchange"
	"wproxy/core/metrics"
)

// Options are what does not change with a reload.
type Options struct {
	Metrics *metrics.Metrics // required
	Now     func() time.Time // nil: time.Now

	// Recorder keeps notable exchanges; nil: nobody does.
	Recorder *access.Recorder

	// Challenge returns the body that answers an ACME challenge of type http-01 at an
	// authority and a path, if one is pending there. It is asked for paths below
	// /.well-known/acme-challenge/ only, from many goroutines, and must not block. nil: none is.
	Challenge func(authority, path string) (body string, ok bool)
}

// A Proxy is the engine. Use [New]. It is safe for concurrent use.
type Proxy struct {
	// Immutable.
	metrics *metrics.Metrics
	now     func() time.Time
	traffic *metrics.Traffic
	records *access.Recorder // may be nil

	challengeOf func(authority, path string) (body string, ok bool) // nil: none is pending

	current   atomic.Pointer[Snapshot]
	states    sync.Pool // of *state
	known     states    // all of them
	tunnels   tunnels
	refreshes atomic.Int32 // exchanges without a client that are under way
}

// New makes an engine that serves s.
func New(o Options, s *Snapshot) *Proxy {
	p := &Proxy{metrics: o.Metrics, traffic: o.Metrics.Traffic(), records: o.Recorder, now: o.Now, challengeOf: o.Challenge}
	if p.now == nil {
		p.now = time.Now
	}
	p.states.New = func() any {
		x := newState(p)
		p.known.add(x)
		return x
	}
	s.refs.Publish()
	p.current.Store(s)
	return p
}

// Snapshot returns what serves now.
func (p *Proxy) Snapshot() *Snapshot { return p.current.Load() }

// Swap makes s serve and returns what served before. Exchanges that have begun
// keep the old one; its Drained channel closes when the last of them is over. Tunnels
// move over to s if everything that they use belongs to it; those whose route is not the
// same in it end after s.TunnelGrace.
func (p *Proxy) Swap(s *Snapshot) (old *Snapshot) {
	s.refs.Publish()
	old = p.current.Swap(s)
	p.moveTunnels(s)
	old.refs.Release()
	return old
}

// acquire returns the serving snapshot with a reference.
func (p *Proxy) acquire() *Snapshot {
	for {
		// A snapshot that was swapped out and drained between the load and
		// the acquire refuses; the next load sees its successor.
		if s := p.current.Load(); s.refs.Acquire() {
			return s
		}
	}
}

// Serve handles one exchange; it is the exchange.Handler that codecs call. A
// panic of a filter comes through; the exchange is given up then and holds
// nothing any more.
func (p *Proxy) Serve(ctx context.Context, c exchange.Client) {
	x, _ := p.states.Get().(*state)
	x.begin(ctx, c)
	over := false
	defer func() {
		if !over {
			x.abandon()
		}
	}()
	x.finish(c.Feed(inlet{x}))
	over = true
	p.states.Put(x)
}

// Refused accounts for a request that a codec refused before it became an
// exchange: the log line and the counters that the engine would have written.
// r is borrowed.
func (p *Proxy) Refused(r *access.Record) {
	s := p.acquire()
	defer s.refs.Release()
	p.metrics.Refused(r.Reason)
	s.NoRoute.Done(s.listener(r.Listener), r.Status, r.Total)
	p.traffic.Done(outcomeOf(r), r.Total)
	p.records.Keep(p.records.Wants(r), r)
	s.Access.Log(r)
}
