package h1

import (
	"errors"
	"io"

	"wproxy/core/exchange"
)

// A content is the part of a Sink behind its Head.
type content interface {
	Data(p []byte, end bool) error
	Trailer(f *exchange.Fields) error
}

// A framing is how the end of a body is found (RFC 9112 6.3).
type framing uint8

const (
	noBody      framing = iota
	lengthBody          // by Content-Length
	chunkedBody         // by the chunked coding
	closeBody           // by the end of the connection
	tunnel              // no message any more: bytes, after 101
)

// A body reads the content of one message from a conn.
type body struct {
	framing framing
	left    int64 // bytes still to come, of lengthBody
	most    int64 // bytes a chunkedBody may still have; < 0: no limit
	chunked chunked
	started bool // a byte of it was consumed
	done    bool // all of it was consumed
}

// errors of feed that are about the bytes, not about the connection.
var (
	errBadBody  = errors.New("malformed body")
	errTooLarge = errors.New("body too large")
)

// A bodyError says what was wrong with a body.
type bodyError struct {
	fault
	err error // errBadBody or errTooLarge
}

func (e *bodyError) Error() string { return e.err.Error() + ": " + e.reason }

func (e *bodyError) Unwrap() error { return e.err }

// A feeder is what feed needs beside the body.
type feeder struct {
	c       *conn
	limit   limit
	trailer *exchange.Fields
	section *section
	fields  int       // most lines in a trailer
	last    completer // told before the call that ends the message; may be nil
	held    holder    // told about calls that do not end it; may be nil
	wire    error     // why feed failed, unless it was dst that failed
}

// A completer is told that a message is complete.
type completer interface{ complete() }

// A holder is told what a message still lacks while a part of it is handed on.
type holder interface {
	hold(lacks int64)
	letGo()
}

// data hands on a part of a message that still lacks some bytes, or, if lacks is
// negative, an unknown number.
func (f *feeder) data(dst content, p []byte, lacks int64) error {
	if f.held == nil {
		return dst.Data(p, false)
	}
	f.held.hold(lacks)
	err := dst.Data(p, false)
	f.held.letGo()
	return err
}

// failed notes an error that is not dst's.
func (f *feeder) failed(err error) error {
	f.wire = err
	return err
}

// feed pushes what is left of the body into dst, flushing it before it waits.
// The errors are dst's, or else also in f.wire: those of conn, *bodyError, and
// io.ErrUnexpectedEOF.
func (b *body) feed(f *feeder, dst content) error {
	c := f.c
	f.wire = nil
	fresh := true // something was passed on since the last flush
	copied := false
	for {
		if b.left >= minSplice && b.started && !copied && b.framing == lengthBody && len(c.buffered()) == 0 {
			copied = true
			if done, err := b.splice(f, dst); done || err != nil {
				return err
			}
		}
		if len(c.buffered()) == 0 {
			if err := b.wait(f, dst, fresh); err != nil {
				if f.wire != nil && errors.Is(err, io.EOF) {
					return b.atEOF(f, dst)
				}
				return err
			}
		}
		done, passed, err := b.pass(f, dst)
		if done || err != nil {
			return err
		}
		fresh = passed
	}
}

// splice passes all of a lengthBody on without copying it, if both ends can: what was
// passed on before is flushed first, so that nothing waits. Not done: it is to be copied.
func (b *body) splice(f *feeder, dst content) (done bool, err error) {
	to, ok := dst.(exchange.Piper)
	if !ok || f.held != nil || f.c.raw == nil || f.c.tls != nil || !to.Pipes() {
		return false, nil
	}
	p := takePipe()
	if p == nil {
		return false, nil
	}
	defer p.giveBack()
	if err := dst.Data(nil, false); err != nil {
		return false, err
	}
	for first := true; ; first = false {
		n, err := p.fill(f.c, b.left, f.limit)
		switch {
		case first && errors.Is(err, errNoSplice):
			return false, nil
		case errors.Is(err, io.EOF):
			return false, f.failed(io.ErrUnexpectedEOF)
		case err != nil:
			return false, f.failed(err)
		}
		if b.left -= int64(n); b.left == 0 {
			b.done = true
			if f.last != nil {
				f.last.complete()
			}
		}
		if err := to.DataPipe(p.r, n, b.left == 0); err != nil {
			return false, err
		}
		p.holds = 0
		if b.left == 0 {
			return true, nil
		}
	}
}

// errNoSplice is returned where the kernel cannot pass bytes on from this socket.
var errNoSplice = errors.New("cannot be spliced")

