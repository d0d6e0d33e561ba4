package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// classes are the values of code_class; see class.
var classes = [...]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}

// class returns the index in classes of a status.
func class(status int) int {
	if status < 100 || status > 599 {
		return 0
	}
	return status / 100
}

// A Route counts the exchanges of one route.
type Route struct {
	requests [][len(classes)]prometheus.Counter // by index of the listener
	seconds  prometheus.Observer
	grpc     *prometheus.CounterVec // curried with the route
	tunnels  prometheus.Gauge
}

// Route resolves the handles of a route. The engine names a listener by its
// index in listeners. Requests that match no route are counted on the route "".
func (m *Metrics) Route(name string, listeners []string) *Route {
	r := &Route{
		requests: make([][len(classes)]prometheus.Counter, len(listeners)),
		seconds:  m.requestSeconds.WithLabelValues(name),
		grpc:     m.grpc.MustCurryWith(prometheus.Labels{"route": name}),
	}
	if name != "" { // a request without a route has no tunnel
		r.tunnels = m.tunnels.WithLabelValues(name)
	}
	for i, l := range listeners {
		for j, c := range classes {
			r.requests[i][j] = m.requests.WithLabelValues(l, name, c)
		}
	}
	return r
}

// Done counts an exchange that came through listener (an index, -1: unknown; see
// [Metrics.Route]), was answered with status and took took.
func (r *Route) Done(listener, status int, took time.Duration) {
	if listener >= 0 && listener < len(r.requests) {
		r.requests[listener][class(status)].Inc()
	}
	r.seconds.Observe(took.Seconds())
}

// GRPCDone counts a call in gRPC that ended with code; known is false for one whose client
// got none. It looks the label up: most routes never see a call, and none sees all codes.
func (r *Route) GRPCDone(code int, known bool) {
	status := "none"
	if known {
		status = strconv.Itoa(code)
	}
	r.grpc.WithLabelValues(status).Inc()
}

// Tunnels is the gauge of the route's open tunnels.
func (r *Route) Tunnels() prometheus.Gauge { return r.tunnels }

// An Upstream counts tries at one upstream.
type Upstream struct {
	connect, firstByte, total prometheus.Observer
	failures                  map[string]prometheus.Counter
	retries                   map[string][2]prometheus.Counter
}

// FailureReasons are the reasons by which failed tries are counted.
var failureReasons = [...]string{
	FailureConnect, FailureReset, FailureTimeout, FailureTLS, FailureQueue, FailureProtocol, other,
}

// Why a try at an upstream failed.
const (
	FailureConnect  = "connect"  // no connection: refused, unreachable, unknown name, connect timeout
	FailureReset    = "reset"    // the connection ended before the answer had
	FailureTimeout  = "timeout"  // nothing came, or could be sent, for too long
	FailureTLS      = "tls"      // handshake or verification
	FailureQueue    = "queue"    // no connection allowed and no place or no more time in the queue
	FailureProtocol = "protocol" // what came is not a valid response
)

// Upstream resolves the handles of an upstream.
func (m *Metrics) Upstream(name string) *Upstream {
	u := &Upstream{
		connect:   m.upstreamSeconds.WithLabelValues(name, "connect"),
		firstByte: m.upstreamSeconds.WithLabelValues(name, "first_byte"),
		total:     m.upstreamSeconds.WithLabelValues(name, "total"),
		failures:  make(map[string]prometheus.Counter, len(failureReasons)),
		retries:   make(map[string][2]prometheus.Counter, len(failureReasons)),
	}
	for _, r := range failureReasons {
		u.failures[r] = m.upstreamFailures.WithLabelValues(name, r)
		u.retries[r] = [2]prometheus.Counter{
			m.retries.WithLabelValues(name, r, "ok"),
			m.retries.WithLabelValues(name, r, "failed"),
		}
	}
	return u
}

// Connected observes the time that a new connection took.
func (u *Upstream) Connected(took time.Duration) { u.connect.Observe(took.Seconds()) }

// Done observes an answered try: time to the head of the answer and to its end.
func (u *Upstream) Done(firstByte, total time.Duration) {
	u.firstByte.Observe(firstByte.Seconds())
	u.total.Observe(total.Seconds())
}

