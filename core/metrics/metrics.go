// Package metrics holds wproxy's Prometheus metrics. One [Metrics] is made per
// process and outlives reloads; a snapshot resolves the handles it needs ([Route],
// [Upstream], [Plugin]) while it is built, so that the data path increments
// through pointers and never looks a label up.
//
// Every label value comes from the configuration or from a fixed list, except
// those of guests' own metrics, whose series are bounded (limits.go). metrics is
// a leaf: it knows nothing of wproxy.
package metrics

import (
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A Metrics holds all metrics of one process in its own registry. Use [New].
// It is safe for concurrent use.
type Metrics struct {
	// Immutable.
	registry         *prometheus.Registry
	requests         *prometheus.CounterVec
	requestSeconds   *prometheus.HistogramVec
	grpc             *prometheus.CounterVec
	tunnels          *prometheus.GaugeVec
	upstreamSeconds  *prometheus.HistogramVec
	refused          *prometheus.CounterVec
	retries          *prometheus.CounterVec
	upstreamFailures *prometheus.CounterVec
	mirrored         *prometheus.CounterVec
	faults           *prometheus.CounterVec
	connections      *prometheus.GaugeVec
	connsRefused     *prometheus.CounterVec
	pluginTraps      *prometheus.CounterVec
	pluginFuel       *prometheus.CounterVec
	pluginMemory     *prometheus.GaugeVec
	pluginInstances  *prometheus.GaugeVec
	pluginSeconds    *prometheus.HistogramVec
	pluginCallouts   *prometheus.CounterVec
	handshakes       *prometheus.CounterVec
	certificates     *prometheus.GaugeVec
	generation       prometheus.Gauge
	reloadOK         prometheus.Gauge
	upgrades         *prometheus.CounterVec
	accessDropped    prometheus.Counter
	logDropped       prometheus.Counter
	traceSpans       *prometheus.CounterVec
	guests           *guests
	servers          *serverVecs
	tcp              *tcpVecs
	traffic          Traffic
	timeline         Timeline

	mu      sync.Mutex
	reasons map[string]prometheus.Counter // guarded by mu; see Refused
}

// New makes the metrics, the Go runtime's and the process's own among them.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_requests_total", Help: "Requests answered, by listener, route and class of the status.",
		}, []string{"listener", "route", "code_class"}),
		requestSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wproxy_request_seconds", Help: "Time from the request's head to the end of its exchange.", Buckets: buckets(),
		}, []string{"route"}),
		grpc: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_grpc_calls_total", Help: "Calls in gRPC by the grpc-status that they ended with; none: the client got none.",
		}, []string{"route", "grpc_status"}),
		tunnels: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wproxy_tunnels", Help: "Open tunnels: WebSockets and other connections after a 101.",
		}, []string{"route"}),
		upstreamSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wproxy_upstream_seconds", Help: "Time of the last try at an upstream: new connections, head of the answer, whole.", Buckets: buckets(),
		}, []string{"upstream", "phase"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_refused_total", Help: "Requests that wproxy refused or failed itself, by stable reason.",
		}, []string{"reason"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_retries_total", Help: "Further tries of a request, by reason of the failed try and by outcome.",
		}, []string{"upstream", "reason", "outcome"}),
		upstreamFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_upstream_failures_total", Help: "Tries at an upstream that failed.",
		}, []string{"upstream", "reason"}),
		mirrored: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_mirrored_total", Help: "Copies of requests that a route's mirror made, by outcome.",
		}, []string{"route", "upstream", "outcome"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_faults_total", Help: "Faults that a route was configured to have: delays and aborts.",
		}, []string{"route", "kind"}),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wproxy_connections", Help: "Open connections from clients.",
		}, []string{"listener"}),
		connsRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_connections_refused_total", Help: "Connections that were closed before anything was served on them, by stable reason.",
		}, []string{"listener", "reason"}),
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_tls_handshake_failures_total", Help: "Connections from clients that did not come to speak TLS, by reason.",
		}, []string{"listener", "reason"}),
		certificates: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wproxy_certificate_expiry_seconds", Help: "Seconds until a certificate expires; negative: since it has.",
		}, []string{"cert"}),
		pluginTraps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_plugin_traps_total", Help: "Guest instances that died, by cause.",
		}, []string{"plugin", "cause"}),
		pluginFuel: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_plugin_fuel_total", Help: "Units of work that guests have done; 6000 are a microsecond of sandbox.cpu.",
		}, []string{"plugin"}),
		pluginMemory: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wproxy_plugin_memory_bytes", Help: "Linear memory of all instances of a plugin.",
		}, []string{"plugin"}),
		pluginInstances: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wproxy_plugin_instances", Help: "Live instances of a plugin.",
		}, []string{"plugin"}),
		pluginSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wproxy_plugin_call_seconds", Help: "Time of one call into a guest.", Buckets: callBuckets(),
		}, []string{"plugin", "callback"}),
		pluginCallouts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_plugin_callouts_total", Help: "HTTP and gRPC calls of plugins to upstreams that they were granted, by outcome.",
		}, []string{"plugin", "upstream", "outcome"}),
		generation: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "wproxy_config_generation", Help: "Number of the configuration that serves; 1 is the one wproxy started with.",
		}),
		reloadOK: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "wproxy_config_last_reload_ok", Help: "1 if the last attempt to load a configuration succeeded.",
		}),
		upgrades: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_upgrades_total", Help: "Handovers to another process, by outcome: done is counted by the process that took over.",
		}, []string{"outcome"}),
		accessDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "wproxy_access_log_dropped_total", Help: "Lines of the access log that are lost: not writable, or nobody read them in time.",
		}),
		logDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "wproxy_log_dropped_total", Help: "Lines of wproxy's own log that are lost: not writable, or nobody read them in time.",
		}),
		traceSpans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_trace_spans_total", Help: "Spans of traces that the receiver took, that it did not want, and that are lost because it took none.",
		}, []string{"outcome"}),
		guests:  newGuests(),
		servers: newServerVecs(),
		tcp:     newTCPVecs(),
		reasons: make(map[string]prometheus.Counter),
	}
	m.registry.MustRegister(
		m.requests, m.requestSeconds, m.grpc, m.tunnels, m.upstreamSeconds, m.refused, m.retries, m.upstreamFailures, m.mirrored, m.faults,
		m.connections, m.connsRefused, m.handshakes, m.certificates,
		m.pluginTraps, m.pluginFuel, m.pluginMemory, m.pluginInstances, m.pluginSeconds, m.pluginCallouts, m.generation, m.reloadOK, m.upgrades,
		m.accessDropped, m.logDropped, m.traceSpans, m.guests,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.registry.MustRegister(m.servers.all()...)
	m.registry.MustRegister(m.tcp.all()...)
	m.timeline.traffic = &m.traffic
	return m
}

