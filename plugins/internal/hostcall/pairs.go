// Package hostcall has the host functions that the shipped plugins need and the Go SDK
// does not offer: a local response with details, counters that do not link fmt,
// random bytes, a clock that costs one host call, and reads whose key is encoded
// once. They are ordinary Proxy-Wasm 0.2 functions; any host has them.
//
// Functions exist under GOOS=wasip1 only. Nothing here is for use by two goroutines.
package hostcall

import "encoding/binary"

// AppendPairs appends header pairs as the ABI encodes them: a count, the sizes, then
// names and values, each followed by NUL.
func AppendPairs(dst []byte, pairs [][2]string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(pairs)))
	for _, p := range pairs {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p[0])))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p[1])))
	}
	for _, p := range pairs {
		dst = append(append(dst, p[0]...), 0)
		dst = append(append(dst, p[1]...), 0)
	}
	return dst
}
