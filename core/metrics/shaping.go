package metrics

import "github.com/prometheus/client_golang/prometheus"

// What has become of a copy of a request.
const (
	MirrorAnswered   = "answered"   // by the upstream, with whatever status
	MirrorFailed     = "failed"     // there was no answer in time
	MirrorSkipped    = "skipped"    // too many copies were under way
	MirrorTooLarge   = "too_large"  // the body was
	MirrorIncomplete = "incomplete" // the client did not send all of the request
)

// A Mirror counts copies of a route's requests to another upstream.
type Mirror struct{ outcomes map[string]prometheus.Counter }

// Mirror resolves the handles of a route's mirror.
func (m *Metrics) Mirror(route, upstream string) *Mirror {
	r := &Mirror{outcomes: map[string]prometheus.Counter{}}
	for _, o := range []string{MirrorAnswered, MirrorFailed, MirrorSkipped, MirrorTooLarge, MirrorIncomplete} {
		r.outcomes[o] = m.mirrored.WithLabelValues(route, upstream, o)
	}
	return r
}

// Count counts a copy; outcome is one of the Mirror names.
func (m *Mirror) Count(outcome string) { m.outcomes[outcome].Inc() }

// A Fault counts the faults that a route was told to have.
type Fault struct{ delayed, aborted prometheus.Counter }

// Fault resolves the handles of a route's faults.
func (m *Metrics) Fault(route string) *Fault {
	return &Fault{m.faults.WithLabelValues(route, "delay"), m.faults.WithLabelValues(route, "abort")}
}

// Delayed counts a request that was delayed.
func (f *Fault) Delayed() { f.delayed.Inc() }

// Aborted counts a request that was answered in place of the upstream.
func (f *Fault) Aborted() { f.aborted.Inc() }
