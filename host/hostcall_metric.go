package host

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"wproxy/abi"
)

// A metricSet has the metrics of one plugin name, shared by all its VMs and kept
// over reloads, for as long as a Plugin of that name is open. An id is an index into
// list plus one.
type metricSet struct {
	plugin string
	sink   MetricSink
	users  int // Plugins that are not closed; guarded by Host.mu

	list atomic.Pointer[[]*metric] // replaced under mu, read without

	mu   sync.Mutex
	ids  map[metricKey]uint32
	full [abi.MetricHistogram + 1]uint32 // ids of metrics that count nothing, by kind

	carried map[metricKey]int64 // of another process, not defined here yet
}

// A metricKey is what makes a metric: a newer version of a plugin may have one of
// another kind by the same name, while the older one still serves.
type metricKey struct {
	name string
	kind abi.MetricKind
}

// metricKinds has the kind of each metric that one Plugin has defined: it cannot have
// two. Guarded by the metricSet's mu.
type metricKinds map[string]abi.MetricKind

type metric struct {
	users int // open Plugins that have defined it; guarded by the metricSet's mu
	kind  abi.MetricKind
	value atomic.Int64 // not for histograms
	out   Metric       // nil: not exported

	recorded atomic.Bool // a gauge that was set, as opposed to counted up and down
}

// useMetricsLocked gives p the metrics of its name. h.mu is held.
func (h *Host) useMetricsLocked(p *Plugin) {
	s := h.metrics[p.o.Name]
	if s == nil {
		s = &metricSet{plugin: p.o.Name, sink: h.o.Metrics, ids: map[metricKey]uint32{}}
		h.metrics[p.o.Name] = s
	}
	s.users++
	p.metrics, p.kinds = s, metricKinds{}
}

// closeMetrics takes back what useMetricsLocked did. Streams that p still has go on
// counting; a plugin that gets the name later begins anew, since whoever exports the
// metrics may have forgotten those of a name that nobody has.
func (p *Plugin) closeMetrics() {
	p.h.mu.Lock()
	p.metrics.users--
	if p.metrics.users == 0 && p.h.metrics[p.o.Name] == p.metrics {
		delete(p.h.metrics, p.o.Name)
	}
	p.h.mu.Unlock()
	p.metrics.letGo(p.kinds)
}

// letGo ends the use of metrics by one Plugin. One that nobody else has defined is kept,
// as a newer version may define it when it first needs it, unless there is one of
// another kind in its place: then it begins anew should an older version come back.
func (s *metricSet) letGo(kinds metricKinds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, kind := range kinds {
		key := metricKey{name, kind}
		m := s.at(s.ids[key])
		if m == nil {
			continue
		}
		if m.users--; m.users > 0 {
			continue
		}
		for k := range abi.MetricHistogram + 1 {
			if other := s.at(s.ids[metricKey{name, k}]); k != kind && other != nil && other.users > 0 {
				delete(s.ids, key)
			}
		}
	}
}

// define returns the id of the metric called name, which is borrowed. kinds are those
// of the Plugin that asks. overflow tells that the plugin has too many: the id is good,
// but counts nothing, since the SDKs panic on any status but OK.
func (s *metricSet) define(kinds metricKinds, kind abi.MetricKind, name string) (id uint32, status abi.Status, overflow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := kinds[name]; ok && k != kind {
		return 0, abi.StatusBadArgument, false
	}
	if id, ok := s.ids[metricKey{name, kind}]; ok {
		if _, known := kinds[name]; !known {
			kinds[strings.Clone(name)] = kind
			s.at(id).users++
		}
		return id, abi.StatusOK, false
	}
	if len(s.ids) >= maxMetrics || len(name) > maxNameBytes {
		if s.full[kind] == 0 {
			s.full[kind] = s.add(&metric{kind: kind})
		}
		return s.full[kind], abi.StatusOK, true
	}
	name = strings.Clone(name)
	m := &metric{kind: kind, users: 1}
	if v, ok := s.carried[metricKey{name, kind}]; ok {
		m.adopt(v)
		delete(s.carried, metricKey{name, kind})
	}
	if s.sink != nil {
		m.out = s.sink.Metric(s.plugin, name, kind)
	}
	id = s.add(m)
	s.ids[metricKey{name, kind}] = id
	kinds[name] = kind
	return id, abi.StatusOK, false
}

