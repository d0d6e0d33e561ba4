package h2

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/internal/buf"
)

// A pile is bytes that were written and are to go somewhere. The zero pile is
// empty and holds no memory.
type pile struct {
	lent *buf.Buf
	n    int
}

// Write appends p. It implements io.Writer and never fails.
func (b *pile) Write(p []byte) (int, error) {
	copy(b.extend(len(p)), p)
	return len(p), nil
}

// extend appends n bytes that the caller fills in.
func (b *pile) extend(n int) []byte {
	if b.lent == nil {
		b.lent = buf.Get(n)
	} else if have := b.lent.Bytes(); b.n+n > len(have) {
		next := buf.Get(max(2*len(have), b.n+n))
		copy(next.Bytes(), have[:b.n])
		b.lent.Release()
		b.lent = next
	}
	p := b.lent.Bytes()[b.n : b.n+n]
	b.n += n
	return p
}

// bytes returns what is there, until the next call.
func (b *pile) bytes() []byte {
	if b.lent == nil {
		return nil
	}
	return b.lent.Bytes()[:b.n]
}

// release empties b.
func (b *pile) release() {
	if b.lent != nil {
		b.lent.Release()
	}
	*b = pile{}
}

// An output is frames on their way to the socket. Guarded by conn.mu.
type output struct {
	pile              // frames that nobody has begun to write
	writing bool      // a goroutine writes
	aside   bool      // a goroutine was started to do it
	slow    bool      // the last write aside had to wait for the peer
	armed   moment    // what the connection's write deadline is
	queue   queue     // streams that wait for room, or for the connection's window
	heads   []*stream // that wait for room to write a head or a trailer
}

// frame appends a frame. c.mu is held.
func (c *conn) frame(t http2.FrameType, f http2.Flags, id uint32, payload []byte) {
	n := len(payload)
	p := c.out.extend(frameHead + n)
	p[0], p[1], p[2], p[3], p[4] = byte(n>>16), byte(n>>8), byte(n), byte(t), byte(f)
	binary.BigEndian.PutUint32(p[5:], id)
	copy(p[frameHead:], payload)
}

// frameHead is the size in bytes of a frame's header.
const frameHead = 9

// control is called behind each frame that the peer makes us send, with the
// Framer's error: what cannot be is a bug, but nothing to go on with. c.mu is held.
func (c *conn) control(err error) {
	if err != nil {
		c.fail(&connError{http2.ErrCodeInternal, ReasonOrder})
	}
	if c.out.n > maxBacklog {
		c.fail(&connError{http2.ErrCodeEnhanceYourCalm, ReasonBacklog})
	}
}

// full reports whether streams have to wait with their DATA.
func (o *output) full() bool { return o.n >= maxOutput }

// flush writes the output, unless another goroutine is about it, which then also
// writes what was appended meanwhile. c.mu is held, and given up meanwhile.
//
// A client's call must not be held up by the socket: exchanges have deadlines and are
// reset, and the connection is not theirs alone, so that nothing would end such a write
// but the write timeout. What may fill the socket's buffer is written aside.
func (c *conn) flush() {
	if c.client && (c.out.n >= flushSize || c.out.slow) {
		c.flushAside()
		return
	}
	for turn := 0; !c.out.writing && c.out.n > 0 && !c.dead; turn++ {
		if turn == maxTurns {
			c.flushAside() // others keep us from our own work
			return
		}
		c.write()
	}
}

// flushAside is flush for those who must not block. c.mu is held.
func (c *conn) flushAside() {
	o := &c.out
	if o.writing || o.aside || o.n == 0 || c.dead {
		return
	}
	o.aside = true
	c.goroutines.Go(func() { // ends when the output is empty, or the socket closed
		c.mu.Lock()
		defer c.mu.Unlock()
		for !o.writing && o.n > 0 && !c.dead {
			since := c.now()
			c.write()
			o.slow = c.now()-since > slowTime
		}
		o.aside = false
	})
}

// write writes what is in the output now. c.mu is held, and given up meanwhile.
func (c *conn) write() {
	o := &c.out
	o.writing = true
	if len(c.streams) > 1 || c.busy > 1 {
		// Others may be about to write as well: one system call for all.
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	p := o.pile
	o.pile = pile{}
	c.grant() // there is room again
	err := c.writeAll(p.bytes())
	p.release()
	o.writing = false
	c.written.Signal()
	if err != nil {
		c.lose(err)
		return
	}
	c.grant()
	c.out.admitHeads()
}

// admitHeads lets those look again who wait for room for a head. c.mu is held.
func (o *output) admitHeads() {
	for _, s := range o.heads {
		s.inLine = false
		s.out.wake()
	}
	o.heads = nil // rare enough
}

// writeAll writes p. The caller has set out.writing. c.mu is held, and given up
// meanwhile.
func (c *conn) writeAll(p []byte) error {
	_, socket := c.nc.(syscall.Conn)
	for len(p) > 0 {
		if err := c.armWrite(); err != nil {
			return err
		}
		m := len(p)
		if !socket {
			m = min(m, maxFrame) // progress is known by the call only
		}
		c.mu.Unlock()
		n, err := c.nc.Write(p[:m])
		c.mu.Lock()
		p = p[n:]
		if err != nil && (n == 0 || !socket || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
	}
	return nil
}

// armWrite sets the write deadline. A timer costs more than a write may: it is set
// when a third of its time is over, to one and a half, so that no write blocks for less
// than the timeout. c.mu is held.
func (c *conn) armWrite() error {
	now := c.now()
	if c.ending || c.out.armed >= now+c.o.WriteTimeout {
		return nil
	}
	c.out.armed = now + c.o.WriteTimeout*3/2
	return c.nc.SetWriteDeadline(c.base.Add(c.out.armed))
}

// lose gives a connection up that cannot be written; the reader closes it. c.mu is held.
func (c *conn) lose(err error) {
	if c.dead {
		return
	}
	c.dead = true
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.fail(&connError{http2.ErrCodeNo, ReasonWriteTimeout})
	} else {
		c.fail(&exchange.Error{Op: "write", Reason: ReasonClosed, Err: err})
	}
}

// A waiter lets one goroutine wait for something to change. It is used by one at a
// time; wake is called by any.
type waiter struct {
	c     chan struct{}
	timer *time.Timer
}

func (w *waiter) init() {
	if w.c == nil {
		w.c = make(chan struct{}, 1)
	}
	select {
	case <-w.c: // of the last exchange
	default:
	}
}

func (w *waiter) wake() {
	select {
	case w.c <- struct{}{}:
	default: // it has been told
	}
}

// wait waits until somebody wakes it, or for d. It may return early.
func (w *waiter) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
	select {
	case <-w.c:
	case <-w.timer.C:
	}
	w.timer.Stop()
}
