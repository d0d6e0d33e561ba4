package metrics

import "github.com/prometheus/client_golang/prometheus"

// tcpVecs count TCP connections that are passed on as they are.
type tcpVecs struct {
	connections *prometheus.CounterVec
	open        *prometheus.GaugeVec
	bytes       *prometheus.CounterVec
}

func newTCPVecs() *tcpVecs {
	return &tcpVecs{
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_tcp_connections_total", Help: "TCP connections that have ended, by whether they were joined with an upstream.",
		}, []string{"route", "outcome"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "wproxy_tcp_connections", Help: "Open TCP connections of a route.",
		}, []string{"route"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wproxy_tcp_bytes_total", Help: "Bytes of TCP connections that have ended: in, from clients, and out, to them.",
		}, []string{"route", "direction"}),
	}
}

func (v *tcpVecs) all() []prometheus.Collector {
	return []prometheus.Collector{v.connections, v.open, v.bytes}
}

// A TCPRoute counts the connections of one route.
type TCPRoute struct {
	joined, failed prometheus.Counter
	open           prometheus.Gauge
	in, out        prometheus.Counter
}

// TCPRoute makes the handles of a route.
func (m *Metrics) TCPRoute(name string) *TCPRoute {
	return &TCPRoute{
		joined: m.tcp.connections.WithLabelValues(name, "joined"),
		failed: m.tcp.connections.WithLabelValues(name, "failed"),
		open:   m.tcp.open.WithLabelValues(name),
		in:     m.tcp.bytes.WithLabelValues(name, "in"),
		out:    m.tcp.bytes.WithLabelValues(name, "out"),
	}
}

// Opened counts a connection that begins.
func (r *TCPRoute) Opened() { r.open.Inc() }

// Done counts one that has ended, and its bytes. joined says that it was joined with an
// upstream.
func (r *TCPRoute) Done(in, out int64, joined bool) {
	r.open.Dec()
	if joined {
		r.joined.Inc()
	} else {
		r.failed.Inc()
	}
	r.in.Add(float64(in))
	r.out.Add(float64(out))
}
