package meter

import "fmt"

// Opcodes that mean something to the pass (core 5.4).
const (
	opUnreachable        = 0x00
	opNop                = 0x01
	opBlock              = 0x02
	opLoop               = 0x03
	opIf                 = 0x04
	opElse               = 0x05
	opEnd                = 0x0b
	opBr                 = 0x0c
	opBrIf               = 0x0d
	opBrTable            = 0x0e
	opReturn             = 0x0f
	opCall               = 0x10
	opCallIndirect       = 0x11
	opReturnCall         = 0x12
	opReturnCallIndirect = 0x13
	opSelectT            = 0x1c
	opLocalGet           = 0x20
	opLocalSet           = 0x21
	opLocalTee           = 0x22
	opGlobalGet          = 0x23
	opGlobalSet          = 0x24
	opTableGet           = 0x25
	opTableSet           = 0x26
	opMemorySize         = 0x3f
	opMemoryGrow         = 0x40
	opI32Const           = 0x41
	opI64Const           = 0x42
	opF32Const           = 0x43
	opF64Const           = 0x44
	opRefNull            = 0xd0
	opRefIsNull          = 0xd1
	opRefFunc            = 0xd2
	opMisc               = 0xfc
	opVec                = 0xfd

	miscMemoryInit = 0x08
	miscDataDrop   = 0x09
	miscMemoryCopy = 0x0a
	miscMemoryFill = 0x0b
	miscTableInit  = 0x0c
	miscElemDrop   = 0x0d
	miscTableCopy  = 0x0e
	miscTableGrow  = 0x0f
	miscTableSize  = 0x10
	miscTableFill  = 0x11

	vecConst = 0x0c
)

// Shapes of immediates.
const (
	immUnknown = iota
	immNone
	immBlock
	immLabel
	immLabels
	immFunc
	immIndirect
	immTypes
	immLocal
	immGlobal
	immTable
	immZero // a reserved byte
	immI32
	immI64
	imm4
	imm8
	immRefType
	immMemory // alignment and offset
	immPrefix
)

// shapes has the shape of each opcode's immediates.
var shapes = func() (s [256]byte) {
	set := func(shape byte, ops ...int) {
		for _, o := range ops {
			s[o] = shape
		}
	}
	fill := func(shape byte, from, to int) {
		for o := from; o <= to; o++ {
			s[o] = shape
		}
	}
	set(immNone, opUnreachable, opNop, opElse, opEnd, opReturn, 0x1a, 0x1b, opRefIsNull)
	set(immBlock, opBlock, opLoop, opIf)
	set(immLabel, opBr, opBrIf)
	set(immLabels, opBrTable)
	set(immFunc, opCall, opReturnCall, opRefFunc)
	set(immIndirect, opCallIndirect, opReturnCallIndirect)
	set(immTypes, opSelectT)
	set(immLocal, opLocalGet, opLocalSet, opLocalTee)
	set(immGlobal, opGlobalGet, opGlobalSet)
	set(immTable, opTableGet, opTableSet)
	fill(immMemory, 0x28, 0x3e)
	set(immZero, opMemorySize, opMemoryGrow)
	set(immI32, opI32Const)
	set(immI64, opI64Const)
	set(imm4, opF32Const)
	set(imm8, opF64Const)
	fill(immNone, 0x45, 0xc4) // numeric, sign extension included
	set(immRefType, opRefNull)
	set(immPrefix, opMisc, opVec)
	return s
}()

// vecHoles are the numbers below 256 that no vector instruction of WebAssembly 2.0
// has.
var vecHoles = [...]byte{
	0x9a, 0xa2, 0xa5, 0xa6, 0xaf, 0xb0, 0xb2, 0xb3, 0xb4, 0xbb, 0xc2, 0xc5, 0xc6,
	0xcf, 0xd0, 0xd2, 0xd3, 0xd4, 0xe2, 0xee,
}

// vecKnown tells which vector instructions there are.
var vecKnown = func() (known [256]bool) {
	for i := range known {
		known[i] = true
	}
	for _, h := range vecHoles {
		known[h] = false
	}
	return known
}()

// costs has the units that an instruction is charged, by opcode: one for most, none
// for what makes no code by itself, and for slow ones what they take when each waits
// for the one before it, at six units a nanosecond.
var costs = func() (c [256]byte) {
	for i := range c {
		c[i] = 1
	}
	for _, o := range []int{opNop, opBlock, opLoop, opElse, opEnd} {
		c[o] = 0
	}
	for o := 0x6d; o <= 0x70; o++ { // division and remainder
		c[o] = 40
	}
	for o := 0x7f; o <= 0x82; o++ {
		c[o] = 64
	}
	for _, o := range []int{0x91, 0x95, 0x9f, 0xa3} { // square roots and divisions
		c[o] = 48
	}
	for _, o := range []int{0x8d, 0x8e, 0x8f, 0x90, 0x9b, 0x9c, 0x9d, 0x9e} { // rounding
		c[o] = 8
	}
	for o := 0xa8; o <= 0xb1; o++ { // float to integer, which may trap
		c[o] = 12
	}
	c[opBrTable] = 3
	c[opTableGet], c[opTableSet] = 4, 4
	c[opCall], c[opReturnCall] = 8, 8
	c[opCallIndirect], c[opReturnCallIndirect] = 24, 24 // and a free function behind it
	c[opRefFunc] = 8
	c[opMemoryGrow] = 0xff // see cost
	return c
}()

// Units of instructions that leave the machine code for the runtime, and of others.
const (
	costMemoryGrow = 4000
	costTableGrow  = 1000
	costBulk       = 20
	costSaturate   = 12
	costVec        = 3
	costVecSlow    = 64
)

// cost returns the units that the instruction is charged.
func (d *decoder) cost() int {
	switch d.op {
	case opMemoryGrow:
		return costMemoryGrow
	case opMisc:
		switch {
		case d.sub == miscTableGrow:
			return costTableGrow
		case d.sub >= miscMemoryInit && d.sub != miscTableSize:
			return costBulk
		}
		return costSaturate
	case opVec:
		switch d.sub {
		case 0xe3, 0xe7, 0xef, 0xf3: // square roots and divisions
			return costVecSlow
		}
		return costVec
	case opCall, opReturnCall:
		c := int(costs[d.op])
		if t := d.m.typeOfFunc(d.x); t != nil {
			c += len(t.params)
		}
		return c
	case opCallIndirect, opReturnCallIndirect:
		return int(costs[d.op]) + len(d.m.types[d.x].params)
	}
	return int(costs[d.op])
}

// opName returns how an instruction that is refused is called.
func opName(op byte) string {
	switch op {
	case 0x06, 0x07, 0x08, 0x09, 0x0a, 0x18, 0x19, 0x1f:
		return fmt.Sprintf("an instruction of exception handling (0x%02x)", op)
	case opReturnCall, opReturnCallIndirect:
		return fmt.Sprintf("a tail call (0x%02x)", op)
	case 0x14, 0x15, 0xd3, 0xd4, 0xd5, 0xd6:
		return fmt.Sprintf("an instruction of typed function references (0x%02x)", op)
	case 0xfb:
		return "an instruction of garbage collection (0xfb)"
	case 0xfe:
		return "an atomic instruction (0xfe)"
	}
	return fmt.Sprintf("the unknown instruction 0x%02x", op)
}
