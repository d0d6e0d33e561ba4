//go:build linux && !race

package h1

import (
	"syscall"
	"unsafe"
)

// read is read(2) on a non-blocking socket, for p that is not empty.
//
// It goes past the scheduler, which ordinary system calls tell that they may
// block: these do not, and telling it costs twice a hundred nanoseconds, and
// hands the processor to another thread whenever the kernel takes over 20 µs (a
// write over loopback runs the receiver's half of TCP). The price is that a
// collection waits for the call to return.
func read(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// writeVector is writev(2) on a non-blocking socket; see read.
func writeVector(fd uintptr, iov *syscall.Iovec, count int) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(iov)), uintptr(count))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
