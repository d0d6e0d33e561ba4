package meter

import (
	"fmt"
	"strings"
)

// What the pass adds to a module by name. No guest may have a name in Module, nor
// export one that begins like these.
const (
	Module = "wproxy:meter" // of the imported function
	Refill = "refill"       // function without parameters and results
	Fuel   = "wproxy:fuel"  // exported mutable global of type i64
	Room   = "wproxy:room"  // exported mutable global of type i64

	reservedPrefix = "wproxy:"
)

// InitialRoom is the value of Room in a new instance, in bytes of stack; Fuel is 0.
const InitialRoom = 64 << 10

func reserved(name string) bool { return strings.HasPrefix(name, reservedPrefix) }

// Options say how a module is rewritten. The zero value is WebAssembly 2.0.
type Options struct {
	// TailCalls allows return_call and return_call_indirect. The runtime must have
	// them on as well.
	TailCalls bool
}

// An Import is an import of the original module.
type Import struct {
	Module, Name string
	Kind         byte // 0 function, 1 table, 2 memory, 3 global
}

// An Info tells about the original module what a runtime does not.
type Info struct {
	Imports  []Import // all kinds, in order
	Exports  []string // names of exported functions, in order
	Memory   bool     // it has a memory of its own
	MinPages uint64   // of the memory, also of an imported one

	Functions int // that it defines
	Loops     int // in all of them
	Counted   int // functions that count how deep calls go
	Helpers   int // functions that were added
}

// Rewrite returns a module that does what the given one does, and counts; see the
// package comment. The error names what is wrong with the module: it is malformed,
// exceeds a limit, has an instruction that is not known, or takes a name or an index
// that is not its own. What is only found by validating (types of operands) is left to
// the runtime: a module that is not valid is not made valid. module is not kept.
func Rewrite(module []byte, o Options) ([]byte, *Info, error) {
	m, err := parse(module, o)
	if err != nil {
		return nil, nil, err
	}
	w := &writer{m: m, fuel: m.globals, room: m.globals + 1, helperOf: map[helperKey]uint32{}, refOf: map[uint32]uint32{}}
	if err := w.measure(); err != nil {
		return nil, nil, err
	}
	m.info.Functions = len(m.bodies)
	w.typeIndex(funcType{}) // that of refill
	code, err := w.code()
	if err != nil {
		return nil, nil, err
	}
	m.info.Helpers = len(w.helpers)
	w.out = make([]byte, 0, len(module)+len(module)/8+256)
	w.out = append(w.out, header...)
	if err := w.assemble(code); err != nil {
		return nil, nil, err
	}
	return w.out, &m.info, nil
}

// code returns the content of the code section, and collects helpers and types.
func (w *writer) code() ([]byte, error) {
	out := make([]byte, 0, w.codeSize())
	var err error
	for f := range w.m.bodies {
		if w.bodyBuf, err = w.function(w.bodyBuf[:0], f); err != nil {
			return nil, err
		}
		out = append(uleb(out, uint32(len(w.bodyBuf))), w.bodyBuf...)
	}
	for _, h := range w.helpers {
		w.typeIndex(funcType{h.params, h.result})
		b := w.helperBody(h)
		out = append(uleb(out, uint32(len(b))), b...)
	}
	return out, nil
}

func (w *writer) codeSize() int {
	n := 0
	for i := range w.m.bodies {
		n += len(w.m.bodies[i].code)
	}
	return n + n/8
}

// assemble writes all sections, those of the original in their order.
func (w *writer) assemble(code []byte) error {
	added := []byte{secType, secImport, secGlobal, secExport}
	if len(w.helpers) > 0 {
		added = []byte{secType, secImport, secFunction, secGlobal, secExport, secCode}
	}
	before := func(place int) {
		for len(added) > 0 && order[added[0]] < place {
			w.section(section{id: added[0]}, code)
			added = added[1:]
		}
	}
	for _, s := range w.m.sections {
		if s.id == secCustom {
			if err := w.custom(s); err != nil {
				return err
			}
			continue
		}
		before(order[s.id])
		if len(added) > 0 && added[0] == s.id {
			added = added[1:]
		}
		w.section(s, code)
	}
	before(sections)
	return nil
}

