package upstream

import (
	"sync/atomic"
	"time"
)

// A State is whether an endpoint is given requests.
type State uint8

const (
	// Up is given requests.
	Up State = iota
	// Down is not, because something failed: a check, or too many requests.
	// When no endpoint is up, those that are down are tried all the same.
	Down
	// Draining is not, because somebody said so; it is never tried. What is
	// under way on it goes on.
	Draining
)

// String returns "up", "down" or "draining".
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	default:
		return "draining"
	}
}

// A Reason is why an endpoint is not up. Each has one owner, who alone sets and
// clears it, so that a check that succeeds does not end what an operator began.
// Reasons are bits: there may be several at a time.
type Reason uint8

const (
	// Unhealthy is of active checks.
	Unhealthy Reason = 1 << iota
	// Ejected is of passive checks: what became of requests.
	Ejected
	// Drained is of the operator.
	Drained
)

const (
	reasonBits = 8 // of the word that a status is kept in; the rest is a time in µs
	reasonMask = 1<<reasonBits - 1
)

// A status is a State's reasons and since when, in one word, so that they are
// never seen torn: µs since 1970, shifted by reasonBits, and the reasons. Zero
// is up from the beginning.
type status int64

func (s status) reasons() Reason { return Reason(s & reasonMask) }

func (s status) state() State {
	switch r := s.reasons(); {
	case r&Drained != 0:
		return Draining
	case r != 0:
		return Down
	default:
		return Up
	}
}

func (s status) since() time.Time {
	if micros := int64(s >> reasonBits); micros != 0 {
		return time.UnixMicro(micros)
	}
	return time.Time{}
}

// Available reports whether e is up. It is one atomic load.
func (e *Endpoint) Available() bool { return e.status.Load()&reasonMask == 0 }

// State returns what e is and since when. The time is zero if e has been up
// from the beginning.
func (e *Endpoint) State() (State, time.Time) {
	s := status(e.status.Load())
	return s.state(), s.since()
}

// Reasons returns why e is not up; 0: it is.
func (e *Endpoint) Reasons() Reason { return status(e.status.Load()).reasons() }

// Set adds r to what keeps e from being up, Clear takes it away. They report
// whether e.State has changed thereby; now is since when, then. Any goroutine may
// call them, and they never block: pickers see the change at their next pick.
func (e *Endpoint) Set(r Reason, now time.Time) (changed bool) {
	return e.change(func(old Reason) Reason { return old | r }, now)
}

// Clear is described at Set.
func (e *Endpoint) Clear(r Reason, now time.Time) (changed bool) {
	return e.change(func(old Reason) Reason { return old &^ r }, now)
}

func (e *Endpoint) change(f func(Reason) Reason, now time.Time) bool {
	for {
		was := status(e.status.Load())
		next := was&^reasonMask | status(f(was.reasons()))
		if next == was {
			return false
		}
		changed := next.state() != was.state()
		if changed {
			next = status(now.UnixMicro()<<reasonBits) | next&reasonMask
		}
		if e.status.CompareAndSwap(int64(was), int64(next)) {
			if changed {
				e.changes.Load().bump()
			}
			return changed
		}
	}
}

// Changes counts changes of the state of some endpoints. A picker compares the
// count with the one it last worked from; that is all a change costs it.
type Changes struct{ n atomic.Uint64 }

// Count returns how many changes there have been.
func (c *Changes) Count() uint64 { return c.n.Load() }

// bump counts one. c may be nil: an endpoint of no cluster.
func (c *Changes) bump() {
	if c != nil {
		c.n.Add(1)
	}
}
