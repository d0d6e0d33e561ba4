package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"wproxy/core/internal/buf"
	"wproxy/core/internal/tlsconn"
)

// A conn moves bytes between a net.Conn and a pooled buffer, and keeps time.
//
// Reading and writing may happen on two goroutines, one each. When nc is a
// socket, system calls are made from inside RawConn callbacks: then an attempt
// that would block can give its buffer back before it waits, and timers are
// touched only by calls that have to wait. Any other net.Conn works too, with a
// buffer held while it waits.
type conn struct {
	// Immutable.
	nc   net.Conn
	raw  syscall.RawConn // nil: not a socket
	tls  *sealed         // nil: without TLS
	base time.Time       // moments are counted from here

	// Owned by the reader.
	in    *buf.Buf // nil: nothing is buffered
	r, w  int      // in.Bytes()[r:w] has not been consumed
	size  int      // bytes of the next buffer to take
	rd    wait
	rdOp  readOp
	reads func(fd uintptr) bool // rawRead, made once

	// Owned by the writer.
	wrote int64 // bytes, ever
	wr    wait

	// Any goroutine.
	stopped atomic.Bool  // reads fail with errStopped until resumeReads
	active  atomic.Int64 // moment of the last activity in either direction, for limit.either
}

// A moment is a point in time, counted from conn.base; 0 is none.
type moment = time.Duration

// A wait is the timer of one direction.
type wait struct {
	armed moment // what the net.Conn's deadline is set to
	began moment // when the wait that is going on began
	until moment // when it has to end
}

// ongoing is a value of conn.active: the other direction is not at rest, however
// long its last byte is ago.
const ongoing moment = -1

// fired is a value of wait.armed for a deadline that has passed.
const fired moment = 1

// A limit bounds a wait: by a duration, by a moment, or by the earlier of both.
type limit struct {
	timeout  time.Duration // 0: none
	deadline moment        // 0: none
	either   bool          // timeout counts from conn.active, what the other direction did last
}

// Errors of conn's methods, beside those of the net.Conn.
var (
	errTimeout    = errors.New("timeout")           // limit.timeout
	errDeadline   = errors.New("deadline exceeded") // limit.deadline
	errStopped    = errors.New("reading was stopped")
	errBufferFull = errors.New("buffer full")
)

// attach starts c on nc.
func (c *conn) attach(nc net.Conn) {
	c.nc, c.base, c.size = nc, time.Now().Add(-1), headBuffer // -1: so that no moment is 0
	t, secure := nc.(*tlsconn.Conn)
	if secure {
		nc = t.NetConn()
	}
	if sc, ok := nc.(syscall.Conn); ok && rawIO {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw, c.reads = raw, c.rawRead
		}
	}
	if secure {
		c.reads = c.rawOpen
		c.seal(t)
	}
}

func (c *conn) now() moment { return time.Since(c.base) }

// at converts t, which may be zero, to a moment.
func (c *conn) at(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return max(t.Sub(c.base), 1)
}

// buffered returns the bytes that were read and not consumed.
func (c *conn) buffered() []byte {
	if c.in == nil {
		return nil
	}
	return c.in.Bytes()[c.r:c.w]
}

// release gives the buffer back if it is empty.
func (c *conn) release() {
	if c.in != nil && c.r == c.w {
		c.in.Release()
		c.in, c.r, c.w = nil, 0, 0
	}
}

// drop gives the buffer back with what is in it.
func (c *conn) drop() {
	c.r = c.w
	c.release()
}

// room makes room for reading behind what is buffered: in a buffer of up to
// most bytes, which is moved or replaced as needed.
func (c *conn) room(most int) error {
	if c.in == nil {
		return nil // the read takes one
	}
	b := c.in.Bytes()
	if c.r == c.w {
		c.r, c.w = 0, 0
		if len(b) < c.size {
			c.release()
		}
		return nil
	}
	if c.w < len(b) {
		return nil
	}
	held := c.w - c.r
	if held >= most {
		return errBufferFull
	}
	if held <= len(b)/2 {
		copy(b, b[c.r:c.w])
	} else {
		next := buf.Get(min(2*len(b), max(most, len(b)+1)))
		copy(next.Bytes(), b[c.r:c.w])
		c.in.Release()
		c.in = next
	}
	c.r, c.w = 0, held
	return nil
}

// fill reads at least one byte behind what is buffered. The end of the stream
// is io.EOF. most is as in room.
func (c *conn) fill(l limit, most int) error {
	if err := c.room(most); err != nil {
		return err
	}
	if c.raw != nil {
		return c.rawFill(l, true)
	}
	if c.in == nil {
		c.in = buf.Get(c.size)
	}
	c.begin(&c.rd, l)
	for {
		c.arm(&c.rd, c.nc.SetReadDeadline)
		if c.stopped.Load() {
			return errStopped
		}
		n, err := c.nc.Read(c.in.Bytes()[c.w:])
		if n > 0 {
			c.w += n
			return nil
		}
		if err == nil {
			continue // net.Pipe: the other end wrote nothing
		}
		if err := c.expired(&c.rd, l, err); err != nil {
			return err
		}
	}
}

