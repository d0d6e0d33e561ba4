package host

import "encoding/binary"

// These walk the sections of a module that the host itself does not need, to bound
// what the compiler will allocate for them. Whatever they do not know is refused:
// what is walked here and what the compiler reads must not differ.

func scanNumbers(r *reader, vector bool) {
	n := uint32(1)
	if vector {
		n = r.count(maxModuleItems)
	}
	for range n {
		r.u32()
	}
}

func scanTypes(r *reader) {
	for range r.count(maxModuleItems) {
		if r.byte() != 0x60 {
			r.bad = true
		}
		for range 2 { // parameters, results
			for range r.count(maxTypeItems) {
				r.valType()
			}
		}
		if r.bad {
			return
		}
	}
}

func scanTables(r *reader) {
	entries := uint64(0)
	for range r.count(maxTables) {
		r.refType()
		entries += r.limits()
	}
	r.bad = r.bad || entries > maxTableEntries
}

func scanGlobals(r *reader) {
	for range r.count(maxModuleItems) {
		r.valType()
		r.byte() // mutability
		r.expr()
		if r.bad {
			return
		}
	}
}

// scanElements walks element segments; the meaning of the flags is in WebAssembly
// core 5.5.12.
func scanElements(r *reader) {
	left := uint32(maxTableEntries)
	for range r.count(maxModuleItems) {
		flags := r.u32()
		passive, explicit, exprs := flags&1 != 0, flags&2 != 0, flags&4 != 0
		if flags > 7 {
			r.bad = true
		}
		if !passive {
			if explicit {
				r.u32() // table
			}
			r.expr() // offset
		}
		if passive || explicit {
			r.byte() // element kind or type
		}
		n := r.count(left)
		left -= n
		for range n {
			if exprs {
				r.expr()
			} else {
				r.u32()
			}
		}
		if r.bad {
			return
		}
	}
}

func scanCode(r *reader) {
	left := uint32(maxLocals)
	for range r.count(maxModuleItems) {
		body := reader{b: r.take(r.u32())}
		most := min(left, maxFuncLocals)
		for range body.count(maxFuncLocals) {
			n := body.u32()
			if n > most {
				body.bad = true
				break
			}
			most, left = most-n, left-n
			body.valType()
		}
		if r.bad = r.bad || body.bad; r.bad {
			return
		}
	}
}

func scanData(r *reader) {
	for range r.count(maxModuleItems) {
		switch r.u32() {
		case 0:
			r.expr()
		case 1: // passive
		case 2:
			r.u32() // memory
			r.expr()
		default:
			r.bad = true
		}
		r.take(r.u32())
		if r.bad {
			return
		}
	}
}

// scanCustom walks the name section; others are not read by anybody.
func scanCustom(r *reader) {
	if r.name() != "name" || r.bad {
		r.b = nil
		return
	}
	for len(r.b) > 0 && !r.bad {
		id := r.byte()
		s := reader{b: r.take(r.u32())}
		switch id {
		case 0: // of the module
			s.name()
		case 1: // of functions
			s.nameMap()
		case 2: // of local variables, by function
			for range s.count(maxModuleItems) {
				s.u32()
				s.nameMap()
				if s.bad {
					break
				}
			}
		default:
			s.b = nil
		}
		r.bad = r.bad || s.bad || len(s.b) > 0
	}
}

func (r *reader) nameMap() {
	for range r.count(maxModuleItems) {
		r.u32()
		r.take(r.u32())
		if r.bad {
			return
		}
	}
}

// valType reads a value type of WebAssembly 2.0; the longer ones of later
// proposals are not known.
func (r *reader) valType() {
	switch r.byte() {
	case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f:
	default:
		r.bad = true
	}
}

func (r *reader) refType() {
	switch r.byte() {
	case 0x70, 0x6f:
	default:
		r.bad = true
	}
}

// expr reads a constant expression up to its end (WebAssembly core 3.3.7).
func (r *reader) expr() {
	for !r.bad {
		switch r.byte() {
		case 0x0b: // end
			return
		case 0x23, 0xd2, 0x41, 0x42: // global.get, ref.func, i32.const, i64.const
			r.skip()
		case 0xd0: // ref.null
			r.refType()
		case 0x43:
			r.take(4)
		case 0x44:
			r.take(8)
		case 0xfd: // v128.const
			if r.byte() != 0x0c {
				r.bad = true
			}
			r.take(16)
		default:
			r.bad = true
		}
	}
}

// A reader cuts values off b. After a failure bad is set and values are zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) u32() uint32 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > 1<<32-1 {
		r.bad = true
		r.b = nil
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)) {
		r.bad = true
		r.b = nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// count reads the number of elements of a vector, each of which takes a byte at
// least. A larger number than most is refused.
func (r *reader) count(most uint32) uint32 {
	n := r.u32()
	if n > most || uint64(n) > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return n
}

// skip skips the bytes of a number in LEB128.
func (r *reader) skip() {
	for range binary.MaxVarintLen64 {
		if r.byte() < 0x80 {
			return
		}
	}
	r.bad = true
}

func (r *reader) name() string { return string(r.take(r.u32())) }

// limits reads the limits of a table or memory and returns the least size.
func (r *reader) limits() uint64 {
	flags := r.byte()
	least := uint64(r.u32())
	if flags&1 != 0 {
		r.u32()
	}
	return least
}
