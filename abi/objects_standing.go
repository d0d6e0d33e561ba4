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
const ForeignObjectStanding = "wproxy.objects.v2.standing"

// An ObjectStanding is the argument of [ForeignObjectStanding]. The order is about requests
// by GET and HEAD that end with their head, have none of the fields in Absent and are no
// refresh. The key that is looked for is scheme "://" authority target "\n" and the name of
// the route, as properties and pseudo fields have them, and the parts in Key.
type ObjectStanding struct {
	Absent []string // names of request fields, in lower case

	// Key are parts of a key behind the route, each a kind and a name: "cookie:NAME", "list:NAME" or "set:NAME". Each is a
	// NUL and the part as it is said, with the name of a field in lower case, so that what was stored with other parts is not taken
	// for what these find, and, if the request has it, a colon and its value. That of a cookie is the one of the first pair of
	// that name in the lines of Cookie (RFC 6265, 5.4). That of a list is the members of all lines of that field
	// (RFC 9110, 5.6.1) without white space around them and empty ones, joined by commas; quotes mean nothing. That of a set is the same, but members
	// are in lower case and without white space, and, if there are no more than MaxSetMembers, sorted by their bytes.
	Key []string

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

	// Misses says that a request goes by as well for whose key nothing is found, or a record with an [ObjectVariant] and nothing
	// where that says. Nothing becomes of the answer to a HEAD; that to a
	// GET is stored as an [ObjectModel] says, or shown to the guest. It takes PassValue or PassTail. With Joins such a request leads the
	// flight of its key, as [ForeignObjectJoin] has it, and does not go by if another one does; but one that has any of the fields in
	// MissAlone goes by alone, whoever is on the way: its answer may be for nobody else, and what is right for it is said by other models.
	Misses, Joins bool
	MissAlone     []string // in lower case

	// Repeats are names of request fields, in lower case, by which a request is for another answer than the
	// message as it is: one that has any of them neither gets that, nor does it go by. But the host
	// may repeat, to it and to others, what the guest has answered at the head of a request with a stored message
	// and [ObjectServe.Repeat], as if the guest were asked once more: to a request that the order is about, with
	// the same key and the same method, that has the very same lines, in the same order, of the fields in
	// Repeats and in ObjectServe.Repeat, where to have none is the same as well. It may for as long as the
	// promise of that message is good, and neither the message, nor what is stored under the key of the request, has
	// been stored anew, updated, or removed. Edits that set AgeField or TTLField set them to what they
	// are then.
	Repeats []string

	// SafeMethods are methods, beside GET and HEAD, of requests that change nothing; none: this is not ordered. It takes PassValue or
	// PassTail, as what goes by then may be shown later. A request by any method but GET, HEAD and those in OwnMethods, which are the
	// guest's, goes by, with or without a body and whatever fields it has. MethodValue and MethodTail take the places of LogValue and
	// CounterTail for it. If its method is not in SafeMethods, at the head of its answer, if that has a status from 200 to 399 (RFC 9111, 4.4), what is under keys that
	// begin with its URL and "\n" is deleted, as by [ObjectPrefix]; but if the answer has one of the fields in UnsafeShown, it
	// is shown to the guest instead, as one is that is not like its ObjectPass.
	SafeMethods, OwnMethods []string
	UnsafeShown             []string // in lower case
	MethodValue, MethodTail string
}

// Bounds of an ObjectStanding.
const (
	MaxStandingFields = 256  // names in Absent; likewise in each other list
	MaxStandingText   = 1024 // bytes of each text: what is written for every answer is no longer
	MaxSetMembers     = 64   // of a part of the key that are sorted. Browsers send a dozen; who sends more wants it to take long
)

// ErrStanding is the error of a standing order that is malformed.
var ErrStanding = errors.New("malformed standing order")

// What is set in the length of the first text: PassValue and PassTail are there, Misses, Joins, Repeats are
// there, SafeMethods are, and Key is.
const (
	standingPass   = 1 << 31
	standingMiss   = 1 << 30
	standingJoin   = 1 << 29
	standingRepeat = 1 << 28
	standingUnsafe = 1 << 27
	standingKey    = 1 << 26
	standingFlags  = standingPass | standingMiss | standingJoin | standingRepeat | standingUnsafe | standingKey
)

// Passes reports whether requests may go by because of an ObjectPass.
func (o *ObjectStanding) Passes() bool { return o.PassValue != "" || o.PassTail != "" }

