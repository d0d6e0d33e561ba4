package meter_test

import "encoding/binary"

// A gen makes valid modules out of any bytes: each choice takes one byte, and when
// there are none left the shortest choice is taken. The modules end: every loop turn
// and every call takes one off a budget, and traps when there is nothing left. They
// also count the statements they run.
type gen struct {
	src    []byte
	b      []byte
	labels []int // results of open labels, outermost (the function) first
	locals int   // all i32
	depth  int
}

// What every generated module has.
const (
	genFuncs   = 5 // of the types in genTypes, one after the other
	genLocals  = 4 // beside parameters
	genPages   = 12
	globBudget = 0
	globWork   = 1
	globUser   = 2 // and the next one
)

// genTypes are the numbers of parameters and results, all i32.
var genTypes = [][2]int{{1, 1}, {0, 0}, {2, 2}}

func (g *gen) byte() int {
	if len(g.src) == 0 {
		return 0
	}
	c := g.src[0]
	g.src = g.src[1:]
	return int(c)
}

func (g *gen) n(n int) int      { return g.byte() % n }
func (g *gen) emit(b ...byte)   { g.b = append(g.b, b...) }
func (g *gen) uleb(v int)       { g.b = binary.AppendUvarint(g.b, uint64(v)) }
func (g *gen) constant(v int32) { g.emit(0x41); g.b = appendSleb(g.b, int64(v)) }
func (g *gen) bump(global, by byte) {
	g.emit(0x23, global, 0x41, by, 0x6a, 0x24, global)
}

// spend takes one off the budget.
func (g *gen) spend() {
	g.emit(0x23, globBudget, 0x41, 1, 0x6b, 0x24, globBudget)
	g.emit(0x23, globBudget, 0x41, 0, 0x48, 0x04, 0x40, 0x00, 0x0b)
}

// expr pushes an i32.
func (g *gen) expr() {
	g.depth++
	defer func() { g.depth-- }()
	kind := g.n(14)
	if g.depth > 6 {
		kind %= 3
	}
	switch kind {
	case 0:
		g.constant(int32(int8(g.byte())))
	case 1:
		g.emit(0x20, byte(g.n(g.locals)))
	case 2:
		g.emit(0x23, byte(globUser+g.n(2)))
	case 3, 4:
		g.expr()
		g.expr()
		ops := []byte{0x6a, 0x6b, 0x6c, 0x6d, 0x6f, 0x70, 0x71, 0x73, 0x74, 0x76, 0x48, 0x4b, 0x46, 0x78}
		g.emit(ops[g.n(len(ops))])
	case 5:
		g.expr()
		g.emit(0x28, 0)
		g.uleb(g.byte() << 9)
	case 6:
		g.call()
	case 7: // if with a result
		g.expr()
		g.emit(0x04, 0x7f)
		g.open(1, g.expr)
		g.emit(0x05)
		g.open(1, g.expr)
		g.emit(0x0b)
	case 8: // block that is left with a value
		g.emit(0x02, 0x7f)
		g.open(1, func() {
			g.expr()
			g.expr()
			g.emit(0x0d, 0)
			g.statements(2)
		})
		g.emit(0x0b)
	case 9:
		g.expr()
		g.expr()
		g.expr()
		g.emit(0x1b) // select
	case 10:
		g.emit(0x3f, 0)
	case 11:
		g.emit(0xfc, 0x10, 0) // table.size
	case 12: // block with parameter and result
		g.expr()
		g.emit(0x02, 0) // type 0: i32 to i32
		g.open(1, func() { g.emit(0x41, 3, 0x6a) })
		g.emit(0x0b)
	case 13:
		g.expr()
		g.emit(0xfd, 0x0f, 0xfd, 0x60, 0xfd, 0x15, byte(g.n(16))) // i8x16: splat, abs, extract_lane_s
	}
}

