package proxy

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/metrics"
	"wproxy/core/pool"
)

// Reasons of the engine's own failures.
const (
	reasonTimeout       = "timeout" // the route's timeout
	reasonPerTry        = "per_try_timeout"
	reasonUpstreamReset = "upstream_reset" // where a codec gives no name
)

// A RetryClass is a set of ways in which a try can fail.
type RetryClass uint8

// The classes. A connection that has served before and breaks before a byte of the
// answer belongs to none of them: the upstream's idle timeout has won a race, which
// says nothing about the server, and the request is tried again anyhow.
const (
	// OnConnect: there was no connection, and nothing was sent. A server that has no
	// room for the request (queue_full) counts as one.
	OnConnect RetryClass = 1 << iota
	// OnRefused: the upstream has said that it did not look at the request (RFC 9113
	// 8.7: REFUSED_STREAM, and what is above the last stream of a GOAWAY).
	OnRefused
	// OnReset: the connection ended before the head of the answer, or what came was none.
	OnReset
	// OnTimeout: the head of the answer did not come in time.
	OnTimeout
)

// DefaultOn are the failures after which nothing has happened, so that every method
// may be tried again.
const DefaultOn = OnConnect | OnRefused

// A StatusSet is a set of statuses from 400 to 599; others are never in it.
type StatusSet [4]uint64

// Add puts status into the set.
func (s *StatusSet) Add(status int) {
	if i := status - 400; i >= 0 && i < 200 {
		s[i/64] |= 1 << (i % 64)
	}
}

// Has reports whether status is in the set.
func (s *StatusSet) Has(status int) bool {
	i := status - 400
	return i >= 0 && i < 200 && s[i/64]&(1<<(i%64)) != 0
}

// tryFacts are what decides whether a request may be tried again.
type tryFacts struct {
	class      exchange.Retry
	kind       RetryClass // what has happened; 0: none of the classes
	on         RetryClass // what the route tries again after
	reused     bool       // the connection had served an exchange before
	idempotent bool       // the method, or the route says so
	held       bool       // every byte of the request is still there
	answered   bool       // somebody has claimed the answer, or the client has gone
	left       int        // tries that are left
}

// retryable applies RFC 9110 9.2.2: a request that may have had effects is not
// sent twice unless its method is idempotent; one of which the upstream has not
// seen a byte, or says that it has not looked at it, always may be.
func (f tryFacts) retryable() bool {
	if f.answered || !f.held || f.left <= 0 {
		return false
	}
	switch {
	case f.class == exchange.RetryAlways:
		return f.reused && f.kind == OnConnect || f.kind&f.on != 0
	case f.class == exchange.RetryIfReused && f.reused:
		return f.idempotent
	case f.kind == OnConnect: // a full queue
		return f.on&OnConnect != 0
	default:
		return f.idempotent && f.kind&f.on != 0
	}
}

// kindOf says which class e belongs to.
func kindOf(e *exchange.Error) RetryClass {
	switch {
	case e.Op == "dial", e.Reason == pool.ReasonFull:
		return OnConnect
	case e.Op == "get connection", e.Op == "pick", e.Op == opStatus:
		return 0
	case e.Retry == exchange.RetryAlways && e.Reason == exchange.ReasonRefusedStream:
		return OnRefused
	case e.Retry == exchange.RetryAlways: // not one byte was taken
		return OnConnect
	case e.Status == 504:
		return OnTimeout
	default:
		return OnReset
	}
}

// isStale reports whether e, of a try on a connection that has served before, is
// most likely the end of that connection's life and not the server's.
func isStale(e *exchange.Error, reused bool) bool {
	return reused && e.Retry != exchange.RetryNever && e.Op != "dial" && e.Reason != exchange.ReasonRefusedStream
}

// isFull reports whether e says that a server has no room. It was not asked, so that
// leaving it for another costs nobody anything: no attempt, and nothing of the budget.
func isFull(e *exchange.Error) bool { return e.Reason == pool.ReasonFull }

// IdempotentMethod reports whether a request with the method m may be repeated: RFC
// 9110 9.2.2 and the QUERY method.
func IdempotentMethod(m string) bool {
	switch m {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY":
		return true
	}
	return false
}

func (x *state) idempotent() bool {
	return x.route.Retry.Idempotent || IdempotentMethod(x.out.head.Method)
}

// factsLocked gathers what decides after e. It is called with mu held.
func (x *state) factsLocked(e *exchange.Error) tryFacts {
	o := &x.out
	f := tryFacts{
		class: e.Retry, kind: kindOf(e), on: x.route.Retry.On, reused: o.reused, idempotent: x.idempotent(), held: o.heldAll,
		answered: x.answered || x.gone || x.failure != nil, left: x.route.Retry.attempts() + 1 - (o.tries - o.free),
	}
	if f.on == 0 && x.route.Retry.Statuses == (StatusSet{}) {
		f.on = DefaultOn
	}
	if x.route.Retry.Attempts >= 0 && (isFull(e) || !o.stale && isStale(e, o.reused)) {
		f.left = max(f.left, 1)
	}
	return f
}

// retryableLocked asks whether a try that failed with e may be repeated. It is
// called with mu held.
func (x *state) retryableLocked(e *exchange.Error) bool {
	if x.out.dropped != 0 {
		return !x.answered && !x.gone
	}
	return e.Side == exchange.UpstreamSide && x.factsLocked(e).retryable()
}

