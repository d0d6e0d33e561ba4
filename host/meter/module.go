package meter

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Section numbers (core 5.5.2).
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	sections // how many there are
)

var sectionNames = [sections]string{
	"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code",
	"data", "data count",
}

// order is the place of each section; the data count comes before the code.
var order = [sections]int{
	secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secGlobal: 6, secExport: 7, secStart: 8,
	secElement: 9, secDataCount: 10, secCode: 11, secData: 12,
}

// A section is one section of the original, in place.
type section struct {
	id   byte
	data []byte
	base int // offset of data in the module
}

type funcType struct{ params, results []byte }

type table struct {
	elem    byte
	least   uint32
	most    uint32
	bounded bool
}

// A module is what the pass knows of the original. Its counts are what indices are
// checked against.
type module struct {
	o        Options
	sections []section

	types     []funcType
	imported  uint32   // functions
	funcTypes []uint32 // of imported ones, then of defined ones
	tables    []table
	ownTables int // of which this many are not imported
	globals   uint32
	hasMemory bool
	bodies    []body
	elemLen   []uint32
	dataLen   []uint32

	taken []bool // functions whose address is known to a table, or to who calls exports

	entries uint64 // of tables, at the least
	locals  uint32 // of all functions so far

	info Info
}

// A body is a function's code: its local variables and its instructions.
type body struct {
	code   []byte // the whole entry, without its size
	base   int
	expr   int    // where the instructions begin
	locals uint32 // without parameters
	wide   uint32 // of which are vectors
}

// funcs returns how many functions there are.
func (m *module) funcs() uint32 { return uint32(len(m.funcTypes)) }

// typeOfFunc returns the type of a function.
func (m *module) typeOfFunc(f uint32) *funcType { return &m.types[m.funcTypes[f]] }

const header = "\x00asm\x01\x00\x00\x00"

// parse reads everything of a module but the instructions of its functions. It
// believes nothing: its input is any bytes.
func parse(wasm []byte, o Options) (*module, error) {
	if len(wasm) > maxModuleBytes {
		return nil, fmt.Errorf("the module has %d bytes, the limit is %d", len(wasm), maxModuleBytes)
	}
	if len(wasm) < len(header) || string(wasm[:4]) != header[:4] {
		return nil, errors.New("not a WebAssembly module: it does not start with \\0asm")
	}
	if string(wasm[:len(header)]) != header {
		return nil, fmt.Errorf("WebAssembly version %d, layer %d (a component?): want a core module of version 1",
			binary.LittleEndian.Uint16(wasm[4:]), binary.LittleEndian.Uint16(wasm[6:]))
	}
	m := &module{o: o}
	last := 0
	for r := (reader{b: wasm, pos: len(header)}); r.left() > 0; {
		id := r.byte()
		data := r.take(r.u32())
		if r.bad {
			return nil, errors.New("not a WebAssembly module: it ends early or a length is wrong")
		}
		if id >= sections {
			return nil, fmt.Errorf("section %d is not one of WebAssembly 2.0", id)
		}
		if id != secCustom {
			if order[id] <= last {
				return nil, fmt.Errorf("the %s section is not in its place", sectionNames[id])
			}
			last = order[id]
		}
		s := section{id: id, data: data, base: r.pos - len(data)}
		m.sections = append(m.sections, s)
		if len(m.sections) > maxModuleItems {
			return nil, fmt.Errorf("more than %d sections", maxModuleItems)
		}
		if err := m.read(s); err != nil {
			return nil, err
		}
	}
	if int(m.imported)+len(m.bodies) != len(m.funcTypes) {
		return nil, fmt.Errorf("%d functions are declared and %d have code", len(m.funcTypes)-int(m.imported), len(m.bodies))
	}
	return m, nil
}

