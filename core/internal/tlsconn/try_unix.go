//go:build unix

package tlsconn

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// tryWrite writes p if that can be done at once: connections are closed in crowds, by a
// goroutine that must not wait for a client that does not read. It is the last write,
// and nobody is in the middle of another: tls.Conn.Close sees to that.
func (s *Socket) tryWrite(p []byte) (int, error) {
	sc, ok := s.Conn.(syscall.Conn)
	if !ok {
		return s.writeSoon(p)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	_ = s.Conn.SetWriteDeadline(time.Time{}) // one that has passed would make the next call fail
	n, failed := 0, error(nil)
	err = raw.Write(func(fd uintptr) bool {
		n, failed = syscall.Write(int(fd), p)
		return true
	})
	if err != nil {
		return 0, err
	}
	if failed != nil || n < len(p) {
		return max(n, 0), net.ErrClosed
	}
	return n, nil
}

// A waiter reads from the socket with a buffer that is taken when there is something to
// read, so that waiting needs none.
type waiter struct {
	raw   syscall.RawConn       // nil: nothing was read yet, or there is none
	read  func(fd uintptr) bool // made once, like whole
	whole func(fd uintptr) bool
	err   error
}

// prepare makes the waiter's parts. False: the socket is none.
func (s *Socket) prepare() (bool, error) {
	w := &s.waiter
	if w.raw != nil {
		return true, nil
	}
	sc, ok := s.Conn.(syscall.Conn)
	if !ok {
		return false, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, err
	}
	w.raw, w.read, w.whole = raw, s.readOnce, s.readWhole
	return true, nil
}

// wait returns when a whole record is there, or nothing more will come, which Read tells. The
// error is that of a deadline, or of a connection that is closed.
func (s *Socket) wait() error {
	if s.records.Whole() || s.records.Foreign() {
		return nil
	}
	if ok, err := s.prepare(); !ok {
		return err
	}
	return s.waiter.raw.Read(s.waiter.whole)
}

// readWhole is readOnce for wait. It needs no buffer between two records.
func (s *Socket) readWhole(fd uintptr) bool {
	for !s.records.Whole() && !s.records.Foreign() {
		s.waiter.err = nil
		if !s.readOnce(fd) {
			return false
		}
		if err := s.waiter.err; err != nil {
			s.records.Fail(err)
		}
	}
	return true
}

// fill reads what there is, and waits for it.
func (s *Socket) fill() error {
	w := &s.waiter
	if ok, err := s.prepare(); err != nil {
		return err
	} else if !ok {
		return s.fillFrom()
	}
	w.err = nil
	if err := w.raw.Read(w.read); err != nil {
		return err
	}
	return w.err
}

// readOnce is the callback of RawConn.Read. It has to try before it waits; the event of what
// has come already is not repeated.
func (s *Socket) readOnce(fd uintptr) bool {
	for {
		n, err := syscall.Read(int(fd), s.records.Room(readAhead))
		switch {
		case n > 0:
			s.records.Filled(n)
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			s.records.Release()
			return false
		case err == nil:
			s.records.Release()
			s.waiter.err = io.EOF
		default:
			s.records.Release()
			s.waiter.err = os.NewSyscallError("read", err)
		}
		return true
	}
}
