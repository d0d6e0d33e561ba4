//go:build linux && race

package h1

import (
	"errors"
	"syscall"
	"unsafe"
)

// read is read(2). Under the race detector it is the standard library's, which
// knows that what was written at one end of a socket happened before it is read at
// the other: tests have both ends.
func read(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	if err != nil {
		errno, ok := errors.AsType[syscall.Errno](err)
		if !ok {
			errno = syscall.EIO
		}
		return 0, errno
	}
	return n, 0
}

// writeVector is writev(2).
func writeVector(fd uintptr, iov *syscall.Iovec, count int) (int, syscall.Errno) {
	n, _, errno := syscall.Syscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(iov)), uintptr(count))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
