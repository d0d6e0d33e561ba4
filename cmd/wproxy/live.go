package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"wproxy/core/access"
	"wproxy/core/config"
	"wproxy/core/metrics"
	"wproxy/host"
)

const (
	// windowTime is what rates and quantiles of the page are over, at most. They begin
	// when somebody looks: nothing is kept for nobody.
	windowTime = time.Minute

	// sampleTime is how often the counters are written down for that: seven times, so
	// that the window is of a minute to a minute and ten seconds.
	sampleTime = 10 * time.Second

	// unwatched is how long nobody has asked when what was written down is dropped.
	unwatched = 10 * time.Second

	// shownRows is how many routes, servers or plugins the page shows of each. It is sent
	// each second, and nobody reads more.
	shownRows = 500
)

// Live is what the page and `wproxy top` show. Lists that only grow (marks, requests) have
// what is new since the last one; of points the last are sent each time.
type Live struct {
	Now       time.Time         `json:"now"`
	Window    float64           `json:"window"` // seconds that rates and quantiles are over
	Status    *Status           `json:"status"`
	Servers   ServerCounts      `json:"servers"`
	Failing   map[string]uint64 `json:"failing"`       // tries that failed in the window, by "upstream/server"
	Cut       map[string]int    `json:"cut,omitempty"` // rows left out, by list
	Routes    []LiveRoute       `json:"routes"`
	Plugins   []LivePlugin      `json:"plugins"`
	Doors     []LiveDoor        `json:"doors"`
	Refusals  []LiveRefusal     `json:"refusals"`
	Decisions []LiveDecision    `json:"decisions"`
	Circuits  []LiveCircuit     `json:"circuits"`
	Stores    []LiveStore       `json:"stores"`
	Points    []metrics.Point   `json:"points"`
	Marks     []metrics.Mark    `json:"marks"`
	Requests  []LiveRequest     `json:"requests"` // notable ones, oldest first
}

// ServerCounts are all servers by state.
type ServerCounts struct {
	Total   int `json:"total"`
	Up      int `json:"up"`
	Down    int `json:"down"` // or ejected
	Drained int `json:"drained"`
	Panic   int `json:"panic"` // upstreams of which too few are up
}

// A LiveRoute is how a route does.
type LiveRoute struct {
	Name     string  `json:"name"` // "": requests that no route was for
	Total    uint64  `json:"total"`
	Rate     float64 `json:"rate"` // requests a second
	Rate4xx  float64 `json:"rate_4xx"`
	Rate5xx  float64 `json:"rate_5xx"`
	P50      float64 `json:"p50"` // seconds
	P99      float64 `json:"p99"`
	Upstream string  `json:"upstream,omitempty"`
	Plugins  string  `json:"plugins,omitempty"`
}

// A LivePlugin is how a plugin does.
type LivePlugin struct {
	Name       string            `json:"name"`
	Version    string            `json:"version,omitempty"`
	Digest     string            `json:"digest"` // SHA-256 of the module
	Instances  int               `json:"instances"`
	Memory     int64             `json:"memory_bytes"`
	MemoryHigh int64             `json:"memory_high_bytes"`  // of one instance
	MemoryMax  int64             `json:"memory_limit_bytes"` // of one instance
	Share      float64           `json:"share"`              // of the time of the requests of its routes, in its callbacks
	Callbacks  []LiveCallback    `json:"callbacks"`
	Traps      uint64            `json:"traps"`
	LastTrap   *TrapStatus       `json:"last_trap,omitempty"`
	Callouts   map[string]uint64 `json:"callouts,omitempty"` // by outcome
	Grants     []string          `json:"grants"`
	OnError    string            `json:"on_error"`
}

// A LiveCallback is what the calls of one callback of a plugin cost.
type LiveCallback struct {
	Name  string  `json:"name"`
	Calls uint64  `json:"calls"`
	P50   float64 `json:"p50"` // seconds
	P99   float64 `json:"p99"`
	Fuel  float64 `json:"fuel"` // units of work of one call, the mean since the module was loaded
}

// A LiveRequest is a request that was notable.
type LiveRequest struct {
	Seq  uint64          `json:"seq"`
	Kind string          `json:"kind"`
	Curl string          `json:"curl"` // a command that sends it again, without headers and body
	Log  json.RawMessage `json:"log"`  // its line of the access log
}

// A sample is how far the counters were.
type sample struct {
	at        time.Time
	routes    map[string]metrics.RouteTotals
	calls     map[string]map[string]metrics.Totals
	failures  map[string]int64
	refused   map[string]uint64 // by reason
	decisions map[decisionKey]uint64
}

