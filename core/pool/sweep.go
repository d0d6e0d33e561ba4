package pool

import "time"

// armLocked starts the sweeper unless it runs. A connection's age is counted in
// sweeps, so that Put does not read the clock.
func (p *Pool) armLocked() {
	if p.armed {
		return
	}
	p.armed = true
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(p.period, p.sweep)
	} else {
		p.sweeper.Reset(p.period)
	}
}

// sweep drops connections at rest that are dead or too old.
func (p *Pool) sweep() {
	var drop []Conn
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.tick++
	for key, s := range p.servers {
		kept := s.idle[:0]
		for _, i := range s.idle {
			if time.Duration(p.tick-i.since)*p.period > p.o.IdleTime || !i.c.Idle() { //nolint:gosec // a small difference
				drop = append(drop, i.c)
				continue
			}
			kept = append(kept, i)
		}
		gone := len(s.idle) - len(kept)
		clear(s.idle[len(kept):])
		s.idle = kept
		s.open -= gone
		p.idle -= gone
		p.sweepShared(key, s)
		p.forgetLocked(key, s)
	}
	p.armed = false
	if p.idle > 0 {
		p.armLocked()
	}
	p.mu.Unlock()
	for _, c := range drop {
		_ = c.Close()
	}
}
