package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"wproxy/core/config"
	"wproxy/host"
)

// A Status is what /status shows: the state of a running wproxy.
type Status struct {
	Version    string           `json:"version"`
	Go         string           `json:"go"`
	PID        int              `json:"pid"`
	Started    time.Time        `json:"started"`
	Config     string           `json:"config"`
	Generation uint64           `json:"generation"` // of the configuration; 1 is the one it started with
	Loaded     time.Time        `json:"loaded"`     // when that was
	LastReload *reloadStatus    `json:"last_reload,omitempty"`
	Ready      bool             `json:"ready"`
	NotReady   []string         `json:"not_ready,omitempty"` // why
	Goroutines int              `json:"goroutines"`
	Admin      []string         `json:"admin"` // addresses
	Listeners  []ListenerStatus `json:"listeners"`
	Routes     []RouteStatus    `json:"routes"`
	Upstreams  []UpstreamStatus `json:"upstreams"`
	Plugins    []PluginStatus   `json:"plugins"`
}

// A ListenerStatus is one listener.
type ListenerStatus struct {
	Name        string `json:"name"`
	Address     string `json:"address"`
	Connections int    `json:"connections"` // open
	Accepted    uint64 `json:"accepted"`    // since it was bound
}

// A RouteStatus is one route.
type RouteStatus struct {
	Name      string   `json:"name"`
	Upstreams []string `json:"upstreams,omitempty"`
	Plugins   []string `json:"plugins,omitempty"`
}

// An UpstreamStatus is one upstream.
type UpstreamStatus struct {
	Name    string         `json:"name"`
	Servers []ServerStatus `json:"servers"`
}

// A ServerStatus is one server of an upstream.
type ServerStatus struct {
	Address  string `json:"address"`
	Weight   int    `json:"weight"`
	Active   int64  `json:"active"`   // exchanges
	Failures int64  `json:"failures"` // tries that failed
}

// A PluginStatus is one plugin.
type PluginStatus struct {
	Name      string            `json:"name"`
	Wasm      string            `json:"wasm"`
	ABI       string            `json:"abi"`
	Instances int               `json:"instances"`
	Memory    int64             `json:"memory_bytes"`
	Streams   int               `json:"streams"`
	Calls     int               `json:"calls"` // HTTP calls under way
	Restarts  uint64            `json:"restarts"`
	Recycled  uint64            `json:"recycled"` // instances replaced by sandbox.recycle
	Waits     uint64            `json:"waits"`    // callbacks that found every instance busy
	Queued    int64             `json:"queue_bytes"`
	QueueFull uint64            `json:"queue_full"` // items that found no room in a shared queue
	Traps     map[string]uint64 `json:"traps,omitempty"`
}

