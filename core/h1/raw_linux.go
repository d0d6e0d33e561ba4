package h1

import (
	"errors"
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"wproxy/core/internal/buf"
)

// rawIO: conns that are sockets make their own system calls.
const rawIO = true

var errWouldBlock = errors.New("would block")

// A readOp holds what rawRead is to do and what came out.
type readOp struct {
	limit limit
	block bool
	begun bool // the wait has begun
	err   error
}

// rawFill is fill and tryFill for sockets.
func (c *conn) rawFill(l limit, block bool) error {
	c.rdOp.limit, c.rdOp.block, c.rdOp.begun = l, block, false
	return c.readWith(c.reads)
}

// readWith has try called by RawConn.Read, and keeps time.
func (c *conn) readWith(try func(fd uintptr) bool) error {
	op := &c.rdOp
	for {
		if c.stopped.Load() {
			return errStopped
		}
		op.err = nil
		err := c.raw.Read(try)
		if err == nil {
			return op.err
		}
		if !op.begun {
			// The timer had fired before we came: start anew with a fresh one.
			c.begin(&c.rd, op.limit)
			op.begun = true
		}
		if err := c.expired(&c.rd, op.limit, err); err != nil {
			return err
		}
		c.arm(&c.rd, c.nc.SetReadDeadline)
	}
}

// rawRead is the callback of RawConn.Read: it tries to read, and returns false
// to be called again when there is something. It has to try first: waiting
// before the attempt would miss the edge-triggered event that came already.
func (c *conn) rawRead(fd uintptr) bool {
	op := &c.rdOp
	if c.in == nil {
		c.in = buf.Get(c.size)
	}
	for {
		n, errno := receive(fd, c.in.Bytes()[c.w:])
		switch {
		case n > 0:
			c.w += n
			return true
		case errno == 0:
			op.err = io.EOF
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return c.mustWait()
		default:
			op.err = errno
		}
		return true
	}
}

// mustWait is the end of a callback of RawConn.Read that has found nothing.
func (c *conn) mustWait() bool {
	op := &c.rdOp
	c.release() // an idle connection holds no buffer
	if !op.block {
		op.err = errWouldBlock
		return true
	}
	if !op.begun {
		op.begun = true
		c.begin(&c.rd, op.limit)
	}
	c.arm(&c.rd, c.nc.SetReadDeadline)
	return false
}

// rawOpen is rawRead for a conn with TLS: it reads records, and has tls.Conn decrypt
// them when one is whole. tls.Conn itself is not asked before that, since each attempt
// that comes to nothing costs an allocation.
func (c *conn) rawOpen(fd uintptr) bool {
	s := c.tls
	records := s.tls.Records()
	for {
		if !s.more && !records.Whole() {
			n, errno := receive(fd, records.Room(c.size))
			switch {
			case n > 0:
				records.Filled(n)
			case errno == 0:
				records.Fail(io.EOF)
			case errno == syscall.EINTR:
			case errno == syscall.EAGAIN:
				records.Release()
				return c.mustWait()
			default:
				records.Fail(errno)
			}
			continue
		}
		if ok, err := s.open(); ok || err != nil {
			c.rdOp.err = err
			return true
		}
	}
}

// A turn is a request on its way out, followed by the wait for its answer.
type turn struct {
	out   []byte                // what of it has not been sent
	err   error                 // why it cannot be
	tries func(fd uintptr) bool // rawTurn, made once
}

// sendAndFill sends p and is then fill, in one go. What was sent is c.turn.out
// less; if not all of it could be, nothing was read and c.turn.err may say why. The
// caller knows that nothing came in before.
func (c *ClientConn) sendAndFill(p []byte, l limit, most int) error {
	if err := c.room(most); err != nil {
		return err
	}
	c.turn.out, c.turn.err = p, nil
	c.rdOp.limit, c.rdOp.block, c.rdOp.begun = l, true, false
	return c.readWith(c.turn.tries)
}

// rawTurn is the callback of RawConn.Read for sendAndFill. The order is the point of
// it: Read has made ready to wait before it calls, so the event of an answer, which
// cannot come before the request, is not missed. The attempt to read that comes before
// other waits, and would fail for nearly every request, is saved. A FIN that came
// since the connection was looked at is the Watcher's to report: it does so before or
// after fin is read here.
func (c *ClientConn) rawTurn(fd uintptr) bool {
	t := &c.turn
	if len(t.out) == 0 {
		return c.rawRead(fd)
	}
	for {
		n, errno := send(fd, t.out)
		switch errno {
		case 0:
			c.wrote += int64(n)
			if t.out = t.out[n:]; len(t.out) > 0 {
				return true
			}
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return true
		default:
			t.err = errno
			return true
		}
		c.rdOp.begun = true
		c.begin(&c.rd, c.rdOp.limit)
		c.arm(&c.rd, c.nc.SetReadDeadline)
		return c.fin.Load() && c.rawRead(fd)
	}
}