// tryFill is fill, but reports false instead of waiting.
func (c *conn) tryFill(most int) (bool, error) {
	if c.raw == nil {
		return false, nil
	}
	if err := c.room(most); err != nil {
		return false, err
	}
	err := c.rawFill(limit{}, false)
	if errors.Is(err, errWouldBlock) {
		return false, nil
	}
	return err == nil, err
}

// begin starts a wait under l.
func (c *conn) begin(t *wait, l limit) {
	t.began = c.now()
	c.bound(t, l, t.began)
}

// bound computes when the wait has to end.
func (c *conn) bound(t *wait, l limit, now moment) {
	t.until = l.deadline
	if l.timeout <= 0 {
		return
	}
	from := t.began
	if l.either {
		if a := moment(c.active.Load()); a == ongoing {
			from = now
		} else {
			from = max(from, a)
		}
	}
	if u := from + l.timeout; t.until == 0 || u < t.until {
		t.until = u
	}
}

// arm sets the deadline of the net.Conn unless it is set to a moment that is not
// too late: one that is too early is noticed by expired when it fires, so
// that a busy connection touches its timer once per timeout, not per read.
func (c *conn) arm(t *wait, set func(time.Time) error) {
	switch {
	case t.until == 0:
		if t.armed != 0 {
			t.armed = 0
			_ = set(time.Time{}) // fails on closed connections only, and then so does the read
		}
		return
	case t.armed != 0 && t.armed <= t.until && t.armed > t.began:
		return
	}
	t.armed = t.until
	_ = set(c.base.Add(t.until)) // as above
	if t == &c.rd && c.stopped.Load() {
		_ = set(past) // stopReads may have come in between
	}
}

// past is a deadline that makes calls return at once.
var past = time.Unix(1, 0)

// expired decides what the error of a read or write means: nil to go on, because
// the timer fired before its time.
func (c *conn) expired(t *wait, l limit, err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if t == &c.rd && c.stopped.Load() {
		return errStopped
	}
	now := c.now()
	if l.either {
		c.bound(t, l, now) // the other direction may have been active
	}
	if t.until != 0 && now >= t.until {
		if l.deadline != 0 && now >= l.deadline {
			return errDeadline
		}
		return errTimeout
	}
	t.armed = fired
	return nil
}

// stopReads makes the reader return with errStopped. Any goroutine may call it.
func (c *conn) stopReads() {
	c.stopped.Store(true)
	_ = c.nc.SetReadDeadline(past) // fails on closed connections only
}

// resumeReads takes stopReads back, on the reader's goroutine.
func (c *conn) resumeReads() {
	if c.stopped.Swap(false) {
		c.rd.armed = fired
	}
}

// write writes all of op.v, which it consumes.
func (c *conn) write(op *writeOp) error {
	switch {
	case c.tls != nil:
		return c.tls.flush(op)
	case c.raw != nil:
		return c.rawFlush(op)
	}
	for _, p := range op.v {
		if err := c.writeTo(c.nc, p, op.limit, op.wrote); err != nil {
			return err
		}
	}
	return nil
}

// writeTo writes all of p to w, which is nc or what is below it, and counts in wrote.
func (c *conn) writeTo(w net.Conn, p []byte, l limit, wrote *int64) error {
	c.begin(&c.wr, l)
	for len(p) > 0 {
		c.arm(&c.wr, c.nc.SetWriteDeadline)
		n, err := w.Write(p)
		*wrote += int64(n)
		if p = p[n:]; n > 0 {
			c.begin(&c.wr, l)
		}
		if err != nil {
			if err := c.expired(&c.wr, l, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// closeWrite sends a FIN and keeps reading; without that ability, it closes.
func (c *conn) closeWrite() error {
	if c.tls != nil {
		c.tls.setLimit(limit{timeout: lastWriteTime})
	}
	if cw, ok := c.nc.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.nc.Close()
}

// abort closes so that the other end sees a reset, not an end: a cut message
// that ends with its connection must not look complete.
func (c *conn) abort() {
	if c.tls != nil {
		c.tls.tls.Abort() // without close_notify, which says that it is complete
		return
	}
	if tc, ok := c.nc.(interface{ SetLinger(int) error }); ok {
		_ = tc.SetLinger(0) // it is being closed; nothing is lost if this fails
	}
	_ = c.nc.Close() // nobody is left to tell
}

// linger closes after an answer while the client may still be sending: closing
// with unread bytes makes the kernel send a reset, which can overtake the answer
// (RFC 9112 9.6). It reads and drops what comes, up to a size and a time.
func (c *conn) linger(d time.Duration) {
	c.drop()
	c.resumeReads()
	if _, ok := c.nc.(interface{ CloseWrite() error }); ok && c.closeWrite() == nil {
		l := limit{deadline: c.now() + d}
		for n := 0; n < maxLinger && c.fill(l, bodyBuffer) == nil; {
			n += c.w - c.r
			c.drop()
		}
		c.drop()
	}
	_ = c.nc.Close() // nobody is left to tell
}

// isClosed reports whether err is the other end's doing: it closed or reset.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.ErrClosedPipe)
}

// isAlert reports whether err is an alert of TLS from the other end: a TLS 1.3 server
// that does not like the client's certificate says so only after the handshake.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" // crypto/tls does not export the alert's type
}
