package main

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"wproxy/abi"
	"wproxy/core/metrics"
	"wproxy/host"
)

// guestMetrics makes the metrics of guests part of ours.
type guestMetrics struct {
	metrics *metrics.Metrics
	builtin func(plugin string) bool // whether it runs a plugin that ships with wproxy

	// circuit is told about the states of circuits of the plugin breaker, with a VM's lock
	// held; route is borrowed. nil: nobody wants to know.
	circuit func(plugin, upstream, route string, state int64)
}

// circuitMetric is the gauge that the plugin breaker tells the state of a circuit by.
const circuitMetric = "wproxy_breaker_state"

// Metric implements host.MetricSink.
func (g *guestMetrics) Metric(plugin, name string, kind abi.MetricKind) host.Metric {
	m := g.metric(plugin, name, kind)
	base, labels, _ := strings.Cut(name, ";")
	if base != circuitMetric || kind != abi.MetricGauge || g.circuit == nil || !g.builtin(plugin) {
		return m
	}
	if m == nil { // not exported: there is another metric by that name
		m = plainMetric{&metrics.GuestMetric{}}
	}
	upstream, _ := strings.CutPrefix(labels, "upstream=")
	return &circuitGauge{Metric: m, plugin: plugin, upstream: upstream, tell: g.circuit}
}

// A circuitGauge is the state of circuits, which somebody wants to know.
type circuitGauge struct {
	host.Metric
	plugin, upstream string
	tell             func(plugin, upstream, route string, state int64)
}

// Set implements host.Metric.
func (c *circuitGauge) Set(value int64, route string) {
	c.Metric.Set(value, route)
	c.tell(c.plugin, c.upstream, route, value)
}

// metric returns what a metric is counted in; nil: nowhere.
func (g *guestMetrics) metric(plugin, name string, kind abi.MetricKind) host.Metric {
	g.metrics.Redefine(plugin, name, metrics.Kind(kind), g.builtin(plugin))
	series := func(name string) *metrics.GuestMetric {
		m, ok := g.metrics.Guest(plugin, name, metrics.Kind(kind), g.builtin(plugin))
		if !ok {
			return nil
		}
		return m
	}
	// A metric with labels gets the route it is counted for as one more.
	if base, labels, ok := strings.Cut(name, ";"); ok {
		if rest, asked := cutRoute(labels); asked || !hasRoute(labels) {
			return &routedMetric{series: func(route string) *metrics.GuestMetric {
				return series(base + ";route=" + route + join(rest))
			}}
		}
	}
	m := series(name)
	if m == nil {
		return nil
	}
	return plainMetric{m}
}

// cutRoute takes a "route=" without a value out of labels.
func cutRoute(labels string) (rest string, found bool) {
	var kept []string
	for l := range strings.SplitSeq(labels, ";") {
		if l == "route=" || l == "route" {
			found = true
			continue
		}
		if l != "" {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, ";"), found
}

// hasRoute reports whether labels name a route of the guest's own choice.
func hasRoute(labels string) bool { return strings.Contains(";"+labels, ";route=") }

func join(labels string) string {
	if labels == "" {
		return ""
	}
	return ";" + labels
}

// plainMetric is one series.
type plainMetric struct{ m *metrics.GuestMetric }

// Add implements host.Metric.
func (p plainMetric) Add(delta int64, _ string) { p.m.Add(delta) }

// Set implements host.Metric.
func (p plainMetric) Set(value int64, _ string) { p.m.Record(uint64(max(value, 0))) }

// Sample implements host.Metric.
func (p plainMetric) Sample(value int64, _ string) { p.m.Record(uint64(max(value, 0))) }

// routedMetric is one series per route. Routes are names from the
// configuration, so there are few; the map is copied for each new one and read
// without a lock.
type routedMetric struct {
	series func(route string) *metrics.GuestMetric

	byRoute atomic.Pointer[map[string]*metrics.GuestMetric]
	mu      sync.Mutex // for writing byRoute
}

// at returns the series of route; nil if it cannot be made.
func (r *routedMetric) at(route string) *metrics.GuestMetric {
	if m := r.byRoute.Load(); m != nil {
		if g, ok := (*m)[route]; ok {
			return g
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := map[string]*metrics.GuestMetric{}
	if m := r.byRoute.Load(); m != nil {
		if g, ok := (*m)[route]; ok {
			return g
		}
		next = maps.Clone(*m)
	}
	route = strings.Clone(route) // it is borrowed
	g := r.series(route)
	next[route] = g
	r.byRoute.Store(&next)
	return g
}

// Add implements host.Metric.
func (r *routedMetric) Add(delta int64, route string) {
	if g := r.at(route); g != nil {
		g.Add(delta)
	}
}

// Set implements host.Metric.
func (r *routedMetric) Set(value int64, route string) {
	if g := r.at(route); g != nil {
		g.Record(uint64(max(value, 0)))
	}
}

// Sample implements host.Metric.
func (r *routedMetric) Sample(value int64, route string) { r.Set(value, route) }

// A builtinSet knows which plugins are ones that ship with wproxy: their
// metrics keep their names.
type builtinSet struct{ names sync.Map }

func (b *builtinSet) set(plugin string, builtin bool) { b.names.Store(plugin, builtin) }

func (b *builtinSet) has(plugin string) bool {
	v, _ := b.names.Load(plugin)
	return v == true
}
