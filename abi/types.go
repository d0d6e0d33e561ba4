// Package abi holds the types, names and encodings of Proxy-Wasm 0.1.0, 0.2.0
// and 0.2.1. It is a leaf: host and guests both import it; standard library only.
package abi

type (
	// MapType names a header map.
	MapType uint32
	// BufferType names a buffer.
	BufferType uint32
	// StreamType names a direction of a stream.
	StreamType uint32
)
