package abi

import "encoding/binary"

// Bounds of [ObjectServe.Repeat]: what is compared at every request is few.
const (
	MaxRepeatNames = 32   // in Repeat
	MaxRepeatText  = 1024 // bytes of all names, edits, the key, and lines that are compared; what is longer is not kept
)

// AppendNames appends a list of names: how many there are as u32, and each with its length as u32
// before it.
func AppendNames(dst []byte, names []string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(names)))
	for _, name := range names {
		dst = appendText(dst, name)
	}
	return dst
}

// ParseNames appends the names in s, which is what AppendNames has made, to dst; they are parts of
// s. It reads no further than s is right.
func ParseNames(dst []string, s string) []string {
	if len(s) < 4 {
		return dst
	}
	n, s := le32(s), s[4:]
	for ; n > 0 && len(s) >= 4 && uint64(le32(s)) <= uint64(len(s)-4); n-- {
		end := 4 + int(le32(s))
		dst, s = append(dst, s[4:end]), s[end:]
	}
	return dst
}

// namesSize is how long the list of names is that s begins with; 0: there is none, or it has too many.
func namesSize(s string) int {
	if len(s) < 4 || le32(s) > MaxRepeatNames {
		return 0
	}
	at := 4
	for range le32(s) {
		if len(s)-at < 4 || uint64(le32(s[at:])) > uint64(len(s)-at-4) {
			return 0
		}
		at += 4 + int(le32(s[at:]))
	}
	return at
}
