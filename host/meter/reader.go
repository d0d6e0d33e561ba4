package meter

// A reader cuts values off b, which is a part of a module that begins at offset
// base of it. After a failure bad is set and values are zero.
type reader struct {
	b    []byte
	pos  int
	base int
	bad  bool
}

func (r *reader) left() int { return len(r.b) - r.pos }

func (r *reader) fail() {
	r.bad = true
	r.pos = len(r.b)
}

func (r *reader) byte() byte {
	if r.pos >= len(r.b) {
		r.fail()
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

// u32 reads an unsigned number in LEB128 of at most 32 bits (core 5.2.2).
func (r *reader) u32() uint32 {
	if r.pos < len(r.b) && r.b[r.pos] < 0x80 {
		r.pos++
		return uint32(r.b[r.pos-1])
	}
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	r.fail()
	return 0
}

// signed reads a signed number in LEB128 of at most bits bits.
func (r *reader) signed(bits int) int64 {
	var v int64
	for shift := 0; shift < bits; shift += 7 {
		c := r.byte()
		v |= int64(c&0x7f) << shift
		if c >= 0x80 {
			continue
		}
		if n := shift + 7; n < 64 {
			v = v << (64 - n) >> (64 - n)
		}
		if rest := bits - shift; rest < 7 { // bits beyond must repeat the sign
			if top := int8(c<<1) >> rest; top != 0 && top != -1 {
				break
			}
		}
		return v
	}
	r.fail()
	return 0
}

func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(r.left()) {
		r.fail()
		return nil
	}
	b := r.b[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b
}

// count reads the number of elements of a vector, each of which takes a byte at
// least. A larger number than most is refused.
func (r *reader) count(most uint32) uint32 {
	n := r.u32()
	if n > most || uint64(n) > uint64(r.left()) {
		r.fail()
		return 0
	}
	return n
}

func (r *reader) name() string { return string(r.take(r.u32())) }

// limits reads the limits of a table or memory (core 5.3.6, threads and 64 bits not
// included).
func (r *reader) limits() (least, most uint32, bounded bool) {
	flags := r.byte()
	if flags > 1 {
		r.fail()
	}
	least = r.u32()
	if flags == 1 {
		most, bounded = r.u32(), true
	}
	return least, most, bounded
}

// valType reads a value type of WebAssembly 2.0; the longer ones of later
// proposals are not known.
func (r *reader) valType() byte {
	c := r.byte()
	if !isValType(c) {
		r.fail()
	}
	return c
}

func isValType(c byte) bool {
	return c >= typeV128 && c <= typeI32 || c == typeFuncref || c == typeExternref
}

func (r *reader) refType() byte {
	c := r.byte()
	if c != typeFuncref && c != typeExternref {
		r.fail()
	}
	return c
}

// Value types (core 5.3.1 to 5.3.4).
const (
	typeI32       = 0x7f
	typeI64       = 0x7e
	typeV128      = 0x7b
	typeFuncref   = 0x70
	typeExternref = 0x6f
	typeEmpty     = 0x40 // block type
	typeFunc      = 0x60
)