// live reads everything for the page. all is for somebody who has not seen anything yet;
// else it is what is new since the last time.
func (a *app) live(all bool) *Live {
	v := a.parts.view
	v.liveMu.Lock()
	defer v.liveMu.Unlock()
	now := time.Now()
	v.timeline.Sample(now)
	a.mu.Lock()
	g := a.current
	a.mu.Unlock()
	st := a.status()
	s := a.sample(g, st, now)
	old := v.window(s)
	l := &Live{
		Now: now, Window: s.at.Sub(old.at).Seconds(), Status: st, Failing: map[string]uint64{},
		Routes: []LiveRoute{}, Plugins: []LivePlugin{}, Cut: map[string]int{},
		Doors: []LiveDoor{}, Refusals: []LiveRefusal{}, Decisions: []LiveDecision{}, Stores: []LiveStore{},
	}
	l.routes(g, s, old)
	a.livePlugins(l, g, s, old)
	a.limits(l, g, s, old)
	l.servers(s, old)
	if all {
		l.Points, l.Marks, l.Requests = v.timeline.Points(1<<10), v.timeline.Marks(0), liveRequests(v.recorder.Since(0), st, g.file)
		return l
	}
	l.Points, l.Marks = v.timeline.Points(3), v.timeline.Marks(v.lastMark)
	entries := v.recorder.Since(v.lastEntry)
	l.Requests = liveRequests(entries, st, g.file)
	if n := len(l.Marks); n > 0 {
		v.lastMark = l.Marks[n-1].Seq
	}
	if n := len(entries); n > 0 {
		v.lastEntry = entries[n-1].Seq
	}
	return l
}

// sample reads the counters.
func (a *app) sample(g *generation, st *Status, now time.Time) *sample {
	s := &sample{
		at: now, routes: map[string]metrics.RouteTotals{}, calls: map[string]map[string]metrics.Totals{}, failures: map[string]int64{},
		refused: a.parts.metrics.ReadRefused(), decisions: readDecisions(a.parts.metrics),
	}
	s.routes[""] = g.Snapshot.NoRoute.Read()
	for name, r := range g.routes {
		s.routes[name] = r.Read()
	}
	for name, p := range g.plugins {
		s.calls[name] = map[string]metrics.Totals{}
		for _, c := range p.counts.ReadCalls() {
			s.calls[name][c.Callback] = c.Times
		}
	}
	for _, u := range st.Upstreams {
		for _, e := range u.Servers {
			if e.Failures > 0 { // few are not 0
				s.failures[u.Name+"/"+e.Address] = e.Failures
			}
		}
	}
	return s
}

// window takes s in and returns what it is to be compared with.
func (v *view) window(s *sample) *sample {
	if v.forgets == nil {
		v.forgets = time.AfterFunc(unwatched, v.dropSamples)
	} else {
		v.forgets.Reset(unwatched)
	}
	if n := len(v.samples); n == 0 || s.at.Sub(v.samples[n-1].at) >= sampleTime {
		v.samples = append(v.samples, s)
	}
	for len(v.samples) > 1 && s.at.Sub(v.samples[1].at) >= windowTime {
		v.samples = slices.Delete(v.samples, 0, 1)
	}
	return v.samples[0]
}

// dropSamples is called when nobody has looked for a while.
func (v *view) dropSamples() {
	v.liveMu.Lock()
	defer v.liveMu.Unlock()
	v.samples = nil
}

// rate returns how many a second n are.
func (l *Live) rate(n uint64) float64 {
	if l.Window <= 0 {
		return 0
	}
	return float64(n) / l.Window
}

func (l *Live) routes(g *generation, s, old *sample) {
	for _, name := range slices.Sorted(maps.Keys(s.routes)) {
		t, was := s.routes[name], old.routes[name]
		since := func(class int) uint64 { return t.ByClass[class] - min(was.ByClass[class], t.ByClass[class]) }
		r := LiveRoute{Name: name, Rate4xx: l.rate(since(4)), Rate5xx: l.rate(since(5))}
		var n uint64
		for class := range t.ByClass {
			r.Total += t.ByClass[class]
			n += since(class)
		}
		r.Rate = l.rate(n)
		times := t.Times.Since(was.Times)
		r.P50, r.P99 = times.Quantile(.5), times.Quantile(.99)
		if c := g.file.Routes[name]; c != nil {
			st := routeStatus(c)
			r.Upstream, r.Plugins = strings.Join(st.Upstreams, ", "), strings.Join(st.Plugins, ", ")
		}
		l.Routes = append(l.Routes, r)
	}
	if n := len(g.file.Routes); n > shownRows {
		l.Cut["routes"] = n - shownRows
	}
	l.Status.Routes = []RouteStatus{} // told already
}

