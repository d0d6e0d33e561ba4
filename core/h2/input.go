package h2

import (
	"errors"
	"os"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/internal/buf"
)

// An input is the reader's end of the connection: bytes that were read and not
// yet consumed, and what the time is counted from. Owned by the reader.
type input struct {
	sealed sealed   // nil: no TLS, or one that cannot be waited for
	more   bool     // sealed may have bytes that it has decrypted
	lent   *buf.Buf // nil: p is rest, or nothing is there
	p      []byte   // lent's bytes, or rest
	r, w   int      // p[r:w] has not been consumed
	used   bool     // bytes have come since the connection was at rest
	rest   [restBuffer]byte

	last  moment // when bytes came last
	frame moment // when the frame or field block began that is being read; 0: none
	body  bool   // it is DATA: counted from the last byte, not from the first
	err   error  // of the connection, once there was one
}

// A sealed is a tlsconn.Conn. A connection waits in it without a buffer and without the deep
// stack of crypto/tls, which is most of what it costs at rest.
type sealed interface {
	Wait() error // returns when Read has something to do
	Drop()       // nobody reads any more
}

// prime puts bytes in front that somebody else has read.
func (in *input) prime(p []byte) {
	if len(p) == 0 {
		return
	}
	in.lent = buf.Get(max(inputBuffer, len(p)))
	in.p = in.lent.Bytes()
	in.w, in.used = copy(in.p, p), true
}

// release gives the buffer back, with what is in it.
func (in *input) release() {
	if in.lent != nil {
		in.lent.Release()
	}
	in.lent, in.p, in.r, in.w = nil, nil, 0, 0
}

// inputOf is the io.Reader of a conn's Framer.
type inputOf struct{ c *conn }

// Read implements io.Reader.
func (r inputOf) Read(p []byte) (int, error) {
	in := &r.c.in
	if in.r == in.w {
		if err := r.c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.p[in.r:in.w])
	in.r += n
	return n, nil
}

// next returns up to n bytes, and at least one; they are consumed, and valid until
// the next read.
func (c *conn) next(n int) ([]byte, error) {
	in := &c.in
	if in.r == in.w {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	p := in.p[in.r:min(in.w, in.r+n)]
	in.r += len(p)
	return p, nil
}

// fill reads what there is. The buffer is empty.
func (c *conn) fill() error {
	in := &c.in
	if in.err != nil {
		return in.err
	}
	if in.r, in.w = 0, 0; in.lent == nil {
		in.p = nil // rest is for one read: what follows is more than a GET
	}
	for {
		if err := c.beforeRead(); err != nil {
			in.err = err
			return err
		}
		n, err := c.readSome()
		if n > 0 {
			in.w, in.last, in.used = n, c.now(), true
			c.heard.Store(int64(in.last))
			return nil
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			in.err = err
			return err
		}
	}
}

// readSome reads once, into a buffer that it takes if there is none.
func (c *conn) readSome() (int, error) {
	in := &c.in
	if in.sealed != nil && !in.more {
		in.release()
		if err := in.sealed.Wait(); err != nil {
			return 0, err
		}
	}
	if in.p == nil {
		in.lent = buf.Get(inputBuffer)
		in.p = in.lent.Bytes()
	}
	n, err := c.nc.Read(in.p)
	in.more = n == len(in.p)
	return n, err
}

// beforeRead does what has to be done before the reader blocks: what it has put
// into the output is written, and the time until which it may block is set. It
// returns an error when that time is over.
func (c *conn) beforeRead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		now := c.now()
		until, err := c.patience(now)
		if err != nil {
			return err
		}
		if until <= now {
			continue // something was done about it
		}
		c.flushAside()
		// A deadline that comes too early is harmless, it brings us here again. So
		// the timer is touched rarely.
		if c.armed <= now || c.armed > until {
			c.armed = until
			return c.nc.SetReadDeadline(c.base.Add(until))
		}
		return nil
	}
}

