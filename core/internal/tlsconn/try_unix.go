//go:build unix

package tlsconn

import (
	"net"
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