func (s *metricSet) add(m *metric) uint32 {
	var list []*metric
	if old := s.list.Load(); old != nil {
		list = *old
	}
	list = append(list, m) // readers never look beyond the length that they have
	s.list.Store(&list)
	return uint32(len(list))
}

// at returns the metric with that id, or nil.
func (s *metricSet) at(id uint32) *metric {
	list := s.list.Load()
	if list == nil || id == 0 || uint64(id) > uint64(len(*list)) {
		return nil
	}
	return (*list)[id-1]
}

// hostDefineMetric is proxy_define_metric(kind, name, *id).
func hostDefineMetric(v *vm, a []uint64) abi.Status {
	kind := abi.MetricKind(uint32(a[0]))
	name, ok := v.text(a[1], a[2])
	switch {
	case !ok || !v.writable32(a[3]):
		return abi.StatusInvalidMemoryAccess
	case !kind.Known():
		return abi.StatusBadArgument
	case len(name) > maxNameBytes:
		name = name[:maxNameBytes+1] // it is too long whatever follows, and is hashed
	}
	id, status, overflow := v.p.metrics.define(v.p.kinds, kind, name)
	if overflow {
		v.warn("the plugin defines too many metrics, or one with too long a name: the ones beyond the limit count nothing")
	}
	if status != abi.StatusOK {
		v.warn("a metric was defined twice with different kinds")
		return status
	}
	return v.put32(a[3], id)
}

// hostIncrementMetric is proxy_increment_metric(id, delta): counters go up, gauges
// both ways. 0 is fine: the Go SDK panics on a status.
func hostIncrementMetric(v *vm, a []uint64) abi.Status {
	m, delta := v.p.metrics.at(uint32(a[0])), int64(a[1])
	switch {
	case m == nil:
		return abi.StatusNotFound
	case m.kind == abi.MetricHistogram, m.kind == abi.MetricCounter && delta < 0:
		return abi.StatusBadArgument
	case delta != 0:
		v.addMetric(m, delta)
	}
	return abi.StatusOK
}

func (v *vm) addMetric(m *metric, delta int64) {
	m.value.Add(delta)
	if m.out != nil {
		m.out.Add(delta, v.route())
	}
}

// hostRecordMetric is proxy_record_metric(id, value): added to a counter, set on a
// gauge, a sample for a histogram.
func hostRecordMetric(v *vm, a []uint64) abi.Status {
	m, value := v.p.metrics.at(uint32(a[0])), int64(a[1])
	if m == nil {
		return abi.StatusNotFound
	}
	switch m.kind {
	case abi.MetricCounter:
		// The ABI has an unsigned value here; half of its range is more than
		// any counter needs.
		v.addMetric(m, max(value, 0))
	case abi.MetricGauge:
		m.value.Store(value)
		if !m.recorded.Load() { // a store would take the cache line from the others
			m.recorded.Store(true)
		}
		if m.out != nil {
			m.out.Set(value, v.route())
		}
	case abi.MetricHistogram:
		if value < 0 {
			value = math.MaxInt64
		}
		if m.out != nil {
			m.out.Sample(value, v.route())
		}
	}
	return abi.StatusOK
}

// route returns the name of the route that the current stream is on, borrowed.
func (v *vm) route() string {
	s := v.stream()
	if s == nil {
		return ""
	}
	name, ok := s.Property(v.buf[:0], "route_name")
	if !ok {
		return ""
	}
	v.buf = name
	return borrow(name)
}

// hostGetMetric is proxy_get_metric(id, *out u64).
func hostGetMetric(v *vm, a []uint64) abi.Status {
	m := v.p.metrics.at(uint32(a[0]))
	switch {
	case m == nil:
		return abi.StatusNotFound
	case m.kind == abi.MetricHistogram:
		return abi.StatusBadArgument
	}
	return v.put64(a[1], uint64(m.value.Load()))
}
