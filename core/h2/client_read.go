package h2

import (
	"errors"
	"net/http"

	"wproxy/core/exchange"
)

// Feed implements exchange.Stream.
func (x *clientStream) Feed(dst exchange.Sink[*exchange.Response]) error {
	c := x.conn
	if c == nil {
		return x.order("feed")
	}
	l := limit{timeout: c.o.ReadTimeout, deadline: x.deadline}
	end, err := x.feedHeads(dst, l)
	if err == nil && !end {
		err = x.feed(dst, l)
	}
	if we, ok := err.(*wireError); ok { //nolint:errorlint // feed does not wrap it, and a sink must not be taken for it
		err = x.readError(we.err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		x.giveUp(errorCode(exchange.CodeCancel))
		c.flushAside()
		return err
	}
	c.reused.Store(true)
	c.counts.resets.refund(resetsPerExchange)
	// Rule 8: the rest of the request is not wanted. Data, which may be blocked, returns
	// ErrAnswered.
	if x.open {
		c.spend()
	}
	x.reset(errorCode(exchange.CodeNoError), exchange.ErrAnswered)
	if !x.finished && x.err == nil {
		x.failWith(exchange.ErrAnswered)
	}
	c.flush()
	return nil
}

// feedHeads pushes the heads into dst. end: the final one was all of the answer.
func (x *clientStream) feedHeads(dst exchange.Sink[*exchange.Response], l limit) (end bool, err error) {
	c := x.c
	since := c.now()
	for {
		c.mu.Lock()
		switch {
		case len(x.interim) > 0:
			h := x.interim[0]
			x.interim = append(x.interim[:0], x.interim[1:]...)
			x.waiting -= interimSize(h)
			c.mu.Unlock()
			if err := dst.Head(h, false); err != nil {
				return false, err
			}
			since = c.now()
			continue
		case x.final && x.err == nil:
			end = x.ended && !x.trailed && x.recv.size == 0
			c.mu.Unlock()
			return end, dst.Head(&x.resp, end)
		case x.err != nil:
			err := x.err
			c.mu.Unlock()
			return false, &wireError{err}
		case x.ended || x.began && !x.open:
			c.mu.Unlock()
			return false, &wireError{errNoAnswer}
		}
		c.mu.Unlock()
		now := c.now()
		d, late := l.left(x.silentSince(since, now), now)
		if d <= 0 && late {
			return false, &wireError{errDeadline}
		} else if d <= 0 {
			return false, &wireError{errTimeout}
		}
		x.in.wait(d)
	}
}

// readError says what an error while reading the answer means.
func (x *clientStream) readError(err error) error {
	const op = "read answer"
	if errors.Is(err, errTimeout) {
		return &exchange.Error{Op: op, Side: exchange.UpstreamSide, Status: http.StatusGatewayTimeout, Reason: ReasonReadTimeout, Err: err}
	}
	if errors.Is(err, errNoAnswer) {
		return &exchange.Error{Op: op, Side: exchange.UpstreamSide, Status: http.StatusBadGateway, Reason: ReasonProtocol, Err: err}
	}
	e := x.streamError(op, err)
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	x.judgeRetry(e)
	return e
}
