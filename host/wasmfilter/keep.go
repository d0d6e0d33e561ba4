package wasmfilter

import (
	"errors"
	"strconv"
	"unsafe"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
)

// A reading passes a stored message on, at the speed of who takes it.
type reading struct {
	f      *Filter
	head   exchange.Response
	reader *objects.Reader
	object *objects.Object
	left   int64 // bytes; -1: until the object ends
	end    bool  // the message ends with its head
	wake   chan struct{}

	length     int64 // that lengthText says; kept over exchanges
	lengthText string
}

// Wake implements filter.Waker.
func (r *reading) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// reset forgets an exchange.
func (r *reading) reset() {
	r.head.Reset()
	*r = reading{head: r.head, wake: r.wake, length: r.length, lengthText: r.lengthText}
	select {
	case <-r.wake:
	default:
	}
}

// Push implements filter.Pusher.
func (r *reading) Push(to exchange.Sink[*exchange.Response]) error {
	if err := to.Head(&r.head, r.end); err != nil || r.end {
		return err
	}
	return r.pushBody(to)
}

func (r *reading) pushBody(to exchange.Sink[*exchange.Response]) error {
	for {
		p, wait, err := r.reader.Next()
		switch {
		case err != nil:
			return &exchange.Error{Op: "read object", Side: exchange.UpstreamSide, Reason: "fill_failed", Err: err}
		case len(p) > 0:
			if r.left >= 0 {
				r.left -= int64(len(p))
			}
			last := r.left == 0
			if err := to.Data(p, last); err != nil || last {
				return err
			}
		case wait == nil:
			return r.pushEnd(to)
		default:
			if err := to.Data(nil, false); err != nil {
				return err
			}
			if err := r.await(wait); err != nil {
				return err
			}
		}
	}
}

// pushEnd ends a message whose length was not known.
func (r *reading) pushEnd(to exchange.Sink[*exchange.Response]) error {
	if r.left > 0 {
		return &exchange.Error{Op: "read object", Side: exchange.Internal, Reason: "fill_failed", Err: objects.ErrCut}
	}
	list := r.object.Trailers()
	if list == "" {
		return to.Data(nil, true)
	}
	var t exchange.Fields
	for name, value := range list.All() {
		t.Add(name, value)
	}
	return to.Trailer(&t)
}

// await waits for more, or for the end of the exchange.
func (r *reading) await(wait <-chan struct{}) error {
	x := r.f.x
	if !x.Park(r) {
		return exchange.ErrAnswered
	}
	defer x.Unpark(r)
	var done <-chan struct{}
	if x.Context != nil {
		done = x.Context.Done()
	}
	select {
	case <-wait:
		return nil
	case <-r.wake:
		return nil // whether it is over, Park says
	case <-done:
		return x.Context.Err()
	}
}

// readingOf makes the answer that v asks for.
func (f *Filter) readingOf(v *serving) *reading {
	r := &f.reading
	r.f, r.object, r.reader = f, v.object, &v.reader
	h := &r.head
	h.Reset()
	h.Status = v.record.Status
	if v.Status != 0 {
		h.Status = v.Status
	}
	for name, value := range v.record.Fields.All() {
		h.Fields.Add(name, value)
	}
	editFields(&h.Fields, v.Edits)
	total, _ := v.object.Length()
	r.left = -1
	if total >= 0 {
		r.left = max(total-v.Offset, 0)
		if v.Length >= 0 {
			r.left = min(r.left, v.Length)
		}
	}
	h.Length = r.left
	if v.HeadOnly && !noBody(h.Status) && f.x.Request.Method != "HEAD" {
		h.Length = 0
	}
	r.end = v.HeadOnly || r.left == 0 || f.x.Request.Method == "HEAD" || noBody(h.Status)
	if h.Length >= 0 && !noBody(h.Status) {
		if r.lengthText == "" || r.length != h.Length {
			r.length, r.lengthText = h.Length, strconv.FormatInt(h.Length, 10)
		}
		h.Fields.Add(contentLength, r.lengthText)
	}
	return r
}

// serveAnswer answers a request with a stored message.
func (f *Filter) serveAnswer(v *serving) error {
	defer v.release()
	f.x.Mu.Lock()
	f.served = true // the response callbacks of this plugin have nothing to see
	f.x.Mu.Unlock()
	r := f.readingOf(v)
	s, _ := f.x.Engine.(filter.Streamer)
	err := s.Stream(f, &r.head, "", r)
	if err == nil {
		err = exchange.ErrAnswered
	}
	return err
}

// serveInstead puts a stored message in the place of the response that is held.
func (f *Filter) serveInstead(v *serving) error {
	defer v.release()
	f.land(objects.Stored)
	r := f.readingOf(v)
	x := f.x
	x.Mu.Lock()
	f.resp.skip = true
	f.resp.head, x.Response = &r.head, &r.head
	f.status = r.head.Status
	x.Mu.Unlock()
	if err := r.Push(f.resp.next); err != nil {
		return err
	}
	if f.resp.endHead {
		f.resp.drop = true
		return nil // the upstream's message has ended, and its connection is as good as before
	}
	return exchange.ErrAnswered
}

