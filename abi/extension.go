package abi

import (
	"encoding/binary"
	"errors"
)

// Extensions of wproxy's host: functions that guests call by name with
// proxy_call_foreign_function. Other hosts answer NotFound. The number in a name is the
// version of its argument. All integers are little endian.
const (
	// ForeignEditFields makes several edits of a header map in one call. Its argument is
	// what [AppendFieldEdits] makes. There is no result. The status is BadArgument if it
	// is malformed, or if an edit was refused that the host call of the same kind would
	// refuse; the others are made all the same.
	ForeignEditFields = "wproxy.fields.v1.edit"

	// ForeignSkipCallbacks says, inside of on_configure, which callbacks of exports the
	// root context that is configured has no use for: they are not called for its
	// streams. Its argument is their export names, joined by NUL. There is no result.
	ForeignSkipCallbacks = "wproxy.callbacks.v1.skip"

	// ForeignTakeCounter takes tokens from a bucket. Its argument is a [TakeRecord],
	// which the host writes the outcome to, in place, followed by the key. There is no
	// result. It takes the grant "counters".
	ForeignTakeCounter = "wproxy.counter.v1.take"
)

// PropertyClientAddress is a property of wproxy's host, as a path: the client's address
// after trust_proxy, 4 bytes for IPv4 and 16 for IPv6, in network order. It is what
// source.address says as text.
const PropertyClientAddress = "wproxy\x00client_address"

// A FieldOp says what an edit does with the lines of a name.
type FieldOp uint32

// The edits there are.
const (
	FieldSet          FieldOp = iota // exactly this line, as proxy_replace_header_map_value
	FieldAdd                         // one line more, as proxy_add_header_map_value
	FieldAddIfMissing                // this line if there is none
	FieldRemove                      // none, as proxy_remove_header_map_value
)

// A FieldEdit is one edit of a header map.
type FieldEdit struct {
	Op          FieldOp
	Name, Value string
}

// MaxFieldEdits is the most edits of one call: as many as a message has fields by
// default, and then some.
const MaxFieldEdits = 1024

// ErrFieldEdits is the error of an argument that is no list of edits.
var ErrFieldEdits = errors.New("malformed list of field edits")

// fieldEditHead is the size of what stands before the bytes of an edit: op, and the
// lengths of name and value.
const fieldEditHead = 12

// AppendFieldEdits appends the argument of [ForeignEditFields]: the kind of the map,
// and for each edit its op, the lengths of name and value, and their bytes.
func AppendFieldEdits(dst []byte, kind MapType, edits []FieldEdit) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(kind))
	return appendEdits(dst, edits)
}

func appendEdits(dst []byte, edits []FieldEdit) []byte {
	for i := range edits {
		e := &edits[i]
		dst = binary.LittleEndian.AppendUint32(dst, uint32(e.Op))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e.Name)))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e.Value)))
		dst = append(dst, e.Name...)
		dst = append(dst, e.Value...)
	}
	return dst
}

// ParseFieldEdits appends the edits in args, whose strings are parts of args, to dst.
func ParseFieldEdits(dst []FieldEdit, args string) (kind MapType, edits []FieldEdit, err error) {
	if len(args) < 4 {
		return 0, dst, ErrFieldEdits
	}
	edits, err = parseEdits(dst, args[4:])
	if err != nil {
		return 0, dst, err
	}
	return MapType(le32(args)), edits, nil
}

func parseEdits(dst []FieldEdit, rest string) ([]FieldEdit, error) {
	for n := 0; rest != ""; n++ {
		if len(rest) < fieldEditHead || n == MaxFieldEdits {
			return dst, ErrFieldEdits
		}
		op, name, value := FieldOp(le32(rest)), uint64(le32(rest[4:])), uint64(le32(rest[8:]))
		rest = rest[fieldEditHead:]
		if op > FieldRemove || name+value > uint64(len(rest)) {
			return dst, ErrFieldEdits
		}
		dst = append(dst, FieldEdit{op, rest[:name], rest[name : name+value]})
		rest = rest[name+value:]
	}
	return dst, nil
}

func le32(s string) uint32 {
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

// A TakeRecord is the argument of [ForeignTakeCounter], before the key: what is asked
// and room for the answer. A bucket belongs to the vm_id, the key, Interval and Burst
// together; one that was never taken from is full.
type TakeRecord []byte

// TakeRecordSize is the length of a TakeRecord.
const TakeRecordSize = 64

// NewTakeRecord returns a record that asks for cost tokens of a bucket that gains one
// every interval nanoseconds and holds burst of them (the generic cell rate
// algorithm, ITU-T I.371, annex A). A cost of 0 changes nothing and is admitted.
func NewTakeRecord(interval, burst, cost int64) TakeRecord {
	r := make(TakeRecord, TakeRecordSize)
	binary.LittleEndian.PutUint64(r[8:], uint64(interval))
	binary.LittleEndian.PutUint64(r[16:], uint64(burst))
	binary.LittleEndian.PutUint64(r[24:], uint64(cost))
	return r
}

func (r TakeRecord) at(i int) int64 { return int64(load64(r, i)) }

// Algorithm is 0 for the token bucket, the only one so far.
func (r TakeRecord) Algorithm() uint32 { return binary.LittleEndian.Uint32(r) }

// Interval is the time for a token, in nanoseconds; more than 0.
func (r TakeRecord) Interval() int64 { return r.at(8) }

// Burst is the most tokens that a bucket holds; more than 0.
func (r TakeRecord) Burst() int64 { return r.at(16) }

// Cost is how many tokens are taken if all of them are there; 0 to Burst.
func (r TakeRecord) Cost() int64 { return r.at(24) }

// SetCost sets Cost.
func (r TakeRecord) SetCost(n int64) { binary.LittleEndian.PutUint64(r[24:], uint64(n)) }

// A TakeResult is the outcome of a take. Times are in nanoseconds from now.
type TakeResult struct {
	Admitted  bool
	Crowded   bool  // another key's bucket, not yet full, was given up for this one
	Remaining int64 // tokens left
	Full      int64 // until the bucket is full
	Retry     int64 // until the same cost would be admitted; 0 if it was
}

// Result returns the outcome.
func (r TakeRecord) Result() TakeResult {
	return TakeResult{Admitted: r.Admitted(), Crowded: r.Crowded(), Remaining: r.Remaining(), Full: r.Full(), Retry: r.Retry()}
}

// Admitted is a part of the Result by itself, as are Crowded, Remaining, Full and Retry.
func (r TakeRecord) Admitted() bool { return r[4]&1 != 0 }

// Crowded is described with Admitted, and so are the others.
func (r TakeRecord) Crowded() bool { return r[4]&2 != 0 }

// Remaining is described with Admitted.
func (r TakeRecord) Remaining() int64 { return r.at(32) }

// Full is described with Admitted.
func (r TakeRecord) Full() int64 { return r.at(40) }

// Retry is described with Admitted.
func (r TakeRecord) Retry() int64 { return r.at(48) }

// SetResult stores the outcome.
func (r TakeRecord) SetResult(t TakeResult) {
	var flags uint32
	if t.Admitted {
		flags |= 1
	}
	if t.Crowded {
		flags |= 2
	}
	binary.LittleEndian.PutUint32(r[4:], flags)
	binary.LittleEndian.PutUint64(r[32:], uint64(t.Remaining))
	binary.LittleEndian.PutUint64(r[40:], uint64(t.Full))
	binary.LittleEndian.PutUint64(r[48:], uint64(t.Retry))
}