// wait reads more. Before it blocks it flushes dst if there is something to flush.
func (b *body) wait(f *feeder, dst content, fresh bool) error {
	c := f.c
	c.size = headBuffer
	if b.framing != lengthBody || b.left > headBuffer {
		c.size = bodyBuffer
	}
	if fresh {
		if ok, err := c.tryFill(bodyBuffer); err != nil {
			if b.framing == tunnel { // what was said last counts, whatever came then
				if err := dst.Data(nil, false); err != nil {
					return err
				}
			}
			return f.failed(err)
		} else if ok {
			return nil
		}
		if err := dst.Data(nil, false); err != nil {
			return err
		}
	}
	if err := c.fill(f.limit, bodyBuffer); err != nil {
		return f.failed(err)
	}
	return nil
}

// pass pushes what is buffered. It reports whether the message has ended and
// whether anything was pushed.
func (b *body) pass(f *feeder, dst content) (done, passed bool, err error) {
	c := f.c
	b.started = true
	switch b.framing {
	case lengthBody:
		p := c.buffered()
		if int64(len(p)) > b.left {
			p = p[:b.left]
		}
		c.r += len(p)
		b.left -= int64(len(p))
		if b.left == 0 {
			return true, true, b.end(f, dst, p)
		}
		return false, true, f.data(dst, p, b.left)
	case chunkedBody:
		return b.passChunks(f, dst)
	default:
		p := c.buffered()
		c.r = c.w
		if b.framing == tunnel {
			c.active.Store(int64(c.now()))
		}
		return false, true, dst.Data(p, false)
	}
}

// end is the last call of a message without trailer.
func (b *body) end(f *feeder, dst content, p []byte) error {
	b.done = true
	if f.last != nil {
		f.last.complete()
	}
	return dst.Data(p, true)
}

func (b *body) passChunks(f *feeder, dst content) (done, passed bool, err error) {
	c := f.c
	data, n, last, bad := b.chunked.next(c.buffered())
	if !bad.ok() {
		return false, false, f.failed(&bodyError{bad, errBadBody})
	}
	c.r += n
	if b.most >= 0 {
		if b.most -= int64(len(data)); b.most < 0 {
			return false, false, f.failed(&bodyError{fault{413, ReasonBodyTooLarge}, errTooLarge})
		}
	}
	if !last {
		switch {
		case len(data) == 0:
			return false, false, nil
		case len(c.buffered()) == 0:
			return false, true, f.data(dst, data, -1)
		}
		return false, true, dst.Data(data, false) // the rest may be in the buffer
	}
	if p := c.buffered(); len(p) >= 2 && p[0] == '\r' && p[1] == '\n' { // no trailer: the usual case
		c.r += 2
		return true, true, b.end(f, dst, data)
	}
	if len(data) > 0 {
		if err := dst.Data(data, false); err != nil {
			return false, true, err
		}
	}
	return true, true, b.passTrailer(f, dst, len(data) > 0)
}

// passTrailer reads the trailer section (RFC 9112 7.1.2) and ends the message.
func (b *body) passTrailer(f *feeder, dst content, fresh bool) error {
	c := f.c
	f.section.reset()
	for {
		p := c.buffered()
		n, bad := f.section.scan(p, f.fields)
		if bad.ok() && (n > maxTrailer || n == 0 && len(p) > maxTrailer) {
			bad = fault{431, ReasonTrailerTooBig}
		}
		if !bad.ok() {
			return f.failed(&bodyError{bad, errBadBody})
		}
		if n > 0 {
			f.trailer.Reset()
			if bad := parseTrailer(p[:n], f.section, f.trailer); !bad.ok() {
				return f.failed(&bodyError{bad, errBadBody})
			}
			c.r += n
			break
		}
		if err := b.waitTrailer(f, dst, fresh); err != nil {
			return err
		}
		fresh = false
	}
	if f.trailer.Len() == 0 {
		return b.end(f, dst, nil)
	}
	b.done = true
	if f.last != nil {
		f.last.complete()
	}
	return dst.Trailer(f.trailer)
}

func (b *body) waitTrailer(f *feeder, dst content, fresh bool) error {
	if fresh {
		if err := dst.Data(nil, false); err != nil {
			return err
		}
	}
	err := f.c.fill(f.limit, 2*maxTrailer)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return f.failed(err)
}

// atEOF is the end of the connection.
func (b *body) atEOF(f *feeder, dst content) error {
	f.wire = nil
	if b.framing == closeBody || b.framing == tunnel {
		return b.end(f, dst, nil)
	}
	return f.failed(io.ErrUnexpectedEOF)
}

// discard is a content that drops what it gets, up to a limit.
type discard struct{ left int64 }

func (d *discard) Data(p []byte, _ bool) error {
	if d.left -= int64(len(p)); d.left < 0 {
		return errTooLarge
	}
	return nil
}

func (d *discard) Trailer(*exchange.Fields) error { return nil }
