package wasmfilter

import (
	"encoding/binary"
	"strings"
	"time"
	"unsafe"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
)

var _ host.ObjectStream = (*stream)(nil)

// stored is what a guest has to do with stored messages in one exchange. Guarded by
// Exchange.Mu, but for what says otherwise.
type stored struct {
	pinned  *objects.Object  // that lookup has found last
	judged  *objects.Record  // that it had then, or that the guest has made of it since
	found   *objects.Object  // that a standing order has; owned by the request direction
	place   *objects.Object  // the variant that it leads to, if that has been looked for; likewise
	looked  objects.Identity // of its record, for which the guest is called; 0: there was none; likewise
	serving *serving         // mark: the exchange is to be answered with it
	storing *storing         // mark: the response is to be stored
	refresh bool             // mark: a refresh is to be begun
	deletes deletions        // marks: to be deleted

	looks  lookups         // of the guest; by its callbacks only, one at a time
	flight *objects.Flight // that it leads
	join   *joining        // that it waits for
	landed bool            // mark: it has ended
	how    objects.Outcome

	served bool // response callbacks are not made: the answer is this plugin's own
	stood  bool // by a standing order, as edits of one are made: the guest knows nothing of it
}

// A serving is an answer with a stored message. It is a part of its Filter: there is one for an
// exchange.
type serving struct {
	abi.ObjectServe // its strings are parts of args
	args            string
	object          *objects.Object
	record          *objects.Record
	reader          objects.Reader
}

// A storing is the wish to store a response.
type storing struct {
	key, meta string
	tags      []string
	max, gone int64
	promise   objects.Promise

	// Of one that the host has made without the guest: the fields of the answer's head, and the times go from
	// when it came, which is in promise.
	alone  bool
	fields objects.Fields
}

// deletions are what is to be deleted. A Filter keeps the memory of the last ones.
type deletions struct {
	list []deletion
	text []byte // what it is, one behind the other
}

type deletion struct {
	how abi.ObjectDelete
	end int // of what it is, in text
}

// empty returns none, in the same memory if that is little.
func (d *deletions) empty() deletions {
	if cap(d.text) > keptDeletions {
		return deletions{}
	}
	return deletions{d.list[:0], d.text[:0]}
}

// keptDeletions is how long a text of deletions is kept for the next.
const keptDeletions = 1 << 10

// Object implements host.ObjectStream.
func (s *stream) Object(call host.ObjectCall, dst, args []byte) ([]byte, abi.Status) {
	f := s.f
	if f.factory.space == nil {
		return dst, abi.StatusNotFound
	}
	text := unsafe.String(unsafe.SliceData(args), len(args)) // borrowed, as args are
	switch call {
	case host.ObjectLookup:
		return f.lookup(dst, text)
	case host.ObjectServe:
		return dst, f.askServe(text)
	case host.ObjectStore:
		return dst, f.askStore(text)
	case host.ObjectUpdate:
		return dst, f.update(text)
	case host.ObjectDelete:
		return dst, f.askDelete(text)
	case host.ObjectJoin:
		return dst, f.askJoin(args, text)
	case host.ObjectRefresh:
		f.x.Mu.Lock()
		defer f.x.Mu.Unlock()
		if _, ok := f.x.Engine.(filter.Streamer); !ok || !f.req.inside {
			return dst, abi.StatusBadArgument
		}
		f.refresh = true
		return dst, abi.StatusOK
	}
	return dst, abi.StatusNotFound
}

// find returns what is stored under key, which is borrowed, with a reference, and its record: what the guest has
// judged, if it has.
func (f *Filter) find(key string) (o *objects.Object, r *objects.Record, judged bool) {
	f.x.Mu.Lock()
	o = f.pinned
	if o != nil && o.Key() == key {
		r = f.judged
		f.pinned, f.judged = nil, nil
		f.x.Mu.Unlock()
		return o, r, true
	}
	f.x.Mu.Unlock()
	if o = f.factory.space.Get(key); o != nil {
		r = o.Record()
	}
	return o, r, false
}

