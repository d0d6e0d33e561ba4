package metrics

import "github.com/prometheus/client_golang/prometheus"

// serverVecs are the metrics about servers and how they are found.
type serverVecs struct {
	up        *prometheus.GaugeVec
	checks    *prometheus.CounterVec
	ejections *prometheus.CounterVec
	panic     *prometheus.GaugeVec
	lookups   *prometheus.CounterVec
	lastFound *prometheus.GaugeVec
}

func newServerVecs() *serverVecs {
	return &serverVecs{
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wproxy_upstream_server_up", Help: "1 if the server is given requests; 0: it is down, ejected or drained.",
		}, []string{"upstream", "server"}),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_health_checks_total", Help: "Active checks of servers, by result.",
		}, []string{"upstream", "result"}),
		ejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_upstream_ejections_total", Help: "Servers taken out for failing requests; refused: too many were out already.",
		}, []string{"upstream", "outcome"}),
		panic: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wproxy_upstream_panic", Help: "1 while so few servers are available that all are tried.",
		}, []string{"upstream"}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_discover_total", Help: "Looks for the servers of an upstream, by result: ok, empty, failed.",
		}, []string{"upstream", "result"}),
		lastFound: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wproxy_discover_servers", Help: "Servers found that are used; those of the last good look while it is kept.",
		}, []string{"upstream"}),
	}
}

// all returns the collectors.
func (v *serverVecs) all() []prometheus.Collector {
	return []prometheus.Collector{v.up, v.checks, v.ejections, v.panic, v.lookups, v.lastFound}
}

// A Servers counts what is known of one upstream's servers. Its methods look labels up,
// so that nothing is there for upstreams that nothing happens to; they are not for the
// data path.
type Servers struct {
	vecs     *serverVecs
	upstream string
}

// Servers returns the handle of an upstream's servers.
func (m *Metrics) Servers(upstream string) *Servers { return &Servers{m.servers, upstream} }

// SetUp says whether a server is given requests.
func (s *Servers) SetUp(server string, up bool) {
	s.vecs.up.WithLabelValues(s.upstream, server).Set(gauge(up))
}

// Gone drops a server that is none any more.
func (s *Servers) Gone(server string) { s.vecs.up.DeleteLabelValues(s.upstream, server) }

// Checked counts a check.
func (s *Servers) Checked(ok bool) {
	result := "failed"
	if ok {
		result = "ok"
	}
	s.vecs.checks.WithLabelValues(s.upstream, result).Inc()
}

// Ejected counts a server that was taken out, or should have been (out is false).
func (s *Servers) Ejected(out bool) {
	outcome := "refused"
	if out {
		outcome = "ejected"
	}
	s.vecs.ejections.WithLabelValues(s.upstream, outcome).Inc()
}

// SetPanic says whether all servers are tried because too few are available.
func (s *Servers) SetPanic(on bool) { s.vecs.panic.WithLabelValues(s.upstream).Set(gauge(on)) }

// Discovered counts a look for the upstream's servers and says how many are used since.
// result is "ok", "empty" or "failed".
func (m *Metrics) Discovered(upstream, result string, used int) {
	m.servers.lookups.WithLabelValues(upstream, result).Inc()
	m.servers.lastFound.WithLabelValues(upstream).Set(float64(used))
}

func gauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
