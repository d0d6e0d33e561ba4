package wasmfilter

import (
	"strings"

	"wproxy/core/exchange"
	"wproxy/core/objects"
)

// missRequest lets a request by for which nothing was found, if the order has that: the guest
// would send it on as it is. index is what its key has, if its variant is missing, a reference that it takes over if it does; else nil.
func (f *Filter) missRequest(index *objects.Object) bool {
	s, x := f.factory.lookup, f.x
	r := x.Request
	if !s.Misses || !s.Serving() {
		return false
	}
	key := f.alone.standingKey()
	if r.Method != "GET" { // it is HEAD, and nothing becomes of its answer
		f.byMethod = true
		f.goBy(r, key, s.Now())
		x.Mu.Lock()
		f.logOrderLocked(s.PassValue)
		x.Mu.Unlock()
		s.CountPass(routeOf(f.key))
		if index != nil {
			index.Release()
		}
		return true
	}
	single := f.alone.single
	if s.Joins && !single && !f.leadMiss(key) {
		return false
	}
	f.miss, f.single = true, single
	if index != nil {
		f.object, f.record = index, index.Record()
	}
	f.goBy(r, key, s.Now())
	return true
}

// leadMiss takes the lead of the flight of a key; false if another exchange has it, whom the guest may wait
// for, or has just stored something.
func (f *Filter) leadMiss(key string) bool {
	x, space := f.x, f.factory.space
	flight, leads, landed := space.Lead(key, f.alone.landings)
	if !leads {
		return false
	}
	x.Mu.Lock()
	f.flight = flight
	x.Mu.Unlock()
	if !landed {
		return true
	}
	// Between the look-up and here another flight has landed. What it may have brought is found now, and
	// is not asked for again.
	if o := space.Find(key); o != nil {
		f.land(objects.Stored)
		f.found = o
		return false
	}
	return true
}

// missAnswer is passAnswer for such a request: what is like an answer that the guest has stored, or has refused,
// is stored, or refused, with what it would say about this one.
func (f *Filter) missAnswer(r *exchange.Response, end bool) (kept, ok bool) {
	list := f.factory.models.all()
	if len(list) == 0 || r.Status == 101 || r.Fields.Len() > maxModelHead {
		return false, false
	}
	at, known := timesOf(r, f.at, f.factory.lookup.Now())
	length := r.Length
	if end {
		length = 0
	}
	for _, m := range list {
		if m.single != f.single {
			continue
		}
		if m.pass != nil {
			if m.fits(r) && m.room(&r.Fields) {
				f.refuseAnswer(m, r, &at)
				return false, true
			}
			continue
		}
		lifetime := m.lifetimeOf(&at)
		if known && at.age < lifetime && f.factory.space.Fits(length, m.max) && m.fits(r) && m.room(&r.Fields) {
			return f.keepAnswer(m, r, end, &at, lifetime)
		}
	}
	return false, false
}

// refuseAnswer notes for the key of an answer that such answers are not stored, as a model has it, so that
// nobody waits for them, and has it go its way.
func (f *Filter) refuseAnswer(m *model, r *exchange.Response, at *times) {
	if m.extra == 0 || f.record != nil { // it says nothing about the answers to others, or there are other variants
		f.passEdit(r, m.edits)
		f.land(objects.Unstored)
		return
	}
	f.packRoom = m.appendMeta(append(f.packRoom[:0], f.key...), &r.Fields, at, 0)
	text := string(f.packRoom)
	f.trimPackRoom()
	key, meta := text[:len(f.key)], text[len(f.key):]
	// Without memory for it the next request finds nothing once more.
	f.factory.space.Put(key, objects.Record{
		Meta: bytesOf(meta), Gone: f.goneAt(m.extra), Note: m.pass, Promise: objects.Promise{Since: at.now},
	}, nil)
	f.passEdit(r, m.edits)
	f.land(objects.Unstored)
}

// keepAnswer stores an answer, which is as a model has it. If kept is false it is not, or need not be waited for,
// and goes its way; either way those who wait for it are told. If ok is false nothing is done, as in passAnswer.
func (f *Filter) keepAnswer(m *model, r *exchange.Response, end bool, at *times, lifetime int64) (kept, ok bool) {
	f.packRoom = append(f.packRoom[:0], f.key...)
	index := indexSame
	if m.variant != nil {
		if f.packRoom, ok = m.variant.appendKey(f.packRoom, &f.request); ok {
			index = f.indexOf(m.variant)
		}
		if !ok || index == indexOther {
			f.trimPackRoom()
			return false, false
		}
	}
	// Metadata are those of the answer as it came, fields what becomes of it.
	key := len(f.packRoom)
	f.packRoom = m.appendMeta(f.packRoom, &r.Fields, at, lifetime)
	meta := len(f.packRoom)
	if f.passEdit(r, m.edits) {
		f.packRoom = appendFields(f.packRoom, r)
		text := string(f.packRoom) // one piece of memory for all that is kept
		s := storing{
			key: text[:key], meta: text[key:meta], fields: objects.Fields(text[meta:]), alone: true, max: m.max, gone: lifetime - at.age + m.extra,
			promise: objects.Promise{Since: at.now, Age: at.age, Lifetime: lifetime},
		}
		if index == indexNone { // first, as others may find the message once it is there; text is not to outlive that
			f.factory.space.Put(strings.Clone(f.key), objects.Record{Meta: bytesOf(m.variant.meta), Note: m.variant.note}, nil)
		}
		f.resp.mu.Lock() // fill is guarded by it
		kept = f.beginFill(&s, r, end)
		f.resp.mu.Unlock()
	}
	f.trimPackRoom()
	if !kept {
		f.land(objects.Unstored)
	}
	return kept, true
}

// forgetKept is reset for an exchange that has gone past the guest and whose answer was kept, without an error: the
// rest of the Filter, which has left the cache by now, it has not touched.
func (f *Filter) forgetKept() {
	f.resp.drop = false
	if f.reading.f != nil {
		f.reading.reset()
	}
}

// keepData and keepTrailer are Data and Trailer of an answer that is kept.

func (f *Filter) keepData(p []byte, end bool) error {
	d := &f.resp
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case f.filling():
		return f.fillData(p, end)
	case d.drop:
		return nil
	}
	return d.next.Data(p, end)
}

func (f *Filter) keepTrailer(t *exchange.Fields) error {
	d := &f.resp
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case f.filling():
		return f.fillTrailer(t)
	case d.drop:
		return nil
	}
	return d.next.Trailer(t)
}
