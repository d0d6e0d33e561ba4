package main

import (
	"context"
	"maps"
	"net"
	"slices"
	"unique"

	"wproxy/core/config"
	"wproxy/core/dial"
	"wproxy/core/filter"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/route"
	"wproxy/core/tcp"
	"wproxy/core/upstream"
	"wproxy/host/wasmfilter"
)

// tcpEntries makes the routes of f for connections with convert, for their table.
func tcpEntries(f *config.File, convert func(*config.Route) (*tcp.Route, error)) ([]route.Entry[*tcp.Route], error) {
	var entries []route.Entry[*tcp.Route]
	for _, name := range slices.Sorted(maps.Keys(f.Routes)) {
		r := f.Routes[name]
		if !f.TCP(r) {
			continue
		}
		t, err := convert(r)
		if err != nil {
			return nil, err
		}
		entries = append(entries, route.Entry[*tcp.Route]{Spec: routeSpec(r), Value: t})
	}
	return entries, nil
}

// newTCPRoute converts all of r that needs nothing running.
func newTCPRoute(r *config.Route) *tcp.Route {
	t := &tcp.Route{
		Name: r.Name, Info: filter.Route{Name: r.Name, Metadata: r.Metadata},
		Allow: r.Allow, Deny: r.Deny,
		Idle: orNone(r.TCP.Idle), Timeout: r.TCP.Timeout, Max: r.TCP.Connections, Retries: r.Retry.Attempts,
		ByClient: r.Split != nil && r.Split.Hash != "",
		Budget:   percent(r.Retry.Budget), BudgetMin: float64(r.Retry.BudgetMin),
	}
	if len(r.Upstream) == 1 {
		t.Info.Cluster = r.Upstream[0].Upstream
	}
	return t
}

// buildTCP makes what listeners with TCP serve by.
func (b *builder) buildTCP(ctx context.Context) error {
	s := b.gen.TCP
	s.Routes, s.Listeners = map[string]*tcp.Route{}, map[string]*tcp.Listener{}
	s.Access, s.Grace = b.gen.Snapshot.Access, b.file.Server.Drain
	for _, l := range b.file.Listeners {
		if l.TCP() {
			s.Listeners[l.Name] = &tcp.Listener{HelloTime: l.Limits.HeaderTime}
		}
	}
	if len(s.Listeners) == 0 {
		return nil
	}
	entries, err := tcpEntries(b.file, func(r *config.Route) (*tcp.Route, error) { return b.buildTCPRoute(ctx, r) })
	if err = b.note(err); err != nil {
		return err
	}
	if s.Table, err = route.New(entries); err != nil {
		b.problems = append(b.problems, routeProblems(b.file, err)...)
	}
	return nil
}

func (b *builder) buildTCPRoute(ctx context.Context, r *config.Route) (*tcp.Route, error) {
	t := newTCPRoute(r)
	b.gen.TCP.Routes[r.Name] = t
	for _, name := range r.Listener {
		if l := b.gen.TCP.Listeners[name]; l != nil {
			l.Names = l.Names || len(r.Host) > 0
		}
	}
	t.Metrics = b.metrics.TCPRoute(r.Name)
	count, letGo, err := b.counts.get(r.Name, func() (*tcp.Count, error) { return new(tcp.Count), nil })
	if err != nil {
		return nil, err
	}
	b.hold(letGo)
	t.Open = count
	for _, target := range r.Upstream {
		u, err := b.tcpUpstream(b.file.Upstreams[target.Upstream])
		if err != nil {
			return nil, err
		}
		t.Split = append(t.Split, tcp.Target{Upstream: u, Weight: target.Weight})
	}
	for _, use := range r.Plugins {
		f, err := b.tcpFactory(ctx, r.Name, use)
		if err = b.note(err); err != nil {
			return nil, err
		}
		t.Filters = append(t.Filters, f)
	}
	t.Mark, t.Parts = b.marks(r)
	return t, nil
}

// tcpUpstream makes the upstream of a route for connections: the same servers as for
// requests, with the same state and load, and a pool of its own.
func (b *builder) tcpUpstream(u *config.Upstream) (*tcp.Upstream, error) {
	key := poolKeyOf(u)
	settings := key.settings.Value()
	settings.plain = true
	key.settings = unique.Make(settings)
	connections, letGo, err := b.pools.get(key, func() (*pool.Pool, error) { return b.newTCPPool(u, settings.tls) })
	if err != nil {
		return nil, err
	}
	b.hold(letGo)
	base := b.gen.upstreams[u.Name]
	return &tcp.Upstream{
		Name: u.Name, Pool: connections, Metrics: base.Metrics, ByClient: base.Key.From == proxy.KeyClientIP,
		Servers: func() tcp.Servers {
			now := base.Current()
			return tcp.Servers{Cluster: now.Cluster, Picker: now.Picker}
		},
	}, nil
}

// newTCPPool makes what bounds the connections of u for TCP routes. None is kept.
func (b *builder) newTCPPool(u *config.Upstream, t config.UpstreamTLS) (*pool.Pool, error) {
	o := dial.Options{
		ConnectTimeout: u.Connect.Timeout,
		Total:          u.Connect.Total,
		Protocol:       dial.Plain,
		SendProxy:      proxyVersions[u.SendProxy],
		NewConn:        func(nc net.Conn) pool.Conn { return tcp.NewConn(nc) },
	}
	if u.TLS != nil {
		var err error
		if o.TLS, err = b.newUpstreamTLS(u, &t); err != nil {
			return nil, err
		}
	}
	d := dial.New(o)
	po := pool.Options{
		Idle: -1, PerServer: u.Pool.PerServer, Requests: u.Pool.MaxRequests,
		Queue: orNone(u.Pool.Queue), QueueTime: u.Pool.QueueTime, Dial: d.Dial,
	}
	if o.SendProxy != dial.NoProxy {
		po.DialFor = func(ctx context.Context, e *upstream.Endpoint, from pool.Source, _ bool) (pool.Conn, error) {
			return d.DialFor(ctx, e, from)
		}
	}
	return pool.New(po), nil
}

// tcpFactory is factory for a route for connections.
func (b *builder) tcpFactory(ctx context.Context, routeName string, use config.Use) (filter.TCPFactory, error) {
	p, settings, sum, err := b.used(routeName, use)
	if err != nil {
		return nil, err
	}
	if f, ok := p.tcp[sum]; ok {
		return f, nil
	}
	root, broken, err := b.startRoot(ctx, p, routeName, settings)
	switch {
	case err != nil:
		return nil, err
	case broken != nil:
		return newFailedFactory(use.Plugin, broken), nil
	}
	f := wasmfilter.NewTCP(root, filterOptions(b.file.Plugins[use.Plugin]))
	p.tcp[sum] = f
	return f, nil
}
