package wasmfilter

import (
	"errors"
	"fmt"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

// settle acts on what the guest has asked for and lets go of the message if the
// guest does. If the guest does not, and wait is set because the feeder has nothing
// more to bring, or must not, it parks until the guest does. It is called with
// inside set, and clears it.
func (d *direction[H]) settle(wait bool) error {
	f, x := d.f, d.f.x
	for {
		x.Mu.Lock()
		if d.objectsLocked() {
			continue
		}
		switch {
		case f.abort != "":
			return d.abortLocked()
		case f.failed != nil && !d.skip:
			x.Mu.Unlock()
			return d.trapped(f.failed)
		case f.serving != nil && d.stage == stageHere && d.side == abi.StreamRequest == (f.resp.stage == stageNone):
			return d.serveLocked()
		case f.landed && d.held && d.side == abi.StreamRequest:
			how := f.how
			f.landed = false
			x.Mu.Unlock()
			if err := f.tellLanded(how); err != nil {
				return d.trapped(err)
			}
			continue
		case f.reply != nil && d.side == abi.StreamRequest:
			return d.replyLocked()
		case f.reply != nil && d.stage == stageHere:
			r := f.reply
			f.reply = nil
			d.stage = stagePassed
			d.giveUpLocked()
			x.Mu.Unlock()
			return d.stop(f.replace(r))
		case f.reply != nil:
			f.dispatchLocked() // too late: becomes a reset
			x.Mu.Unlock()
			continue
		case d.overflow != fits && !d.skip:
			what := d.overflow
			x.Mu.Unlock()
			return d.tooLarge(what)
		case !d.held || d.resume || !d.resumeAt.IsZero() && !time.Now().Before(d.resumeAt):
			return d.releaseLocked()
		case !wait && d.resumeAt.IsZero():
			d.inside = false
			x.Mu.Unlock()
			return nil
		}
		d.parked = true
		at := d.resumeAt
		x.Mu.Unlock()
		err := d.park(at)
		x.Mu.Lock()
		d.parked = false
		x.Mu.Unlock()
		if err != nil {
			return d.unheld(err)
		}
	}
}

// objectsLocked does what is marked to be done beside the message; true: it has, and
// Exchange.Mu is unlocked.
func (d *direction[H]) objectsLocked() bool {
	f, x := d.f, d.f.x
	switch {
	case len(f.deletes.list) > 0:
		list := f.deletes
		f.deletes = deletions{}
		x.Mu.Unlock()
		f.doDeletes(list)
		return true
	case f.refresh && d.side == abi.StreamRequest:
		f.refresh = false
		x.Mu.Unlock()
		if s, ok := x.Engine.(filter.Streamer); ok {
			s.Refresh(f) // what is not refreshed now is by a later request
		}
		return true
	}
	return false
}

// serveLocked answers with a stored message, as the guest has asked for.
func (d *direction[H]) serveLocked() error {
	f := d.f
	v := f.serving
	f.serving = nil
	instead := d.side == abi.StreamResponse
	if instead {
		d.stage = stagePassed
	}
	d.giveUpLocked()
	f.x.Mu.Unlock()
	if instead {
		return d.stop(f.serveInstead(v))
	}
	return d.stop(f.serveAnswer(v))
}

// replyLocked sends the local reply that was asked for, as the request direction.
func (d *direction[H]) replyLocked() error {
	f := d.f
	if f.resp.stage == stageNone && !f.outrun {
		r := f.reply
		f.reply = nil
		d.giveUpLocked()
		f.x.Mu.Unlock()
		return d.stop(f.answer(r))
	}
	f.dispatchLocked() // there is a response already: the other direction's business
	if f.abort != "" {
		return d.abortLocked()
	}
	d.giveUpLocked()
	f.x.Mu.Unlock()
	return d.stop(exchange.ErrAnswered)
}

// abortLocked makes the reset that was asked for.
func (d *direction[H]) abortLocked() error {
	f := d.f
	reason := f.abort
	f.abort, f.aborted = "", true
	d.giveUpLocked()
	f.x.Mu.Unlock()
	f.x.Engine.Abort(reason)
	return d.stop(f.factory.pluginError(0, reason, exchange.ErrReset))
}

// stop remembers the error that ends the direction.
func (d *direction[H]) stop(err error) error {
	if err != nil && d.err == nil {
		d.err = err
	}
	return err
}

// unheld gives up a message whose pause has ended without the guest.
func (d *direction[H]) unheld(err error) error {
	d.giveUp()
	switch {
	case errors.Is(err, exchange.ErrAnswered) && d.side == abi.StreamRequest:
		return d.stop(exchange.ErrAnswered)
	case errors.Is(err, errPauseLimit):
		if d.kind == holdAll && !d.endHead && !d.f.factory.hold && d.stage == stageHere {
			err = errors.New("the plugin has paused in a headers callback for too long; " +
				"one that waits for the body there needs sandbox.headers_pause = \"hold\"")
		}
		return d.fail(504, "plugin_timeout:"+d.f.factory.name, err)
	default:
		return d.stop(d.goneError(err))
	}
}

// tooLarge gives up a message of which more would have to be held back than may be, or
// that its guest has made too large.
func (d *direction[H]) tooLarge(what overflow) error {
	d.giveUp()
	status, message := 413, "request"
	if d.side == abi.StreamResponse {
		status, message = 502, "response"
	}
	reason := message + "_payload_too_large:" + d.f.factory.name
	if what == headTooLarge {
		if d.side == abi.StreamRequest {
			status = 431
		}
		reason = message + "_headers_too_large:" + d.f.factory.name
	} else {
		d.warnBody(message)
	}
	return d.fail(status, reason, nil)
}

// warnBody has the log say which limit a body was too large for, and who set it.
func (d *direction[H]) warnBody(message string) {
	x := d.f.x
	x.Mu.Lock()
	limit, who, route := d.limitLocked(), "sandbox.body_buffer", ""
	if d.f.limits[d.side] > 0 {
		who = "the limit that the plugin has set"
	}
	if x.Route != nil {
		route = x.Route.Name
	}
	x.Mu.Unlock()
	d.f.factory.warn(fmt.Sprintf("the %s body that the plugin holds back is larger than %s, %d bytes (route %s, request %s)",
		message, who, limit, route, x.RequestID))
}

// trapped goes on after the guest has failed, as OnError says.
func (d *direction[H]) trapped(err error) error {
	f, x := d.f, d.f.x
	x.Mu.Lock()
	if f.failed == nil {
		f.failed = err
	}
	// What the guest asked for before it failed is void.
	f.reply, f.abort = nil, ""
	d.skip = true
	f.nudgeLocked()
	if f.factory.o.OnError == OnErrorOpen {
		d.held = false
		return d.releaseLocked()
	}
	f.gaveUp = true
	d.giveUpLocked()
	x.Mu.Unlock()
	if _, closed := errors.AsType[*host.ClosedError](err); closed {
		return d.fail(503, "plugin_closed:"+f.factory.name, err)
	}
	return d.fail(503, "plugin_failed:"+f.factory.name, err)
}

// fail ends the exchange with status, or with a reset when the client has seen a
// part of the answer already.
func (d *direction[H]) fail(status int, reason string, err error) error {
	f, x := d.f, d.f.x
	e := f.factory.pluginError(status, reason, err)
	x.Mu.Lock()
	stage := f.resp.stage
	if d.side == abi.StreamResponse && stage == stageHere {
		f.resp.stage = stagePassed
	}
	x.Mu.Unlock()
	switch {
	case d.side == abi.StreamResponse && stage == stageHere:
		return d.stop(f.replaceWith(status, reason))
	case d.side == abi.StreamRequest && stage != stagePassed:
		return d.stop(e) // the engine answers
	}
	x.Engine.Fail(e)
	return d.stop(e)
}

// reportAside does with an error what the feeder would have done, had it been in
// the direction: it answers, or gives up the exchange.
func (d *direction[H]) reportAside(err error) {
	x := d.f.x
	if errors.Is(err, exchange.ErrAnswered) {
		return
	}
	var e *exchange.Error
	if !errors.As(err, &e) {
		e = d.f.factory.pluginError(502, "internal", err)
	}
	if d.side == abi.StreamRequest && e.Status != 0 {
		// Loses against an answer that is on its way.
		d.f.answerWith(e.Status, e.Reason)
		return
	}
	if e.Status != 0 {
		x.Engine.Fail(e)
		return
	}
	reason := e.Reason
	if reason == "" {
		reason = e.Op
	}
	x.Engine.Abort(reason)
}

// flush passes on that the feeder has nothing more at hand, unless there is
// something held that is to stay in front of it.
func (d *direction[H]) flush() error {
	x := d.f.x
	x.Mu.Lock()
	through := d.stage == stagePassed && !d.held
	x.Mu.Unlock()
	if !through || d.drop {
		return nil
	}
	return d.stop(d.next.Data(nil, false))
}