// read reads one section.
func (m *module) read(s section) error {
	r := reader{b: s.data, base: s.base}
	var err error
	switch s.id {
	case secCustom:
		r.name()
		r.pos = len(r.b)
	case secType:
		m.readTypes(&r)
	case secImport:
		err = m.readImports(&r)
	case secFunction:
		for range r.count(maxModuleItems) {
			m.addFunc(&r, r.u32())
		}
		m.taken = make([]bool, len(m.funcTypes))
	case secTable:
		for range r.count(maxTables) {
			m.addTable(&r)
			m.ownTables++
		}
	case secMemory:
		for range r.count(1) {
			m.addMemory(&r)
			m.info.Memory = true
		}
	case secGlobal:
		m.readGlobals(&r)
	case secExport:
		err = m.readExports(&r)
	case secStart:
		m.takeFunc(&r, r.u32())
	case secElement:
		m.readElements(&r)
	case secCode:
		m.readCode(&r)
	case secData:
		m.readData(&r)
	case secDataCount:
		r.u32()
	}
	if err != nil {
		return err
	}
	if r.bad || r.left() > 0 || m.entries > maxTableEntries {
		return fmt.Errorf("malformed or too large: section %d (%s)", s.id, sectionNames[s.id])
	}
	return nil
}

func (m *module) readTypes(r *reader) {
	for range r.count(maxModuleItems) {
		if r.byte() != typeFunc {
			r.fail()
		}
		var t [2][]byte
		for i := range t {
			t[i] = r.take(r.count(maxTypeItems))
			for _, c := range t[i] {
				if !isValType(c) {
					r.fail()
				}
			}
		}
		if r.bad {
			return
		}
		m.types = append(m.types, funcType{t[0], t[1]})
	}
}

// addFunc adds a function of a type.
func (m *module) addFunc(r *reader, t uint32) {
	if r.bad || t >= uint32(len(m.types)) {
		r.fail()
		return
	}
	m.funcTypes = append(m.funcTypes, t)
}

// takeFunc notes that a function can be called through a table or from outside.
func (m *module) takeFunc(r *reader, f uint32) {
	if r.bad || f >= m.funcs() {
		r.fail()
		return
	}
	if f < uint32(len(m.taken)) {
		m.taken[f] = true
	}
}

func (m *module) addTable(r *reader) {
	t := table{elem: r.refType()}
	t.least, t.most, t.bounded = r.limits()
	m.entries += uint64(t.least)
	m.tables = append(m.tables, t)
	if len(m.tables) > maxTables {
		r.fail()
	}
}

func (m *module) addMemory(r *reader) {
	least, _, _ := r.limits()
	if m.hasMemory {
		r.fail()
	}
	m.hasMemory = true
	m.info.MinPages = uint64(least)
}

func (m *module) readImports(r *reader) error {
	for range r.count(maxImports) {
		e := Import{Module: r.name(), Name: r.name(), Kind: r.byte()}
		switch e.Kind {
		case 0:
			m.addFunc(r, r.u32())
			m.imported++
		case 1:
			m.addTable(r)
		case 2:
			m.addMemory(r)
		case 3:
			r.valType()
			if r.byte() > 1 {
				r.fail()
			}
			m.globals++
		default:
			r.fail()
		}
		if r.bad {
			return nil // read tells
		}
		if e.Module == Module {
			return fmt.Errorf("it imports %s.%s: that module is the host's own", e.Module, e.Name)
		}
		m.info.Imports = append(m.info.Imports, e)
	}
	m.taken = make([]bool, len(m.funcTypes))
	return nil
}

func (m *module) readGlobals(r *reader) {
	for range r.count(maxModuleItems) {
		r.valType()
		if r.byte() > 1 {
			r.fail()
		}
		m.constExpr(r, nil)
		m.globals++
		if r.bad {
			return
		}
	}
}

// constExpr reads a constant expression up to its end (core 3.3.7), and appends it
// to *out, if out is set, with functions renumbered.
func (m *module) constExpr(r *reader, out *[]byte) {
	for !r.bad {
		from := r.pos
		op := r.byte()
		switch op {
		case opEnd:
		case opGlobalGet:
			if r.u32() >= m.globals {
				r.fail()
			}
		case opI32Const:
			r.signed(32)
		case opI64Const:
			r.signed(64)
		case opRefFunc:
			f := r.u32()
			m.takeFunc(r, f)
			if out != nil {
				*out = uleb(append(*out, op), m.renumber(f))
				continue
			}
		case opRefNull:
			r.refType()
		case opF32Const:
			r.take(4)
		case opF64Const:
			r.take(8)
		case opVec:
			if r.byte() != vecConst {
				r.fail()
			}
			r.take(16)
		default:
			r.fail()
		}
		if out != nil && !r.bad {
			*out = append(*out, r.b[from:r.pos]...)
		}
		if op == opEnd {
			return
		}
	}
}

