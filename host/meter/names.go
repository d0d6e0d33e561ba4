package meter

// Subsections of the name section (core 7.4.1, and the extended names proposal).
const (
	namesModule    = 0
	namesFunctions = 1
	namesLocals    = 2
	namesLabels    = 3
)

// names rewrites the name section: functions are renumbered, helpers get the names of
// the instructions that they stand for. Names of labels are left out, since functions
// get blocks that had none. It walks all that a runtime may read, to bound what the
// runtime allocates for counts.
func (w *writer) names(r *reader) (out []byte, ok bool) {
	for r.left() > 0 {
		id := r.byte()
		s := &reader{b: r.take(r.u32())}
		content := s.b
		switch id {
		case namesModule:
			s.name()
		case namesFunctions:
			content = w.functionNames(s)
		case namesLocals:
			content = w.localNames(s)
		case namesLabels:
			continue
		default:
			s.pos = len(s.b)
		}
		if r.bad || s.bad || s.left() > 0 {
			return nil, false
		}
		out = append(uleb(append(out, id), uint32(len(content))), content...)
	}
	return out, !r.bad
}

// functionNames keeps names of functions that there are.
func (w *writer) functionNames(s *reader) []byte {
	var list []byte
	n := uint32(0)
	add := func(f uint32, title []byte) {
		n++
		list = append(uleb(uleb(list, f), uint32(len(title))), title...)
	}
	refill := false // its name goes between those of the others
	for range s.count(maxModuleItems) {
		f := s.u32()
		title := s.take(s.u32())
		if s.bad {
			return nil
		}
		if f >= w.m.funcs() {
			continue
		}
		if f >= w.m.imported && !refill {
			refill = true
			add(w.m.imported, []byte(Refill))
		}
		add(w.m.renumber(f), title)
	}
	if !refill {
		add(w.m.imported, []byte(Refill))
	}
	for i, h := range w.helpers {
		add(w.m.funcs()+1+uint32(i), []byte(h.key.name()))
	}
	return append(uleb(nil, n), list...)
}

func (w *writer) localNames(s *reader) []byte {
	n := s.count(maxModuleItems)
	b := uleb(nil, n)
	for range n {
		b = uleb(b, w.m.renumber(s.u32()))
		from := s.pos
		for range s.count(maxModuleItems) {
			s.u32()
			s.take(s.u32())
			if s.bad {
				return nil
			}
		}
		b = append(b, s.b[from:s.pos]...)
	}
	return b
}
