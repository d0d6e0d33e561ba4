package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"wproxy/core/exchange"
)

// Reasons of tunnels that wproxy ends, in the log.
const (
	// ReasonDrain is that of a tunnel that was left when wproxy ended.
	ReasonDrain = "drain"
	// ReasonRouteGone is that of a tunnel whose route a reload has taken away or changed,
	// and whose time was over.
	ReasonRouteGone = "route_gone"

	reasonTunnels = "too_many_tunnels"
)

// A Mark tells whether a reload has touched a route. It is a hash of settings.
type Mark [32]byte

// tunnels are the tunnels that are open. Unlike other exchanges, which end soon, they may
// outlive any number of snapshots: one whose route is the same in the next moves over to it,
// so that the old one can go, and one whose route is gone ends after a time.
type tunnels struct {
	mu   sync.Mutex
	open map[*state]tunnel // guarded by mu
}

// A tunnel is one entry of tunnels.
type tunnel struct {
	left time.Time // when a reload left it without a route; zero: it has one
}

// A TunnelCount counts the tunnels of a route, and upgrades that may become some. It is
// shared by all snapshots that have a route of this name. The zero value is ready to use.
type TunnelCount struct{ n atomic.Int64 }

// takeTunnel takes a place for the upgrade that h asks for; false if there is none left.
func (x *state) takeTunnel(h *exchange.Request) bool {
	r := x.route
	if h.Upgrade == "" || r.Tunnels == nil {
		return true
	}
	if n := r.Tunnels.n.Add(1); r.MaxTunnels > 0 && n > int64(r.MaxTunnels) {
		r.Tunnels.n.Add(-1)
		return false
	}
	x.out.place = r.Tunnels
	return true
}

// leaveTunnel gives the place back.
func (x *state) leaveTunnel() {
	if x.out.place != nil {
		x.out.place.n.Add(-1)
		x.out.place = nil
	}
}

// beginTunnel notes that the exchange is a tunnel from here on, and tells both sides how
// long it may rest.
func (x *state) beginTunnel() {
	if t, ok := x.out.stream.(exchange.TunnelIdler); ok {
		t.SetTunnelIdle(x.route.TunnelIdle)
	}
	if t, ok := x.client.(exchange.TunnelIdler); ok {
		t.SetTunnelIdle(x.route.TunnelIdle)
	}
	x.out.noted = true
	x.route.Metrics.Tunnels().Inc()
	ts := &x.p.tunnels
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.open == nil {
		ts.open = map[*state]tunnel{}
	}
	ts.open[x] = tunnel{}
	// A reload may have come between the request and the 101.
	if s := x.p.Snapshot(); x.p.moveTunnel(x, s) {
		x.p.endLeftLater(s)
	}
}

// endTunnel forgets the tunnel, if it is one: from here on its snapshot stays what it is.
func (x *state) endTunnel() {
	if !x.out.noted {
		return
	}
	x.out.noted = false
	x.p.tunnels.mu.Lock()
	delete(x.p.tunnels.open, x)
	x.p.tunnels.mu.Unlock()
	x.route.Metrics.Tunnels().Dec()
}

// moveTunnels sees what becomes of the tunnels now that s serves.
func (p *Proxy) moveTunnels(s *Snapshot) {
	p.tunnels.mu.Lock()
	defer p.tunnels.mu.Unlock()
	left := false
	for x := range p.tunnels.open {
		left = p.moveTunnel(x, s) || left
	}
	if left {
		p.endLeftLater(s)
	}
}

// moveTunnel sees what becomes of one of them; true if s leaves it without a route. It is
// called with the tunnels' lock held.
func (p *Proxy) moveTunnel(x *state, s *Snapshot) (left bool) {
	t := p.tunnels.open[x]
	if left = x.snap != s && !s.hasRoute(x.route); !left {
		t.left = time.Time{}
		if x.snap != s && s.Routes[x.route.Name].Parts == x.route.Parts && s.refs.Acquire() {
			x.snap.refs.Release() // all that the tunnel uses is part of s, too
			x.snap = s
		}
	} else if t.left.IsZero() {
		t.left = p.now()
	}
	p.tunnels.open[x] = t
	return left
}

// hasRoute reports whether r is a route of s, too.
func (s *Snapshot) hasRoute(r *Route) bool {
	is, ok := s.Routes[r.Name]
	return ok && is.Mark == r.Mark
}

// endLeftLater ends tunnels without a route when their time is over. It is called with the
// tunnels' lock held.
func (p *Proxy) endLeftLater(s *Snapshot) {
	grace := s.TunnelGrace
	time.AfterFunc(grace, func() { // at most one for each reload of the last TunnelGrace
		p.endTunnels(ReasonRouteGone, func(t tunnel) bool { return !t.left.IsZero() && p.now().Sub(t.left) >= grace })
	})
}

// EndTunnels ends all tunnels, for the reason ReasonDrain, and returns how many there were.
// It does not wait for their end.
func (p *Proxy) EndTunnels() int {
	return p.endTunnels(ReasonDrain, func(tunnel) bool { return true })
}

func (p *Proxy) endTunnels(reason string, which func(tunnel) bool) int {
	p.tunnels.mu.Lock()
	defer p.tunnels.mu.Unlock()
	n := 0
	for x, t := range p.tunnels.open { // an entry is a state that is not over: see endTunnel
		if which(t) {
			x.hangUp(reason)
			n++
		}
	}
	return n
}

// cutTunnel gives up a tunnel to whose upstream a write has failed with e. One that has
// closed may have said why before, and all of it is to be read; whoever reads it comes to
// the end soon.
func (x *state) cutTunnel(e *exchange.Error) {
	if e.Side == exchange.UpstreamSide && isReset(e.Reason) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.out.tunnel && x.up != nil {
		x.up.Reset(exchange.CodeCancel)
	}
}

// endCutTunnel ends a tunnel towards its client after the upstream's side has broken off
// because of e: in order, since what the upstream has said last, which often is why, must not
// be overtaken by a reset. What is whole in a tunnel its own protocol knows. False if
// that cannot be done.
func (x *state) endCutTunnel(e *exchange.Error) bool {
	x.mu.Lock()
	tunnel := x.out.tunnel
	x.mu.Unlock()
	if !tunnel || e == nil || e.Side == exchange.ClientSide || x.client.Data(nil, true) != nil {
		return false
	}
	x.client.Reset(exchange.CodeNoError) // nobody wants to hear the rest
	return true
}

// hangUp closes both sides of a tunnel, in order as far as the transport has one.
func (x *state) hangUp(reason string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hangUpLocked(reason)
}

// hangUpLocked is hangUp with mu held.
func (x *state) hangUpLocked(reason string) {
	if x.reason == "" {
		x.reason = reason
	}
	x.aborted = true
	if x.up != nil {
		x.up.Reset(exchange.CodeNoError)
	}
	x.client.Reset(exchange.CodeNoError)
	x.fx.AnswerEnded()
}
