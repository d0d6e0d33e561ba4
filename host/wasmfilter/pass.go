package wasmfilter

import (
	"slices"
	"strings"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
)

// A pass is what a guest has said about answers ahead (abi.ObjectPass), with what an answer is
// compared with: how the one was that it was said about. It is immutable.
type pass struct {
	since, seconds int64
	order          uint64 // ID of the standing order of who has said it

	status int
	same   []string
	lines  []exchange.Field // of the names in same
	there  []string
	edits  []abi.FieldEdit // clean, and of fields that are a plugin's to write
	bytes  int             // of the edits, at most

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
	take := func(list []string) (out []string, ok bool) {
		out = make([]string, 0, len(list))
		for _, name := range list {
			if !host.IsToken(name) {
				return nil, false
			}
			text += len(name)
			out = append(out, strings.ToLower(strings.Clone(name)))
		}
		return out, true
	}
	var ok1, ok2 bool
	p.same, ok1 = take(a.Same)
	p.there, ok2 = take(a.There)
	if !ok1 || !ok2 {
		return nil
	}
	p.edits = make([]abi.FieldEdit, 0, len(a.Edits))
	for i := range a.Edits {
		e := &a.Edits[i]
		name, value, ok := host.CleanField(e.Name, e.Value)
		if !ok || name == contentLength {
			return nil
		}
		if host.HopByHop(name) {
			continue // has no effect, as in headerMap
		}
		text += len(name) + len(value)
		p.bytes += len(name) + len(value)
		p.edits = append(p.edits, abi.FieldEdit{Op: e.Op, Name: strings.Clone(name), Value: strings.Clone(value)})
	}
	x := f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if f.resp.stage != stageHere || !f.resp.inside {
		return nil
	}
	p.status = f.resp.head.Status
	list, n := f.resp.head.Fields.List(), 0
	for i := range list {
		if slices.Contains(p.same, list[i].Name) {
			n, text = n+1, text+len(list[i].Name)+len(list[i].Value)
		}
	}
	if n > maxPassLines || text > abi.MaxPassText {
		return nil
	}
	p.lines = make([]exchange.Field, 0, n)
	for _, l := range list {
		if slices.Contains(p.same, l.Name) {
			p.lines = append(p.lines, exchange.Field{Name: strings.Clone(l.Name), Value: strings.Clone(l.Value)})
		}
	}
	items := len(p.same) + len(p.there) + len(p.lines) + len(p.edits)
	p.size = int64(passOverhead + items*passItem + text)
	return p
}

// good reports whether the pass is one of the order, at a time in seconds since 1970.
func (p *pass) good(order uint64, now int64) bool {
	return p.order == order && now-p.since < p.seconds
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

// A passage is the part of a Filter whose request has gone by because of a pass.
type passage struct {
	object *objects.Object // holds the pass; nil: no request has gone by
	record *objects.Record
	at     int64 // when the request went by, in seconds since 1970

	// request is the request's head as it went by: others may have edited it by the time the guest
	// hears of it.
	request exchange.Request
}

// leavePassage gives back what a passage holds.
func (p *passage) leavePassage() {
	if p.object == nil {
		return
	}
	p.object.Release()
	p.object, p.record = nil, nil
	p.request.Reset()
}

// passRequest looks for what is stored for the request, and lets it by if that is a pass: the
// guest would send it on as it is. Else what was found is for standingServe.
func (f *Filter) passRequest(end bool, route *filter.Route) bool {
	o := f.standingFind(end, route)
	if o == nil {
		return false
	}
	s, r, record := f.factory.lookup, f.x.Request, o.Record()
	p, ok := record.Note.(*pass)
	if !ok || record.Status != 0 {
		f.found = o
		return false
	}
	now := s.Now()
	if r.Method != "GET" || !p.good(s.ID, now) || !s.Serving() {
		f.found = o
		return false
	}
	o.Touch()
	v := &f.passage
	v.object, v.record, v.at = o, record, now
	fields := v.request.Fields
	fields.CopyFrom(&r.Fields)
	v.request = *r
	v.request.Fields = fields
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

// passAnswer lets the answer to such a request by, as the guest would; false, and nothing is done,
// if the guest is to be told: the answer is not like the one that the pass was said about, or
// that was too long ago.
func (f *Filter) passAnswer(r *exchange.Response) bool {
	s, x, v := f.factory.lookup, f.x, &f.passage
	p, _ := v.record.Note.(*pass)
	if !p.good(s.ID, s.Now()) || !p.fits(r) {
		return false
	}
	if r.Fields.Len()+len(p.edits) > maxHeadFields || p.bytes > 0 && r.Fields.Size()+p.bytes > maxHeadBytes {
		return false // the guest may know how to do with less
	}
	x.Mu.Lock()
	if !x.ClosingLocked() {
		applyEdits(&r.Fields, p.edits)
	}
	if s.LogField != "" && s.PassValue != "" {
		f.setOwnLocked(s.LogPath, s.PassValue)
	}
	x.Mu.Unlock()
	_, route, _ := strings.Cut(v.object.Key(), "\n")
	s.CountPass(route)
	return true
}

// appendPassed appends what abi.PropertyPassed says of a request that has gone by.
func (f *Filter) appendPassed(dst []byte) []byte {
	v := &f.passage
	return abi.AppendPassed(dst, v.at, v.object.Key(), v.record.Meta)
}
