package h1

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/internal/buf"
)

const invariants = buf.Invariants

// Facts about the exchange that both directions have to know.
const (
	flagFed       = 1 << iota // Feed was called
	flagReqDone               // the request is complete
	flagBodyBegun             // the client was told, or did not wait to be told, to send the body
	flagAnswered              // the final head was written
	flagEnding                // the last bytes of the answer are being written
	flagResDone               // the answer is complete
	flagMustClose             // the connection cannot be kept
	flagReset                 // Reset was called
	flagDead                  // the Handler has returned
	flagTunnel                // a 101 was written
)

// A serverStream is the client's side of one exchange. It is used again for
// others; see Server.recycle.
type serverStream struct {
	// Owned by the reader: whoever is in Feed, and before and after the
	// Handler the connection's goroutine.
	c       *serverConn
	started time.Time
	req     exchange.Request
	head    requestHead
	body    body
	feeder  feeder
	trailer exchange.Fields

	deadline moment        // see SetDeadline
	idle     time.Duration // see SetTunnelIdle; read by both, behind the 101
	answered chan struct{} // told when the answer has begun, or never will; nil unless the request asks for an upgrade

	flags atomic.Uint32

	wmu sync.Mutex
	// Guarded by wmu: "100 Continue" is written by the reader.
	w        writer
	before   int64 // conn.wrote before the final head
	closing  bool  // the answer said connection: close
	tunnel   bool
	finished bool // the writer has seen the end
}

var (
	_ exchange.Client       = (*serverStream)(nil)
	_ exchange.Deadliner    = (*serverStream)(nil)
	_ exchange.TunnelIdler  = (*serverStream)(nil)
	_ exchange.Starter      = (*serverStream)(nil)
	_ exchange.GoneNotifier = (*serverStream)(nil)
	_ exchange.Retractor    = (*serverStream)(nil)
)

// open prepares x for an exchange on c.
func (x *serverStream) open(c *serverConn) {
	x.c = c
	x.flags.Store(0)
	x.deadline, x.answered, x.idle = 0, nil, c.s.o.TunnelIdle
	x.w.reset(&c.conn)
	x.closing, x.tunnel, x.finished = false, false, false
}

// close lets go of everything that belongs to the exchange.
func (x *serverStream) close() {
	x.flags.Or(flagDead)
	x.w.release()
	x.req.Reset()
	x.head.reset()
	x.trailer.Reset()
	x.feeder = feeder{}
	x.c, x.w.op.c, x.w.op.wrote = nil, nil, nil
}

// alive panics, in the invariants build, when the exchange is over.
func (x *serverStream) alive() {
	if invariants && x.flags.Load()&flagDead != 0 {
		panic("h1: client stream used after its Handler has returned")
	}
}

// Started implements exchange.Starter.
func (x *serverStream) Started() time.Time { return x.started }

// SetDeadline implements exchange.Deadliner.
func (x *serverStream) SetDeadline(t time.Time) {
	x.alive()
	x.deadline = x.c.at(t)
	x.w.limit.deadline = x.deadline
}

// SetTunnelIdle implements exchange.TunnelIdler.
func (x *serverStream) SetTunnelIdle(d time.Duration) {
	x.alive()
	x.wmu.Lock() // feedUpgrade takes it between the 101 and its look
	x.idle = cmp.Or(d, x.c.s.o.TunnelIdle)
	x.wmu.Unlock()
}

// ResetWhenGone implements exchange.GoneNotifier.
func (x *serverStream) ResetWhenGone(r exchange.Resetter) {
	x.alive()
	x.c.presence.notify(r)
}

// serve runs one exchange. False: the connection has been closed.
func (x *serverStream) serve() bool {
	x.started = time.Now()
	x.w.limit = limit{timeout: x.c.s.o.WriteTimeout}
	if !x.readHead() {
		return false
	}
	if x.req.Upgrade != "" {
		x.answered = make(chan struct{}, 1)
	}
	x.c.s.h(&x.c.ctx, x)
	return x.finish()
}

