//go:build !unix

package host

// Without mmap the whole cap is allocated at once; the address must not change.
func reserve(n uint64) ([]byte, error) { return make([]byte, n), nil }

func commit([]byte) error { return nil }

func release([]byte) {}
