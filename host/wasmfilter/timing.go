package wasmfilter

import (
	"time"

	"wproxy/abi"
	"wproxy/core/filter"
)

// Clocks are what the clocks say when a call into the guest begins. They are empty unless
// somebody wants to know (filter.Exchange.Timed).
type clocks struct {
	at   time.Time
	took time.Duration
	fuel int64
}

// beginCall and endCall stand around a call. The caller holds calls, or is the only one left.
func (f *Filter) beginCall() (m clocks) {
	if !f.x.Timed {
		return clocks{}
	}
	m.took, m.fuel = f.guest.GuestCost()
	m.at = time.Now()
	return m
}

func (f *Filter) endCall(p filter.Phase, m clocks) {
	if m.at.IsZero() {
		return
	}
	took, fuel := f.guest.GuestCost()
	if took == m.took {
		return // a guest without the callback
	}
	f.x.NoteCall(&f.noted[p], filter.Calls{
		Plugin: f.factory.name, Phase: p, Begin: m.at, End: time.Now(), Took: took - m.took, Fuel: fuel - m.fuel, Count: 1,
	})
}

// letGo notes that the message that the guest has held goes on.
func (d *half) letGo() {
	d.f.calls.Lock()
	defer d.f.calls.Unlock()
	if at := &d.f.noted[d.phase()]; *at != 0 {
		d.f.x.NoteCall(at, filter.Calls{End: time.Now()})
	}
}

func (d *half) phase() filter.Phase {
	if d.side == abi.StreamRequest {
		return filter.PhaseRequest
	}
	return filter.PhaseResponse
}
