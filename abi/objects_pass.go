package abi

import (
	"encoding/binary"
	"strings"
)

// An ObjectPass is what the owner of a record ([ObjectStore.Record]) says about answers ahead: one
// that is like the answer in progress would not be stored, so that a standing order
// ([ForeignObjectStanding]) may let the request go by, and the answer with these edits. That is
// what caches call hit-for-miss.
//
// An answer is like another if it has the same status, the same lines, in the same order, of the
// fields in Same, where to have none is the same as well, and a line of each field in There.
type ObjectPass struct {
	Since   int64    // from when it is good, in seconds since 1970; it is before that as well
	Seconds int64    // for how long
	Same    []string // names of fields of the answer
	There   []string // likewise
	Edits   []FieldEdit
}

// Bounds of an ObjectPass: what is compared and edited at every answer is few.
const (
	MaxPassNames = 16   // in Same and There together
	MaxPassEdits = 16   // in Edits
	MaxPassText  = 1024 // bytes of all names, edits, and lines that are compared
)

// passHead is the size of the numbers of a pass: Since and Seconds as i64, and the lengths of
// what follows tags as u32: the names in Same and in There, joined by NUL, and the edits.
const passHead = 28

func (p *ObjectPass) appendHead(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(p.Since))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(p.Seconds))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(joinedSize(p.Same)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(joinedSize(p.There)))
	n := 0
	for i := range p.Edits {
		n += fieldEditHead + len(p.Edits[i].Name) + len(p.Edits[i].Value)
	}
	return binary.LittleEndian.AppendUint32(dst, uint32(n))
}

func (p *ObjectPass) appendTexts(dst []byte) []byte {
	return appendEdits(appendJoined(appendJoined(dst, p.Same), p.There), p.Edits)
}

// joinedSize is the length of list joined by NUL.
func joinedSize(list []string) int {
	n := max(len(list)-1, 0)
	for _, name := range list {
		n += len(name)
	}
	return n
}

// cutPass cuts a pass off the ends of s, if there is one: its numbers are in front, and
// its texts behind the rest.
func cutPass(there bool, s string) (p *ObjectPass, rest string, ok bool) {
	if !there {
		return nil, s, true
	}
	if len(s) < passHead {
		return nil, s, false
	}
	p = &ObjectPass{Since: le64(s), Seconds: le64(s[8:])}
	same, names, edits, s := uint64(le32(s[16:])), uint64(le32(s[20:])), uint64(le32(s[24:])), s[passHead:]
	if p.Since < 0 || p.Seconds <= 0 || p.Seconds > MaxPromise || same+names+edits > uint64(len(s)) {
		return nil, s, false
	}
	at := uint64(len(s)) - same - names - edits
	rest, s = s[:at], s[at:]
	if p.Same, ok = splitNames(s[:same], MaxPassNames); !ok {
		return p, rest, false
	}
	if p.There, ok = splitNames(s[same:same+names], MaxPassNames); !ok {
		return p, rest, false
	}
	var err error
	p.Edits, err = parseEdits(nil, s[same+names:])
	return p, rest, err == nil && p.bounded()
}

// splitNames returns the names in a text; nil if it is empty, and false if they are more than most.
func splitNames(text string, most int) ([]string, bool) {
	switch {
	case text == "":
		return nil, true
	case strings.Count(text, "\x00") >= most:
		return nil, false
	}
	return strings.Split(text, "\x00"), true
}

// bounded reports whether p is within the bounds that it can be held against here.
func (p *ObjectPass) bounded() bool {
	n := joinedSize(p.Same) + joinedSize(p.There)
	for i := range p.Edits {
		n += len(p.Edits[i].Name) + len(p.Edits[i].Value)
	}
	return len(p.Same)+len(p.There) <= MaxPassNames && len(p.Edits) <= MaxPassEdits && n <= MaxPassText
}

// PropertyPassed is the path of a property that is there in the callbacks for an answer whose
// request has gone by, because of a pass or as nothing was stored ([ObjectStanding.Misses]), and that the
// host has not dealt with alone: what [AppendPassed] makes. The request in these callbacks is as it went by.
const PropertyPassed = "wproxy\x00passed"

// AppendPassed appends the value of [PropertyPassed]: when the request went by, in seconds since
// 1970 by the guest's clock, as i64, the length of the record's key as u32, the key, and the
// record's metadata as they were then: none where nothing was stored. A record that says where variants are has some.
func AppendPassed(dst []byte, at int64, key string, meta []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(at))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(key)))
	return append(append(dst, key...), meta...)
}

// ParsePassed reads the value of [PropertyPassed]; key and meta are parts of s.
func ParsePassed(s string) (at int64, key, meta string, err error) {
	if len(s) < 12 || uint64(le32(s[8:])) > uint64(len(s)-12) {
		return 0, "", "", ErrObjects
	}
	n := 12 + int(le32(s[8:]))
	return le64(s), s[12:n], s[n:], nil
}
