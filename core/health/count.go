package health

// A count is how many servers of a tier there are, and how. A drained server is
// neither missed nor counted on, so it is not in total.
type count struct{ total, available, out int }

// A contribution is what one server adds to the count of a tier.
type contribution struct {
	tier int
	count
}

// recountLocked makes the counts right after a change of s: a flip of one of
// 10,000 servers must not cost a walk over the others.
func (m *Monitor) recountLocked(s *Server) {
	if m.counts == nil {
		m.counts = map[int]count{}
	}
	c := m.counts[s.counted.tier]
	m.counts[s.counted.tier] = c.plus(s.counted.count, -1)
	s.counted = contribution{tier: s.tier}
	if s.member {
		s.counted.out = one(s.ejection.Out)
		s.counted.total = one(!s.drained)
		s.counted.available = one(s.available())
	}
	c = m.counts[s.tier].plus(s.counted.count, 1)
	m.counts[s.tier] = c
}

func (c count) plus(d count, sign int) count {
	return count{c.total + sign*d.total, c.available + sign*d.available, c.out + sign*d.out}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sumLocked returns the counts of all tiers together.
func (m *Monitor) sumLocked() (sum count) {
	for _, c := range m.counts { // a few
		sum = sum.plus(c, 1)
	}
	return sum
}

// panicLocked finds out whether too few servers are left. Where one tier has
// enough there is no reason for panic: that is what the others are there for.
func (m *Monitor) panicLocked() {
	if m.cluster == nil {
		return
	}
	on := m.settings.Panic > 0 && m.sumLocked().total > 0
	for _, c := range m.counts {
		if c.total > 0 && !tooFew(c.available, c.total, m.settings.Panic, m.panicked) {
			on = false
		}
	}
	m.cluster.SetPanic(on)
	if on == m.panicked {
		return
	}
	m.panicked = on
	kind := PanicOver
	if on {
		kind = Panic
	}
	m.tell(Event{Kind: kind})
}