// kick makes the reader look at the state of the connection. c.mu is held.
func (c *conn) kick() {
	c.armed = 1 // has passed
	_ = c.nc.SetReadDeadline(c.base.Add(c.armed))
}

// patience returns until when the reader may block. If something is due, it is
// done and the result is not after now. c.mu is held; the reader calls.
func (c *conn) patience(now moment) (moment, error) {
	in, o := &c.in, c.o
	if c.err != nil {
		return 0, c.err
	}
	if in.frame != 0 {
		until, reason := in.frame+o.HeaderTime, ReasonHeadTimeout
		if in.body {
			until = max(in.last, in.frame) + o.ReadTimeout
		}
		if in.body && c.client {
			reason = ReasonReadTimeout // as Feed would say, at the same moment
		}
		if now >= until {
			return 0, &connError{http2.ErrCodeEnhanceYourCalm, reason}
		}
		return until, nil
	}
	if !c.peer.seen { // its preface and settings come together
		if now >= o.HeaderTime {
			return 0, &connError{http2.ErrCodeEnhanceYourCalm, ReasonHeadTimeout}
		}
		return o.HeaderTime, nil
	}
	until, err := c.whenResting(now)
	if err != nil || len(c.streams) == 0 || o.KeepAlive == 0 {
		return until, err
	}
	return min(until, c.keepAlive(now)), c.err
}

// whenResting is patience between two frames, keep-alive aside.
func (c *conn) whenResting(now moment) (moment, error) {
	in, o := &c.in, c.o
	if c.goingAway == goingSoon && now >= c.goingSince+drainTime {
		c.goAwayNow()
		return now, nil
	}
	if len(c.streams) > 0 || c.busy > 0 {
		if c.goingAway == goingSoon {
			return c.goingSince + drainTime, nil
		}
		return now + o.Idle, nil // or until somebody kicks
	}
	if c.goingAway == goingNow {
		return 0, errDone
	}
	until := max(c.idleSince, in.last) + o.Idle
	if c.goingAway == goingSoon {
		until = min(until, c.goingSince+drainTime)
	}
	if now >= until {
		return 0, errDone
	}
	if in.used || c.side.resting() {
		t := max(c.idleSince, in.last) + restTime
		if now >= t {
			c.rest()
			return until, nil
		}
		until = min(until, t)
	}
	return until, nil
}

// rest gives back what a connection without streams can do without. c.mu is held.
func (c *conn) rest() {
	c.in.release()
	c.in.p, c.in.used = c.in.rest[:], false
	c.fr, c.block.fields = c.newFramer(), nil
	c.letGoOfBlock()
	c.side.rest()
}

// keepAlive asks a silent peer with open streams for a sign of life. It returns
// when to look again. c.mu is held; the reader calls.
func (c *conn) keepAlive(now moment) moment {
	every := c.o.KeepAlive
	if c.pinged > c.in.last {
		if now >= c.pinged+c.o.PingTime {
			c.fail(&connError{http2.ErrCodeNo, ReasonDead})
		}
		return c.pinged + c.o.PingTime
	}
	if now < c.in.last+every {
		return c.in.last + every
	}
	c.pinged = now
	c.control(c.fr.WritePing(false, pingAlive))
	return now + c.o.PingTime
}

// now returns the moment it is.
func (c *conn) now() moment { return time.Since(c.base) }

// at converts t, which may be zero, to a moment.
func (c *conn) at(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return max(t.Sub(c.base), 1)
}

// closeWriter is a socket, or a TLS connection.
type closeWriter interface{ CloseWrite() error }

// linger ends a connection so that the peer can read what was written last.
func (c *conn) linger() {
	cw, ok := c.nc.(closeWriter)
	if !ok || cw.CloseWrite() != nil {
		_ = c.nc.Close() // nothing else can be done for it
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	b := buf.Get(inputBuffer)
	defer b.Release()
	for n := 0; n < maxLinger; {
		m, err := c.nc.Read(b.Bytes())
		if n += m; err != nil {
			break
		}
	}
	_ = c.nc.Close()
}
