package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"wproxy/core/access"
	"wproxy/core/certs"
	"wproxy/core/certs/acme"
	"wproxy/core/config"
	"wproxy/core/filter"
	"wproxy/core/h1"
	"wproxy/core/h2"
	"wproxy/core/metrics"
	"wproxy/core/objects"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/route"
	"wproxy/core/server"
	"wproxy/core/tcp"
	"wproxy/core/trace"
	"wproxy/host"
	"wproxy/host/wasmfilter"
	"wproxy/plugins/manifest"
)

// parts are what generations are built from. They live as long as the process;
// what generations have in common is in the shared ones, so that a reload
// carries over whatever it does not change.
type parts struct {
	// Immutable.
	log     *zap.Logger
	metrics *metrics.Metrics
	host    *host.Host
	watcher *h1.Watcher

	stickySecret []byte // of sticky cookies for which the configuration has none

	builtins *builtinSet
	callouts *callouts
	objects  *objects.Store
	budget   *h2.Budget // of all clients
	view     *view

	pools     *shared[poolKey, *pool.Pool]
	upstreams *shared[upstreamKey, *proxy.Upstream]
	servers   *servers
	modules   *shared[moduleKey, *loadedModule]
	roots     *shared[rootKey, *host.Root]
	access    *shared[config.Hash, *access.Logger]
	tracers   *shared[config.Hash, *trace.Tracer]
	tunnels   *shared[string, *proxy.TunnelCount] // by name of the route
	counts    *shared[string, *tcp.Count]         // by name of the route
	stores    *shared[storeKey, *certs.Store]
	tickets   *shared[string, *certs.TicketKeys] // by listener
	acme      *shared[acmeKey, *acme.Manager]
	dry       bool // nothing serves: what is opened is not watched
	live      *liveNames

	challenges *acme.Pending // of all managers

	// Guarded by the caller: generations are built one at a time.
	built   uint64       // generations so far
	httpbin *localServer // once started, it stays; nil before

	sums map[string][sha256.Size]byte // of the embedded modules read so far, by name
}

func newParts(log *zap.Logger, m *metrics.Metrics, h *host.Host, w *h1.Watcher, dry bool) *parts {
	servers := newServers(dry)
	return &parts{
		challenges: acme.NewPending(), stickySecret: []byte(rand.Text()),
		log: log, metrics: m, host: h, watcher: w, dry: dry,
		objects:   objects.New(objects.Options{}),
		budget:    h2.NewBudget(h2.DefaultBudget),
		pools:     newShared[poolKey]((*pool.Pool).Close),
		upstreams: newShared[upstreamKey](servers.closeSet),
		servers:   servers,
		modules:   newShared[moduleKey](func(m *loadedModule) { m.Close() }),
		roots:     newShared[rootKey]((*host.Root).Close),
		tracers:   newShared[config.Hash]((*trace.Tracer).Close),
		tunnels:   newShared[string](func(*proxy.TunnelCount) {}),
		counts:    newShared[string](func(*tcp.Count) {}),
		stores:    newShared[storeKey]((*certs.Store).Close),
		tickets:   newShared[string](func(*certs.TicketKeys) {}),
		sums:      map[string][sha256.Size]byte{},
		acme:      newShared[acmeKey]((*acme.Manager).Close),
		access: newShared[config.Hash](func(l *access.Logger) {
			if err := l.Close(); err != nil {
				log.Error("closing the access log", zap.Error(err))
			}
		}),
	}
}

// close ends what outlives generations. All of them have been released.
func (p *parts) close() error {
	errs := []error{p.host.Close(), p.watcher.Close()}
	if p.httpbin != nil {
		p.httpbin.close()
	}
	return errors.Join(errs...)
}