// lookup finds an object, and keeps it for serve: what the guest has judged is what is
// served.
func (f *Filter) lookup(dst []byte, key string) ([]byte, abi.Status) {
	f.looks.begin(f.factory.space)
	o := f.factory.space.Get(key)
	var r *objects.Record
	if o != nil {
		r = o.Record()
	}
	f.looks.add(key, r)
	f.x.Mu.Lock()
	old := f.pinned
	f.pinned, f.judged = o, r
	f.x.Mu.Unlock()
	if old != nil {
		old.Release()
	}
	if o == nil {
		return dst, abi.StatusNotFound
	}
	length, whole := o.Length()
	info := abi.ObjectInfo{
		Status: r.Status, Whole: whole, Flying: f.factory.space.Flying(key), Length: length, Meta: r.Meta,
	}
	return abi.AppendObjectInfo(dst, &info), abi.StatusOK
}

// askServe marks the exchange to be answered.
func (f *Filter) askServe(args string) abi.Status {
	f.x.Mu.Lock()
	late := f.repliedLocked()
	f.x.Mu.Unlock()
	if late { // own may be in use
		return abi.StatusBadArgument
	}
	v := &f.own
	if v.args != args { // hits of a busy object within a second ask for the same
		v.args = strings.Clone(args)
	}
	if v.Parse(v.args) != nil {
		return abi.StatusBadArgument
	}
	o, record, judged := f.find(v.Key)
	if o == nil {
		return abi.StatusNotFound
	}
	v.object, v.record = o, record
	if v.record.Status == 0 || !v.HeadOnly && o.Read(&v.reader, v.Offset, v.Length) != nil {
		o.Release()
		v.object, v.record = nil, nil
		return abi.StatusNotFound
	}
	for i := range v.Edits {
		v.Edits[i].Name = strings.ToLower(v.Edits[i].Name)
	}
	if judged && v.Repeat != "" && f.factory.lookup != nil {
		f.keepRepeat(v)
	}
	x := f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	_, able := x.Engine.(filter.Streamer)
	d := &f.req.half
	if f.resp.stage != stageNone {
		d = &f.resp.half
	}
	if !able || f.repliedLocked() || d.stage != stageHere || !d.markLocked() {
		v.release()
		return abi.StatusBadArgument
	}
	f.replied, f.serving = true, v
	return abi.StatusOK
}

// release gives back what a serving holds.
func (v *serving) release() {
	v.reader.Close()
	v.object.Release()
	v.object, v.record = nil, nil
	if len(v.args) > keptServe {
		v.args, v.ObjectServe = "", abi.ObjectServe{}
	}
}

// askStore marks the response to be stored, or stores a record.
func (f *Filter) askStore(args string) abi.Status {
	var a abi.ObjectStore
	if a.Parse(args) != nil {
		return abi.StatusBadArgument
	}
	space := f.factory.space
	if a.MaxSize > 0 {
		space.Limit(a.MaxSize)
	}
	s := &storing{key: strings.Clone(a.Key), meta: strings.Clone(a.Meta), max: a.MaxObject, gone: a.Gone, promise: objects.Promise(a.Promise)}
	if a.Tags != "" {
		s.tags = strings.Split(strings.Clone(a.Tags), "\x00")
	}
	var m *model
	if a.Record {
		r := objects.Record{Meta: []byte(s.meta), Gone: f.goneAt(s.gone)}
		if a.Pass != nil {
			p := f.newPass(a.Pass)
			if p == nil {
				return abi.StatusBadArgument
			}
			r.Note = p
			if a.Model != nil {
				if m = f.newModel(&a, p); m == nil {
					return abi.StatusBadArgument
				}
			}
		}
		if a.Variant != nil {
			v := newVariant(a.Variant)
			if v == nil {
				return abi.StatusBadArgument
			}
			r.Note = v.note
		}
		if m != nil && m.extra == 0 {
			f.noteModel(m)
			return abi.StatusOK // that is all it says
		}
		if !space.Put(s.key, r, s.tags) {
			return abi.StatusInternalFailure
		}
		f.noteModel(m)
		return abi.StatusOK
	}
	if a.Model != nil {
		if m = f.newModel(&a, nil); m == nil {
			return abi.StatusBadArgument
		}
	}
	x := f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if f.resp.stage != stageHere || !f.resp.inside {
		return abi.StatusBadArgument
	}
	f.storing = s
	f.noteModel(m)
	return abi.StatusOK
}

// noteModel keeps a model, which may be nil, if there will be answers that it is about, and it is known to what kind of
// requests.
func (f *Filter) noteModel(m *model) {
	if x := f.factory; m != nil && x.lookup != nil && x.lookup.Misses && f.alone.known {
		x.models.add(m)
	}
}

