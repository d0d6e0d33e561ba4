package wasmfilter

import (
	"slices"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
)

// A pass is what a guest has said about answers ahead (abi.ObjectPass), with what an answer is
// compared with: how the one was that it was said about. It is immutable.
type pass struct {
	since, seconds int64
	order          uint64 // ID of the standing order of who has said it

	likeness
	there []string

	size int64
}

// Size implements objects.Note.
func (p *pass) Size() int64 { return p.size }

// passOverhead and passItem are what a pass costs beside its texts, and each of its names,
// lines and edits, in bytes: somewhat more than they take.
const (
	passOverhead = 192
	passItem     = 80
)

// newPass returns what a guest says about the answer whose head is here; nil if there is none,
// or a bound is not kept, or an edit would be refused. The texts of a are borrowed.
func (f *Filter) newPass(a *abi.ObjectPass) *pass {
	p := &pass{since: a.Since, seconds: a.Seconds}
	if l := f.factory.lookup; l != nil {
		p.order = l.ID
	}
	text := 0
	var ok1, ok2 bool
	p.same, ok1 = ownNames(a.Same, &text)
	p.there, ok2 = ownNames(a.There, &text)
	if !ok1 || !ok2 || !p.takeEdits(a.Edits, &text) {
		return nil
	}
	x := f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if !f.takeHeadLocked(&p.likeness, &text) || text > abi.MaxPassText {
		return nil
	}
	items := len(p.same) + len(p.there) + len(p.lines) + len(p.edits)
	p.size = int64(passOverhead + items*passItem + text)
	return p
}

// good reports whether the pass, which is the note of r, is one of the order, at a time in seconds since 1970. One that
// was said about another answer, and holds for this one as a model has it, is shared by all such records, and since
// when it holds is in r.
func (p *pass) good(r *objects.Record, order uint64, now int64) bool {
	return p.order == order && now-max(p.since, r.Promise.Since) < p.seconds
}

// fits reports whether an answer is like the one that the pass was said about.
func (p *pass) fits(r *exchange.Response) bool {
	if r.Status != p.status {
		return false
	}
	k, there := 0, uint(0)
	list := r.Fields.List()
	for i := range list {
		l := &list[i]
		if slices.Contains(p.same, l.Name) {
			if k == len(p.lines) || p.lines[k] != *l {
				return false
			}
			k++
		}
		for j, name := range p.there {
			if name == l.Name {
				there |= 1 << j
			}
		}
	}
	return k == len(p.lines) && there == 1<<len(p.there)-1
}

// A passage is the part of a Filter whose request has gone by because of a pass, or because there was
// nothing for its key.
type passage struct {
	miss     bool            // there was nothing
	single   bool            // likewise, and it goes by without others (abi.ObjectStanding.MissAlone)
	byMethod bool            // nothing of it counts but its method; or it is a HEAD, and there was nothing
	unsafe   bool            // likewise, and that changes something
	object   *objects.Object // holds the pass, or says where variants are of which that of the request was missing; or nil
	record   *objects.Record
	key      string // borrowed from the object or from alone
	at       int64  // when the request went by, in seconds since 1970

	// request is the request's head as it went by: others may have edited it by the time the guest
	// hears of it.
	request exchange.Request
}

// goBy notes that a request goes by.
func (p *passage) goBy(r *exchange.Request, key string, at int64) {
	p.key, p.at = key, at
	fields := p.request.Fields
	fields.CopyFrom(&r.Fields)
	p.request = *r
	p.request.Fields = fields
}

// leavePassage gives back what a passage holds.
func (p *passage) leavePassage() {
	switch {
	case p.object != nil:
		p.object.Release()
	case !p.miss && !p.byMethod:
		return
	}
	p.miss, p.single, p.byMethod, p.unsafe, p.object, p.record, p.key = false, false, false, false, nil, nil, ""
	p.request.Reset()
}

// passRequest looks for what is stored for the request, and lets it by if that is a pass, or, as the order
// may have it, if there is nothing: the guest would send it on as it is. Else what was found is for
// standingServe.
func (f *Filter) passRequest(end bool, route *filter.Route) bool {
	f.alone.known = false
	if goBy, unsafe := f.factory.lookup.ByMethod(f.x.Request.Method); goBy {
		return f.methodRequest(route, unsafe)
	}
	o, looked := f.standingFind(end, route)
	if o == nil {
		return looked && !f.alone.narrow && f.missRequest(nil)
	}
	s, r, record := f.factory.lookup, f.x.Request, o.Record()
	if !f.alone.narrow && hasVariants(record) {
		place, looked := f.findVariant(record)
		if f.place = place; place == nil && looked && f.missRequest(o) {
			return true
		}
		if f.found == nil {
			f.found = o
		} else { // it has changed
			o.Release()
		}
		return false
	}
	p, ok := record.Note.(*pass)
	if !ok || record.Status != 0 || f.alone.narrow {
		f.found = o
		return false
	}
	now := s.Now()
	if r.Method != "GET" || !p.good(record, s.ID, now) || !s.Serving() {
		f.found = o
		return false
	}
	o.Touch()
	v := &f.passage
	v.object, v.record = o, record
	v.goBy(r, o.Key(), now)
	return true
}

// shownRequest returns the request's head. It is for reading where the request has gone past the guest,
// which then sees what it would have seen, whatever others have made of it.
func (f *Filter) shownRequest() *exchange.Request {
	if f.factory.passes && f.told.Load() {
		return &f.request
	}
	return f.x.Request
}

// passAnswer lets the answer to such a request by, as the guest would, or keeps it: then what follows goes to
// keepData and keepTrailer. If ok is false nothing is done, and the guest is to be told: the answer is not like
// one that the guest has said something about, or that was too long ago.
func (f *Filter) passAnswer(r *exchange.Response, end bool) (kept, ok bool) {
	v := &f.passage
	switch {
	case v.miss:
		return f.missAnswer(r, end)
	case v.byMethod:
		return false, f.methodAnswer(r)
	}
	s := f.factory.lookup
	p, _ := v.record.Note.(*pass)
	if !p.good(v.record, s.ID, s.Now()) || !p.fits(r) || !p.room(&r.Fields) { // the guest may know how to do with less
		return false, false
	}
	f.passEdit(r, p.edits)
	return false, true
}

// passEdit makes edits of an answer that the guest does not see, and notes that in log and metrics. It
// reports whether the exchange goes on; else the head is left alone, as it is read by others.
func (f *Filter) passEdit(r *exchange.Response, edits []abi.FieldEdit) (goesOn bool) {
	s, x := f.factory.lookup, f.x
	x.Mu.Lock()
	goesOn = !x.ClosingLocked()
	if goesOn {
		applyEdits(&r.Fields, edits)
	}
	f.logOrderLocked(s.PassValue)
	x.Mu.Unlock()
	s.CountPass(routeOf(f.key))
	return goesOn
}

// logOrderLocked sets the order's field of the access log line, if it has one and a value for it.
func (f *Filter) logOrderLocked(value string) {
	if s := f.factory.lookup; s.LogPath != "" && value != "" {
		f.setOwnLocked(s.LogPath, value)
	}
}

// appendPassed appends what abi.PropertyPassed says of a request that has gone by.
func (f *Filter) appendPassed(dst []byte) []byte {
	v := &f.passage
	var meta []byte
	if v.record != nil {
		meta = v.record.Meta
	}
	return abi.AppendPassed(dst, v.at, v.key, meta)
}