// readHead reads and parses the request head. False: the request was refused.
func (x *serverStream) readHead() bool {
	c, o := x.c, &x.c.s.o
	h := &x.head
	h.section.reset()
	l := limit{deadline: c.at(x.started) + o.HeaderTime}
	skipped := false
	for {
		p := c.buffered()
		if !skipped && len(p) >= 2 && p[0] == '\r' && p[1] == '\n' {
			// RFC 9112 2.2: ignore at least one empty line in front of the
			// request line. One is what old clients send after a POST body.
			c.r += 2
			skipped = true
			p = p[2:]
		}
		n, f := h.scan(p, o.MaxFields+1)
		if f.ok() && n > 0 && n <= o.MaxHead {
			if f = h.parse(p[:n], &x.req, x.c.facts.SchemeOf(o.Scheme)); f.ok() {
				f = x.frame()
			}
			if f.ok() {
				c.r += n
				return true
			}
		} else if f.ok() {
			f = tooLarge(h, n, len(p), o.MaxHead)
		}
		if !f.ok() {
			if c.http2 = x.isPreface(p, f); !c.http2 {
				x.refuse(f)
			}
			return false
		}
		if err := c.fill(l, o.MaxHead+1); err != nil {
			x.refuseRead(err, len(p) > 0)
			return false
		}
	}
}

// isPreface reports whether p, which was found to be of an unknown version, is how
// a client of HTTP/2 begins.
func (x *serverStream) isPreface(p []byte, f fault) bool {
	return f.reason == ReasonBadVersion && x.c.s.o.HTTP2 != nil && !x.c.served &&
		bytes.HasPrefix(p, []byte("PRI * HTTP/2.0\r\n\r\n"))
}

// tooLarge judges a head of n bytes, or one of which the first read bytes have
// no end (n is 0).
func tooLarge(h *requestHead, n, read, most int) fault {
	switch {
	case len(h.lines) == 0 && read > min(most, maxMethod+maxTarget+len("  HTTP/1.1\r\n")):
		return fault{414, ReasonTargetTooLong}
	case n > most || n == 0 && read > most:
		return fault{431, ReasonHeadTooLarge}
	}
	return fault{}
}

// frame prepares the reading of the request's body.
func (x *serverStream) frame() fault {
	o := &x.c.s.o
	x.req.Conn = x.c.facts
	x.body = body{most: -1}
	switch {
	case x.head.chunked:
		x.body.framing = chunkedBody
		if o.MaxBody > 0 {
			x.body.most = o.MaxBody
		}
	case o.MaxBody > 0 && x.req.Length > o.MaxBody:
		return fault{413, ReasonBodyTooLarge}
	case x.req.Length > 0:
		x.body.framing, x.body.left = lengthBody, x.req.Length
	}
	return fault{}
}

// Feed implements exchange.Stream.
func (x *serverStream) Feed(dst exchange.Sink[*exchange.Request]) error {
	x.alive()
	if x.flags.Or(flagFed)&flagFed != 0 {
		return x.errorf("feed", exchange.Internal, 500, ReasonOrder, nil)
	}
	if x.body.framing == noBody {
		if x.req.Upgrade != "" {
			return x.feedUpgrade(dst)
		}
		x.body.done = true
		x.c.release() // the head is in x.req; nothing is read while the answer is made
		x.complete()
		return dst.Head(&x.req, true)
	}
	if err := x.pushHead(dst); err != nil {
		return err
	}
	if err := x.inviteBody(); err != nil {
		return err
	}
	return x.feedBody(dst, limit{timeout: x.c.s.o.ReadTimeout, deadline: x.deadline})
}

// pushHead hands on the head of a request with a body.
func (x *serverStream) pushHead(dst exchange.Sink[*exchange.Request]) error {
	c := x.c
	lacks, known := x.body.left-int64(len(c.buffered())), true
	if x.body.framing == chunkedBody {
		lacks, known = -1, len(c.buffered()) == 0
	}
	if x.holder() == nil || !known || x.body.framing == lengthBody && lacks < 0 {
		return dst.Head(&x.req, false)
	}
	c.hold(lacks)
	err := dst.Head(&x.req, false)
	c.letGo()
	return err
}

