package filter

import "time"

// A Phase is a group of callbacks of a guest.
type Phase uint8

// The phases.
const (
	PhaseRequest  Phase = iota // head, body and trailer of the request
	PhaseResponse              // the same of the response
	PhaseEnd                   // when the exchange is over
)

// String returns the phase as traces name it.
func (p Phase) String() string {
	switch p {
	case PhaseRequest:
		return "request"
	case PhaseResponse:
		return "response"
	default:
		return "end"
	}
}

// Calls are the callbacks of one group, of one filter's guest.
type Calls struct {
	Plugin string
	Phase  Phase
	Begin  time.Time     // of the first
	End    time.Time     // of the last, or when the message that it has held was let go
	Took   time.Duration // time inside the guest
	Fuel   int64         // units of work
	Count  int           // callbacks
}

// NoteCall adds c to the group that at stands for, which is begun if at is 0: the index
// of the group plus one. It is called in exchanges that are Timed, from any goroutine.
func (x *Exchange) NoteCall(at *int, c Calls) {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if *at == 0 {
		x.calls = append(x.calls, c)
		*at = len(x.calls)
		return
	}
	g := &x.calls[*at-1]
	g.Took += c.Took
	g.Fuel += c.Fuel
	g.Count += c.Count
	if c.End.After(g.End) {
		g.End = c.End
	}
}

// CallsLocked returns what was noted, by filter and group in the order in which they
// began. The slice is x's. The caller holds Mu, unless all filters are closed.
func (x *Exchange) CallsLocked() []Calls { return x.calls }
