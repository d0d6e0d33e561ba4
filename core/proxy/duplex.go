package proxy

import (
	"errors"
	"fmt"
	"runtime/debug"

	"wproxy/core/exchange"
	"wproxy/core/pool"
)

// startDuplex starts the goroutine that reads the response while the request is
// still being sent. It ends with the response or with the reset of the stream;
// outcome and finish wait for it.
func (x *state) startDuplex() {
	x.mu.Lock()
	up := x.up
	x.running, x.out.inside = true, true
	x.mu.Unlock()
	x.out.duplex = true
	if !x.out.shared { // else it may be the answer's that is here
		x.out.shared = true
	}
	go x.respond(up)
}

// enter begins a call of the request's goroutine, which has the try from here on. While the
// answer's goroutine has it, it waits.
func (x *state) enter() error {
	o := &x.out
	if !o.shared {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for o.resting {
		x.cond.Wait()
	}
	o.inside = true
	return o.restErr
}

// leave ends such a call. True: the try has failed meanwhile and is to be made again, now,
// as the next call may be long in coming.
func (x *state) leave() bool {
	if !x.out.shared {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.leaveLocked()
}

func (x *state) leaveLocked() bool {
	o := &x.out
	o.inside = false
	return !o.upgrade && o.duplex && o.respDone && x.leftLocked(o.respErr) // of an upgrade, duplex is the other's
}

// leftLocked reports whether a try that has ended with err may be made again, and nobody
// has done so yet. It is called with mu held.
func (x *state) leftLocked(err error) bool {
	o := &x.out
	return err != nil && !errors.Is(err, exchange.ErrAnswered) && !o.over && !o.upgrade && !o.claimed && !x.answered && !x.gone
}

// carryOn does what the next call of the request would, after a try that has failed: the
// request is tried again, and the answer read.
func (x *state) carryOn() error {
	s := connector{x}
	err := s.data(nil, false)
	if err == nil && !x.out.duplex {
		err = s.data(nil, false)
	}
	return err
}

// restLocked is carryOn for the goroutine of an answer that has failed while the request's was
// not there: its client may wait for the answer before it sends more. It is called with
// mu held.
func (x *state) restLocked() {
	o := &x.out
	o.resting = true
	x.mu.Unlock()
	var err error
	for again := true; again; {
		err = x.carryOn()
		x.mu.Lock()
		again = x.leaveLocked() && err == nil
		if again {
			x.mu.Unlock()
		}
	}
	o.resting, o.restErr = false, err
	x.cond.Broadcast()
}

// requestOverLocked notes that the request's goroutine makes no more calls, and ends a try
// that is made in its place: of a request that is not whole. It is called with mu held.
func (x *state) requestOverLocked() {
	x.out.over = true
	if !x.out.resting || x.answered {
		return
	}
	x.gone = true
	if x.up != nil {
		x.up.Reset(exchange.CodeCancel)
	}
	x.cond.Broadcast()
}

// respond is the response's goroutine. A failure that can be mended, because everything is
// still held, is left to the request's goroutine if that is in a call, and mended here if it
// is not, because the next one may be long in coming. Any other is dealt with here, and so
// is every failure of an upgrade, whose feeder waits for the answer.
func (x *state) respond(up exchange.Upstream) {
	defer x.handPanicOver()
	err := x.feedFrom(up)
	o := &x.out
	if o.upgrade {
		err = x.upgradeAgain(err)
		up = o.stream // that of the try before is somebody else's by now
	}
	x.mu.Lock()
	switch {
	case err == nil:
		if !o.sentEnd && !o.tunnel {
			up.Reset(exchange.CodeNoError) // early response: wakes a blocked Data
		}
	case o.claimed:
		if x.reason == "" && !x.ended.Load() && !errors.Is(err, exchange.ErrAnswered) {
			x.reason = nameOf(asError(err)) // before the resets, which make other calls fail
		}
		x.mu.Unlock()
		up.Reset(exchange.CodeCancel)
		x.fx.AnswerEnded() // who holds the request has nothing to wait for
		// Told before the last resort, which waits for the goroutines of filters: one
		// that pushes the request, and fails now, waits for the outcome of the try.
		x.mu.Lock()
		o.respDone, o.respErr = true, err
		x.cond.Broadcast()
		x.mu.Unlock()
		if !x.ended.Load() {
			x.lastResort(err) // here, as the request's goroutine may be waiting for its client
		}
		x.mu.Lock()
	case errors.Is(err, exchange.ErrAnswered), x.answered, x.gone:
		up.Reset(exchange.CodeCancel)
	case !x.elsewhereLocked(asError(err)) && !x.retryableLocked(asError(err)):
		x.mu.Unlock()
		up.Reset(exchange.CodeCancel)
		e := asError(err)
		x.failed(e)
		err = x.answerFor(e)
		x.mu.Lock()
	default:
		x.guardLocked() // there is no stream now whose deadline would end a call that never comes
	}
	o.respDone, o.respErr = true, err
	x.running = false
	x.cond.Broadcast()
	if !o.inside && x.leftLocked(err) {
		x.restLocked()
	}
	x.mu.Unlock()
}

// upgradeAgain goes on after err, the outcome of a try at an upgrade, with others
// while that fails and may be tried again. Only a head has to be sent. The
// request's goroutine leaves the try alone until the upstream's answer is claimed.
func (x *state) upgradeAgain(err error) error {
	for err != nil && !errors.Is(err, exchange.ErrAnswered) && !x.settled() {
		if !x.elsewhere(err) && !x.again(err) {
			return x.giveUp(err)
		}
		if err = x.open(); err == nil {
			x.out.duplex = true
			err = x.tryUpgrade()
		}
	}
	return err
}

// tryUpgrade sends the head of an upgrade and reads the answer. As in salvage, a
// head that could not be sent may have been answered all the same.
func (x *state) tryUpgrade() error {
	writeErr := x.up.Head(&x.out.head, false)
	if writeErr == nil {
		writeErr = x.up.Data(nil, false)
	}
	if writeErr != nil && !worthReading(asError(writeErr)) {
		return writeErr
	}
	x.boundTry(x.out.tryBegan)
	err := x.feedFrom(x.up)
	if err != nil && writeErr != nil && asError(writeErr).Retry != exchange.RetryNever && !x.settled() {
		return writeErr
	}
	return err
}

// settled reports whether there is an answer, or nobody to answer.
func (x *state) settled() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.answered || x.gone
}

// handPanicOver moves a panic of a filter to the request's goroutine, whose
// owner, unlike this one's, can do something about it: here it would end the process.
func (x *state) handPanicOver() {
	v := recover()
	if v == nil {
		return
	}
	x.out.stream.Reset(exchange.CodeInternal)
	x.client.Reset(exchange.CodeInternal)
	stack := debug.Stack()
	x.mu.Lock()
	x.answered, x.panicked = true, fmt.Sprintf("%v\n\n%s", v, stack)
	x.out.respDone, x.out.respErr = true, exchange.ErrAnswered
	x.running = false
	if x.out.resting {
		x.out.resting, x.out.restErr = false, exchange.ErrAnswered
	}
	x.cond.Broadcast()
	x.mu.Unlock()
}

// outcome waits until the response's goroutine knows, and returns what became of the
// try: nil when the response was passed on, ErrAnswered when there is another
// answer or nobody to answer, or the error of the try.
func (x *state) outcome() error {
	x.mu.Lock()
	for x.running && !x.out.respDone {
		x.cond.Wait()
	}
	err, other := x.out.respErr, x.gone || x.answered && !x.out.claimed
	open := x.up != nil
	x.mu.Unlock()
	switch {
	case err == nil:
		if open { // else it has been told
			x.succeeded()
		}
		x.closeUpstream()
		return nil
	case other:
		return exchange.ErrAnswered
	default:
		return err
	}
}

// overtaken reports whether the response's goroutine has ended before the
// request has, and then what pc comes to.
func (x *state) overtaken(pc piece) (over bool, err error) {
	x.mu.Lock()
	done := x.out.respDone
	tunnel := x.out.tunnel && x.out.respErr == nil // half-closed: our direction is still open
	x.mu.Unlock()
	if !done || tunnel {
		return false, nil
	}
	return true, x.resend(answeredIfNil(x.outcome()), pc)
}

// hold keeps a copy of body bytes that were sent, in case they must be sent
// again.
func (x *state) hold(p []byte) {
	o := &x.out
	if !o.heldAll || o.upgrade { // tunnels are not sent again
		return
	}
	if len(o.held)+len(p) > x.route.Retry.bodyBuffer() {
		x.letGo()
		return
	}
	o.held = append(o.held, p...)
}

// flushed notes that what was sent is on the wire. From then on only an
// idempotent request can be sent again, so that others need not be held, unless the
// upstream can say that it has not looked at one (RFC 9113 8.7).
func (x *state) flushed() {
	if _, many := x.out.conn.(pool.Multiplexer); x.out.heldAll && !many && !x.idempotent() {
		x.letGo()
	}
}

func (x *state) letGo() {
	x.mu.Lock()
	x.out.heldAll = false
	x.mu.Unlock()
	x.out.held = x.out.held[:0]
}
