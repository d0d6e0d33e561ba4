package h2

import (
	"errors"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/internal/buf"
)

const invariants = buf.Invariants

// A serverStream is the client's side of one exchange, with the goroutine of its
// Handler. It is used again for others.
type serverStream struct {
	stream

	// Immutable.
	conn *serverConn
	work chan struct{} // told: there is an exchange. nil: the goroutine was not started yet

	// Owned by the reader until the exchange is started, then by whoever is in Feed.
	started  time.Time
	req      exchange.Request
	complete bool // the request had ended with its head
	fed      bool

	ctx      *streamContext
	presence presence
	returned bool // the Handler has returned; for the invariants build

	deadline moment // see SetDeadline

	// Guarded by conn.mu.
	answer answer
	heads  int // bytes of head and trailer that the connection's share has
}

// An answer is how far the response message is.
type answer struct {
	head    *exchange.Response // final head that was not written yet; nil: none
	begun   bool               // there is a final head
	noBody  bool               // HEAD, 204, 304: Data is dropped
	left    int64              // bytes that Length promises still; exchange.LengthUnknown
	interim int                // 1xx heads so far
	invited bool               // 100 was sent, or need not be
}

var (
	_ exchange.Client       = (*serverStream)(nil)
	_ exchange.Deadliner    = (*serverStream)(nil)
	_ exchange.Starter      = (*serverStream)(nil)
	_ exchange.GoneNotifier = (*serverStream)(nil)
	_ exchange.Retractor    = (*serverStream)(nil)
)

func newServerStream(c *serverConn) *serverStream {
	x := &serverStream{conn: c, ctx: new(streamContext)}
	x.c, x.owner = &c.conn, x
	return x
}

// begin prepares x for an exchange. The reader calls.
func (x *serverStream) begin(id uint32, started time.Time) {
	x.started, x.fed, x.returned, x.deadline = started, false, false, 0
	x.answer = answer{}
	if x.ctx.used() {
		x.ctx = new(streamContext)
	}
	x.ctx.parent = x.conn.ctx
	x.presence.begin(id)
}

// forget lets go of everything that belongs to the exchange.
func (x *serverStream) forget() {
	x.presence.begin(0)
	x.req.Reset()
	x.answer = answer{}
}

// start runs the exchange on the goroutine of x.
func (x *serverStream) start() {
	if x.work != nil {
		x.work <- struct{}{}
		return
	}
	x.work = make(chan struct{}, 1)
	x.conn.workers.Go(x.run) // ends when there are enough, or at rest, or with the connection
}

// run is a goroutine for exchanges.
func (x *serverStream) run() {
	for {
		x.conn.s.h(x.ctx, x)
		if !x.finish() {
			return
		}
		if _, ok := <-x.work; !ok {
			return
		}
	}
}

// finish ends the exchange. It reports whether x is to be used again.
func (x *serverStream) finish() bool {
	c := x.conn
	x.ctx.end()
	x.presence.begin(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.open {
		x.reset(http2.ErrCodeInternal, exchange.ErrReset) // there is no answer, or half of one
		c.flush()
	}
	x.dropBody()
	c.share.letGo(x.heads, 0)
	x.heads = 0
	c.busy--
	c.atRest()
	x.returned = true
	if c.ended || len(c.free) >= maxWorkers || invariants {
		return false
	}
	x.req.Reset()
	x.trailer.Reset()
	x.answer = answer{}
	c.free = append(c.free, x)
	return true
}

// gone cancels the context of the exchange of stream id.
func (x *serverStream) gone(id uint32) {
	c := x.conn
	c.mu.Lock()
	ctx := x.ctx
	same := x.id == id && !x.returned
	c.mu.Unlock()
	if same {
		ctx.cancel(exchange.ErrClientGone)
	}
}

// alive panics, in the invariants build, when the exchange is over.
func (x *serverStream) alive() {
	if invariants && x.isOver() {
		panic("h2: client stream used after its Handler has returned")
	}
}

func (x *serverStream) isOver() bool {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	return x.returned
}

// Started implements exchange.Starter.
func (x *serverStream) Started() time.Time { return x.started }

// SetDeadline implements exchange.Deadliner.
func (x *serverStream) SetDeadline(t time.Time) {
	x.alive()
	x.deadline = x.c.at(t)
}

// ResetWhenGone implements exchange.GoneNotifier.
func (x *serverStream) ResetWhenGone(r exchange.Resetter) {
	x.alive()
	x.presence.notify(r)
}

// Feed implements exchange.Stream.
func (x *serverStream) Feed(dst exchange.Sink[*exchange.Request]) error {
	x.alive()
	if x.fed {
		return x.errorf("feed", exchange.Internal, 500, ReasonOrder, nil)
	}
	x.fed = true
	if x.complete {
		return dst.Head(&x.req, true)
	}
	if err := dst.Head(&x.req, false); err != nil {
		return err
	}
	x.inviteBody()
	err := x.feed(dst, limit{timeout: x.c.o.ReadTimeout, deadline: x.deadline})
	if we, ok := err.(*wireError); ok { //nolint:errorlint // feed does not wrap it, and a sink must not be taken for it
		return x.readError(we.err)
	}
	return err
}

// inviteBody sends "100 Continue" if the client waits for it (RFC 9110 10.1.1) and no
// byte of the body is here yet.
func (x *serverStream) inviteBody() {
	if !x.req.ExpectContinue {
		return
	}
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.answer.invited || x.answer.begun || x.got > 0 || !x.open {
		return
	}
	x.answer.invited = true
	c.encode(":status", "100")
	c.writeBlock(x.id, false)
	c.flush()
}

// Reset implements exchange.Stream.
func (x *serverStream) Reset(code exchange.Code) {
	x.alive()
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	x.reset(errorCode(code), exchange.ErrReset)
	c.flushAside()
}

func (x *serverStream) errorf(op string, side exchange.Side, status int, reason string, err error) error {
	return &exchange.Error{Op: op, Side: side, Status: status, Reason: reason, Err: err}
}

// readError says what an error while reading the request means.
func (x *serverStream) readError(err error) error {
	const op = "read body"
	if re, ok := errors.AsType[*resetError](err); ok {
		return x.errorf(op, exchange.ClientSide, 400, ReasonIncompleteReq, re)
	}
	if e, ok := errors.AsType[*exchange.Error](err); ok { // of the connection, or what the client broke
		reason := e.Reason
		if reason == ReasonMemory { // it is not this client's fault alone
			return x.errorf(op, exchange.ClientSide, 503, reason, e.Err)
		}
		if reason == ReasonClosed {
			reason = ReasonIncompleteReq
		}
		return x.errorf(op, exchange.ClientSide, 400, reason, e.Err)
	}
	switch {
	case errors.Is(err, exchange.ErrAnswered):
		return exchange.ErrAnswered
	case errors.Is(err, exchange.ErrReset):
		return x.errorf(op, exchange.Internal, 0, ReasonReset, exchange.ErrReset)
	case errors.Is(err, errTooLarge):
		return x.errorf(op, exchange.ClientSide, 413, ReasonBodyTooLarge, nil)
	case errors.Is(err, errTimeout):
		return x.errorf(op, exchange.ClientSide, 408, ReasonReadTimeout, err)
	case errors.Is(err, errDeadline):
		return x.errorf(op, exchange.ClientSide, 504, ReasonDeadline, err)
	}
	return x.errorf(op, exchange.ClientSide, 400, ReasonIncompleteReq, err)
}