func (w *writer) emit(id byte, content []byte) {
	w.out = append(uleb(append(w.out, id), uint32(len(content))), content...)
}

// section writes one section, rewritten. The original's is empty if it has none.
func (w *writer) section(s section, code []byte) {
	r := &reader{b: s.data}
	n := uint32(0)
	if len(s.data) > 0 && s.id != secStart && s.id != secDataCount {
		n = r.u32()
	}
	rest := s.data[r.pos:]
	switch s.id {
	case secType:
		b := append(uleb(nil, n+uint32(len(w.types))), rest...)
		for _, t := range w.types {
			b = append(uleb(append(b, typeFunc), uint32(len(t.params))), t.params...)
			b = append(uleb(b, uint32(len(t.results))), t.results...)
		}
		w.emit(s.id, b)
	case secImport:
		b := append(uleb(nil, n+1), rest...)
		b = append(name(name(b, Module), Refill), 0)
		w.emit(s.id, uleb(b, w.typeIndex(funcType{})))
	case secFunction:
		b := append(uleb(nil, n+uint32(len(w.helpers))), rest...)
		for _, h := range w.helpers {
			b = uleb(b, w.typeIndex(funcType{h.params, h.result}))
		}
		w.emit(s.id, b)
	case secTable:
		w.emit(s.id, w.tables())
	case secGlobal:
		w.emit(s.id, w.globals(r, n))
	case secExport:
		w.emit(s.id, w.exports(r, n))
	case secStart:
		w.emit(s.id, uleb(nil, w.m.renumber(r.u32())))
	case secElement:
		b := uleb(nil, n)
		for range n {
			w.m.element(r, maxTableEntries, &b)
		}
		w.emit(s.id, b)
	case secCode:
		w.emit(s.id, append(uleb(nil, uint32(len(w.m.bodies)+len(w.helpers))), code...))
	default:
		w.emit(s.id, s.data)
	}
}

// tables bounds how far tables may grow: table.grow beyond it answers -1, as it may.
func (w *writer) tables() []byte {
	own := w.m.tables[len(w.m.tables)-w.m.ownTables:]
	b := uleb(nil, uint32(len(own)))
	for _, t := range own {
		most := t.least + uint32((maxTableEntries-w.m.entries)/uint64(len(own)))
		if t.bounded {
			most = min(t.most, most)
		}
		b = uleb(uleb(append(b, t.elem, 1), t.least), most)
	}
	return b
}

// globals copies global variables, with functions renumbered, and adds the counters and
// the references.
func (w *writer) globals(r *reader, n uint32) []byte {
	b := uleb(nil, n+2+uint32(w.refs))
	for range n {
		b = append(b, r.take(2)...)
		w.m.constExpr(r, &b)
	}
	b = append(b, typeI64, 1, opI64Const, 0, opEnd)
	b = append(sleb(append(b, typeI64, 1, opI64Const), InitialRoom), opEnd)
	for range w.refs {
		b = append(b, typeFuncref, 1, opRefNull, typeFuncref, opEnd)
	}
	return b
}

func (w *writer) exports(r *reader, n uint32) []byte {
	b := uleb(nil, n+2)
	for range n {
		from := r.pos
		r.take(r.u32())
		kind := r.byte()
		b = append(b, r.b[from:r.pos]...)
		index := r.u32()
		if kind == 0 {
			index = w.m.renumber(index)
		}
		b = uleb(b, index)
	}
	b = uleb(append(name(b, Fuel), 3), w.fuel)
	return uleb(append(name(b, Room), 3), w.room)
}

func name(b []byte, s string) []byte { return append(uleb(b, uint32(len(s))), s...) }

// custom writes a custom section: names with functions renumbered, nothing that
// speaks of offsets in the code, and others as they are.
func (w *writer) custom(s section) error {
	r := &reader{b: s.data}
	switch title := r.name(); {
	case title == "name":
		b, ok := w.names(r)
		if !ok {
			return fmt.Errorf("offset 0x%x: the name section is malformed or too large", s.base)
		}
		w.emit(secCustom, append(name(nil, title), b...))
	case strings.HasPrefix(title, ".debug_"), strings.HasPrefix(title, "reloc."), title == "linking",
		title == "sourceMappingURL", title == "external_debug_info":
	default:
		w.emit(secCustom, s.data)
	}
	return nil
}
