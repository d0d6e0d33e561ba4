package metrics

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus"
)

// A Kind is the type of a guest metric, as in Proxy-Wasm.
type Kind uint8

// The kinds, with Proxy-Wasm's numbers.
const (
	Counter Kind = iota
	Gauge
	Histogram
)

// A GuestMetric is one series that a plugin made. Its methods do not allocate
// and are safe for concurrent use.
type GuestMetric struct {
	// Immutable.
	kind   Kind
	name   string // in full
	desc   *prometheus.Desc
	labels []string
	values []string
	hist   prometheus.Histogram // only of a Histogram

	value atomic.Int64 // of a Counter (never negative) or Gauge

	recorded atomic.Bool // a Gauge that was set, as opposed to counted up and down
	sum      atomic.Uint64
}

// Add adds to a counter or gauge. A counter does not go down: a negative n is
// ignored there.
func (g *GuestMetric) Add(n int64) {
	if g.kind == Counter && n < 0 || g.kind == Histogram {
		return
	}
	g.value.Add(n)
}

// Record sets a gauge, or observes a value of a histogram.
func (g *GuestMetric) Record(v uint64) {
	switch g.kind {
	case Gauge:
		g.value.Store(int64(min(v, math.MaxInt64))) //nolint:gosec // bounded in the line
		if !g.recorded.Load() {                     // a store would take the cache line from the others
			g.recorded.Store(true)
		}
	case Histogram:
		g.hist.Observe(float64(v))
		g.sum.Add(1)
	case Counter:
	}
}

// Value returns the value of a counter or gauge, and how often a histogram was
// recorded.
func (g *GuestMetric) Value() uint64 {
	if g.kind == Histogram {
		return g.sum.Load()
	}
	return uint64(max(g.value.Load(), 0)) //nolint:gosec // not negative
}

// Kind returns the metric's kind.
func (g *GuestMetric) Kind() Kind { return g.kind }

// Guest returns the series that plugin names name: "name;key=value;...", as
// defined by its guest. It is the same series for the same name for as long as
// the process lives. With builtin set the metric keeps its name if that starts
// with wproxy_; any other is wproxy_guest_NAME{plugin}. ok is false for a name
// that cannot be made into a metric: empty, too long, or defined before with another kind.
func (m *Metrics) Guest(plugin, name string, kind Kind, builtin bool) (g *GuestMetric, ok bool) {
	return m.guests.metric(plugin, name, kind, builtin)
}

// Redefine makes room for a metric of this kind where plugin has one of another kind by
// that name, from an older version of its guest: its series go, and their handles
// count nowhere. What another plugin has part in stays.
func (m *Metrics) Redefine(plugin, name string, kind Kind, builtin bool) {
	m.guests.redefine(plugin, name, kind, builtin)
}

// SetGuestLimit says how many series guests may have, all plugins together. Those that
// there are stay.
func (m *Metrics) SetGuestLimit(n int) {
	m.guests.mu.Lock()
	defer m.guests.mu.Unlock()
	m.guests.limit = n
}

// guests is a collector of series whose names are known only at run time.
type guests struct {
	mu     sync.Mutex
	byKey  map[string]*GuestMetric // plugin NUL name as the guest wrote it
	series map[string]*GuestMetric // full name and labels: what Prometheus sees
	count  map[string]int          // series by plugin
	shapes map[string]shape        // full name -> what all its series must have
	limit  int                     // most of all plugins together
}

// A shape is what Prometheus demands to be the same in all series of a name.
type shape struct {
	kind   Kind
	labels string
}

func newGuests() *guests {
	return &guests{
		byKey: make(map[string]*GuestMetric), series: make(map[string]*GuestMetric),
		count: make(map[string]int), shapes: make(map[string]shape), limit: DefaultGuestLimit,
	}
}

func (s *guests) metric(plugin, name string, kind Kind, builtin bool) (*GuestMetric, bool) {
	if name == "" || len(name) > MaxGuestName || kind > Histogram {
		return nil, false
	}
	key := plugin + "\x00" + name
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.byKey[key]; ok {
		return g, g.kind == kind
	}
	full, labels, values := parseGuestName(plugin, name, builtin)
	if full == "" {
		return nil, false
	}
	over := s.count[plugin] >= MaxGuestSeries || len(s.byKey) >= s.limit
	if over {
		for i := 1; i < len(values); i++ {
			values[i] = other
		}
		if len(values) == 1 { // a new name beyond the bound has nothing to be counted under
			full = guestPrefix + other
		}
	}
	sh := shape{kind, strings.Join(labels, ",")}
	if have, ok := s.shapes[full]; ok && have != sh {
		return nil, false
	}
	id := full + "\x00" + strings.Join(values, "\x00")
	g, ok := s.series[id]
	if !ok {
		g = newGuestMetric(kind, full, labels, values)
		s.series[id], s.shapes[full] = g, sh
	}
	if !over { // beyond the bound nothing is remembered, the caller keeps g
		s.byKey[key] = g
		s.count[plugin]++
	}
	return g, true
}

