package abi

import "unsafe"

// load64 reads an integer out of a record. The compiler makes eight loads of what package
// encoding/binary does; in WebAssembly integers are little endian, at any address.
func load64(b []byte, i int) uint64 {
	_ = b[i+7]
	return *(*uint64)(unsafe.Pointer(&b[i]))
}
