package h1

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A pipe takes bytes from one socket to another without copying them (splice(2)): what
// it holds are the pages that they came in. It is used by one goroutine at a time.
type pipe struct {
	r, w  int // descriptors
	size  int // bytes that fit in at most
	holds int // bytes that are in it

	c    *conn // that fill reads from
	want int
	in   func(fd uintptr) bool // rawIn, made once
}

// pipes are those that exist.
var pipes struct {
	mu   sync.Mutex
	idle []*pipe // empty ones
	open int     // all of them
}

// takePipe returns an empty pipe for giveBack; nil: there is none.
func takePipe() *pipe {
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	if n := len(pipes.idle); n > 0 {
		p := pipes.idle[n-1]
		pipes.idle = pipes.idle[:n-1]
		return p
	}
	if pipes.open >= maxPipes {
		return nil
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil // no descriptors are left: copying needs none
	}
	p := &pipe{r: fds[0], w: fds[1], size: 64 << 10} // pipe(7)
	p.in = p.rawIn
	if n, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize); err == nil { // else it stays
		p.size = n
	}
	pipes.open++
	return p
}

// giveBack ends the use of p: it is kept if it is empty.
func (p *pipe) giveBack() {
	p.c = nil
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	if p.holds == 0 && len(pipes.idle) < maxIdlePipes {
		pipes.idle = append(pipes.idle, p)
		return
	}
	pipes.open--
	_ = unix.Close(p.r) // nobody is left to tell
	_ = unix.Close(p.w)
}

// fill takes up to most bytes from c, as soon as there are some, into p, which is empty. The error
// is errNoSplice, io.EOF or another one of reading.
func (p *pipe) fill(c *conn, most int64, l limit) (int, error) {
	p.c, p.want = c, int(min(most, int64(p.size)))
	c.rdOp.limit, c.rdOp.block, c.rdOp.begun = l, true, false
	err := c.readWith(p.in)
	return p.holds, err
}

// rawIn is the callback of RawConn.Read for fill.
func (p *pipe) rawIn(fd uintptr) bool {
	op := &p.c.rdOp
	for {
		n, err := unix.Splice(int(fd), nil, p.w, nil, p.want, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK) //nolint:gosec // a descriptor
		switch {
		case n > 0:
			p.holds = int(n)
			return true
		case err == nil:
			op.err = io.EOF
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return p.c.mustWait()
		case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EPERM):
			op.err = errNoSplice
		default:
			op.err = err
		}
		return true
	}
}

// drain writes n bytes out of a pipe to c.
func (c *conn) drain(op *writeOp, fd, n int) error {
	if op.drains == nil {
		op.drains = op.rawDrain
	}
	op.pipe, op.left = fd, n
	return c.writeWith(op, op.drains)
}

// rawDrain is the callback of RawConn.Write for drain.
func (op *writeOp) rawDrain(fd uintptr) bool {
	for op.left > 0 {
		n, err := unix.Splice(op.pipe, nil, int(fd), nil, op.left, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK) //nolint:gosec // a descriptor
		switch {
		case n > 0:
			op.begun = false
			op.left -= int(n)
			*op.wrote += n
		case err == nil:
			op.err = io.ErrUnexpectedEOF // less was in the pipe than was said
			return true
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return op.mustWait()
		default:
			op.err = err
			return true
		}
	}
	return true
}