// again reports whether the request is tried once more after err, and prepares
// that, which may take the time of a back-off. The stream of the failed try is given
// up in any case.
func (x *state) again(err error) bool {
	o := &x.out
	e := asError(err)
	if o.dropped != 0 {
		e = statusError(o.dropped)
	}
	x.mu.Lock()
	ok := x.retryableLocked(e)
	x.mu.Unlock()
	if o.dropped != 0 && o.droppedWhole {
		x.closeUpstream()
	} else {
		x.drop(exchange.CodeCancel)
	}
	if e.Side == exchange.UpstreamSide && e.Op != "pick" {
		x.failed(e)
	}
	if !ok || o.dropped == 0 && !x.prepareTry(e, 0) {
		return false
	}
	o.dropped = 0
	if o.retryReason != "" {
		o.to.Metrics.Retried(o.retryReason, metrics.RetryFailed)
	}
	o.retryReason = o.lastFailure
	o.reasons = append(o.reasons, reasonOfTry(e, o.lastFailure))
	if !x.pause(o.wait) {
		o.reasons = o.reasons[:len(o.reasons)-1]
		return false
	}
	return true
}

// prepareTry decides whether there is another try after e, where to, and how long it
// has to wait, at least for wait. It takes from the budget.
func (x *state) prepareTry(e *exchange.Error, wait time.Duration) bool {
	o := &x.out
	stale, full := !o.stale && isStale(e, o.reused), isFull(e) // a second time in a row it is the server
	if last := len(o.tried)+1 >= len(o.to.Cluster.Endpoints); last && !stale && (full || e.Op == "dial" && e.Status == 504) {
		return false // one that did not let us in in time would take as long again
	}
	if full && o.free >= maxFull {
		return false
	}
	o.next = nil
	if !stale {
		o.tried = append(o.tried, o.endpoint)
		o.next = x.pick()
		switch {
		case o.next == nil && full:
			return false
		case o.next == nil:
			o.tried = o.tried[:0] // one that refused may be restarting
		}
	}
	// A server that has not seen the request is no worse for it, and neither is another.
	if nothingDone := stale || o.next != nil && kindOf(e)&(OnConnect|OnRefused) != 0; !nothingDone {
		wait = max(wait, x.route.Retry.backoff(o.tries-o.free))
	}
	now := x.p.now()
	if !x.deadline.IsZero() && !now.Add(wait).Before(x.deadline) {
		return false
	}
	// Last of all, as a try that is not made takes nothing.
	if r := &x.route.Retry; !full && (r.Budget < 0 || !o.to.Cluster.Budget.Take(now, r.least())) {
		o.to.Metrics.Retried(failureOf(e), metrics.RetryNoBudget)
		return false
	}
	if !o.retried {
		o.retried = true
		o.to.Cluster.Live.Retrying.Add(1)
	}
	if stale || full {
		o.free++
	}
	o.stale = o.stale || stale
	o.fresh, o.wait = stale, wait
	return true
}

// failed counts a failed try.
func (x *state) failed(e *exchange.Error) {
	o := &x.out
	o.lastFailure = failureOf(e)
	x.traceFailure(o.lastFailure)
	o.endpoint.Live.Failures.Add(1)
	blamed := !x.waitedForClient(e)
	if o.to.Timed && blamed && !isFull(e) && (!o.reused || e.Op == "dial") { // that a connection at rest was closed says nothing
		now := x.p.now()
		o.endpoint.ObserveLatency(max(now.Sub(o.began), failedLatency), now)
	}
	o.to.Cluster.Live.Failures.Add(1)
	o.to.Metrics.Failed(o.lastFailure)
	switch ob := o.endpoint.Observer; {
	case ob == nil, !blamed:
	case e.Op == opStatus:
		ob.Answered(e.Status)
	case o.reused && e.Retry == exchange.RetryIfReused: // that a connection at rest was closed says nothing about the server
	default:
		ob.Failed(o.lastFailure)
	}
	x.showOutcome()
}

// waitedForClient reports whether e is the end of the request's time while its client
// was still sending it, or taking the answer. The server may have been waiting too: else
// who is slow enough could have one ejected after the other.
func (x *state) waitedForClient(e *exchange.Error) bool {
	if e.Reason != reasonTimeout {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.claimed || !x.out.sentEnd && !x.out.upgrade
}

// reasonOfTry is what the access log says of a failed try: its status, or failure.
func reasonOfTry(e *exchange.Error, failure string) string {
	if e.Op == opStatus {
		return strconv.Itoa(e.Status)
	}
	return failure
}

// failureOf names the kind of failure for metrics and filters.
func failureOf(e *exchange.Error) string {
	switch {
	case e.Op == opStatus:
		return metrics.FailureStatus
	case e.Op == "dial" && strings.HasPrefix(e.Reason, "upstream_tls_"), e.Op == "dial" && e.Reason == "upstream_alpn":
		return metrics.FailureTLS
	case e.Op == "dial" && e.Reason == "upstream_closed": // there was a connection
		return metrics.FailureReset
	case e.Op == "dial":
		return metrics.FailureConnect
	case e.Op == "get connection":
		return metrics.FailureQueue
	case e.Retry == exchange.RetryAlways && e.Reason == exchange.ReasonRefusedStream:
		return metrics.FailureRefused
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
