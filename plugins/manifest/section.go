package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// SectionName is the name of the custom section that holds a manifest.
const SectionName = "wproxy.manifest"

// header is the magic number and version of a WebAssembly module.
const header = "\x00asm\x01\x00\x00\x00"

// A Section is a section of a module (WebAssembly core 5.5.2).
type Section struct {
	ID     byte   // 0 is a custom section
	Name   string // of a custom section, or what the specification calls the section
	Offset int    // of its first byte in the module
	Size   int    // bytes, with its head

	content []byte // what follows the name of a custom section
}

// sectionNames are the sections by id.
var sectionNames = [...]string{
	"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "datacount",
}

var errModule = errors.New("not a WebAssembly module")

// Sections lists the sections of a module, in its order. It looks at their heads only.
func Sections(wasm []byte) ([]Section, error) {
	if !strings.HasPrefix(string(wasm[:min(len(wasm), len(header))]), header) {
		return nil, fmt.Errorf("%w of version 1", errModule)
	}
	var list []Section
	for off := len(header); off < len(wasm); {
		if len(list) == maxSections {
			return nil, fmt.Errorf("%w: more than %d sections", errModule, maxSections)
		}
		s, err := section(wasm, off)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
		off += s.Size
	}
	return list, nil
}

// section reads the section at off.
func section(wasm []byte, off int) (Section, error) {
	s := Section{ID: wasm[off], Offset: off}
	content, n := cut(wasm[off+1:])
	if n < 0 {
		return s, fmt.Errorf("%w: the section at byte %d ends early", errModule, off)
	}
	s.Size = 1 + n
	switch {
	case s.ID == 0:
		name, n := cut(content)
		if n < 0 || !utf8.Valid(name) {
			return s, fmt.Errorf("%w: the name of the section at byte %d is malformed", errModule, off)
		}
		s.Name, s.content = string(name), content[n:]
	case int(s.ID) < len(sectionNames):
		s.Name = sectionNames[s.ID]
	default:
		return s, fmt.Errorf("%w: section %d at byte %d is not one of WebAssembly 2.0", errModule, s.ID, off)
	}
	return s, nil
}

// cut returns the bytes that follow their length in b, and where they end; -1 if b is
// too short.
func cut(b []byte) (content []byte, end int) {
	size, n := binary.Uvarint(b)
	if n <= 0 || n > 5 || size > uint64(len(b)-n) {
		return nil, -1
	}
	end = n + int(size)
	return b[n:end], end
}

// find returns the content of the section with the manifest, nil if there is none. Two are
// an error: whoever reads the first and whoever reads the last would not agree.
func find(wasm []byte) ([]byte, error) {
	sections, err := Sections(wasm)
	if err != nil {
		return nil, err
	}
	var content []byte
	for _, s := range sections {
		switch {
		case s.ID != 0 || s.Name != SectionName:
		case content != nil:
			return nil, fmt.Errorf("it has two sections %s", SectionName)
		case len(s.content) > maxManifest:
			return nil, fmt.Errorf("its section %s has %d bytes; the most is %d", SectionName, len(s.content), maxManifest)
		default:
			content = append([]byte{}, s.content...) // not nil, and wasm is not kept
		}
	}
	return content, nil
}

// Append returns wasm with m in a section at its end. wasm is not changed, and must
// not have a manifest.
func Append(wasm []byte, m *Manifest) ([]byte, error) {
	if old, err := find(wasm); err != nil {
		return nil, err
	} else if old != nil {
		return nil, fmt.Errorf("it has a section %s already", SectionName)
	}
	data, err := m.encode()
	if err != nil {
		return nil, err
	}
	content := binary.AppendUvarint(nil, uint64(len(SectionName)))
	content = append(append(content, SectionName...), data...)
	out := make([]byte, 0, len(wasm)+len(content)+8)
	out = append(append(out, wasm...), 0)
	out = binary.AppendUvarint(out, uint64(len(content)))
	return append(out, content...), nil
}

// Read returns the manifest of a module, nil if it has none. wasm is not kept.
func Read(wasm []byte) (*Manifest, error) {
	data, err := find(wasm)
	if err != nil || data == nil {
		return nil, err
	}
	m, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("its section %s: %w", SectionName, err)
	}
	return m, nil
}
