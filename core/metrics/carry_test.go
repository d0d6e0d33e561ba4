package metrics_test

import (
	"testing"

	"wproxy/core/metrics"
)

// TestCarryGuests: counters go on, gauges that were set are what they were, gauges that count
// what is alive begin anew, as do histograms.
func TestCarryGuests(t *testing.T) {
	old, next := metrics.New(), metrics.New()
	guest := func(m *metrics.Metrics, name string, kind metrics.Kind) *metrics.GuestMetric {
		t.Helper()
		g, ok := m.Guest("p", name, kind, false)
		if !ok {
			t.Fatal(name)
		}
		return g
	}
	guest(old, "c;route=a", metrics.Counter).Add(5)
	guest(old, "state", metrics.Gauge).Record(2)
	guest(old, "alive", metrics.Gauge).Add(3)
	guest(old, "h", metrics.Histogram).Record(1)
	guest(old, "set here", metrics.Gauge).Record(1)
	guest(next, "c;route=a", metrics.Counter).Add(1)
	guest(next, "set here", metrics.Gauge).Record(7)
	for _, v := range old.GuestValues() {
		next.AdoptGuest(v, false)
	}
	for _, tt := range []struct {
		name string
		kind metrics.Kind
		want uint64
	}{{"c;route=a", metrics.Counter, 6}, {"state", metrics.Gauge, 2}, {"alive", metrics.Gauge, 0}, {"h", metrics.Histogram, 0}, {"set here", metrics.Gauge, 7}} {
		if got := guest(next, tt.name, tt.kind).Value(); got != tt.want {
			t.Errorf("%s = %d, want %d", tt.name, got, tt.want)
		}
	}
	next.AdoptGuest(metrics.GuestValue{Plugin: "p", Name: "x", Kind: 9, Value: 1}, false)
	next.AdoptGuest(metrics.GuestValue{Plugin: "p", Name: "state", Kind: metrics.Counter, Value: 1}, false) // another kind
	if got := guest(next, "state", metrics.Gauge).Value(); got != 2 {
		t.Errorf("state = %d", got)
	}
}
