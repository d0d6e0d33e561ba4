package h2

import (
	"golang.org/x/net/http2"
)

// sendData appends p, and END_STREAM if end is set, to the output, as far as windows
// and room allow, and waits for the rest to become possible. c.mu is held, and given
// up meanwhile. After an error the message is dead.
//
// Streams that have to wait for what all share, the connection's window and room in
// the output, take turns, one frame each.
func (s *stream) sendData(p []byte, end bool, l limit) error {
	c := s.c
	since := c.now()
	for {
		if s.err != nil {
			return s.err
		}
		if !s.open {
			return errOver
		}
		if len(p) == 0 {
			if end {
				c.frame(http2.FrameData, http2.FlagDataEndStream, s.id, nil)
			}
			return nil
		}
		if n := s.mayWrite(len(p)); n > 0 {
			last := end && n == len(p)
			s.writeData(p[:n], last)
			p = p[n:]
			if last || len(p) == 0 && !end {
				return nil
			}
			since = c.now()
			continue
		}
		if err := s.awaitTurn(since, l); err != nil {
			return err
		}
	}
}

// writeData appends one DATA frame. c.mu is held.
func (s *stream) writeData(p []byte, last bool) {
	c := s.c
	flags := http2.Flags(0)
	if last {
		flags = http2.FlagDataEndStream
	}
	c.frame(http2.FrameData, flags, s.id, p)
	s.send -= window(len(p))
	c.send -= window(len(p))
	s.granted = false
	c.counts.windows.refund(windowsPerData + len(p)/bytesPerWindow)
	c.counts.control.refund(controlsPerData)
	c.grant()
}

// mayWrite returns how many of n bytes s may write now. c.mu is held.
func (s *stream) mayWrite(n int) int {
	c := s.c
	if s.send <= 0 || c.send <= 0 || c.out.full() || c.out.queue.head != nil && !s.granted {
		return 0
	}
	return int(min(int64(n), int64(s.send), int64(c.send), int64(c.peer.frame)))
}

// awaitTurn waits until s may write, or something else has changed. c.mu is held, and
// given up meanwhile.
func (s *stream) awaitTurn(since moment, l limit) error {
	c := s.c
	if s.send > 0 {
		s.granted = false
		c.out.queue.push(s)
		c.grant()
	} else if s.granted { // not for us
		s.granted = false
		c.grant()
	}
	if c.out.n > 0 && !c.out.writing && !c.out.aside {
		c.flush() // what we wait for may be behind it; look again
		return nil
	}
	if s.granted || s.err != nil || !s.open {
		return nil //nolint:nilerr // the caller looks at it first
	}
	d, late := l.left(since, c.now())
	switch {
	case d > 0:
		c.mu.Unlock()
		s.out.wait(d)
		c.mu.Lock()
		return nil
	case late:
		c.out.queue.remove(s)
		c.grant()
		return errDeadline
	}
	c.out.queue.remove(s)
	c.grant()
	return errTimeout
}

// awaitRoom waits until the output has room. Heads and trailers need no window, so they have
// to wait here: a peer that asks and does not read would otherwise have its answers
// pile up for as long as a write may take. c.mu is held, and given up meanwhile.
func (s *stream) awaitRoom(l limit) error {
	c := s.c
	since := c.now()
	for c.out.full() {
		switch {
		case s.err != nil:
			return s.err
		case !s.open:
			return errOver
		case !c.out.writing:
			c.flush()
			continue
		}
		d, late := l.left(since, c.now())
		if d <= 0 && late {
			return errDeadline
		} else if d <= 0 {
			return errTimeout
		}
		if !s.inLine {
			s.inLine = true
			c.out.heads = append(c.out.heads, s)
		}
		c.mu.Unlock()
		s.out.wait(d)
		c.mu.Lock()
	}
	switch {
	case s.err != nil:
		return s.err
	case !s.open:
		return errOver
	}
	return nil
}

// grant gives the next stream its turn, if there is something to have. It is called
// whenever room or the connection's window has grown, and by who had a turn.
// c.mu is held.
func (c *conn) grant() {
	if c.send <= 0 || c.out.full() {
		return
	}
	if s := c.out.queue.pop(); s != nil {
		s.granted = true
		s.out.wake()
	}
}
