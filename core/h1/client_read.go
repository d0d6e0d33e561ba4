package h1

import (
	"cmp"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"wproxy/core/exchange"
)

// Feed implements exchange.Stream.
func (x *clientStream) Feed(dst exchange.Sink[*exchange.Response]) error {
	c := x.c
	if c == nil {
		return x.order("feed")
	}
	l := limit{timeout: c.o.readTimeout(), deadline: x.deadline, either: x.flags.Load()&flagSent == 0}
	if x.unsent {
		if err := x.take(c, l); err != nil {
			return x.fail(c, err)
		}
	}
	if err := x.readFinal(c, l, dst); err != nil {
		return x.fail(c, err)
	}
	h := &x.resp
	f := x.frame(c)
	if !f.ok() {
		return x.fail(c, x.readError(&bodyError{f, errBadBody}))
	}
	if x.body.framing == noBody {
		x.body.done = true
		c.release()
		if err := dst.Head(h, true); err != nil {
			return x.fail(c, err)
		}
		return x.finish(c)
	}
	if err := dst.Head(h, false); err != nil {
		return x.fail(c, err)
	}
	if x.body.framing == tunnel {
		l = limit{timeout: time.Duration(x.idle.Load()), either: true}
		c.active.Store(int64(c.now()))
	}
	x.feeder = feeder{
		c: &c.conn, limit: l, trailer: &x.trailer, section: &x.head.section,
		fields: c.o.maxFields(), last: nobody{},
	}
	if err := x.body.feed(&x.feeder, dst); err != nil {
		if x.feeder.wire != nil {
			err = x.readError(x.feeder.wire)
		}
		return x.fail(c, err)
	}
	return x.finish(c)
}

// take sends the request, which waits in the writer, and reads the first bytes of the
// answer.
func (x *clientStream) take(c *ClientConn, l limit) error {
	x.unsent = false
	err := c.sendAndFill(x.w.waiting(), l, c.o.maxHead()+1)
	rest, failed := c.turn.out, c.turn.err
	c.turn.out, c.turn.err = nil, nil
	x.w.sent(rest)
	if len(rest) == 0 {
		if err != nil {
			return x.readError(err)
		}
		x.flags.Or(flagResBegun)
		return nil
	}
	if err == nil && failed == nil {
		err = x.w.flush() // the socket's buffer was full: the rest goes the ordinary way
	} else {
		x.w.release()
		err = cmp.Or(failed, err)
	}
	if err == nil {
		return nil
	}
	// An upstream that does not want a request has answered and closed: the answer is
	// worth reading if the upstream got something (RFC 9112 9.5).
	err = x.writeError(err)
	if e, ok := errors.AsType[*exchange.Error](err); !ok || e.Side != exchange.UpstreamSide ||
		e.Retry == exchange.RetryAlways || e.Status == http.StatusGatewayTimeout || c.fill(l, c.o.maxHead()+1) != nil {
		return err
	}
	x.flags.Or(flagResBegun)
	return nil
}

// readFinal reads heads until the final one, which ends up in x.resp, and passes
// interim ones on.
func (x *clientStream) readFinal(c *ClientConn, l limit, dst exchange.Sink[*exchange.Response]) error {
	for range maxInterim {
		if err := x.readHead(c, l); err != nil {
			return x.readError(err)
		}
		if s := x.resp.Status; s >= 200 || s == 101 {
			return nil
		}
		if x.resp.Status == 100 {
			continue // rule 7: wproxy has told its client so itself
		}
		x.interim, x.resp = x.resp, x.interim // x.resp takes the next one
		if err := dst.Head(&x.interim, false); err != nil {
			return err
		}
	}
	return x.readError(&bodyError{fault{http.StatusBadGateway, ReasonInterim}, errBadBody})
}

// readHead reads one head into x.resp.
func (x *clientStream) readHead(c *ClientConn, l limit) error {
	h := &x.head
	h.section.reset()
	most := c.o.maxHead()
	for {
		if p := c.buffered(); len(p) > 0 {
			n, f := h.scan(p, c.o.maxFields()+1)
			switch {
			case !beginsStatusLine(p): // before what the scan says: this is another protocol
				f = bad(ReasonBadStatusLine)
			case !f.ok():
			case n > most || n == 0 && len(p) > most:
				f = bad(ReasonHeadTooLarge)
			case n > 0:
				x.resp.Reset()
				f = h.parse(p[:n], &x.resp, x.method)
				c.r += n
			}
			if !f.ok() {
				return &bodyError{f, errBadBody}
			}
			if n > 0 {
				return nil
			}
		}
		c.size = headBuffer
		err := c.fill(l, most+1)
		if errors.Is(err, io.EOF) && len(c.buffered()) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		x.flags.Or(flagResBegun)
	}
}

