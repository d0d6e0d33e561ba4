package host

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A moduleInfo is what is read from a module beside what wazero tells: wazero has
// no list of imports that are no functions, and no order of exports.
type moduleInfo struct {
	imports  []importEntry // all kinds, in order
	exports  []string      // names of functions, in order
	minPages uint64
	memory   bool
}

type importEntry struct {
	module, name string
	kind         byte // 0 function, 1 table, 2 memory, 3 global
}

var importKinds = [...]string{"function", "table", "memory", "global"}

var errModule = errors.New("not a WebAssembly module: it ends early or a length is wrong")

// scanModule reads the import, memory and export sections of a module
// (WebAssembly core 5.5). It believes nothing: its input is any bytes. The other
// sections are walked because wazero allocates what a count says before it has seen
// that many elements: 200 bytes could ask for 40 GiB, and kill the process.
func scanModule(wasm []byte) (info moduleInfo, err error) {
	const header = "\x00asm\x01\x00\x00\x00"
	if len(wasm) < len(header) || string(wasm[:4]) != header[:4] {
		return info, errors.New("not a WebAssembly module: it does not start with \\0asm")
	}
	if string(wasm[:len(header)]) != header {
		return info, fmt.Errorf("WebAssembly version %d, layer %d (a component?): want a core module of version 1",
			binary.LittleEndian.Uint16(wasm[4:]), binary.LittleEndian.Uint16(wasm[6:]))
	}
	for r := (reader{b: wasm[len(header):]}); len(r.b) > 0; {
		id := r.byte()
		s := reader{b: r.take(r.u32())}
		if r.bad {
			return info, errModule
		}
		switch id {
		case 0:
			scanCustom(&s)
		case 1:
			scanTypes(&s)
		case 2:
			info.readImports(&s)
		case 4:
			scanTables(&s)
		case 5:
			info.readMemories(&s)
		case 6:
			scanGlobals(&s)
		case 7:
			info.readExports(&s)
		case 9:
			scanElements(&s)
		case 10:
			scanCode(&s)
		case 11:
			scanData(&s)
		case 3, 8, 12: // functions, start, data count: numbers only
			scanNumbers(&s, id == 3)
		default:
			return info, fmt.Errorf("section %d is not one of WebAssembly 2.0", id)
		}
		if s.bad || len(s.b) > 0 {
			return info, fmt.Errorf("malformed or too large: section %d", id)
		}
	}
	return info, nil
}

func (m *moduleInfo) readImports(r *reader) {
	for range r.count(maxImports) {
		e := importEntry{module: r.name(), name: r.name(), kind: r.byte()}
		switch e.kind {
		case 0: // type index
			r.u32()
		case 1: // reference type, limits
			r.refType()
			r.limits()
		case 2:
			r.limits()
		case 3: // value type, mutability
			r.valType()
			r.byte()
		default:
			r.bad = true
		}
		if r.bad {
			return
		}
		m.imports = append(m.imports, e)
	}
}

func (m *moduleInfo) readMemories(r *reader) {
	for range r.count(1) {
		m.memory = true
		m.minPages = r.limits()
	}
}

func (m *moduleInfo) readExports(r *reader) {
	for range r.count(maxExports) {
		name, kind := r.name(), r.byte()
		r.u32()
		if kind == 0 {
			m.exports = append(m.exports, name)
		}
	}
}
