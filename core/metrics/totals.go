package metrics

import (
	"slices"

	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus"
)

// Totals are what a histogram has counted since the start.
type Totals struct {
	Count uint64
	Sum   float64 // seconds

	bounds []float64
	below  []uint64 // observations up to each bound
}

// Since returns what was counted after old, which is from the same histogram and earlier.
func (t Totals) Since(old Totals) Totals {
	if old.Count > t.Count || len(old.below) != len(t.below) { // it has been begun anew, or old is none
		return t
	}
	t.Count, t.Sum = t.Count-old.Count, t.Sum-old.Sum
	t.below = slices.Clone(t.below)
	for i := range t.below {
		t.below[i] -= min(old.below[i], t.below[i])
	}
	return t
}

// Quantile returns the time in seconds below which the share q stayed, by interpolation
// between the bounds of the buckets; 0: there is none.
func (t Totals) Quantile(q float64) float64 {
	if t.Count == 0 || len(t.bounds) == 0 {
		return 0
	}
	rank := q * float64(t.Count)
	lower, before := 0.0, 0.0
	for i, n := range t.below {
		if n := float64(n); n >= rank && n > before {
			return lower + (t.bounds[i]-lower)*(rank-before)/(n-before)
		} else if n > before {
			before = n
		}
		lower = t.bounds[i]
	}
	return lower // in the last bucket, which has no end
}

// read returns the totals of o, a histogram.
func read(o prometheus.Observer) Totals {
	m, ok := o.(prometheus.Metric)
	if !ok {
		return Totals{}
	}
	var d dto.Metric
	if m.Write(&d) != nil {
		return Totals{}
	}
	h := d.GetHistogram()
	t := Totals{Count: h.GetSampleCount(), Sum: h.GetSampleSum()}
	for _, b := range h.GetBucket() {
		t.bounds, t.below = append(t.bounds, b.GetUpperBound()), append(t.below, b.GetCumulativeCount())
	}
	return t
}

// RouteTotals are what a route has counted since the start.
type RouteTotals struct {
	ByClass [len(classes)]uint64 // by first digit of the status; [0]: others
	Times   Totals
}

// Read returns what r has counted.
func (r *Route) Read() RouteTotals {
	var t RouteTotals
	for i := range r.requests {
		for j := range r.requests[i] {
			made := r.requests[i][j].made.Load()
			if made == nil {
				continue
			}
			var d dto.Metric
			if (*made).Write(&d) == nil {
				t.ByClass[j] += uint64(d.GetCounter().GetValue())
			}
		}
	}
	if made := r.seconds.made.Load(); made != nil {
		t.Times = read(*made)
	}
	return t
}

// CallTotals are the times of one callback of a plugin.
type CallTotals struct {
	Callback string
	Times    Totals
}

// ReadCalls returns what the observers that p.Call has returned have counted.
func (p *Plugin) ReadCalls() []CallTotals {
	all := make([]CallTotals, 0, len(p.calls))
	for _, c := range p.calls {
		if t := read(c.observer); t.Count > 0 {
			all = append(all, CallTotals{c.callback, t})
		}
	}
	return all
}

// ReadCallouts returns how many HTTP calls plugins have made, by plugin and outcome.
func (m *Metrics) ReadCallouts() map[string]map[string]uint64 {
	all := map[string]map[string]uint64{}
	readCounters(m.pluginCallouts, func(label func(string) string, n uint64) {
		plugin := label("plugin")
		if all[plugin] == nil {
			all[plugin] = map[string]uint64{}
		}
		all[plugin][label("outcome")] += n
	})
	return all
}

// ReadRefused returns how many requests wproxy has refused or failed itself, by reason.
func (m *Metrics) ReadRefused() map[string]uint64 {
	all := map[string]uint64{}
	readCounters(m.refused, func(label func(string) string, n uint64) { all[label("reason")] += n })
	return all
}

// ReadConnectionsRefused returns how many connections were closed at once, by listener.
func (m *Metrics) ReadConnectionsRefused() map[string]uint64 {
	all := map[string]uint64{}
	readCounters(m.connsRefused, func(label func(string) string, n uint64) { all[label("listener")] += n })
	return all
}

// readCounters calls f with every counter of c.
func readCounters(c prometheus.Collector, f func(label func(string) string, n uint64)) {
	ch := make(chan prometheus.Metric)
	go func() { // ends when all are sent; the loop below receives all
		c.Collect(ch)
		close(ch)
	}()
	for metric := range ch {
		var d dto.Metric
		if metric.Write(&d) != nil {
			continue
		}
		f(func(name string) string {
			for _, l := range d.GetLabel() {
				if l.GetName() == name {
					return l.GetValue()
				}
			}
			return ""
		}, uint64(d.GetCounter().GetValue()))
	}
}

// A GuestCount is a counter that a plugin has made.
type GuestCount struct {
	Plugin string
	Name   string            // as Prometheus has it
	Labels map[string]string // without the plugin's
	Value  uint64
}

// ReadGuestCounters returns the counters of plugins by these names, in no order.
func (m *Metrics) ReadGuestCounters(names ...string) []GuestCount {
	var all []GuestCount
	m.guests.mu.Lock()
	defer m.guests.mu.Unlock()
	for _, g := range m.guests.series {
		if g.kind != Counter || !slices.Contains(names, g.name) {
			continue
		}
		c := GuestCount{Plugin: g.values[0], Name: g.name, Labels: map[string]string{}, Value: g.Value()}
		for i, l := range g.labels[1:] {
			c.Labels[l] = g.values[i+1]
		}
		all = append(all, c)
	}
	return all
}
