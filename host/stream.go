package host

import (
	"iter"
	"time"

	"wproxy/abi"
)

// Stream is what a guest's stream context may see and do: all that the host
// asks of the outside for one HTTP exchange or TCP connection. The host calls it
// only while the guest that owns the context is being called, under that VM's
// lock: implementations must not block, must not call back into the host and must
// not take a direction lock (architecture, rule 3). Resume, Close and Reply mark
// what shall happen; it happens after the outermost callback has returned.
type Stream interface {
	// Map returns a header map, or nil when that message is not there.
	Map(kind abi.MapType) Map

	// Buffer returns a body, or nil when that body is not there.
	Buffer(kind abi.BufferType) Buffer

	// Property appends the value of the property at path (parts joined by
	// NUL, abi.md 3.2, 6.1; encoded as in 3.3) to dst. path is borrowed.
	Property(dst []byte, path string) ([]byte, bool)

	// SetProperty stores a property. Both arguments are owned by the Stream.
	SetProperty(path string, value []byte)

	Resume(side abi.StreamType)
	Close(side abi.StreamType)

	// Reply answers the exchange; r is owned by the Stream.
	Reply(r Reply)

	// ClearRouteCache asks for the route to be matched again.
	ClearRouteCache()
}

// A Sizer is a Stream that knows how many bytes it holds. One that Finish keeps counts
// with them against what streams that wait for proxy_done may hold.
type Sizer interface{ Size() int }

// A Teller is a Stream that tells for which exchange a guest was called when it
// trapped: the name of the route and the id of the request, "" where there is none. It
// is asked once, when a trap is logged.
type Teller interface {
	Tell() (route, requestID string)
}

// A Replier is a Stream that knows that Reply would have no effect any more: there has
// been one, or there is nobody left to answer. The guest is not told.
type Replier interface{ Replied() bool }

// A Deadliner is a Stream that is over at a time. What a guest asks for while it is called
// for such a stream ends by then: its answer would come to nobody. The zero time is none.
type Deadliner interface{ Deadline() time.Time }

// A Selector is a Stream whose request can be sent to another upstream than its route has,
// by the name in the configuration. It reports whether it is not too late.
type Selector interface{ SelectUpstream(name string) bool }

// A Delayer is a Stream that resumes a message by itself, once d has passed since the call,
// if it is paused when the callback is over. It reports whether it will.
type Delayer interface {
	ResumeAfter(side abi.StreamType, d time.Duration) bool
}

// Reply is a local response (proxy_send_local_response, abi.md 5.8).
type Reply struct {
	Status     int
	Details    string
	Body       []byte     // at most MaxReplyBody
	Fields     []abi.Pair // may be those of other replies: not to be changed
	GRPCStatus int32      // -1: not set
}

// Map is a header map as guests see it: pseudo fields first, names in lower
// case. Arguments of Get, and name of Remove, are borrowed (they may alias guest
// memory); those of Set, Add and Replace are owned by the Map. Edits that would
// break framing (CR, LF, NUL, removing a pseudo field, a second host) are refused:
// false, with nothing changed. One that would make the message too large ends it (see
// Overflower).
type Map interface {
	Len() int
	Get(name string) (string, bool)
	Set(name, value string) bool
	Add(name, value string) bool
	Remove(name string) bool
	Replace(pairs []abi.Pair) bool
	All() iter.Seq2[string, string]
}

// An Overflower is a Map that is told of an edit that was too large to be made. The
// guest has not been told, as a status would kill some, and counts on the edit: the
// message must not be passed on without it.
type Overflower interface{ Overflow() }

// Buffer is a body, or the part of it that is held, as guests see it.
type Buffer interface {
	// Bytes returns the bytes; valid until Replace or the end of the callback. It
	// is asked for by callbacks of this stream and direction only.
	Bytes() []byte
	// Append appends a copy of the bytes to dst. It is what everybody else looks
	// at, a tick or a callback of another stream, as nobody keeps the feeder of
	// the direction from going on with its memory.
	Append(dst []byte) []byte
	// Replace replaces the bytes [start, start+size) by data, which is
	// borrowed; start and size are clamped to the buffer (abi.md 5.5). False
	// if the buffer is read-only.
	Replace(start, size int, data []byte) bool
	// End reports whether the end of the stream has been seen.
	End() bool
}
