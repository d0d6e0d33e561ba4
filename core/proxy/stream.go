package proxy

import (
	"context"

	"wproxy/core/exchange"
	"wproxy/core/filter"
)

var _ filter.Streamer = (*state)(nil)

// Stream implements filter.Streamer.
func (x *state) Stream(from filter.Filter, head *exchange.Response, reason string, p filter.Pusher) error {
	if !x.claim() {
		return exchange.ErrAnswered
	}
	defer x.pushed()
	x.resetUpstream(exchange.CodeCancel)
	if reason != "" {
		x.note(reason)
	}
	x.showResponse(head)
	err := p.Push(x.entry(from))
	x.mend(err)
	return err
}

// MayFill implements filter.Streamer.
func (x *state) MayFill(f filter.Filling) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.mayFillLocked() {
		return false
	}
	if !x.fills { // who does has to be told
		x.filling = f
	}
	return true
}

// mayFillLocked is asked while the response passes through a filter, so its answer is claimed, and
// what reads it is on this goroutine.
func (x *state) mayFillLocked() bool {
	return !x.out.duplex && x.out.claimed && !x.out.tunnel && x.up != nil
}

// Fill implements filter.Streamer.
func (x *state) Fill(f filter.Filling) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.mayFillLocked() {
		return false
	}
	x.filling, x.fills = f, true
	x.pushers++
	return true
}

// Filled implements filter.Streamer.
func (x *state) Filled() { x.pushed() }

// cutFilling tells who has the response that no more of it will come.
func (x *state) cutFilling(err error) {
	x.mu.Lock()
	f := x.filling
	x.mu.Unlock()
	if f != nil {
		f.Cut(err)
	}
}

// Refresh implements filter.Streamer.
func (x *state) Refresh(from filter.Filter) bool {
	i := 0
	for i < len(x.filters) && x.filters[i] != from {
		i++
	}
	if i == len(x.filters) {
		return false
	}
	if x.p.refreshes.Add(1) > maxRefreshes || !x.snap.refs.Acquire() {
		x.p.refreshes.Add(-1)
		return false
	}
	r := *x.route
	r.Filters = r.Filters[i:]
	c := &refresher{route: &r, addr: x.fx.ClientAddr, ip: x.fx.ClientIP, id: x.fx.RequestID}
	c.request = *x.req
	c.request.Fields = exchange.Fields{}
	c.request.Fields.CopyFrom(&x.req.Fields)
	go x.p.refresh(c, x.snap) // ends with the route's timeout at the latest
	return true
}

// refresh serves an exchange without a client.
func (p *Proxy) refresh(c *refresher, s *Snapshot) {
	defer p.refreshes.Add(-1)
	x, _ := p.states.Get().(*state)
	x.snap, x.ctx, x.client, x.start = s, context.Background(), c, p.now()
	x.mu.Lock()
	x.generation++
	x.live = true
	x.mu.Unlock()
	x.fx.Context, x.fx.Start, x.fx.Engine, x.fx.Refresh = x.ctx, x.start, x, true //nolint:fatcontext // replaced for each exchange, never nested
	over := false
	defer func() {
		if !over { // a filter's panic, which nobody else is there to hear of
			_ = recover()
			x.abandon()
			p.metrics.Refused("panic")
		}
	}()
	x.finish(x.feedRefresh(c))
	over = true
	p.states.Put(x)
}

// feedRefresh is what inlet does, for a request whose route is known.
func (x *state) feedRefresh(c *refresher) error {
	h := &c.request
	x.req, x.fx.Request, x.listener = h, h, -1
	x.fx.ClientAddr, x.fx.ClientIP, x.fx.RequestID = c.addr, c.ip, c.id
	x.setRoute(c.route)
	if err := x.buildChain(); err != nil {
		return err
	}
	x.before.note(h)
	x.fx.SetRequestRun()
	return x.first.Head(h, true)
}
