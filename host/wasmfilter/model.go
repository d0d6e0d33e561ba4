package wasmfilter

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync/atomic"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/host"
)

// A model is what a guest has said ahead about answers that it would store, or that it would not
// (abi.ObjectModel), with what they are compared with: how the one was that it was said about. It is immutable.
type model struct {
	likeness
	filled []string // in lower case
	want   uint64   // bit i: the first line of filled[i] was not empty

	parts      []abi.ModelPart
	lifetime   int64
	tenth      int64 // as in abi.ObjectModel
	extra, max int64

	variant *variant // where they are stored, beside their keys; nil: it is under these
	single  bool     // it is about answers to requests that miss alone (abi.ObjectStanding.MissAlone)

	pass *pass // of answers that are not stored: beside it parts and extra count; nil: they are stored
}

// newModel returns what a guest says about the answer whose head is here; nil if there is none, or a bound
// is not kept, or an edit would be refused. The texts of a are borrowed. p is its pass, if it has one.
func (f *Filter) newModel(a *abi.ObjectStore, p *pass) *model {
	m := &model{lifetime: a.Promise.Lifetime, tenth: a.Model.Tenth, extra: a.Model.Extra, max: a.MaxObject, pass: p}
	m.single = f.alone.single
	text := 0
	if p != nil {
		m.likeness = p.likeness
		if !m.takeParts(a.Model.Meta, &text) || text > abi.MaxModelText {
			return nil
		}
		return m
	}
	if a.Variant != nil {
		if m.variant = newVariant(a.Variant); m.variant == nil {
			return nil
		}
	}
	var ok1, ok2 bool
	m.same, ok1 = ownNames(a.Model.Same, &text)
	m.filled, ok2 = ownNames(a.Model.Filled, &text)
	if !ok1 || !ok2 || !m.takeEdits(a.Model.Edits, &text) || !m.takeParts(a.Model.Meta, &text) {
		return nil
	}
	x := f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if !f.takeHeadLocked(&m.likeness, &text) || text > abi.MaxModelText {
		return nil
	}
	m.want = m.filledIn(&f.resp.head.Fields)
	return m
}

// takeParts takes a copy of the parts of metadata, and counts their bytes; false if one names no field.
func (m *model) takeParts(list []abi.ModelPart, text *int) bool {
	m.parts = make([]abi.ModelPart, 0, len(list))
	for _, p := range list {
		if p.Kind == abi.ModelField {
			if !host.IsToken(p.Text) {
				return false
			}
			p.Text = strings.ToLower(p.Text)
		}
		*text += len(p.Text)
		m.parts = append(m.parts, abi.ModelPart{Kind: p.Kind, Text: strings.Clone(p.Text)})
	}
	return true
}

// filledIn returns a bit for each of the names in filled whose first line is not empty.
func (m *model) filledIn(h *exchange.Fields) uint64 {
	seen, filled := uint64(0), uint64(0)
	for i := range h.List() {
		l := &h.List()[i]
		for j, name := range m.filled {
			if name != l.Name || seen>>j&1 != 0 {
				continue
			}
			seen |= 1 << j
			if l.Value != "" {
				filled |= 1 << j
			}
		}
	}
	return filled
}

// fits reports whether an answer is like the one that the model was said about, but for its age and
// its length.
func (m *model) fits(r *exchange.Response) bool {
	if m.pass != nil {
		return m.pass.fits(r)
	}
	if r.Status != m.status {
		return false
	}
	k := 0
	list := r.Fields.List()
	for i := range list {
		l := &list[i]
		if slices.Contains(m.same, l.Name) {
			if k == len(m.lines) || m.lines[k] != *l {
				return false
			}
			k++
		}
	}
	return k == len(m.lines) && m.filledIn(&r.Fields) == m.want
}

// equal reports whether two models say the same.
func (m *model) equal(o *model) bool {
	return m.about(o) && m.lifetime == o.lifetime && m.tenth == o.tenth && m.extra == o.extra && m.max == o.max && m.variant.equal(o.variant) &&
		slices.Equal(m.edits, o.edits) && slices.Equal(m.parts, o.parts)
}

