package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.uber.org/zap"

	"wproxy/core/config"
	"wproxy/core/discover"
	"wproxy/core/health"
	"wproxy/core/metrics"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/upstream"
)

// servers is what generations have in common about the servers of upstreams: who looks
// after them, and who finds them.
type servers struct {
	// Immutable.
	slots    *health.Slots
	looks    chan struct{}                    // of discover.Options
	monitors *shared[string, *health.Monitor] // by name of the upstream
	sources  *shared[sourceKey, *discover.Source]
	counts   *shared[string, *upstream.Cluster] // by name: what all its clusters count with
	dry      bool                               // nothing is looked up

	mu sync.Mutex
	// Guarded by mu.
	endpoints map[endpointKey]*sharedEndpoint
	sets      map[*proxy.Upstream]*serverSet
	serving   map[string]*serverSet // by name of the upstream
}

// An endpointKey is all that makes an endpoint what it is: one that a reload, or a look
// for servers, does not change goes on with its counters and its state.
type endpointKey struct {
	upstream string
	entry    config.ServerEntry
	host     string // what it is called; "": as its address says
	tier     int    // of one that was found
}

type sharedEndpoint struct {
	*upstream.Endpoint
	count int // sets that have it; guarded by servers.mu
}

func newServers(dry bool) *servers {
	return &servers{
		slots: health.NewSlots(0), looks: make(chan struct{}, discover.MaxLooks), dry: dry,
		monitors:  newShared[string]((*health.Monitor).Close),
		sources:   newShared[sourceKey]((*discover.Source).Close),
		counts:    newShared[string](func(*upstream.Cluster) {}),
		endpoints: map[endpointKey]*sharedEndpoint{},
		sets:      map[*proxy.Upstream]*serverSet{},
		serving:   map[string]*serverSet{},
	}
}

// A serverSet is the servers of one upstream of one generation, or of several that do
// not change it. Those that are found change while it lives.
type serverSet struct {
	// Immutable.
	parts    *parts
	config   *config.Upstream
	base     *proxy.Upstream // what routes have
	monitor  *health.Monitor
	settings health.Settings
	letGo    []func()

	mu sync.Mutex
	// Guarded by mu.
	held    []endpointKey
	cluster *upstream.Cluster // in use
	serving bool
}

// A wantedServer is a server that a set is to have, and how to make its endpoint.
type wantedServer struct {
	key  endpointKey
	make func() (*upstream.Endpoint, error)
}

// noServer is the picker of an upstream whose servers have not been found.
type noServer struct{}

// Pick implements balance.Picker.
func (noServer) Pick(uint64, []*upstream.Endpoint) *upstream.Endpoint { return nil }

// newServerSet makes the servers of u, or has them found.
func (b *builder) newServerSet(ctx context.Context, u *config.Upstream, connections *pool.Pool) (*proxy.Upstream, error) {
	monitor, letGo, err := b.servers.monitors.get(u.Name, func() (*health.Monitor, error) { return b.newMonitor(u.Name), nil })
	if err != nil {
		return nil, err
	}
	// Servers keep their load over a reload. If their upstream did not, all of them would
	// seem to have more than their share.
	counts, letGoCounts, _ := b.servers.counts.get(u.Name, func() (*upstream.Cluster, error) { return upstream.NewEmpty(u.Name, ""), nil })
	s := &serverSet{
		parts: b.parts, config: u, monitor: monitor, settings: healthSettings(u, connections),
		cluster: counts.Empty(u.Host), letGo: []func(){func() { letGo(); letGoCounts() }},
	}
	if err := s.begin(ctx, b, connections); err != nil {
		s.close()
		return nil, err
	}
	if len(b.file.Upstreams) <= metrics.AnnounceBelow {
		s.base.Metrics.Announce()
	}
	b.servers.mu.Lock()
	b.servers.sets[s.base] = s
	b.servers.mu.Unlock()
	return s.base, nil
}

// begin fills s with the servers that are listed, or starts with what is found.
func (s *serverSet) begin(ctx context.Context, b *builder, connections *pool.Pool) error {
	u := s.config
	if u.Discover == nil {
		all := make([]wantedServer, 0, len(u.Servers))
		for _, entry := range u.Servers {
			all = append(all, wantedServer{endpointKey{upstream: u.Name, entry: entry}, func() (*upstream.Endpoint, error) {
				e, err := b.newEndpoint(ctx, u, entry)
				if err == nil {
					e.Tier = tierOf(entry)
					e.MaxConnections, e.MaxRequests = entry.MaxConnections, entry.MaxRequests
				}
				return e, err
			}})
		}
		keys, endpoints, err := s.endpoints(all)
		if err != nil {
			return err
		}
		s.held = keys
		if s.cluster, err = s.cluster.With(endpoints); err != nil {
			return b.file.Problemf("upstreams."+u.Name, "upstream %q: %v", u.Name, err)
		}
	}
	var err error
	if s.base, err = b.newUpstream(u, s.cluster, connections); err != nil || u.Discover == nil {
		return err
	}
	return s.discover(ctx, b.file, b.lookUntil)
}

// endpoints makes the endpoints of servers, and holds them.
func (s *serverSet) endpoints(all []wantedServer) (keys []endpointKey, endpoints []*upstream.Endpoint, err error) {
	keys, endpoints = make([]endpointKey, 0, len(all)), make([]*upstream.Endpoint, 0, len(all))
	for _, w := range all {
		e, err := s.parts.servers.endpoint(w, s.monitor, s.config)
		if err != nil {
			s.release(keys)
			return nil, nil, err
		}
		keys, endpoints = append(keys, w.key), append(endpoints, e)
	}
	return keys, endpoints, nil
}

