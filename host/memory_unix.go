//go:build unix

package host

import "syscall"

// reserve takes n bytes of address space that cannot be accessed yet, so that
// they do not count as memory even where overcommit is off.
func reserve(n uint64) ([]byte, error) {
	return syscall.Mmap(-1, 0, int(n), syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
}

// commit makes part of a reservation accessible; it reads as zeros.
func commit(b []byte) error { return syscall.Mprotect(b, syscall.PROT_READ|syscall.PROT_WRITE) }

// release gives a reservation back.
func release(b []byte) { _ = syscall.Munmap(b) } // fails only for a wrong address