// Failed counts a failed try; reason is one of the Failure names.
func (u *Upstream) Failed(reason string) {
	c, ok := u.failures[reason]
	if !ok {
		c = u.failures[other]
	}
	c.Inc()
}

// Retried counts a further try and whether it got an answer; reason is why the
// try before it failed.
func (u *Upstream) Retried(reason string, ok bool) {
	c, known := u.retries[reason]
	if !known {
		c = u.retries[other]
	}
	if ok {
		c[0].Inc()
	} else {
		c[1].Inc()
	}
}

// A Plugin holds what the host reports of one plugin.
type Plugin struct {
	traps     *prometheus.CounterVec // curried with the plugin
	fuel      prometheus.Counter
	memory    prometheus.Gauge
	instances prometheus.Gauge
	seconds   prometheus.ObserverVec // curried with the plugin
}

// Plugin resolves the handles of a plugin.
func (m *Metrics) Plugin(name string) *Plugin {
	l := prometheus.Labels{"plugin": name}
	return &Plugin{
		traps:     m.pluginTraps.MustCurryWith(l),
		fuel:      m.pluginFuel.With(l),
		memory:    m.pluginMemory.With(l),
		instances: m.pluginInstances.With(l),
		seconds:   m.pluginSeconds.MustCurryWith(l),
	}
}

// Trapped counts an instance that died; cause is one of the host's few names.
func (p *Plugin) Trapped(cause string) { p.traps.WithLabelValues(cause).Inc() }

// Burnt counts work of the plugin's guests, in units of the host's.
func (p *Plugin) Burnt(units int64) { p.fuel.Add(float64(units)) }

// SetInstances says how many instances live and how much memory they have.
func (p *Plugin) SetInstances(n int, memory int64) {
	p.instances.Set(float64(n))
	p.memory.Set(float64(memory))
}

// Call resolves the observer of one callback's times.
func (p *Plugin) Call(callback string) prometheus.Observer {
	return p.seconds.WithLabelValues(callback)
}

// Callout counts an HTTP call of a plugin. outcome is one of the host's few names. It
// looks labels up: a call takes a trip over a network.
func (m *Metrics) Callout(plugin, upstream, outcome string) {
	m.pluginCallouts.WithLabelValues(plugin, upstream, outcome).Inc()
}

// Retain drops the series of routes, upstreams and plugins whose names keep
// reports false for: a reload removed them, and a process that is reloaded a
// thousand times must not keep a thousand names. Handles of such a name count
// nowhere from then on, so keep must know everybody who has some.
func (m *Metrics) Retain(keep func(label, name string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.guests.retain(func(plugin string) bool { return keep("plugin", plugin) })
	for _, v := range []struct {
		vec   interface{ DeletePartialMatch(prometheus.Labels) int }
		coll  prometheus.Collector
		label string
	}{
		{m.requests, m.requests, "route"},
		{m.requests, m.requests, "listener"},
		{m.requestSeconds, m.requestSeconds, "route"},
		{m.grpc, m.grpc, "route"},
		{m.tunnels, m.tunnels, "route"},
		{m.upstreamSeconds, m.upstreamSeconds, "upstream"},
		{m.retries, m.retries, "upstream"},
		{m.upstreamFailures, m.upstreamFailures, "upstream"},
		{m.connections, m.connections, "listener"},
		{m.handshakes, m.handshakes, "listener"},
		{m.pluginTraps, m.pluginTraps, "plugin"},
		{m.pluginFuel, m.pluginFuel, "plugin"},
		{m.pluginMemory, m.pluginMemory, "plugin"},
		{m.pluginInstances, m.pluginInstances, "plugin"},
		{m.pluginSeconds, m.pluginSeconds, "plugin"},
		{m.pluginCallouts, m.pluginCallouts, "plugin"},
		{m.pluginCallouts, m.pluginCallouts, "upstream"},
	} {
		for name := range labelValues(v.coll, v.label) {
			if !keep(v.label, name) {
				v.vec.DeletePartialMatch(prometheus.Labels{v.label: name})
			}
		}
	}
}