// exportable is how many things of a kind there are to export.
func (m *module) exportable(kind byte) uint32 {
	switch kind {
	case 0:
		return m.funcs()
	case 1:
		return uint32(len(m.tables))
	case 2:
		if m.hasMemory {
			return 1
		}
	case 3:
		return m.globals
	}
	return 0
}

func (m *module) readExports(r *reader) error {
	for range r.count(maxExports) {
		name, kind, index := r.name(), r.byte(), r.u32()
		if r.bad || index >= m.exportable(kind) {
			r.fail()
			return nil
		}
		if reserved(name) {
			return fmt.Errorf("it exports %q: names that begin with %q are the host's own", name, reservedPrefix)
		}
		if kind == 0 {
			m.takeFunc(r, index)
			m.info.Exports = append(m.info.Exports, name)
		}
	}
	return nil
}

// readElements reads element segments; the meaning of the flags is in core 5.5.12.
func (m *module) readElements(r *reader) {
	left := uint32(maxTableEntries)
	for range r.count(maxModuleItems) {
		n := m.element(r, left, nil)
		left -= n
		if r.bad {
			return
		}
		m.elemLen = append(m.elemLen, n)
	}
}

// element reads a segment of at most `most` elements and returns how many it has. It
// is appended to *out, if out is set, with functions renumbered.
func (m *module) element(r *reader, most uint32, out *[]byte) uint32 {
	from := r.pos
	flags := r.u32()
	passive, explicit, exprs := flags&1 != 0, flags&2 != 0, flags&4 != 0
	if flags > 7 {
		r.fail()
	}
	if !passive {
		if explicit && r.u32() >= uint32(len(m.tables)) {
			r.fail()
		}
		head := r.pos
		if out != nil {
			*out = append(*out, r.b[from:head]...)
		}
		m.constExpr(r, out)
		from = r.pos
	}
	if passive || explicit {
		r.byte() // element kind or type
	}
	n := r.count(most)
	if out != nil {
		*out = append(*out, r.b[from:r.pos]...)
	}
	for range n {
		switch {
		case r.bad:
			return 0
		case exprs:
			m.constExpr(r, out)
		default:
			f := r.u32()
			m.takeFunc(r, f)
			if out != nil {
				*out = uleb(*out, m.renumber(f))
			}
		}
	}
	return n
}

func (m *module) readCode(r *reader) {
	n := r.count(maxModuleItems)
	m.bodies = make([]body, 0, n)
	for range n {
		code := r.take(r.u32())
		b := body{code: code, base: r.base + r.pos - len(code)}
		l := reader{b: code}
		m.readLocals(&l, &b)
		if r.bad || l.bad || len(code) > maxBodyBytes {
			r.fail()
			return
		}
		b.expr = l.pos
		m.bodies = append(m.bodies, b)
	}
}

func (m *module) readLocals(r *reader, b *body) {
	for range r.count(maxFuncLocals) {
		n := r.u32()
		if r.valType() == typeV128 {
			b.wide += n // n is checked below
		}
		if n > maxFuncLocals || b.locals+n > maxFuncLocals || m.locals+n > maxLocals {
			r.fail()
		}
		if r.bad {
			return
		}
		b.locals += n
		m.locals += n
	}
}

func (m *module) readData(r *reader) {
	for range r.count(maxModuleItems) {
		switch r.u32() {
		case 0:
			m.constExpr(r, nil)
		case 1: // passive
		case 2:
			r.u32() // memory
			m.constExpr(r, nil)
		default:
			r.fail()
		}
		n := r.u32()
		r.take(n)
		if r.bad {
			return
		}
		m.dataLen = append(m.dataLen, n)
	}
}

// renumber returns what a function of the original is called after the pass: one
// import was added behind the others.
func (m *module) renumber(f uint32) uint32 {
	if f >= m.imported {
		f++
	}
	return f
}
