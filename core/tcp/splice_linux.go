package tcp

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipes are what bytes go through on their way from socket to socket in the kernel. They are
// borrowed only while bytes are on their way: what net.TCPConn.ReadFrom does, io.Copy's way,
// holds a pipe for as long as it waits, which doubles the descriptors of a connection that
// rests, and tells how much it has moved only at the end. There are only so many: one whose
// bytes are not taken stays with its connection.
type pipes struct {
	free chan pipe
	made atomic.Int64 // that exist
	most int64
}

// A pipe is empty when nobody has it.
type pipe struct{ r, w int }

func newPipes() *pipes { return &pipes{free: make(chan pipe, keptPipes), most: maxPipes} }

// get lends a pipe; errNoPipe: there is none.
func (p *pipes) get() (pipe, error) {
	select {
	case one := <-p.free:
		return one, nil
	default:
	}
	var fds [2]int
	if p.made.Add(1) > p.most || unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		p.made.Add(-1)
		return pipe{}, errNoPipe // copying needs no descriptors
	}
	return pipe{fds[0], fds[1]}, nil
}

// put takes an empty one back.
func (p *pipes) put(one pipe) {
	select {
	case p.free <- one:
	default:
		p.close(one)
	}
}

func (p *pipes) close(one pipe) {
	_ = unix.Close(one.r) // nobody waits for it
	_ = unix.Close(one.w)
	p.made.Add(-1)
}

// raw returns the socket under nc, if it is a plain one.
func raw(nc net.Conn) (syscall.RawConn, bool) {
	var sc syscall.Conn
	switch t := nc.(type) {
	case *net.TCPConn:
		sc = t
	case *net.UnixConn:
		sc = t
	default:
		return nil, false
	}
	rc, err := sc.SyscallConn()
	return rc, err == nil
}

// A splicer moves the bytes of one direction.
type splicer struct {
	pipes *pipes
	pipe  pipe
	has   bool  // pipe is borrowed
	n     int64 // bytes in it
	err   error // of the last call
}

// splice is copyTo for two plain sockets; ok is false, with nothing moved since, if it cannot
// be done, or not any more because there are no pipes left.
func (p *pipes) splice(dst, src net.Conn, count *atomic.Int64) (readErr, writeErr error, ok bool) {
	from, ok1 := raw(src)
	to, ok2 := raw(dst)
	if !ok1 || !ok2 {
		return nil, nil, false
	}
	s := &splicer{pipes: p}
	defer s.giveBack()
	for {
		if err := from.Read(s.read); err != nil {
			return err, nil, true // it was closed
		}
		switch {
		case errors.Is(s.err, errNoPipe), errors.Is(s.err, unix.EINVAL), errors.Is(s.err, unix.ENOSYS):
			return nil, nil, false
		case s.err != nil:
			return s.err, nil, true
		case s.n == 0:
			return io.EOF, nil, true
		}
		for s.n > 0 {
			before := s.n
			err := to.Write(s.write)
			count.Add(before - s.n)
			if err == nil {
				err = s.err
			}
			if err != nil {
				return nil, err, true
			}
		}
		s.giveBack()
	}
}

var errNoPipe = errors.New("tcp: no pipe can be made")

// read is for RawConn.Read: it fills the pipe. Who waits has none.
func (s *splicer) read(fd uintptr) (done bool) {
	if s.pipe, s.err = s.pipes.get(); s.err != nil {
		return true
	}
	s.has = true
	s.n, s.err = moved(int(fd), s.pipe.w, spliceMax)
	if errors.Is(s.err, unix.EAGAIN) {
		s.n = 0
		s.giveBack()
		return false
	}
	if s.err != nil {
		s.n = 0
	}
	return true
}

// write is for RawConn.Write: it moves on once what is in the pipe.
func (s *splicer) write(fd uintptr) (done bool) {
	var n int64
	if n, s.err = moved(s.pipe.r, int(fd), int(s.n)); s.err == nil {
		s.n -= n
		if n == 0 {
			s.err = io.ErrShortWrite
		}
	}
	return !errors.Is(s.err, unix.EAGAIN)
}

// giveBack ends the loan of the pipe, if there is one. One that is not empty is of no use.
func (s *splicer) giveBack() {
	switch {
	case !s.has:
	case s.n > 0:
		s.pipes.close(s.pipe)
	default:
		s.pipes.put(s.pipe)
	}
	s.has = false
}

// moved moves up to most bytes and returns how many.
func moved(from, to, most int) (int64, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, most, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			return int64(n), err //nolint:unconvert // an int where those have 32 bits
		}
	}
}
