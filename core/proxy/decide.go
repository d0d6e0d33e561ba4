package proxy

import (
	"net/netip"
	"slices"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/route"
)

// match finds the route of h.
func (x *state) match(h *exchange.Request) (*Route, bool) {
	v := route.View(h)
	return x.snap.Table.Match(&v)
}

// setRoute makes r the route of the exchange, and its time the time of the whole, unless
// the client has less.
func (x *state) setRoute(r *Route) {
	deadline := x.grpcUntil
	if t := r.timeout(); t > 0 {
		if d := x.start.Add(t); deadline.IsZero() || d.Before(deadline) {
			deadline = d
		}
	}
	x.mu.Lock() // a deadline may be answering
	x.route, x.deadline = r, deadline
	if x.guarded {
		x.armLocked()
	}
	x.mu.Unlock()
	x.fx.Mu.Lock() // a guest's tick may be looking
	x.fx.Route, x.fx.Deadline = &r.Info, deadline
	x.fx.Mu.Unlock()
}

// local answers what needs no upstream: who is not allowed, redirects and fixed
// answers. They run the response side of the filters and not the request side.
func (x *state) local(r *Route) (done bool, err error) {
	switch {
	case !r.Allows(x.fx.ClientAddr):
		x.reachAll()
		return true, x.answer(403, "denied")
	case r.Redirect != nil:
		x.reachAll()
		return true, x.redirect(r.Redirect)
	case r.Respond != nil:
		x.reachAll()
		return true, x.respondWith(r.Respond)
	}
	return false, nil
}

// reachAll lets the response side of every filter see an answer of the core.
func (x *state) reachAll() { x.reached.Store(int32(len(x.filters))) } //nolint:gosec // a handful

// Allows says whether a client may use the route. An address that is not known (a
// unix socket) is allowed only where no address is asked for.
func (r *Route) Allows(a netip.Addr) bool {
	if len(r.Deny) > 0 && (!a.IsValid() || containsAddr(r.Deny, a)) {
		return false
	}
	return len(r.Allow) == 0 || containsAddr(r.Allow, a)
}

func containsAddr(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// matched is what a route was found by, kept while filters may change it.
type matched struct {
	method, authority, target string
	fields                    []exchange.Field
	again                     bool // a filter asked for it
	keep                      bool // a filter has changed something and does not want it
}

func (m *matched) note(h *exchange.Request) {
	m.method, m.authority, m.target = h.Method, h.Authority, h.Target
	m.fields = append(m.fields[:0], h.Fields.List()...)
}

// changed reports whether h differs. Comparing is cheap: strings that nobody
// has touched are the same bytes in memory.
func (m *matched) changed(h *exchange.Request) bool {
	return m.again || m.method != h.Method || m.authority != h.Authority || m.target != h.Target ||
		!slices.Equal(m.fields, h.Fields.List())
}

func (m *matched) reset() {
	clear(m.fields)
	*m = matched{fields: m.fields[:0]}
}

// Reroute implements filter.Engine.
func (x *state) Reroute(on bool) {
	x.mu.Lock()
	x.before.again = x.before.again || on
	x.before.keep = x.before.keep || !on
	x.mu.Unlock()
}

// repick matches again if a filter has changed what matching reads, and did not switch
// it off, or asked for it. The new route decides about the upstream, the client's address, time
// and header edits; filters that have run stay as they are. It may not need
// filters that have not run: a plugin that edits a path must not be a way around
// the policy of another route.
func (x *state) repick(h *exchange.Request) error {
	x.mu.Lock()
	changed := x.before.changed(h)
	again := x.before.again || !x.before.keep
	x.mu.Unlock()
	if !changed {
		return nil
	}
	if err := x.canonicalise(h); err != nil {
		return x.refuseEdit(err)
	}
	if x.listener >= 0 && x.snap.Listeners[x.listener].stricter(h) {
		return x.answer(421, reasonMisdirected)
	}
	if x.fx.Refresh { // its route is that of the exchange that it was begun by
		return nil
	}
	r := x.route
	if again {
		var ok bool
		if r, ok = x.match(h); !ok {
			return x.answer(404, "no_route")
		}
	}
	if h.EncodedSlash && !r.KeepSlash {
		return x.answer(400, "encoded_slash")
	}
	if r == x.route {
		return nil
	}
	ran := x.route.Filters
	if !r.TrustRepick && slices.ContainsFunc(r.Filters, func(f filter.Factory) bool { return !hasFilter(ran, f.Name()) }) {
		return x.answer(503, "repick_policy")
	}
	x.setRoute(r)
	if _, err := x.local(r); err != nil {
		return err
	}
	return nil
}

// canonicalise brings what filters have edited into the canonical form.
func (x *state) canonicalise(h *exchange.Request) error {
	x.fx.Mu.Lock() // a guest's tick may be looking
	defer x.fx.Mu.Unlock()
	if h.Target != x.before.target {
		if err := h.ParseTarget(h.Target); err != nil {
			return err
		}
	}
	if h.Authority != x.before.authority {
		return h.ParseAuthority(h.Authority)
	}
	return nil
}

func hasFilter(list []filter.Factory, name string) bool {
	return slices.ContainsFunc(list, func(f filter.Factory) bool { return f.Name() == name })
}

// refuseEdit answers for an edit of a filter that is not valid.
func (x *state) refuseEdit(err error) error {
	e := asError(err)
	return x.answer(e.Status, e.Reason)
}
