package wasmfilter

import (
	"net/netip"
	"sync/atomic"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/gaterule"
)

// A gate lets requests through, or refuses them, without the guest; *host.Gate is one.
type gate interface {
	Admit(r gaterule.Request) (host.Admission, bool)
	Leave(a host.Admission)
	Fields(a host.Admission) int
	Field(i int, a host.Admission) (name, value string)
}

// passing is the part of a Filter whose request a gate, a watch or a standing order has let through. Nothing
// else of the Filter is written in that exchange, for which the plugin is not there but for a few
// lines of the answer; unless the answer is stored, or has to be shown to the guest after all.
type passing struct {
	// past is set at the request's head, before it goes on, and says that bucket, or
	// watched, or the passage, is valid.
	past    atomic.Bool
	bucket  host.Admission
	watched host.Watched

	// shut says that the gate has not let the request through, and that bucket is valid: it has how
	// the request is refused. Owned by the request direction.
	shut bool

	// told is set at the answer's head, if that is the first that the guest hears of the
	// exchange. The request stays past it.
	told atomic.Bool

	broken atomic.Bool // a direction has ended with an error, which it keeps
	kept   bool        // the answer is being stored; owned by who feeds the response
}

// reset prepares for another exchange.
func (p *passing) reset() {
	p.past.Store(false)
	p.told.Store(false)
	p.broken.Store(false)
	p.kept, p.shut = false, false
}

// A gateHead is the head of a request as a gate sees it, which is how headerMap shows it to guests.
// It is with the filter that asks, so nobody edits it meanwhile.
type gateHead exchange.Request

// Get implements gaterule.Head.
func (h *gateHead) Get(name string) (string, bool) {
	r := (*exchange.Request)(h)
	if name[0] == ':' || name == pseudoHost {
		return requestPseudo(r, name)
	}
	return r.Fields.Get(name)
}

// clientAddr returns the client's address, after trust_proxy; invalid: it is not known.
func clientAddr(x *filter.Exchange) netip.Addr {
	if c := x.Request.Conn; !x.ClientAddr.IsValid() && c != nil {
		return c.Remote.Addr()
	}
	return x.ClientAddr
}

// atGate takes a head past the guest if a gate, a watch or a standing order lets it, or has let the request. done: it
// has, and err is what has become of it. Nobody but the feeder is in the direction: there is no guest
// that could hold something back, and no lock is needed.
func (d *direction[H]) atGate(h H, end bool) (done bool, err error) {
	f := d.f
	switch m := any(h).(type) {
	case *exchange.Request:
		if !f.admit(end) {
			return false, nil
		}
		f.past.Store(true)
		if !f.standRequest(m, false) {
			f.broken.Store(true)
			return true, d.noRoom(h, end)
		}
	case *exchange.Response:
		switch {
		case !f.past.Load() || f.told.Load():
			return false, nil
		case f.broken.Load() && d.err != nil:
			return true, d.err
		case m.Status/100 == 1 && m.Status != 101: // not the answer yet
		case f.factory.watch != nil && !f.count(m.Status):
			f.told.Store(true)
			return false, nil
		case f.factory.passes: // and there are no lines to be added
			kept, ok := f.passAnswer(m, end)
			if !ok {
				f.told.Store(true)
				return false, nil
			}
			if f.kept = kept; kept {
				return true, nil
			}
		case !f.addLines(m):
			f.x.Mu.Lock()
			d.head, d.stage, d.ended, d.endHead = h, stageHere, end, end
			f.noteLocked()
			f.x.Mu.Unlock()
			f.broken.Store(true)
			return true, d.tooLarge(headTooLarge)
		}
	}
	return true, d.past(d.next.Head(h, end))
}

// past remembers what has become of a message that goes past the guest.
func (d *direction[H]) past(err error) error {
	if err != nil {
		d.f.broken.Store(true)
		d.err = err
	}
	return err
}

// pastData and pastTrailer are Data and Trailer of such a message.

