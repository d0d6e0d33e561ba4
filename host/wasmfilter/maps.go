package wasmfilter

import (
	"iter"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/host"
)

// Numbers of pseudo fields, which come first in a map and count as lines.
const (
	requestPseudos  = 4
	responsePseudos = 1
)

// headerMaps are the header maps of an exchange, as parts of its Filter, so that a host
// call allocates none.
type headerMaps struct{ list [4]headerMap }

func (m *headerMaps) init(f *Filter) {
	for i := range m.list {
		h := &m.list[i]
		h.f, h.kind = f, abi.MapType(i)
		h.all = h.each
	}
}

// arrived notes that a message has come, or come and gone: its size is not known.
func (m *headerMaps) arrived(kind abi.MapType) { m.list[kind].room = 0 }

// reset prepares for another exchange.
func (m *headerMaps) reset() {
	for i := range m.list {
		m.list[i].room = 0
	}
}

// get returns the map, or nil when that message is not there.
func (m *headerMaps) get(f *Filter, kind abi.MapType) host.Map {
	if int(kind) >= len(m.list) {
		return nil
	}
	f.x.Mu.Lock()
	defer f.x.Mu.Unlock()
	if h := &m.list[kind]; h.fields() != nil {
		return h
	}
	return nil
}

// headerMap is one header map. Every method takes Exchange.Mu: a guest may look at
// a message that is in another filter by now.
type headerMap struct {
	f    *Filter
	kind abi.MapType
	all  iter.Seq2[string, string] // each, made once

	// room is how many bytes may be added without counting again; 0 when the
	// message has just come. Only edits by way of this map can make it larger
	// while it is here.
	room int
}

var (
	_ host.FieldMap   = (*headerMap)(nil)
	_ host.Overflower = (*headerMap)(nil)
)

const contentLength = "content-length"

// fields returns the lines behind the pseudo fields, nil when the message is not
// there.
func (m *headerMap) fields() *exchange.Fields {
	f := m.f
	switch m.kind {
	case abi.MapRequestHeaders:
		return &m.f.shownRequest().Fields
	case abi.MapResponseHeaders:
		if f.resp.stage != stageNone {
			return &f.resp.head.Fields
		}
	case abi.MapRequestTrailers:
		return f.req.trailers()
	case abi.MapResponseTrailers:
		return f.resp.trailers()
	default:
	}
	return nil
}

// trailers returns the trailers: those that have come, or, in the body callback
// that sees the end, empty ones to be filled (abi.md 5.7).
func (d *half) trailers() *exchange.Fields {
	switch {
	case d.trailer != nil:
		return d.trailer
	case d.ended && d.body.open && d.inside && !d.endHead:
		return &d.ownTrailer
	}
	return nil
}

// half returns the direction that the map is of.
func (m *headerMap) half() *half {
	if m.kind == abi.MapResponseHeaders || m.kind == abi.MapResponseTrailers {
		return &m.f.resp.half
	}
	return &m.f.req.half
}

// Overflow implements host.Overflower.
func (m *headerMap) Overflow() {
	m.f.x.Mu.Lock()
	defer m.f.x.Mu.Unlock()
	if m.fields() != nil && m.writable() {
		m.half().overflowLocked(headTooLarge)
	}
}

// writable reports whether edits still reach the message. After it has been let
// go of they have no effect, which is no error (abi.md 5.3).
func (m *headerMap) writable() bool {
	d := m.half()
	if d.resume && d.parked || d.skip || d.over || m.f.x.ClosingLocked() {
		return false
	}
	if m.kind == abi.MapRequestTrailers || m.kind == abi.MapResponseTrailers {
		return d.inside || d.held
	}
	return d.stage == stageHere
}

// pseudos returns the number of pseudo fields.
func (m *headerMap) pseudos() int {
	switch m.kind {
	case abi.MapRequestHeaders:
		return requestPseudos
	case abi.MapResponseHeaders:
		return responsePseudos
	default:
		return 0
	}
}

// Len implements host.Map.
func (m *headerMap) Len() int {
	m.f.x.Mu.Lock()
	defer m.f.x.Mu.Unlock()
	if l := m.fields(); l != nil {
		return l.Len() + m.pseudos()
	}
	return 0
}

// Get implements host.Map.
func (m *headerMap) Get(name string) (string, bool) {
	m.f.x.Mu.Lock()
	defer m.f.x.Mu.Unlock()
	l := m.fields()
	if l == nil {
		return "", false
	}
	if m.isPseudo(name) {
		return m.pseudo(name)
	}
	if i := find(l.List(), name); i >= 0 {
		return l.At(i).Value, true
	}
	return "", false
}

// All implements host.Map.
func (m *headerMap) All() iter.Seq2[string, string] { return m.all }

func (m *headerMap) each(yield func(string, string) bool) {
	m.f.x.Mu.Lock()
	defer m.f.x.Mu.Unlock()
	l := m.fields()
	if l == nil || !m.eachPseudo(yield) {
		return
	}
	for _, x := range l.List() {
		if !yield(x.Name, x.Value) {
			return
		}
	}
}

// Set implements host.Map: exactly one line called name is left.
func (m *headerMap) Set(name, value string) bool {
	m.f.x.Mu.Lock()
	defer m.f.x.Mu.Unlock()
	l := m.fields()
	if l == nil || m.isPseudo(name) {
		return l != nil && m.setPseudo(name, value)
	}
	name, value, ok := host.CleanField(name, value)
	return ok && m.setLine(l, name, value)
}

