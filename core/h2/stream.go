package h2

import (
	"golang.org/x/net/http2"

	"wproxy/core/exchange"
)

// A stream is one stream as both ends see it. It is used again for others.
type stream struct {
	// Immutable while it is used for one exchange.
	c     *conn
	owner any // what the side keeps for it

	in  waiter // of the goroutine in Feed
	out waiter // of the one in the Sink calls

	// Guarded by c.mu.
	id       uint32
	open     bool   // it is in c.streams
	ended    bool   // the peer has ended its message
	finished bool   // we have ended ours
	sent     moment // when; only the client's end notes it
	err      error  // why calls fail; nil: they do not
	tooLarge bool   // the body that comes in is; Feed fails, and the answer can still be written

	recv    received
	allow   allowance       // what the peer may send
	opened  moment          // when its window was opened last
	length  int64           // that content-length promises, or exchange.LengthUnknown
	got     int64           // bytes of DATA so far
	most    int64           // bytes that the message may have; 0: any number
	trailer exchange.Fields // valid when trailed is set
	trailed bool

	send    window
	granted bool    // it is this stream's turn to write DATA
	queued  bool    // it is in c.out.queue
	next    *stream // in the queue
	inLine  bool    // it is in c.out.heads
}

// begin makes s a stream that is open, with this id. c.mu is held.
func (c *conn) begin(s *stream, id uint32) {
	s.in.init()
	s.out.init()
	s.trailer.Reset()
	*s = stream{
		c: c, owner: s.owner, in: s.in, out: s.out, id: id, open: true,
		recv:  received{list: s.recv.list[:0]},
		allow: allowance{left: streamWindow, size: streamWindow}, opened: c.now(),
		length: exchange.LengthUnknown, trailer: s.trailer, inLine: s.inLine,
		send: window(c.peer.window), err: c.streamErr(),
	}
	c.streams[id] = s
	c.last = max(c.last, id)
}

// streamErr is the error that a new stream has already. c.mu is held.
func (c *conn) streamErr() error {
	if c.err != nil {
		return gone(c.err)
	}
	return nil
}

// reset gives s up: the peer gets a RST_STREAM if it does not think that the
// stream is over, and calls on s fail with err. It has an effect only on a stream that
// is open. c.mu is held; somebody has to flush.
func (s *stream) reset(code http2.ErrCode, err error) {
	if !s.open {
		return
	}
	s.c.control(s.c.fr.WriteRSTStream(s.id, code))
	s.shut(err, true)
}

// shut ends s; ours says that it was not the peer who knows of it first. c.mu is held.
func (s *stream) shut(err error, ours bool) {
	if !s.open {
		return
	}
	c := s.c
	s.open = false
	if s.err == nil {
		s.err = err
	}
	delete(c.streams, s.id)
	if ours {
		c.remember(s.id | oursBit)
	} else {
		c.remember(s.id)
	}
	c.share.letGo(0, s.allow.size-streamWindow)
	if err != nil {
		s.dropBody()
	}
	c.out.queue.remove(s)
	s.in.wake()
	s.out.wake()
	c.grant() // it may have been its turn
	c.atRest()
}

// atRest is called whenever a stream, or a Handler, has ended. c.mu is held.
func (c *conn) atRest() {
	if len(c.streams) > 0 || c.busy > 0 {
		return
	}
	c.idleSince = c.now()
	if c.goingAway == goingNow {
		c.kick()
		return
	}
	// The reader, which may be blocked, has something to do by then. Its timer is
	// later once in a while only.
	if at := c.idleSince + min(restTime, c.o.Idle); c.armed > at {
		c.armed = at
		_ = c.nc.SetReadDeadline(c.base.Add(at))
	}
}

// over is called when one end of s has ended its message. c.mu is held.
func (s *stream) over() {
	if s.ended && s.finished {
		s.shut(nil, false)
	}
}

// failWith makes calls on s fail, without closing it. c.mu is held.
func (s *stream) failWith(err error) {
	if s.err == nil {
		s.err = err
	}
	s.in.wake()
	s.out.wake()
}

// A queue is streams that wait for their turn to write DATA.
type queue struct{ head, tail *stream }

func (q *queue) push(s *stream) {
	if s.queued {
		return
	}
	s.queued, s.next = true, nil
	if q.tail == nil {
		q.head = s
	} else {
		q.tail.next = s
	}
	q.tail = s
}

func (q *queue) pop() *stream {
	s := q.head
	if s == nil {
		return nil
	}
	if q.head = s.next; q.head == nil {
		q.tail = nil
	}
	s.queued, s.next = false, nil
	return s
}

// remove takes s out, wherever it is.
func (q *queue) remove(s *stream) {
	s.granted = false
	if !s.queued {
		return
	}
	var before *stream
	for x := q.head; x != s; x = x.next {
		before = x
	}
	if before == nil {
		q.head = s.next
	} else {
		before.next = s.next
	}
	if q.tail == s {
		q.tail = before
	}
	s.queued, s.next = false, nil
}
