package h2

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
)

// A clientStream is the upstream's side of one exchange. It is used again for others.
type clientStream struct {
	stream

	conn     *ClientConn // immutable during an exchange
	deadline moment      // see SetDeadline
	reused   bool        // conn had completed an exchange before

	// Owned by the writer.
	method string
	left   int64 // bytes that Length promises still; exchange.LengthUnknown
	began  bool  // Head was called

	// Guarded by conn.mu.
	slot     bool // a reserved one, no stream yet
	resp     exchange.Response
	final    bool                 // resp is the final head
	interim  []*exchange.Response // that Feed has not taken
	interims int                  // 1xx heads so far
	waiting  int                  // size of those in interim
}

var (
	_ exchange.Upstream  = (*clientStream)(nil)
	_ exchange.Deadliner = (*clientStream)(nil)
	_ exchange.Releaser  = (*clientStream)(nil)
)

// newStream returns a stream that has a reserved slot.
func (c *ClientConn) newStream() *clientStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	var x *clientStream
	if n := len(c.free); n > 0 {
		x = c.free[n-1]
		c.free[n-1] = nil
		c.free = c.free[:n-1]
	} else {
		x = new(clientStream)
	}
	x.in.init()
	x.out.init()
	x.conn, x.c, x.owner = c, &c.conn, x
	x.reused, x.slot, x.left = c.Reused(), true, exchange.LengthUnknown
	return x
}

// Release implements exchange.Releaser.
func (x *clientStream) Release() {
	c := x.conn
	if c == nil {
		return
	}
	x.Reset(exchange.CodeCancel) // has no effect on one that is over
	c.mu.Lock()
	defer c.mu.Unlock()
	x.dropBody()
	x.trailer.Reset()
	x.resp.Reset()
	clear(x.interim)
	*x = clientStream{
		stream: stream{in: x.in, out: x.out, recv: x.recv, trailer: x.trailer},
		resp:   x.resp, interim: x.interim[:0],
	}
	if len(c.free) < maxWorkers && !invariants {
		c.free = append(c.free, x)
	}
}

// SetDeadline implements exchange.Deadliner.
func (x *clientStream) SetDeadline(t time.Time) { x.deadline = x.conn.at(t) }

// Reset implements exchange.Stream.
func (x *clientStream) Reset(code exchange.Code) {
	c := x.conn
	if c == nil {
		return // released
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.slot {
		x.slot = false
		c.reserved--
		x.failWith(exchange.ErrReset)
		c.atRest()
		return
	}
	wire := errorCode(code)
	if wire == http2.ErrCodeRefusedStream { // is for servers to say
		wire = http2.ErrCodeCancel
	}
	x.giveUp(wire)
	c.flushAside()
}

// giveUp resets x, which has not come to its end. c.mu is held; somebody has to flush.
func (x *clientStream) giveUp(code http2.ErrCode) {
	if !x.open {
		return
	}
	x.conn.judge()
	x.conn.spend()
	x.reset(code, exchange.ErrReset)
}

// Head implements exchange.Sink. A head waits for the first bytes of its body, or a
// flush: they leave in one write.
func (x *clientStream) Head(h *exchange.Request, end bool) error {
	c := x.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case x.began:
		return x.order("write head")
	case x.err != nil:
		return x.writeError(x.err)
	case h.Upgrade != "":
		return x.refuse(&exchange.Error{Op: "write head", Side: exchange.UpstreamSide, Status: http.StatusNotImplemented, Reason: ReasonUpgrade})
	case !writable(&h.Fields) || !isMethod(h.Method) || !isText(h.Target) || !isText(h.Authority):
		return x.refuse(x.writeError(errBadField))
	case !c.usableLocked(), len(c.streams) >= c.most():
		return x.refuse(x.unsent())
	case listSize(h) > int64(c.peer.head):
		return x.refuse(&exchange.Error{
			Op: "write head", Side: exchange.UpstreamSide, Status: http.StatusRequestHeaderFieldsTooLarge, Reason: ReasonHeadTooLarge,
		})
	}
	x.began, x.method = true, h.Method
	x.slot = false
	c.reserved--
	x.begin(c.next)
	c.next += 2
	x.writeHead(h, end)
	if !end {
		return nil
	}
	x.end()
	c.flush()
	return nil
}

