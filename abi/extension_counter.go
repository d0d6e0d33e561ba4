package abi

import "encoding/binary"

// The other counters of wproxy's host. Each takes the grant "counters"; a key belongs to
// the vm_id, as in [ForeignTakeCounter], and follows the record.
const (
	// ForeignChargeCounter takes tokens from a bucket whether they are there or not, for
	// what is known only afterwards. Its argument is a [TakeRecord] whose Cost may be more
	// than Burst; the bucket owes what it does not have.
	ForeignChargeCounter = "wproxy.counter.v1.charge"

	// ForeignAddCounter adds to a window that slides: counts in slots of time, and their
	// sums. Its argument is an [AddRecord].
	ForeignAddCounter = "wproxy.counter.v1.add"

	// ForeignAcquireCounter takes a place of a key for as long as the stream lasts. Its
	// argument is an [AcquireRecord].
	ForeignAcquireCounter = "wproxy.counter.v1.acquire"

	// ForeignLeaseCounter takes a place of a key, keeps it for good, or gives it back. Its
	// argument is a [LeaseRecord].
	ForeignLeaseCounter = "wproxy.counter.v1.lease"
)

// ForeignSelectUpstream sends the request of the stream to another upstream of the
// configuration. Its argument is the name. There is no result. It takes the grant
// "upstream:NAME". The status is BadArgument once the request is on its way.
const ForeignSelectUpstream = "wproxy.upstream.v1.select"

// ForeignResumeAfter resumes a stream after a time, if its callback pauses it. Its
// argument is the [StreamType] and a number of milliseconds, both u32. There is no result.
// It takes no grant. A pause of no time ends at once.
const ForeignResumeAfter = "wproxy.resume_after.v1"

// ResumeAfterSize is the length of the argument of [ForeignResumeAfter].
const ResumeAfterSize = 8

// AppendResumeAfter appends the argument of [ForeignResumeAfter].
func AppendResumeAfter(dst []byte, side StreamType, milliseconds uint32) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(side))
	return binary.LittleEndian.AppendUint32(dst, milliseconds)
}

// ParseResumeAfter is the opposite; false if args are no such argument.
func ParseResumeAfter(args []byte) (side StreamType, milliseconds uint32, ok bool) {
	if len(args) != ResumeAfterSize {
		return 0, 0, false
	}
	side = StreamType(binary.LittleEndian.Uint32(args))
	return side, binary.LittleEndian.Uint32(args[4:]), side == StreamRequest || side == StreamResponse
}

// WindowColumns is how many counts each slot of a window has.
const WindowColumns = 3

// An AddRecord is the argument of [ForeignAddCounter], before the key: what is added and
// room for the answer. A window belongs to the vm_id, the key, and the number and width of
// its slots together. It has a streak beside its counts: a number that grows until it is
// set back, and does not slide.
type AddRecord []byte

// AddRecordSize is the length of an AddRecord.
const AddRecordSize = 80

// NewAddRecord returns a record for a window of slots, each of width nanoseconds, the one
// that time is in now included.
func NewAddRecord(slots uint32, width int64) AddRecord {
	r := make(AddRecord, AddRecordSize)
	binary.LittleEndian.PutUint32(r, slots)
	binary.LittleEndian.PutUint64(r[8:], uint64(width))
	return r
}

// Slots is the number of slots; 1 to 64.
func (r AddRecord) Slots() uint32 { return binary.LittleEndian.Uint32(r) }

// Width is how long a slot is, in nanoseconds; more than 0.
func (r AddRecord) Width() int64 { return int64(binary.LittleEndian.Uint64(r[8:])) }

// Limit is the most that the sum of the first column may become; 0: no limit.
func (r AddRecord) Limit() int64 { return int64(binary.LittleEndian.Uint64(r[16:])) }

// SetLimit sets Limit.
func (r AddRecord) SetLimit(n int64) { binary.LittleEndian.PutUint64(r[16:], uint64(n)) }

// Count is what is added to a column of the present slot.
func (r AddRecord) Count(column int) uint32 { return binary.LittleEndian.Uint32(r[24+4*column:]) }

// SetCount sets Count.
func (r AddRecord) SetCount(column int, n uint32) {
	binary.LittleEndian.PutUint32(r[24+4*column:], n)
}

// Streak is what is added to the streak; less than 0 sets it back to 0.
func (r AddRecord) Streak() int32 { return int32(binary.LittleEndian.Uint32(r[36:])) }

// SetStreak sets Streak.
func (r AddRecord) SetStreak(n int32) { binary.LittleEndian.PutUint32(r[36:], uint32(n)) }

// An AddResult is the outcome of an add.
type AddResult struct {
	Added   bool // false: the limit is in the way, and nothing was changed
	Crowded bool // another key's window, not yet empty, was given up for this one
	Sums    [WindowColumns]int64
	Streak  int64
	Retry   int64 // nanoseconds until as much could be added; 0 if it was
}

