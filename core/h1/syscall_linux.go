//go:build linux && !race

package h1

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file are made on non-blocking sockets, and go past the scheduler,
// which ordinary system calls tell that they may block: these do not, and telling it
// costs twice a hundred nanoseconds, and hands the processor to another thread
// whenever the kernel takes over 20 µs (a write over loopback runs the receiver's half
// of TCP). The price is that a collection waits for the call to return.
//
// They are the calls that only sockets have. read and write pass the layer of files
// first, with its locks and hooks, which costs about 80 ns more for a byte in and
// 200 ns and more for a vector out.

// receive is recv(2), for p that is not empty.
func receive(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd,
		uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// send is send(2), for p that is not empty.
func send(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd,
		uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sendVector is sendmsg(2) with the first count elements of iov.
func sendVector(fd uintptr, iov *[3]unix.Iovec, count int) (int, syscall.Errno) {
	msg := unix.Msghdr{Iov: &iov[0]}
	msg.SetIovlen(count)
	n, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&msg)), syscall.MSG_NOSIGNAL)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
