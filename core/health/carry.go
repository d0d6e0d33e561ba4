package health

import (
	"maps"
	"time"

	"wproxy/core/upstream"
)

// Carried is what is known of a server, for a Monitor in another process.
type Carried struct {
	State     State
	Ejection  Ejection
	Drained   bool
	DrainedAt time.Time
}

// Carry returns what is known of the servers that serve, by name, and of those that were
// found, are lost and would come back drained.
func (m *Monitor) Carry() map[string]Carried {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string]Carried, m.members+len(m.drained))
	for name, at := range m.drained {
		all[name] = Carried{State: Initial(true, at), Drained: true, DrainedAt: at}
	}
	for name, s := range m.servers {
		if s.member {
			all[name] = Carried{s.state, s.ejection, s.drained, s.drainedAt}
		}
	}
	return all
}

// Adopt makes what another process knew of servers what is known here, before Serve. Of a
// server that is attached later it counts then.
func (m *Monitor) Adopt(all map[string]Carried) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.carried = maps.Clone(all)
	for _, s := range m.servers {
		m.adoptLocked(s, m.now())
	}
}

// adoptLocked makes s what was carried of it, if anything was.
func (m *Monitor) adoptLocked(s *Server, now time.Time) {
	c, ok := m.carried[s.name]
	if !ok {
		return
	}
	delete(m.carried, s.name)
	s.state, s.ejection, s.drained, s.drainedAt = c.State, c.Ejection, c.Drained, c.DrainedAt
	if s.ejection.Out && !s.ejection.Until.After(now) {
		s.ejection = s.ejection.Return()
	}
	if s.ejection.Out {
		s.returns = time.AfterFunc(s.ejection.Until.Sub(now), func() { m.endEjection(s) }) // stopped when s is forgotten
	}
	for _, e := range s.endpoints {
		for _, r := range []upstream.Reason{upstream.Unhealthy, upstream.Ejected, upstream.Drained} {
			e.Clear(r, now)
		}
		s.apply(e, now)
	}
}