// open makes code inside a label with so many results.
func (g *gen) open(results int, f func()) {
	g.labels = append(g.labels, results)
	f()
	g.labels = g.labels[:len(g.labels)-1]
}

// call calls a function and leaves one value.
func (g *gen) call() {
	f := g.n(genFuncs)
	t := genTypes[f%len(genTypes)]
	for range t[0] {
		g.expr()
	}
	if g.n(2) == 0 {
		g.emit(0x10, byte(f))
	} else {
		g.expr()
		g.emit(0x11, byte(f%len(genTypes)), 0)
	}
	g.one(t[1])
}

// one makes one value of so many.
func (g *gen) one(n int) {
	switch n {
	case 0:
		g.constant(1)
	case 2:
		g.emit(0x6a)
	}
}

func (g *gen) statements(most int) {
	for range 1 + g.n(most) {
		g.statement()
	}
}

func (g *gen) statement() {
	g.depth++
	defer func() { g.depth-- }()
	g.bump(globWork, 1)
	kind := g.n(18)
	if g.depth > 6 {
		kind %= 4
	}
	switch kind {
	case 0:
		g.expr()
		g.emit(0x21, byte(g.n(g.locals)))
	case 1:
		g.expr()
		g.emit(0x24, byte(globUser+g.n(2)))
	case 2:
		g.expr()
		g.emit(0x41, 0xff, 0x3f, 0x71) // and 8191
		g.expr()
		g.emit(0x36, 0)
		g.uleb(g.byte() << 9)
	case 3:
		g.emit(0x01)
	case 4:
		g.expr()
		g.emit(0x04, 0x40)
		g.open(0, func() { g.statements(3) })
		if g.n(2) == 0 {
			g.emit(0x05)
			g.open(0, func() { g.statements(3) })
		}
		g.emit(0x0b)
	case 5:
		g.emit(0x02, 0x40)
		g.open(0, func() { g.statements(4) })
		g.emit(0x0b)
	case 6, 7:
		g.emit(0x03, 0x40)
		g.open(0, func() {
			g.spend()
			g.statements(3)
			g.expr()
			g.emit(0x0d, 0)
		})
		g.emit(0x0b)
	case 8:
		g.call()
		g.emit(0x1a)
	case 9, 10:
		g.branch()
	case 11: // br_table to labels without results
		g.emit(0x02, 0x40, 0x02, 0x40)
		g.open(0, func() { g.open(0, func() { g.expr(); g.emit(0x0e, 2, 0, 1, 0) }) })
		g.emit(0x0b)
		g.open(0, func() { g.statements(2) })
		g.emit(0x0b)
	case 12:
		g.bulk()
	case 13:
		g.expr()
		g.emit(0x41, 1, 0x71, 0x40, 0, 0x1a) // memory.grow by 0 or 1
	case 14:
		g.table()
	case 15: // return, perhaps
		g.expr()
		g.emit(0x04, 0x40)
		g.open(0, func() {
			for range g.labels[0] {
				g.expr()
			}
			g.emit(0x0f)
		})
		g.emit(0x0b)
	case 16: // code that is never reached
		g.emit(0x02, 0x40)
		g.open(0, func() {
			g.emit(0x0c, 0)
			g.statements(2)
		})
		g.emit(0x0b)
	case 17:
		g.expr()
		g.emit(0x04, 0x40, 0x00, 0x0b) // unreachable, perhaps
	}
}

// branch leaves through any label, if the condition holds.
func (g *gen) branch() {
	l := g.n(len(g.labels))
	results := g.labels[len(g.labels)-1-l]
	for range results {
		g.expr()
	}
	g.expr()
	g.emit(0x0d)
	g.uleb(l)
	for range results {
		g.emit(0x1a)
	}
}

