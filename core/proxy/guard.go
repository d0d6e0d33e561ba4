package proxy

import (
	"time"

	"wproxy/core/exchange"
)

// guard makes sure that a request whose body a filter collects, and an upgrade,
// whose feeder waits for an answer without a look at the clock, is over at its
// deadline. Elsewhere the streams' own deadlines see to it and no timer is needed: a
// body that is passed on has the upstream's stream to fail.
func (x *state) guard() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.guardLocked()
}

// guardLocked is guard with mu held.
func (x *state) guardLocked() {
	x.guarded = true
	x.armLocked()
}

// armLocked sets the timer to the deadline, which may have moved. It is called
// with mu held.
func (x *state) armLocked() {
	switch {
	case x.deadline.IsZero():
		if x.timer != nil {
			x.timer.Stop()
		}
	case x.timer != nil:
		x.timer.Reset(x.deadline.Sub(x.p.now()))
	default:
		generation := x.generation
		x.timer = time.AfterFunc(x.deadline.Sub(x.p.now()), func() { x.expire(generation) })
	}
}

// disarm ends what guard began.
func (x *state) disarm() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.timer != nil {
		x.timer.Stop()
	}
	x.timer, x.guarded = nil, false
	x.unboundTryLocked()
}

// expire answers 504 at the deadline, on the timer's goroutine.
func (x *state) expire(generation uint64) {
	x.mu.Lock()
	for x.interim {
		x.cond.Wait()
	}
	over := !x.live || x.generation != generation || x.out.tunnel ||
		x.deadline.IsZero() || x.p.now().Before(x.deadline) // moved while the timer fired: it is armed again
	if over || x.answered {
		if !over && x.up != nil {
			x.up.Reset(exchange.CodeTimeout)
		}
		x.mu.Unlock()
		return
	}
	if x.up != nil {
		x.up.Reset(exchange.CodeTimeout)
	}
	x.answered = true
	x.pushers++
	x.cond.Broadcast()
	x.mu.Unlock()
	x.reply(504, reasonTimeout, nil)
	x.pushed()
}
