package abi

import "encoding/binary"

// ForeignReadValues reads several values of the current stream in one call, into memory that
// the guest has: no call of its allocator. Its argument is a [ReadRecord], which the host writes
// the values to, in place. There is no result. The status is BadArgument if it is malformed or
// beyond a bound; then nothing was read. It takes the grants that the host calls for single
// values take.
const ForeignReadValues = "wproxy.values.v1.read"

// ReadProperty is the Kind of a value that is a property.
const ReadProperty MapType = 0xffff_ffff

// Bounds of a ReadRecord.
const (
	MaxReadValues = 16
	MaxReadBytes  = 4096 // of all of it
)

// A ReadValue says what is read: the first line of that name in a header map, or a property.
type ReadValue struct {
	Kind MapType // or ReadProperty
	Name string  // of a field, in lower case; of a property its path, joined by NUL
}

// Sizes of what stands before the values of a record, and of what there is of each.
const (
	readHead  = 4
	readEntry = 16
)

// A ReadRecord is the argument of [ForeignReadValues]: how many values, for each its kind, the
// length of its name, and room for the outcome, which is where it begins in the record and its
// length; then the names, and room for the values.
type ReadRecord []byte

// NewReadRecord returns a record that asks for values and has so many bytes of room for all of
// them together.
func NewReadRecord(room int, values ...ReadValue) ReadRecord {
	r := binary.LittleEndian.AppendUint32(nil, uint32(len(values)))
	for _, v := range values {
		r = binary.LittleEndian.AppendUint32(r, uint32(v.Kind))
		r = binary.LittleEndian.AppendUint32(r, uint32(len(v.Name)))
		r = append(r, make([]byte, 8)...)
	}
	for _, v := range values {
		r = append(r, v.Name...)
	}
	return append(r, make([]byte, room)...)
}

// Parse returns how many values r asks for, and where in r the room for them begins; false if it
// is malformed or beyond a bound.
func (r ReadRecord) Parse() (values, room int, ok bool) {
	if len(r) < readHead || len(r) > MaxReadBytes {
		return 0, 0, false
	}
	n := binary.LittleEndian.Uint32(r)
	if n > MaxReadValues || readHead+readEntry*int(n) > len(r) {
		return 0, 0, false
	}
	values, room = int(n), readHead+readEntry*int(n)
	for i := range values {
		size := binary.LittleEndian.Uint32(r[readHead+readEntry*i+4:])
		if size > uint32(len(r)-room) {
			return 0, 0, false
		}
		room += int(size)
	}
	return values, room, true
}

// Asked returns the kind of a value and the length of its name. The names follow each other from
// where Names says.
func (r ReadRecord) Asked(i int) (kind MapType, name int) {
	e := r[readHead+readEntry*i:]
	return MapType(binary.LittleEndian.Uint32(e)), int(binary.LittleEndian.Uint32(e[4:]))
}

// Names returns where the names of so many values begin.
func (ReadRecord) Names(values int) int { return readHead + readEntry*values }

// SetValue stores the outcome for a value: where it begins and its length. At 0 it is not in the
// record: it is not there if the length is 0 too, and has no room otherwise.
func (r ReadRecord) SetValue(i, at, size int) {
	e := r[readHead+readEntry*i:]
	binary.LittleEndian.PutUint32(e[8:], uint32(at))
	binary.LittleEndian.PutUint32(e[12:], uint32(size))
}

// Value returns a value that was read, which is part of r. With false it is not there, or, if
// large, there was no room for it.
func (r ReadRecord) Value(i int) (value []byte, ok, large bool) {
	e := r[readHead+readEntry*i : readHead+readEntry*i+readEntry]
	at, size := binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
	if at == 0 {
		return nil, false, size > 0
	}
	return r[at : at+size], true, false
}