// beginFill stores the response whose head the guest has let go of. true: what follows of it goes to
// fillData or fillTrailer, for as long as filling says so. False: it is not stored, and goes its
// way; if it has ended with its head, it may be stored already.
//
// It is gathered first. If all of it comes without a wait, as the small ones do, it is stored as a
// whole and passed on like any other, by who brings it, and nobody else hears of it before it is
// whole. If not, a fill begins, at the upstream's speed.
func (f *Filter) beginFill(s *storing, h *exchange.Response, end bool) bool {
	length := h.Length
	if end {
		length = 0
	}
	streamer, ok := f.x.Engine.(filter.Streamer)
	if !ok || !f.factory.space.Fits(length, s.max) {
		return false
	}
	switch {
	case end:
		whole := f.wholeOf(s, h, nil, nil)
		if f.factory.space.PutWhole(s.key, &whole) {
			f.land(objects.Stored)
		}
		return false // there is nothing to wait for
	case !streamer.MayFill(f):
		return false
	case length > maxGather:
		return f.showFill(s, h)
	}
	f.gathering = gathering{storing: *s, head: h}
	return true
}

// filling reports whether what follows of the response is to be stored.
func (f *Filter) filling() bool { return f.fill != nil || f.gathering.head != nil }

// showFill begins a fill, which others find at once: from here on what feeds the direction fills
// the object, and the client reads it on a goroutine of its own. False: that cannot be.
func (f *Filter) showFill(s *storing, h *exchange.Response) bool {
	x := f.x
	streamer, ok := x.Engine.(filter.Streamer)
	if !ok {
		return false
	}
	fill := f.factory.space.Prepare(s.key, objects.FillOptions{Record: f.recordOf(s, h), Tags: s.tags, Max: s.max, Length: h.Length})
	if fill == nil {
		return false
	}
	r := &f.reading
	r.f, r.object, r.reader, r.left = f, fill.Object(), &f.ownReader, h.Length
	_ = r.object.Read(r.reader, 0, -1) // nothing of it is gone yet
	if !streamer.Fill(f) {
		r.reader.Close()
		fill.Fail(objects.ErrCut)
		return false
	}
	x.Mu.Lock()
	started := x.StartLocked()
	x.Mu.Unlock()
	if !started {
		r.reader.Close()
		fill.Fail(objects.ErrCut)
		streamer.Filled()
		return false
	}
	f.fill = fill
	fill.Show() // not before: who finds it counts on its end
	f.land(objects.Stored)
	go f.passFill(r, h, streamer) // ends with the object, or with the client; Close waits
	return true
}

// recordOf makes the record of an object: the head as it leaves the guest.
func (f *Filter) recordOf(s *storing, h *exchange.Response) objects.Record {
	r := objects.Record{Status: h.Status, Meta: bytesOf(s.meta), Promise: s.promise, Fields: s.fields}
	r.Gone = f.goneAt(s.gone)
	if s.alone {
		return r
	}
	f.packRoom = appendFields(f.packRoom[:0], h)
	r.Fields = objects.Fields(f.packRoom)
	f.trimPackRoom()
	return r
}

// bytesOf returns the bytes of a text for a record: nobody writes to what one has.
func bytesOf(text string) []byte { return unsafe.Slice(unsafe.StringData(text), len(text)) }

// wholeOf makes the object of a message that is whole.
func (f *Filter) wholeOf(s *storing, h *exchange.Response, body []byte, t *exchange.Fields) objects.Whole {
	return objects.Whole{Record: f.recordOf(s, h), Tags: s.tags, Max: s.max, Body: body, Trailers: storedTrailers(t)}
}

// appendFields appends the fields of a head for the record of an object.
func appendFields(dst []byte, h *exchange.Response) []byte {
	list := h.Fields.List()
	for i := range list {
		if l := &list[i]; l.Name != contentLength {
			dst = objects.AppendField(dst, l.Name, l.Value)
		}
	}
	return dst
}

// trimPackRoom gives up memory that another exchange need not have.
func (f *Filter) trimPackRoom() {
	if cap(f.packRoom) > keptPack {
		f.packRoom = nil
	}
}

// passFill passes what is being stored to the client.
func (f *Filter) passFill(r *reading, h *exchange.Response, s filter.Streamer) {
	defer f.x.Pushed()
	defer s.Filled()
	defer r.reader.Close()
	if f.resp.next.Head(h, false) == nil {
		// What has gone wrong, the engine finds: the answer has not ended.
		_ = r.pushBody(f.resp.next)
	}
}

// fillData adds to the object.
func (f *Filter) fillData(p []byte, end bool) error {
	if f.fill == nil {
		if end && (f.gathering.room == nil || f.gathering.n+len(p) <= maxGather) {
			return f.storeGathered(p, nil)
		}
		if len(p) > 0 && f.gathering.add(p) {
			return nil
		}
		if err := f.endGathering(); err != nil {
			return err
		}
		if f.fill == nil {
			return f.resp.stop(f.resp.next.Data(p, end))
		}
	}
	if len(p) > 0 {
		if err := f.fill.Write(p); err != nil {
			return f.abandonFill(err)
		}
	}
	if end {
		f.fill.End("")
		f.fill = nil
		f.resp.drop = true
	}
	return nil
}

// abandonFill ends a fill that nobody reads.
func (f *Filter) abandonFill(err error) error {
	f.endFill(err)
	return f.resp.stop(&exchange.Error{Op: "fill object", Side: exchange.Internal, Reason: "abandoned", Err: err})
}

// fillTrailer ends the object.
func (f *Filter) fillTrailer(t *exchange.Fields) error {
	if f.fill == nil {
		return f.storeGathered(nil, t)
	}
	f.fill.End(storedTrailers(t))
	f.fill = nil
	return nil
}

var errNoEnd = errors.New("the response did not end")

// Cut implements filter.Filling.
func (f *Filter) Cut(err error) {
	f.resp.mu.Lock()
	defer f.resp.mu.Unlock()
	if err == nil {
		err = errNoEnd
	}
	f.endFill(err)
}

// endFill ends a fill that has not come to its end.
func (f *Filter) endFill(err error) {
	if f.fill != nil {
		f.fill.Fail(err)
		f.fill = nil
	}
	f.gathering.drop()
}
