//go:build unix

package host

import "golang.org/x/sys/unix"

// reserve takes n bytes of address space that cannot be accessed yet, so that
// they do not count as memory even where overcommit is off.
func reserve(n uint64) ([]byte, error) {
	return unix.Mmap(-1, 0, int(n), unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// commit makes part of a reservation accessible; it reads as zeros.
func commit(b []byte) error { return unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE) }

// release gives a reservation back.
func release(b []byte) { _ = unix.Munmap(b) } // fails only for a wrong address
