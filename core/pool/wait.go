package pool

import (
	"context"
	"time"
)

// A waiter is an exchange that waits for a connection. A closed grant means that the
// pool was closed.
type waiter struct {
	grant      chan grant // has room for one
	upgrade    bool       // a Multiplexer is of no use to it
	from       Source     // nor is a connection of anybody else
	prev, next *waiter
	queued     bool
}

// A grant is what a waiter gets: a connection, or none: it may make one, and is counted
// as open.
type grant struct {
	c        Conn
	reserved bool // it is a Multiplexer, and has a slot for the waiter
}

// A queue is the waiters of one server, first come, first served.
type queue struct {
	first, last *waiter
	n           int
}

func (q *queue) push(w *waiter) {
	w.prev, w.queued = q.last, true
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	q.n++
}

func (q *queue) pop() *waiter {
	w := q.first
	if w != nil {
		q.remove(w)
	}
	return w
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.n--
}

// wait waits for a connection of s, or for leave to make one. It is called with p.mu
// held and returns without.
func (p *Pool) wait(ctx context.Context, s *server, key Key, r *Request) (grant, error) {
	w := &waiter{grant: make(chan grant, 1), upgrade: r.Upgrade, from: r.Source}
	var look func()
	if p.o.Multiplex != Never {
		look = func() { p.lookAgain(key) }
	}
	g, granted, err := p.line(ctx, &s.queue, w, r, look, func() { p.forgetLocked(key, s) })
	switch {
	case err == nil:
		return g, nil
	case !granted:
	case g.reserved:
		p.unshare(ctx, key, g.c)
	default: // nobody is there for what was granted
		p.mu.Lock()
		p.freeLocked(key)
		p.mu.Unlock()
		if g.c != nil {
			_ = g.c.Close()
		}
	}
	return grant{}, err
}

// line has w wait in q for what is granted, for what is left of the time that r may wait in
// all queues together. It is called with p.mu held and returns without.
// If it returns an error and granted, what was granted is the caller's to pass on.
// look, if there is one, is called now and then, without the lock; left, with p.mu held,
// when w has left q by itself.
func (p *Pool) line(ctx context.Context, q *queue, w *waiter, r *Request, look, left func()) (g grant, granted bool, err error) {
	if p.o.Queue < 0 || q.n >= p.o.Queue {
		p.mu.Unlock()
		return grant{}, false, unavailable(ReasonFull)
	}
	q.push(w)
	p.mu.Unlock()

	if r.patience.IsZero() {
		r.patience = time.Now().Add(p.o.QueueTime)
	}
	limit := time.Until(r.patience)
	if !r.Deadline.IsZero() {
		limit = min(limit, time.Until(r.Deadline))
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var news <-chan time.Time
	if look != nil {
		t := time.NewTicker(newsTime)
		defer t.Stop()
		news = t.C
	}
	for err == nil {
		select {
		case g, ok := <-w.grant:
			if !ok {
				return grant{}, false, unavailable("pool_closed")
			}
			return g, true, nil
		case <-news:
			look()
		case <-timer.C:
			err = unavailable(ReasonQueueTime)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}

	p.mu.Lock()
	if w.queued {
		q.remove(w)
		left()
		p.mu.Unlock()
		return grant{}, false, err
	}
	// Granted in the meantime. What was granted must not be lost: take it when
	// only time was short, pass it on when nobody is there for it.
	p.mu.Unlock()
	g, ok := <-w.grant
	switch {
	case !ok:
		return grant{}, false, unavailable("pool_closed")
	case ctx.Err() == nil:
		return g, true, nil
	}
	return g, true, err
}
