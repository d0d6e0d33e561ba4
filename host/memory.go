package host

import (
	"encoding/binary"
	"unsafe"

	"github.com/tetratelabs/wazero/experimental"

	"wproxy/abi"
)

// A reservation backs the linear memory of one VM: address space for the whole
// cap, taken from the operating system at once, of which only what the guest has
// touched is resident. wazero's own allocation would copy the memory whenever it
// grows (5-9 ms measured for single calls) and would live on Go's heap.
type reservation struct {
	region []byte // the whole reservation; nil when freed
	usable uint64 // how much of it may be accessed so far
}

var (
	_ experimental.MemoryAllocator = (*reservation)(nil)
	_ experimental.LinearMemory    = (*reservation)(nil)
)

// Allocate implements experimental.MemoryAllocator. When the system refuses, the
// reservation stays empty and Reallocate answers nil.
func (r *reservation) Allocate(_, most uint64) experimental.LinearMemory {
	if region, err := reserve(most); err == nil {
		r.region = region
	}
	return r
}

// Reallocate implements experimental.LinearMemory: it makes size bytes accessible
// at the address that never changes.
func (r *reservation) Reallocate(size uint64) []byte {
	if size > uint64(len(r.region)) {
		return nil
	}
	if size > r.usable {
		if commit(r.region[r.usable:size]) != nil {
			return nil
		}
		r.usable = size
	}
	return r.region[:size:len(r.region)]
}

// Free implements experimental.LinearMemory. Nothing may look at the memory
// afterwards: an access would be a fault that no Go program survives.
func (r *reservation) Free() {
	if r.region != nil {
		release(r.region)
		r.region, r.usable = nil, 0
	}
}

// Guest memory as host functions see it. Addresses and lengths are the low 32
// bits of stack slots: the upper ones are undefined.

// view returns the bytes [ptr, ptr+n) of guest memory, borrowed: they may change or
// move with the next call into the guest. A length of 0 is valid at any address,
// as guests pass whatever pointer an empty slice has.
func (v *vm) view(ptr, n uint64) ([]byte, bool) {
	if uint32(n) == 0 {
		return nil, true
	}
	b, ok := v.mem.Read(uint32(ptr), uint32(n))
	v.meter.debt += int64(len(b) >> copyShift) // nothing is done with what is not there
	return b, ok
}

// text is like view and returns a string that aliases guest memory. It must not
// be kept beyond the host function.
func (v *vm) text(ptr, n uint64) (string, bool) {
	b, ok := v.view(ptr, n)
	return unsafe.String(unsafe.SliceData(b), len(b)), ok
}

// borrow returns a string that aliases b.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// put32 writes a result of the host function at ptr.
func (v *vm) put32(ptr uint64, val uint32) abi.Status {
	if !v.mem.WriteUint32Le(uint32(ptr), val) {
		return abi.StatusInvalidMemoryAccess
	}
	return abi.StatusOK
}

// put64 is like put32 for 8 bytes.
func (v *vm) put64(ptr uint64, val uint64) abi.Status {
	if !v.mem.WriteUint64Le(uint32(ptr), val) {
		return abi.StatusInvalidMemoryAccess
	}
	return abi.StatusOK
}

// give hands data, which is not guest memory, to the guest: memory from the
// guest's allocator of exactly the size, because the Rust SDK adopts it as a vector
// of that capacity, and its address and length at the two out pointers. Those are
// checked first, so that nothing is allocated for a call that fails. No data means
// address 0 without an allocation: the Go SDK's allocator panics for 0 bytes.
func (v *vm) give(data []byte, outPtr, outLen uint64) abi.Status {
	return v.giveString(borrow(data), outPtr, outLen)
}

// giveString is like give.
func (v *vm) giveString(data string, outPtr, outLen uint64) abi.Status {
	if !v.writable32(outPtr) || !v.writable32(outLen) {
		return abi.StatusInvalidMemoryAccess
	}
	if data == "" {
		v.mem.WriteUint32Le(uint32(outPtr), 0)
		v.mem.WriteUint32Le(uint32(outLen), 0)
		return abi.StatusOK
	}
	v.meter.debt += int64(len(data) >> copyShift)
	ptr := v.allocate(uint32(len(data)))
	if ptr == 0 || !v.mem.WriteString(ptr, data) {
		return abi.StatusInvalidMemoryAccess
	}
	// The memory can only have grown: both are still inside.
	v.mem.WriteUint32Le(uint32(outPtr), ptr)
	v.mem.WriteUint32Le(uint32(outLen), uint32(len(data)))
	return abi.StatusOK
}

func (v *vm) writable32(ptr uint64) bool {
	return uint64(uint32(ptr))+4 <= uint64(v.mem.Size())
}

// u32at reads an integer out of a borrowed view.
func u32at(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
