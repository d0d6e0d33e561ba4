package exchangetest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeBuffer is how many bytes one direction of a Pipe holds, like the buffers
// of a small socket: enough for heads, too little for the bodies of tests.
const pipeBuffer = 64 << 10

// Pipe returns the two ends of an in-memory connection. Unlike net.Pipe it is
// buffered, can be closed for writing (CloseWrite, FIN), and Close with bytes
// unread, or after SetLinger(0), resets it as a TCP socket would. Its goroutines
// wait durably in the sense of testing/synctest.
func Pipe() (net.Conn, net.Conn) {
	a, b := newHalf(), newHalf()
	return &pipeEnd{in: a, out: b}, &pipeEnd{in: b, out: a}
}

// A half is one direction.
type half struct {
	mu      sync.Mutex
	changed sync.Cond
	buf     []byte
	fin     bool // no more bytes will come
	reset   bool
	closed  bool // the reader has closed its end
	deadR   deadline
	deadW   deadline
}

// A deadline wakes waiters when it passes.
type deadline struct {
	t     time.Time
	timer *time.Timer
}

func newHalf() *half {
	h := new(half)
	h.changed.L = &h.mu
	return h
}

func (h *half) set(d *deadline, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	// A deadline that has passed needs no timer. Nor may it have one in a bubble: timers that
	// fire at once share a context of the race detector there, which two of them at a time
	// break (https://go.dev/issue/78156).
	if d.t = t; time.Until(t) > 0 {
		d.timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.changed.Broadcast()
		})
	}
	h.changed.Broadcast()
}

func (d *deadline) passed() bool { return !d.t.IsZero() && !time.Now().Before(d.t) }

// pipeEnd is one end of a Pipe.
type pipeEnd struct {
	in, out *half
	linger0 bool // guarded by out.mu
}

// Read implements net.Conn.
func (p *pipeEnd) Read(b []byte) (int, error) {
	h := p.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.closed:
			return 0, net.ErrClosed
		case h.deadR.passed():
			return 0, os.ErrDeadlineExceeded
		case h.reset:
			return 0, syscall.ECONNRESET
		case len(b) == 0:
			return 0, nil
		case len(h.buf) > 0:
			n := copy(b, h.buf)
			h.buf = h.buf[n:]
			h.changed.Broadcast()
			return n, nil
		case h.fin:
			return 0, io.EOF
		}
		h.changed.Wait()
	}
}

// Write implements net.Conn.
func (p *pipeEnd) Write(b []byte) (int, error) {
	h := p.out
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for {
		switch {
		case h.fin:
			return n, net.ErrClosed
		case h.deadW.passed():
			return n, os.ErrDeadlineExceeded
		case h.reset:
			return n, syscall.ECONNRESET
		case h.closed:
			return n, syscall.EPIPE
		}
		m := min(len(b)-n, pipeBuffer-len(h.buf))
		h.buf = append(h.buf, b[n:n+m]...)
		n += m
		h.changed.Broadcast()
		if n == len(b) {
			return n, nil
		}
		h.changed.Wait()
	}
}

// CloseWrite sends a FIN.
func (p *pipeEnd) CloseWrite() error {
	h := p.out
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fin {
		return net.ErrClosed
	}
	h.fin = true
	h.changed.Broadcast()
	return nil
}

// SetLinger makes Close reset the connection if sec is 0.
func (p *pipeEnd) SetLinger(sec int) error {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	p.linger0 = sec == 0
	return nil
}

// Close implements net.Conn.
func (p *pipeEnd) Close() error {
	p.in.mu.Lock()
	if p.in.closed {
		p.in.mu.Unlock()
		return net.ErrClosed
	}
	p.in.closed = true
	unread := len(p.in.buf) > 0
	p.in.buf = nil
	stop(&p.in.deadR)
	p.in.changed.Broadcast()
	p.in.mu.Unlock()

	h := p.out
	h.mu.Lock()
	defer h.mu.Unlock()
	if unread || p.linger0 {
		h.reset = true
		h.buf = nil
	}
	h.fin = true
	stop(&h.deadW)
	h.changed.Broadcast()
	return nil
}

func stop(d *deadline) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// SetDeadline implements net.Conn.
func (p *pipeEnd) SetDeadline(t time.Time) error {
	p.in.set(&p.in.deadR, t)
	p.out.set(&p.out.deadW, t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (p *pipeEnd) SetReadDeadline(t time.Time) error {
	p.in.set(&p.in.deadR, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (p *pipeEnd) SetWriteDeadline(t time.Time) error {
	p.out.set(&p.out.deadW, t)
	return nil
}

// LocalAddr implements net.Conn.
func (p *pipeEnd) LocalAddr() net.Addr { return pipeAddr{} }

// RemoteAddr implements net.Conn.
func (p *pipeEnd) RemoteAddr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
