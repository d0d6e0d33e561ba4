package pool

import (
	"context"
	"errors"
	"slices"
	"time"

	"wproxy/core/exchange"
)

// A shared is a Multiplexer and how many have it. Guarded by Pool.mu.
type shared struct {
	c     Multiplexer
	users int    // between Get and Put
	since uint64 // value of Pool.tick when the last user went
	from  Source
}

// shareLocked returns a connection of s that is from's, with a slot reserved, nil if none has one.
// The ones that were made first are used first, so that few are, and the others grow
// old and go.
func (p *Pool) shareLocked(key Key, s *server, from Source) Conn {
	for i := 0; i < len(s.shared); {
		h := s.shared[i]
		switch {
		case h.from != from:
			i++
		case h.c.Reserve():
			p.useLocked(h)
			return h.c
		case h.users > 0 && h.c.Usable():
			i++ // all its slots are taken
		default: // or nobody has one, and there is none: the server takes nothing on it
			p.retireLocked(key, s, h)
		}
	}
	return nil
}

// useLocked counts a user of h, for whom a slot has been reserved.
func (p *Pool) useLocked(h *shared) {
	if h.users++; h.users == 1 {
		p.idle--
	}
}

// retireLocked takes h, which is of no use any more, out of those that are handed out.
func (p *Pool) retireLocked(key Key, s *server, h *shared) {
	s.shared = slices.DeleteFunc(s.shared, func(x *shared) bool { return x == h })
	if h.users == 0 {
		p.idle--
		_ = h.c.Close() // nobody is left to tell
	} else {
		s.leaving = append(s.leaving, h)
	}
	p.freeLocked(key)
}

// putShared is Put for a Multiplexer.
func (p *Pool) putShared(key Key, c Multiplexer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.serverLocked(key)
	if i := slices.IndexFunc(s.leaving, func(h *shared) bool { return h.c == c }); i >= 0 {
		h := s.leaving[i]
		if h.users--; h.users == 0 {
			s.leaving = slices.Delete(s.leaving, i, i+1)
			_ = c.Close() // nobody is left to tell
			p.forgetLocked(key, s)
		}
		return
	}
	i := slices.IndexFunc(s.shared, func(h *shared) bool { return h.c == c })
	if i < 0 {
		return // not ours
	}
	h := s.shared[i]
	h.users--
	if h.users == 0 {
		p.idle++
		h.since = p.tick
	}
	if p.closed || !c.Usable() || h.users == 0 && (p.o.Idle < 0 || p.idle > p.o.Idle) && s.queue.n == 0 {
		p.retireLocked(key, s, h)
		return
	}
	if w := s.queue.first; h.users == 0 && w != nil && (w.upgrade || w.from != h.from) {
		p.retireLocked(key, s, h) // its place goes to who waits longest
		return
	}
	p.offerLocked(s, h)
	if h.users == 0 {
		p.armLocked()
	}
}

// offerLocked gives free slots of h to those who wait longest and have a use for one.
func (p *Pool) offerLocked(s *server, h *shared) {
	for {
		w := s.queue.first
		for w != nil && (w.upgrade || w.from != h.from) {
			w = w.next
		}
		if w == nil || !h.c.Reserve() {
			return
		}
		p.useLocked(h)
		s.queue.remove(w)
		w.grant <- grant{h.c, true} // has room for one
	}
}

// offerAllLocked is offerLocked for all connections to a server.
func (p *Pool) offerAllLocked(key Key) {
	if s := p.servers[key]; s != nil {
		for _, h := range s.shared {
			p.offerLocked(s, h)
		}
	}
}

// lookAgain gives what has come free at a server, without anybody's giving it back, to
// those who wait: it has allowed more streams, or a connection takes none any more.
func (p *Pool) lookAgain(key Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.servers[key]
	if s == nil {
		return
	}
	for _, h := range slices.Clone(s.shared) {
		if h.c.Usable() {
			p.offerLocked(s, h)
		} else {
			p.retireLocked(key, s, h)
		}
	}
}

