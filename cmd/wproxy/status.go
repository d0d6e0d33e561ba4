package main

import (
	"cmp"
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
	"wproxy/core/health"
	"wproxy/core/upstream"
	"wproxy/host"
)

// A Status is what /status shows: the state of a running wproxy.
type Status struct {
	Version    string           `json:"version"`
	Go         string           `json:"go"`
	PID        int              `json:"pid"`
	Started    time.Time        `json:"started"`
	Config     string           `json:"config"`
	ConfigHash string           `json:"config_hash"` // of all settings, to compare machines with
	Generation uint64           `json:"generation"`  // of the configuration; 1 is the one it started with
	Loaded     time.Time        `json:"loaded"`      // when that was
	InUse      int              `json:"in_use"`      // configurations that have exchanges, that one among them
	LastReload *reloadStatus    `json:"last_reload,omitempty"`
	Upgrade    *upgradeStatus   `json:"upgrade,omitempty"` // from this process: under way, or the last
	Ready      bool             `json:"ready"`
	NotReady   []string         `json:"not_ready,omitempty"` // why
	Goroutines int              `json:"goroutines"`
	Admin      []string         `json:"admin"` // addresses
	Listeners  []ListenerStatus `json:"listeners"`
	Routes     []RouteStatus    `json:"routes"`
	Upstreams  []UpstreamStatus `json:"upstreams"`
	Plugins    []PluginStatus   `json:"plugins"`

	Certificates []CertificateStatus `json:"certificates"`
}

// A CertificateStatus is a certificate of a listener: one in a file, or one that wproxy
// gets itself.
type CertificateStatus struct {
	Listener string    `json:"listener"`
	Host     string    `json:"host"`             // of a file, all names in it
	File     string    `json:"file,omitempty"`   // absent: it is from an ACME server
	Expires  time.Time `json:"expires,omitzero"` // absent: there is none
	Problem  string    `json:"problem,omitempty"`
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

	TCP         bool  `json:"tcp,omitempty"`         // it is for connections
	Connections int64 `json:"connections,omitempty"` // of it that are open
}

// An UpstreamStatus is one upstream.
type UpstreamStatus struct {
	Name    string         `json:"name"`
	Panic   bool           `json:"panic,omitempty"` // too few servers are up: all are tried
	Servers []ServerStatus `json:"servers"`
}

