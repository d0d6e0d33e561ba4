//go:build wasip1

package adapter

import "unsafe"

const (
	// blockSize is the size in bytes of the blocks that small values are cut
	// from. A value that a plugin keeps keeps its whole block alive, so it is
	// the most memory one kept value can cost.
	blockSize = 1024

	// maxCarved is the largest value in bytes that is cut from a block. Header
	// values, properties and shared data are mostly below it; a block then serves
	// ten or more host calls with one allocation.
	maxCarved = 128

	// pinSlots is how many results may be under way between the allocator and
	// their hand-over. A host function returns at most one value; the rest is room
	// for hosts that allocate twice, or outside a host function.
	pinSlots = 8
)

var (
	// block is the unused rest of the current block.
	block []byte

	// pins keeps what the allocator handed to the host alive: until the host
	// function has returned, the collector cannot see that address in any Go
	// variable. It is a ring and never grows.
	pins [pinSlots]unsafe.Pointer

	// pinned is the number of pins made since the last hand-over, and so where in
	// the ring the next one goes.
	pinned uint

	// nothing is what an allocation of no bytes points at.
	nothing byte
)

// room is memory that the plugin offers for the result of the host call it is about to
// make, and takes back after it: what it uses up at once need not be allocated. The
// symbol has a fixed name, as the import path of this package differs from plugin to
// plugin; one that does not know of it has no room to offer.
//
//go:linkname room wproxy_adapter.room
var room []byte

// allocate returns the address of size fresh bytes for the host to fill, the
// guest's side of proxy_on_memory_allocate. The bytes belong to the collector:
// whoever takes the address over keeps them alive by holding a pointer into them.
// Blocks are never used twice, so a kept value is never overwritten.
func allocate(size int32) unsafe.Pointer {
	switch {
	case size < 0:
		return nil // more than 2 GiB: out of memory
	case size == 0:
		return unsafe.Pointer(&nothing)
	case int(size) <= len(room): // the plugin holds it, so it needs no pin
		p := unsafe.Pointer(&room[0])
		room = room[size:]
		return p
	}
	var p unsafe.Pointer
	if size > maxCarved {
		p = unsafe.Pointer(&make([]byte, size)[0])
	} else {
		if int(size) > len(block) {
			block = make([]byte, blockSize)
		}
		p = unsafe.Pointer(&block[0])
		block = block[size:]
	}
	pins[pinned%pinSlots] = p
	pinned++
	return p
}

// unpin forgets all pins.
func unpin() {
	if pinned == 1 { // the common case, without a loop over the ring
		pins[0] = nil
	} else {
		pins = [pinSlots]unsafe.Pointer{}
	}
	pinned = 0
}