func (d *direction[H]) pastData(p []byte, end bool) error {
	if d.f.broken.Load() && d.err != nil {
		return d.err
	}
	if d.side == abi.StreamResponse && d.f.kept {
		return d.past(d.f.keepData(p, end))
	}
	return d.past(d.next.Data(p, end))
}

func (d *direction[H]) pastTrailer(t *exchange.Fields) error {
	if d.f.broken.Load() && d.err != nil {
		return d.err
	}
	if d.side == abi.StreamResponse && d.f.kept {
		return d.past(d.f.keepTrailer(t))
	}
	return d.past(d.next.Trailer(t))
}

// admit asks the gate, the watch, or what is stored, about the request.
func (f *Filter) admit(end bool) (ok bool) {
	x := f.x
	x.Mu.Lock()
	route, client, head := x.Route, clientAddr(x), x.Request
	x.Mu.Unlock()
	switch {
	case f.factory.passes:
		return f.passRequest(end, route)
	case route == nil:
	case f.factory.watch != nil:
		f.watched, ok = f.factory.watch.Admit(route.Name, route.Cluster)
	default:
		f.bucket, ok = f.factory.gate.Admit(gaterule.Request{Route: route.Name, Client: client, Head: (*gateHead)(head)})
		f.shut = !ok && f.bucket.Refusal() != nil
	}
	return ok
}

// count counts what has become of a watched request, if that is something and the guest has no
// part in it; false: it is the guest's to look at.
func (f *Filter) count(status int) bool {
	x := f.x
	x.Mu.Lock()
	tries, failure := x.Upstream.Attempts, x.Upstream.Failure
	x.Mu.Unlock()
	return tries <= 0 || f.factory.watch.Count(&f.watched, failure, status)
}

// addLines makes standing edits, and adds the gate's lines to the answer, as the guest would
// have; false if it is too large then.
func (f *Filter) addLines(r *exchange.Response) bool {
	g, x, n := f.factory.gate, f.x, 0
	if g != nil {
		n = g.Fields(f.bucket)
	}
	if n == 0 && len(f.factory.standing) == 0 {
		return true
	}
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if x.ClosingLocked() {
		return true
	}
	if !f.applyStandingLocked(r) {
		return false
	}
	size := r.Fields.Size()
	if r.Fields.Len()+n > maxHeadFields {
		return false
	}
	for i := range n {
		name, value := g.Field(i, f.bucket)
		if size += len(name) + len(value); size > maxHeadBytes {
			return false
		}
		r.Fields.Add(name, value)
	}
	return true
}

// passedGate reports whether the direction's message goes past the guest.
func (d *half) passedGate() bool {
	return d.f.factory.orders && d.f.past.Load() && (d.side == abi.StreamRequest || !d.f.told.Load())
}

// passedVerdict returns the verdict on a request that has gone past the guest.
func (f *Filter) passedVerdict() string {
	if f.factory.gate != nil {
		if r := f.bucket.Refusal(); r != nil {
			return r.Verdict()
		}
	}
	return ""
}

// closePast is Close for an exchange that has gone past the guest. It leaves alone what that
// has not touched.
func (f *Filter) closePast() {
	x := f.x
	if f.miss {
		f.closeObjects() // the flight that it leads, and what it fills
	}
	x.Quiesce()
	x.Mu.Lock()
	x.Verdicts = append(x.Verdicts, filter.Verdict{Plugin: f.factory.name, Verdict: f.passedVerdict()})
	x.Mu.Unlock()
	switch {
	case f.broken.Load() || f.resp.head != nil: // or the answer came before the request did
		f.reset()
	case f.kept:
		f.forgetKept()
	}
	if g := f.factory.gate; g != nil {
		g.Leave(f.bucket)
	}
	f.x, f.req.next, f.resp.next = nil, nil, nil
	f.passing.reset()
	f.leavePassage()
	f.factory.pool.Put(f)
}