// A writeOp holds what rawWrite is to do and what came out. It belongs to a writer: an
// idle connection has none.
type writeOp struct {
	c     *conn
	wrote *int64                // counts bytes
	tries func(fd uintptr) bool // rawWrite, made once
	v     [3][]byte
	limit limit
	begun bool // a wait has begun, and no byte has gone out since
	err   error

	pipe, left int                   // drain: what is read from, and how many bytes still
	drains     func(fd uintptr) bool // rawDrain, made at the first drain
}

// rawFlush is write for sockets.
func (c *conn) rawFlush(op *writeOp) error { return c.writeWith(op, op.tries) }

// writeWith has try called by RawConn.Write, and keeps time.
func (c *conn) writeWith(op *writeOp, try func(fd uintptr) bool) error {
	op.begun = false
	for {
		op.err = nil
		err := c.raw.Write(try)
		if err == nil {
			return op.err
		}
		if !op.begun {
			c.begin(&c.wr, op.limit)
			op.begun = true
		}
		if err := c.expired(&c.wr, op.limit, err); err != nil {
			return err
		}
		c.arm(&c.wr, c.nc.SetWriteDeadline)
	}
}

// rawWrite is the callback of RawConn.Write.
func (op *writeOp) rawWrite(fd uintptr) bool {
	for {
		n, errno := sendAll(fd, &op.v)
		switch errno {
		case 0:
			op.begun = false
			*op.wrote += int64(n)
			if consume(&op.v, n) {
				return true
			}
		case syscall.EINTR:
		case syscall.EAGAIN:
			return op.mustWait()
		default:
			op.err = errno
			return true
		}
	}
}

// mustWait is the end of a callback of RawConn.Write for which there was no room.
func (op *writeOp) mustWait() bool {
	c := op.c
	if !op.begun {
		op.begun = true
		c.begin(&c.wr, op.limit)
	}
	c.arm(&c.wr, c.nc.SetWriteDeadline)
	return false
}

// sendAll sends v with one system call. net.Buffers would do it too, but not
// from inside a RawConn callback, where we know whether we would have to wait.
func sendAll(fd uintptr, v *[3][]byte) (int, syscall.Errno) {
	var iov [3]unix.Iovec
	count, only := 0, 0
	for i, p := range v {
		if len(p) > 0 {
			iov[count].Base = unsafe.SliceData(p)
			iov[count].SetLen(len(p))
			count, only = count+1, i
		}
	}
	switch count {
	case 0:
		return 0, 0
	case 1:
		return send(fd, v[only])
	}
	return sendVector(fd, &iov, count)
}

// consume takes the first n bytes from v and reports whether that was all.
func consume(v *[3][]byte, n int) bool {
	rest := 0
	for i := range v {
		m := min(n, len(v[i]))
		v[i] = v[i][m:]
		n -= m
		rest += len(v[i])
	}
	return rest == 0
}

// unread returns how many bytes the socket holds for us; false if that cannot be
// known. It may be called from any goroutine.
func (c *conn) unread() (int64, bool) {
	if c.raw == nil {
		return 0, false
	}
	var n int32
	errno := syscall.EBADF
	_ = c.raw.Control(func(fd uintptr) { // fails on closed connections only
		_, _, errno = syscall.RawSyscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&n)))
	})
	return int64(n), errno == 0
}

// A peeked is what is behind the bytes that were read from a socket.
type peeked uint8

const (
	peekUnknown peeked = iota
	peekNothing        // the other end may send more
	peekBytes
	peekEnd // FIN or reset
)

// peek looks, without waiting. It may be called from any goroutine.
func (c *conn) peek() peeked {
	var op peekOp
	op.attach()
	return op.peek(c)
}

// A peekOp looks again and again without allocating. It is used by one
// goroutine at a time.
type peekOp struct {
	found peeked
	look  func(fd uintptr) // made once
}

func (p *peekOp) attach() { p.look = p.recv }

func (p *peekOp) peek(c *conn) peeked {
	if c.raw == nil {
		return peekUnknown
	}
	if c.raw.Control(p.look) != nil {
		return peekEnd
	}
	return p.found
}

func (p *peekOp) recv(fd uintptr) {
	var b [1]byte
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1,
			syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			p.found = peekNothing
		case errno != 0 || n == 0:
			p.found = peekEnd
		default:
			p.found = peekBytes
		}
		return
	}
}
