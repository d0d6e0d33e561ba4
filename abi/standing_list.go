package abi

import (
	"encoding/binary"
	"errors"
	"strings"
)

// ForeignStandingList is [ForeignStandingEdits] with more to say: edits of the heads of
// requests too, edits for some media types of answers, and values with a nonce. Its argument is
// what [AppendStandingList] makes; further calls, of both, add to it. There is no result. The
// status is BadArgument, and nothing of the call has been said, if it is malformed, or if there
// is an edit that ForeignStandingEdits refuses, or of host in a request.
const ForeignStandingList = "wproxy.fields.v2.standing"

// Bounds of what all calls of one on_configure say together, beside those of
// ForeignStandingEdits.
const (
	MaxStandingTypes = 512 // names in Types and Except
	MaxStandingMarks = 256 // in values
)

// MaxStandingMark is the longest mark, in bytes.
const MaxStandingMark = 64

// NonceSize is the length of a nonce, in bytes: 128 random bits in base64 (RFC 4648 4), without
// padding.
const NonceSize = 22

// A StandingEdits says which edits are made of which heads. The zero value of what is not Edits
// is for all answers.
type StandingEdits struct {
	// Request says that the edits are of the heads of requests. Types and Except are empty then.
	Request bool

	When EditsWhen

	// Types are the media types of the answers that the edits are for, in lower case: "text/html",
	// or "image/*" for all that begin with "image/"; none: all. Except are those that they are
	// not for, whatever Types says. An answer's type is that of the first line of content-type as
	// the answer comes, without parameters; one without such a line has none, and is of no type.
	Types, Except []string

	// Mark is what stands in values for the nonce of the exchange, a text of NonceSize bytes
	// that nobody can foresee, and that no other exchange and no other plugin has; "": nothing does.
	Mark string

	Edits []FieldEdit // at least one
}

// ErrStandingList is the error of an argument that is no list of standing edits.
var ErrStandingList = errors.New("malformed list of standing edits")

// standingHead is the size of what stands before the texts of a StandingEdits.
const standingHead = 24

// AppendStandingList appends the argument of [ForeignStandingList]: for each of list the type of the map
// and the condition, the lengths of the mark, of Types, of Except and of the edits, all as u32,
// the mark, Types and Except joined by NUL, and the edits as [AppendFieldEdits] has them after the kind.
func AppendStandingList(dst []byte, list []StandingEdits) []byte {
	for i := range list {
		s := &list[i]
		kind, types, except := MapResponseHeaders, strings.Join(s.Types, "\x00"), strings.Join(s.Except, "\x00")
		if s.Request {
			kind = MapRequestHeaders
		}
		at := len(dst) + 5*4 // the length of the edits
		for _, n := range [...]int{int(kind), int(s.When), len(s.Mark), len(types), len(except), 0} {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
		}
		dst = append(append(append(dst, s.Mark...), types...), except...)
		first := len(dst)
		dst = appendEdits(dst, s.Edits)
		binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-first))
	}
	return dst
}

// ParseStandingList returns what AppendStandingList has made; the strings are parts of args. It has no
// bounds but the length of args, and MaxFieldEdits of one StandingEdits.
func ParseStandingList(args string) (list []StandingEdits, err error) {
	for args != "" {
		var s StandingEdits
		if args, err = s.cut(args); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// cut cuts s off args.
func (s *StandingEdits) cut(args string) (rest string, err error) {
	if len(args) < standingHead {
		return "", ErrStandingList
	}
	kind, when := MapType(le32(args)), EditsWhen(le32(args[4:]))
	var sizes [4]uint64
	sum := uint64(0)
	for i := range sizes {
		sizes[i] = uint64(le32(args[8+4*i:]))
		sum += sizes[i]
	}
	args = args[standingHead:]
	if kind != MapRequestHeaders && kind != MapResponseHeaders || when > EditsWithout || sum > uint64(len(args)) || sizes[0] > MaxStandingMark {
		return "", ErrStandingList
	}
	s.Request, s.When = kind == MapRequestHeaders, when
	s.Mark, args = args[:sizes[0]], args[sizes[0]:]
	types, except := args[:sizes[1]], args[sizes[1]:sizes[1]+sizes[2]]
	args = args[sizes[1]+sizes[2]:]
	var ok1, ok2 bool
	s.Types, ok1 = splitTypes(types)
	s.Except, ok2 = splitTypes(except)
	s.Edits, err = parseEdits(nil, args[:sizes[3]])
	if !ok1 || !ok2 || s.Request && len(s.Types)+len(s.Except) > 0 || err != nil || len(s.Edits) == 0 {
		return "", ErrStandingList
	}
	return args[sizes[3]:], nil
}

// splitTypes returns the names that are joined by NUL in text; none is empty.
func splitTypes(text string) (list []string, ok bool) {
	for more := text != ""; more; {
		var name string
		if name, text, more = strings.Cut(text, "\x00"); name == "" {
			return nil, false
		}
		list = append(list, name)
	}
	return list, true
}