// change makes all the servers of s.
func (s *serverSet) change(all []wantedServer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, endpoints, err := s.endpoints(all)
	if err != nil {
		return err
	}
	cluster, err := s.cluster.With(endpoints)
	var next *proxy.Upstream
	if err == nil {
		next, err = s.parts.newUpstream(s.config, cluster, s.base.Pool)
	}
	if err != nil {
		s.release(keys)
		return fmt.Errorf("upstream %q: %w", s.config.Name, err)
	}
	next.Metrics = s.base.Metrics
	old := s.held
	s.held, s.cluster = keys, cluster
	s.base.Replace(next)
	if s.serving {
		s.monitor.Serve(s.settings, cluster)
	}
	s.release(old) // exchanges that have begun go on with them; nobody counts on them any more
	return nil
}

// serve has the servers of s looked after.
func (s *serverSet) serve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = true
	s.monitor.Serve(s.settings, s.cluster)
}

// retire leaves that to another set of the same name, or, if there is none, to nobody.
func (s *serverSet) retire(last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = false
	if last {
		s.monitor.Serve(health.Settings{}, upstream.NewEmpty(s.config.Name, ""))
	}
}

// release lets go of endpoints.
func (s *serverSet) release(keys []endpointKey) {
	for _, k := range keys {
		s.parts.servers.releaseEndpoint(k, s.monitor)
	}
}

// close lets go of everything.
func (s *serverSet) close() {
	for _, f := range slices.Backward(s.letGo[1:]) { // what finds servers
		f()
	}
	s.mu.Lock()
	s.release(s.held)
	s.held = nil
	s.mu.Unlock()
	s.letGo[0]() // the monitor and the counts
}

// endpoint returns the endpoint of w, which may be there already.
func (s *servers) endpoint(w wantedServer, m *health.Monitor, u *config.Upstream) (*upstream.Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.endpoints[w.key]; h != nil {
		h.count++
		return h.Endpoint, nil
	}
	e, err := w.make()
	if err != nil {
		return nil, err
	}
	m.Attach(e, u.Health == nil || u.Health.Initial != "down")
	s.endpoints[w.key] = &sharedEndpoint{e, 1}
	return e, nil
}

func (s *servers) releaseEndpoint(k endpointKey, m *health.Monitor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.endpoints[k]
	if h.count--; h.count == 0 {
		delete(s.endpoints, k)
		m.Detach(h.Endpoint)
	}
}

// closeSet ends the set of u, which nobody has any more.
func (s *servers) closeSet(u *proxy.Upstream) {
	s.mu.Lock()
	set := s.sets[u]
	delete(s.sets, u)
	s.mu.Unlock()
	if set != nil {
		set.close()
	}
}

// serve has the servers of g, which serves now, looked after, and no others. Generations
// take turns.
func (s *servers) serve(g *generation) {
	s.mu.Lock()
	next := make(map[string]*serverSet, len(g.upstreams))
	for name, u := range g.upstreams {
		next[name] = s.sets[u]
	}
	old := s.serving
	s.serving = next
	s.mu.Unlock()
	for name, set := range old {
		if next[name] != set {
			set.retire(next[name] == nil)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		next[name].serve()
	}
}

// monitor returns who looks after the servers of the upstream called name; nil: nobody.
func (s *servers) monitor(name string) *health.Monitor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if set := s.serving[name]; set != nil {
		return set.monitor
	}
	return nil
}

// drain keeps requests from a server, or lets them come again; see admin.Options.
func (a *app) drain(name, server string, on bool) ([]string, error) {
	m := a.parts.servers.monitor(name)
	if m == nil {
		return nil, fmt.Errorf("there is no upstream %q", name)
	}
	do, what := m.Ready, "ready"
	if on {
		do, what = m.Drain, "drained"
	}
	changed, err := do(server)
	if err != nil || !changed {
		return nil, err
	}
	return []string{fmt.Sprintf("%s/%s: %s", name, server, what)}, nil
}

// logHealth writes the one line of a change.
func logHealth(log *zap.Logger, e health.Event) {
	fields := []zap.Field{zap.String("upstream", e.Upstream)}
	if e.Server != "" {
		fields = append(fields, zap.String("server", e.Server), zap.Duration("after", e.After))
	}
	if e.Reason != "" {
		fields = append(fields, zap.String("reason", e.Reason))
	}
	if e.For > 0 {
		fields = append(fields, zap.Duration("for", e.For))
	}
	fields = append(fields, zap.Int("available", e.Available), zap.Int("servers", e.Total))
	switch e.Kind {
	case health.Up:
		log.Info("server is up", fields...)
	case health.Down:
		log.Warn("server is down", fields...)
	case health.Ejected:
		log.Warn("server is ejected: it fails requests", fields...)
	case health.Returned:
		log.Info("server is back after its ejection", fields...)
	case health.Drained:
		log.Info("server is drained: it gets no new requests", fields...)
	case health.Ready:
		log.Info("server is ready: it gets requests again", fields...)
	case health.Panic:
		log.Warn("too few servers are available: all are tried", fields...)
	case health.PanicOver:
		log.Info("enough servers are available again", fields...)
	}
}
