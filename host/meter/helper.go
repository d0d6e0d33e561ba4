package meter

import "fmt"

// Instructions that work on memory or tables in bulk are one uninterruptible piece of
// machine code, however long they take. Each becomes a call of a function that the
// pass adds: one that charges for the size, and does large ones piece by piece with a
// look at the counter between.
//
// The meaning stays that of the specification: bounds are checked before the first
// piece (an access out of bounds runs the instruction itself, which traps before it
// has written anything), and copies that overlap go from the end that is safe. A
// segment that was dropped is seen by its first piece, which traps.

// helperFor tells whether an instruction becomes such a call.
func helperFor(op, sub byte) bool {
	if op != opMisc {
		return false
	}
	switch sub {
	case miscMemoryInit, miscMemoryCopy, miscMemoryFill, miscTableInit, miscTableCopy, miscTableGrow, miscTableFill:
		return true
	}
	return false
}

// A helperKey names an instruction with its immediates.
type helperKey struct {
	sub  byte
	x, y uint32
}

// A helper is a function that is added.
type helper struct {
	key    helperKey
	params []byte
	result []byte
}

// helper returns the index of the function for the instruction that was just read.
func (w *writer) helper(d *decoder) uint32 {
	k := helperKey{d.sub, d.x, d.y}
	switch d.sub {
	case miscMemoryCopy, miscMemoryFill:
		k.x, k.y = 0, 0
	case miscMemoryInit, miscTableGrow, miscTableFill:
		k.y = 0
	}
	i, ok := w.helperOf[k]
	if !ok {
		h := helper{key: k, params: []byte{typeI32, typeI32, typeI32}}
		switch d.sub {
		case miscTableFill:
			h.params[1] = w.m.tables[k.x].elem
		case miscTableGrow:
			h.params, h.result = []byte{w.m.tables[k.x].elem, typeI32}, []byte{typeI32}
		}
		i = uint32(len(w.helpers))
		w.helpers = append(w.helpers, h)
		w.helperOf[k] = i
	}
	return w.m.funcs() + 1 + i
}

// name is what the function is called in stack traces.
func (k helperKey) name() string {
	switch k.sub {
	case miscMemoryInit:
		return fmt.Sprintf("memory.init %d", k.x)
	case miscMemoryCopy:
		return "memory.copy"
	case miscMemoryFill:
		return "memory.fill"
	case miscTableInit:
		return fmt.Sprintf("table.init %d %d", k.y, k.x)
	case miscTableCopy:
		return fmt.Sprintf("table.copy %d %d", k.x, k.y)
	case miscTableGrow:
		return fmt.Sprintf("table.grow %d", k.x)
	}
	return fmt.Sprintf("table.fill %d", k.x)
}

// instr appends the instruction itself.
func (k helperKey) instr(b []byte) []byte {
	b = append(b, opMisc, k.sub)
	switch k.sub {
	case miscMemoryInit:
		b = append(uleb(b, k.x), 0)
	case miscMemoryCopy:
		b = append(b, 0, 0)
	case miscMemoryFill:
		b = append(b, 0)
	case miscTableInit, miscTableCopy:
		b = uleb(uleb(b, k.x), k.y)
	default:
		b = uleb(b, k.x)
	}
	return b
}

// Locals of helpers: destination, source (or value), number; then an i64.
const (
	locDst = iota
	locSrc
	locN
	locLeft
)

// body returns the code of a helper.
func (w *writer) helperBody(h helper) []byte {
	k := h.key
	if k.sub == miscTableGrow { // one piece: how far tables grow is bounded
		b := []byte{1, 1, typeI64}
		b = w.chargeSize(b, 1, 2, bulkEntryShift)
		b = k.instr(append(b, opLocalGet, 0, opLocalGet, 1))
		return append(b, opEnd)
	}
	isMem := k.sub <= miscMemoryFill
	piece, shift := int64(bulkEntries), bulkEntryShift
	if isMem {
		piece, shift = bulkBytes, bulkByteShift
	}
	whole := k.instr([]byte{opLocalGet, locDst, opLocalGet, locSrc, opLocalGet, locN})

	b := []byte{1, 1, typeI64}
	b = sleb(append(b, opLocalGet, locN, opI32Const), piece)
	b = append(b, opI32GtU, opIf, typeEmpty)
	b = w.outside(b, k)
	b = append(append(b, opIf, typeEmpty), whole...) // traps
	b = append(b, opEnd)
	if k.sub == miscMemoryCopy || k.sub == miscTableCopy && k.x == k.y {
		b = append(b, opLocalGet, locDst, opLocalGet, locSrc, opI32LeU, opIf, typeEmpty)
		b = w.forward(b, k, piece, shift)
		b = append(b, opElse)
		b = w.backward(b, k, piece, shift)
		b = append(b, opEnd)
	} else {
		b = w.forward(b, k, piece, shift)
	}
	b = append(b, opEnd)
	b = w.chargeSize(b, locN, locLeft, shift)
	return append(append(b, whole...), opEnd)
}

