package h2

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/exchange"
)

// A side is what a conn leaves to the end that it is: client or server. The reader
// calls its methods, without conn.mu unless they say otherwise.
type side interface {
	// head is given a complete field section for stream id. s is that stream, or
	// nil if it is not open; then the section is for a new one (server), or has been
	// on its way to one that was reset (client). A *streamError resets the
	// stream, any other error ends the connection.
	head(id uint32, s *stream, b *block, end bool) error

	// lost tells that a stream was reset by the peer, or its connection has failed.
	// s may be used for another exchange already: see stream.is.
	lost(s *stream, id uint32)

	// settings tells that the peer's settings (conn.peer) have changed. conn.mu is
	// held.
	settings()

	// away tells that the peer will not process streams beyond last.
	away(last uint32, code http2.ErrCode)

	// resting reports whether rest would give something back, and rest does so: the
	// connection has no stream. conn.mu is held.
	resting() bool
	rest()
}

// Options of both ends. The zero value is not good: see the ends'.
type options struct {
	MaxHead, MaxFields int
	MaxStreams         int // that the peer may open; 0 for a client, who takes no pushes

	HeaderTime, Idle, ReadTimeout, WriteTimeout time.Duration

	KeepAlive, PingTime time.Duration // see ServerOptions
}

// A conn is one end of a connection, whichever.
type conn struct {
	// Immutable.
	nc   net.Conn
	base time.Time // moments are counted from here
	o    *options
	side side
	// client: streams are opened by this end, and what a peer has said to the end is kept
	// whatever it does then.
	client bool

	// Owned by the reader.
	in    input
	dec   *hpack.Decoder
	block block

	goroutines sync.WaitGroup // that write aside
	heard      atomic.Int64   // input.last, for everybody: a moment

	mu sync.Mutex
	// Guarded by mu, and reading by the reader.
	fr *http2.Framer
	// Guarded by mu.
	out     output
	written sync.Cond // told when out.writing ends; for conn.end
	enc     *hpack.Encoder
	scratch pile   // a field block that is being encoded
	armed   moment // what the connection's read deadline is

	streams    map[uint32]*stream // that are open
	busy       int                // exchanges whose Handler has not returned, though their stream is over
	last       uint32             // the highest stream that was opened, by whichever end
	ignored    uint32             // the highest that the peer has opened beyond our last GOAWAY
	remembered [maxRemembered]uint32
	forget     int // next place in remembered

	peer  peerSettings
	send  window    // of the connection, for what we send
	allow allowance // of the connection, for what we receive
	share share     // of memory, and what windows have grown by

	idleSince  moment // when the last stream went
	pinged     moment // when a keep-alive ping was sent last
	goingAway  int    // goingSoon or goingNow
	goingSince moment
	counts     buckets
	err        error // why the connection ends; nil: it does not
	ending     bool  // the write deadline is that of end
	dead       bool  // nothing can be written any more
}

// States of conn.goingAway.
const (
	// goingSoon: a GOAWAY has gone out that takes all streams, so that none which
	// is on its way is lost (RFC 9113 6.8).
	goingSoon = 1 + iota
	// goingNow: the last stream is known. The connection ends with it.
	goingNow
)

// peerSettings are the peer's (RFC 9113 6.5.2).
type peerSettings struct {
	window  int64  // SETTINGS_INITIAL_WINDOW_SIZE
	frame   int    // SETTINGS_MAX_FRAME_SIZE, at most maxFrame
	streams uint32 // SETTINGS_MAX_CONCURRENT_STREAMS
	head    uint32 // SETTINGS_MAX_HEADER_LIST_SIZE
	seen    bool   // a SETTINGS frame has come
}

// errDone is why the reader ends when there is no reason to go on.
var errDone = errors.New("h2: done")

var (
	pingAlive = [8]byte{'w', 'p', 'r', 'o', 'x', 'y', ' ', 'k'} // keep-alive
	pingDrain = [8]byte{'w', 'p', 'r', 'o', 'x', 'y', ' ', 'd'} // behind the first GOAWAY
)

