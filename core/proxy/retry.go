package proxy

import (
	"errors"

	"wproxy/core/exchange"
	"wproxy/core/metrics"
)

// Reasons of the engine's own failures.
const (
	reasonTimeout       = "timeout"        // the route's timeout
	reasonUpstreamReset = "upstream_reset" // where a codec gives no name
	reasonRefused       = "refused_stream" // a codec's: the server itself, not its connection, takes no more
)

// tryFacts are what decides whether a request may be tried again.
type tryFacts struct {
	class      exchange.Retry
	reused     bool // the connection had served an exchange before
	idempotent bool // the method, or the route says so
	held       bool // every byte of the request is still there
	answered   bool // somebody has claimed the answer, or the client has gone
	left       int  // tries that are left
}

// retryable applies RFC 9110 9.2.2: a request that may have had effects is not
// sent twice unless its method is idempotent; one of which the upstream has not
// seen a byte always may be.
func (f tryFacts) retryable() bool {
	if f.answered || !f.held || f.left <= 0 {
		return false
	}
	switch f.class {
	case exchange.RetryAlways:
		return true
	case exchange.RetryIfReused:
		return f.reused && f.idempotent
	default:
		return false
	}
}

// idempotentMethod is RFC 9110 9.2.2 and the QUERY method.
func idempotentMethod(m string) bool {
	switch m {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY":
		return true
	}
	return false
}

func (x *state) idempotent() bool {
	return x.route.Retry.Idempotent || idempotentMethod(x.out.head.Method)
}

// retryableLocked asks whether a try that failed with e may be repeated. It is
// called with mu held.
func (x *state) retryableLocked(e *exchange.Error) bool {
	attempts := x.route.Retry.Attempts
	if attempts == 0 {
		attempts = DefaultRetries
	}
	if e.Side != exchange.UpstreamSide {
		return false
	}
	return tryFacts{
		class: e.Retry, reused: x.out.reused, idempotent: x.idempotent(), held: x.out.heldAll,
		answered: x.answered || x.gone, left: attempts + 1 - x.out.tries,
	}.retryable()
}

// again reports whether the request is tried once more after err, and prepares
// that. The stream of the failed try is given up in any case.
func (x *state) again(err error) bool {
	o := &x.out
	e := asError(err)
	x.mu.Lock()
	ok := x.retryableLocked(e)
	x.mu.Unlock()
	x.drop(exchange.CodeCancel)
	if e.Side == exchange.UpstreamSide && e.Op != "pick" {
		x.failed(e)
	}
	if !ok || !x.deadline.IsZero() && !x.p.now().Before(x.deadline) {
		return false
	}
	stale := o.reused && e.Op != "dial" && e.Reason != reasonRefused
	if !stale {
		o.tried = append(o.tried, o.endpoint)
		if o.to.Picker.Pick(0, o.tried) == nil { // nowhere else to go
			if e.Retry != exchange.RetryAlways || e.Status == 504 {
				return false
			}
			// One that refused may be restarting, or have been full for a moment, and
			// asking again is cheap; one that did not answer in time would take as
			// long again.
			o.tried = o.tried[:0]
		}
	}
	if !x.withinBudget() {
		return false
	}
	if o.retryReason != "" {
		o.to.Metrics.Retried(o.retryReason, false)
	}
	o.fresh, o.retryReason = stale, o.lastFailure
	return true
}

// failed counts a failed try.
func (x *state) failed(e *exchange.Error) {
	o := &x.out
	o.lastFailure = failureOf(e)
	o.endpoint.Live.Failures.Add(1)
	o.to.Cluster.Live.Failures.Add(1)
	o.to.Metrics.Failed(o.lastFailure)
	x.showOutcome()
}

// withinBudget takes a retry from the upstream's budget.
func (x *state) withinBudget() bool {
	if x.out.retried {
		return true
	}
	percent := int64(x.route.Retry.Budget)
	switch {
	case percent < 0:
		return false // no minimum either
	case percent == 0:
		percent = DefaultBudget
	}
	live := &x.out.to.Cluster.Live
	if live.Retrying.Add(1) > max(minBudget, live.Active.Load()*percent/100) {
		live.Retrying.Add(-1)
		return false
	}
	x.out.retried = true
	return true
}

// failureOf names the kind of failure for metrics and filters.
func failureOf(e *exchange.Error) string {
	switch {
	case e.Op == "dial":
		return metrics.FailureConnect
	case e.Op == "get connection":
		return metrics.FailureQueue
	case e.Status == 504:
		return metrics.FailureTimeout
	case e.Retry != exchange.RetryNever || errors.Is(e, exchange.ErrReset) || e.Reason == "" || isReset(e.Reason):
		return metrics.FailureReset
	default:
		return metrics.FailureProtocol
	}
}

// reasonOf returns the stable name of an upstream's failure. The codec's names
// do not tell whose bytes were bad, so that is put in front.
func reasonOf(e *exchange.Error) string {
	switch {
	case e.Reason == "":
		return reasonUpstreamReset
	case e.Side != exchange.UpstreamSide, e.Op == "dial", e.Op == "get connection", e.Op == "pick", e.Reason == reasonTimeout:
		return e.Reason
	default:
		return "upstream_" + e.Reason
	}
}

// nameOf returns the stable name of a failure on whatever side.
func nameOf(e *exchange.Error) string {
	if e.Side == exchange.UpstreamSide {
		return reasonOf(e)
	}
	return e.Reason
}

// statusOf returns what an upstream's failure is answered with.
func statusOf(e *exchange.Error) int {
	if e.Status == 0 {
		return 502
	}
	return e.Status
}

// isReset reports whether a codec's reason means that the connection ended too early.
func isReset(reason string) bool {
	return reason == "reset" || reason == "closed" || reason == "truncated"
}

// asError returns the *exchange.Error in err, or one that wraps it.
func asError(err error) *exchange.Error {
	if e, ok := errors.AsType[*exchange.Error](err); ok {
		return e
	}
	return &exchange.Error{Op: "exchange", Status: 500, Reason: "internal", Err: err}
}
