package wasmfilter

import (
	"slices"
	"strings"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/host"
)

// A likeness is how an answer was that a guest has said something about ahead, and what is edited of
// those like it. It is immutable when it is kept.
type likeness struct {
	status int
	same   []string         // in lower case
	lines  []exchange.Field // of the names in same
	edits  []abi.FieldEdit  // clean, and of fields that are a plugin's to write
	bytes  int              // of the edits, at most
}

// ownNames returns a copy of a list of names of fields, in lower case, and counts their bytes; false if one
// is none.
func ownNames(list []string, text *int) (out []string, ok bool) {
	out = make([]string, 0, len(list))
	for _, name := range list {
		if !host.IsToken(name) {
			return nil, false
		}
		*text += len(name)
		out = append(out, strings.ToLower(strings.Clone(name)))
	}
	return out, true
}

// takeEdits takes a copy of edits, and counts their bytes; false if one would be refused.
func (l *likeness) takeEdits(list []abi.FieldEdit, text *int) bool {
	l.edits = make([]abi.FieldEdit, 0, len(list))
	for i := range list {
		e := &list[i]
		name, value, ok := host.CleanField(e.Name, e.Value)
		if !ok || name == contentLength {
			return false
		}
		if host.HopByHop(name) {
			continue // has no effect, as in headerMap
		}
		l.bytes += len(name) + len(value)
		l.edits = append(l.edits, abi.FieldEdit{Op: e.Op, Name: strings.Clone(name), Value: strings.Clone(value)})
	}
	*text += l.bytes
	return true
}

// takeHeadLocked takes what is compared of the answer whose head is here, and counts its bytes; false if there
// is none, or too many lines. Exchange.Mu is locked.
func (f *Filter) takeHeadLocked(l *likeness, text *int) bool {
	if f.resp.stage != stageHere || !f.resp.inside {
		return false
	}
	l.status = f.resp.head.Status
	list, n := f.resp.head.Fields.List(), 0
	for i := range list {
		if slices.Contains(l.same, list[i].Name) {
			n, *text = n+1, *text+len(list[i].Name)+len(list[i].Value)
		}
	}
	if n > maxLikeLines {
		return false
	}
	l.lines = make([]exchange.Field, 0, n)
	for _, x := range list {
		if slices.Contains(l.same, x.Name) {
			l.lines = append(l.lines, exchange.Field{Name: strings.Clone(x.Name), Value: strings.Clone(x.Value)})
		}
	}
	return true
}

// room reports whether the edits can be made of a head without it becoming too large.
func (l *likeness) room(h *exchange.Fields) bool {
	return h.Len()+len(l.edits) <= maxHeadFields && (l.bytes == 0 || h.Size()+l.bytes <= maxHeadBytes)
}
