package proxy

import (
	"errors"
	"strconv"
	"time"

	"wproxy/core/exchange"
)

// opStatus is the Op of the error that stands for an answer which is not passed on.
const opStatus = "answer"

// errDropped ends an answer that is not passed on, and of which more would have to be
// waited for.
var errDropped = errors.New("proxy: the answer is not passed on")

// feedFrom reads the answer of the current try; the error is what became of the try. The
// stream stays where it is: on the response's goroutine, the request's may be about to
// push its end into it.
func (x *state) feedFrom(up exchange.Upstream) error {
	err := up.Feed(incoming{x})
	x.out.droppedWhole = err == nil && x.out.dropped != 0
	return x.tryError(err)
}

// tryError is err, which a call into the stream of a try has returned, unless there is
// a better one: an answer was dropped, or the try's time was over, or that of the whole
// exchange: an upstream that knows of it, as one of gRPC does, may give up first.
func (x *state) tryError(err error) error {
	if s := x.out.dropped; s != 0 {
		return statusError(s)
	}
	if err == nil || errors.Is(err, exchange.ErrAnswered) {
		return err
	}
	e := asError(err)
	cut := e.Side == exchange.UpstreamSide && (isReset(e.Reason) || e.Reason == "")
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.expired:
		return &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 504, Reason: reasonPerTry, Err: err}
	case cut && !x.deadline.IsZero() && !x.p.now().Before(x.deadline):
		return &exchange.Error{Op: e.Op, Side: exchange.UpstreamSide, Status: 504, Reason: reasonTimeout, Err: err}
	}
	return err
}

// statusError stands for an answer with a status after which the route tries again.
func statusError(status int) *exchange.Error {
	return &exchange.Error{
		Op: opStatus, Side: exchange.UpstreamSide, Status: status, Reason: "status_" + strconv.Itoa(status),
	}
}

// dropAnswer decides, when the final head h has come, whether the request is tried
// again instead of passing the answer on. After that there is no way back to it, so
// everything about the next try is decided here.
func (x *state) dropAnswer(h *exchange.Response) bool {
	o := &x.out
	e := statusError(h.Status)
	x.mu.Lock()
	x.tryAnsweredLocked(h.Status)
	f := x.factsLocked(e)
	// While the request is still on its way its goroutine owns the try.
	ok := f.held && f.idempotent && !f.answered && f.left > 0 && !x.expired && (!o.duplex || o.sentEnd || o.upgrade)
	x.mu.Unlock()
	if !ok {
		return false
	}
	wait, ok := x.route.Retry.retryAfter(h, x.p.now())
	if !ok || !x.prepareTry(e, wait) {
		return false
	}
	o.dropped, o.droppedBytes, o.droppedWhole = h.Status, 0, false
	return true
}

// skipHead says whether the body of an answer that is not passed on is looked at. It
// is not while the request is on its way: its connection is lost.
func (x *state) skipHead() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.out.sentEnd {
		return errDropped
	}
	return nil
}

// skip is what becomes of n bytes of an answer that is not passed on. What is there
// already is read, for the sake of the connection; the codec says by a flush (n is 0)
// that it would have to wait.
func (x *state) skip(n int, end bool) error {
	x.out.droppedBytes += n
	if !end && (n == 0 || x.out.droppedBytes > maxDropped) {
		return errDropped
	}
	return nil
}

// boundTry starts the clock of per_try, which counts from from. It does nothing for a
// route without, so that no timer is touched.
func (x *state) boundTry(from time.Time) {
	d := x.route.Retry.PerTry
	if d <= 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unboundTryLocked()
	try := x.try
	x.tryTimer = time.AfterFunc(from.Add(d).Sub(x.p.now()), func() { x.expireTry(try) })
}

// boundFromHere is boundTry for a request whose end has just come.
func (x *state) boundFromHere() {
	if x.route.Retry.PerTry > 0 {
		x.boundTry(x.p.now())
	}
}

// unboundTryLocked stops that clock. It is called with mu held.
func (x *state) unboundTryLocked() {
	if x.tryTimer != nil {
		x.tryTimer.Stop()
		x.tryTimer = nil
	}
	x.try++ // one that fires now is late
}

// expireTry gives a try up, on the timer's goroutine.
func (x *state) expireTry(try uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.live || x.try != try || x.answered || x.gone || x.up == nil {
		return
	}
	x.expired = true
	x.up.Reset(exchange.CodeTimeout)
}

// beginTry notes when a try begins, and until when its connection must be there.
func (x *state) beginTry() {
	o := &x.out
	o.until, o.tryBegan, o.reused = x.deadline, time.Time{}, false
	d := x.route.Retry.PerTry
	if d <= 0 {
		return
	}
	o.tryBegan = x.p.now()
	if at := o.tryBegan.Add(d); o.until.IsZero() || at.Before(o.until) {
		o.until = at
	}
}

// tellDeadline writes into the head how long the server has.
func (x *state) tellDeadline() {
	name := x.out.to.DeadlineHeader
	if name == "" {
		return
	}
	if x.out.until.IsZero() {
		x.out.head.Fields.Remove(name) // a client's own means nothing here
		return
	}
	left := max(x.out.until.Sub(x.p.now()).Milliseconds(), 0)
	x.out.head.Fields.Set(name, strconv.FormatInt(left, 10))
}
