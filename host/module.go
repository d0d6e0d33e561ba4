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
	kind         byte // 0 function, 1 table, 2 memory, 3 global, 4 tag
}

var importKinds = [...]string{"function", "table", "memory", "global", "tag"}

var errModule = errors.New("not a WebAssembly module: it ends early or a length is wrong")

// scanModule reads the import, memory and export sections of a module
// (WebAssembly core 5.5). It believes nothing: its input is any bytes.
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
		case 2:
			info.readImports(&s)
		case 5:
			info.readMemories(&s)
		case 7:
			info.readExports(&s)
		}
		if s.bad {
			return info, errModule
		}
	}
	return info, nil
}

func (m *moduleInfo) readImports(r *reader) {
	n := r.u32()
	if n > maxImports {
		r.bad = true
	}
	for range n {
		if r.bad {
			return
		}
		e := importEntry{module: r.name(), name: r.name(), kind: r.byte()}
		switch e.kind {
		case 0: // type index
			r.u32()
		case 1: // reference type, limits
			r.byte()
			r.limits()
		case 2:
			r.limits()
		case 3: // value type, mutability
			r.byte()
			r.byte()
		case 4: // attribute, type index
			r.byte()
			r.u32()
		default:
			r.bad = true
		}
		m.imports = append(m.imports, e)
	}
}

func (m *moduleInfo) readMemories(r *reader) {
	for range min(r.u32(), 1) { // more than one is refused by the compiler
		m.memory = true
		m.minPages = r.limits()
	}
}

func (m *moduleInfo) readExports(r *reader) {
	n := r.u32()
	if n > maxExports {
		r.bad = true
	}
	for range n {
		if r.bad {
			return
		}
		name, kind := r.name(), r.byte()
		r.u32()
		if kind == 0 {
			m.exports = append(m.exports, name)
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

func (r *reader) uleb() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) u32() uint32 {
	v := r.uleb()
	if v > 1<<32-1 {
		r.bad = true
		return 0
	}
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

func (r *reader) name() string { return string(r.take(r.u32())) }

// limits reads the limits of a table or memory and returns the least size.
func (r *reader) limits() uint64 {
	flags := r.byte()
	least := r.uleb()
	if flags&1 != 0 {
		r.uleb()
	}
	return least
}
