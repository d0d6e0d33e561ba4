package wasmfilter

import (
	"strings"

	"wproxy/core/exchange"
	"wproxy/core/objects"
)

// missRequest lets a request by for whose key nothing was found, if the order has that: the guest
// would send it on as it is.
func (f *Filter) missRequest() bool {
	s, r := f.factory.lookup, f.x.Request
	if !s.Misses || r.Method != "GET" || !s.Serving() {
		return false
	}
	for i := range r.Fields.List() {
		if s.ExcludesMiss(r.Fields.List()[i].Name) {
			return false
		}
	}
	key := f.alone.standingKey()
	if s.Joins && !f.leadMiss(key) {
		return false
	}
	f.miss = true
	f.goBy(r, key, s.Now())
	return true
}

// leadMiss takes the lead of the flight of a key; false if another exchange has it, whom the guest may wait
// for, or has just stored something.
func (f *Filter) leadMiss(key string) bool {
	x, space := f.x, f.factory.space
	flight, leads := space.Lead(key)
	if !leads {
		return false
	}
	x.Mu.Lock()
	f.flight = flight
	x.Mu.Unlock()
	// Between the look-up and here another flight may have landed. What it has brought is found now, and
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
		if m.pass != nil {
			if m.fits(r) && m.room(&r.Fields) {
				f.refuseAnswer(m, r, &at)
				return false, true
			}
			continue
		}
		lifetime := m.lifetimeOf(&at)
		if known && at.age < lifetime && f.factory.space.Fits(length, m.max) && m.fits(r) && m.room(&r.Fields) {
			return f.keepAnswer(m, r, end, &at, lifetime), true
		}
	}
	return false, false
}

// refuseAnswer notes for the key of an answer that such answers are not stored, as a model has it, so that
// nobody waits for them, and has it go its way.
func (f *Filter) refuseAnswer(m *model, r *exchange.Response, at *times) {
	p := *m.pass
	p.since = at.now
	meta := m.meta(&r.Fields, at, 0)
	// Without memory for it the next request finds nothing once more.
	f.factory.space.Put(strings.Clone(f.key), objects.Record{Meta: []byte(meta), Gone: f.goneAt(m.extra), Note: &p}, nil)
	f.passEdit(r, m.edits)
	f.land(objects.Unstored)
}

// keepAnswer stores an answer, which is as a model has it; false if it is not, or need not be waited for,
// and goes its way. Either way those who wait for it are told.
func (f *Filter) keepAnswer(m *model, r *exchange.Response, end bool, at *times, lifetime int64) bool {
	s := storing{
		key: strings.Clone(f.key), meta: m.meta(&r.Fields, at, lifetime), max: m.max, gone: lifetime - at.age + m.extra,
		promise: objects.Promise{Since: at.now, Age: at.age, Lifetime: lifetime},
	}
	if f.passEdit(r, m.edits) {
		f.resp.mu.Lock() // fill is guarded by it
		kept := f.beginFill(&s, r, end)
		f.resp.mu.Unlock()
		if kept {
			return true
		}
	}
	f.land(objects.Unstored)
	return false
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
