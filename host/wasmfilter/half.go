package wasmfilter

import (
	"errors"
	"sync"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
)

// stage is how far the head of a message has come.
type stage uint8

const (
	stageNone   stage = iota // not here yet
	stageHere                // in this filter: readable and writable
	stagePassed              // on its way: readable
)

// half is what the two directions have in common: everything that does not depend
// on the type of the head.
type half struct {
	// Immutable.
	f    *Filter
	side abi.StreamType // StreamRequest or StreamResponse
	wake chan struct{}  // one token: look at the marks

	// The direction lock: held by whoever is in the direction, the feeder or a
	// goroutine that pushes for it, also while it is parked and while it pushes.
	mu sync.Mutex

	timer *time.Timer // of park; made when it is first needed
	flow
}

// flow is the part of a half that lives as long as the exchange.
type flow struct {
	// Owned by the holder of mu.
	err      error // what ended the direction; every further call returns it
	skip     bool  // the guest is not called any more; nothing is held
	endHead  bool  // the message ended with its head
	drop     bool  // data go nowhere: the guest made the message one without body
	declared int64 // length that was announced downstream, while it has to be checked; else -1
	passed   int64 // bytes passed on so far
	sent     bool  // the end has been passed on by release

	// Guarded by Exchange.Mu.
	stage      stage
	held       bool             // the guest holds something back
	kind       hold             // what it holds back
	inside     bool             // a goroutine is in the direction and looks at the marks before it leaves or pushes
	parked     bool             // the goroutine in the direction waits for wake
	resume     bool             // mark: let go of what is held
	resumeAt   time.Time        // when resume is set, if it is still held then; zero: never
	overflow   overflow         // mark: give the message up
	over       bool             // the message was given up: it is out of the guest's reach
	ended      bool             // the end of the message has been seen
	lengthSet  bool             // the guest has set the length
	wasNoBody  bool             // the message could not have a body when it came
	inTrailer  bool             // trailers are accessible
	trailer    *exchange.Fields // that have arrived, or that the guest has added
	ownTrailer exchange.Fields  // room for added ones
	body       body
}

// hold is what a guest holds back.
type hold uint8

const (
	holdAll  hold = iota // everything: the feeder waits
	holdHead             // the head; body callbacks go on
	holdBody             // the body, to look at it as a whole
	holdFlow             // the body, without looking at it again
)

// overflow is what a guest has made too large.
type overflow uint8

const (
	fits overflow = iota
	headTooLarge
	bodyTooLarge
)

// overflowLocked gives the message up for an edit that was not made because of its
// size. The guest is not told, since it may not bear it; without the edit the message
// is not what the guest lets pass.
func (d *half) overflowLocked(what overflow) {
	d.overflow = what
	d.f.nudgeLocked()
}

var errPauseLimit = errors.New("the plugin has paused for too long")

// goneError is why a held message is given up.
func (d *half) goneError(cause error) *exchange.Error {
	return &exchange.Error{Op: "wait for plugin " + d.f.factory.name, Side: exchange.ClientSide, Reason: "client_gone", Err: cause}
}

// giveUpLocked takes the message from the guest, which holds nothing back any more and
// whose edits have no effect: from here on it is the engine's, which does not lock it.
func (d *half) giveUpLocked() { d.over, d.held, d.inside = true, false, false }

// giveUp is giveUpLocked for who does not hold Exchange.Mu.
func (d *half) giveUp() {
	d.f.x.Mu.Lock()
	d.giveUpLocked()
	d.f.x.Mu.Unlock()
}

// Wake implements filter.Waker.
func (d *half) Wake() {
	select {
	case d.wake <- struct{}{}:
	default: // one token is enough: all marks are looked at
	}
}

// markLocked makes sure that somebody looks at the marks; false if nobody is in
// the direction.
func (d *half) markLocked() bool {
	if d.parked {
		d.Wake()
	}
	return d.parked || d.inside
}

