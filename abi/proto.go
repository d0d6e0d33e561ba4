package abi

import (
	"encoding/binary"
	"iter"
	"maps"
	"math"
	"slices"
)

// The arguments of some foreign functions, and the values of some properties, are
// Protocol Buffers messages. There are a handful, all flat or made of structs, so they
// are read and written by hand: a dependency would be larger than all of them.

// A ProtoField is one field of a message. An integer is in Value, whatever its encoding;
// strings, bytes and messages are in Bytes, cut from the message.
type ProtoField struct {
	Number uint32
	Value  uint64
	Bytes  string
}

// Wire types of the encoding.
const (
	protoVarint  = 0
	protoFixed64 = 1
	protoBytes   = 2
	protoFixed32 = 5
)

// ProtoFields iterates over the fields of an encoded message, in the order in which they
// come. The second value is false in the last step if the message is malformed there;
// groups, which nobody has used for long, count as that.
func ProtoFields(message string) iter.Seq2[ProtoField, bool] {
	return func(yield func(ProtoField, bool) bool) {
		for message != "" {
			f, rest, ok := cutProtoField(message)
			if !yield(f, ok) || !ok {
				return
			}
			message = rest
		}
	}
}

func cutProtoField(s string) (f ProtoField, rest string, ok bool) {
	tag, s, ok := cutVarint(s)
	if f.Number = uint32(tag >> 3); !ok || tag>>3 == 0 || tag>>3 > math.MaxInt32 {
		return f, s, false
	}
	switch tag & 7 {
	case protoVarint:
		f.Value, s, ok = cutVarint(s)
		return f, s, ok
	case protoFixed64:
		if len(s) < 8 {
			return f, s, false
		}
		f.Value = uint64(u32(s)) | uint64(u32(s[4:]))<<32
		return f, s[8:], true
	case protoFixed32:
		if len(s) < 4 {
			return f, s, false
		}
		f.Value = uint64(u32(s))
		return f, s[4:], true
	case protoBytes:
		var n uint64
		if n, s, ok = cutVarint(s); !ok || n > uint64(len(s)) {
			return f, s, false
		}
		f.Bytes = s[:n]
		return f, s[n:], true
	}
	return f, s, false
}

// cutVarint cuts an integer of at most 64 bits off s.
func cutVarint(s string) (v uint64, rest string, ok bool) {
	for i := range min(len(s), binary.MaxVarintLen64) {
		c := s[i]
		if i == binary.MaxVarintLen64-1 && c > 1 {
			break
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, s[i+1:], true
		}
	}
	return 0, s, false
}

// AppendProtoBytes appends a field of type string, bytes or message. An empty one is
// left out, as the encoding has it.
func AppendProtoBytes(dst []byte, number uint32, value string) []byte {
	if value == "" {
		return dst
	}
	return appendProtoBytes(dst, number, value)
}

// appendProtoBytes is AppendProtoBytes for elements that count even if they are empty.
func appendProtoBytes(dst []byte, number uint32, value string) []byte {
	dst = binary.AppendUvarint(dst, uint64(number)<<3|protoBytes)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// AppendProtoUint appends a field of an integer type, bool or enum. 0 is left out.
func AppendProtoUint(dst []byte, number uint32, value uint64) []byte {
	if value == 0 {
		return dst
	}
	return binary.AppendUvarint(binary.AppendUvarint(dst, uint64(number)<<3|protoVarint), value)
}

// AppendStruct appends m as a google.protobuf.Struct, its keys sorted. Values are
// strings, bools, ints, float64s, []any and map[string]any; text(v) stands for others.
// What is nested deeper than depth is left out.
func AppendStruct(dst []byte, m map[string]any, depth int, text func(any) string) []byte {
	const fields, key, value = 1, 1, 2
	if depth <= 0 {
		return dst
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		entry := AppendProtoBytes(nil, key, k)
		entry = appendProtoBytes(entry, value, string(appendStructValue(nil, m[k], depth-1, text)))
		dst = appendProtoBytes(dst, fields, string(entry))
	}
	return dst
}

// appendStructValue appends v as a google.protobuf.Value. It is a oneof: the field that
// is there counts, also when it is 0 or empty.
func appendStructValue(dst []byte, v any, depth int, text func(any) string) []byte {
	const number, str, boolean, structure, list, values = 2, 3, 4, 5, 6, 1
	switch x := v.(type) {
	case string:
		return appendProtoBytes(dst, str, x)
	case bool:
		b := byte(0)
		if x {
			b = 1
		}
		return append(dst, boolean<<3|protoVarint, b)
	case int:
		return appendStructValue(dst, float64(x), depth, text)
	case int64:
		return appendStructValue(dst, float64(x), depth, text)
	case float64:
		return AppendDouble(append(dst, number<<3|protoFixed64), x)
	case map[string]any:
		return appendProtoBytes(dst, structure, string(AppendStruct(nil, x, depth, text)))
	case []any:
		var l []byte
		for _, e := range x {
			if depth > 0 {
				l = appendProtoBytes(l, values, string(appendStructValue(nil, e, depth-1, text)))
			}
		}
		return appendProtoBytes(dst, list, string(l))
	}
	return appendProtoBytes(dst, str, text(v))
}
