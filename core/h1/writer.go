package h1

import (
	"errors"

	"wproxy/core/exchange"
	"wproxy/core/internal/buf"
)

// A writer writes one message to a conn. What is small waits in a buffer for
// what follows, until somebody flushes or the message ends: a head and the first
// bytes of its body leave in one system call.
//
// Its methods are called by one goroutine at a time.
type writer struct {
	c       *conn
	limit   limit
	framing framing
	left    int64 // bytes that a lengthBody lacks

	out *buf.Buf // nil: nothing waits
	n   int      // out.Bytes()[:n] waits
	op  writeOp

	err   error // sticky
	marks bool  // note each write in conn.active
}

// Errors of writers that are not the connection's.
var (
	errWrongLength = errors.New("data does not match the message's length")
	errBadField    = errors.New("field with a line break or NUL")
)

// reset makes w, which must not be moved any more, the writer of another message.
func (w *writer) reset(c *conn) {
	tries, drains := w.op.tries, w.op.drains
	if tries == nil {
		tries = w.op.rawWrite
	}
	*w = writer{} // by itself: with what it begins with, it would be made elsewhere and copied
	w.c, w.op.c, w.op.wrote, w.op.tries, w.op.drains = c, c, &c.wrote, tries, drains
}

// begin returns the waiting bytes for a head to be appended to, with room for
// size more. commit takes the result.
func (w *writer) begin(size int) []byte {
	w.grow(size)
	return w.out.Bytes()[:w.n]
}

// commit stores b, which begin returned and lines lines were appended to; from is
// where they start.
func (w *writer) commit(b []byte, from, lines int) error {
	if !intact(b[from:], lines) {
		return w.fail(errBadField)
	}
	if len(b) > len(w.out.Bytes()) { // begin was asked for too little: append has moved it
		w.grow(len(b) - w.n)
	}
	copy(w.out.Bytes()[w.n:], b[w.n:]) // a move to itself, as a rule
	w.n = len(b)
	return nil
}

// grow makes room for n bytes behind what waits.
func (w *writer) grow(n int) {
	switch {
	case w.out == nil:
		w.out = buf.Get(max(n, writeBuffer))
	case w.n+n > len(w.out.Bytes()):
		next := buf.Get(w.n + n)
		copy(next.Bytes(), w.out.Bytes()[:w.n])
		w.out.Release()
		w.out = next
	}
}

func (w *writer) fail(err error) error {
	if w.err == nil {
		w.err = err
	}
	return w.err
}

// data writes p as part of the body.
func (w *writer) data(p []byte, end bool) error {
	if w.err != nil {
		return w.err
	}
	switch w.framing {
	case noBody:
		p = nil // RFC 9110 6.4.1: whatever is said, there is none
	case lengthBody:
		w.left -= int64(len(p))
		if w.left < 0 || end && w.left != 0 {
			return w.fail(errWrongLength)
		}
	case chunkedBody:
		return w.chunk(p, end)
	case closeBody, tunnel:
	}
	return w.emit(p, nil, end)
}

// pipe writes n bytes out of a pipe as part of a lengthBody.
func (w *writer) pipe(fd, n int, end bool) error {
	if err := w.flush(); err != nil {
		return err
	}
	if w.left -= int64(n); w.left < 0 || end && w.left != 0 || w.framing != lengthBody {
		return w.fail(errWrongLength)
	}
	w.op.limit = w.limit
	if err := w.c.drain(&w.op, fd, n); err != nil {
		return w.fail(err)
	}
	return nil
}

// chunk writes p as a chunk.
func (w *writer) chunk(p []byte, end bool) error {
	if len(p) == 0 {
		if !end {
			return w.flush()
		}
		return w.emit(nil, lastChunkBytes, true)
	}
	w.grow(chunkOverhead)
	w.n = len(appendChunkSize(w.out.Bytes()[:w.n], len(p)))
	if end {
		return w.emit(p, endOfData, true)
	}
	return w.emit(p, crlfBytes, false)
}

var (
	crlfBytes      = []byte(crlf)
	lastChunkBytes = []byte(lastChunk)
	endOfData      = []byte(crlf + lastChunk)
)

// emit writes p and suffix behind what waits, or lets them wait there too. An
// empty p without suffix is a flush.
func (w *writer) emit(p, suffix []byte, end bool) error {
	n := len(p) + len(suffix)
	if n == 0 {
		return w.flush()
	}
	if n <= maxCoalesce && (w.out != nil || !end) {
		if w.out == nil {
			w.grow(n)
		}
		if b := w.out.Bytes(); w.n+n <= len(b) {
			w.n += copy(b[w.n:], p)
			w.n += copy(b[w.n:], suffix)
			if end {
				return w.flush()
			}
			return nil
		}
	}
	return w.send(p, suffix)
}

// flush writes what waits and gives the buffer back.
func (w *writer) flush() error {
	if w.err != nil {
		return w.err
	}
	if w.n == 0 {
		w.release()
		return nil
	}
	return w.send(nil, nil)
}

// send writes what waits, p and suffix.
func (w *writer) send(p, suffix []byte) error {
	if w.n > 0 {
		w.op.v[0] = w.out.Bytes()[:w.n]
	}
	w.op.v[1], w.op.v[2] = p, suffix
	w.op.limit = w.limit
	err := w.c.write(&w.op)
	w.op.v = [3][]byte{} // hold on to nobody's bytes
	w.release()
	if w.marks {
		w.c.active.Store(int64(w.c.now()))
	}
	if err != nil {
		return w.fail(err)
	}
	return nil
}

// waiting returns what waits. It is valid until the next call of another method.
func (w *writer) waiting() []byte {
	if w.out == nil {
		return nil
	}
	return w.out.Bytes()[:w.n]
}

// sent notes that of what waited only rest has not been written yet.
func (w *writer) sent(rest []byte) {
	if w.n = len(rest); w.n == 0 {
		w.release()
		return
	}
	copy(w.out.Bytes(), rest) // towards the front
}

// release gives the buffer back with what waits in it.
func (w *writer) release() {
	if w.out != nil {
		w.out.Release()
		w.out, w.n = nil, 0
	}
}

// trailer ends the body with a trailer section, or without one where the framing
// has no place for it.
func (w *writer) trailer(f *exchange.Fields) error {
	if w.framing != chunkedBody {
		return w.data(nil, true)
	}
	if w.err != nil {
		return w.err
	}
	b := w.begin(headSize(f, 0))
	from := len(b)
	b, lines := appendTrailer(b, f)
	if err := w.commit(b, from, lines); err != nil {
		return err
	}
	return w.flush()
}
