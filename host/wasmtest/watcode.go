package wasmtest

import (
	"strconv"
	"strings"
)

// watOps are the instructions without anything but an opcode.
var watOps = map[string]byte{
	"unreachable": 0x00, "nop": 0x01, "return": 0x0f, "drop": 0x1a, "select": 0x1b,
	"i32.eqz": 0x45, "i32.eq": 0x46, "i32.ne": 0x47, "i32.lt_s": 0x48, "i32.lt_u": 0x49, "i32.gt_s": 0x4a,
	"i32.gt_u": 0x4b, "i32.le_s": 0x4c, "i32.le_u": 0x4d, "i32.ge_s": 0x4e, "i32.ge_u": 0x4f,
	"i64.eqz": 0x50, "i64.eq": 0x51, "i64.ne": 0x52,
	"i32.add": 0x6a, "i32.sub": 0x6b, "i32.mul": 0x6c, "i32.div_u": 0x6e, "i32.rem_u": 0x70,
	"i32.and": 0x71, "i32.or": 0x72, "i32.xor": 0x73, "i32.shl": 0x74, "i32.shr_s": 0x75, "i32.shr_u": 0x76,
	"i64.add": 0x7c, "i64.sub": 0x7d, "i64.mul": 0x7e, "i32.wrap_i64": 0xa7, "i64.extend_i32_u": 0xad,
}

// watMemory are loads and stores, with the logarithm of their alignment.
var watMemory = map[string][2]byte{
	"i32.load": {0x28, 2}, "i64.load": {0x29, 3}, "i32.load8_u": {0x2d, 0}, "i32.load16_u": {0x2f, 1},
	"i32.store": {0x36, 2}, "i64.store": {0x37, 3}, "i32.store8": {0x3a, 0}, "i32.store16": {0x3b, 1},
}

// A watBody is the code of one function.
type watBody struct {
	a      *assembler
	fn     *watFunc
	labels []string // innermost last
	out    []byte
}

// code encodes locals and instructions of a function.
func (a *assembler) code(fn *watFunc) []byte {
	var groups [][]byte // runs of locals of one type
	locals := fn.locals[fn.params:]
	for i := 0; i < len(locals); {
		n := 1
		for i+n < len(locals) && locals[i+n].typ == locals[i].typ {
			n++
		}
		groups = append(groups, append(uleb(nil, uint64(n)), watType(locals[i].typ)))
		i += n
	}
	b := &watBody{a: a, fn: fn, out: uleb(nil, uint64(len(groups)))}
	for _, g := range groups {
		b.out = append(b.out, g...)
	}
	b.sequence(fn.body)
	return append(b.out, 0x0b)
}

func watType(name string) byte {
	if name == "i64" {
		return 0x7e
	}
	return 0x7f
}

// sequence encodes instructions, folded or not.
func (b *watBody) sequence(list []node) {
	for len(list) > 0 {
		n := &list[0]
		if n.kind == '(' {
			b.folded(n)
			list = list[1:]
			continue
		}
		used := b.immediates(n, list[1:], func() {})
		list = list[1+used:]
	}
}

// folded encodes (op immediates... operands...): the operands first.
func (b *watBody) folded(n *node) {
	if len(n.list) == 0 {
		n.fail("an empty instruction")
	}
	op, rest := &n.list[0], n.list[1:]
	switch op.text {
	case "block", "loop":
		b.block(op, rest)
		return
	case "if":
		b.branches(op, rest)
		return
	}
	b.immediates(op, rest, func() {
		for i := range rest {
			if rest[i].kind == '(' {
				b.folded(&rest[i])
			}
		}
	})
}

// label reads the label and the result type of a block and returns what follows.
func (b *watBody) label(rest []node) (label string, typ byte, after []node) {
	typ = 0x40
	if len(rest) > 0 && rest[0].name() {
		label, rest = rest[0].text, rest[1:]
	}
	if len(rest) > 0 && rest[0].head() == "result" {
		typ, rest = watType(rest[0].list[1].text), rest[1:]
	}
	return label, typ, rest
}

