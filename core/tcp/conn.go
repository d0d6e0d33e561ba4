package tcp

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// A conn is one connection, from its client to an upstream.
type conn struct {
	// Immutable once run has begun.
	p      *Proxy
	ctx    context.Context // done when the connection is over
	cancel context.CancelFunc
	client net.Conn
	facts  *exchange.Conn
	start  time.Time

	// Guarded by Proxy.mu, but for route, which its own goroutine has written and may read.
	snap  *Snapshot
	route *Route
	left  time.Time // when a reload left it without a route; zero: it has one

	// Owned by the connection's goroutine.
	name    string // that the client has asked for; "": none
	first   []byte // that were read to find it, until they are passed on
	counted bool   // in route.Open
	filters []filter.TCPFilter
	x       *filter.Exchange // nil without filters; written under mu, as abort looks at it

	// Of the way to the upstream. Written by whoever connects, before server is set.
	to       *Upstream
	cluster  *upstream.Cluster
	endpoint *upstream.Endpoint
	pooled   pool.Conn
	tries    int
	retried  []string
	connect  time.Duration

	in, out atomic.Int64 // bytes that have come from the client, and that it was sent
	heard   atomic.Int64 // bytes that filters were given of the upstream's, whatever they made of them

	mu sync.Mutex
	// Guarded by mu.
	server net.Conn      // nil: not connected
	back   chan struct{} // closed when the upstream's direction has ended; nil: it has not begun
	noBack bool          // and must not begin
	over   bool
	reason string // why it ended; "": both sides had said all
	gone   bool   // the client has ended it
	timer  *time.Timer

	// Of the timer's function.
	seen  int64
	quiet int
}

// run serves the connection up to where it is joined with an upstream and left alone; false:
// it is over. A connection that rests has the frames from its goroutine's first to the wait on
// its stack, and these should fit into 4 KiB (TestIdleTCP): what is done before is not
// among them.
func (c *conn) run() (joined bool) {
	snap := c.snap
	l := snap.Listeners[c.facts.Listener]
	passes := false // the client speaks TLS to somebody behind us
	switch {
	case c.facts.TLS != nil:
		c.name = strings.ToLower(c.facts.TLS.ServerName)
	case l != nil && l.Names:
		within := l.HelloTime
		if within <= 0 {
			within = DefaultHelloTime
		}
		var reason string
		c.first, c.name, passes, reason = peek(c.client, within)
		if reason != "" {
			c.refuse(reason)
			return false
		}
	}
	r := snap.match(c.facts.Listener, c.name)
	if r == nil {
		if passes {
			tellName(c.client)
		}
		c.refuse(reasonNoRoute)
		return false
	}
	c.p.settle(c, r)
	if !r.Allows(c.facts.Remote.Addr()) {
		c.refuse(reasonDenied)
		return false
	}
	c.counted = true
	r.Metrics.Opened()
	if n := r.Open.n.Add(1); r.Max > 0 && n > int64(r.Max) {
		c.refuse(reasonTooMany)
		return false
	}
	c.watch()
	if len(r.Filters) > 0 {
		c.filtered()
		return false
	}
	if err := c.dial(); err != nil {
		c.failed(err)
		return false
	}
	return true
}

// refuse closes a connection that is not joined with an upstream.
func (c *conn) refuse(reason string) {
	if reason == reasonNoHello {
		c.noteGone()
	}
	c.abort(reason, false)
}

// join copies both ways until both have ended.
func (c *conn) join() {
	if len(c.first) > 0 {
		n, err := c.server.Write(c.first)
		c.in.Add(int64(n))
		c.first = nil
		if err != nil {
			c.abort(reasonReset, true)
			return
		}
	}
	done := make(chan struct{})
	go func() { // ends with the upstream's direction; the other one waits for it
		defer close(done)
		c.pump(c.client, c.server, &c.out, exchange.UpstreamSide)
	}()
	c.pump(c.server, c.client, &c.in, exchange.ClientSide)
	<-done
}

// pump copies one direction, and passes on how it ends.
func (c *conn) pump(dst, src net.Conn, n *atomic.Int64, from exchange.Side) {
	readErr, writeErr, ok := c.p.pipes.splice(dst, src, n)
	if !ok {
		readErr, writeErr = copyTo(dst, src, n)
	}
	switch {
	case writeErr != nil && from == exchange.UpstreamSide:
		c.noteGone()
		c.abort(reasonGone, true)
	case writeErr != nil:
		// The upstream takes no more. What it has said before may be why, and is on its way.
	case errors.Is(readErr, io.EOF):
		if from == exchange.ClientSide {
			c.noteGone()
		}
		closeWrite(dst)
	default:
		c.broken(from)
	}
}

// broken ends a connection of which one side has broken off, so that the other side sees
// that what it has got may not be all.
func (c *conn) broken(from exchange.Side) {
	if from == exchange.ClientSide {
		c.noteGone()
		c.abort(reasonGone, true)
		return
	}
	c.abort(reasonReset, true)
}

// noteGone notes that the client has ended its direction, unless the connection is over
// for another reason.
func (c *conn) noteGone() {
	c.mu.Lock()
	c.gone = c.gone || !c.over
	c.mu.Unlock()
}

// failed ends the connection because of err.
func (c *conn) failed(err error) {
	if errors.Is(err, exchange.ErrAnswered) {
		c.abort("", false) // it is over, and has its reason
		return
	}
	c.abort(reasonOf(err), false)
}

// reasonOf names an error.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*exchange.Error](err); ok && e.Reason != "" {
		return e.Reason
	}
	return "internal"
}

// abort ends the connection; only the first call has an effect. With reset both sides see
// that it broke off. It may be called from any goroutine, and does not block for long.
func (c *conn) abort(reason string, reset bool) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return
	}
	c.over, c.reason = true, reason
	server, x := c.server, c.x
	c.mu.Unlock()
	c.cancel()
	shut(c.client, reset)
	if server != nil {
		shut(server, reset)
	}
	if x != nil {
		x.AnswerEnded() // filters that hold something back give it up
	}
}

// isOver reports whether the connection is over.
func (c *conn) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// end gives back everything, and accounts.
func (c *conn) end() {
	c.abort("", false) // if it is not over already: both directions have ended
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	if c.pooled != nil {
		c.to.Pool.PutFor(c.endpoint, c.pooled, c.source())
		c.endpoint.Live.Active.Add(-1)
	}
	if c.cluster != nil {
		c.cluster.Live.Active.Add(-1)
	}
	if c.counted {
		c.route.Open.n.Add(-1)
	}
	snap := c.p.forget(c)
	c.account(snap)
	snap.refs.Release()
}

// closeWrite ends a direction. Where that cannot be done for one alone, as with a server
// inside the process, both end: the other side would wait for ever.
func closeWrite(nc net.Conn) {
	if cw, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite() // fails if the other side has gone, which its own direction finds out
		return
	}
	_ = nc.Close() // as above
}

// shut closes a side of the connection.
func shut(nc net.Conn, reset bool) {
	if reset {
		switch t := nc.(type) {
		case interface{ Abort() }: // TLS
			t.Abort()
		case interface{ SetLinger(int) error }:
			_ = t.SetLinger(0) // it is being closed; nothing is lost if this fails
		}
	}
	_ = nc.Close() // it may be closed already
}
