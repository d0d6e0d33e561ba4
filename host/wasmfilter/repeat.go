package wasmfilter

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/objects"
	"wproxy/host"
)

// A repeat is an answer that a guest has given and that may be given again without it
// (abi.ObjectServe.Repeat). It is immutable but for used.
type repeat struct {
	asked
	order uint64           // ID of the standing order of who has given it
	lines []exchange.Field // of the request, those that count

	key    string // of the message; "": that of the request
	served objects.Identity
	answer abi.ObjectServe // Key and Repeat are empty

	size int64
	used atomic.Bool // since the hand has come by
}

// asked is what tells most requests apart that differ in what counts.
type asked struct {
	hash uint64
	head bool // the method is HEAD, else it is GET
}

// repeats are what is repeated to requests with the key of the record whose note it is, and where their messages are. It is
// immutable but for what its members have used.
type repeats struct {
	variant *variant // nil: it is not known

	names []string // by which the guest has chosen, in lower case
	mask  uint64   // host.NameMark of these
	list  []*repeat
	hand  int // whose turn it is to make room
	size  int64
}

// Size implements objects.Note.
func (n *repeats) Size() int64 { return n.size }

// repeatsOverhead, repeatOverhead and repeatItem are what repeats cost beside their texts, each of them,
// and each of their names, lines and edits, in bytes: somewhat more than they take.
const (
	repeatsOverhead = 256
	repeatOverhead  = 320
	repeatItem      = 56
)

// A question is what counts of a request for the repeats with some names.
type question struct {
	asked
	text  int // bytes of the lines
	lines int
	at    [maxRepeatLines]uint16 // where they are among the fields
}

// ask returns what counts of the request for repeats of a record with these names; false if that is
// too much to be repeated.
func (f *Filter) ask(names []string, mask uint64, record objects.Identity) (q question, ok bool) {
	s, r := f.factory.lookup, f.x.Request
	list := r.Fields.List()
	if len(list) > maxRepeatHead {
		return q, false
	}
	var h maphash.Hash
	h.SetSeed(f.factory.seen.seed)
	for i := range list {
		l := &list[i]
		if !s.ForRepeats(l.Name) && (mask&host.NameMark(l.Name) == 0 || !slices.Contains(names, l.Name)) {
			continue
		}
		q.text += len(l.Name) + len(l.Value)
		if q.lines == maxRepeatLines || q.text > abi.MaxRepeatText {
			return q, false
		}
		q.at[q.lines] = uint16(i)
		q.lines++
		_, _ = h.WriteString(l.Name) // never fails, as what follows
		_ = h.WriteByte(0)
		_, _ = h.WriteString(l.Value)
		_ = h.WriteByte(0)
	}
	q.head = r.Method == "HEAD"
	q.hash = h.Sum64() ^ uint64(record)*mixer
	if q.head {
		q.hash = ^q.hash
	}
	return q, true
}

// mixer is an odd number with as many ones as zeros: records next to each other are far apart by it.
const mixer = 0x9e3779b97f4a7c15

// find returns what the record repeats to the request; nil: there is nothing.
func (f *Filter) findRepeat(record *objects.Record) *repeat {
	n, ok := record.Note.(*repeats)
	if !ok {
		return nil
	}
	q, ok := f.ask(n.names, n.mask, record.Identity())
	if !ok {
		return nil
	}
	list := f.x.Request.Fields.List()
	for _, p := range n.list {
		if p.asked == q.asked && p.order == f.factory.lookup.ID && p.fits(&q, list) {
			return p
		}
	}
	return nil
}

// fits reports whether the lines that count are those of the request that was answered.
func (p *repeat) fits(q *question, list []exchange.Field) bool {
	if len(p.lines) != q.lines {
		return false
	}
	for i := range p.lines {
		if p.lines[i] != list[q.at[i]] {
			return false
		}
	}
	return true
}

// serveRepeat has the exchange answered with what the guest has answered to one like it. o is what is stored under
// the key of the request, a reference that it takes over.
func (f *Filter) serveRepeat(o *objects.Object, record *objects.Record) bool {
	f.looked = record.Identity()
	p := f.findRepeat(record)
	if p == nil {
		o.Release()
		return false
	}
	s, v := f.factory.lookup, &f.own
	if p.key != "" {
		at := o
		o = f.factory.space.Find(p.key)
		if o == nil {
			at.Release()
			return false
		}
		at.Touch()
		at.Release()
		record = o.Record()
	}
	age, good := record.Promise.At(s.Now())
	if record.Identity() != p.served || !good || !p.answer.HeadOnly && o.Read(&v.reader, p.answer.Offset, p.answer.Length) != nil {
		o.Release()
		return false
	}
	if !p.used.Load() {
		p.used.Store(true)
	}
	edits := f.alone.again(v.Edits[:0], p.answer.Edits, s, age, record.Promise.Lifetime-age)
	v.ObjectServe = p.answer
	v.Edits = edits
	return f.serveAlone(o, record)
}

// again appends edits that were made before, with the numbers of now.
func (a *alone) again(dst, edits []abi.FieldEdit, s *host.StandingLookup, age, ttl int64) []abi.FieldEdit {
	a.number(s.TTLPrefix, age, ttl)
	for _, e := range edits {
		switch {
		case e.Op == abi.FieldRemove:
		case e.Name == s.AgeField:
			e.Value = a.ageText
		case e.Name == s.TTLField:
			e.Value = a.ttlText
		}
		dst = append(dst, e)
	}
	return dst
}