// begin opens x with this id. Unlike conn.begin it leaves alone what Feed, which may have
// been called already, waits with. c.mu is held.
func (x *clientStream) begin(id uint32) {
	c := x.c
	x.id, x.open = id, true
	x.allow = allowance{left: streamWindow, size: streamWindow}
	x.length, x.send = exchange.LengthUnknown, window(c.peer.window)
	c.streams[id] = &x.stream
	c.last = max(c.last, id)
}

// refuse makes err what further calls get: nothing was sent. c.mu is held.
func (x *clientStream) refuse(err error) error {
	x.failWith(err)
	return err
}

// writeHead appends the request head (RFC 9113 8.3.1). c.mu is held.
func (x *clientStream) writeHead(h *exchange.Request, end bool) {
	c := x.conn
	c.encode(":method", h.Method)
	c.encode(":scheme", c.scheme)
	if h.Authority != "" {
		c.encode(":authority", h.Authority)
	}
	c.encode(":path", h.Target)
	c.encodeFields(&h.Fields)
	if h.Fields.Has("te") {
		c.encode("te", "trailers")
	}
	switch {
	case end:
		x.left = 0
		// RFC 9110 8.6: a zero is sent where the method expects content.
		if h.Fields.Has("content-length") || h.Method == "POST" || h.Method == "PUT" || h.Method == "PATCH" {
			c.encode("content-length", "0")
		}
	case h.Length >= 0:
		x.left = h.Length
		c.encode("content-length", strconv.FormatInt(h.Length, 10))
	}
	c.writeBlock(x.id, end)
}

// listSize returns the size of the field section of h, as in DefaultMaxHead.
func listSize(h *exchange.Request) int64 {
	n := h.Fields.Size() + h.Fields.Len()*32
	return int64(n + len(h.Method) + len(h.Authority) + len(h.Target) + 5*32 + 64) // pseudo-fields, content-length, te
}

// Data implements exchange.Sink.
func (x *clientStream) Data(p []byte, end bool) error {
	c := x.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !x.began || x.finished:
		return x.order("write body")
	case x.err != nil || !x.open:
		return x.writeError(x.stopped())
	case x.left >= 0 && (int64(len(p)) > x.left || end && int64(len(p)) != x.left):
		return x.writeError(errWrongLength)
	case x.left >= 0:
		x.left -= int64(len(p))
	}
	if err := x.sendData(p, end, limit{timeout: c.o.WriteTimeout, deadline: x.deadline}); err != nil {
		if errors.Is(err, errTimeout) && c.send <= 0 && !c.leaving {
			c.leave() // its own window is shut: what has a body would run into that too
		}
		return x.writeError(err)
	}
	if end {
		x.end()
	}
	if end || len(p) == 0 || c.out.n >= flushSize {
		c.flush()
	}
	return nil
}

// Trailer implements exchange.Sink.
func (x *clientStream) Trailer(f *exchange.Fields) error {
	c := x.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !x.began || x.finished:
		return x.order("write trailer")
	case x.err != nil || !x.open:
		return x.writeError(x.stopped())
	case !writable(f):
		return x.writeError(errBadField)
	case x.left > 0:
		return x.writeError(errWrongLength)
	}
	if c.encodeTrailer(f) {
		c.writeBlock(x.id, true)
	} else {
		c.frame(http2.FrameData, http2.FlagDataEndStream, x.id, nil)
	}
	x.end()
	c.flush()
	return nil
}

// end notes that the request is in the output. c.mu is held.
func (x *clientStream) end() {
	x.finished, x.sent = true, x.c.now()
	if x.conn.asked <= moment(x.c.heard.Load()) {
		x.conn.asked = x.sent
	}
	x.in.wake() // the read timeout counts from here
	x.over()
}

