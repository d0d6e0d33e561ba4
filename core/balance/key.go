package balance

import (
	"encoding/binary"
	"math/bits"
)

// Constants of the hash: odd numbers with bits that look random (the first is 2^64
// divided by the golden ratio).
const (
	golden = 0x9e3779b97f4a7c15
	prime1 = 0xa0761d6478bd642f
	prime2 = 0xe7037ed1a0b428db
)

// Key returns the hash of what ties requests to a server, never 0. It is the same in
// every process: several instances of wproxy send a key to the same server, and go on
// doing so after a restart. (That is why it is not hash/maphash. A client that
// chooses its keys can choose its server; what it cannot do is overload that beyond
// the bound.)
func Key(s string) uint64 {
	h := uint64(len(s))*prime1 ^ prime2
	var tail [8]byte
	for len(s) >= 8 {
		h = fold(h^le64(s), prime1)
		s = s[8:]
	}
	copy(tail[:], s)
	h = mix(fold(h^binary.LittleEndian.Uint64(tail[:]), prime2))
	return max(h, 1)
}

func le64(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// fold multiplies into 128 bits and folds the halves (cf. wyhash).
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo ^ a // a: else one product of 0 would make all that went before vanish
}

// mix is the finaliser of SplitMix64: every bit depends on every bit.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// Rehash returns another hash of what key is the hash of, for a second decision that must
// not depend on the first.
func Rehash(key uint64) uint64 { return mix(key ^ prime1) }