// Handler serves the metrics in Prometheus' text formats.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry:      nil, // no metrics about the scrape itself
		ErrorHandling: promhttp.ContinueOnError,
	})
}

// Gatherer returns the registry for reading.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Traffic returns the counts for the time line.
func (m *Metrics) Traffic() *Traffic { return &m.traffic }

// Timeline returns what is remembered of them. Somebody has to [Timeline.Run] it.
func (m *Metrics) Timeline() *Timeline { return &m.timeline }

// SetGeneration says which configuration serves.
func (m *Metrics) SetGeneration(n uint64) { m.generation.Set(float64(n)) }

// SetReload says whether the last attempt to load a configuration succeeded.
func (m *Metrics) SetReload(ok bool) {
	if ok {
		m.reloadOK.Set(1)
	} else {
		m.reloadOK.Set(0)
	}
}

// Upgrade counts a handover to this process, done, or one from it that has failed.
func (m *Metrics) Upgrade(done bool) {
	outcome := "failed"
	if done {
		outcome = "done"
	}
	m.upgrades.WithLabelValues(outcome).Inc()
}

// AccessDropped counts lines that the access log lost.
func (m *Metrics) AccessDropped(lines uint64) { m.accessDropped.Add(float64(lines)) }

// LogDropped counts lines that wproxy's own log lost.
func (m *Metrics) LogDropped(lines uint64) { m.logDropped.Add(float64(lines)) }

// TraceSpans returns what counts spans with an outcome, one of a few.
func (m *Metrics) TraceSpans(outcome string) func(spans int) {
	c := m.traceSpans.WithLabelValues(outcome)
	return func(spans int) { c.Add(float64(spans)) }
}

// Connections returns the gauge of a listener's open connections.
func (m *Metrics) Connections(listener string) prometheus.Gauge {
	return m.connections.WithLabelValues(listener)
}

// ConnectionRefused counts a connection of a client that has as many as it may have.
func (m *Metrics) ConnectionRefused(listener string) {
	m.connsRefused.WithLabelValues(listener, "connections_per_client").Inc()
}

// ProxyRefused counts a connection without a PROXY header where there has to be one. There
// are only a few reasons.
func (m *Metrics) ProxyRefused(listener, reason string) {
	m.connsRefused.WithLabelValues(listener, reason).Inc()
}

// HandshakeFailed counts a connection that did not come to speak TLS; reason is one of
// listen's few names.
func (m *Metrics) HandshakeFailed(listener, reason string) {
	m.handshakes.WithLabelValues(listener, reason).Inc()
}

// SetCertificates says how many seconds certificates are still valid, by the name of
// their file, and forgets all others.
func (m *Metrics) SetCertificates(left map[string]float64) {
	m.mu.Lock() // two at a time would forget each other's
	defer m.mu.Unlock()
	for name := range labelValues(m.certificates, "cert") {
		if _, ok := left[name]; !ok {
			m.certificates.DeleteLabelValues(name)
		}
	}
	for name, seconds := range left {
		m.certificates.WithLabelValues(name).Set(seconds)
	}
}

// Refused counts a request that wproxy refused or failed itself. reason is
// one of the stable names; should they ever be more than [MaxReasons], the
// rest is counted as "other". It does not allocate for a reason seen before.
func (m *Metrics) Refused(reason string) {
	m.mu.Lock()
	c, ok := m.reasons[reason]
	if !ok {
		if len(m.reasons) >= MaxReasons {
			reason = other
		}
		c = m.refused.WithLabelValues(reason)
		m.reasons[reason] = c
	}
	m.mu.Unlock()
	c.Inc()
}
