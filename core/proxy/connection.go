package proxy

import (
	"context"
	"crypto/tls"
	"errors"

	"wproxy/core/exchange"
)

// An encrypted is a pool.Conn that may stand on TLS. TLS returns nil if it does not.
type encrypted interface{ TLS() *tls.ConnectionState }

// getError says what a failure to get a connection means.
func (x *state) getError(err error) error {
	_, named := errors.AsType[*exchange.Error](err)
	switch {
	case x.ctx.Err() != nil:
		x.setGone()
		return exchange.ErrAnswered // there is nobody to answer
	case named && (x.deadline.IsZero() || x.p.now().Before(x.deadline)):
		return err // of one attempt to connect, say, which has a time of its own
	case errors.Is(err, context.DeadlineExceeded):
		return &exchange.Error{Op: "connect", Side: exchange.UpstreamSide, Status: 504, Reason: reasonTimeout, Err: err}
	default:
		return err
	}
}

// elsewhere reports whether the request is to be sent on another connection, because the
// one of this try has come to its end before the upstream has looked at the request. The
// server has not failed, and nothing was tried: it costs no attempt and nothing of the
// budget, which are there to keep load from a server that fails. A server that ends each
// connection after so many requests refuses dozens at a time in this way.
func (x *state) elsewhere(err error) bool {
	x.mu.Lock()
	ok := x.elsewhereLocked(asError(err))
	x.mu.Unlock()
	if !ok || !x.deadline.IsZero() && !x.p.now().Before(x.deadline) {
		return false
	}
	x.drop(exchange.CodeCancel)
	x.out.moved++
	x.out.tries-- // open counts it again
	return true
}

// elsewhereLocked is elsewhere without doing anything. It is called with mu held.
func (x *state) elsewhereLocked(e *exchange.Error) bool {
	return e.Reason == exchange.ReasonGoAway && e.Retry == exchange.RetryAlways && x.out.moved < maxMoves &&
		x.out.heldAll && !x.answered && !x.gone
}
