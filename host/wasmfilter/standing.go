package wasmfilter

import (
	"slices"
	"strings"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/host"
)

// standingEdits are edits that the guest has asked for ahead, to be made of each head.
type standingEdits struct {
	host.StandingEdits
	parts       [][]string // of the value of each edit, cut at each mark; nil: there is none, of an edit or of all
	alike       bool       // Types and Except are those of the edits before
	typed       bool       // of the first: Types or Except of some are not empty
	adds, bytes int        // at most
}

// standingOf prepares what a root has asked for, for requests and for answers. Edits of fields that
// are not the plugin's to write have no effect, as in headerMap.
func standingOf(list []host.StandingEdits) (requests, answers []standingEdits) {
	for i := range list {
		l := &list[i]
		s := standingEdits{StandingEdits: *l}
		s.Edits = nil
		for _, e := range l.Edits {
			if !host.HopByHop(e.Name) {
				s.add(e)
			}
		}
		to := &answers
		if s.Request {
			to = &requests
		}
		if n := len(*to); n > 0 {
			before := &(*to)[n-1]
			s.alike = slices.Equal(s.Types, before.Types) && slices.Equal(s.Except, before.Except)
		}
		if len(s.Edits) > 0 {
			*to = append(*to, s)
			(*to)[0].typed = (*to)[0].typed || len(s.Types)+len(s.Except) > 0
		}
	}
	return requests, answers
}

func (s *standingEdits) add(e abi.FieldEdit) {
	s.Edits = append(s.Edits, e)
	if e.Op == abi.FieldRemove {
		return
	}
	s.adds, s.bytes = s.adds+1, s.bytes+len(e.Name)+len(e.Value)
	if s.Mark == "" || !strings.Contains(e.Value, s.Mark) {
		return
	}
	parts := strings.Split(e.Value, s.Mark)
	s.bytes += (len(parts) - 1) * (abi.NonceSize - len(s.Mark))
	s.parts = append(s.parts, make([][]string, len(s.Edits)-len(s.parts))...)
	s.parts[len(s.parts)-1] = parts
}

// applyStandingLocked makes the standing edits of h; false if the head might become too large,
// which then has not all of them. Exchange.Mu is locked.
func (f *Filter) applyStandingLocked(h *exchange.Response) bool {
	_, fits := f.standLocked(f.factory.standing, &h.Fields)
	return fits
}

// standLocked makes edits of a head. It reports whether there were any, and whether they have fit.
func (f *Filter) standLocked(list []standingEdits, h *exchange.Fields) (edited, fits bool) {
	if len(list) == 0 {
		return false, true
	}
	tls := f.x.Request.Scheme == "https"
	media, meant := "", true
	if list[0].typed {
		media = mediaType(h.Value("content-type")) // as it has come
	}
	lines, size := h.Len(), h.Size() // at most
	for i := range list {
		s := &list[i]
		if !s.alike {
			meant = (len(s.Types) == 0 || inRanges(s.Types, media)) && !inRanges(s.Except, media)
		}
		if !meant || s.When == abi.EditsTLS && !tls || s.When == abi.EditsWithout && tls {
			continue
		}
		lines, size = lines+s.adds, size+s.bytes
		if lines > maxHeadFields || size > maxHeadBytes { // what was replaced counts twice so far
			lines, size = h.Len()+s.adds, h.Size()+s.bytes
			if lines > maxHeadFields || size > maxHeadBytes {
				return edited, false
			}
		}
		edited = f.applyLocked(h, s) || edited
	}
	return edited, true
}

// applyLocked makes the edits of s; it reports whether there were any, where that is asked.
func (f *Filter) applyLocked(h *exchange.Fields, s *standingEdits) (edited bool) {
	if !s.Request && s.parts == nil {
		applyEdits(h, s.Edits)
		return true
	}
	for i := range s.Edits {
		e := s.Edits[i]
		switch {
		case e.Op == abi.FieldRemove:
			edited = edited || s.Request && h.Has(e.Name)
		case e.Op == abi.FieldAddIfMissing && h.Has(e.Name):
			continue
		default:
			edited = true
			if i < len(s.parts) && s.parts[i] != nil {
				e.Value = f.withNonceLocked(s.parts[i])
			}
		}
		applyEdit(h, &e)
	}
	return edited
}