// notReady returns why this wproxy should get no traffic; nothing: it is ready.
func (a *app) notReady() []string {
	a.mu.Lock()
	g := a.current
	a.mu.Unlock()
	var why []string
	if a.server.Draining() {
		why = append(why, "draining")
	}
	for _, b := range g.broken {
		why = append(why, fmt.Sprintf("%s does not start: %s", b, firstLine(b.Err.Error())))
	}
	return why
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// status reads everything.
func (a *app) status() *Status {
	a.mu.Lock()
	g, loaded, last := a.current, a.loaded, a.lastReload
	addresses := a.doors.addressList()
	a.mu.Unlock()
	why := a.notReady()
	st := &Status{
		Version: versionString(), Go: runtime.Version(), PID: os.Getpid(), Started: a.started,
		Config: a.source.String(), Generation: g.Snapshot.Generation, Loaded: loaded,
		Ready: len(why) == 0, NotReady: why, Goroutines: runtime.NumGoroutine(),
		// Lists are never null, whoever reads them.
		Admin: append([]string{}, addresses...), Listeners: []ListenerStatus{}, Routes: []RouteStatus{},
		Upstreams: []UpstreamStatus{}, Plugins: []PluginStatus{},
	}
	if !last.At.IsZero() {
		st.LastReload = &last
	}
	for _, l := range a.server.Listeners() {
		st.Listeners = append(st.Listeners, ListenerStatus{l.Name, l.Address, l.Open, l.Total})
	}
	for _, name := range slices.Sorted(maps.Keys(g.file.Routes)) {
		st.Routes = append(st.Routes, routeStatus(g.file.Routes[name]))
	}
	for _, u := range g.upstreams {
		us := UpstreamStatus{Name: u.Cluster.Name, Servers: []ServerStatus{}}
		for _, e := range u.Cluster.Endpoints {
			us.Servers = append(us.Servers, ServerStatus{e.Name, e.Weight, e.Live.Active.Load(), e.Live.Failures.Load()})
		}
		st.Upstreams = append(st.Upstreams, us)
	}
	for name, p := range g.plugins {
		st.Plugins = append(st.Plugins, pluginStatus(g.file.Plugins[name], p.Plugin))
	}
	slices.SortFunc(st.Upstreams, func(a, b UpstreamStatus) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(st.Plugins, func(a, b PluginStatus) int { return strings.Compare(a.Name, b.Name) })
	return st
}

func routeStatus(r *config.Route) RouteStatus {
	st := RouteStatus{Name: r.Name, Plugins: r.Use}
	for _, t := range r.Upstream {
		st.Upstreams = append(st.Upstreams, t.Upstream)
	}
	return st
}

func pluginStatus(c *config.Plugin, p *host.Plugin) PluginStatus {
	s := p.Stats()
	st := PluginStatus{
		Name: c.Name, Wasm: c.Wasm, ABI: p.Version().String(), Instances: s.Instances, Memory: s.MemoryBytes,
		Streams: s.Streams, Calls: s.Calls, Restarts: s.Restarts, Recycled: s.Recycled, Waits: s.Waits,
		Queued: s.QueueBytes, QueueFull: s.QueueFull,
	}
	for cause, n := range s.Traps {
		if st.Traps == nil {
			st.Traps = map[string]uint64{}
		}
		st.Traps[string(cause)] = n
	}
	return st
}

// metricsHandler reads what is not counted as it happens, and answers.
func (a *app) metricsHandler() http.Handler {
	next := a.parts.metrics.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.countCertificates()
		instances, memory := map[string]int{}, map[string]int64{}
		a.parts.modules.each(func(k moduleKey, p *loadedModule) {
			s := p.Stats() // an older generation's may still be there
			instances[k.name] += s.Instances
			memory[k.name] += s.MemoryBytes
		})
		for name, n := range instances {
			a.parts.metrics.Plugin(name).SetInstances(n, memory[name])
		}
		next.ServeHTTP(w, r)
	})
}

// print writes st for people.
func (st *Status) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...any) { fmt.Fprintln(tw, strings.Join(texts(cells), "\t")) }
	state := "ready"
	if !st.Ready {
		state = "not ready: " + strings.Join(st.NotReady, "; ")
	}
	row("wproxy", st.Version, "pid "+fmt.Sprint(st.PID), "up "+time.Since(st.Started).Round(time.Second).String())
	row("state", state)
	row("config", fmt.Sprintf("%s, generation %d, loaded %s", st.Config, st.Generation, st.Loaded.Format(time.RFC3339)))
	if r := st.LastReload; r != nil && !r.OK {
		row("reload", "refused at "+r.At.Format(time.RFC3339)+": "+firstLine(r.Error))
	}
	row("admin", strings.Join(st.Admin, ", "))
	section := func(head ...any) {
		row()
		row(head...)
	}
	section("LISTENER", "ADDRESS", "OPEN", "ACCEPTED")
	for _, l := range st.Listeners {
		row(l.Name, l.Address, l.Connections, l.Accepted)
	}
	section("ROUTE", "UPSTREAMS", "PLUGINS")
	for _, r := range st.Routes {
		row(r.Name, orDash(r.Upstreams), orDash(r.Plugins))
	}
	section("UPSTREAM", "SERVER", "WEIGHT", "ACTIVE", "FAILURES")
	for _, u := range st.Upstreams {
		for _, s := range u.Servers {
			row(u.Name, s.Address, s.Weight, s.Active, s.Failures)
		}
	}
	if len(st.Plugins) > 0 {
		section("PLUGIN", "WASM", "ABI", "INSTANCES", "MEMORY", "STREAMS", "RESTARTS")
	}
	for _, p := range st.Plugins {
		row(p.Name, p.Wasm, p.ABI, p.Instances, fmt.Sprintf("%.1fMiB", float64(p.Memory)/(1<<20)), p.Streams, p.Restarts)
	}
	_ = tw.Flush() // nobody left to tell
}

func texts(cells []any) []string {
	s := make([]string, len(cells))
	for i, c := range cells {
		s[i] = fmt.Sprint(c)
	}
	return s
}

func orDash(s []string) string {
	if len(s) == 0 {
		return "-"
	}
	return strings.Join(s, ",")
}