// A ServerStatus is one server of an upstream.
type ServerStatus struct {
	Address  string `json:"address"`
	Weight   int    `json:"weight"`
	Active   int64  `json:"active"`   // exchanges
	Failures int64  `json:"failures"` // tries that failed

	State     string     `json:"state"`                // up, down, ejected or drained
	Since     time.Time  `json:"since,omitzero"`       // when that began
	Reason    string     `json:"reason,omitempty"`     // why, or why the last check failed
	Until     *time.Time `json:"until,omitempty"`      // when its ejection ends
	Ejections int        `json:"ejections,omitempty"`  // so far
	LastCheck *time.Time `json:"last_check,omitempty"` // when its result came
	CheckTime float64    `json:"check_seconds,omitempty"`
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
	var upgrade *upgradeStatus
	if a.lastUpgrade != nil {
		u := *a.lastUpgrade
		upgrade = &u
	}
	a.mu.Unlock()
	why := a.notReady()
	st := &Status{
		Version: versionString(), Go: runtime.Version(), PID: os.Getpid(), Started: a.started,
		Config: a.source.String(), ConfigHash: g.hash, Generation: g.Snapshot.Generation, Loaded: loaded, InUse: a.server.Generations(),
		Upgrade: upgrade, Ready: len(why) == 0, NotReady: why, Goroutines: runtime.NumGoroutine(),
		// Lists are never null, whoever reads them.
		Admin: append([]string{}, addresses...), Listeners: []ListenerStatus{}, Routes: []RouteStatus{},
		Upstreams: []UpstreamStatus{}, Plugins: []PluginStatus{}, Certificates: g.certificates(),
	}
	if !last.At.IsZero() {
		st.LastReload = &last
	}
	for _, l := range a.server.Listeners() {
		st.Listeners = append(st.Listeners, ListenerStatus{l.Name, l.Address, l.Open, l.Total})
	}
	for _, name := range slices.Sorted(maps.Keys(g.file.Routes)) {
		rs := routeStatus(g.file.Routes[name])
		if t := g.TCP.Routes[name]; t != nil {
			rs.TCP, rs.Connections = true, t.Open.N()
		}
		st.Routes = append(st.Routes, rs)
	}
	for _, u := range g.upstreams {
		st.Upstreams = append(st.Upstreams, upstreamStatus(u.Current().Cluster, a.parts.servers.monitor(u.Cluster.Name)))
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

// upstreamStatus shows the servers of c, which m looks after; nil: nobody yet.
func upstreamStatus(c *upstream.Cluster, m *health.Monitor) UpstreamStatus {
	us := UpstreamStatus{Name: c.Name, Panic: c.Panic(), Servers: []ServerStatus{}}
	var known map[string]health.Status
	if m != nil {
		known = m.Snapshot()
	}
	for _, e := range c.Endpoints {
		s := ServerStatus{
			Address: e.Name, Weight: e.Weight, Active: e.Live.Active.Load(), Failures: e.Live.Failures.Load(), State: "up",
		}
		if k, ok := known[e.Name]; ok {
			s.Since, s.Reason, s.Ejections, s.CheckTime = k.Since, k.Reason, k.Ejections, k.Took.Seconds()
			switch {
			case k.Drained:
				s.State = "drained"
			case !k.Up:
				s.State = "down"
			case k.Ejected:
				s.State, s.Until = "ejected", &k.Until
			}
			if !k.LastCheck.IsZero() {
				s.LastCheck = &k.LastCheck
			}
		}
		us.Servers = append(us.Servers, s)
	}
	return us
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
	switch u := st.Upgrade; {
	case u == nil:
	case u.Running:
		row("upgrade", fmt.Sprintf("under way since %s: %s, pid %d", u.At.Format(time.RFC3339), u.Binary, u.PID))
	case !u.OK:
		row("upgrade", "failed at "+u.At.Format(time.RFC3339)+": "+firstLine(u.Error))
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
	section("UPSTREAM", "SERVER", "STATE", "WEIGHT", "ACTIVE", "FAILURES")
	for _, u := range st.Upstreams {
		name := u.Name
		if u.Panic {
			name += " (too few up: all are tried)"
		}
		for _, s := range u.Servers {
			row(name, s.Address, s.state(), s.Weight, s.Active, s.Failures)
		}
		if len(u.Servers) == 0 {
			row(name, "none found")
		}
	}
	if len(st.Plugins) > 0 {
		section("PLUGIN", "WASM", "ABI", "INSTANCES", "MEMORY", "STREAMS", "RESTARTS")
	}
	for _, p := range st.Plugins {
		row(p.Name, p.Wasm, p.ABI, p.Instances, fmt.Sprintf("%.1fMiB", float64(p.Memory)/(1<<20)), p.Streams, p.Restarts)
	}
	if len(st.Certificates) > 0 {
		section("CERTIFICATE", "LISTENER", "EXPIRES", "PROBLEM")
	}
	for _, c := range st.Certificates {
		expires := "-"
		if !c.Expires.IsZero() {
			expires = c.Expires.Format(time.RFC3339)
		}
		row(cmp.Or(c.Host, c.File), c.Listener, expires, cmp.Or(c.Problem, "-"))
	}
	_ = tw.Flush() // nobody left to tell
}

// state says how a server is, for how long and why: "down 5m: refused". Of one that is up
// as far as anybody knows, as nothing asks it, it says so.
func (s *ServerStatus) state() string {
	text := s.State
	if !s.Since.IsZero() {
		text += " " + config.FormatDuration(time.Since(s.Since).Round(time.Second))
	}
	switch {
	case s.State == "up" && s.LastCheck == nil:
		text += " (not checked)"
	case s.Reason != "" && s.State != "drained":
		text += ": " + s.Reason
	}
	return text
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