// attach starts c on nc. early is what was read from it already.
func (c *conn) attach(nc net.Conn, o *options, s side, early []byte) {
	c.nc, c.o, c.side = nc, o, s
	c.written.L = &c.mu
	c.base = time.Now().Add(-2) // so that no moment is 0, nor the past of kick
	c.streams = map[uint32]*stream{}
	c.peer = peerSettings{window: 1<<16 - 1, frame: maxFrame, streams: 1<<32 - 1, head: 1<<32 - 1}
	c.send, c.allow = 1<<16-1, allowance{left: 1<<16 - 1, size: connWindow}
	c.fr = c.newFramer()
	c.enc = hpack.NewEncoder(&c.scratch)
	c.enc.SetMaxDynamicTableSizeLimit(0)
	c.dec = hpack.NewDecoder(maxTable, c.block.add)
	c.dec.SetMaxStringLength(2 * o.MaxHead)
	c.idleSince = c.now()
	c.in.last = c.idleSince
	c.heard.Store(int64(c.in.last))
	c.in.sealed, _ = nc.(sealed)
	c.in.prime(early)
}

// newFramer returns the Framer of c, which reads from its input and writes to its
// output.
func (c *conn) newFramer() *http2.Framer {
	fr := http2.NewFramer(&c.out, inputOf{c})
	fr.SetMaxReadFrameSize(maxFrame)
	fr.SetReuseFrames()
	return fr
}

// greet sends our settings, and opens the connection's window. c.mu is held.
func (c *conn) greet() {
	s := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.o.MaxHead)},
	}
	if c.o.MaxStreams > 0 {
		s = append(s, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.o.MaxStreams)})
	} else {
		s = append(s, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	}
	c.control(c.fr.WriteSettings(s...))
	more := connWindow - int(c.allow.left)
	c.allow.left += window(more)
	c.control(c.fr.WriteWindowUpdate(0, uint32(more)))
}

// find returns the stream with this id, if it is open. Otherwise it says whether
// it has not been opened yet, and whether we have closed it ourselves, so that
// frames may still be on their way. c.mu is held.
func (c *conn) find(id uint32) (s *stream, idle, ours bool) {
	if s = c.streams[id]; s != nil {
		return s, false, false
	}
	if id%2 == 0 || id > max(c.last, c.ignored) {
		return nil, true, false // streams have odd ids: nobody pushes
	}
	if id > c.last {
		return nil, false, true // the peer had not heard of our GOAWAY
	}
	for _, r := range c.remembered {
		if r == id|oursBit {
			return nil, false, true
		}
	}
	return nil, false, false
}

// closedBefore reports whether stream id is known to have been open once. c.mu is
// held.
func (c *conn) closedBefore(id uint32) bool {
	for _, r := range c.remembered {
		if r&^oursBit == id {
			return true
		}
	}
	return false
}

// lastOf returns the last stream of the peer's that was opened, for a GOAWAY. c.mu is
// held.
func (c *conn) lastOf() uint32 {
	if c.client {
		return 0 // servers open none
	}
	return c.last
}

// remember notes that a stream is over; the id may have oursBit. c.mu is held.
func (c *conn) remember(id uint32) {
	c.remembered[c.forget] = id
	c.forget = (c.forget + 1) % maxRemembered
}

// oursBit marks streams in conn.remembered that we have reset; ids have 31 bits.
const oursBit = 1 << 31

// gone makes the error of calls on a stream whose connection has failed.
func gone(err error) *exchange.Error {
	if e, ok := errors.AsType[*exchange.Error](err); ok {
		return &exchange.Error{Op: "read", Reason: e.Reason, Err: e.Err}
	}
	if ce, ok := errors.AsType[*connError](err); ok {
		return &exchange.Error{Op: "read", Reason: ce.reason, Err: err}
	}
	return &exchange.Error{Op: "read", Reason: ReasonClosed, Err: err}
}
