package abi

import "encoding/binary"

// ForeignWatch says, inside of on_configure, which requests of the root context that is
// configured the host may let through without asking the guest, and which ends of theirs it may
// count by itself: those of a circuit that is closed, which end well while nothing has
// failed lately. Its argument is what [AppendWatch] makes. There is no result. It takes
// the grants "counters" and "shared-data", and "metrics" if a metric is counted.
//
// The status is BadArgument elsewhere, if the argument is malformed or beyond a bound, if
// the guest has no on_request_headers and on_response_headers that the watch could stand in
// front of, or if the root has a gate ([ForeignGate]).
const ForeignWatch = "wproxy.counter.v1.watch"

// PropertyWatched is the path of a property that is there in the callbacks for an answer whose
// request a watch has let through: the generation (u64) and then the key, as they were then.
const PropertyWatched = "wproxy\x00watched"

// A WatchRecord is a standing order. For each request whose head comes to the plugin: if the
// value of Key in shared data begins with a 0 (u64), the guest is not told of the stream, and Metric
// is counted; the u64 behind it is the generation. For the answer to such a request: if a server was
// tried and has answered with a status that is not in Statuses, 1 is added to the first column
// of the window that Key and the generation (u64) are the key of, as [ForeignAddCounter] does,
// and its streak ended; if none was tried, nothing is done. In every other case nothing is counted, and
// the guest is called: so it is when anything is in the other columns of the window or in its
// streak, or if there is no window yet.
type WatchRecord struct {
	Metric   uint32 // id of a counter that goes up by one; 0: none
	Slots    uint32 // of the window, as in an AddRecord
	Width    int64  // of a slot
	Statuses StatusSet
	Key      []GatePart // of GateText, WatchRoute and WatchUpstream
}

// A StatusSet is a set of statuses from 100 to 599. The bit of one is number status-100, bits
// of a byte counted from the lowest.
type StatusSet [64]byte

// statuses is how many there are.
const statuses = 500

// Add adds a status; others than from 100 to 599 are ignored.
func (s *StatusSet) Add(status int) {
	if i := status - 100; i >= 0 && i < statuses {
		s[i/8] |= 1 << (i % 8)
	}
}

// Has reports whether a status is in the set.
func (s *StatusSet) Has(status int) bool {
	i := status - 100
	return i >= 0 && i < statuses && s[i/8]&(1<<(i%8)) != 0
}

// valid reports whether no bit is set that no status has.
func (s *StatusSet) valid() bool {
	return s[statuses/8]>>(statuses%8) == 0 && s[len(s)-1] == 0
}

// watchHead is the size of what stands before the parts of the key.
const watchHead = 24 + len(StatusSet{})

// AppendWatch appends the argument of [ForeignWatch].
func AppendWatch(dst []byte, w *WatchRecord) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, 0) // a circuit
	dst = binary.LittleEndian.AppendUint32(dst, w.Metric)
	dst = binary.LittleEndian.AppendUint32(dst, w.Slots)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(w.Key)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(w.Width))
	return appendGateParts(append(dst, w.Statuses[:]...), w.Key)
}

// ParseWatch is the opposite. The strings are parts of args. Numbers of the window are as they
// came.
func ParseWatch(args string) (*WatchRecord, error) {
	if len(args) < watchHead || len(args) > MaxGateBytes || le32(args) != 0 {
		return nil, ErrGate
	}
	w := &WatchRecord{Metric: le32(args[4:]), Slots: le32(args[8:]), Width: le64(args[16:])}
	copy(w.Statuses[:], args[24:])
	parts := le32(args[12:])
	if parts > MaxGateParts || !w.Statuses.valid() {
		return nil, ErrGate
	}
	var rest string
	var ok bool
	if w.Key, rest, ok = parseGateParts(args[watchHead:], parts, watchKeyKinds); !ok || rest != "" {
		return nil, ErrGate
	}
	if textOf(w.Key) > MaxGateKey {
		return nil, ErrGate
	}
	return w, nil
}
