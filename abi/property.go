package abi

import (
	"encoding/binary"
	"iter"
	"math"
	"strings"
)

// A property path is a list of parts joined by one NUL. A part may hold any
// byte but NUL, dots among them. One NUL at the end is tolerated and ignored, as
// some SDKs write it.

// JoinPath returns the path made of parts.
func JoinPath(parts ...string) string { return strings.Join(parts, "\x00") }

// TrimPath returns path without the one trailing NUL that some guests add. The
// result aliases path.
func TrimPath(path string) string { return strings.TrimSuffix(path, "\x00") }

// CutPath splits path around its first separator. more is false when first is
// the last part. The results alias path.
func CutPath(path string) (first, rest string, more bool) {
	return strings.Cut(path, "\x00")
}

// PathParts iterates over the parts of path. An empty path has none.
func PathParts(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		path := TrimPath(path)
		for more := path != ""; more; {
			var part string
			part, path, more = CutPath(path)
			if !yield(part) {
				return
			}
		}
	}
}

// AppendInt appends v as property values write signed integers, ports, codes
// and sizes: 8 bytes, little-endian, two's complement.
func AppendInt(dst []byte, v int64) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(v))
}

// AppendUint appends v as property values write unsigned integers: 8 bytes,
// little-endian.
func AppendUint(dst []byte, v uint64) []byte {
	return binary.LittleEndian.AppendUint64(dst, v)
}

// AppendBool appends v as one byte, 0 or 1.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendDouble appends v as 8 bytes, little-endian, IEEE 754.
func AppendDouble(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

// ParseInt reads what AppendInt, AppendDuration and AppendTime write; false if b
// does not have 8 bytes.
func ParseInt(b []byte) (int64, bool) {
	v, ok := ParseUint(b)
	return int64(v), ok
}

// ParseUint reads what AppendUint writes; false if b does not have 8 bytes.
func ParseUint(b []byte) (uint64, bool) {
	if len(b) != 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b), true
}

// ParseBool reads what AppendBool writes; false if b is not one byte 0 or 1.
func ParseBool(b []byte) (v, ok bool) {
	if len(b) != 1 || b[0] > 1 {
		return false, false
	}
	return b[0] == 1, true
}

// ParseDouble reads what AppendDouble writes; false if b does not have 8 bytes.
func ParseDouble(b []byte) (float64, bool) {
	v, ok := ParseUint(b)
	return math.Float64frombits(v), ok
}