// resumeLocked marks what is held to be let go of; it reports whether a goroutine
// has to be started for it.
func (d *half) resumeLocked() bool {
	// inside: the callback that is running may be about to pause.
	if d.resume || !d.held && !d.inside {
		return false
	}
	d.resume = true
	return !d.markLocked()
}

// trailerKind returns the map that the trailers are.
func (d *half) trailerKind() abi.MapType {
	if d.side == abi.StreamRequest {
		return abi.MapRequestTrailers
	}
	return abi.MapResponseTrailers
}

// limit returns how many bytes of the body may be held back.
func (d *half) limitLocked() int {
	if n := d.f.limits[d.side]; n > 0 {
		return n
	}
	return d.f.factory.o.BodyBuffer
}

// wants reports whether the guest exports the callbacks of this direction.
func (d *half) wants() (headers, body, trailers bool) {
	c := &d.f.factory.calls
	if d.side == abi.StreamRequest {
		return c.RequestHeaders, c.RequestBody, c.RequestTrailers
	}
	return c.ResponseHeaders, c.ResponseBody, c.ResponseTrailers
}

// The calls into the guest, one at a time for both directions.

func (d *half) callHeaders(n int, end bool) (act abi.Action, err error) {
	d.f.calls.Lock()
	defer d.f.calls.Unlock()
	began := d.f.beginCall()
	if d.side == abi.StreamRequest {
		act, err = d.f.guest.RequestHeaders(n, end)
	} else {
		act, err = d.f.guest.ResponseHeaders(n, end)
	}
	d.f.endCall(d.phase(), began)
	return act, err
}

func (d *half) callBody(n int, end bool) (act abi.Action, err error) {
	d.f.calls.Lock()
	defer d.f.calls.Unlock()
	began := d.f.beginCall()
	if d.side == abi.StreamRequest {
		act, err = d.f.guest.RequestBody(n, end)
	} else {
		act, err = d.f.guest.ResponseBody(n, end)
	}
	d.f.endCall(d.phase(), began)
	return act, err
}

func (d *half) callTrailers(n int) (act abi.Action, err error) {
	d.f.calls.Lock()
	defer d.f.calls.Unlock()
	began := d.f.beginCall()
	if d.side == abi.StreamRequest {
		act, err = d.f.guest.RequestTrailers(n)
	} else {
		act, err = d.f.guest.ResponseTrailers(n)
	}
	d.f.endCall(d.phase(), began)
	return act, err
}

// park waits for a mark, or for the time at, if that is not zero. It is called with parked
// set. The error is errPauseLimit, that of the exchange's context, or exchange.ErrAnswered: the
// answer has ended, or the exchange was given up.
func (d *half) park(at time.Time) error {
	x := d.f.x
	if !x.Park(d) {
		return exchange.ErrAnswered
	}
	defer x.Unpark(d)
	now := time.Now()
	wait := d.pauseLimit(now)
	due := !at.IsZero() && at.Sub(now) <= wait
	if due {
		wait = max(at.Sub(now), 0)
	}
	if d.timer == nil {
		d.timer = time.NewTimer(wait)
	} else {
		d.timer.Reset(wait)
	}
	defer d.timer.Stop()
	var done <-chan struct{}
	if x.Context != nil {
		done = x.Context.Done()
	}
	select {
	case <-d.wake:
		return nil
	case <-done:
		return x.Context.Err()
	case <-d.timer.C:
		if due {
			return nil
		}
		return errPauseLimit
	}
}

// pauseLimit returns how long a pause that begins now may last.
func (d *half) pauseLimit(now time.Time) time.Duration {
	wait := d.f.factory.o.Pause
	if dl := d.f.x.Deadline; !dl.IsZero() {
		left := max(dl.Sub(now)-deadlineMargin, 0)
		if wait == 0 || left < wait {
			wait = left
		}
		return wait
	}
	if wait == 0 {
		wait = defaultPause
	}
	return wait
}