// keepRepeat keeps the answer that the guest gives to the request, with a message that it has looked at, if it may
// be repeated, and has been asked for lately. What is under the key of the request is not to be another record than it
// was before the guest was called.
func (f *Filter) keepRepeat(v *serving) {
	s, x := f.factory.lookup, f.x
	x.Mu.Lock()
	fit := f.looked != 0 && f.req.stage == stageHere && f.resp.stage == stageNone && !f.dirty
	x.Mu.Unlock()
	if !fit {
		return
	}
	_, whole := v.object.Length()
	_, good := v.record.Promise.At(s.Now())
	if !whole || !good {
		return
	}
	names, mask, ok := f.alone.namesOf(v.Repeat)
	defer clear(names)
	if !ok {
		return
	}
	q, ok := f.ask(names, mask, f.looked)
	if !ok || !f.factory.seen.again(q.hash) {
		return
	}
	o := f.factory.space.Find(f.alone.standingKey())
	if o == nil {
		return
	}
	defer o.Release()
	old := o.Record()
	n, ok := old.Note.(*repeats)
	if old.Identity() != f.looked || !ok && old.Note != nil {
		return
	}
	if p := f.newRepeat(v, &q, o.Key()); p != nil {
		f.factory.space.Annotate(o, old, n.with(p, names, mask)) // whoever was first: it will be asked for again
	}
}

// namesOf returns the names that are encoded in list, which they are parts of, until it is called again; false if
// one is no name of a field.
func (a *alone) namesOf(list string) (names []string, mask uint64, ok bool) {
	names, ok = abi.ParseNames(a.names[:0], list), true
	a.names = names[:0]
	for i := range names {
		ok = ok && host.IsToken(names[i])
		names[i] = strings.ToLower(names[i])
		mask |= host.NameMark(names[i])
	}
	return names, mask, ok
}

// newRepeat returns what is kept of an answer to a request with some key; nil if a bound is not kept, or an
// edit would be refused.
func (f *Filter) newRepeat(v *serving, q *question, key string) *repeat {
	p := &repeat{asked: q.asked, order: f.factory.lookup.ID, served: v.record.Identity(), answer: v.ObjectServe}
	p.answer.Key, p.answer.Repeat, p.answer.Edits = "", "", nil
	if v.Key != key {
		p.key = v.Key
	}
	text := len(p.key) + q.text
	for i := range v.Edits {
		text += len(v.Edits[i].Name) + len(v.Edits[i].Value)
	}
	if len(v.Repeat)+text > abi.MaxRepeatText || len(v.Edits) > maxRepeatEdits {
		return nil
	}
	b := make([]byte, 0, text) // it is not moved: text is what it takes
	own := func(s string) string {
		b = append(b, s...)
		return unsafe.String(unsafe.SliceData(b[len(b)-len(s):]), len(s))
	}
	p.key = own(p.key)
	p.lines = make([]exchange.Field, q.lines)
	list := f.x.Request.Fields.List()
	for i := range p.lines {
		l := &list[q.at[i]]
		p.lines[i] = exchange.Field{Name: own(l.Name), Value: own(l.Value)}
	}
	p.answer.Edits = make([]abi.FieldEdit, len(v.Edits))
	for i, e := range v.Edits {
		p.answer.Edits[i] = abi.FieldEdit{Op: e.Op, Name: own(e.Name), Value: own(e.Value)}
	}
	p.size = int64(repeatOverhead + (len(p.lines)+len(p.answer.Edits))*repeatItem + text)
	return p
}

// with returns n, which may be nil, with one more, in the place of the one that was asked for in the same way, or
// of one that was not used for the longest. Names are borrowed; if they are others than before nothing else is kept,
// as they belong to what the guest has chosen among.
func (n *repeats) with(p *repeat, names []string, mask uint64) *repeats {
	m := &repeats{mask: mask}
	if n != nil {
		m.variant = n.variant
	}
	if n != nil && slices.Equal(n.names, names) {
		m.names, m.hand = n.names, n.hand
		m.list = append(make([]*repeat, 0, len(n.list)+1), n.list...)
	} else {
		m.names = make([]string, len(names))
		for i, name := range names {
			m.names[i] = strings.Clone(name)
		}
	}
	at := slices.IndexFunc(m.list, func(o *repeat) bool {
		return o.asked == p.asked && o.order == p.order && slices.Equal(o.lines, p.lines)
	})
	switch {
	case at >= 0:
		m.list[at] = p
	case len(m.list) < maxRepeats:
		m.list = append(m.list, p)
	default:
		for range maxRepeats { // what is used all the while stays (CLOCK)
			if !m.list[m.hand].used.Swap(false) {
				break
			}
			m.hand = (m.hand + 1) % maxRepeats
		}
		m.list[m.hand] = p
		m.hand = (m.hand + 1) % maxRepeats
	}
	m.measure()
	return m
}

// measure finds out what it costs.
func (n *repeats) measure() {
	n.size = repeatsOverhead
	for _, name := range n.names {
		n.size += int64(len(name)) + repeatItem
	}
	for _, o := range n.list {
		n.size += o.size
	}
	if n.variant != nil {
		n.size += n.variant.size()
	}
}

// seen are the hashes of what was answered by guests lately, and might be repeated. What is asked for once, by
// somebody who never runs out of new conditions, is not worth keeping.
type seen struct {
	seed  maphash.Seed
	words atomic.Pointer[[seenWords]atomic.Uint64] // nil: none so far; most of many routes have none
}

func newSeen() *seen { return &seen{seed: maphash.MakeSeed()} }

// again reports whether hash was seen lately, and notes it.
func (s *seen) again(hash uint64) bool {
	words := s.words.Load()
	if words == nil {
		words = new([seenWords]atomic.Uint64)
		s.words.Store(words) // of two at once one is lost
	}
	w := &words[hash%seenWords]
	if w.Load() == hash {
		return true
	}
	w.Store(hash)
	return false
}