// about reports whether two models are about the same answers.
func (m *model) about(o *model) bool {
	if (m.pass == nil) != (o.pass == nil) || m.pass != nil && !slices.Equal(m.pass.there, o.pass.there) {
		return false
	}
	return m.single == o.single && m.status == o.status && m.want == o.want &&
		slices.Equal(m.same, o.same) && slices.Equal(m.lines, o.lines) && slices.Equal(m.filled, o.filled)
}

// lifetimeOf returns how old an answer may become, in seconds; 0 or less if it may not be stored.
func (m *model) lifetimeOf(at *times) int64 {
	switch {
	case m.tenth == 0:
		return m.lifetime
	case !at.heuristic:
		return 0
	}
	return min((at.date-at.modified)/10, m.tenth)
}

// appendMeta appends the metadata of an answer that may become as old as lifetime says.
func (m *model) appendMeta(b []byte, h *exchange.Fields, at *times, lifetime int64) []byte {
	for i := range m.parts {
		switch p := &m.parts[i]; p.Kind {
		case abi.ModelText:
			b = append(b, p.Text...)
		case abi.ModelNow:
			b = binary.LittleEndian.AppendUint64(b, uint64(at.now))
		case abi.ModelAge:
			b = binary.LittleEndian.AppendUint64(b, uint64(at.age))
		case abi.ModelDate:
			b = binary.LittleEndian.AppendUint64(b, uint64(at.date))
		case abi.ModelLifetime:
			b = binary.LittleEndian.AppendUint64(b, uint64(lifetime))
		default:
			value := h.Value(p.Text)
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(value))), value...)
		}
	}
	return b
}

// times are what is known of the age of an answer, in seconds, and in seconds since 1970.
type times struct {
	now  int64 // when it came
	age  int64 // RFC 9111, 4.2.3
	date int64 // what its Date says; now if it has none

	modified  int64 // what its Last-Modified says
	heuristic bool  // it has said both, so that 4.2.2 applies
}

// timesOf returns those of an answer that came at now to a request that went by at asked; false if its Date
// cannot be read, or there are several.
func timesOf(r *exchange.Response, asked, now int64) (at times, ok bool) {
	dates, modified, ages, said := 0, 0, 0, int64(0)
	at.now, at.date = now, now
	for i := range r.Fields.List() {
		switch l := &r.Fields.List()[i]; l.Name {
		case "date":
			if at.date, ok = parseDate(l.Value); !ok {
				return at, false
			}
			dates++
		case "age":
			if ages++; ages == 1 {
				said = parseAge(l.Value)
			}
		case "last-modified":
			if at.modified, ok = parseDate(l.Value); ok {
				modified++
			} else {
				modified = 2
			}
		}
	}
	at.age = max(now-at.date, said+max(now-asked, 0), 0)
	at.heuristic = dates == 1 && modified == 1
	return at, dates <= 1
}

// parseAge reads a field Age, in seconds: what is before a comma, if that is a number, which counts up to
// abi.MaxPromise; else 0 (RFC 9111, 5.1).
func parseAge(s string) (n int64) {
	s, _, _ = strings.Cut(s, ",")
	s = strings.Trim(s, " \t")
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
		n = min(n*10+int64(s[i]-'0'), abi.MaxPromise)
	}
	return n
}

// models are what a root's guests have said about the answers that they have stored, or have not, newest first. All
// of them belong to one standing order, which is that of the factory.
type models struct {
	list atomic.Pointer[[]*model] // replaced as a whole; nil: none
}

// all returns the models.
func (s *models) all() []*model {
	if list := s.list.Load(); list != nil {
		return *list
	}
	return nil
}

// add adds a model, in the place of one about the same answers, or of the oldest if there are too
// many about requests of its kind.
func (s *models) add(m *model) {
	old := s.list.Load()
	list, kind := []*model{m}, 1 // how many are about requests like that of m
	if old != nil {
		for _, o := range *old {
			switch {
			case o.equal(m):
				return // it is said again for each answer whose request has not gone by
			case o.single != m.single:
				list = append(list, o)
			case kind < maxModels && !o.about(m):
				list = append(list, o)
				kind++
			}
		}
	}
	s.list.CompareAndSwap(old, &list) // whoever was first: it will be said again
}
