// Package wasmtest assembles small WebAssembly modules in Go, so that tests of the
// host and of what is built on it need no other compiler.
//
// A Module is a list of imports, functions, data and globals, put together in any
// order and encoded by Bytes. NewGuest starts one that already is a Proxy-Wasm
// guest; a function body is a list of Instr values:
//
//	m := wasmtest.NewGuest()
//	add := m.Env("proxy_add_header_map_value", "iiiii>i")
//	m.Func("proxy_on_request_headers", "iii>i",
//		wasmtest.Call(add, wasmtest.I32(0), m.Str("x-seen"), m.Str("yes")), wasmtest.Drop(),
//		wasmtest.I32(0))
//	wasm := m.Bytes()
//
// The package knows the binary format and nothing of the host: it can also make
// modules that a host must refuse.
package wasmtest

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// PageSize is the unit of linear memory, in bytes.
const PageSize = 65536

// dataStart is where Data and Slot begin to hand out addresses: 0 stays an
// address that nothing valid has.
const dataStart = 1024

// A Func is a function of a module, imported or defined.
type Func struct {
	module, name string // of an import
	imported     bool
	index        int // among the imports, or among the defined functions
	sig          string
	locals       string
	code         []Instr
	export       string
}

// A Global is a mutable global variable of type i32.
type Global struct {
	index int
	init  func() int32
}

// An Export adds an export of something that is no function, or a second name.
type export struct {
	name  string
	kind  byte
	index func() int
}

// A Module is a module being put together. The zero value is an empty module
// without memory.
type Module struct {
	// MinPages and MaxPages are the limits of the memory; MaxPages 0 means
	// none. There is a memory if one of them is not 0 or Memory is set. It starts
	// with more than MinPages if the data need it.
	MinPages, MaxPages uint32
	Memory             bool
	// NoMemoryExport leaves the memory without its export "memory".
	NoMemoryExport bool

	imports []*Func
	funcs   []*Func
	globals []*Global
	exports []export
	data    []segment
	custom  []section
	extra   [][]byte // encoded imports that are no functions
	start   *Func

	importedGlobals int

	next int32 // next free address
}

type segment struct {
	at    int32
	bytes []byte
}

type section struct {
	name string
	data []byte
}

// Import adds an imported function. sig lists the types of parameters and, after
// '>', of results: 'i' is i32, 'I' i64, 'f' f32, 'F' f64; "ii>i", "i", ">i", "".
func (m *Module) Import(module, name, sig string) *Func {
	f := &Func{module: module, name: name, imported: true, index: len(m.imports), sig: sig}
	m.imports = append(m.imports, f)
	return f
}

// Env imports a host function of Proxy-Wasm.
func (m *Module) Env(name, sig string) *Func { return m.Import("env", name, sig) }

// ImportMemory adds an imported memory, ImportGlobal an imported i32 constant:
// things that no Proxy-Wasm host offers.
func (m *Module) ImportMemory(module, name string) {
	m.extra = append(m.extra, append(str(str(nil, module), name), 2, 0, 1))
}

// ImportGlobal is described at ImportMemory.
func (m *Module) ImportGlobal(module, name string) {
	m.extra = append(m.extra, append(str(str(nil, module), name), 3, 0x7f, 0))
	m.importedGlobals++
}

// Func defines a function with the given body and, unless name is "", exports it
// under that name.
func (m *Module) Func(name, sig string, body ...Instr) *Func {
	return m.FuncLocals(name, sig, "", body...)
}

// FuncLocals is like Func for a function with local variables: a string of types,
// as in Import. They are numbered after the parameters.
func (m *Module) FuncLocals(name, sig, locals string, body ...Instr) *Func {
	f := &Func{index: len(m.funcs), sig: sig, locals: locals, code: body, export: name}
	m.funcs = append(m.funcs, f)
	if name != "" {
		m.Export(name, f)
	}
	return f
}

// Body gives f its instructions, for a function that calls itself or one that comes
// later.
func (f *Func) Body(body ...Instr) { f.code = body }

// Export exports f under a further name. Exports keep the order of the calls.
func (m *Module) Export(name string, f *Func) {
	m.exports = append(m.exports, export{name, 0, func() int { return m.funcIndex(f) }})
}

// ExportMemory exports the memory under a further name.
func (m *Module) ExportMemory(name string) {
	m.exports = append(m.exports, export{name, 2, func() int { return 0 }})
}

// Unexport takes back the export called name.
func (m *Module) Unexport(name string) {
	kept := m.exports[:0]
	for _, e := range m.exports {
		if e.name != name {
			kept = append(kept, e)
		}
	}
	m.exports = kept
}

// Start makes f the module's start function, which runs when it is instantiated.
func (m *Module) Start(f *Func) { m.start = f }

// Global adds a global variable.
func (m *Module) Global(init int32) *Global {
	g := &Global{index: len(m.globals), init: func() int32 { return init }}
	m.globals = append(m.globals, g)
	return g
}

// Data puts b into memory and returns its address.
func (m *Module) Data(b []byte) int32 {
	at := m.Slot(len(b))
	if len(b) > 0 {
		m.data = append(m.data, segment{at, b})
	}
	return at
}

// Slot reserves n bytes of memory, which are 0 at first, and returns their
// address, a multiple of 8.
func (m *Module) Slot(n int) int32 {
	if m.next == 0 {
		m.next = dataStart
	}
	at := m.next
	m.next += int32(n+7) &^ 7
	return at
}

// Str puts s into memory and returns an instruction that pushes its address and its
// length.
func (m *Module) Str(s string) Instr {
	at := m.Data([]byte(s))
	return Seq(I32(at), I32(int32(len(s))))
}

// Custom adds a custom section.
func (m *Module) Custom(name string, data []byte) {
	m.custom = append(m.custom, section{name, data})
}

