//go:build unix && !solaris && !illumos && !aix

package listen

import (
	"os"

	"golang.org/x/sys/unix"
)

// reusePort lets others bind what fd is bound to.
func reusePort(fd uintptr) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)) //nolint:gosec // a descriptor
}

// reusesPort tells whether that was done.
func reusesPort(fd uintptr) bool {
	n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT) //nolint:gosec // as above
	return err == nil && n != 0
}

// backlog sets the length of fd's queue; 0: the kernel's most, to which it cuts off
// what is more.
func backlog(fd uintptr, n int) error {
	if n <= 0 {
		n = 1<<16 - 1 // FreeBSD, and Linux before 4.1, hold it in 16 bits
	}
	return os.NewSyscallError("listen", unix.Listen(int(fd), n)) //nolint:gosec // a descriptor
}