// stopped is why x cannot be written any more. c.mu is held.
func (x *clientStream) stopped() error {
	if x.err != nil {
		return x.err
	}
	return errOver
}

func (x *clientStream) order(op string) error {
	return &exchange.Error{Op: op, Side: exchange.Internal, Status: http.StatusInternalServerError, Reason: ReasonOrder}
}

// unsent is the error of a request of which the upstream has not seen a byte, because
// the connection has come to its end, or takes fewer, since the slot was taken. c.mu is
// held.
func (x *clientStream) unsent() error {
	e := &exchange.Error{
		Op: "write request", Side: exchange.UpstreamSide, Retry: exchange.RetryAlways, Status: http.StatusBadGateway, Reason: ReasonClosed, Err: x.c.err,
	}
	switch {
	case x.conn.leaving:
		e.Reason = ReasonGoAway
	case x.conn.usableLocked(): // but its limit was lowered meanwhile
		e.Reason = ReasonRefused
	}
	return e
}

// writeError says what an error while writing the request means. c.mu is held.
func (x *clientStream) writeError(err error) error {
	const op = "write request"
	switch {
	case errors.Is(err, exchange.ErrAnswered), errors.Is(err, errOver) && x.ended:
		return exchange.ErrAnswered // it may have reset the stream behind its whole answer
	case errors.Is(err, errBadField):
		return &exchange.Error{Op: op, Side: exchange.Internal, Status: http.StatusBadRequest, Reason: ReasonBadField, Err: err}
	case errors.Is(err, errWrongLength):
		return &exchange.Error{Op: op, Side: exchange.Internal, Status: http.StatusBadGateway, Reason: ReasonWrongLength, Err: err}
	case errors.Is(err, errTimeout):
		return &exchange.Error{Op: op, Side: exchange.UpstreamSide, Status: http.StatusGatewayTimeout, Reason: ReasonWriteTimeout, Err: err}
	}
	e := x.streamError(op, err)
	x.judgeRetry(e)
	return e
}

// judgeRetry takes back what e says of sending the request again if the upstream has
// begun to answer: it has looked at the request, whatever it says of that. c.mu is held.
func (x *clientStream) judgeRetry(e *exchange.Error) {
	if !x.final && x.interims == 0 || e.Side != exchange.UpstreamSide {
		return
	}
	e.Retry = exchange.RetryNever
	if e.Reason == ReasonClosed || e.Reason == ReasonGoAway || e.Reason == ReasonRefused {
		e.Reason = ReasonTruncated
	}
}

// streamError says what it means that the stream was reset, or its connection lost.
func (x *clientStream) streamError(op string, err error) *exchange.Error {
	e := &exchange.Error{Op: op, Side: exchange.UpstreamSide, Status: http.StatusBadGateway, Reason: ReasonClosed, Err: err}
	var re *resetError
	var ue *unprocessedError
	var of *exchange.Error
	switch {
	case errors.Is(err, exchange.ErrReset):
		e.Side, e.Status, e.Reason, e.Err = exchange.Internal, 0, ReasonReset, exchange.ErrReset
	case errors.Is(err, errDeadline):
		e.Status, e.Reason = http.StatusGatewayTimeout, ReasonDeadline
	case errors.As(err, &ue):
		e.Reason, e.Retry = ReasonGoAway, exchange.RetryAlways
	case errors.As(err, &re):
		e.Reason = ReasonReset
		if re.code == http2.ErrCodeRefusedStream { // RFC 9113 8.7: it was not processed
			e.Reason, e.Retry = ReasonRefused, exchange.RetryAlways
		}
	case errors.As(err, &of) && of.Status != 0: // of Head
		return of
	case of != nil: // what the upstream broke, or the end of its connection
		e.Reason, e.Err = of.Reason, of.Err
		if of.Reason == ReasonWriteTimeout || of.Reason == ReasonReadTimeout { // of the connection
			e.Status = http.StatusGatewayTimeout
		}
		if of.Reason == ReasonClosed && x.reused {
			e.Retry = exchange.RetryIfReused
		}
	}
	return e
}
