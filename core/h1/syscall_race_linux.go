//go:build linux && race

package h1

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receive is read(2). Under the race detector it is the standard library's, which
// knows that what was written at one end of a socket happened before it is read at
// the other: tests have both ends.
func receive(fd uintptr, p []byte) (int, syscall.Errno) { return known(syscall.Read(int(fd), p)) }

// send is write(2); see receive.
func send(fd uintptr, p []byte) (int, syscall.Errno) { return known(syscall.Write(int(fd), p)) }

func known(n int, err error) (int, syscall.Errno) {
	if err == nil {
		return n, 0
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return 0, errno
	}
	return 0, syscall.EIO
}

// sendVector is sendmsg(2) with the first count elements of iov.
func sendVector(fd uintptr, iov *[3]unix.Iovec, count int) (int, syscall.Errno) {
	msg := unix.Msghdr{Iov: &iov[0]}
	msg.SetIovlen(count)
	n, _, errno := syscall.Syscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&msg)), syscall.MSG_NOSIGNAL)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
