package metrics

import (
	"strconv"
	"sync/atomic"
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

// Handles resolve a series when it is first counted: a file with 10,000 upstreams would
// otherwise hold 240,000 series of which most are never anything but 0, in 150 MB. After
// that they are a load and an increment. Announce resolves them all, which is better
// where they are few: a rate over a series that appears with a 1 does not see that one.

// A counter is the handle of a series.
type counter struct {
	made atomic.Pointer[prometheus.Counter]
}

func (c *counter) resolve(vec *prometheus.CounterVec, labels ...string) prometheus.Counter {
	made := vec.WithLabelValues(labels...) // the same one for everybody
	c.made.Store(&made)
	return made
}

// An observer is the handle of a histogram.
type observer struct {
	made atomic.Pointer[prometheus.Observer]
}

func (o *observer) resolve(vec *prometheus.HistogramVec, labels ...string) prometheus.Observer {
	made := vec.WithLabelValues(labels...)
	o.made.Store(&made)
	return made
}

// A Route counts the exchanges of one route.
type Route struct {
	// Immutable.
	m         *Metrics
	name      string
	listeners []string

	requests [][len(classes)]counter // by index of the listener
	seconds  observer
	tunnels  atomic.Pointer[prometheus.Gauge]
}

// Route makes the handles of a route. The engine names a listener by its
// index in listeners, which is borrowed. Requests that match no route are counted on the
// route "".
func (m *Metrics) Route(name string, listeners []string) *Route {
	return &Route{m: m, name: name, listeners: listeners, requests: make([][len(classes)]counter, len(listeners))}
}

// Announce makes all series of r be there, with 0, and returns r.
func (r *Route) Announce() *Route {
	if r.name != "" { // a request without a route has no tunnel
		r.Tunnels()
	}
	r.seconds.resolve(r.m.requestSeconds, r.name)
	for i := range r.requests {
		for j := range r.requests[i] {
			r.request(i, j)
		}
	}
	return r
}

func (r *Route) request(listener, class int) prometheus.Counter {
	c := &r.requests[listener][class]
	if made := c.made.Load(); made != nil {
		return *made
	}
	return c.resolve(r.m.requests, r.listeners[listener], r.name, classes[class])
}

// Done counts an exchange that came through listener (an index, -1: unknown; see
// [Metrics.Route]), was answered with status and took took.
func (r *Route) Done(listener, status int, took time.Duration) {
	if listener >= 0 && listener < len(r.requests) {
		r.request(listener, class(status)).Inc()
	}
	if made := r.seconds.made.Load(); made != nil {
		(*made).Observe(took.Seconds())
		return
	}
	r.seconds.resolve(r.m.requestSeconds, r.name).Observe(took.Seconds())
}

// GRPCDone counts a call in gRPC that ended with code; known is false for one whose client
// got none. It looks the label up: most routes never see a call, and none sees all codes.
func (r *Route) GRPCDone(code int, known bool) {
	status := "none"
	if known {
		status = strconv.Itoa(code)
	}
	r.m.grpc.WithLabelValues(r.name, status).Inc()
}

// Tunnels is the gauge of the route's open tunnels.
func (r *Route) Tunnels() prometheus.Gauge {
	if made := r.tunnels.Load(); made != nil {
		return *made
	}
	made := r.m.tunnels.WithLabelValues(r.name) // the same one for everybody
	r.tunnels.Store(&made)
	return made
}

// An Upstream counts tries at one upstream.
type Upstream struct {
	// Immutable.
	m    *Metrics
	name string

	connect, firstByte, total observer
	failures                  [len(failureReasons)]counter
	retries                   [len(failureReasons)][len(retryOutcomes)]counter
}

// failureReasons are the reasons by which failed tries are counted.
var failureReasons = [...]string{
	FailureConnect, FailureReset, FailureTimeout, FailureTLS, FailureQueue, FailureProtocol, FailureRefused, FailureStatus, other,
}

// Why a try at an upstream failed.
const (
	FailureConnect  = "connect"  // no connection: refused, unreachable, unknown name, connect timeout
	FailureReset    = "reset"    // the connection ended before the answer had
	FailureTimeout  = "timeout"  // nothing came, or could be sent, for too long
	FailureTLS      = "tls"      // handshake or verification
	FailureQueue    = "queue"    // no connection allowed and no place or no more time in the queue
	FailureProtocol = "protocol" // what came is not a valid response
	FailureRefused  = "refused"  // the upstream has not looked at the request, and said so
	FailureStatus   = "status"   // an answer that the route does not pass on while there is another try
)

// What has come of a further try.
const (
	RetryOK       = iota // it was answered
	RetryFailed          // it failed, too
	RetryNoBudget        // it was not made: the budget was used up
)

// retryOutcomes are their names.
var retryOutcomes = [...]string{"ok", "failed", "budget"}

// RetryOutcome is RetryOK or RetryFailed.
func RetryOutcome(answered bool) int {
	if answered {
		return RetryOK
	}
	return RetryFailed
}

// reasonIndex returns the index in failureReasons.
func reasonIndex(reason string) int {
	for i, r := range failureReasons {
		if r == reason {
			return i
		}
	}
	return len(failureReasons) - 1 // other
}

// Upstream makes the handles of an upstream.
func (m *Metrics) Upstream(name string) *Upstream { return &Upstream{m: m, name: name} }

// Announce makes all series of u be there, with 0, and returns u.
func (u *Upstream) Announce() *Upstream {
	u.observer(&u.connect, phaseConnect)
	u.observer(&u.firstByte, phaseFirstByte)
	u.observer(&u.total, phaseTotal)
	for i := range failureReasons {
		u.failure(i)
		for outcome := range retryOutcomes {
			u.retry(i, outcome)
		}
	}
	return u
}

// Phases of a try.
const (
	phaseConnect   = "connect"
	phaseFirstByte = "first_byte"
	phaseTotal     = "total"
)

func (u *Upstream) observer(o *observer, phase string) prometheus.Observer {
	if made := o.made.Load(); made != nil {
		return *made
	}
	return o.resolve(u.m.upstreamSeconds, u.name, phase)
}

func (u *Upstream) failure(reason int) prometheus.Counter {
	c := &u.failures[reason]
	if made := c.made.Load(); made != nil {
		return *made
	}
	return c.resolve(u.m.upstreamFailures, u.name, failureReasons[reason])
}

func (u *Upstream) retry(reason, outcome int) prometheus.Counter {
	c := &u.retries[reason][outcome]
	if made := c.made.Load(); made != nil {
		return *made
	}
	return c.resolve(u.m.retries, u.name, failureReasons[reason], retryOutcomes[outcome])
}

// Connected observes the time that a new connection took.
func (u *Upstream) Connected(took time.Duration) {
	u.observer(&u.connect, phaseConnect).Observe(took.Seconds())
}

// Done observes an answered try: time to the head of the answer and to its end.
func (u *Upstream) Done(firstByte, total time.Duration) {
	u.observer(&u.firstByte, phaseFirstByte).Observe(firstByte.Seconds())
	u.observer(&u.total, phaseTotal).Observe(total.Seconds())
}

// Failed counts a failed try; reason is one of the Failure names.
func (u *Upstream) Failed(reason string) { u.failure(reasonIndex(reason)).Inc() }

// Retried counts a further try; reason is why the try before it failed, outcome one of
// the Retry names.
func (u *Upstream) Retried(reason string, outcome int) {
	u.retry(reasonIndex(reason), outcome).Inc()
}

// A Plugin holds what the host reports of one plugin.
type Plugin struct {
	traps     *prometheus.CounterVec // curried with the plugin
	fuel      prometheus.Counter
	memory    prometheus.Gauge
	instances prometheus.Gauge
	seconds   prometheus.ObserverVec // curried with the plugin

	calls []callObserver // that Call has returned
}

type callObserver struct {
	callback string
	observer prometheus.Observer
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

// Call resolves the observer of one callback's times. It is not for concurrent use.
func (p *Plugin) Call(callback string) prometheus.Observer {
	o := p.seconds.WithLabelValues(callback)
	p.calls = append(p.calls, callObserver{callback, o})
	return o
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
		{m.mirrored, m.mirrored, "route"},
		{m.mirrored, m.mirrored, "upstream"},
		{m.faults, m.faults, "route"},
		{m.connections, m.connections, "listener"},
		{m.connsRefused, m.connsRefused, "listener"},
		{m.handshakes, m.handshakes, "listener"},
		{m.pluginTraps, m.pluginTraps, "plugin"},
		{m.pluginFuel, m.pluginFuel, "plugin"},
		{m.pluginMemory, m.pluginMemory, "plugin"},
		{m.pluginInstances, m.pluginInstances, "plugin"},
		{m.pluginSeconds, m.pluginSeconds, "plugin"},
		{m.pluginCallouts, m.pluginCallouts, "plugin"},
		{m.pluginCallouts, m.pluginCallouts, "upstream"},
		{m.tcp.connections, m.tcp.connections, "route"},
		{m.tcp.open, m.tcp.open, "route"},
		{m.tcp.bytes, m.tcp.bytes, "route"},
		{m.servers.up, m.servers.up, "upstream"},
		{m.servers.checks, m.servers.checks, "upstream"},
		{m.servers.ejections, m.servers.ejections, "upstream"},
		{m.servers.panic, m.servers.panic, "upstream"},
		{m.servers.lookups, m.servers.lookups, "upstream"},
		{m.servers.lastFound, m.servers.lastFound, "upstream"},
	} {
		for name := range labelValues(v.coll, v.label) {
			if !keep(v.label, name) {
				v.vec.DeletePartialMatch(prometheus.Labels{v.label: name})
			}
		}
	}
}
