package health

import (
	"math"
	"time"
)

// Thresholds are how many results in a row change a state.
type Thresholds struct {
	Up   int // good ones that bring a server up
	Down int // bad ones that take it down
}

// A Result is what one check has found.
type Result struct {
	OK     bool
	Reason string // why not: "refused", "status 503", ...
}

// A State is what checks say of one server. It is a value: [State.Next] makes the
// next one, and knows neither clock nor lock.
type State struct {
	Up     bool
	Known  bool      // there has been a result
	Streak int       // results in a row that speak against Up
	Reason string    // of the last bad result; "" after a good one
	Since  time.Time // when Up last changed, or the server became known
}

// Initial is the state of a server of which nothing is known yet.
func Initial(up bool, now time.Time) State { return State{Up: up, Since: now} }

// Next returns the state after r, which came at now, and whether the server went
// up or down. The first result of all decides at once: there is nothing that it
// could contradict. After it, only as many in a row as t says do.
func (s State) Next(t Thresholds, r Result, now time.Time) (next State, changed bool) {
	next = s
	next.Known = true
	next.Reason = ""
	if !r.OK {
		next.Reason = r.Reason
	}
	if r.OK == s.Up {
		next.Streak = 0
		return next, false
	}
	next.Streak++
	need := t.Down
	if r.OK {
		need = t.Up
	}
	if s.Known && next.Streak < need {
		return next, false
	}
	next.Up, next.Streak, next.Since = r.OK, 0, now
	return next, true
}

// Restart returns s for checks that are not the ones before: what was found stays
// until the new checks have contradicted it as often as their thresholds say. Without
// checks nothing speaks against a server.
func (s State) Restart(checked bool, now time.Time) State {
	s.Streak = 0
	if !checked {
		if !s.Up {
			s.Up, s.Since = true, now
		}
		s.Known, s.Reason = false, ""
	}
	return s
}

// An Ejection is the history of a server that was taken out for failing requests.
// It is a value, like State.
type Ejection struct {
	Out    bool
	Times  int       // ejections that count: each makes the next longer
	Total  int       // ejections since the server became known
	Reason string    // of the last one
	Since  time.Time // when the last one began
	Until  time.Time // when it ends, or ended
}

// Eject returns e after another ejection at now. The n-th takes n times base and
// at most longest; for every base that the server was back without another, one is
// forgotten.
func (e Ejection) Eject(base, longest time.Duration, reason string, now time.Time) Ejection {
	if e.Times > 0 && base > 0 {
		forgotten := int64(now.Sub(e.Until) / base)
		e.Times -= int(min(max(forgotten, 0), int64(e.Times)))
	}
	e.Times++
	e.Total++
	wait := longest
	if base <= longest/time.Duration(e.Times) {
		wait = base * time.Duration(e.Times)
	}
	e.Out, e.Reason, e.Since, e.Until = true, reason, now, now.Add(wait)
	return e
}

// Return returns e after its end.
func (e Ejection) Return() Ejection {
	e.Out = false
	return e
}

// mayEject reports whether one more of total servers may be out, of which out are.
func mayEject(out, total int, share float64) bool {
	return float64(out+1) <= float64(total)*share+shareSlack
}

// tooFew reports whether so few servers are left that all are to be tried. An
// empty set is no reason for it. Panic that is on ends only when a third more than that are
// available, rounded down: those that have come back while all shared the load may go again
// when they alone have it, and then everything would flap. Of a handful of servers that is
// none more; there it is the thresholds of checks that keep one server from flapping.
func tooFew(available, total int, share float64, on bool) bool {
	if total <= 0 {
		return false
	}
	least := float64(total)*share - shareSlack
	if on {
		least = max(least, min(math.Floor(float64(total)*share*panicEnd+shareSlack), float64(total)))
	}
	return float64(available) < least
}

// shareSlack keeps 3 of 10 from being more than 30 %.
const shareSlack = 1e-9
