package h1

import (
	"errors"
	"net"
	"time"

	"wproxy/core/exchange"
)

// Head implements exchange.Sink.
func (x *serverStream) Head(h *exchange.Response, end bool) error {
	x.alive()
	x.wmu.Lock()
	defer x.wmu.Unlock()
	if x.flags.Load()&flagAnswered != 0 {
		return x.errorf("write head", exchange.Internal, 0, ReasonOrder, nil)
	}
	if h.Status < 200 && h.Status != 101 {
		return x.interim(h)
	}
	err := x.final(h, end)
	x.wake()
	return err
}

// final writes a final head.
func (x *serverStream) final(h *exchange.Response, end bool) error {
	lengthField := x.setFraming(h, end)
	b := x.w.begin(headSize(&h.Fields, len(h.Upgrade)))
	from := len(b)
	b = appendStatusLine(b, h.Status)
	b, lines := appendFields(b, &h.Fields)
	lines += 2 // status line and empty line
	if !h.Fields.Has("date") {
		b = appendField(b, "date", x.c.s.date.at(time.Now())) // RFC 9110 6.6.1
		lines++
	}
	switch {
	case lengthField >= 0:
		b = appendLength(b, lengthField)
		lines++
	case x.w.framing == chunkedBody:
		b = append(b, "transfer-encoding: chunked\r\n"...)
		lines++
	}
	b, lines = x.appendConnection(b, lines, h)
	if err := x.w.commit(append(b, crlf...), from, lines); err != nil {
		return x.writeError(err)
	}
	x.before = x.c.wrote // what waited before it are interim heads, which are flushed
	x.flags.Or(flagAnswered)
	if end {
		x.flags.Or(flagEnding)
		return x.end(x.w.data(nil, true))
	}
	if x.tunnel {
		// The client must have seen a 101 before the tunnel's first bytes,
		// which may come from either side.
		if err := x.w.flush(); err != nil {
			return x.writeError(err)
		}
	}
	return nil
}

// setFraming decides how the answer's body is framed (RFC 9112 6.3) and whether
// the connection can be kept. It returns the Content-Length to send, or -1.
func (x *serverStream) setFraming(h *exchange.Response, end bool) int64 {
	flags := x.flags.Load()
	x.closing = !x.head.keepAlive(x.req.Version) || x.c.s.draining.Load() || flags&flagMustClose != 0 ||
		// A client that was never told to send its body may or may not do so:
		// what its next bytes are could not be known.
		x.req.ExpectContinue && flags&(flagBodyBegun|flagReqDone) == 0
	w := &x.w
	switch {
	case h.Status == 101:
		w.framing, w.marks, x.tunnel = tunnel, true, true
		w.limit = limit{timeout: x.idle}
		x.flags.Or(flagTunnel)
		x.c.active.Store(int64(x.c.now()))
		x.c.requestOver()
		return -1
	case h.Status == 204:
		w.framing = noBody
		return -1
	case x.req.Method == "HEAD" || h.Status == 304:
		w.framing = noBody
		return h.Length // of what a GET would have brought, if known
	case end && h.Length <= 0:
		w.framing = noBody
		return 0
	case h.Length >= 0:
		w.framing, w.left = lengthBody, h.Length
		return h.Length
	case x.req.Version == exchange.HTTP10:
		w.framing, x.closing = closeBody, true
	default:
		w.framing = chunkedBody
	}
	return -1
}

// appendConnection appends the Connection field, if one is needed.
func (x *serverStream) appendConnection(b []byte, lines int, h *exchange.Response) ([]byte, int) {
	switch {
	case x.tunnel:
		protocol := h.Upgrade
		if protocol == "" {
			protocol = x.req.Upgrade
		}
		return appendField(append(b, "connection: upgrade\r\n"...), "upgrade", protocol), lines + 2
	case x.closing:
		return append(b, "connection: close\r\n"...), lines + 1
	case x.req.Version == exchange.HTTP10:
		return append(b, "connection: keep-alive\r\n"...), lines + 1
	}
	return b, lines
}

// interim writes a 1xx head, at once (RFC 9110 15.2: never to HTTP/1.0).
func (x *serverStream) interim(h *exchange.Response) error {
	if x.req.Version == exchange.HTTP10 {
		return nil
	}
	b := x.w.begin(headSize(&h.Fields, 0))
	from := len(b)
	b = appendStatusLine(b, h.Status)
	b, lines := appendFields(b, &h.Fields)
	if err := x.w.commit(append(b, crlf...), from, lines+2); err != nil {
		return x.writeError(err)
	}
	if err := x.w.flush(); err != nil {
		return x.writeError(err)
	}
	return nil
}