// yieldLocked closes a connection that nobody uses: another one takes its place. False:
// there is none.
func (p *Pool) yieldLocked(s *server) bool {
	i := slices.IndexFunc(s.shared, func(h *shared) bool { return h.users == 0 })
	if i < 0 {
		return false
	}
	_ = s.shared[i].c.Close() // nobody is left to tell
	s.shared = slices.Delete(s.shared, i, i+1)
	p.idle--
	return true
}

// unshare gives back a slot that was reserved and is not needed.
func (p *Pool) unshare(ctx context.Context, key Key, c Conn) {
	if up, err := c.Open(ctx); err == nil {
		up.Reset(exchange.CodeCancel)
		if r, ok := up.(exchange.Releaser); ok {
			r.Release()
		}
	}
	if m, ok := c.(Multiplexer); ok {
		p.putShared(key, m)
	}
}

// A dialing is a dial of a connection that may be a Multiplexer: instead of dialling
// themselves, others wait for it, as many as it may have room for.
type dialing struct {
	done chan struct{} // closed at its end
	from Source        // of the connection

	// Guarded by Pool.mu.
	waiting int
	over    bool
	err     error // why those who wait must give up too; nil: they look again
}

// beginDial announces a dial to others; nil: none would have a use for it.
func (p *Pool) beginDial(key Key, r *Request) *dialing {
	if p.o.Multiplex == Never || r.Upgrade {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := &dialing{done: make(chan struct{}), from: r.Source}
	p.serverLocked(key).dialing = d
	return d
}

// endDial ends it: c, with a slot reserved for who has dialled, or err has come out of it.
func (p *Pool) endDial(ctx context.Context, key Key, d *dialing, c Conn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.serverLocked(key)
	if s.dialing == d {
		s.dialing = nil
	}
	defer close(d.done)
	d.over = true
	if err != nil {
		if ctx.Err() == nil || !errors.Is(err, ctx.Err()) { // else it is the dialler's own end
			d.err = err
		}
		return
	}
	m, ok := c.(Multiplexer)
	if s.single = !ok; s.single {
		return
	}
	h := &shared{c: m, users: 1, from: d.from}
	s.shared = append(s.shared, h)
	if d.waiting == 0 { // else who waits for d, and came first as a rule, sees to it
		p.offerLocked(s, h)
	}
}

// await waits for the end of d. It is called with p.mu held, and returns with it. The
// error is that of the dial, or of ctx, or that the deadline has passed. Who is the last
// to return, and has taken a slot or has no use for one, offers the others.
func (p *Pool) await(ctx context.Context, key Key, d *dialing, deadline time.Time) error {
	d.waiting++
	p.mu.Unlock()
	var late <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		late = t.C
	}
	var err error
	select {
	case <-d.done:
	case <-ctx.Done():
		err = ctx.Err()
	case <-late:
		err = context.DeadlineExceeded
	}
	p.mu.Lock()
	d.waiting--
	if err == nil {
		return d.err
	}
	if d.over && d.waiting == 0 {
		p.offerAllLocked(key)
	}
	return err
}

// sweepShared drops connections of s that are dead, or that nobody uses and are too
// old. p.mu is held.
func (p *Pool) sweepShared(key Key, s *server) {
	for _, h := range slices.Clone(s.shared) {
		switch {
		case h.users > 0 && h.c.Usable():
		case h.users > 0, time.Duration(p.tick-h.since)*p.period > p.o.IdleTime, !h.c.Idle(): //nolint:gosec // a small difference
			p.retireLocked(key, s, h)
		}
	}
}

// closeShared takes out those that nobody uses, to be closed. p.mu is held.
func (p *Pool) closeShared(s *server) (all []Conn) {
	s.shared = slices.DeleteFunc(s.shared, func(h *shared) bool {
		if h.users > 0 {
			return false
		}
		all = append(all, h.c)
		s.open--
		return true
	})
	return all
}
