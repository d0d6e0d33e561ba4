package pool

import (
	"context"

	"wproxy/core/upstream"
)

// A gate lets so many exchanges at a time go to one server, however they share its
// connections. It is there while anybody is behind it or in front of it.
type gate struct {
	active int // exchanges that have passed it and are not over
	limit  int // of who passed last: a reload may have changed it
	queue  queue
}

// requests returns how many exchanges e may have at a time, 0 or less for no limit.
func (p *Pool) requests(e *upstream.Endpoint) int {
	if e.MaxRequests > 0 {
		return e.MaxRequests
	}
	return p.o.Requests
}

// enter waits for a turn at the server of key. Who has one calls leave.
func (p *Pool) enter(ctx context.Context, key Key, limit int, r *Request) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return unavailable("pool_closed")
	}
	g := p.gates[key]
	if g == nil {
		g = &gate{}
		p.gates[key] = g
	}
	g.limit = limit
	g.admit() // the limit may be higher than the one that they have met
	if g.active < limit {
		g.active++
		p.mu.Unlock()
		return nil
	}
	// The turn of who leaves goes to who waits, so that active stays as it is.
	_, granted, err := p.line(ctx, &g.queue, &waiter{grant: make(chan grant, 1)}, r, nil, func() {})
	if err != nil && granted {
		p.leave(key)
	}
	return err
}

// leave gives up a turn.
func (p *Pool) leave(key Key) {
	p.mu.Lock()
	p.leaveLocked(key)
	p.mu.Unlock()
}

func (p *Pool) leaveLocked(key Key) {
	g := p.gates[key]
	g.active--
	g.admit()
	if g.active == 0 && g.queue.n == 0 {
		delete(p.gates, key)
	}
}

// admit lets in who waits, as far as there is room.
func (g *gate) admit() {
	for g.active < g.limit {
		w := g.queue.pop()
		if w == nil {
			return
		}
		g.active++
		w.grant <- grant{} // has room for one
	}
}
