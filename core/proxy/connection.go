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
