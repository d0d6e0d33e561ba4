package wasmfilter

import (
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/objects"
)

// releaseLocked lets go of the message: the head, if it is still here, what is held of
// the body, and the end if it has been seen, go to the next sink. It is called with
// Exchange.Mu locked and unlocks it: nothing of the guest's reaches what is being
// pushed.
func (d *direction[H]) releaseLocked() error {
	f, x := d.f, d.f.x
	head := d.stage == stageHere
	if head {
		d.frameLocked()
		d.stage = stagePassed
	}
	says, reroute := false, false
	if head && d.side == abi.StreamRequest {
		says, reroute = f.reroute || f.dirty, f.reroute || f.dirty && !f.noReroute && !f.factory.o.NoReroute
	}
	var storing *storing
	if head && d.side == abi.StreamResponse {
		storing, f.storing = f.storing, nil
	}
	kept, visible := d.body.take()
	trailer, ended := d.trailer, d.ended && !d.endHead && !d.sent
	d.sent = d.sent || ended
	edited := d.body.edited || d.lengthSet
	held := d.held && x.Timed
	d.held, d.resume, d.inside, d.resumeAt = false, false, false, time.Time{}
	x.Mu.Unlock()

	if held {
		d.letGo()
	}
	if says {
		x.Engine.Reroute(reroute)
	}
	if head && d.side == abi.StreamResponse {
		if h, ok := any(d.head).(*exchange.Response); ok && storing != nil && !d.drop && f.beginFill(storing, h, d.endHead) {
			head = false // it goes with the rest
		} else {
			f.land(objects.Unstored)
		}
	}
	if head {
		// A status without a body ends with its head, whatever follows here.
		if err := d.stop(d.next.Head(d.head, d.endHead || d.drop)); err != nil {
			return err
		}
	}
	if d.drop {
		return nil
	}
	last := ended && trailer == nil
	if err := d.checkLength(len(kept)+len(visible), ended, edited); err != nil {
		return err
	}
	if len(kept) > 0 {
		if err := d.release(kept, last && len(visible) == 0); err != nil {
			return err
		}
	}
	if len(visible) > 0 || last && len(kept) == 0 {
		if err := d.release(visible, last); err != nil {
			return err
		}
	}
	if !ended || trailer == nil {
		return nil
	}
	if d.side == abi.StreamResponse && f.filling() {
		return f.fillTrailer(trailer)
	}
	return d.stop(d.next.Trailer(trailer))
}

// release passes on a part of the body that was held.
func (d *direction[H]) release(p []byte, end bool) error {
	if d.side == abi.StreamResponse && d.f.filling() {
		return d.f.fillData(p, end)
	}
	return d.stop(d.next.Data(p, end))
}

// pass passes a chunk on that the guest does not look at.
func (d *direction[H]) pass(p []byte, end bool) error {
	if d.drop {
		return nil
	}
	if err := d.checkLength(len(p), end, d.lengthSet || d.body.edited); err != nil {
		return err
	}
	return d.stop(d.next.Data(p, end))
}

// checkLength counts n bytes that are about to be passed on against the length
// that was announced, if the guest has changed either: a wrong length must never be
// on the wire (abi.md 5.5).
func (d *direction[H]) checkLength(n int, end, edited bool) error {
	d.passed += int64(n)
	if d.declared < 0 || d.passed <= d.declared && (!end || d.passed == d.declared) {
		return nil
	}
	if !edited {
		return nil // the sender's own mistake: the codec's business
	}
	reason := "plugin_length:" + d.f.factory.name
	d.f.x.Engine.Abort(reason)
	return d.stop(d.f.factory.pluginError(0, reason, errLength))
}

// frameLocked makes the framing of a head that is about to leave true (abi.md 5.5).
func (d *direction[H]) frameLocked() {
	var length *int64
	var fields *exchange.Fields
	switch h := any(d.head).(type) {
	case *exchange.Request:
		length, fields = &h.Length, &h.Fields
		if h.Upgrade != "" {
			return // what follows is no body, but bytes of a tunnel, if anything
		}
	case *exchange.Response:
		length, fields = &h.Length, &h.Fields
		if h.Status == 101 || d.frameStatusLocked(h) {
			return
		}
	}
	if d.endHead || d.skip && !d.body.edited && !d.lengthSet {
		return
	}
	switch {
	case d.ended && d.trailer == nil && d.body.edited:
		setLength(length, fields, int64(d.body.size()))
	case d.body.edited, d.trailer == &d.ownTrailer:
		setLength(length, fields, exchange.LengthUnknown)
	}
	if _, body, _ := d.wants(); body || d.lengthSet {
		d.declared = *length
	}
}
