//go:build !wasm

package abi

import "encoding/binary"

// load64 reads an integer out of a record.
func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