// A generation is one configuration, built.
type generation struct {
	server.Generation
	file *config.File
	read time.Time // when it was begun to be read
	hash string    // of file

	// broken is why plugins of this generation did not start, by route and
	// plugin; only the first generation of a process may have some.
	broken []brokenPlugin

	// modules is what each plugin runs, to tell a changed .wasm.
	modules map[string]moduleKey

	// secure are the certificates of listeners with TLS; securePort is where
	// `redirect = "https"` leads to, nil: nowhere.
	secure     map[string]*certs.Store
	securePort *atomic.Int32

	upstreams map[string]*proxy.Upstream
	callable  map[string]upstreamKey // the same for callouts
	plugins   map[string]*loadedPlugin
	acme      map[string]*acme.Manager  // by listener
	routes    map[string]*metrics.Route // that the page shows: the first by name
}

type brokenPlugin struct {
	Plugin string
	Route  string // that uses it; "": none, it is a service
	Err    error
}

// String names the plugin, and the route that it is broken for.
func (b brokenPlugin) String() string {
	if b.Route == "" {
		return fmt.Sprintf("service %q", b.Plugin)
	}
	return fmt.Sprintf("route %q: plugin %q", b.Route, b.Plugin)
}

// A builder builds one generation.
type builder struct {
	*parts
	file *config.File

	// tolerant lets plugins that do not start break their routes and nothing
	// else, as at start. A reload is refused instead.
	tolerant bool

	gen      *generation
	letGo    []func() // what gen holds, in the order it was taken
	problems config.Problems

	listeners []string  // names, sorted
	lookUntil time.Time // how long it waits for servers to be found
}

// A loadedModule is a plugin's module, compiled, and what it says about itself.
type loadedModule struct {
	*host.Plugin
	manifest *manifest.Manifest
	sum      [sha256.Size]byte // of the module
}

// A loadedPlugin is a plugin of the generation being built.
type loadedPlugin struct {
	*loadedModule
	key       moduleKey
	counts    *metrics.Plugin
	factories map[[sha256.Size]byte]filter.Factory // by configuration
	tcp       map[[sha256.Size]byte]filter.TCPFactory
}

// build makes the generation of f, up to what runs code of guests or opens files: that
// is done by its Complete, which the server calls when the listeners are bound, so that
// a configuration refused for a port has had no such effects. An error leaves nothing
// behind; it is a config.Problems list if f is what is wrong. After one of Complete the
// generation is still to be released.
func (p *parts) build(ctx context.Context, f *config.File, tolerant bool) (*generation, error) {
	b := &builder{
		parts: p, file: f, tolerant: tolerant,
		gen: &generation{
			file: f, hash: f.Sum().String(), modules: map[string]moduleKey{},
			upstreams: map[string]*proxy.Upstream{}, callable: map[string]upstreamKey{}, plugins: map[string]*loadedPlugin{},
			routes: map[string]*metrics.Route{},
		},
		listeners: slices.Sorted(maps.Keys(f.Listeners)),
	}
	if p.built == 0 { // a reload sets it when it is through
		p.host.SetLogLevel(guestLevel(f.Log.Level))
		p.metrics.SetGuestLimit(f.Metrics.Limit)
	}
	p.live.add(f)
	b.hold(func() { p.live.remove(f, p.metrics) }) // last of all: the others may have handles
	if err := b.steps(ctx, b.buildUpstreams, b.openACME, b.loadPlugins, b.buildListeners); err != nil {
		p.callouts.prepare(nil)
		b.release()
		return nil, err
	}
	b.gen.Snapshot, b.gen.TCP = &proxy.Snapshot{}, &tcp.Snapshot{}
	b.gen.Complete, b.gen.Release = b.complete, b.release
	return b.gen, nil
}

// complete builds what build has left.
func (b *builder) complete(ctx context.Context) error {
	if err := b.steps(ctx, b.startServices, b.buildSnapshot, b.buildTCP, b.startACME); err != nil {
		b.callouts.prepare(nil)
		return err
	}
	b.built++
	b.gen.Snapshot.Generation = b.built
	return nil
}

