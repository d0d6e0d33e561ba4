package abi

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Limits of a serialized map that ParsePairs accepts. The largest head that a listener
// can be told to let in has 10,000 lines and 1 MiB; a guest must be able to put it
// back, and to add to it. More is a mistake or an attack.
const (
	MaxPairs     = 16 << 10 // entries
	MaxPairBytes = 4 << 20  // bytes of the whole encoding
)

// What ParsePairs finds wrong.
var (
	ErrPairsTooLarge  = errors.New("abi: map has more than 16384 entries or 4 MiB")
	ErrPairsMalformed = errors.New("abi: malformed map encoding")
)

// A Pair is one entry of a header map.
type Pair struct{ Name, Value string }

// PairsSize returns the number of bytes that AppendPairs appends for p.
func PairsSize(p []Pair) int {
	n := 4 + 8*len(p)
	for i := range p {
		n += len(p[i].Name) + len(p[i].Value) + 2
	}
	return n
}

// AppendPairs appends the encoding of p to dst: a count, the lengths of every
// name and value, and then the names and values themselves, each followed by
// NUL; integers are little-endian and have 32 bits. Order and repeats are kept.
// An empty p is encoded as a count of 0.
func AppendPairs(dst []byte, p []Pair) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p)))
	for i := range p {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p[i].Name)))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p[i].Value)))
	}
	for i := range p {
		dst = append(dst, p[i].Name...)
		dst = append(dst, 0)
		dst = append(dst, p[i].Value...)
		dst = append(dst, 0)
	}
	return dst
}

// ParsePairs appends the entries encoded in s to dst and returns the extended
// slice. Names and values are cut from s without copying, as they are: the
// case of names is not changed and their bytes are not checked. The three ways
// to write an empty map (nothing, one NUL, a count of 0) are accepted; beyond
// that the parse is strict: the sizes must add up to exactly len(s), and every
// terminator must be there. On an error dst is returned as it came.
func ParsePairs(dst []Pair, s string) ([]Pair, error) {
	if s == "" || s == "\x00" {
		return dst, nil
	}
	if len(s) > MaxPairBytes {
		return dst, ErrPairsTooLarge
	}
	if len(s) < 4 {
		return dst, ErrPairsMalformed
	}
	n := u32(s)
	if n > MaxPairs { // as it is: an int may have 32 bits, one of which is the sign
		return dst, ErrPairsTooLarge
	}
	count := int(n)
	if len(s) < 4+8*count {
		return dst, ErrPairsMalformed
	}
	// Guests read every head with this, and pay for each instruction: hence positions, and no
	// strings that are cut off piece by piece.
	out, at := slices.Grow(dst, count), 4+8*count
	for i := range count {
		sizes := s[4+8*i:]
		name, value := uint64(u32(sizes)), uint64(u32(sizes[4:]))
		left := uint64(len(s) - at)
		if name+value+2 > left { // of 32 bits each: they do not overflow
			return dst, ErrPairsMalformed
		}
		mid := at + int(name)
		end := mid + 1 + int(value)
		if s[mid] != 0 || s[end] != 0 {
			return dst, ErrPairsMalformed
		}
		out = append(out, Pair{s[at:mid], s[mid+1 : end]})
		at = end + 1
	}
	if at != len(s) {
		return dst, ErrPairsMalformed
	}
	return out, nil
}

// u32 reads the little-endian integer at the start of s, which has 4 bytes at
// least.
func u32(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}
