package wasmfilter

import (
	"sync"

	"wproxy/core/exchange"
	"wproxy/core/objects"
)

// A gathering is what there is so far of a response that is to be stored, and that nobody else has
// seen any of: neither those who look for it, nor the client. It is empty between exchanges. Owned
// by who is in the response direction.
type gathering struct {
	storing storing
	head    *exchange.Response // nil: nothing is gathered
	n       int                // bytes of the body so far
	room    *[maxGather]byte   // where they are; nil: there are none
}

// gatherRooms has memory for bodies that come in pieces. It is held for as long as there are pieces
// at hand: not while the upstream is waited for, nor, unless there is no memory for objects, the
// client.
var gatherRooms = sync.Pool{New: func() any { return new([maxGather]byte) }}

// add copies a piece of the body; false: there would be too much of it.
func (g *gathering) add(p []byte) bool {
	if g.n+len(p) > maxGather {
		return false
	}
	if g.room == nil {
		g.room, _ = gatherRooms.Get().(*[maxGather]byte)
	}
	g.n += copy(g.room[g.n:], p)
	return true
}

// body returns what there is of the body.
func (g *gathering) body() []byte {
	if g.room == nil {
		return nil
	}
	return g.room[:g.n]
}

// drop forgets what was gathered.
func (g *gathering) drop() {
	if g.room != nil {
		gatherRooms.Put(g.room)
	}
	*g = gathering{}
}

// storeGathered stores a response of which p, or t, is the end, and passes it on as it would have
// gone without that, stored or not.
func (f *Filter) storeGathered(p []byte, t *exchange.Fields) error {
	g := &f.gathering
	s, h := &g.storing, g.head
	if g.room != nil {
		g.add(p) // there is room: who calls has looked
		p = g.body()
	}
	if h.Length >= 0 && h.Length != int64(len(p)) { // its codec has failed: nobody gets it
		g.drop()
		f.land(objects.Failed) // now, and not when the client has taken what it gets instead
		return f.resp.stop(&exchange.Error{Op: "fill object", Side: exchange.UpstreamSide, Reason: "fill_failed", Err: objects.ErrCut})
	}
	whole := f.wholeOf(s, h, p, t)
	if g.room == nil {
		outcome := objects.Unstored
		if f.factory.space.PutWhole(s.key, &whole) {
			outcome = objects.Stored
		}
		g.drop()
		f.land(outcome)
		return f.passGathered(h, p, t)
	}
	o := f.factory.space.KeepWhole(s.key, &whole)
	if o == nil {
		defer gatherRooms.Put(g.room)
		g.room = nil
		g.drop()
		f.land(objects.Unstored)
		return f.passGathered(h, p, t)
	}
	g.drop() // from here on the bytes are the object's, which counts them, however slow the client is
	defer o.Release()
	f.land(objects.Stored)
	return f.passStored(o, h, t)
}

// passGathered passes a message on, with its end.
func (f *Filter) passGathered(h *exchange.Response, body []byte, t *exchange.Fields) error {
	d := &f.resp
	defer func() { d.drop = true }()
	if err := d.stop(d.next.Head(h, false)); err != nil {
		return err
	}
	if t == nil {
		return d.stop(d.next.Data(body, true))
	}
	if len(body) > 0 {
		if err := d.stop(d.next.Data(body, false)); err != nil {
			return err
		}
	}
	return d.stop(d.next.Trailer(t))
}

// passStored passes on what is stored as a whole.
func (f *Filter) passStored(o *objects.Object, h *exchange.Response, t *exchange.Fields) error {
	d, r := &f.resp, &f.reading
	defer func() { d.drop = true }()
	r.f, r.object, r.reader, r.left = f, o, &f.ownReader, -1
	if t == nil {
		r.left, _ = o.Length()
	}
	_ = o.Read(r.reader, 0, -1) // it is whole
	defer r.reader.Close()
	if err := d.stop(d.next.Head(h, false)); err != nil {
		return err
	}
	return d.stop(r.pushBody(d.next))
}

// endGathering begins the fill of what was gathered, because the rest has to be waited for, or is
// large. If that cannot be, the message goes its way, and filling is over.
func (f *Filter) endGathering() error {
	g := &f.gathering
	s, h := &g.storing, g.head
	g.head = nil
	defer g.drop()
	if !f.showFill(s, h) {
		f.land(objects.Unstored)
		if err := f.resp.stop(f.resp.next.Head(h, false)); err != nil || g.n == 0 {
			return err
		}
		return f.resp.stop(f.resp.next.Data(g.body(), false))
	}
	if g.n > 0 { // the client reads already, which a window may have to wait for
		if err := f.fill.Write(g.body()); err != nil {
			return f.abandonFill(err)
		}
	}
	return nil
}

// storedTrailers copies trailer fields for an object; t may be nil.
func storedTrailers(t *exchange.Fields) objects.Fields {
	if t == nil || t.Len() == 0 {
		return ""
	}
	var b []byte
	for i := range t.List() {
		l := &t.List()[i]
		b = objects.AppendField(b, l.Name, l.Value)
	}
	return objects.Fields(b)
}