func (s *guests) redefine(plugin, name string, kind Kind, builtin bool) {
	full, _, _ := parseGuestName(plugin, name, builtin)
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.shapes[full]; !ok || have.kind == kind {
		return
	}
	old := map[*GuestMetric]bool{}
	for id, g := range s.series {
		if of, _, _ := strings.Cut(id, "\x00"); of != full {
			continue
		}
		if g.values[0] != plugin {
			return
		}
		old[g] = true
	}
	delete(s.shapes, full)
	maps.DeleteFunc(s.series, func(_ string, g *GuestMetric) bool { return old[g] })
	before := len(s.byKey)
	maps.DeleteFunc(s.byKey, func(_ string, g *GuestMetric) bool { return old[g] })
	s.count[plugin] -= before - len(s.byKey)
}

func newGuestMetric(kind Kind, full string, labels, values []string) *GuestMetric {
	const help = "Defined by a plugin."
	g := &GuestMetric{kind: kind, name: full, labels: labels, values: values, desc: prometheus.NewDesc(full, help, labels, nil)}
	if kind == Histogram {
		constant := make(prometheus.Labels, len(labels))
		for i, l := range labels {
			constant[l] = values[i]
		}
		g.hist = prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: full, Help: help, ConstLabels: constant, Buckets: prometheus.ExponentialBuckets(1, 4, 12),
		})
	}
	return g
}

const guestPrefix = "wproxy_guest_"

// parseGuestName splits "name;key=value;..." and makes valid Prometheus names
// of its parts. labels[0] is always "plugin". full is "" when nothing is left.
func parseGuestName(plugin, name string, builtin bool) (full string, labels, values []string) {
	base, rest, _ := strings.Cut(name, ";")
	base = sanitize(base)
	if base == "" {
		return "", nil, nil
	}
	full = guestPrefix + base
	if builtin && strings.HasPrefix(base, "wproxy_") {
		full = base
	}
	labels, values = []string{"plugin"}, []string{plugin}
	for rest != "" && len(labels) <= MaxGuestLabels {
		var pair string
		pair, rest, _ = strings.Cut(rest, ";")
		k, v, ok := strings.Cut(pair, "=")
		k = sanitize(k)
		if !ok || k == "" || strings.HasPrefix(k, "__") || slices.Contains(labels, k) {
			continue
		}
		labels, values = append(labels, k), append(values, strings.ToValidUTF8(v, "\uFFFD"))
	}
	return full, labels, values
}

// sanitize makes a valid metric or label name ([a-zA-Z_][a-zA-Z0-9_]*).
func sanitize(s string) string {
	b := []byte(s)
	for i, c := range b {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_'
		if !letter && (c < '0' || c > '9' || i == 0) {
			b[i] = '_'
		}
	}
	if strings.Trim(string(b), "_") == "" {
		return ""
	}
	return string(b)
}

// retain forgets the metrics of plugins that keep reports false for.
func (s *guests) retain(keep func(plugin string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.count {
		if !keep(p) {
			delete(s.count, p)
			maps.DeleteFunc(s.byKey, func(k string, _ *GuestMetric) bool { return strings.HasPrefix(k, p+"\x00") })
			maps.DeleteFunc(s.series, func(_ string, g *GuestMetric) bool { return g.values[0] == p })
		}
	}
	used := make(map[string]bool, len(s.series))
	for id := range s.series {
		full, _, _ := strings.Cut(id, "\x00")
		used[full] = true
	}
	maps.DeleteFunc(s.shapes, func(full string, _ shape) bool { return !used[full] })
}

// Describe implements [prometheus.Collector]: nothing is known beforehand.
func (s *guests) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (s *guests) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.series))
	s.mu.Unlock()
	for _, g := range all {
		switch g.kind {
		case Histogram:
			ch <- g.hist
		case Counter:
			ch <- prometheus.MustNewConstMetric(g.desc, prometheus.CounterValue, float64(g.value.Load()), g.values...)
		case Gauge:
			ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(g.value.Load()), g.values...)
		}
	}
}

// labelValues returns the values that label has in the series of c.
func labelValues(c prometheus.Collector, label string) map[string]bool {
	ch := make(chan prometheus.Metric)
	go func() { // ends when c has sent all; the loop below receives all
		c.Collect(ch)
		close(ch)
	}()
	found := make(map[string]bool)
	for m := range ch {
		var d dto.Metric
		if m.Write(&d) != nil {
			continue
		}
		for _, l := range d.GetLabel() {
			if l.GetName() == label {
				found[l.GetValue()] = true
			}
		}
	}
	return found
}