// release lets go of what the generation holds: last taken, first let go, so
// roots go before their plugins.
func (b *builder) release() {
	for _, f := range slices.Backward(b.letGo) {
		f()
	}
	b.letGo = nil
}

// steps builds one thing after the other, in the order of dependence. A step that finds
// problems is the last.
func (b *builder) steps(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
		if len(b.problems) > 0 {
			b.problems.Sort()
			return b.problems
		}
	}
	return nil
}

// note keeps err if it is a problem of the configuration, so that all of them
// are told at once, and returns what else it is.
func (b *builder) note(err error) error {
	if ps, ok := asType[config.Problems](err); ok {
		b.problems = append(b.problems, ps...)
		return nil
	}
	if p, ok := asType[config.Problem](err); ok {
		b.problems = append(b.problems, p)
		return nil
	}
	return err
}

// hold remembers to let go of something.
func (b *builder) hold(letGo func()) { b.letGo = append(b.letGo, letGo) }

// loadPlugins compiles what the file names. Plugins that no route uses are
// loaded too: a .wasm that is broken is told before it is needed.
func (b *builder) loadPlugins(ctx context.Context) error {
	b.callouts.prepare(b.gen.callable)
	for _, name := range slices.Sorted(maps.Keys(b.file.Plugins)) {
		if err := b.note(b.loadPlugin(ctx, b.file.Plugins[name])); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) loadPlugin(ctx context.Context, p *config.Plugin) error {
	m, err := b.moduleOf(p)
	if err != nil {
		return err
	}
	o, err := pluginOptions(b.file, p)
	if err != nil {
		return err
	}
	key := keyOf(m.sum, o)
	b.builtins.set(p.Name, p.Builtin != "")
	counts := b.metrics.Plugin(p.Name)
	o.OnCall, o.OnFuel = observeCalls(counts), counts.Burnt
	o.OnCallout = countCallouts(b.metrics, p.Name)
	loaded, letGo, err := b.modules.get(key, func() (*loadedModule, error) { return b.loadModule(ctx, p, m, o) })
	if err != nil {
		return err
	}
	b.hold(letGo)
	b.gen.plugins[p.Name] = &loadedPlugin{
		loaded, key, counts, map[[sha256.Size]byte]filter.Factory{}, map[[sha256.Size]byte]filter.TCPFactory{},
	}
	b.gen.modules[p.Name] = key
	return nil
}

// observeCalls resolves a plugin's histograms, one per callback.
func observeCalls(m *metrics.Plugin) func(host.Callback, time.Duration) {
	var observers [host.CallDelete + 1]interface{ Observe(float64) }
	for c := range observers {
		observers[c] = m.Call(host.Callback(c).String())
	}
	return func(c host.Callback, took time.Duration) {
		if int(c) < len(observers) {
			observers[c].Observe(took.Seconds())
		}
	}
}

// countCallouts counts a plugin's calls by what has become of them.
func countCallouts(m *metrics.Metrics, plugin string) func(string, host.CallOutcome) {
	return func(upstream string, o host.CallOutcome) { m.Callout(plugin, upstream, string(o)) }
}

// used returns the plugin of one use by a route, and the settings that it is used with; sum
// tells those from others.
func (b *builder) used(routeName string, use config.Use) (p *loadedPlugin, settings []byte, sum [sha256.Size]byte, err error) {
	p, ok := b.gen.plugins[use.Plugin]
	if !ok {
		return nil, nil, sum, b.file.Problemf("routes."+routeName+".use", "route %q uses plugin %q, which is not there", routeName, use.Plugin)
	}
	if settings, err = config.Raw(use.Config); err != nil {
		return nil, nil, sum, b.file.Problemf("plugins."+use.Plugin+".config", "plugin %q: %v", use.Plugin, err)
	}
	return p, settings, sha256.Sum256(settings), nil
}

// factory returns the filters of one use of a plugin by a route.
func (b *builder) factory(ctx context.Context, routeName string, use config.Use) (filter.Factory, error) {
	p, settings, sum, err := b.used(routeName, use)
	if err != nil {
		return nil, err
	}
	if f, ok := p.factories[sum]; ok {
		return f, nil
	}
	root, broken, err := b.startRoot(ctx, p, routeName, settings)
	switch {
	case err != nil:
		return nil, err
	case broken != nil:
		return newFailedFactory(use.Plugin, broken), nil // not kept: the next route says so too
	}
	o := filterOptions(b.file.Plugins[use.Plugin])
	o.Objects = b.objects
	f := wasmfilter.New(root, o)
	p.factories[sum] = f
	return f, nil
}

func (b *builder) buildSnapshot(ctx context.Context) error {
	s := b.gen.Snapshot
	s.NoRoute = b.metrics.Route("", b.listeners).Announce()
	s.Upstreams = b.gen.upstreams
	for _, name := range b.listeners {
		s.Listeners = append(s.Listeners, newListener(b.file, b.file.Listeners[name]))
	}
	s.Routes, s.TunnelGrace = map[string]*proxy.Route{}, b.file.Server.Drain
	b.secureListeners(s.Listeners)
	var entries []route.Entry[*proxy.Route]
	for _, name := range slices.Sorted(maps.Keys(b.file.Routes)) {
		if b.file.TCP(b.file.Routes[name]) {
			continue
		}
		r, err := b.buildRoute(ctx, b.file.Routes[name])
		if err := b.note(err); err != nil {
			return err
		}
		s.Routes[name] = r
		entries = append(entries, route.Entry[*proxy.Route]{Spec: routeSpec(b.file.Routes[name]), Value: r})
	}
	b.traceWith(s)
	var err error
	if s.Table, err = route.New(entries); err != nil {
		b.problems = append(b.problems, routeProblems(b.file, err)...)
		return nil
	}
	if a := b.file.Log.Access; a.To != "none" {
		logger, letGo, err := b.access.get(config.HashOf(a), func() (*access.Logger, error) { return openAccess(a, b.metrics) })
		if err != nil {
			return b.note(b.file.Problemf("log.access.to", "access log: %v", err))
		}
		b.hold(letGo)
		s.Access = logger
	}
	return nil
}

func openAccess(a config.Access, m *metrics.Metrics) (*access.Logger, error) {
	format := access.JSON
	if a.Format == "combined" {
		format = access.Combined
	}
	return access.Open(access.Options{
		To: a.To, Format: format, OnDrop: m.AccessDropped, Fields: a.Fields, Hide: hideOf(a.Hide), Leave: 1 - float64(a.Sample),
	})
}

func (b *builder) buildRoute(ctx context.Context, r *config.Route) (*proxy.Route, error) {
	p, err := newRoute(b.file, r)
	if err != nil {
		return nil, err
	}
	p.Metrics = b.metrics.Route(r.Name, b.listeners)
	if len(b.gen.routes) < shownRows {
		b.gen.routes[r.Name] = p.Metrics
	}
	if len(b.file.Routes) <= metrics.AnnounceBelow {
		p.Metrics.Announce()
	}
	for _, t := range r.Upstream {
		u, ok := b.gen.upstreams[t.Upstream]
		if !ok {
			return nil, b.file.Problemf("routes."+r.Name+".upstream", "route %q: there is no upstream %q", r.Name, t.Upstream)
		}
		p.Split = append(p.Split, proxy.Target{Upstream: u, Weight: t.Weight})
	}
	if err := b.shape(p, r); err != nil {
		return nil, err
	}
	if len(r.Upstream) == 1 {
		p.Info.Cluster = r.Upstream[0].Upstream
	}
	var errs []error
	for _, use := range r.Plugins {
		f, err := b.factory(ctx, r.Name, use)
		if err != nil {
			if err := b.note(err); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		p.Filters = append(p.Filters, f)
	}
	return p, errors.Join(append(errs, b.markRoute(p, r))...)
}