// outside pushes whether destination or source end out of bounds.
func (w *writer) outside(b []byte, k helperKey) []byte {
	size := func(b []byte, mem bool, t uint32) []byte {
		if mem {
			return append(b, opMemorySize, 0, opI64ExtendI32U, opI64Const, 16, opI64Shl)
		}
		return append(uleb(append(b, opMisc, miscTableSize), t), opI64ExtendI32U)
	}
	end := func(b []byte, from byte) []byte {
		return append(b, opLocalGet, from, opI64ExtendI32U, opLocalGet, locN, opI64ExtendI32U, opI64Add)
	}
	isMem := k.sub <= miscMemoryFill
	dst := k.x
	if k.sub == miscTableInit {
		dst = k.y
	}
	b = append(size(end(b, locDst), isMem, dst), opI64GtU)
	switch k.sub {
	case miscMemoryCopy:
		b = append(size(end(b, locSrc), true, 0), opI64GtU, opI32Or)
	case miscTableCopy:
		b = append(size(end(b, locSrc), false, k.y), opI64GtU, opI32Or)
	case miscMemoryInit:
		b = append(sleb(append(end(b, locSrc), opI64Const), int64(w.m.dataLen[k.x])), opI64GtU, opI32Or)
	case miscTableInit:
		b = append(sleb(append(end(b, locSrc), opI64Const), int64(w.m.elemLen[k.x])), opI64GtU, opI32Or)
	}
	return b
}

// forward does pieces from the beginning until one or less is left.
func (w *writer) forward(b []byte, k helperKey, piece int64, shift int) []byte {
	b = append(b, opLoop, typeEmpty)
	b = w.charge(b, units(piece, shift), locLeft, true)
	b = append(b, opLocalGet, locDst, opLocalGet, locSrc)
	b = k.instr(sleb(append(b, opI32Const), piece))
	move := func(local byte) {
		b = append(sleb(append(b, opLocalGet, local, opI32Const), piece), opI32Add, opLocalSet, local)
	}
	move(locDst)
	if k.sub != miscMemoryFill && k.sub != miscTableFill {
		move(locSrc)
	}
	b = append(sleb(append(b, opLocalGet, locN, opI32Const), piece), opI32Sub, opLocalTee, locN)
	return append(sleb(append(b, opI32Const), piece), opI32GtU, opBrIf, 0, opEnd)
}

// backward does pieces from the end until one or less is left.
func (w *writer) backward(b []byte, k helperKey, piece int64, shift int) []byte {
	b = append(b, opLoop, typeEmpty)
	b = w.charge(b, units(piece, shift), locLeft, true)
	b = append(sleb(append(b, opLocalGet, locN, opI32Const), piece), opI32Sub, opLocalSet, locN)
	for _, local := range []byte{locDst, locSrc} {
		b = append(b, opLocalGet, local, opLocalGet, locN, opI32Add)
	}
	b = k.instr(sleb(append(b, opI32Const), piece))
	b = append(b, opLocalGet, locN)
	return append(sleb(append(b, opI32Const), piece), opI32GtU, opBrIf, 0, opEnd)
}

// units is what n bytes or entries cost.
func units(n int64, shift int) int {
	if shift < 0 {
		return int(n << -shift)
	}
	return int(n >> shift)
}

// chargeSize charges for the number in a local, and looks at what is left.
func (w *writer) chargeSize(b []byte, n, left byte, shift int) []byte {
	b = uleb(append(b, opGlobalGet), w.fuel)
	b = append(b, opLocalGet, n, opI64ExtendI32U)
	if shift < 0 {
		b = append(b, opI64Const, byte(-shift), opI64Shl)
	} else {
		b = append(b, opI64Const, byte(shift), opI64ShrU)
	}
	b = append(b, opI64Sub, opLocalTee, left)
	b = uleb(append(b, opGlobalSet), w.fuel)
	return w.look(append(b, opLocalGet, left))
}

// More opcodes, which only helpers and charges are made of.
const (
	opI32Add        = 0x6a
	opI32Sub        = 0x6b
	opI32Or         = 0x72
	opI32GtU        = 0x4b
	opI32LeU        = 0x4d
	opI64LtS        = 0x53
	opI64GtU        = 0x56
	opI64Add        = 0x7c
	opI64Sub        = 0x7d
	opI64Or         = 0x84
	opI64Shl        = 0x86
	opI64ShrU       = 0x88
	opI64ExtendI32U = 0xad
)