// applyEdits makes edits that are clean, and of fields that are a plugin's to write.
func applyEdits(h *exchange.Fields, edits []abi.FieldEdit) {
	for i := range edits {
		applyEdit(h, &edits[i])
	}
}

func applyEdit(h *exchange.Fields, e *abi.FieldEdit) {
	switch e.Op {
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

// mediaType returns the media type in a value of content-type, without parameters (RFC 9110 8.3.1),
// as it is written there. Of what is no type, such as several, it returns what stands first.
func mediaType(v string) string {
	for i := range len(v) {
		if v[i] == ';' || v[i] == ',' {
			v = v[:i]
			break
		}
	}
	return strings.Trim(v, " \t")
}

// inRanges reports whether a media type, in any case of letters, is one of those in list, or below
// "type/*" there.
func inRanges(list []string, media string) bool {
	for _, r := range list {
		if n := len(r) - 1; r[n] == '*' && r[n-1] == '/' {
			if len(media) > n && exchange.EqualFold(media[:n], r[:n]) {
				return true
			}
		} else if exchange.EqualFold(media, r) {
			return true
		}
	}
	return false
}

// standRequest makes the standing edits of a request's head that the guest does not see, and has the
// route matched again as an edit of the guest's would; false if the head might become too large.
// alone says that nothing else has the plugin in the access log.
func (f *Filter) standRequest(h *exchange.Request, alone bool) (fits bool) {
	if len(f.factory.standingRequests) == 0 {
		return true
	}
	f.x.Mu.Lock()
	edited, fits := f.standLocked(f.factory.standingRequests, &h.Fields)
	f.stood = f.stood || alone
	f.x.Mu.Unlock()
	if edited && fits {
		f.x.Engine.Reroute(!f.factory.o.NoReroute)
	}
	return fits
}

// noRoom gives up a head that has come, and that standing edits have made too large.
func (d *direction[H]) noRoom(h H, end bool) error {
	x := d.f.x
	x.Mu.Lock()
	d.head, d.stage, d.ended, d.endHead = h, stageHere, end, end
	x.Mu.Unlock()
	return d.tooLarge(headTooLarge)
}

// An editor is the sink of messages of a plugin that has standing edits of them and no callback
// that would be made: the guest is not entered, and no instance is needed.
type editor[H exchange.Head] struct {
	f    *Filter
	d    *direction[H]    // has the message once it was given up
	next exchange.Sink[H] // nil: not in use
}

var (
	_ exchange.Sink[*exchange.Response] = (*editor[*exchange.Response])(nil)
	_ exchange.Detacher                 = (*editor[*exchange.Response])(nil)
)

// Head implements exchange.Sink.
func (e *editor[H]) Head(h H, end bool) error {
	f, fits := e.f, true
	switch m := any(h).(type) {
	case *exchange.Request:
		fits = f.standRequest(m, true)
	case *exchange.Response:
		if m.Status/100 == 1 && m.Status != 101 {
			return e.next.Head(h, end) // as with guests (rule 6)
		}
		f.x.Mu.Lock()
		fits = f.applyStandingLocked(m)
		f.stood = true
		f.x.Mu.Unlock()
	}
	if fits {
		return e.next.Head(h, end)
	}
	d := e.d
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = e.next
	return d.noRoom(h, end)
}

// Data implements exchange.Sink.
func (e *editor[H]) Data(p []byte, end bool) error {
	if e.d.next != nil { // it was given up
		return e.d.Data(p, end)
	}
	return e.next.Data(p, end)
}

// Trailer implements exchange.Sink.
func (e *editor[H]) Trailer(t *exchange.Fields) error {
	if e.d.next != nil {
		return e.d.Trailer(t)
	}
	return e.next.Trailer(t)
}

// Detached implements exchange.Detacher.
func (e *editor[H]) Detached() bool { return e.d.next == nil }
