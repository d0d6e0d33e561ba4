package host

import (
	"math"
	"slices"

	"wproxy/abi"
)

// What is counted, as part of a State.

// state returns the buckets that are not full at now. A table that does not fit is left out.
func (s *counterSpace) state(now int64, room *stateRoom) []CounterState {
	s.mu.Lock() // no table is exchanged for a larger one meanwhile
	defer s.mu.Unlock()
	var all []CounterState
	for l, t := range s.tables {
		st := CounterState{Interval: l.interval, Burst: l.burst, Pages: len(t.pages)}
		for i := range t.pages {
			p := &t.pages[i]
			p.mu.Lock()
			for _, b := range p.buckets {
				if b.full > now {
					st.Tags, st.Full = append(st.Tags, b.tag), append(st.Full, b.full)
				}
			}
			p.mu.Unlock()
		}
		st.Debt = t.debt.Load()
		if len(st.Tags) > 0 && room.take(counterTableBytes+16*len(st.Tags)) {
			all = append(all, st)
		}
	}
	return all
}

// valid reports whether st can be what state has returned.
func (st *CounterState) valid() bool {
	l := counterLimit{st.Interval, st.Burst}
	return l.valid() && len(st.Tags) == len(st.Full) && st.Pages > 0 && st.Pages <= counterPages &&
		st.Pages&(st.Pages-1) == 0 && st.Debt >= 0 && st.Debt <= maxCounterCapacity
}

// adopt takes in buckets. One that is there already, as a guest has begun to count while it
// started, owes whichever is more.
func (s *counterSpace) adopt(list []CounterState, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		st := &list[i]
		if !st.valid() {
			continue
		}
		l := counterLimit{st.Interval, st.Burst}
		old := s.tables[l]
		if old != nil {
			s.bytes -= counterBytes(len(old.pages))
		}
		if s.bytes+counterBytes(st.Pages) > maxCounterBytes {
			s.bytes += counterBytes(pagesOf(old))
			continue // its bounds were others
		}
		t := newCounterTable(l, st.Pages)
		s.bytes += counterBytes(st.Pages)
		t.debt.Store(st.Debt)
		rest := int64(math.MinInt64)
		for j, tag := range st.Tags {
			full := min(st.Full[j], now+l.capacity()+st.Debt)
			t.merge(counterBucket{tag, full}, now)
			rest = max(rest, full)
		}
		if old != nil {
			old.gone.Store(true)
			rest = max(rest, old.rest.Load())
			t.debt.Store(max(st.Debt, old.debt.Load()))
			for i := range old.pages {
				p := &old.pages[i]
				p.mu.Lock()
				for _, b := range p.buckets {
					t.merge(b, now)
				}
				p.buckets = nil
				p.mu.Unlock()
			}
		}
		t.rest.Store(rest)
		s.tables[l], s.full = t, math.MinInt64
	}
}

func pagesOf(t *counterTable) int {
	if t == nil {
		return 0
	}
	return len(t.pages)
}

// merge puts a bucket into a table that nobody uses yet, by the rules of find.
func (t *counterTable) merge(b counterBucket, now int64) {
	p := t.page(b.tag)
	p.mu.Lock()
	defer p.mu.Unlock()
	i, crowded := p.find(b.tag, now)
	if i < len(p.buckets) && (p.buckets[i].tag == b.tag || crowded) {
		b.full = max(b.full, p.buckets[i].full)
	}
	p.put(i, b)
}

// state returns the windows that are not empty at now.
func (s *windowSpace) state(now int64, room *stateRoom) []WindowState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []WindowState
	for shape, t := range s.tables {
		st := WindowState{Slots: shape.slots, Width: shape.width}
		for i := range t.pages {
			p := &t.pages[i]
			p.mu.Lock()
			for j := range p.windows {
				w, counts := &p.windows[j], p.ring(j, shape.slots)
				if !w.used {
					continue
				}
				w.slide(counts, now/shape.width)
				if sumOf(counts) == [abi.WindowColumns]int64{} && w.streak == 0 {
					continue
				}
				st.Tags, st.Last, st.Streaks = append(st.Tags, w.tag), append(st.Last, w.last), append(st.Streaks, w.streak)
				for k := range counts {
					st.Counts = append(st.Counts, counts[k][:]...)
				}
			}
			p.mu.Unlock()
		}
		if len(st.Tags) > 0 && room.take(windowTableBytes+20*len(st.Tags)+4*len(st.Counts)) {
			all = append(all, st)
		}
	}
	return all
}

// adopt takes in windows. One that is there already is replaced.
func (s *windowSpace) adopt(list []WindowState) {
	for i := range list {
		st := &list[i]
		shape := windowShape{st.Slots, st.Width}
		n := len(st.Tags)
		if !shape.valid() || len(st.Last) != n || len(st.Streaks) != n || len(st.Counts) != n*int(st.Slots)*abi.WindowColumns {
			continue
		}
		if fits, _ := s.make(shape, math.MinInt64); !fits {
			continue
		}
		s.mu.RLock()
		if t := s.tables[shape]; t != nil {
			for j := range st.Tags {
				t.adopt(s, st, j)
			}
		}
		s.mu.RUnlock()
	}
}

// adopt takes in window j of st, if there is room.
func (t *windowTable) adopt(s *windowSpace, st *WindowState, j int) {
	p := &t.pages[st.Tags[j]%windowPages]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.windows == nil && !t.newPage(s, p) {
		return
	}
	i := slices.IndexFunc(p.windows, func(w window) bool { return w.used && w.tag == st.Tags[j] })
	if i < 0 {
		i = slices.IndexFunc(p.windows, func(w window) bool { return !w.used })
	}
	if i < 0 {
		return // a guest has filled it while it started
	}
	p.windows[i] = window{tag: st.Tags[j], last: st.Last[j], streak: st.Streaks[j], used: true}
	ring := p.ring(i, t.slots)
	from := st.Counts[j*len(ring)*abi.WindowColumns:]
	for k := range ring {
		copy(ring[k][:], from[k*abi.WindowColumns:])
	}
	t.owe((st.Last[j]+1)*t.width+t.span(), st.Last[j]*t.width)
}

// state returns the places that are kept at now.
func (s *placeSpace) state(now int64) []KeptState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []KeptState
	for tag, p := range s.keys {
		if p.kept > 0 && p.forget > now {
			all = append(all, KeptState{tag, p.kept, p.forget})
		}
	}
	return all
}

// adopt takes in places that are kept.
func (s *placeSpace) adopt(list []KeptState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range list {
		p := s.keys[k.Tag]
		if k.Kept <= 0 || p.kept == 0 && s.kept >= maxKept {
			continue
		}
		if p.kept == 0 {
			s.kept++
		}
		p.kept, p.forget = p.kept+k.Kept, max(p.forget, k.Forget)
		s.keys[k.Tag] = p
		s.due = math.MinInt64
	}
}