// Bytes encodes the module. It panics on a mistake in a signature.
func (m *Module) Bytes() []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	types, typeOf := m.types()
	b = appendSection(b, 1, types)
	b = appendSection(b, 2, m.importSection(typeOf))
	b = appendSection(b, 3, vec(len(m.funcs), func(d []byte, i int) []byte { return uleb(d, uint64(typeOf[m.funcs[i].sig])) }))
	b = appendSection(b, 5, m.memorySection())
	b = appendSection(b, 6, vec(len(m.globals), func(d []byte, i int) []byte {
		return append(sleb(append(d, 0x7f, 1, 0x41), int64(m.globals[i].init())), 0x0b)
	}))
	b = appendSection(b, 7, m.exportSection())
	if m.start != nil {
		b = appendSection(b, 8, uleb(nil, uint64(m.funcIndex(m.start))))
	}
	b = appendSection(b, 10, vec(len(m.funcs), func(d []byte, i int) []byte { return m.appendCode(d, m.funcs[i]) }))
	b = appendSection(b, 11, vec(len(m.data), func(d []byte, i int) []byte {
		d = append(sleb(append(d, 0, 0x41), int64(m.data[i].at)), 0x0b)
		return append(uleb(d, uint64(len(m.data[i].bytes))), m.data[i].bytes...)
	}))
	b = appendSection(b, 0, m.nameSection())
	for _, c := range m.custom {
		b = appendSection(b, 0, append(str(nil, c.name), c.data...))
	}
	return b
}

func (m *Module) hasMemory() bool { return m.Memory || m.MinPages > 0 || m.MaxPages > 0 }

func (m *Module) funcIndex(f *Func) int {
	if f.imported {
		return f.index
	}
	return len(m.imports) + f.index
}

func (m *Module) types() ([]byte, map[string]int) {
	index := map[string]int{}
	var sigs []string
	for _, f := range append(append([]*Func{}, m.imports...), m.funcs...) {
		if _, ok := index[f.sig]; !ok {
			index[f.sig] = len(sigs)
			sigs = append(sigs, f.sig)
		}
	}
	return vec(len(sigs), func(d []byte, i int) []byte {
		params, results, _ := strings.Cut(sigs[i], ">")
		return valTypes(valTypes(append(d, 0x60), params), results)
	}), index
}

func (m *Module) importSection(typeOf map[string]int) []byte {
	return vec(len(m.imports)+len(m.extra), func(d []byte, i int) []byte {
		if i >= len(m.imports) {
			return append(d, m.extra[i-len(m.imports)]...)
		}
		f := m.imports[i]
		return uleb(append(str(str(d, f.module), f.name), 0), uint64(typeOf[f.sig]))
	})
}

func (m *Module) memorySection() []byte {
	if !m.hasMemory() {
		return nil
	}
	least := max(uint64(m.MinPages), (uint64(m.next)+PageSize-1)/PageSize)
	if m.MaxPages > 0 {
		return uleb(uleb([]byte{1, 1}, least), uint64(m.MaxPages))
	}
	return uleb([]byte{1, 0}, least)
}

func (m *Module) exportSection() []byte {
	all := m.exports
	if m.hasMemory() && !m.NoMemoryExport {
		all = append([]export{{"memory", 2, func() int { return 0 }}}, all...)
	}
	return vec(len(all), func(d []byte, i int) []byte {
		return uleb(append(str(d, all[i].name), all[i].kind), uint64(all[i].index()))
	})
}

// nameSection names the functions by their exports and imports, for stack traces.
func (m *Module) nameSection() []byte {
	names := vec(len(m.imports)+len(m.funcs), func(d []byte, i int) []byte {
		d = uleb(d, uint64(i))
		if i < len(m.imports) {
			return str(d, m.imports[i].name)
		}
		f := m.funcs[i-len(m.imports)]
		if f.export == "" {
			return str(d, fmt.Sprintf("func%d", f.index))
		}
		return str(d, f.export)
	})
	if names == nil {
		return nil
	}
	return appendSection(str(nil, "name"), 1, names)
}

func (m *Module) appendCode(d []byte, f *Func) []byte {
	body := vec(len(f.locals), func(d []byte, i int) []byte { return append(d, 1, valType(f.locals[i])) })
	if body == nil {
		body = []byte{0}
	}
	for _, in := range f.code {
		body = in(m, body)
	}
	body = append(body, 0x0b)
	return append(uleb(d, uint64(len(body))), body...)
}

func valTypes(d []byte, s string) []byte {
	d = uleb(d, uint64(len(s)))
	for i := range len(s) {
		d = append(d, valType(s[i]))
	}
	return d
}

func valType(c byte) byte {
	switch c {
	case 'i':
		return 0x7f
	case 'I':
		return 0x7e
	case 'f':
		return 0x7d
	case 'F':
		return 0x7c
	}
	panic(fmt.Sprintf("wasmtest: no value type %q: want one of i, I, f, F", c))
}

// vec encodes n elements with their count before them; nil for none.
func vec(n int, elem func(d []byte, i int) []byte) []byte {
	if n == 0 {
		return nil
	}
	d := uleb(nil, uint64(n))
	for i := range n {
		d = elem(d, i)
	}
	return d
}

// appendSection appends a section, or nothing when it has no content.
func appendSection(b []byte, id byte, content []byte) []byte {
	if content == nil {
		return b
	}
	return append(uleb(append(b, id), uint64(len(content))), content...)
}

func str(d []byte, s string) []byte { return append(uleb(d, uint64(len(s))), s...) }

func uleb(d []byte, v uint64) []byte { return binary.AppendUvarint(d, v) }

func sleb(d []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(d, c)
		}
		d = append(d, c|0x80)
	}
}