// Data implements exchange.Sink.
func (x *serverStream) Data(p []byte, end bool) error {
	x.alive()
	x.wmu.Lock()
	defer x.wmu.Unlock()
	if x.flags.Load()&flagAnswered == 0 {
		return x.beforeHead(p, end)
	}
	if x.finished {
		return x.errorf("write body", exchange.Internal, 0, ReasonOrder, nil)
	}
	if end {
		x.flags.Or(flagEnding)
	}
	err := x.w.data(p, end)
	if end {
		return x.end(err)
	}
	if err != nil {
		return x.writeError(err)
	}
	return nil
}

// Pipes implements exchange.Piper.
func (x *serverStream) Pipes() bool {
	x.alive()
	x.wmu.Lock()
	defer x.wmu.Unlock()
	return x.c.raw != nil && x.c.tls == nil && x.w.framing == lengthBody && x.flags.Load()&flagAnswered != 0
}

// DataPipe implements exchange.Piper.
func (x *serverStream) DataPipe(fd, n int, end bool) error {
	x.alive()
	x.wmu.Lock()
	defer x.wmu.Unlock()
	if x.flags.Load()&flagAnswered == 0 || x.finished {
		return x.errorf("write body", exchange.Internal, 0, ReasonOrder, nil)
	}
	if end {
		x.flags.Or(flagEnding)
	}
	err := x.w.pipe(fd, n, end)
	if end {
		return x.end(err)
	}
	if err != nil {
		return x.writeError(err)
	}
	return nil
}

// Retract implements exchange.Retractor: a head waits for the first bytes of its
// body, and an upstream that fails at once has been answered for in time.
func (x *serverStream) Retract() bool {
	x.alive()
	x.wmu.Lock()
	defer x.wmu.Unlock()
	const final = flagEnding | flagReset | flagMustClose
	flags := x.flags.Load()
	if flags&flagAnswered == 0 || flags&final != 0 || x.tunnel || x.c.wrote != x.before {
		return false
	}
	w := &x.w
	w.release()
	w.framing, w.left, w.err = noBody, 0, nil
	x.flags.And(^uint32(flagAnswered))
	return true
}

// beforeHead judges Data before a final head: a flush, behind 1xx heads, is fine.
func (x *serverStream) beforeHead(p []byte, end bool) error {
	if len(p) == 0 && !end {
		return nil
	}
	return x.errorf("write body", exchange.Internal, 500, ReasonOrder, nil)
}

// Trailer implements exchange.Sink.
func (x *serverStream) Trailer(f *exchange.Fields) error {
	x.alive()
	x.wmu.Lock()
	defer x.wmu.Unlock()
	if x.flags.Load()&flagAnswered == 0 || x.finished {
		return x.errorf("write trailer", exchange.Internal, 0, ReasonOrder, nil)
	}
	x.flags.Or(flagEnding)
	return x.end(x.w.trailer(f))
}

// end is the end of the answer; err is what came out of writing it.
func (x *serverStream) end(err error) error {
	if err != nil {
		return x.writeError(err)
	}
	x.finished = true
	x.c.requestOver() // the upstream's stream must not be reset from now on
	if x.tunnel {
		x.flags.Or(flagResDone)
		if err := x.c.closeWrite(); err != nil {
			return x.writeError(err)
		}
		return nil
	}
	if x.flags.Or(flagResDone)&flagReqDone == 0 {
		// Rule 8: nobody needs the rest of the request. Feed, which may be
		// blocked, returns ErrAnswered.
		x.c.stopReads()
	}
	return nil
}

// writeError says what an error while writing the answer means. It leaves the
// connection as it is: finish resets it, since the answer is not complete.
func (x *serverStream) writeError(err error) error {
	flags := x.flags.Or(flagMustClose)
	const op = "write answer"
	switch {
	case flags&flagReset != 0:
		return x.errorf(op, exchange.Internal, 0, ReasonReset, exchange.ErrReset)
	case errors.Is(err, errBadField):
		return x.errorf(op, exchange.Internal, 502, ReasonBadField, err)
	case errors.Is(err, errWrongLength):
		return x.errorf(op, exchange.Internal, 0, ReasonWrongLength, err)
	case errors.Is(err, errTimeout):
		return x.errorf(op, exchange.ClientSide, 0, ReasonWriteTimeout, err)
	case errors.Is(err, errDeadline):
		return x.errorf(op, exchange.ClientSide, 0, ReasonDeadline, err)
	case errors.Is(err, net.ErrClosed):
		return x.errorf(op, exchange.Internal, 0, ReasonReset, err)
	}
	return x.errorf(op, exchange.ClientSide, 0, ReasonClosed, err)
}
