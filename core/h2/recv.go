package h2

import (
	"errors"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/internal/buf"
)

// A received is the bytes of a body that the sink has not taken yet. Guarded by
// conn.mu; the bytes of the first piece belong to Feed while held is set.
type received struct {
	list []*buf.Buf // the pieces
	r, w int        // the bytes begin at r of the first, and end at w of the last
	size int        // in all
	lent int        // bytes of the buffers
	held bool       // Feed has lent the first piece to its sink
	dead bool       // dropped while it was held
}

// add copies p behind what is there.
func (q *received) add(p []byte) {
	q.size += len(p)
	for len(p) > 0 {
		n := len(q.list)
		if n == 0 || q.w == len(q.list[n-1].Bytes()) {
			b := buf.Get(q.next(n, len(p)))
			q.list = append(q.list, b)
			q.lent += len(b.Bytes())
			q.w = 0
			n++
		}
		m := copy(q.list[n-1].Bytes()[q.w:], p)
		q.w += m
		p = p[m:]
	}
}

// next returns the size of the buffer behind n others, for so many bytes: small bodies are
// most, and a second piece means a large one.
func (*received) next(n, bytes int) int {
	const small = 4 << 10
	if n > 0 || bytes > small {
		return inputBuffer
	}
	return small
}

// need returns how many bytes of buffers add takes for n bytes, at most inputBuffer of them.
func (q *received) need(n int) int {
	if len(q.list) > 0 {
		if n -= len(q.list[len(q.list)-1].Bytes()) - q.w; n <= 0 {
			return 0
		}
	}
	return q.next(len(q.list), n)
}

// lend returns the bytes of the first piece.
func (q *received) lend() []byte {
	b := q.list[0].Bytes()
	if len(q.list) == 1 {
		b = b[:q.w]
	}
	q.held = true
	return b[q.r:]
}

// giveBack consumes the first n bytes that were lent.
func (q *received) giveBack(n int) {
	q.held = false
	q.r += n
	q.size -= n
	if q.dead {
		q.drop()
		return
	}
	first := q.list[0]
	switch {
	case len(q.list) > 1 && q.r == len(first.Bytes()):
		copy(q.list, q.list[1:])
		q.list = q.list[:len(q.list)-1]
		q.r = 0
	case len(q.list) == 1 && q.r == q.w:
		q.list = q.list[:0]
		q.r, q.w = 0, 0
	default:
		return
	}
	q.lent -= len(first.Bytes())
	first.Release()
}

// drop gives everything back.
func (q *received) drop() {
	if q.held {
		q.dead = true
		return
	}
	for _, b := range q.list {
		b.Release()
	}
	clear(q.list)
	*q = received{list: q.list[:0]}
}

// dropBody gives back what s has received and nobody has taken. c.mu is held.
func (s *stream) dropBody() {
	lent := s.recv.lent
	s.recv.drop()
	s.c.share.letGo(lent-s.recv.lent, 0)
}

// data is called by the reader with bytes of a DATA frame of stream id. They are
// dropped if nobody wants them any more. The error is one of the stream.
func (c *conn) data(id uint32, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[id]
	if s == nil || s.err != nil || s.tooLarge {
		return nil
	}
	if !c.share.hold(s.recv.need(len(p))) {
		return &streamError{id, http2.ErrCodeEnhanceYourCalm, ReasonMemory}
	}
	s.recv.add(p)
	s.in.wake()
	return nil
}

// A limit bounds the waits of a call.
type limit struct {
	timeout  time.Duration // between bytes
	deadline moment        // of the exchange; 0: none
}

// left returns how long a wait that began at since may go on at now. A negative
// result is over; late tells whether it was the deadline.
func (l limit) left(since, now moment) (d time.Duration, late bool) {
	d = since + l.timeout - now
	if l.deadline != 0 && l.deadline-now < d {
		return l.deadline - now, true
	}
	return d, false
}

// content is what Feed needs of the rest of a Sink.
type content interface {
	Data(p []byte, end bool) error
	Trailer(f *exchange.Fields) error
}

// Errors of stream.feed beside those of the stream and of the sink.
var (
	errTimeout  = errors.New("timeout")
	errDeadline = errors.New("deadline exceeded")
	errOver     = errors.New("the stream is over")
)

// A wireError is an error of feed that does not come from its sink.
type wireError struct{ err error }

func (e *wireError) Error() string { return e.err.Error() }
func (e *wireError) Unwrap() error { return e.err }

// feed pushes the body and the trailer into dst. An error that the sink has not
// returned is a *wireError.
func (s *stream) feed(dst content, l limit) error {
	c := s.c
	flushed := false
	since := c.now()
	for {
		c.mu.Lock()
		switch {
		case s.recv.size > 0 && s.err == nil:
			p := s.recv.lend()
			end := s.ended && !s.trailed && len(p) == s.recv.size
			c.mu.Unlock()
			err := dst.Data(p, end)
			c.mu.Lock()
			s.took(len(p))
			c.mu.Unlock()
			if err != nil || end {
				return err
			}
			flushed, since = false, c.now()
			continue
		case s.err != nil:
			err := s.err
			c.mu.Unlock()
			return &wireError{err}
		case s.tooLarge:
			c.mu.Unlock()
			return &wireError{errTooLarge}
		case s.ended:
			trailed := s.trailed
			c.mu.Unlock()
			if trailed {
				return dst.Trailer(&s.trailer)
			}
			return dst.Data(nil, true)
		}
		c.mu.Unlock()
		if !flushed {
			flushed = true
			if err := dst.Data(nil, false); err != nil {
				return err
			}
			continue
		}
		now := c.now()
		d, late := l.left(s.silentSince(since, now), now)
		if d <= 0 && late {
			return &wireError{errDeadline}
		} else if d <= 0 {
			return &wireError{errTimeout}
		}
		s.in.wait(d)
	}
}

// silentSince returns since when the peer is silent, which last said something at since.
// A server is waiting for us as long as we have not sent all of our message.
func (s *stream) silentSince(since, now moment) moment {
	if !s.c.client {
		return since
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.finished {
		return now
	}
	return max(since, s.sent)
}

// took is called when the sink has taken n bytes: the peer may send as many again.
// c.mu is held, and given up meanwhile.
func (s *stream) took(n int) {
	c := s.c
	lent := s.recv.lent
	s.recv.giveBack(n)
	c.share.letGo(lent-s.recv.lent, 0)
	if !s.open || s.ended {
		return
	}
	grant := s.allow.give(n)
	if grant == 0 {
		return
	}
	// Half a window has come within the time of a round trip, and the sink has taken
	// all of it: the window may be what holds the peer up.
	now := c.now()
	if s.recv.size == 0 && now-s.opened < growTime {
		if more := min(s.allow.size, maxStreamWindow-s.allow.size, maxGrowth-c.share.grown); more > 0 && c.share.grow(more) {
			s.allow.grow(more)
			grant += more
		}
	}
	s.opened = now
	c.control(c.fr.WriteWindowUpdate(s.id, uint32(grant)))
	c.flush()
}

// expect judges the length of s's message, of which n more bytes have come. end: they
// are the last. c.mu is held.
func (s *stream) expect(n int, end bool) error {
	s.got += int64(n)
	if s.length >= 0 && (s.got > s.length || end && s.got != s.length) {
		return &streamError{s.id, http2.ErrCodeProtocol, ReasonWrongLength}
	}
	return nil
}
