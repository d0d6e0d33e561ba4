package h2

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
)

// Head implements exchange.Sink. A final head waits for the first bytes of its body,
// or a flush: they leave in one write.
func (x *serverStream) Head(h *exchange.Response, end bool) error {
	x.alive()
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &x.answer
	switch {
	case a.begun, h.Status == http.StatusSwitchingProtocols: // which HTTP/2 does not have (RFC 9113 8.6)
		return x.errorf("write head", exchange.Internal, 0, ReasonOrder, nil)
	case x.err != nil || !x.open:
		return x.writeError(x.stopped())
	case !writable(&h.Fields):
		return x.writeError(errBadField)
	case h.Status < 200:
		return x.interim(h)
	}
	a.head, a.begun = h, true
	x.setFraming(h, end)
	if end {
		return x.write(nil, true)
	}
	return nil
}

// setFraming decides what body the answer has.
func (x *serverStream) setFraming(h *exchange.Response, end bool) {
	a := &x.answer
	a.noBody = x.req.Method == http.MethodHead || h.Status == http.StatusNoContent || h.Status == http.StatusNotModified
	a.left = h.Length
	if end && h.Length < 0 {
		a.left = 0
	}
}

// interim writes a 1xx head, at once. c.mu is held.
func (x *serverStream) interim(h *exchange.Response) error {
	c, a := x.c, &x.answer
	if a.interim++; a.interim > maxInterim {
		return x.writeError(errInterim)
	}
	if err := x.awaitRoom(x.limit()); err != nil {
		return x.writeError(err)
	}
	c.encode(":status", statusText(h.Status))
	c.encodeFields(&h.Fields)
	c.writeBlock(x.id, false)
	c.flush()
	return nil
}

// limit bounds the waits of a call that writes.
func (x *serverStream) limit() limit {
	return limit{timeout: x.c.o.WriteTimeout, deadline: x.deadline}
}

var errInterim = errors.New("too many 1xx heads")

// writeHead appends the head that waits, if there is one; end: nothing follows. It
// reports whether END_STREAM went out with it. c.mu is held.
func (x *serverStream) writeHead(end bool) bool {
	c, h := x.c, x.answer.head
	if h == nil {
		return false
	}
	x.answer.head = nil
	c.encode(":status", statusText(h.Status))
	c.encodeFields(&h.Fields)
	if !h.Fields.Has("date") {
		c.encode("date", x.conn.s.date.at(time.Now())) // RFC 9110 6.6.1
	}
	switch {
	case h.Status == http.StatusNoContent:
	case x.answer.noBody && h.Length >= 0, !x.answer.noBody && x.answer.left >= 0:
		c.encode("content-length", lengthText(h, max(h.Length, 0)))
	}
	c.writeBlock(x.id, end)
	return end
}

// lengthText returns n as text: as a rule that of the field, which plugins see.
func lengthText(h *exchange.Response, n int64) string {
	if s, ok := h.Fields.Get("content-length"); ok {
		if m, ok := parseLength(s); ok && m == n {
			return s
		}
	}
	return strconv.FormatInt(n, 10)
}

// Data implements exchange.Sink.
func (x *serverStream) Data(p []byte, end bool) error {
	x.alive()
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !x.answer.begun {
		if len(p) == 0 && !end {
			return nil // a flush behind 1xx heads is fine
		}
		return x.errorf("write body", exchange.Internal, 500, ReasonOrder, nil)
	}
	return x.write(p, end)
}

// write writes a part of the body, and the head before it. c.mu is held.
func (x *serverStream) write(p []byte, end bool) error {
	c, a := x.c, &x.answer
	switch {
	case x.finished:
		return x.errorf("write body", exchange.Internal, 0, ReasonOrder, nil)
	case x.err != nil || !x.open:
		return x.writeError(x.stopped())
	case a.noBody:
		p = nil
	case a.left >= 0 && (int64(len(p)) > a.left || end && int64(len(p)) != a.left):
		return x.writeError(errWrongLength)
	case a.left >= 0:
		a.left -= int64(len(p))
	}
	if a.head != nil {
		if err := x.awaitRoom(x.limit()); err != nil {
			return x.writeError(err)
		}
	}
	if x.writeHead(end && len(p) == 0) {
		return x.end()
	}
	if err := x.sendData(p, end, x.limit()); err != nil {
		return x.writeError(err)
	}
	if end {
		return x.end()
	}
	if len(p) == 0 || c.out.n >= flushSize {
		c.flush()
	}
	return nil
}

var errWrongLength = errors.New("more or less data than the head has promised")

// Trailer implements exchange.Sink.
func (x *serverStream) Trailer(f *exchange.Fields) error {
	x.alive()
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &x.answer
	switch {
	case !a.begun || x.finished:
		return x.errorf("write trailer", exchange.Internal, 0, ReasonOrder, nil)
	case x.err != nil || !x.open:
		return x.writeError(x.stopped())
	case !writable(f):
		return x.writeError(errBadField)
	case a.left > 0 && !a.noBody:
		return x.writeError(errWrongLength)
	}
	if err := x.awaitRoom(x.limit()); err != nil {
		return x.writeError(err)
	}
	x.writeHead(false)
	if c.encodeTrailer(f) {
		c.writeBlock(x.id, true)
	} else {
		c.frame(http2.FrameData, http2.FlagDataEndStream, x.id, nil)
	}
	return x.end()
}

// end is the end of the answer, which is in the output. c.mu is held, and given up
// meanwhile.
func (x *serverStream) end() error {
	c := x.c
	x.finished = true
	c.counts.resets.refund(resetsPerExchange)
	if x.ended {
		x.over()
	} else {
		// Rule 8: nobody needs the rest of the request. Feed, which may be blocked,
		// returns ErrAnswered.
		x.reset(http2.ErrCodeNo, exchange.ErrAnswered)
	}
	c.flush()
	c.mu.Unlock()
	x.presence.notify(nil) // the upstream's stream must not be reset from now on
	c.mu.Lock()
	return nil
}

// Retract implements exchange.Retractor.
func (x *serverStream) Retract() bool {
	x.alive()
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.answer.head == nil || x.err != nil || !x.open {
		return false
	}
	x.answer.head, x.answer.begun = nil, false
	return true
}

// stopped is why x cannot be written any more. c.mu is held.
func (x *serverStream) stopped() error {
	if x.err != nil {
		return x.err
	}
	return errOver
}

// writeError says what an error while writing the answer means.
func (x *serverStream) writeError(err error) error {
	const op = "write answer"
	switch {
	case errors.Is(err, exchange.ErrReset):
		return x.errorf(op, exchange.Internal, 0, ReasonReset, exchange.ErrReset)
	case errors.Is(err, errBadField):
		return x.errorf(op, exchange.Internal, 502, ReasonBadField, err)
	case errors.Is(err, errInterim):
		return x.errorf(op, exchange.UpstreamSide, 502, ReasonInterim, err)
	case errors.Is(err, errWrongLength):
		return x.errorf(op, exchange.Internal, 0, ReasonWrongLength, err)
	case errors.Is(err, errTimeout):
		return x.errorf(op, exchange.ClientSide, 0, ReasonWriteTimeout, err)
	case errors.Is(err, errDeadline):
		return x.errorf(op, exchange.ClientSide, 0, ReasonDeadline, err)
	}
	if e, ok := errors.AsType[*exchange.Error](err); ok {
		return x.errorf(op, exchange.ClientSide, 0, e.Reason, e.Err)
	}
	return x.errorf(op, exchange.ClientSide, 0, ReasonClosed, err)
}
