package abi

import "encoding/binary"

// ForeignStandingEdits says, inside of on_configure, which edits the host makes of the head of
// every answer, by itself, where on_response_headers would be called, and before it is. Its
// argument is what [AppendStandingEdits] makes; further calls add to it. There is no result.
// The status is BadArgument, and nothing has been said, if an edit is one that
// [ForeignEditFields] would refuse, or of a pseudo field or content-length, which are more
// than a line.
const ForeignStandingEdits = "wproxy.fields.v1.standing"

// Bounds of what all calls of one on_configure say together. The host keeps it, for each VM,
// and nobody is charged for its work on each answer.
const (
	MaxStandingEdits     = 128
	MaxStandingEditBytes = 64 << 10 // of the arguments
)

// An EditsWhen says for which exchanges standing edits are.
type EditsWhen uint32

// The conditions.
const (
	EditsAlways  EditsWhen = iota
	EditsTLS               // the scheme of the request is https
	EditsWithout           // it is not
)

// AppendStandingEdits appends the argument of [ForeignStandingEdits]: when, as u32, and the
// edits as [AppendFieldEdits] has them after the kind.
func AppendStandingEdits(dst []byte, when EditsWhen, edits []FieldEdit) []byte {
	return appendEdits(binary.LittleEndian.AppendUint32(dst, uint32(when)), edits)
}

// ParseStandingEdits returns what AppendStandingEdits has made; the strings are parts of args.
func ParseStandingEdits(args string) (when EditsWhen, edits []FieldEdit, err error) {
	if len(args) < 4 || EditsWhen(le32(args)) > EditsWithout {
		return 0, nil, ErrFieldEdits
	}
	edits, err = parseEdits(nil, args[4:])
	return EditsWhen(le32(args)), edits, err
}
