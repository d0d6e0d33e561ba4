package objects

import (
	"encoding/binary"
	"iter"
)

// A Field is one field line.
type Field struct{ Name, Value string }

// Fields are field lines in the form that they are kept in: of each the lengths of its name and its
// value, as varints, and both. That is one piece of memory, without pointers: of a million of
// heads the collector has a million texts to look at, and none to look into. Pack and AppendField
// make them; the zero value is empty.
type Fields string

// AppendField appends a line to Fields in the making.
func AppendField(dst []byte, name, value string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(name)))
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(append(dst, name...), value...)
}

// Pack returns a list of lines as Fields.
func Pack(list ...Field) Fields {
	var b []byte
	for i := range list {
		b = AppendField(b, list[i].Name, list[i].Value)
	}
	return Fields(b)
}

// All returns the lines, in their order. Names and values are parts of f.
func (f Fields) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := string(f); len(rest) > 1; {
			name, value, text := int(rest[0]), int(rest[1]), rest[2:]
			if name|value >= 0x80 {
				name, value, text = cutLengths(rest)
			}
			end := name + value
			if !yield(text[:name], text[name:end]) {
				return
			}
			rest = text[end:]
		}
	}
}

// cutLengths reads the lengths of a line that has a long name or value.
func cutLengths(text string) (name, value int, rest string) {
	name, text = cutLength(text)
	value, text = cutLength(text)
	return name, value, text
}

// cutLength reads a varint from the begin of text.
func cutLength(text string) (n int, rest string) {
	for i, shift := 0, 0; ; i, shift = i+1, shift+7 {
		b := text[i]
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n, text[i+1:]
		}
	}
}
