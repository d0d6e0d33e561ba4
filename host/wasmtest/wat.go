package wasmtest

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// WAT assembles a module in the text format of WebAssembly. It knows what small guests
// need: one module of functions, imports of functions, one memory, globals, active data,
// exports and a start function; folded and plain instructions of the table below, with
// named or numbered indices; no tables, no passive segments, no floats. What it knows it
// encodes as wabt's wat2wasm does, byte for byte.
func WAT(src string) (wasm []byte, err error) {
	defer func() {
		r := recover()
		if e, ok := r.(watError); ok {
			wasm, err = nil, e
		} else if r != nil {
			panic(r)
		}
	}()
	r := &reader{src: src, line: 1}
	module := r.node()
	if r.skip(); r.at != len(src) || module.head() != "module" {
		return nil, errors.New("wat: want one (module ...)")
	}
	a := &assembler{}
	a.collect(module.list[1:])
	return a.encode(), nil
}

// An assembler is a module whose names are being resolved.
type assembler struct {
	types   []string // as sigs; see Module.Import
	imports [][]byte
	funcs   []watFunc // imported ones first
	defined int       // how many are not imported
	memory  []byte
	globals []watGlobal
	exports [][]byte
	data    [][]byte
	start   *node
	later   []func() // what needs all names
}

type watFunc struct {
	name   string
	typ    int
	locals []watLocal // parameters first
	params int
	body   []node
}

type watLocal struct{ name, typ string }

type watGlobal struct {
	name    string
	encoded []byte
}

// collect reads the fields of the module.
func (a *assembler) collect(fields []node) {
	for i := range fields {
		f := &fields[i]
		switch rest := f.list[min(1, len(f.list)):]; f.head() {
		case "import":
			a.importFunc(f, rest)
		case "func":
			a.function(rest)
		case "memory":
			a.memoryField(f, rest)
		case "global":
			a.global(f, rest)
		case "export":
			if len(rest) != 2 || len(rest[1].list) != 2 || rest[1].head() != "func" && rest[1].head() != "memory" {
				f.fail("want (export \"name\" (func $f)) or (memory 0)")
			}
			a.export(rest[0].text, rest[1].head(), &rest[1].list[1])
		case "data":
			a.dataField(f, rest)
		case "start":
			a.start = &rest[0]
		default:
			f.fail("a field that is not known: %q", f.head())
		}
	}
	for _, f := range a.later {
		f()
	}
}

func (a *assembler) importFunc(f *node, rest []node) {
	if len(rest) != 3 || rest[2].head() != "func" || a.defined > 0 {
		f.fail("want (import \"module\" \"name\" (func ...)), before all functions")
	}
	fn, _ := a.signature(rest[2].list[1:])
	a.funcs = append(a.funcs, fn)
	a.imports = append(a.imports, uleb(append(str(str(nil, rest[0].text), rest[1].text), 0), uint64(fn.typ)))
}

// signature reads a name, parameters, results and locals, and returns what follows.
func (a *assembler) signature(rest []node) (fn watFunc, body []node) {
	if len(rest) > 0 && rest[0].name() {
		fn.name, rest = rest[0].text, rest[1:]
	}
	var params, results string
	for ; len(rest) > 0; rest = rest[1:] {
		n := &rest[0]
		switch n.head() {
		case "export":
			at := len(a.funcs)
			name := n.list[1].text
			a.exports = append(a.exports, nil)
			slot := len(a.exports) - 1
			a.later = append(a.later, func() { a.exports[slot] = uleb(append(str(nil, name), 0), uint64(at)) })
		case "param", "local":
			vars := readVars(n)
			fn.locals = append(fn.locals, vars...)
			if n.head() == "param" {
				for _, v := range vars {
					params += sigType(n, v.typ)
				}
				fn.params = len(fn.locals)
			}
		case "result":
			for i := range n.list[1:] {
				results += sigType(n, n.list[i+1].text)
			}
		default:
			fn.typ = a.typeOf(params, results)
			return fn, rest
		}
	}
	fn.typ = a.typeOf(params, results)
	return fn, nil
}

// readVars reads (param $x i32) or (param i32 i32).
func readVars(n *node) []watLocal {
	if len(n.list) == 3 && n.list[1].name() {
		return []watLocal{{n.list[1].text, n.list[2].text}}
	}
	var vars []watLocal
	for _, t := range n.list[1:] {
		vars = append(vars, watLocal{typ: t.text})
	}
	return vars
}