// texts are those that every order has.
func (o *ObjectStanding) texts() [7]*string {
	return [7]*string{&o.AgeField, &o.TTLField, &o.TTLPrefix, &o.LogField, &o.LogValue, &o.CounterHead, &o.CounterTail}
}

// Append appends the argument: a list of texts, each its length as u32 and its bytes.
// AgeField, TTLField, TTLPrefix, LogField, LogValue, CounterHead and CounterTail come first,
// then PassValue and PassTail, if they are not both empty, which the highest bit of the first
// length says, then the names in MissAlone, joined by NUL, if the second highest says Misses (the
// third one is Joins), the names in Repeats, if there are any, which the fourth says, likewise, then SafeMethods, if
// there are any, which the fifth says, OwnMethods and UnsafeShown, likewise, MethodValue and MethodTail, then Key, if there is any, which the sixth
// says, likewise, and then the names in Absent.
func (o *ObjectStanding) Append(dst []byte) []byte {
	first := len(dst)
	for _, t := range o.texts() {
		dst = appendText(dst, *t)
	}
	if o.Passes() {
		dst[first+3] |= standingPass >> 24
		dst = appendText(dst, o.PassValue)
		dst = appendText(dst, o.PassTail)
	}
	if o.Misses {
		dst[first+3] |= standingMiss >> 24
		dst = appendNames(dst, o.MissAlone)
	}
	if o.Joins {
		dst[first+3] |= standingJoin >> 24
	}
	if len(o.Repeats) > 0 {
		dst[first+3] |= standingRepeat >> 24
		dst = appendNames(dst, o.Repeats)
	}
	if len(o.SafeMethods) > 0 {
		dst[first+3] |= standingUnsafe >> 24
		dst = appendNames(appendNames(appendNames(dst, o.SafeMethods), o.OwnMethods), o.UnsafeShown)
		dst = appendText(appendText(dst, o.MethodValue), o.MethodTail)
	}
	if len(o.Key) > 0 {
		dst[first+3] |= standingKey >> 24
		dst = appendNames(dst, o.Key)
	}
	for _, name := range o.Absent {
		dst = appendText(dst, name)
	}
	return dst
}

// appendNames appends names joined by NUL, with their length before them.
//
//go:noinline // guests say it once, and are to be small
func appendNames(dst []byte, list []string) []byte {
	return appendJoined(binary.LittleEndian.AppendUint32(dst, uint32(joinedSize(list))), list)
}

// appendText appends a text with its length before it.
//
//go:noinline // likewise
func appendText(dst []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(s))), s...)
}

// Parse reads the argument, of which the strings are parts.
func (o *ObjectStanding) Parse(s string) error {
	*o = ObjectStanding{}
	texts := o.texts()
	flags := uint32(0)
	if len(s) >= 4 {
		flags = le32(s) & standingFlags
	}
	list, absent, repeats, methods, own, shown, key := texts[:], "", "", "", "", "", ""
	if flags&standingPass != 0 {
		list = append(list, &o.PassValue, &o.PassTail)
	}
	if flags&standingMiss != 0 {
		list = append(list, &absent)
	}
	if flags&standingRepeat != 0 {
		list = append(list, &repeats)
	}
	if flags&standingUnsafe != 0 {
		list = append(list, &methods, &own, &shown, &o.MethodValue, &o.MethodTail)
	}
	if flags&standingKey != 0 {
		list = append(list, &key)
	}
	mask := ^flags // of the first one
	for _, t := range list {
		var ok bool
		if *t, s, ok = cutMasked(s, mask); !ok {
			return ErrStanding
		}
		mask = ^uint32(0)
	}
	o.Misses, o.Joins = flags&standingMiss != 0, flags&standingJoin != 0
	for _, l := range [...]struct {
		to    *[]string
		names string
	}{{&o.MissAlone, absent}, {&o.Repeats, repeats}, {&o.SafeMethods, methods}, {&o.OwnMethods, own}, {&o.UnsafeShown, shown}, {&o.Key, key}} {
		var ok bool
		if *l.to, ok = splitNames(l.names, MaxStandingFields); !ok {
			return ErrStanding
		}
	}
	if flags&standingRepeat != 0 && repeats == "" || flags&standingUnsafe != 0 && methods == "" || flags&standingKey != 0 && key == "" {
		return ErrStanding
	}
	if flags&standingPass != 0 && !o.Passes() || (o.Misses || methods != "") && !o.Passes() || o.Joins && !o.Misses {
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
