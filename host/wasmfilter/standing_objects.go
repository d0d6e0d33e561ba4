package wasmfilter

import (
	"strconv"

	"wproxy/abi"
	"wproxy/core/filter"
	"wproxy/core/objects"
)

// An alone is what answering without the guest takes of memory, kept over exchanges.
type alone struct {
	key     []byte
	variant []byte   // of findVariant
	names   []string // memory of namesOf
	known   bool     // single says something
	single  bool     // the request has one of the order's MissAlone
	narrow  bool     // the request has one of the order's Repeats

	landings uint64 // of the space, before it was looked for what the key has

	// What is set in the answer, for the numbers that it was last.
	age, ttl         int64
	ageText, ttlText string
}

// What an order says of the log is within the bound of what a guest says.
const _ = uint(maxLogValue - abi.MaxStandingText)

// standingFind looks for what is stored for a request that the plugin's order is about, with a
// reference, and reports whether it was such a one: if it was, alone.standingKey is its key. What is
// looked at is few: that is what it is for.
func (f *Filter) standingFind(end bool, route *filter.Route) (o *objects.Object, looked bool) {
	s, x := f.factory.lookup, f.x
	r := x.Request
	if !end || r.Method != "GET" && r.Method != "HEAD" || x.Refresh {
		return nil, false
	}
	excluded := false
	f.alone.single, f.alone.narrow = false, false
	for i := range r.Fields.List() {
		name := r.Fields.List()[i].Name
		if !s.Concerns(name) {
			continue
		}
		excluded = excluded || s.Excludes(name)
		f.alone.narrow = f.alone.narrow || s.ForRepeats(name)
		f.alone.single = f.alone.single || s.MissesAlone(name)
	}
	f.alone.known = true
	if excluded {
		return nil, false
	}
	if !f.alone.makeKey(r, route) || !f.alone.addParts(s.Parts, &r.Fields) {
		return nil, false
	}
	f.alone.landings = f.factory.space.Landings()
	return f.factory.space.Find(f.alone.standingKey()), true
}

// standingServe has the exchange answered as the plugin has ordered ahead
// (abi.ForeignObjectStanding), as if the guest had been called and asked for it. It reports
// whether it is; else the guest is called.
func (f *Filter) standingServe(end bool) bool {
	s := f.factory.lookup
	o, at := f.found, f.place
	f.found, f.place = nil, nil
	if !f.factory.passes { // else it has been looked for
		o, _ = f.standingFind(end, f.route)
	}
	if o == nil {
		return false
	}
	record := o.Record()
	if f.alone.narrow {
		return f.serveRepeat(o, record)
	}
	now := s.Now()
	if f.standingRead(o, record, now) {
		return f.serveAlone(o, record)
	}
	if at == nil {
		at, _ = f.findVariant(record)
	}
	if at != nil {
		if r := at.Record(); f.standingRead(at, r, now) {
			o.Touch()
			o.Release()
			return f.serveAlone(at, r)
		}
		at.Release()
	}
	return f.serveRepeat(o, record)
}

// standingRead has the exchange answered with a message as it is, if that is promised, and reports whether it is to be: then
// the reader is there.
func (f *Filter) standingRead(o *objects.Object, record *objects.Record, now int64) bool {
	s, v := f.factory.lookup, &f.own
	age, good := record.Promise.At(now)
	if !good || record.Status == 0 {
		return false
	}
	if _, whole := o.Length(); !whole || o.Read(&v.reader, 0, -1) != nil {
		return false
	}
	v.ObjectServe = abi.ObjectServe{Length: -1, Edits: f.alone.edits(v.Edits[:0], s.AgeField, s.TTLField, s.TTLPrefix, age, record.Promise.Lifetime-age)}
	return true
}

// serveAlone has the exchange answered with o as serving says, whose reader is there, and takes over the
// reference; false if that cannot be any more.
func (f *Filter) serveAlone(o *objects.Object, record *objects.Record) bool {
	s, x, v := f.factory.lookup, f.x, &f.own
	v.object, v.record = o, record
	x.Mu.Lock()
	_, able := x.Engine.(filter.Streamer)
	if !able || f.repliedLocked() || f.abort != "" || f.resp.stage != stageNone {
		x.Mu.Unlock()
		v.release()
		return false
	}
	f.replied, f.serving, f.stood = true, v, true
	if s.LogPath != "" {
		f.setOwnLocked(s.LogPath, s.LogValue)
	}
	x.Mu.Unlock()
	o.Touch()
	route := ""
	if f.route != nil {
		route = f.route.Name
	}
	s.Count(route)
	return true
}

// number has the texts say these numbers. They are made anew if those of the answer before were others.
func (a *alone) number(prefix string, age, ttl int64) {
	if a.ageText != "" && a.age == age && a.ttl == ttl {
		return
	}
	b := strconv.AppendInt(a.key[:0], age, 10)
	n := len(b)
	b = strconv.AppendInt(append(b, prefix...), ttl, 10)
	text := string(b)
	a.key, a.age, a.ttl, a.ageText, a.ttlText = b, age, ttl, text[:n], text[n:]
}

// edits appends the edits of the answer's head.
func (a *alone) edits(dst []abi.FieldEdit, ageField, ttlField, prefix string, age, ttl int64) []abi.FieldEdit {
	a.number(prefix, age, ttl)
	if ageField != "" {
		dst = append(dst, abi.FieldEdit{Op: abi.FieldSet, Name: ageField, Value: a.ageText})
	}
	if ttlField != "" {
		dst = append(dst, abi.FieldEdit{Op: abi.FieldSet, Name: ttlField, Value: a.ttlText})
	}
	return dst
}