// SetClean implements host.FieldMap.
func (m *headerMap) SetClean(name, value string) bool {
	m.f.x.Mu.Lock()
	defer m.f.x.Mu.Unlock()
	l := m.fields()
	if l == nil || m.isPseudoToken(name) {
		return l != nil && m.setPseudo(name, value)
	}
	return m.setLine(l, name, value)
}

// setLine sets a line whose name and value are clean.
func (m *headerMap) setLine(l *exchange.Fields, name, value string) bool {
	switch {
	case !m.writable() || host.HopByHop(name):
		return true
	case name == contentLength:
		return m.setLength(value)
	case !m.roomFor(l, name, value, true):
		m.half().overflowLocked(headTooLarge)
		return true
	}
	l.Set(name, value)
	m.edited()
	return true
}

// Add implements host.Map.
func (m *headerMap) Add(name, value string) bool {
	m.f.x.Mu.Lock()
	defer m.f.x.Mu.Unlock()
	l := m.fields()
	if l == nil || m.isPseudo(name) {
		return false // there is one of each already
	}
	name, value, ok := host.CleanField(name, value)
	return ok && m.addLine(l, name, value)
}

// AddClean implements host.FieldMap.
func (m *headerMap) AddClean(name, value string) bool {
	m.f.x.Mu.Lock()
	defer m.f.x.Mu.Unlock()
	l := m.fields()
	return l != nil && !m.isPseudoToken(name) && m.addLine(l, name, value)
}

// addLine adds a line whose name and value are clean.
func (m *headerMap) addLine(l *exchange.Fields, name, value string) bool {
	switch {
	case !m.writable() || host.HopByHop(name):
		return true
	case name == contentLength:
		return !l.Has(name) && m.setLength(value)
	case !m.roomFor(l, name, value, false):
		m.half().overflowLocked(headTooLarge)
		return true
	}
	l.Add(name, value)
	m.edited()
	return true
}

// roomFor reports whether a line may be added, or set in place of those of its name.
// The size of l is counted at the first edit, and again when what was added since does
// not leave enough room by the largest it can be: until then an edit that replaces a
// line is taken for one that adds it.
func (m *headerMap) roomFor(l *exchange.Fields, name, value string, set bool) bool {
	n := len(name) + len(value)
	if l.Len() < maxHeadFields && m.room >= n {
		m.room -= n
		return true
	}
	lines, size := l.Len(), l.Size()
	for _, f := range l.List() {
		if set && f.Name == name {
			lines, size = lines-1, size-len(f.Name)-len(f.Value)
		}
	}
	m.room = maxHeadBytes - size
	if lines >= maxHeadFields || m.room < n {
		m.room = 0
		return false
	}
	m.room -= n
	return true
}

// Remove implements host.Map.
func (m *headerMap) Remove(name string) bool {
	m.f.x.Mu.Lock()
	defer m.f.x.Mu.Unlock()
	l := m.fields()
	if l == nil || m.isPseudo(name) {
		return false
	}
	i := find(l.List(), name)
	if i < 0 || !m.writable() {
		return true
	}
	// The name as it stands in the list: the argument is borrowed, and in any
	// case of letters.
	if name := l.At(i).Name; name == contentLength {
		m.removeLength()
	} else {
		l.Remove(name)
	}
	m.edited()
	return true
}

// edited notes an edit of the request head, after which the route is matched
// again (abi.md 5.7).
func (m *headerMap) edited() {
	if m.kind == abi.MapRequestHeaders {
		m.f.dirty = true
	}
}

// Replace implements host.Map. Pseudo fields that are missing keep their values.
func (m *headerMap) Replace(pairs []abi.Pair) bool {
	m.f.x.Mu.Lock()
	defer m.f.x.Mu.Unlock()
	l := m.fields()
	if l == nil {
		return false
	}
	if !m.writable() {
		return m.replaceable(pairs)
	}
	if tooLarge(pairs) {
		m.half().overflowLocked(headTooLarge)
		return true
	}
	if !m.replaceable(pairs) {
		return false
	}
	m.setPseudos(pairs)
	m.room = 0
	length, hadLength := l.Get(contentLength)
	var kept bool
	l.Reset()
	for _, p := range pairs {
		if m.isPseudo(p.Name) {
			continue
		}
		name, value, _ := host.CleanField(p.Name, p.Value)
		switch {
		case host.HopByHop(name):
		case name == contentLength:
			if hadLength {
				l.Add(name, length)
			}
			kept = m.setLength(value)
		default:
			l.Add(name, value)
		}
	}
	if hadLength && !kept {
		m.removeLength()
	}
	m.edited()
	return true
}

// tooLarge reports whether pairs are more than a head may have.
func tooLarge(pairs []abi.Pair) bool {
	size := 0
	for _, p := range pairs {
		size += len(p.Name) + len(p.Value)
	}
	return size > maxHeadBytes || len(pairs) > maxHeadFields+requestPseudos
}

// replaceable reports whether pairs can be the whole map: valid lines, each
// pseudo field once at most, and one length.
func (m *headerMap) replaceable(pairs []abi.Pair) bool {
	lengths, pseudos := 0, 0
	for i, p := range pairs {
		if m.isPseudo(p.Name) {
			if pseudos++; pseudos > requestPseudos+1 { // with host; the next is unknown, or there twice
				return false
			}
			for j := range i {
				if m.samePseudo(pairs[j].Name, p.Name) {
					return false
				}
			}
			continue
		}
		name, _, ok := host.CleanField(p.Name, p.Value)
		if !ok {
			return false
		}
		if name == contentLength {
			lengths++
		}
	}
	return lengths <= 1 && m.validPseudos(pairs)
}
