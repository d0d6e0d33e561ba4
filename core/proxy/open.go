package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"

	"wproxy/core/exchange"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// An encrypted is a pool.Conn that may stand on TLS. TLS returns nil if it does not.
type encrypted interface{ TLS() *tls.ConnectionState }

// open gets a stream to an endpoint.
func (x *state) open() error {
	if x.settled() { // it has come late, on a body that was waited for: no connection is worth it
		return exchange.ErrAnswered
	}
	o := &x.out
	e := o.next // picked when it was clear that there is another try
	if o.next = nil; e == nil {
		e = x.pick()
	}
	if e == nil {
		return &exchange.Error{Op: "pick", Side: exchange.UpstreamSide, Status: 503, Reason: "no_server"}
	}
	o.endpoint = e
	o.tries++
	e.Live.Active.Add(1) // from here on: who waits for a connection is load too
	o.loading = e
	x.beginTry()
	x.traceTry()
	if o.to.Pool.Tied() {
		o.source = x.source()
	}
	c, took, err := o.to.Pool.Get(x.ctx, pool.Request{Endpoint: e, Fresh: o.fresh, Upgrade: o.upgrade, Deadline: o.until, Source: o.source})
	if took > 0 {
		o.connectTime = took
		o.to.Metrics.Connected(took)
	}
	if err != nil {
		o.unload()
		return x.getError(err)
	}
	o.reused = c.Reused()
	if _, many := c.(pool.Multiplexer); o.many && !many {
		return x.leaveConn(e, c)
	}
	up, err := c.Open(x.ctx)
	if err != nil {
		o.unload()
		o.to.Pool.PutFor(e, c, o.source)
		return err
	}
	x.releaseStream() // of the try before
	o.tls = nil
	if t, ok := c.(encrypted); ok && len(x.filters) > 0 {
		o.tls = t.TLS()
	}
	o.conn, o.stream, o.pushed, o.duplex = c, up, 0, false
	o.began = x.start
	if o.tries > 1 || took > 0 || len(x.filters) > 0 { // else so little has passed that the clock is not asked
		o.began = x.p.now()
	}
	if !o.keepHost || o.head.Authority == "" {
		o.head.Authority = o.to.Cluster.Authority(e, x.req.Authority)
	}
	x.tellDeadline()
	if d, ok := up.(exchange.Deadliner); ok && !x.deadline.IsZero() {
		d.SetDeadline(x.deadline)
	}
	x.passGRPCTimeout(&o.head)
	x.mu.Lock()
	x.up, x.expired, o.respDone, o.respErr, o.sentEnd = up, false, false, nil, false
	x.tryConnectedLocked(took)
	dead := x.gone || x.answered
	x.mu.Unlock()
	if dead { // answered, or left, while the connection was made
		x.drop(exchange.CodeCancel)
		return exchange.ErrAnswered
	}
	return nil
}

// leaveConn gives back a connection that does not speak HTTP/2, which it takes.
func (x *state) leaveConn(e *upstream.Endpoint, c pool.Conn) error {
	x.out.unload()
	if up, err := c.Open(x.ctx); err == nil {
		up.Reset(exchange.CodeCancel) // its slot was taken
	}
	x.out.to.Pool.PutFor(e, c, x.out.source)
	return &exchange.Error{Op: "open", Side: exchange.Internal, Status: 502, Reason: "upstream_not_http2"}
}

// source says whom a connection is made for. Calls of plugins, and copies, are nobody's.
func (x *state) source() pool.Source {
	c := x.req.Conn
	if c == nil {
		return pool.Source{}
	}
	client := c.Remote
	if a := x.fx.ClientAddr; a.IsValid() && a != client.Addr().Unmap() {
		client = netip.AddrPortFrom(a, 0) // a proxy in front does not tell the port
	}
	return pool.Source{Client: client, Server: c.Local}
}

// getError says what a failure to get a connection means.
func (x *state) getError(err error) error {
	_, named := errors.AsType[*exchange.Error](err)
	switch {
	case x.ctx.Err() != nil:
		x.setGone()
		return exchange.ErrAnswered // there is nobody to answer
	case named && (x.deadline.IsZero() || x.p.now().Before(x.deadline)):
		return err // of one attempt to connect, say, which has a time of its own
	case errors.Is(err, context.DeadlineExceeded) && (x.deadline.IsZero() || x.p.now().Before(x.deadline)):
		return &exchange.Error{
			Op: "dial", Side: exchange.UpstreamSide, Retry: exchange.RetryAlways, Status: 504, Reason: "upstream_" + reasonPerTry, Err: err,
		}
	case errors.Is(err, context.DeadlineExceeded):
		return &exchange.Error{Op: "connect", Side: exchange.UpstreamSide, Status: 504, Reason: reasonTimeout, Err: err}
	default:
		return err
	}
}

// unload takes the try out of its endpoint's load.
func (o *outgoing) unload() {
	if o.loading != nil {
		o.loading.Live.Active.Add(-1)
		o.loading = nil
	}
}

// drop resets the stream, if there is one, and lets go of its connection.
func (x *state) drop(code exchange.Code) {
	x.mu.Lock()
	if x.up != nil {
		x.up.Reset(code)
	}
	x.mu.Unlock()
	x.closeUpstream()
}

// closeUpstream gives the connection back; the pool keeps it if it can be used again.
func (x *state) closeUpstream() {
	x.mu.Lock()
	up := x.up
	x.up = nil
	x.unboundTryLocked()
	if up != nil && x.trace.own.Sampled {
		x.endTryLocked(x.p.now())
	}
	x.mu.Unlock()
	if up != nil {
		o := &x.out
		o.unload()
		o.to.Pool.PutFor(o.endpoint, o.conn, o.source)
		o.conn = nil
	}
}

// releaseStream lets the codec use the stream of a try that is over again.
func (x *state) releaseStream() {
	if r, ok := x.out.stream.(exchange.Releaser); ok {
		r.Release()
	}
	x.out.stream = nil
}