// holder returns who is to be told what the request lacks; nil for one that was
// pipelined, which is answered even if its client has closed, and without a Watcher.
func (x *serverStream) holder() holder {
	if x.c.watch == 0 || x.c.pipelined {
		return nil
	}
	return x.c
}

// feedBody pushes the body, or the bytes of a tunnel.
func (x *serverStream) feedBody(dst content, l limit) error {
	f := &x.feeder
	*f = feeder{
		c: &x.c.conn, limit: l, trailer: &x.trailer, section: &x.head.section,
		fields: x.c.s.o.MaxFields, last: x, held: x.holder(),
	}
	err := x.body.feed(f, dst)
	x.c.release()
	if f.wire != nil {
		return x.readError(f.wire)
	}
	return err
}

// feedUpgrade is Feed for a request that asks for an upgrade (rule 6): what the
// next bytes are depends on the answer.
func (x *serverStream) feedUpgrade(dst exchange.Sink[*exchange.Request]) error {
	x.body.done = true
	x.c.release()
	// The request as such is complete: a client that closes now is gone. The 101,
	// which ends that, may come as soon as the head is out of our hands.
	x.complete()
	if err := dst.Head(&x.req, false); err != nil {
		return err
	}
	if err := dst.Data(nil, false); err != nil {
		return err
	}
	select {
	case <-x.answered:
	case <-x.c.ctx.Done(): // nobody is there for an answer: it may never come
		return x.errorf("read tunnel", exchange.ClientSide, 0, ReasonClosed, context.Cause(&x.c.ctx))
	}
	x.wmu.Lock()
	idle, switched := x.idle, x.tunnel && x.flags.Load()&flagAnswered != 0
	x.wmu.Unlock()
	switch {
	case x.flags.Load()&flagReset != 0:
		return x.errorf("read tunnel", exchange.Internal, 0, ReasonReset, exchange.ErrReset)
	case !switched:
		return dst.Data(nil, true)
	}
	x.body = body{framing: tunnel}
	return x.feedBody(dst, limit{timeout: idle, either: true})
}

// wake wakes feedUpgrade. It may be called from any goroutine, and more than once.
func (x *serverStream) wake() {
	select {
	case x.answered <- struct{}{}:
	default: // told already, or nobody waits
	}
}

// inviteBody sends "100 Continue" if the client waits for it (RFC 9110 10.1.1)
// and no byte of the body is here yet.
func (x *serverStream) inviteBody() error {
	x.flags.Or(flagBodyBegun)
	if !x.req.ExpectContinue || len(x.c.buffered()) > 0 {
		return nil
	}
	x.wmu.Lock()
	defer x.wmu.Unlock()
	if x.flags.Load()&flagAnswered != 0 {
		return nil
	}
	b := x.w.begin(headOverhead)
	from := len(b)
	b = append(appendStatusLine(b, 100), crlf...)
	if err := x.w.commit(b, from, 2); err != nil {
		return x.writeError(err)
	}
	if err := x.w.flush(); err != nil {
		return x.writeError(err)
	}
	return nil
}

// complete implements completer: from here on a client that closes is gone,
// not cut short (rule 11).
func (x *serverStream) complete() {
	x.flags.Or(flagReqDone)
	if x.body.framing != tunnel {
		x.c.requestComplete()
	}
}

// Reset implements exchange.Stream.
func (x *serverStream) Reset(code exchange.Code) {
	x.alive()
	old := x.flags.Load()
	if code == exchange.CodeNoError && old&flagResDone != 0 {
		// The reader was stopped when the answer ended, but for that of a tunnel.
		if old&flagTunnel != 0 {
			x.flags.Or(flagMustClose)
			x.c.stopReads()
		}
		return
	}
	old = x.flags.Or(flagReset | flagMustClose)
	if old&(flagReset|flagDead) != 0 {
		return
	}
	if code == exchange.CodeNoError && old&flagTunnel != 0 {
		_ = x.c.nc.Close() // nothing of a tunnel is cut that could look whole
	} else {
		x.c.abort()
	}
	x.wake()
}

