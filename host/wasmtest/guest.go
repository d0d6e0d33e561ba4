package wasmtest

// NewGuest returns a module that is a Proxy-Wasm 0.2.1 guest: the marker, 2 pages
// of memory, and proxy_on_memory_allocate. It has no callbacks yet.
func NewGuest() *Module { return NewGuestVersion("proxy_abi_version_0_2_1") }

// NewGuestVersion is like NewGuest with another marker.
func NewGuestVersion(marker string) *Module {
	m := &Module{MinPages: 2}
	m.Func(marker, "")
	m.Allocator("proxy_on_memory_allocate")
	return m
}

// Allocator defines an allocator under the given name: it hands out consecutive
// addresses behind everything that Data and Slot reserve, grows the memory when
// needed, and returns 0 when that fails. Nothing is ever freed. The returned
// global holds the next address.
func (m *Module) Allocator(name string) *Global {
	heap := m.Global(0)
	heap.init = func() int32 { return (m.next + dataStart + 15) &^ 15 } // m.next is final when encoding
	// locals: 1 = result, 2 = end of memory
	m.FuncLocals(name, "i>i", "ii",
		If(GtU(Local(0), I32(1<<30)), I32(0), Return()), // the sums below would overflow
		SetLocal(1, Get(heap)),
		Set(heap, And(Add(Add(Local(1), Local(0)), I32(7)), I32(-8))),
		SetLocal(2, Shl(MemorySize(), I32(16))),
		If(GtU(Get(heap), Local(2)),
			If(Eq(MemoryGrow(ShrU(Add(Sub(Get(heap), Local(2)), I32(PageSize-1)), I32(16))), I32(-1)),
				Set(heap, Local(1)), I32(0), Return())),
		Local(1))
	return heap
}

// Headers defines an exported headers callback ("request" or "response") with the
// given body, which leaves its Action on the stack.
func (m *Module) Headers(side string, body ...Instr) *Func {
	return m.Func("proxy_on_"+side+"_headers", "iii>i", body...)
}

// Body defines an exported body callback, see Headers.
func (m *Module) Body(side string, body ...Instr) *Func {
	return m.Func("proxy_on_"+side+"_body", "iii>i", body...)
}

// Trailers defines an exported trailers callback, see Headers.
func (m *Module) Trailers(side string, body ...Instr) *Func {
	return m.Func("proxy_on_"+side+"_trailers", "ii>i", body...)
}
