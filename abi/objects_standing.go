package abi

import (
	"encoding/binary"
	"errors"
)

// ForeignObjectStanding has the host look by itself, at the head of a request and before
// the guest is called, for what is stored, and answer with it if that was promised
// ([ObjectPromise]). A root context says so, once, inside of on_configure: it is a standing
// order for the exchanges of that context. Its argument is what [ObjectStanding.Append]
// makes. There is no result. The guest is called as ever for what the order is not about.
const ForeignObjectStanding = "wproxy.objects.v1.standing"

// An ObjectStanding is the argument of [ForeignObjectStanding]. The order is about requests
// by GET and HEAD that end with their head, have none of the fields in Absent and are no
// refresh. The key that is looked for is scheme "://" authority target "\n" and the name of
// the route, as properties and pseudo fields have them.
type ObjectStanding struct {
	Absent []string // names of request fields, in lower case

	AgeField  string // of the answer, that is set to its age in seconds; "": none
	TTLField  string // that is set to TTLPrefix and the seconds that are left; "": none
	TTLPrefix string

	LogField, LogValue string // of the access log line; "": none

	// A counter of the plugin goes up by one for each answer. Its name is that of the
	// route between these; both "": there is none.
	CounterHead, CounterTail string

	// What takes the places of LogValue and CounterTail for a request that goes by because of
	// an [ObjectPass]; both "": none does.
	PassValue, PassTail string
}

// Bounds of an ObjectStanding.
const (
	MaxStandingFields = 256  // names in Absent
	MaxStandingText   = 1024 // bytes of each text: what is written for every answer is no longer
)

// ErrStanding is the error of a standing order that is malformed.
var ErrStanding = errors.New("malformed standing order")

// standingPass is set in the length of the first text if PassValue and PassTail are there.
const standingPass = 1 << 31

// Passes reports whether requests may go by because of an ObjectPass.
func (o *ObjectStanding) Passes() bool { return o.PassValue != "" || o.PassTail != "" }

// texts are those that every order has.
func (o *ObjectStanding) texts() [7]*string {
	return [7]*string{&o.AgeField, &o.TTLField, &o.TTLPrefix, &o.LogField, &o.LogValue, &o.CounterHead, &o.CounterTail}
}

// Append appends the argument: a list of texts, each its length as u32 and its bytes.
// AgeField, TTLField, TTLPrefix, LogField, LogValue, CounterHead and CounterTail come first,
// then PassValue and PassTail, if they are not both empty, which the highest bit of the first
// length says, and then the names in Absent.
func (o *ObjectStanding) Append(dst []byte) []byte {
	first := len(dst)
	for _, t := range o.texts() {
		dst = append(binary.LittleEndian.AppendUint32(dst, uint32(len(*t))), *t...)
	}
	if o.Passes() {
		dst[first+3] |= standingPass >> 24
		dst = append(binary.LittleEndian.AppendUint32(dst, uint32(len(o.PassValue))), o.PassValue...)
		dst = append(binary.LittleEndian.AppendUint32(dst, uint32(len(o.PassTail))), o.PassTail...)
	}
	for _, name := range o.Absent {
		dst = append(binary.LittleEndian.AppendUint32(dst, uint32(len(name))), name...)
	}
	return dst
}

// Parse reads the argument, of which the strings are parts.
func (o *ObjectStanding) Parse(s string) error {
	*o = ObjectStanding{}
	texts := o.texts()
	list, passes := texts[:], len(s) >= 4 && le32(s)&standingPass != 0
	if passes {
		list = append(list, &o.PassValue, &o.PassTail)
	}
	for i, t := range list {
		var ok bool
		mask := ^uint32(0)
		if i == 0 && passes {
			mask = ^uint32(standingPass)
		}
		if *t, s, ok = cutMasked(s, mask); !ok {
			return ErrStanding
		}
	}
	if passes && !o.Passes() {
		return ErrStanding
	}
	for s != "" {
		name, rest, ok := cutText(s)
		if !ok || len(o.Absent) == MaxStandingFields {
			return ErrStanding
		}
		o.Absent, s = append(o.Absent, name), rest
	}
	return nil
}

// cutText cuts a text with its length before it off s.
func cutText(s string) (text, rest string, ok bool) { return cutMasked(s, ^uint32(0)) }

// cutMasked is cutText where only the bits of mask are of the length.
func cutMasked(s string, mask uint32) (text, rest string, ok bool) {
	if len(s) < 4 || uint64(le32(s)&mask) > uint64(min(len(s)-4, MaxStandingText)) {
		return "", "", false
	}
	n := 4 + int(le32(s)&mask)
	return s[4:n], s[n:], true
}

// An ObjectPromise is what the owner of a stored message says about it ahead: that it may be
// served as it is, to whoever asks, until it is Lifetime seconds old. It is Age seconds old at
// Since, and no younger before. The zero value promises nothing.
type ObjectPromise struct {
	Since    int64 // seconds since 1970
	Age      int64 // seconds
	Lifetime int64 // seconds
}

// MaxPromise is the most that Age and Lifetime may be (RFC 9111, 1.2.2).
const MaxPromise = 1 << 31

const promiseSize = 24

func (p *ObjectPromise) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(p.Since))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(p.Age))
	return binary.LittleEndian.AppendUint64(dst, uint64(p.Lifetime))
}

// parse reads what append has made, which is at least promiseSize long.
func (p *ObjectPromise) parse(s string) bool {
	*p = ObjectPromise{Since: le64(s), Age: le64(s[8:]), Lifetime: le64(s[16:])}
	return p.Since >= 0 && p.Age >= 0 && p.Age <= MaxPromise && p.Lifetime > 0 && p.Lifetime <= MaxPromise
}

// cutPromise cuts a promise off s, if there is one.
func cutPromise(there bool, s string) (p ObjectPromise, rest string, ok bool) {
	if !there {
		return p, s, true
	}
	if len(s) < promiseSize || !p.parse(s) {
		return p, s, false
	}
	return p, s[promiseSize:], true
}
