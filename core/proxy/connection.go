package proxy

import "wproxy/core/exchange"

// elsewhere reports whether the request is to be sent on another connection, because the
// one of this try has come to its end before the upstream has looked at the request. The
// server has not failed, and nothing was tried: it costs no attempt and nothing of the
// budget, which are there to keep load from a server that fails. A server that ends each
// connection after so many requests refuses dozens at a time in this way. One that ends
// connections on which it has answered nothing fails, and its requests are retries.
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
	o := &x.out
	return e.Reason == exchange.ReasonGoAway && e.Retry == exchange.RetryAlways && o.moved < maxMoves &&
		o.heldAll && !x.answered && !x.gone && o.conn != nil && o.conn.Reused() // as it is by now
}
