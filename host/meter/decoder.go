package meter

import "fmt"

// A decoder reads the instructions of a function's body and checks every index
// against what the original module has: a number that is valid only because of what
// the pass adds would be a way to the counters.
type decoder struct {
	reader
	m       *module
	locals  uint32 // parameters included
	nesting uint32 // blocks that are open, without the function's own

	// The instruction read last.
	at      int // where it begins
	op      byte
	sub     byte   // after a prefix
	x, y    uint32 // first and second immediate
	targets []uint32
	block   [2]int // where the block type is
}

// next reads an instruction.
func (d *decoder) next() error {
	d.at = d.pos
	d.op = d.byte()
	shape := shapes[d.op]
	switch shape {
	case immNone:
	case immLocal:
		d.x = d.index(d.locals)
	case immMemory:
		d.u32()
		d.u32()
	case immI32:
		d.signed(32)
	case immI64:
		d.signed(64)
	case immGlobal:
		d.x = d.index(d.m.globals)
	case immLabel:
		d.x = d.index(d.nesting + 1)
	case immBlock:
		d.blockType()
	case immFunc:
		d.x = d.index(d.m.funcs())
	default:
		return d.rare(shape)
	}
	if d.bad || d.op == opReturnCall && !d.m.o.TailCalls {
		return d.refuse()
	}
	return nil
}

func (d *decoder) rare(shape byte) error {
	switch shape {
	case immLabels:
		return d.labels()
	case immIndirect:
		d.x, d.y = d.index(uint32(len(d.m.types))), d.index(uint32(len(d.m.tables)))
	case immTypes:
		for range d.count(1) {
			d.valType()
		}
	case immTable:
		d.x = d.index(uint32(len(d.m.tables)))
	case immZero:
		d.zero()
	case imm4:
		d.take(4)
	case imm8:
		d.take(8)
	case immRefType:
		d.refType()
	case immPrefix:
		d.prefixed()
	default:
		return d.refuse()
	}
	if d.bad || d.op == opReturnCallIndirect && !d.m.o.TailCalls {
		return d.refuse()
	}
	return nil
}

// refuse makes the error about the instruction at d.at.
func (d *decoder) refuse() error {
	at := d.base + d.at
	tail := d.op == opReturnCall || d.op == opReturnCallIndirect
	if d.at < len(d.b) && (shapes[d.op] == immUnknown || tail && !d.m.o.TailCalls) {
		return fmt.Errorf("offset 0x%x: %s is not supported", at, opName(d.op))
	}
	if d.op == opVec || d.op == opMisc {
		return fmt.Errorf("offset 0x%x: the instruction 0x%02x 0x%02x is unknown or malformed", at, d.op, d.sub)
	}
	return fmt.Errorf("offset 0x%x: the instruction 0x%02x is malformed, or its index is none of the module's", at, d.op)
}

// index reads an index below n.
func (d *decoder) index(n uint32) uint32 {
	x := d.u32()
	if x >= n {
		d.bad = true
		return 0
	}
	return x
}

// blockType reads an empty block type, a value type or a type index (core 5.4.1).
func (d *decoder) blockType() {
	d.block[0] = d.pos
	if d.pos < len(d.b) && (d.b[d.pos] == typeEmpty || isValType(d.b[d.pos])) {
		d.pos++
	} else if x := d.signed(33); x < 0 || x >= int64(len(d.m.types)) {
		d.bad = true
	}
	d.block[1] = d.pos
}

func (d *decoder) labels() error {
	n := d.u32()
	if n > maxBrTable {
		return fmt.Errorf("offset 0x%x: a br_table has %d targets, the limit is %d", d.base+d.at, n, maxBrTable)
	}
	d.targets = d.targets[:0]
	for range n + 1 {
		d.targets = append(d.targets, d.index(d.nesting+1))
		if d.bad {
			return d.refuse()
		}
	}
	return nil
}

// zero reads the index of the one memory there can be.
func (d *decoder) zero() {
	if d.byte() != 0 || !d.m.hasMemory {
		d.bad = true
	}
}

// prefixed reads an instruction of two numbers. Of vector instructions the second
// one is read in its shortest encoding alone: runtimes disagree about others.
func (d *decoder) prefixed() {
	if d.op == opVec {
		d.sub = d.byte()
		if d.sub >= 0x80 && d.byte() != 1 {
			d.bad = true
		}
		d.vector()
		return
	}
	n := d.u32()
	if d.sub = byte(n); n > miscTableFill {
		d.bad = true
		return
	}
	switch d.sub {
	case miscMemoryInit:
		d.x = d.index(uint32(len(d.m.dataLen)))
		d.zero()
	case miscDataDrop:
		d.x = d.index(uint32(len(d.m.dataLen)))
	case miscMemoryCopy:
		d.zero()
		d.zero()
	case miscMemoryFill:
		d.zero()
	case miscTableInit:
		d.x, d.y = d.index(uint32(len(d.m.elemLen))), d.index(uint32(len(d.m.tables)))
	case miscElemDrop:
		d.x = d.index(uint32(len(d.m.elemLen)))
	case miscTableCopy:
		d.x, d.y = d.index(uint32(len(d.m.tables))), d.index(uint32(len(d.m.tables)))
	case miscTableGrow, miscTableSize, miscTableFill:
		d.x = d.index(uint32(len(d.m.tables)))
	}
}

func (d *decoder) vector() {
	s := d.sub
	switch {
	case !vecKnown[s]:
		d.bad = true
	case s < vecConst || s == 0x5c || s == 0x5d: // loads and stores
		d.u32()
		d.u32()
	case s == vecConst || s == vecConst+1: // v128.const, i8x16.shuffle
		d.take(16)
	case s >= 0x15 && s <= 0x22: // lanes
		d.byte()
	case s >= 0x54 && s <= 0x5b: // loads and stores of lanes
		d.u32()
		d.u32()
		d.byte()
	}
}
