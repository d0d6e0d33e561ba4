package health

import (
	"slices"
	"sync/atomic"
	"time"

	"wproxy/core/upstream"
)

// A Server is one server of an upstream, known by its name. It outlives the
// endpoints that stand for it: a reload may make another one, with another weight.
//
// It is the upstream.Observer of its endpoints.
type Server struct {
	// Immutable.
	name    string
	monitor *Monitor

	judge atomic.Pointer[judge] // nil: requests do not matter
	tally tally

	// Guarded by Monitor.mu.
	endpoints []*upstream.Endpoint // that stand for it; the last one is dialed
	member    bool                 // of what serves
	tier      int
	counted   contribution
	state     State
	ejection  Ejection
	drained   bool
	drainedAt time.Time
	returns   *time.Timer // ends the ejection; nil: there is none

	// Of the scheduler.
	due     time.Time
	queue   int       // index in the queue, -1: not in it
	epoch   uint64    // changes when what is under way does not count any more
	checked time.Time // when the last result came
	took    time.Duration
}

// Answered implements upstream.Observer.
func (s *Server) Answered(status int) {
	j := s.judge.Load()
	switch {
	case j == nil:
	case j.failure(status):
		s.failed(j)
	default:
		s.tally.success(&j.o)
	}
}

// Failed implements upstream.Observer. A kind that is not to count says nothing
// good about the server either.
func (s *Server) Failed(kind string) {
	if j := s.judge.Load(); j != nil && slices.Contains(j.kinds, kind) {
		s.failed(j)
	}
}

func (s *Server) failed(j *judge) {
	if why := s.tally.failure(&j.o, s.monitor.now()); why != "" {
		s.monitor.eject(s, why)
	}
}

// set and clear change the state of all endpoints of s. They are called with
// Monitor.mu held.
func (s *Server) set(r upstream.Reason, now time.Time) {
	for _, e := range s.endpoints {
		e.Set(r, now)
	}
}

func (s *Server) clear(r upstream.Reason, now time.Time) {
	for _, e := range s.endpoints {
		e.Clear(r, now)
	}
}

// available reports whether s is given requests; called with Monitor.mu held.
func (s *Server) available() bool { return s.state.Up && !s.ejection.Out && !s.drained }

// apply makes a new endpoint what s is; called with Monitor.mu held.
func (s *Server) apply(e *upstream.Endpoint, now time.Time) {
	for _, r := range []struct {
		is     bool
		reason upstream.Reason
	}{
		{!s.state.Up, upstream.Unhealthy},
		{s.ejection.Out, upstream.Ejected},
		{s.drained, upstream.Drained},
	} {
		if r.is {
			e.Set(r.reason, now)
		}
	}
}

// A Status is what is known of a server at one moment.
type Status struct {
	Name      string
	Up        bool // what checks say; true without checks
	Checked   bool // there are checks and there has been a result
	Ejected   bool
	Drained   bool
	Available bool      // is given requests
	Reason    string    // why not, or why the last check failed
	Since     time.Time // when the state that counts began
	Until     time.Time // when an ejection ends
	Ejections int       // so far
	LastCheck time.Time // zero: none yet
	Took      time.Duration
}

// statusLocked is called with Monitor.mu held.
func (s *Server) statusLocked() Status {
	st := Status{
		Name: s.name, Up: s.state.Up, Checked: s.state.Known, Ejected: s.ejection.Out, Drained: s.drained,
		Available: s.available(), Reason: s.state.Reason, Since: s.state.Since,
		Ejections: s.ejection.Total, LastCheck: s.checked, Took: s.took,
	}
	switch {
	case s.drained:
		st.Since, st.Reason = s.drainedAt, "drained by an operator"
	case !s.state.Up:
	case s.ejection.Out:
		st.Since, st.Until, st.Reason = s.ejection.Since, s.ejection.Until, s.ejection.Reason
	case s.ejection.Until.After(st.Since): // it is back since then
		st.Since = s.ejection.Until
	}
	return st
}