func (b *watBody) block(op *node, rest []node) {
	label, typ, rest := b.label(rest)
	code := byte(0x02)
	if op.text == "loop" {
		code = 0x03
	}
	b.out = append(b.out, code, typ)
	b.labels = append(b.labels, label)
	b.sequence(rest)
	b.labels = b.labels[:len(b.labels)-1]
	b.out = append(b.out, 0x0b)
}

// branches encodes (if (result t)? condition... (then ...) (else ...)?).
func (b *watBody) branches(op *node, rest []node) {
	label, typ, rest := b.label(rest)
	for len(rest) > 0 && rest[0].head() != "then" {
		b.folded(&rest[0])
		rest = rest[1:]
	}
	if len(rest) == 0 || len(rest) > 2 || len(rest) == 2 && rest[1].head() != "else" {
		op.fail("want (then ...) and at most one (else ...)")
	}
	b.out = append(b.out, 0x04, typ)
	b.labels = append(b.labels, label)
	b.sequence(rest[0].list[1:])
	if len(rest) == 2 {
		b.out = append(b.out, 0x05)
		b.sequence(rest[1].list[1:])
	}
	b.labels = b.labels[:len(b.labels)-1]
	b.out = append(b.out, 0x0b)
}

// immediates encodes one instruction, its operands by calling operands, and returns how
// many nodes its immediates were.
func (b *watBody) immediates(op *node, rest []node, operands func()) (used int) {
	arg := func() *node {
		if len(rest) == 0 || rest[0].kind != 'a' {
			op.fail("%s needs an immediate", op.text)
		}
		return &rest[0]
	}
	emit := func(code ...byte) { operands(); b.out = append(b.out, code...) }
	if code, ok := watOps[op.text]; ok {
		emit(code)
		return 0
	}
	if m, ok := watMemory[op.text]; ok {
		return b.memory(m, rest, operands)
	}
	switch op.text {
	case "memory.size":
		emit(0x3f, 0)
		return 0
	case "memory.grow":
		emit(0x40, 0)
		return 0
	case "i32.const":
		emit(sleb([]byte{0x41}, arg().integer(32))...)
	case "i64.const":
		emit(sleb([]byte{0x42}, arg().integer(64))...)
	case "call":
		emit(uleb([]byte{0x10}, b.a.funcIndex(arg()))...)
	case "br":
		emit(uleb([]byte{0x0c}, b.depth(arg()))...)
	case "br_if":
		emit(uleb([]byte{0x0d}, b.depth(arg()))...)
	case "local.get":
		emit(uleb([]byte{0x20}, b.local(arg()))...)
	case "local.set":
		emit(uleb([]byte{0x21}, b.local(arg()))...)
	case "local.tee":
		emit(uleb([]byte{0x22}, b.local(arg()))...)
	case "global.get":
		emit(uleb([]byte{0x23}, b.globalIndex(arg()))...)
	case "global.set":
		emit(uleb([]byte{0x24}, b.globalIndex(arg()))...)
	default:
		op.fail("an instruction that is not known: %q", op.text)
	}
	return 1
}

// memory encodes a load or a store, with an offset if there is one.
func (b *watBody) memory(m [2]byte, rest []node, operands func()) (used int) {
	var offset uint64
	if len(rest) > 0 && strings.HasPrefix(rest[0].text, "offset=") {
		v, err := strconv.ParseUint(rest[0].text[len("offset="):], 0, 32)
		if err != nil {
			rest[0].fail("%q is no offset", rest[0].text)
		}
		offset, used = v, 1
	}
	operands()
	b.out = uleb(append(b.out, m[0], m[1]), offset)
	return used
}

func (b *watBody) local(n *node) uint64 {
	return index(n, len(b.fn.locals), func(i int) string { return b.fn.locals[i].name })
}

func (b *watBody) globalIndex(n *node) uint64 {
	return index(n, len(b.a.globals), func(i int) string { return b.a.globals[i].name })
}

// depth resolves a label: 0 is the innermost.
func (b *watBody) depth(n *node) uint64 {
	return index(n, len(b.labels), func(i int) string { return b.labels[len(b.labels)-1-i] })
}
