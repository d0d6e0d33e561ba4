package h1

import (
	"context"
	"errors"
	"net"
	"time"

	"wproxy/core/exchange"
)

// An Owner is who gives a connection its goroutines, and takes them back while it rests.
type Owner interface {
	// Resume is called when a connection that rests is to be served again. It must not
	// block, and sees to it that r.Serve is called, once, on a goroutine of r's own: it may
	// be called before the Serve that said that it rests has returned.
	Resume(r Resting)

	// Over is called when a connection was closed while it rested. It must not block.
	Over()
}

// A Resting is a connection that rests: it has no goroutine.
type Resting struct{ c *serverConn }

// Serve goes on with what Server.Serve began.
func (r Resting) Serve() (rests bool) {
	c := r.c
	waited := c.now() - (c.restUntil - c.s.o.Idle)
	c.brisk = waited < brisk*c.s.o.RestAfter
	c.s.o.Watcher.wakeOnBytes(c.raw, c.watch, false)
	return c.s.serve(c)
}

// Serve is ServeConn for an owner that takes the goroutine back: true says that the
// connection rests, and that the owner will hear of it. One that is no socket, or is not
// watched, keeps the goroutine, and so does one of which a part of a TLS record is here. To
// close nc, from outside, does not end a connection that rests; Drain does, and so does a client
// that goes, or that seems to: shutdown(2) will do.
func (s *Server) Serve(ctx context.Context, nc net.Conn, facts *exchange.Conn, o Owner) (rests bool) {
	return s.serve(s.open(ctx, nc, facts, o))
}

// A restList has the connections that rest, the one that has done so longest first. As they
// all may rest for the same time, but for what the brisk ones kept their goroutine longer, it is
// the first whose time is over first, or they are closed later by no more than that. It uses the
// links of the list of the others.
type restList struct {
	first, last *serverConn
	timer       *time.Timer // runs unless the list is empty
	timing      bool
}

// restAfter returns how long c keeps its goroutine in a wait that may last so long; 0: for all
// of it.
func (c *serverConn) restAfter(wait time.Duration) time.Duration {
	after := c.s.o.RestAfter
	if c.brisk {
		after *= brisk
	}
	if c.owner == nil || c.watch == 0 || c.restUntil != 0 || wait <= 2*after {
		return 0
	}
	return after
}

// rest leaves c, for which its goroutine has waited in vain, to the Watcher, which looks for
// bytes and misses none: it is told of those that are here already, too. Once true is
// returned c may be on another goroutine. A connection that was woken without a request does
// not rest again in the same wait: the list would lose its order.
func (c *serverConn) rest() bool {
	if c.pending() || c.tls != nil && !c.tls.rest() {
		return false
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() && !s.leaving.Load() || c.state.Load() != connIdle || !s.o.Watcher.wakeOnBytes(c.raw, c.watch, true) {
		return false
	}
	s.unlinkLocked(c)
	c.rests = true
	l := &s.resting
	if c.prev, c.next = l.last, nil; c.prev != nil {
		c.prev.next = c
	} else {
		l.first = c
	}
	l.last = c
	s.timeLocked()
	return true
}

// wakeLocked takes c, which rests, back among those that do not.
func (s *Server) wakeLocked(c *serverConn) {
	l := &s.resting
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		l.last = c.prev
	}
	c.rests = false
	s.linkLocked(c)
}

// readable implements watched: something came for a connection that rests, or it is over.
func (c *serverConn) readable() {
	s := c.s
	s.mu.Lock()
	rests := c.rests
	if rests {
		s.wakeLocked(c)
	}
	s.mu.Unlock()
	if rests {
		c.owner.Resume(Resting{c})
	}
}

// timeLocked has the time of those that rest kept.
func (s *Server) timeLocked() {
	l := &s.resting
	if l.timing || l.first == nil {
		return
	}
	l.timing = true
	d := max(l.first.restUntil-l.first.now(), restTick)
	if l.timer == nil {
		l.timer = time.AfterFunc(d, s.restOver)
	} else {
		l.timer.Reset(d)
	}
}

// restOver is called by the timer.
func (s *Server) restOver() {
	s.endResting(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting.timing = false
	s.timeLocked()
}

// endResting closes the connections that have rested long enough, or all.
func (s *Server) endResting(all bool) {
	for {
		s.mu.Lock()
		c := s.resting.first
		if c == nil || !all && c.now() < c.restUntil {
			s.mu.Unlock()
			return
		}
		s.wakeLocked(c)
		s.mu.Unlock()
		_ = c.nc.Close() // idle: nobody is waiting for anything
		s.close(c)
		c.owner.Over()
	}
}

// awaitByte is fill for the wait for a request, which may last so long. While it lasts, c may
// come to rest: then, and only then, the result is true.
func (c *serverConn) awaitByte(wait time.Duration) (rests bool, err error) {
	l, after := limit{timeout: wait}, c.restAfter(wait)
	switch {
	case after > 0:
		err = c.fill(limit{timeout: after}, c.s.o.MaxHead)
		if !errors.Is(err, errTimeout) {
			return false, err
		}
		c.restUntil = c.rd.began + wait
		if c.rest() {
			return true, nil
		}
		fallthrough
	case c.restUntil != 0:
		// It may be over: those that rest are closed a little late, and what woke c until then
		// is to be read.
		l = limit{deadline: max(c.restUntil, c.now()+restTick)}
	}
	err = c.fill(l, c.s.o.MaxHead)
	c.restUntil = 0
	return false, err
}
