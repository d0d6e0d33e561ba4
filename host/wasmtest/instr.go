package wasmtest

// An Instr is an instruction, or several, of a function body.
type Instr func(m *Module, d []byte) []byte

func op(b ...byte) Instr {
	return func(_ *Module, d []byte) []byte { return append(d, b...) }
}

// Raw is any bytes.
func Raw(b ...byte) Instr { return op(b...) }

// Seq is several instructions as one.
func Seq(in ...Instr) Instr {
	return func(m *Module, d []byte) []byte {
		for _, f := range in {
			d = f(m, d)
		}
		return d
	}
}

// I32 pushes a constant.
func I32(v int32) Instr {
	return func(_ *Module, d []byte) []byte { return sleb(append(d, 0x41), int64(v)) }
}

// I64 pushes a constant.
func I64(v int64) Instr {
	return func(_ *Module, d []byte) []byte { return sleb(append(d, 0x42), v) }
}

// Call evaluates args, which push the arguments, and calls f.
func Call(f *Func, args ...Instr) Instr {
	return func(m *Module, d []byte) []byte {
		d = Seq(args...)(m, d)
		return uleb(append(d, 0x10), uint64(m.funcIndex(f)))
	}
}

// Local pushes a parameter or local variable; SetLocal evaluates v and stores it.
func Local(i int) Instr {
	return func(_ *Module, d []byte) []byte { return uleb(append(d, 0x20), uint64(i)) }
}

// SetLocal is described at Local.
func SetLocal(i int, v Instr) Instr {
	return func(m *Module, d []byte) []byte { return uleb(append(v(m, d), 0x21), uint64(i)) }
}

// Get pushes a global variable; Set evaluates v and stores it.
func Get(g *Global) Instr {
	return func(m *Module, d []byte) []byte { return uleb(append(d, 0x23), uint64(m.importedGlobals+g.index)) }
}

// Set is described at Get.
func Set(g *Global, v Instr) Instr {
	return func(m *Module, d []byte) []byte {
		return uleb(append(v(m, d), 0x24), uint64(m.importedGlobals+g.index))
	}
}

// Load32 pushes the i32 at the address that addr pushes.
func Load32(addr Instr) Instr { return Seq(addr, op(0x28, 2, 0)) }

// Load8 pushes the byte at the address that addr pushes.
func Load8(addr Instr) Instr { return Seq(addr, op(0x2d, 0, 0)) }

// Store32 stores v, an i32, at addr.
func Store32(addr, v Instr) Instr { return Seq(addr, v, op(0x36, 2, 0)) }

// Store8 stores the low byte of v, an i32, at addr.
func Store8(addr, v Instr) Instr { return Seq(addr, v, op(0x3a, 0, 0)) }

// Store64 stores v, an i64, at addr.
func Store64(addr, v Instr) Instr { return Seq(addr, v, op(0x37, 3, 0)) }

// Add is the i32 instruction of that name, as are the next ones.
func Add(a, b Instr) Instr { return Seq(a, b, op(0x6a)) }

// Sub is described at Add.
func Sub(a, b Instr) Instr { return Seq(a, b, op(0x6b)) }

// And is described at Add.
func And(a, b Instr) Instr { return Seq(a, b, op(0x71)) }

// Shl is described at Add.
func Shl(a, b Instr) Instr { return Seq(a, b, op(0x74)) }

// ShrU is described at Add.
func ShrU(a, b Instr) Instr { return Seq(a, b, op(0x76)) }

// Eq is described at Add.
func Eq(a, b Instr) Instr { return Seq(a, b, op(0x46)) }

// Ne is described at Add.
func Ne(a, b Instr) Instr { return Seq(a, b, op(0x47)) }

// LtU is described at Add.
func LtU(a, b Instr) Instr { return Seq(a, b, op(0x49)) }

// GtU is described at Add.
func GtU(a, b Instr) Instr { return Seq(a, b, op(0x4b)) }

// If runs body when cond pushes something other than 0. The body leaves nothing on
// the stack.
func If(cond Instr, body ...Instr) Instr {
	return Seq(cond, op(0x04, 0x40), Seq(body...), op(0x0b))
}

// IfElse runs one of two bodies, which leave nothing on the stack.
func IfElse(cond, then, otherwise Instr) Instr {
	return Seq(cond, op(0x04, 0x40), then, op(0x05), otherwise, op(0x0b))
}

// Loop runs body again as long as again pushes something other than 0.
func Loop(again Instr, body ...Instr) Instr {
	return Seq(op(0x03, 0x40), Seq(body...), again, op(0x0d, 0, 0x0b))
}

// Drop drops the top of the stack.
func Drop() Instr { return op(0x1a) }

// Return returns from the function.
func Return() Instr { return op(0x0f) }

// Unreachable traps.
func Unreachable() Instr { return op(0x00) }

// MemorySize pushes the size of the memory in pages.
func MemorySize() Instr { return op(0x3f, 0) }

// MemoryGrow grows the memory by n pages and pushes the old size, or -1.
func MemoryGrow(n Instr) Instr { return Seq(n, op(0x40, 0)) }