func (x *serverStream) errorf(op string, side exchange.Side, status int, reason string, err error) error {
	return &exchange.Error{Op: op, Side: side, Status: status, Reason: reason, Err: err}
}

// readError says what an error while reading the request means.
func (x *serverStream) readError(err error) error {
	if errors.Is(err, errStopped) && x.flags.Load()&flagResDone != 0 {
		return exchange.ErrAnswered // the rest is drained by finish
	}
	const op = "read body"
	flags := x.flags.Or(flagMustClose)
	var be *bodyError
	switch {
	case flags&flagEnding != 0 && (isClosed(err) || errors.Is(err, io.ErrUnexpectedEOF)):
		// A client that has its answer may close before the writer has come
		// round to telling us that it is complete.
		return exchange.ErrAnswered
	case flags&flagReset != 0:
		return x.errorf(op, exchange.Internal, 0, ReasonReset, exchange.ErrReset)
	case errors.As(err, &be):
		return x.errorf(op, exchange.ClientSide, be.status, be.reason, be.err)
	case errors.Is(err, errTimeout) && x.body.framing == tunnel:
		return x.errorf("read tunnel", exchange.Internal, 0, ReasonTunnelIdle, err) // nobody's fault
	case errors.Is(err, errTimeout):
		return x.errorf(op, exchange.ClientSide, 408, ReasonReadTimeout, err)
	case errors.Is(err, errDeadline):
		return x.errorf(op, exchange.ClientSide, 504, ReasonDeadline, err)
	case isClosed(err) || errors.Is(err, io.ErrUnexpectedEOF):
		return x.errorf(op, exchange.ClientSide, 400, ReasonIncompleteReq, err)
	case errors.Is(err, net.ErrClosed):
		return x.errorf(op, exchange.Internal, 0, ReasonReset, err)
	}
	return x.errorf(op, exchange.ClientSide, 400, ReasonIncompleteReq, err)
}

// finish ends the exchange. It reports whether the connection can be kept; if
// not, it has been closed.
func (x *serverStream) finish() bool {
	c := x.c
	c.requestOver()
	flags := x.flags.Load()
	switch {
	case flags&flagReset != 0:
		return false // Reset has closed it
	case flags&flagResDone == 0, x.tunnel:
		c.abortUnlessEnded(x)
		return false
	}
	keep := !x.closing && flags&flagMustClose == 0
	if x.body.done {
		c.resumeReads()
		if keep {
			c.served = true
			return true
		}
		if !c.pending() {
			_ = c.nc.Close() // everything was read and everything was sent
			return false
		}
	} else if keep && x.drain() {
		c.served = true
		return true
	}
	x.w.release()
	c.linger(c.s.o.DrainTime)
	return false
}

// abortUnlessEnded closes a connection whose answer is not complete, so that the
// client sees a reset, and a tunnel's: in order, if both directions have ended.
func (c *serverConn) abortUnlessEnded(x *serverStream) {
	switch {
	case !x.tunnel || !x.finished:
		c.abort()
	case x.body.done:
		_ = c.nc.Close() // both directions have said goodbye
	default:
		x.w.release()
		c.linger(c.s.o.DrainTime) // what the upstream has said last is not to be overtaken
	}
}

// drain reads the rest of a request that was answered early (rule 8), so that
// the connection can be kept. False: it is too much, or too slow.
func (x *serverStream) drain() bool {
	c, o := x.c, &x.c.s.o
	c.resumeReads()
	x.feeder = feeder{
		c: &c.conn, limit: limit{deadline: c.now() + o.DrainTime}, trailer: &x.trailer,
		section: &x.head.section, fields: o.MaxFields, last: nobody{},
	}
	return x.body.feed(&x.feeder, &discard{left: o.DrainBytes}) == nil
}

type nobody struct{}

func (nobody) complete() {}