// Result returns the outcome.
func (r AddRecord) Result() AddResult {
	flags := binary.LittleEndian.Uint32(r[4:])
	a := AddResult{
		Added: flags&1 != 0, Crowded: flags&2 != 0,
		Streak: int64(binary.LittleEndian.Uint64(r[64:])), Retry: int64(binary.LittleEndian.Uint64(r[72:])),
	}
	for i := range a.Sums {
		a.Sums[i] = int64(binary.LittleEndian.Uint64(r[40+8*i:]))
	}
	return a
}

// SetResult stores the outcome.
func (r AddRecord) SetResult(a AddResult) {
	var flags uint32
	if a.Added {
		flags |= 1
	}
	if a.Crowded {
		flags |= 2
	}
	binary.LittleEndian.PutUint32(r[4:], flags)
	for i, n := range a.Sums {
		binary.LittleEndian.PutUint64(r[40+8*i:], uint64(n))
	}
	binary.LittleEndian.PutUint64(r[64:], uint64(a.Streak))
	binary.LittleEndian.PutUint64(r[72:], uint64(a.Retry))
}

// An AcquireRecord is the argument of [ForeignAcquireCounter], before the key.
type AcquireRecord []byte

// AcquireRecordSize is the length of an AcquireRecord.
const AcquireRecordSize = 24

// NewAcquireRecord returns a record that asks for one of so many places. With none, it
// asks how many are taken.
func NewAcquireRecord(places int64) AcquireRecord {
	r := make(AcquireRecord, AcquireRecordSize)
	binary.LittleEndian.PutUint64(r[8:], uint64(places))
	return r
}

// Places is how many there are.
func (r AcquireRecord) Places() int64 { return int64(binary.LittleEndian.Uint64(r[8:])) }

// Result returns whether a place was got, and how many are taken.
func (r AcquireRecord) Result() (got bool, taken int64) {
	return binary.LittleEndian.Uint32(r)&1 != 0, int64(binary.LittleEndian.Uint64(r[16:]))
}

// SetResult stores the outcome.
func (r AcquireRecord) SetResult(got bool, taken int64) {
	var flags uint32
	if got {
		flags = 1
	}
	binary.LittleEndian.PutUint32(r, flags)
	binary.LittleEndian.PutUint64(r[16:], uint64(taken))
}

// A LeaseOp says what a lease asks for.
type LeaseOp uint32

// What there is to ask for.
const (
	LeaseTake LeaseOp = iota // a place, until the stream ends
	LeaseKeep                // the stream's place is taken for good, or for a time
	LeaseBack                // the stream's place is free again
)

// A LeaseRecord is the argument of [ForeignLeaseCounter], before the key.
type LeaseRecord []byte

// LeaseRecordSize is the length of a LeaseRecord.
const LeaseRecordSize = 40

// NewLeaseRecord returns a record about one of so many places. What is kept of a key is
// forgotten when nobody has asked for it for that long, in nanoseconds.
func NewLeaseRecord(places, forget int64) LeaseRecord {
	r := make(LeaseRecord, LeaseRecordSize)
	binary.LittleEndian.PutUint64(r[8:], uint64(places))
	binary.LittleEndian.PutUint64(r[16:], uint64(forget))
	return r
}

// Op is what is asked for.
func (r LeaseRecord) Op() LeaseOp { return LeaseOp(binary.LittleEndian.Uint32(r)) }

// SetOp sets Op.
func (r LeaseRecord) SetOp(op LeaseOp) { binary.LittleEndian.PutUint32(r, uint32(op)) }

// Places is how many there are. With none, a take asks how many are taken.
func (r LeaseRecord) Places() int64 { return int64(binary.LittleEndian.Uint64(r[8:])) }

// Forget is after how many nanoseconds what is kept is forgotten; more than 0.
func (r LeaseRecord) Forget() int64 { return int64(binary.LittleEndian.Uint64(r[16:])) }

// Result returns whether it was done, how many places streams have and how many are kept.
func (r LeaseRecord) Result() (done bool, held, kept int64) {
	return binary.LittleEndian.Uint32(r[4:])&1 != 0,
		int64(binary.LittleEndian.Uint64(r[24:])), int64(binary.LittleEndian.Uint64(r[32:]))
}

// SetResult stores the outcome.
func (r LeaseRecord) SetResult(done bool, held, kept int64) {
	var flags uint32
	if done {
		flags = 1
	}
	binary.LittleEndian.PutUint32(r[4:], flags)
	binary.LittleEndian.PutUint64(r[24:], uint64(held))
	binary.LittleEndian.PutUint64(r[32:], uint64(kept))
}
