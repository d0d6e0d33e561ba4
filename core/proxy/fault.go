package proxy

import (
	"math/rand/v2"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/metrics"
)

// A Fault makes a route slow or fail, so that it can be seen what clients do then. The
// shares are from 0 to 1, of requests, and independent of each other: a request may be
// delayed and then aborted.
type Fault struct {
	Delay      time.Duration
	DelayShare float64
	Abort      int // the status
	AbortShare float64
	Header     string         // only requests with this field; "": all
	Metrics    *metrics.Fault // required
}

// reasonFault is the reason of an answer that a Fault has made.
const reasonFault = "fault"

// fault does to the request what the route asks for. It returns ErrAnswered if that
// was an answer.
func (x *state) fault(h *exchange.Request) error {
	f := x.route.Fault
	if f == nil {
		return nil
	}
	if f.Header != "" {
		if _, ok := h.Fields.Get(f.Header); !ok {
			return nil
		}
	}
	if f.Delay > 0 && hit(f.DelayShare) {
		f.Metrics.Delayed()
		x.delay(f.Delay)
	}
	if f.Abort != 0 && hit(f.AbortShare) {
		f.Metrics.Aborted()
		return x.answer(f.Abort, reasonFault)
	}
	return nil
}

func hit(share float64) bool { return share >= 1 || rand.Float64() < share }

// delay waits, but not for longer than there is somebody to answer, or time.
func (x *state) delay(d time.Duration) {
	if !x.deadline.IsZero() {
		d = min(d, x.deadline.Sub(x.p.now()))
	}
	over := false
	t := time.AfterFunc(d, func() { // stopped below
		x.mu.Lock()
		over = true
		x.cond.Broadcast()
		x.mu.Unlock()
	})
	defer t.Stop()
	x.mu.Lock()
	for !over && !x.gone && !x.answered {
		x.cond.Wait()
	}
	x.mu.Unlock()
}
