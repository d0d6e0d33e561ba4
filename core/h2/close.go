package h2

import (
	"errors"

	"golang.org/x/net/http2"
)

// drain tells the peer that no more streams are wanted, in two steps, so that
// streams that are on their way are served (RFC 9113 6.8). The connection ends
// with its last stream.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goingAway != 0 || c.err != nil {
		return
	}
	c.goingAway, c.goingSince = goingSoon, c.now()
	c.control(c.fr.WriteGoAway(maxWindow, http2.ErrCodeNo, nil))
	c.control(c.fr.WritePing(false, pingDrain))
	c.flushAside()
	c.kick()
}

// goAwayNow is the second step. c.mu is held; the reader calls.
func (c *conn) goAwayNow() {
	c.goingAway = goingNow
	c.control(c.fr.WriteGoAway(c.lastOf(), http2.ErrCodeNo, nil))
}

// fail gives the connection up because of err; the reader, which is woken, does the
// rest. c.mu is held.
func (c *conn) fail(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	e := gone(err)
	for _, s := range c.streams {
		if c.client && s.ended {
			s.shut(nil, false) // it has had its whole answer
			continue
		}
		s.failWith(e)
	}
	c.kick()
}

// end ends the connection because of err, with a GOAWAY that says why, if the peer
// can still read it. It returns when the socket is closed; calls of streams fail. The
// reader calls. The result is why the connection has ended.
func (c *conn) end(err error) error {
	c.mu.Lock()
	if err == nil {
		err = errDone
	}
	c.fail(err)
	err = c.err
	var ce *connError
	polite := !c.dead
	switch {
	case errors.As(err, &ce):
		_ = c.fr.WriteGoAway(c.lastOf(), ce.code, []byte(ce.reason)) // appended, nothing can fail
	case errors.Is(err, errDone):
		if c.goingAway != goingNow {
			_ = c.fr.WriteGoAway(c.lastOf(), http2.ErrCodeNo, nil)
		}
	default:
		polite = false // the other end has closed, or there is no way to it
	}
	type open struct {
		s  *stream
		id uint32
	}
	var all []open
	for id, s := range c.streams {
		all = append(all, open{s, id})
		s.shut(s.err, true)
	}
	if polite {
		c.ending = true
		_ = c.nc.SetWriteDeadline(c.base.Add(c.now() + lingerTime)) // it closes if it cannot
		c.lastWords()
		polite = !c.dead
	}
	c.dead = true
	c.mu.Unlock()
	for _, o := range all {
		c.side.lost(o.s, o.id)
	}
	if polite {
		c.linger()
	} else {
		_ = c.nc.Close()
	}
	c.goroutines.Wait()
	c.in.release()
	if c.in.sealed != nil {
		c.in.sealed.Drop()
	}
	c.mu.Lock()
	c.out.release()
	c.scratch.release()
	c.mu.Unlock()
	return err
}

// lastWords writes the output although others may be writing: they give up when the
// deadline of the socket passes. c.mu is held, and given up meanwhile.
func (c *conn) lastWords() {
	for !c.dead && (c.out.n > 0 || c.out.writing) {
		if c.out.writing {
			c.written.Wait()
		} else {
			c.write()
		}
	}
}
