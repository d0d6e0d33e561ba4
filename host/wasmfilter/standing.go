package wasmfilter

import (
	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/host"
)

// standingEdits are edits that the guest has asked for ahead, to be made of each answer.
type standingEdits struct {
	host.StandingEdits
	adds, bytes int // at most
}

// standingOf prepares what a root has asked for. Edits of fields that are not the plugin's
// to write have no effect, as in headerMap.
func standingOf(list []host.StandingEdits) []standingEdits {
	var out []standingEdits
	for _, l := range list {
		s := standingEdits{StandingEdits: host.StandingEdits{When: l.When}}
		for _, e := range l.Edits {
			if host.HopByHop(e.Name) {
				continue
			}
			s.Edits = append(s.Edits, e)
			if e.Op != abi.FieldRemove {
				s.adds, s.bytes = s.adds+1, s.bytes+len(e.Name)+len(e.Value)
			}
		}
		if len(s.Edits) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// applyStandingLocked makes the standing edits of h; false, and nothing is done, if the head
// might become too large. Exchange.Mu is locked.
func (f *Filter) applyStandingLocked(h *exchange.Response) bool {
	tls := f.x.Request.Scheme == "https"
	for i := range f.factory.standing {
		s := &f.factory.standing[i]
		if s.When == abi.EditsTLS && !tls || s.When == abi.EditsWithout && tls {
			continue
		}
		if h.Fields.Len()+s.adds > maxHeadFields || h.Fields.Size()+s.bytes > maxHeadBytes {
			return false
		}
		applyEdits(&h.Fields, s.Edits)
	}
	return true
}

// applyEdits makes edits that are clean, and of fields that are a plugin's to write.
func applyEdits(h *exchange.Fields, edits []abi.FieldEdit) {
	for i := range edits {
		switch e := &edits[i]; e.Op {
		case abi.FieldRemove:
			h.Remove(e.Name)
		case abi.FieldAdd:
			h.Add(e.Name, e.Value)
		case abi.FieldAddIfMissing:
			if !h.Has(e.Name) {
				h.Add(e.Name, e.Value)
			}
		default:
			h.Set(e.Name, e.Value)
		}
	}
}

// An editor is the sink of responses of a plugin that has standing edits and no callback
// that would be made: the guest is not entered, and no instance is needed.
type editor struct {
	f    *Filter
	next exchange.Sink[*exchange.Response] // nil: not in use
}

var (
	_ exchange.Sink[*exchange.Response] = (*editor)(nil)
	_ exchange.Detacher                 = (*editor)(nil)
)

// Head implements exchange.Sink.
func (e *editor) Head(h *exchange.Response, end bool) error {
	if h.Status/100 == 1 && h.Status != 101 {
		return e.next.Head(h, end) // as with guests (rule 6)
	}
	f := e.f
	f.x.Mu.Lock()
	fits := f.applyStandingLocked(h)
	f.stood = true
	f.x.Mu.Unlock()
	if fits {
		return e.next.Head(h, end)
	}
	d := &f.resp
	d.mu.Lock()
	defer d.mu.Unlock()
	f.x.Mu.Lock()
	d.next, d.head, d.endHead, d.stage = e.next, h, end, stageHere
	f.x.Mu.Unlock()
	return d.tooLarge(headTooLarge)
}

// Data implements exchange.Sink.
func (e *editor) Data(p []byte, end bool) error {
	if d := &e.f.resp; d.next != nil { // it was given up
		return d.Data(p, end)
	}
	return e.next.Data(p, end)
}

// Trailer implements exchange.Sink.
func (e *editor) Trailer(t *exchange.Fields) error {
	if d := &e.f.resp; d.next != nil {
		return d.Trailer(t)
	}
	return e.next.Trailer(t)
}

// Detached implements exchange.Detacher.
func (e *editor) Detached() bool { return e.f.resp.next == nil }
