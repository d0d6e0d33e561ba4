package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"wproxy/core/metrics"
	"wproxy/core/objects"
)

// shownCircuits is how many circuits of breakers are remembered; further ones are in
// /metrics only. There is one for each route and upstream that a breaker is used for.
const shownCircuits = 1000

// A LiveDoor is a listener and its limits.
type LiveDoor struct {
	Name      string `json:"name"`
	Address   string `json:"address"`
	Open      int    `json:"open"`
	Limit     int    `json:"limit"`      // of connections
	PerClient int    `json:"per_client"` // 0: none
	Refused   uint64 `json:"refused"`    // connections that were closed at once
}

// A LiveRefusal is how often wproxy has refused or failed a request itself.
type LiveRefusal struct {
	Reason string  `json:"reason"`
	Total  uint64  `json:"total"`
	Rate   float64 `json:"rate"`
}

// A LiveDecision is what a plugin that ships with wproxy has decided about the requests
// of a route.
type LiveDecision struct {
	Plugin string      `json:"plugin"`
	Route  string      `json:"route"`
	What   string      `json:"what"` // "limit", "cache" or "breaker"
	Counts []LiveCount `json:"counts"`
}

// A LiveCount is one of the things that it may decide.
type LiveCount struct {
	Name  string  `json:"name"` // as the label of the metric has it: "allowed", "hit"
	Total uint64  `json:"total"`
	Rate  float64 `json:"rate"`
}

// A LiveCircuit is a circuit of a breaker.
type LiveCircuit struct {
	Plugin   string    `json:"plugin"`
	Route    string    `json:"route"`
	Upstream string    `json:"upstream"` // "": the route splits its requests
	State    string    `json:"state"`    // "closed", "open" or "half-open"
	Since    time.Time `json:"since"`
}

// A LiveStore is the memory of a cache.
type LiveStore struct {
	Name    string `json:"name"` // the vm_id of its plugins, by default a plugin's name
	Used    int64  `json:"used_bytes"`
	Max     int64  `json:"limit_bytes"`
	Objects int    `json:"objects"`
}

// decisionMetrics are the counters of shipped plugins, by name in Prometheus, and the
// label that has the decision.
var decisionMetrics = map[string]struct{ what, label string }{
	"wproxy_limit_total":          {"limit", "decision"},
	"wproxy_cache_requests_total": {"cache", "result"},
	"wproxy_breaker_total":        {"breaker", "decision"},
}

// A decisionKey names one count of a LiveDecision.
type decisionKey struct{ plugin, route, what, name string }

// readDecisions reads what shipped plugins have decided so far.
func readDecisions(m *metrics.Metrics) map[decisionKey]uint64 {
	all := map[decisionKey]uint64{}
	names := make([]string, 0, len(decisionMetrics))
	for name := range decisionMetrics {
		names = append(names, name)
	}
	for _, c := range m.ReadGuestCounters(names...) {
		d := decisionMetrics[c.Name]
		all[decisionKey{c.Plugin, c.Labels["route"], d.what, c.Labels[d.label]}] += c.Value
	}
	return all
}

// limits fills in what has limits, and what became of them.
func (a *app) limits(l *Live, g *generation, s, old *sample) {
	refused := a.parts.metrics.ReadConnectionsRefused()
	for _, st := range l.Status.Listeners {
		d := LiveDoor{Name: st.Name, Address: st.Address, Open: st.Connections, Refused: refused[st.Name]}
		if c := g.file.Listeners[st.Name]; c != nil {
			d.Limit, d.PerClient = c.Limits.Connections, c.Limits.ConnectionsPerClient
		}
		l.Doors = append(l.Doors, d)
	}
	l.refusals(s, old)
	l.decisions(s, old)
	l.Circuits = a.parts.view.circuitList(g)
	a.parts.objects.Each(func(name string, p *objects.Space) {
		st := LiveStore{Name: name, Max: p.Max()}
		if st.Used, st.Objects = p.Used(); st.Used > 0 { // there is one for every plugin
			l.Stores = append(l.Stores, st)
		}
	})
	slices.SortFunc(l.Stores, func(a, b LiveStore) int { return strings.Compare(a.Name, b.Name) })
}

// refusals are those that happen now first, then those of which there were most.
func (l *Live) refusals(s, old *sample) {
	for reason, n := range s.refused {
		l.Refusals = append(l.Refusals, LiveRefusal{reason, n, l.rate(n - min(old.refused[reason], n))})
	}
	slices.SortFunc(l.Refusals, func(a, b LiveRefusal) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Total, a.Total), strings.Compare(a.Reason, b.Reason))
	})
}

// decisions are by plugin and route; the first of them, if there are too many.
func (l *Live) decisions(s, old *sample) {
	rows := map[decisionKey]*LiveDecision{}
	for k, n := range s.decisions {
		row := decisionKey{plugin: k.plugin, route: k.route, what: k.what}
		d := rows[row]
		if d == nil {
			d = &LiveDecision{Plugin: k.plugin, Route: k.route, What: k.what}
			rows[row] = d
		}
		d.Counts = append(d.Counts, LiveCount{k.name, n, l.rate(n - min(old.decisions[k], n))})
	}
	for _, d := range rows {
		slices.SortFunc(d.Counts, func(a, b LiveCount) int { return strings.Compare(a.Name, b.Name) })
		l.Decisions = append(l.Decisions, *d)
	}
	slices.SortFunc(l.Decisions, func(a, b LiveDecision) int {
		return cmp.Or(strings.Compare(a.What, b.What), strings.Compare(a.Plugin, b.Plugin), strings.Compare(a.Route, b.Route))
	})
	if n := len(l.Decisions); n > shownRows {
		l.Cut["decisions"] = n - shownRows
		l.Decisions = l.Decisions[:shownRows]
	}
}

type circuitKey struct{ plugin, route, upstream string }

type circuitStatus struct {
	state int64
	since time.Time
}

// circuitStates are the values of the breaker's gauge, in words.
var circuitStates = [...]string{"closed", "open", "half-open"}

// circuit notes the state of a circuit, and puts a change of it on the time line. It is
// called while a VM is locked; route is borrowed.
func (v *view) circuit(plugin, upstream, route string, state int64) {
	if state < 0 || int(state) >= len(circuitStates) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	key := circuitKey{plugin, route, upstream}
	was, known := v.circuits[key]
	if known && was.state == state || !known && len(v.circuits) >= shownCircuits {
		return
	}
	key.route, key.upstream = strings.Clone(route), strings.Clone(upstream)
	v.circuits[key] = circuitStatus{state, time.Now()}
	if !known && state == 0 {
		return // its first request
	}
	what := "route " + route
	if upstream != "" {
		what += ", upstream " + upstream
	}
	v.mark("circuit_"+circuitStates[state], "breaker "+plugin+": "+what+": "+circuitStates[was.state]+" -> "+circuitStates[state])
}

// circuitList returns all circuits of g's plugins, those that are not closed first.
func (v *view) circuitList(g *generation) []LiveCircuit {
	list := []LiveCircuit{}
	v.mu.Lock()
	for k, c := range v.circuits {
		if g.plugins[k.plugin] != nil {
			list = append(list, LiveCircuit{k.plugin, k.route, k.upstream, circuitStates[c.state], c.since})
		}
	}
	v.mu.Unlock()
	order := []string{"open", "half-open", "closed"}
	slices.SortFunc(list, func(a, b LiveCircuit) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.State), slices.Index(order, b.State)), strings.Compare(a.Plugin, b.Plugin),
			strings.Compare(a.Route, b.Route), strings.Compare(a.Upstream, b.Upstream))
	})
	return list
}
