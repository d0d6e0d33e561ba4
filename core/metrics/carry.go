package metrics

// A GuestValue is where a guest's counter stood, or what its gauge was set to, for another
// process. Histograms begin anew, as do counters of wproxy's own: whoever reads them knows
// what a counter that falls means, which a guest that reads its own does not.
type GuestValue struct {
	Plugin, Name string // as the guest wrote it, with the route if that was added
	Kind         Kind
	Value        int64
}

// GuestValues returns where the series of plugins stand. A gauge that goes up and down
// counts what is alive in this process, and is left out.
func (m *Metrics) GuestValues() []GuestValue { return m.guests.values() }

func (s *guests) values() []GuestValue {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []GuestValue
	for key, g := range s.byKey {
		if g.kind == Histogram || g.kind == Gauge && !g.recorded.Load() {
			continue
		}
		plugin, name := g.values[0], key[len(g.values[0])+1:]
		if v := g.value.Load(); v != 0 {
			all = append(all, GuestValue{plugin, name, g.kind, v})
		}
	}
	return all
}

// AdoptGuest has a series begin where it was left. builtin is as for Guest.
func (m *Metrics) AdoptGuest(v GuestValue, builtin bool) {
	if v.Kind >= Histogram {
		return
	}
	g, ok := m.Guest(v.Plugin, v.Name, v.Kind, builtin)
	switch {
	case !ok:
	case v.Kind == Counter:
		g.Add(v.Value)
	case g.recorded.CompareAndSwap(false, true): // else its guest knows better
		g.value.Store(v.Value)
	}
}
