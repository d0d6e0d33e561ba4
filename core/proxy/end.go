package proxy

import (
	"sync"
	"weak"
)

// ReasonReloads is that of an exchange that was ended because it has outlived too many
// reloads.
const ReasonReloads = "too_many_reloads"

// states knows every state that there is, so that the exchanges of an old snapshot can be
// found. States are used again and again, so adding one is rare, and no exchange costs
// anything.
type states struct {
	mu   sync.Mutex
	all  []weak.Pointer[state] // guarded by mu; those that the pool has dropped become nil
	most int                   // of all before it is looked through; guarded by mu
}

// add notes a new state.
func (s *states) add(x *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= s.most {
		s.liveLocked()
		s.most = max(leastStates, 2*len(s.all))
	}
	s.all = append(s.all, weak.Make(x))
}

// liveLocked forgets the states that are gone and returns the others.
func (s *states) liveLocked() (live []*state) {
	kept := s.all[:0]
	for _, w := range s.all {
		if x := w.Value(); x != nil {
			kept, live = append(kept, w), append(live, x)
		}
	}
	clear(s.all[len(kept):])
	s.all = kept
	return live
}

// list returns the states that there are.
func (s *states) list() []*state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.liveLocked()
}

// EndExchanges ends what is left of s, which was swapped out: clients see their exchange
// broken off, tunnels are closed in order, and the reason in the log is ReasonReloads. It
// returns how many there were, and does not wait for their end.
func (p *Proxy) EndExchanges(s *Snapshot) (n int) {
	p.tunnels.mu.Lock() // tunnels move from one snapshot to another, and end, with it held
	defer p.tunnels.mu.Unlock()
	for _, x := range p.known.list() {
		if x.endOn(s) {
			n++
		}
	}
	return n
}

// endOn ends x if it is an exchange of s.
func (x *state) endOn(s *Snapshot) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.live || x.snap != s || x.aborted { // at the last reload: it is about to be over
		return false
	}
	if x.out.tunnel {
		x.hangUpLocked(ReasonReloads)
	} else {
		x.abortLocked(ReasonReloads)
	}
	return true
}
