package wasmfilter

import (
	"wproxy/abi"
	"wproxy/core/exchange"
)

// direction is the sink that the filter puts in front of next: it shows the message
// to the guest and passes it on when the guest lets go of it.
type direction[H exchange.Head] struct {
	next exchange.Sink[H] // beside the beginning of half: what passes a gate reads no more
	head H                // stage says whether it is there
	half
}

var (
	_ exchange.Sink[*exchange.Request] = (*direction[*exchange.Request])(nil)
	_ exchange.Detacher                = (*direction[*exchange.Request])(nil)
)

func (d *direction[H]) init(f *Filter, side abi.StreamType) {
	d.f, d.side = f, side
	d.wake = make(chan struct{}, 1)
	d.declared = -1
}

func (d *direction[H]) reset() {
	var none H
	d.next, d.head = nil, none
	own, store := d.ownTrailer, d.body.recycle()
	own.Reset()
	d.flow = flow{declared: -1, ownTrailer: own, body: body{store: store}}
	select {
	case <-d.wake:
	default:
	}
}

// Head implements exchange.Sink.
func (d *direction[H]) Head(h H, end bool) error {
	if d.f.factory.orders {
		if done, err := d.atGate(h, end); done {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := any(h).(*exchange.Response); ok && r.Status/100 == 1 && r.Status != 101 {
		return d.next.Head(h, end) // guests do not see these (rule 6)
	}
	if d.err != nil {
		return d.err
	}
	f, x := d.f, d.f.x
	d.endHead = end
	headers, body, _ := d.wants()
	calls := f.factory.wantsResponse()
	ours := d.side == abi.StreamRequest || (calls || len(f.factory.standing) > 0) && f.seen()
	skip := !ours || d.side == abi.StreamResponse && !calls
	x.Mu.Lock()
	if d.side == abi.StreamResponse && (f.served || f.refused) {
		ours, skip = f.refused, true
	}
	d.head, d.stage, d.ended, d.inside = h, stageHere, end, true
	d.skip = skip || f.gaveUp
	large := d.arrivedLocked(ours && !f.gaveUp)
	d.wasNoBody = d.bodylessLocked()
	failed := f.failed
	x.Mu.Unlock()
	switch {
	case large:
		return d.tooLarge(headTooLarge)
	case d.skip:
		return d.settle(false)
	case failed != nil: // the VM has died since the request was here
		return d.trapped(failed)
	}
	if d.side == abi.StreamRequest && f.shut && f.refuse() {
		return d.settle(false)
	}
	if f.factory.lookup != nil && d.side == abi.StreamRequest && f.standingServe(end) {
		return d.settle(false)
	}
	if err := f.openGuest(); err != nil {
		return d.trapped(err)
	}
	if !headers {
		return d.settle(false)
	}
	act, err := d.callHeaders(d.lines(), end)
	if err != nil {
		return d.trapped(err)
	}
	if act == abi.Continue || act == abi.HeadersContinueAndEndStream {
		return d.settle(false)
	}
	kind := holdAll
	// Without a body callback nothing but a resume could end a hold.
	if act == abi.Pause && f.factory.hold && body {
		kind = holdHead
	}
	x.Mu.Lock()
	d.held, d.kind = true, kind
	x.Mu.Unlock()
	return d.settle(kind == holdAll || end)
}

// arrivedLocked does with a head that has come what is done before the guest sees it; edit says whether
// standing edits are made. It reports whether the head has become too large.
func (d *direction[H]) arrivedLocked(edit bool) (large bool) {
	f := d.f
	switch h := any(d.head).(type) {
	case *exchange.Request:
		if edit {
			edited, fits := f.standLocked(f.factory.standingRequests, &h.Fields)
			large, f.dirty = !fits, f.dirty || edited
		}
		f.maps.arrived(abi.MapRequestHeaders)
		f.route = f.x.Route
	case *exchange.Response:
		large = edit && !f.applyStandingLocked(h)
		f.maps.arrived(abi.MapResponseHeaders)
		f.noteLocked()
		f.won = f.won || f.sent != nil && f.resp.head == f.sent
	}
	return large
}

// lines returns the number of lines of the head as the guest counts them.
func (d *direction[H]) lines() int {
	switch h := any(d.head).(type) {
	case *exchange.Request:
		return h.Fields.Len() + requestPseudos
	case *exchange.Response:
		return h.Fields.Len() + responsePseudos
	}
	return 0
}

// Data implements exchange.Sink.
func (d *direction[H]) Data(p []byte, end bool) error {
	if d.passedGate() {
		return d.pastData(p, end)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter(); err != nil {
		return err
	}
	if d.side == abi.StreamResponse && d.f.filling() {
		if err := d.checkLength(len(p), end, d.lengthSet || d.body.edited); err != nil {
			return err
		}
		return d.f.fillData(p, end)
	}
	_, wanted, _ := d.wants()
	if d.skip || !wanted {
		return d.pass(p, end)
	}
	if len(p) == 0 && !end {
		return d.flush()
	}
	x := d.f.x
	x.Mu.Lock()
	d.ended = end
	d.body.show(p)
	n, over := len(d.body.visible), d.body.owned && d.body.size() > d.limitLocked()
	d.inside = true
	x.Mu.Unlock()
	if over {
		return d.tooLarge(bodyTooLarge)
	}
	return d.bodyCall(n, end, end)
}

// bodyCall makes the body callback for what the body shows, n bytes. end is what the
// guest is told; wait says that the feeder has nothing more to bring, so that it
// has to wait for a guest that does not let go.
func (d *direction[H]) bodyCall(n int, end, wait bool) error {
	x := d.f.x
	act, err := d.callBody(n, end)
	if err != nil {
		return d.trapped(err)
	}
	x.Mu.Lock()
	if end && d.trailer == nil && d.ownTrailer.Len() > 0 {
		d.trailer = &d.ownTrailer
	}
	d.inTrailer = false
	if act == abi.Continue {
		d.held = false
		x.Mu.Unlock()
		return d.settle(false)
	}
	d.held = true
	switch act {
	case abi.BodyStopIterationAndWatermark:
		d.kind = holdFlow
		d.body.keep()
		wait = wait || len(d.body.kept) >= d.limitLocked()
	case abi.BodyStopIterationNoBuffer:
		d.kind = holdBody
		d.body.drop()
	default: // Pause, and what no ABI knows
		d.kind = holdBody
		d.body.own()
		if d.body.size() > d.limitLocked() {
			x.Mu.Unlock()
			return d.tooLarge(bodyTooLarge)
		}
	}
	x.Mu.Unlock()
	return d.settle(wait)
}

// Trailer implements exchange.Sink.
func (d *direction[H]) Trailer(t *exchange.Fields) error {
	if d.passedGate() {
		return d.pastTrailer(t)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter(); err != nil {
		return err
	}
	if d.side == abi.StreamResponse && d.f.filling() {
		return d.f.fillTrailer(t)
	}
	_, body, trailers := d.wants()
	if d.skip || !body && !trailers {
		if d.drop {
			return nil
		}
		return d.stop(d.next.Trailer(t))
	}
	x := d.f.x
	x.Mu.Lock()
	d.trailer, d.ended, d.inside = t, true, true
	d.f.maps.arrived(d.trailerKind())
	n := t.Len()
	if !trailers {
		// A guest that waits for the end of the body has to be told of it, or
		// a body with trailers would pass it unseen.
		d.body.show(nil)
		n = len(d.body.visible)
		x.Mu.Unlock()
		return d.bodyCall(n, true, true)
	}
	d.inTrailer = true
	if d.held && d.kind == holdBody {
		d.body.show(nil)
	}
	x.Mu.Unlock()
	act, err := d.callTrailers(n)
	if err != nil {
		return d.trapped(err)
	}
	x.Mu.Lock()
	d.inTrailer = false
	d.held, d.kind = act != abi.Continue, holdAll
	x.Mu.Unlock()
	return d.settle(true)
}

// Detached implements exchange.Detacher.
func (d *direction[H]) Detached() bool {
	if d.passedGate() {
		return !d.f.broken.Load() && (d.side == abi.StreamRequest || !d.f.kept)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drop || d.declared >= 0 || d.side == abi.StreamResponse && d.f.filling() {
		return false
	}
	x := d.f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if d.stage != stagePassed {
		return false
	}
	_, body, trailers := d.wants()
	return d.skip || !body && !trailers
}

// enter begins a call of Data or Trailer: it acts on marks that were set while
// nobody was here.
func (d *direction[H]) enter() error {
	if d.err != nil {
		return d.err
	}
	if d.skip {
		return nil
	}
	f := d.f
	f.x.Mu.Lock()
	if d.side == abi.StreamRequest && f.replied {
		f.x.Mu.Unlock()
		d.err = exchange.ErrAnswered
		return d.err
	}
	marked := d.resume && d.held || d.overflow != fits || f.failed != nil || f.abort != "" || f.reply != nil && !f.outrun
	d.inside = marked
	f.x.Mu.Unlock()
	if marked {
		return d.settle(false)
	}
	return nil
}

// resumed acts on marks on a goroutine of its own, where no feeder is in the
// direction.
func (d *direction[H]) resumed() {
	x := d.f.x
	defer x.Pushed()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return
	}
	x.Mu.Lock()
	d.inside = true
	held := d.held
	x.Mu.Unlock()
	err := d.settle(false)
	if err == nil && held && !d.endHead {
		// The feeder has flushed before it blocked on its wire, and nothing
		// was passed on then (rule 5).
		x.Mu.Lock()
		flush := !d.held && !d.ended && !d.drop
		x.Mu.Unlock()
		if flush {
			err = d.release(nil, false)
		}
	}
	if err != nil {
		d.reportAside(err)
	}
}