// bulk works on memory, now and then on more than one piece, or out of bounds.
func (g *gen) bulk() {
	for range 2 {
		g.expr()
		if g.n(4) > 0 {
			g.emit(0x41, 0xff, 0xff, 0x0f, 0x71) // and 256 Ki - 1
		}
	}
	g.constant([]int32{0, 5, 300, 70_000, 256 << 10, 256<<10 + 1, 400_000, 600_000, 1 << 30}[g.n(9)])
	switch g.n(4) {
	case 0, 1:
		g.emit(0xfc, 0x0a, 0, 0)
	case 2:
		g.emit(0xfc, 0x0b, 0)
	case 3:
		g.emit(0xfc, 0x08, 0, 0)
	}
}

// table works on the table, which has functions and nulls.
func (g *gen) table() {
	small := func() { g.expr(); g.emit(0x41, 7, 0x71) }
	switch g.n(5) {
	case 0:
		small()
		g.emit(0xd2, byte(g.n(genFuncs)), 0x26, 0) // table.set
	case 1:
		small()
		small()
		small()
		g.emit(0xfc, 0x0e, 0, 0)
	case 2:
		small()
		small()
		small()
		g.emit(0xfc, 0x0c, 1, 0) // segment 0 is active and so dropped
	case 3:
		small()
		g.emit(0xd0, 0x70)
		small()
		g.emit(0xfc, 0x11, 0)
	case 4:
		g.emit(0xd0, 0x70)
		small()
		g.emit(0xfc, 0x0f, 0, 0x1a)
	}
}

// function makes a body: locals and code.
func (g *gen) function(params, results int) []byte {
	g.b = []byte{1, genLocals, 0x7f}
	g.locals = params + genLocals
	g.labels, g.depth = []int{results}, 0
	g.spend()
	g.statements(5)
	for range results {
		g.expr()
	}
	g.emit(0x0b)
	return g.b
}

// module makes a whole module. Functions are exported as "0", "1" and so on, the
// memory as "m", the globals as "g0" and so on.
func (g *gen) module() []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	sec := func(id byte, content ...byte) {
		b = append(binary.AppendUvarint(append(b, id), uint64(len(content))), content...)
	}
	types := []byte{byte(len(genTypes))}
	for _, t := range genTypes {
		types = append(types, 0x60, byte(t[0]))
		for range t[0] {
			types = append(types, 0x7f)
		}
		types = append(types, byte(t[1]))
		for range t[1] {
			types = append(types, 0x7f)
		}
	}
	sec(1, types...)
	funcs, code := []byte{genFuncs}, []byte{genFuncs}
	exports := []byte{genFuncs + 5, 1, 'm', 2, 0}
	elems := []byte{2, 0, 0x41, 0, 0x0b, genFuncs}
	passive := []byte{1, 0, genFuncs}
	for i := range genFuncs {
		t := i % len(genTypes)
		funcs = append(funcs, byte(t))
		body := g.function(genTypes[t][0], genTypes[t][1])
		code = append(binary.AppendUvarint(code, uint64(len(body))), body...)
		exports = append(exports, 1, byte('0'+i), 0, byte(i))
		elems, passive = append(elems, byte(i)), append(passive, byte(i))
	}
	for i := range 4 {
		exports = append(exports, 2, 'g', byte('0'+i), 3, byte(i))
	}
	sec(3, funcs...)
	sec(4, 1, 0x70, 1, 7, 12)
	sec(5, 1, 1, genPages, genPages+2)
	sec(6, append([]byte{4}, "\x7f\x01\x41\xf4\x03\x0b"+"\x7f\x01\x41\x00\x0b"+"\x7f\x01\x41\x05\x0b"+"\x7f\x01\x41\x00\x0b"...)...)
	sec(7, exports...)
	sec(9, append(elems, passive...)...)
	sec(12, 1)
	sec(10, code...)
	data := append([]byte{1, 1}, binary.AppendUvarint(nil, 300_000)...)
	for i := range 300_000 {
		data = append(data, byte(i>>3^i>>11))
	}
	sec(11, data...)
	return b
}

func appendSleb(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
