package server

import (
	"cmp"
	"slices"

	"wproxy/core/proxy"
	"wproxy/core/tcp"
)

// swapped is what a generation has left that does not serve any more.
type swapped struct {
	http *proxy.Snapshot
	tcp  *tcp.Snapshot
}

// wait waits for the end of its exchanges and connections.
func (o swapped) wait() {
	<-o.http.Drained()
	<-o.tcp.Drained()
}

// drained reports whether wait would not wait.
func (o swapped) drained() bool {
	for _, c := range [...]<-chan struct{}{o.http.Drained(), o.tcp.Drained()} {
		select {
		case <-c:
		default:
			return false
		}
	}
	return true
}

// forget takes a generation that is drained off the list.
func (s *Server) forget(old swapped) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old = slices.DeleteFunc(s.old, func(o swapped) bool { return o == old })
}

// endOldest ends the exchanges and connections of the oldest generations if there are too
// many. The lock is held.
func (s *Server) endOldest() {
	live := s.old[:0:0]
	for _, o := range s.old {
		if !o.drained() { // else it is about to be forgotten
			live = append(live, o)
		}
	}
	most := cmp.Or(s.o.Generations, DefaultGenerations)
	for _, o := range live[:max(0, len(live)-most)] {
		if n := s.proxy.EndExchanges(o.http) + s.tcp.EndOn(o.tcp); n > 0 && s.o.Ended != nil {
			s.o.Ended(n)
		}
	}
}
