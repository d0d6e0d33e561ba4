package dial

import (
	"errors"
	"io"
	"syscall"
	"unsafe"
)

const canTry = true

var errCannotTry = errors.ErrUnsupported

// A tryOp reads a socket without waiting, and without allocating.
type tryOp struct {
	p     []byte
	n     int
	err   error
	tries func(fd uintptr) // made once
}

func (o *tryOp) attach() { o.tries = o.recv }

func (o *tryOp) read(raw syscall.RawConn, p []byte) (int, error) {
	o.p, o.n, o.err = p, 0, nil
	err := raw.Control(o.tries)
	o.p = nil
	if err != nil {
		return 0, err // closed
	}
	return o.n, o.err
}

func (o *tryOp) recv(fd uintptr) {
	if len(o.p) == 0 {
		return
	}
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(o.p))), uintptr(len(o.p)),
			syscall.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			o.err = errWouldWait
		case errno != 0:
			o.err = errno
		case n == 0:
			o.err = io.EOF
		default:
			o.n = int(n) //nolint:gosec // at most len(o.p)
		}
		return
	}
}