func (f *Filter) goneAt(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return f.factory.now().Add(time.Duration(min(seconds, maxGone)) * time.Second)
}

// update changes the record of an object.
func (f *Filter) update(args string) abi.Status {
	var a abi.ObjectUpdate
	if a.Parse(args) != nil {
		return abi.StatusBadArgument
	}
	o := f.factory.space.Get(a.Key)
	if o == nil {
		return abi.StatusNotFound
	}
	defer o.Release()
	old := o.Record()
	r := objects.Record{Status: old.Status, Meta: []byte(a.Meta), Gone: f.goneAt(a.Gone), Promise: objects.Promise(a.Promise)}
	var h exchange.Fields
	for name, value := range old.Fields.All() {
		h.Add(name, value)
	}
	for i := range a.Edits {
		e := &a.Edits[i]
		e.Name, e.Value = strings.ToLower(strings.Clone(e.Name)), strings.Clone(e.Value)
	}
	editFields(&h, a.Edits)
	var fields []byte
	for _, x := range h.List() {
		fields = objects.AppendField(fields, x.Name, x.Value)
	}
	r.Fields = objects.Fields(fields)
	if !f.factory.space.Update(o, r) {
		return abi.StatusInternalFailure
	}
	f.x.Mu.Lock()
	if f.pinned == o {
		f.judged = o.Record()
	}
	f.x.Mu.Unlock()
	return abi.StatusOK
}

// editFields makes edits of a stored head; those that would be framing are left out.
func editFields(h *exchange.Fields, edits []abi.FieldEdit) {
	for i := range edits {
		e := &edits[i]
		if e.Op == abi.FieldRemove {
			h.Remove(e.Name)
			continue
		}
		name, value, ok := host.CleanField(e.Name, e.Value)
		if !ok || host.HopByHop(name) || name == contentLength || h.Len() >= maxHeadFields {
			continue
		}
		switch {
		case e.Op == abi.FieldSet:
			h.Set(name, value)
		case e.Op == abi.FieldAdd || !h.Has(name):
			h.Add(name, value)
		}
	}
}

// askDelete removes an object, or marks many to be removed: that takes a look at all.
func (f *Filter) askDelete(args string) abi.Status {
	if len(args) < 4 {
		return abi.StatusBadArgument
	}
	how, what := abi.ObjectDelete(binary.LittleEndian.Uint32([]byte(args[:4]))), args[4:]
	switch how {
	case abi.ObjectKey:
		if !f.factory.space.Delete(what) {
			return abi.StatusNotFound
		}
		return abi.StatusOK
	case abi.ObjectPrefix, abi.ObjectTag:
		x := f.x
		x.Mu.Lock()
		defer x.Mu.Unlock()
		d := &f.deletes
		if !f.req.inside && !f.resp.inside || len(d.list) == maxDeletes {
			return abi.StatusBadArgument
		}
		d.text = append(d.text, what...)
		d.list = append(d.list, deletion{how, len(d.text)})
		return abi.StatusOK
	}
	return abi.StatusBadArgument
}

// doDeletes removes what is marked to be.
func (f *Filter) doDeletes(d deletions) {
	begin := 0
	for i := range d.list {
		p := d.text[begin:d.list[i].end]
		begin = d.list[i].end
		what := unsafe.String(unsafe.SliceData(p), len(p)) // borrowed
		if d.list[i].how == abi.ObjectTag {
			f.factory.space.DeleteTag(what)
		} else {
			f.factory.space.DeletePrefix(what)
		}
	}
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if f.deletes.list == nil {
		f.deletes = d.empty()
	}
}

// closeObjects gives back what is held, when the exchange is over.
func (f *Filter) closeObjects() {
	f.Cut(exchange.ErrReset) // does nothing to one that has ended
	f.land(objects.Failed)
	f.x.Mu.Lock()
	pinned, serving, join := f.pinned, f.serving, f.join
	f.x.Mu.Unlock()
	if f.found != nil { // a failure was before it
		f.found.Release()
	}
	if f.place != nil {
		f.place.Release()
	}
	if join != nil {
		join.leave()
	}
	if serving != nil {
		serving.release()
	}
	if pinned != nil {
		pinned.Release()
	}
}