func sigType(n *node, name string) string {
	switch name {
	case "i32":
		return "i"
	case "i64":
		return "I"
	}
	n.fail("a type that is not known: %q", name)
	return ""
}

func (a *assembler) typeOf(params, results string) int {
	sig := params + ">" + results
	if i := slices.Index(a.types, sig); i >= 0 {
		return i
	}
	a.types = append(a.types, sig)
	return len(a.types) - 1
}

func (a *assembler) function(rest []node) {
	fn, body := a.signature(rest)
	fn.body = body
	a.funcs = append(a.funcs, fn)
	a.defined++
}

func (a *assembler) memoryField(f *node, rest []node) {
	for len(rest) > 0 && rest[0].head() == "export" {
		a.exports = append(a.exports, append(str(nil, rest[0].list[1].text), 2, 0))
		rest = rest[1:]
	}
	switch len(rest) {
	case 1:
		a.memory = uleb([]byte{1, 0}, uint64(rest[0].integer(32)))
	case 2:
		a.memory = uleb(uleb([]byte{1, 1}, uint64(rest[0].integer(32))), uint64(rest[1].integer(32)))
	default:
		f.fail("want (memory least [most])")
	}
}

func (a *assembler) global(f *node, rest []node) {
	if len(rest) != 3 || !rest[0].name() || rest[1].head() != "mut" || rest[2].head() != "i32.const" {
		f.fail("want (global $name (mut i32) (i32.const n))")
	}
	init := sleb([]byte{0x7f, 1, 0x41}, rest[2].list[1].integer(32))
	a.globals = append(a.globals, watGlobal{rest[0].text, append(init, 0x0b)})
}

func (a *assembler) export(name, kind string, what *node) {
	a.exports = append(a.exports, nil)
	slot := len(a.exports) - 1
	a.later = append(a.later, func() {
		b := str(nil, name)
		if kind == "memory" {
			a.exports[slot] = append(b, 2, 0)
			return
		}
		a.exports[slot] = uleb(append(b, 0), a.funcIndex(what))
	})
}

func (a *assembler) dataField(f *node, rest []node) {
	if len(rest) < 2 || rest[0].head() != "i32.const" {
		f.fail("want (data (i32.const at) \"bytes\"...)")
	}
	var text []byte
	for _, s := range rest[1:] {
		text = append(text, s.text...)
	}
	d := append(sleb([]byte{0, 0x41}, rest[0].list[1].integer(32)), 0x0b)
	a.data = append(a.data, append(uleb(d, uint64(len(text))), text...))
}

func (a *assembler) funcIndex(n *node) uint64 {
	return index(n, len(a.funcs), func(i int) string { return a.funcs[i].name })
}

// index resolves a name, or a number, among n things.
func index(n *node, count int, name func(int) string) uint64 {
	if n.name() {
		for i := range count {
			if name(i) == n.text {
				return uint64(i)
			}
		}
	} else if v, err := strconv.ParseUint(n.text, 10, 31); err == nil && v < uint64(count) {
		return v
	}
	n.fail("%q is not defined", n.text)
	return 0
}

// encode writes the sections.
func (a *assembler) encode() []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	b = appendSection(b, 1, vec(len(a.types), func(d []byte, i int) []byte {
		params, results, _ := strings.Cut(a.types[i], ">")
		return valTypes(valTypes(append(d, 0x60), params), results)
	}))
	b = appendSection(b, 2, list(a.imports))
	defined := a.funcs[len(a.funcs)-a.defined:]
	b = appendSection(b, 3, vec(len(defined), func(d []byte, i int) []byte { return uleb(d, uint64(defined[i].typ)) }))
	b = appendSection(b, 5, a.memory)
	b = appendSection(b, 6, vec(len(a.globals), func(d []byte, i int) []byte { return append(d, a.globals[i].encoded...) }))
	b = appendSection(b, 7, list(a.exports))
	if a.start != nil {
		b = appendSection(b, 8, uleb(nil, a.funcIndex(a.start)))
	}
	b = appendSection(b, 10, vec(len(defined), func(d []byte, i int) []byte {
		code := a.code(&defined[i])
		return append(uleb(d, uint64(len(code))), code...)
	}))
	return appendSection(b, 11, list(a.data))
}

func list(items [][]byte) []byte {
	return vec(len(items), func(d []byte, i int) []byte { return append(d, items[i]...) })
}