// servers counts the servers, and leaves those that need somebody's attention if there
// are too many to show.
func (l *Live) servers(s, old *sample) {
	rows := 0
	for _, u := range l.Status.Upstreams {
		if u.Panic {
			l.Servers.Panic++
		}
		for _, e := range u.Servers {
			rows++
			switch e.State {
			case "up":
				l.Servers.Up++
			case "drained":
				l.Servers.Drained++
			default:
				l.Servers.Down++
			}
			key := u.Name + "/" + e.Address
			if n := s.failures[key] - old.failures[key]; n > 0 {
				l.Failing[key] = uint64(n)
			}
		}
	}
	l.Servers.Total = rows
	if rows <= shownRows {
		return
	}
	left := shownRows
	for pass := range 2 { // first what is not well
		for i := range l.Status.Upstreams {
			u := &l.Status.Upstreams[i]
			if u.well(l.Failing) == (pass == 0) {
				continue
			}
			n := min(left, len(u.Servers))
			slices.SortStableFunc(u.Servers, func(a, b ServerStatus) int { return cmp.Compare(rank(a.State), rank(b.State)) })
			u.Servers = u.Servers[:n]
			left -= n
		}
	}
	l.Status.Upstreams = slices.DeleteFunc(l.Status.Upstreams, func(u UpstreamStatus) bool { return len(u.Servers) == 0 && !u.Panic })
	l.Cut["servers"] = rows - (shownRows - left)
}

// well tells whether all servers of u are up and answer.
func (u *UpstreamStatus) well(failing map[string]uint64) bool {
	return len(u.Servers) > 0 && !u.Panic && !slices.ContainsFunc(u.Servers, func(e ServerStatus) bool {
		return e.State != "up" || failing[u.Name+"/"+e.Address] > 0
	})
}

// rank orders states by how much they matter.
func rank(state string) int { return slices.Index([]string{"down", "ejected", "drained", "up"}, state) }

func (a *app) livePlugins(l *Live, g *generation, s, old *sample) {
	callouts := a.parts.metrics.ReadCallouts()
	for i, name := range slices.Sorted(maps.Keys(g.plugins)) {
		if i == shownRows {
			l.Cut["plugins"] = len(g.plugins) - shownRows
			break
		}
		p, c := g.plugins[name], g.file.Plugins[name]
		st := p.Stats()
		lp := LivePlugin{
			Name: name, Digest: fmt.Sprintf("%x", p.sum), Instances: st.Instances, Memory: st.MemoryBytes,
			MemoryHigh: st.MemoryHigh, MemoryMax: int64(c.Sandbox.Memory), Callouts: callouts[name],
			Grants: shownGrants(c), OnError: c.Sandbox.OnError, LastTrap: a.parts.view.lastTrap(name), Callbacks: []LiveCallback{},
		}
		if p.manifest != nil {
			lp.Version = p.manifest.Version
		}
		for _, n := range st.Traps {
			lp.Traps += n
		}
		inside := lp.callbacks(st, s.calls[name], old.calls[name])
		whole := 0.0
		for route, t := range s.routes {
			if r := g.file.Routes[route]; r != nil && slices.Contains(r.Use, name) {
				whole += t.Times.Since(old.routes[route].Times).Sum
			}
		}
		if whole > 0 {
			lp.Share = min(inside/whole, 1)
		}
		l.Plugins = append(l.Plugins, lp)
	}
}

// callbacks fills in what calls cost, and returns how long those of requests took.
func (lp *LivePlugin) callbacks(st host.Stats, now, was map[string]metrics.Totals) (inside float64) {
	for cb := host.CallStart; cb <= host.CallDelete; cb++ {
		t, ok := now[cb.String()]
		if !ok {
			continue
		}
		d := t.Since(was[cb.String()])
		c := LiveCallback{Name: cb.String(), Calls: t.Count, P50: d.Quantile(.5), P99: d.Quantile(.99)}
		if w := st.Work[cb]; w.Calls > 0 {
			c.Fuel = float64(w.Fuel) / float64(w.Calls)
		}
		lp.Callbacks = append(lp.Callbacks, c)
		if cb >= host.CallRequestHeaders {
			inside += d.Sum
		}
	}
	return inside
}

// shownGrants lists what a plugin may use, in the words of the key grant.
func shownGrants(c *config.Plugin) []string {
	if list := grantsOf(c); list != nil {
		return list
	}
	all := []string{host.GrantLog, host.GrantMetrics, host.GrantSharedData}
	if len(c.Env) > 0 {
		all = append(all, host.GrantEnv)
	}
	return all
}

func liveRequests(entries []access.Entry, st *Status, f *config.File) []LiveRequest {
	out := make([]LiveRequest, 0, len(entries))
	for _, e := range entries {
		r := LiveRequest{Seq: e.Seq, Kind: e.Kind.String(), Log: e.Line}
		var line recordedLine
		if json.Unmarshal(e.Line, &line) == nil {
			r.Curl = line.curl(st.Listeners, f)
		}
		out = append(out, r)
	}
	return out
}