// frame decides how the answer's body is framed (RFC 9112 6.3).
func (x *clientStream) frame(c *ClientConn) fault {
	h := &x.resp
	x.body = body{most: -1}
	if !x.head.keepAlive(h.Version) {
		x.flags.Or(flagNoReuse)
	}
	switch {
	case h.Status == 101:
		// CVE-2026-2833 and others: a tunnel that nobody asked for lets the
		// upstream's bytes stand for answers. RFC 9110 7.8: the answer names
		// the protocol, and it is the one that was asked for.
		if x.upgrade == "" || !equalFold(h.Upgrade, lower(x.upgrade)) {
			return bad(ReasonUpgrade)
		}
		x.body.framing = tunnel
		x.flags.Or(flagSwitched | flagNoReuse)
	case x.head.noBody:
	case x.head.chunked:
		x.body.framing = chunkedBody
	case h.Length > 0:
		x.body.framing, x.body.left = lengthBody, h.Length
	case h.Length < 0:
		x.body.framing = closeBody
		x.flags.Or(flagNoReuse)
	}
	if x.body.framing == noBody && len(c.buffered()) > 0 {
		x.flags.Or(flagNoReuse) // bytes behind the answer
	}
	return fault{}
}

// finish ends the exchange after a complete answer.
func (x *clientStream) finish(c *ClientConn) error {
	if len(c.buffered()) > 0 {
		x.flags.Or(flagNoReuse) // garbage behind the answer
	}
	c.drop()
	flags := x.flags.Or(flagResEnded)
	switch {
	case flags&flagSwitched != 0:
		if flags&flagSent != 0 {
			x.close(c) // both directions have said goodbye
		}
		// Otherwise Data towards the upstream goes on: half-close. Release or
		// Reset closes the connection.
		return nil
	case flags&flagSent == 0, flags&flagNoReuse != 0:
		x.close(c) // wakes a blocked Data, which returns ErrAnswered
	}
	if flags&flagSent != 0 {
		x.detach()
		if flags&flagNoReuse == 0 {
			c.giveBack()
		}
	}
	return nil
}

// fail ends the exchange with an answer that is not complete, or that dst did
// not take.
func (x *clientStream) fail(c *ClientConn, err error) error {
	c.drop()
	x.close(c)
	return err
}

// readError says what an error while reading the answer means.
func (x *clientStream) readError(err error) error {
	flags := x.flags.Or(flagNoReuse)
	e := &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: http.StatusBadGateway, Err: err}
	var be *bodyError
	switch {
	case flags&flagGivenUp != 0:
		e.Side, e.Status, e.Reason, e.Err = exchange.Internal, 0, ReasonReset, exchange.ErrReset
	case errors.As(err, &be):
		e.Reason, e.Err = be.reason, be.err
	case errors.Is(err, errTimeout) && x.body.framing == tunnel:
		e.Side, e.Status, e.Reason = exchange.Internal, 0, ReasonTunnelIdle // nobody's fault
	case errors.Is(err, errTimeout):
		e.Status, e.Reason = http.StatusGatewayTimeout, ReasonReadTimeout
	case errors.Is(err, errDeadline):
		e.Status, e.Reason = http.StatusGatewayTimeout, ReasonDeadline
	case errors.Is(err, io.ErrUnexpectedEOF) && flags&flagResBegun != 0:
		e.Reason = ReasonTruncated
	case flags&flagResBegun != 0 && isClosed(err):
		e.Reason = ReasonTruncated
	case isAlert(err):
		e.Reason = ReasonAlert
	case isClosed(err) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF): // the last: TLS, without close_notify
		e.Reason = ReasonClosed
		if x.reused {
			e.Retry = exchange.RetryIfReused
		}
	default:
		e.Reason = ReasonClosed
	}
	return e
}
