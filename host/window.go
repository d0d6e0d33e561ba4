package host

import (
	"math"
	"sync"
	"sync/atomic"

	"wproxy/abi"
)

// A windowSpace has the sliding windows of one vm_id (abi.ForeignAddCounter). Its lock and
// those of its tables are below a VM's, and nothing waits under them but for a lock. Who
// adds holds mu for reading, so that no table goes away meanwhile.
type windowSpace struct {
	mu     sync.RWMutex
	tables map[windowShape]*windowTable // guarded by mu
	bytes  atomic.Int64                 // of all tables with their pages
	full   atomic.Int64                 // until then none of them can be given up
}

// A windowShape is what windows of one table have in common.
type windowShape struct {
	slots uint32
	width int64 // nanoseconds
}

// span is how long a count stays in a window, at most.
func (s windowShape) span() int64 { return int64(s.slots) * s.width }

// valid reports whether times of the shape can be counted with.
func (s windowShape) valid() bool {
	return s.slots > 0 && s.slots <= maxWindowSlots && s.width > 0 && s.width <= maxCounterCapacity/maxWindowSlots
}

func (s windowShape) pageBytes() int64 {
	return windowPageKeys * (windowKeyBytes + 4*abi.WindowColumns*int64(s.slots))
}

// A windowTable is cut into pages, each with a lock of its own, as a counterTable is. A
// page has memory once a key is on it.
type windowTable struct {
	windowShape
	pages [windowPages]windowPage
	rest  atomic.Int64 // when all windows are empty, or a little later
	gone  atomic.Bool  // it is not in the space any more; told after owe, see addWell
}

type windowPage struct {
	mu      sync.Mutex
	windows []window                    // windowPageKeys, or none yet
	counts  [][abi.WindowColumns]uint32 // slots of each, in the order of windows
}

// A window is the counts of one key. They are in the ring counts: a slot of time is where its
// number, modulo slots, says.
type window struct {
	tag    uint64
	last   int64 // number of the latest slot of time
	streak uint32
	used   bool
	well   bool // there is nothing in any column but the first; false: it is not known
}

func newWindowSpace() *windowSpace {
	s := &windowSpace{tables: map[windowShape]*windowTable{}}
	s.full.Store(math.MinInt64)
	return s
}

// A windowAdd is what is to be added.
type windowAdd struct {
	tag    uint64
	counts [abi.WindowColumns]uint32
	streak int32
	limit  int64
}

// add adds to the window of a tag. It fails when others have all the room. work is how many
// tables and pages were made or looked at.
func (s *windowSpace) add(shape windowShape, a *windowAdd, clock func() int64) (r abi.AddResult, work int, ok bool) {
	for range 2 {
		s.mu.RLock()
		if t := s.tables[shape]; t != nil {
			if r, ok = t.add(s, a, clock); ok {
				s.mu.RUnlock()
				return r, work, true
			}
		}
		s.mu.RUnlock()
		fits, looked := s.make(shape, clock())
		if work += looked + 1; !fits {
			break
		}
	}
	return abi.AddResult{}, work, false
}

// make makes room for a page of a shape, and its table if there is none. Tables whose
// windows are all empty go.
func (s *windowSpace) make(shape windowShape, now int64) (fits bool, looked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	need := shape.pageBytes()
	if s.tables[shape] == nil {
		need += windowTableBytes
	}
	if s.bytes.Load()+need > maxWindowBytes && now >= s.full.Load() {
		full := int64(math.MaxInt64)
		looked = len(s.tables)
		for other, t := range s.tables {
			t.gone.Store(other != shape) // before rest is read: addWell does it the other way round
			rest := t.rest.Load()
			if other == shape || rest > now {
				t.gone.Store(false)
				full = min(full, max(rest, now+1))
				continue
			}
			delete(s.tables, other)
			s.bytes.Add(-t.size())
			t.forget()
		}
		s.full.Store(full)
	}
	if s.bytes.Load()+need > maxWindowBytes {
		return false, looked
	}
	if s.tables[shape] == nil {
		t := &windowTable{windowShape: shape}
		t.rest.Store(math.MinInt64)
		s.tables[shape] = t
		s.bytes.Add(windowTableBytes)
		s.full.Store(math.MinInt64)
	}
	return true, looked
}

// size returns the bytes of a table that nobody uses.
func (t *windowTable) size() int64 {
	n := int64(windowTableBytes)
	for i := range t.pages {
		if t.pages[i].windows != nil {
			n += t.pageBytes()
		}
	}
	return n
}

// forget lets go of the pages of a table that is gone, as counterTable.forget does: gates and watches
// remember it until they are asked the next time.
func (t *windowTable) forget() {
	for i := range t.pages {
		p := &t.pages[i]
		p.mu.Lock()
		p.windows, p.counts = nil, nil
		p.mu.Unlock()
	}
}

// owe notes that a window will not be empty before then. It adds an eighth, so that it is
// not written each time.
func (t *windowTable) owe(until, now int64) {
	for {
		old := t.rest.Load()
		if until <= old || t.rest.CompareAndSwap(old, until+(until-now)/8) {
			return
		}
	}
}

// add adds to the window of a tag, see windowSpace.add; false if a page is needed and there
// is no room for it. The clock is read under the lock: time does not go back for a page, and
// where it is set back the latest slot is the present one.
func (t *windowTable) add(s *windowSpace, a *windowAdd, clock func() int64) (abi.AddResult, bool) {
	p := &t.pages[a.tag%windowPages]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.windows == nil && !t.newPage(s, p) {
		return abi.AddResult{}, false
	}
	now := clock()
	slot := now / t.width
	i, crowded := p.find(a.tag, slot, t.slots)
	w, counts := &p.windows[i], p.ring(i, t.slots)
	if !crowded && (!w.used || w.tag != a.tag) {
		clear(counts)
		*w = window{tag: a.tag, last: slot, used: true}
	}
	w.slide(counts, slot)
	sums := sumOf(counts)
	r := abi.AddResult{Sums: sums, Streak: int64(w.streak), Crowded: crowded}
	if a.limit > 0 && sums[0]+int64(a.counts[0]) > a.limit {
		r.Crowded = false
		r.Retry = w.retry(counts, t.width, sums[0]+int64(a.counts[0])-a.limit) - now
		return r, true
	}
	w.tag = a.tag
	w.well = w.well && a.counts[1] == 0 && a.counts[2] == 0
	at := &counts[w.last%int64(t.slots)]
	for c, n := range a.counts {
		add := min(n, math.MaxUint32-at[c])
		at[c] += add
		r.Sums[c] += int64(add)
	}
	switch {
	case a.streak < 0:
		w.streak = 0
	case crowded: // somebody else's
		w.streak = uint32(a.streak)
	default:
		w.streak += min(uint32(a.streak), math.MaxUint32-w.streak)
	}
	r.Added, r.Streak = true, int64(w.streak)
	t.owe((w.last+1)*t.width+t.span(), now)
	return r, true
}

// find returns the table of a shape; nil if there is none.
func (s *windowSpace) find(shape windowShape) *windowTable {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.tables[shape]
}

// addWell adds 1 to the first column of the window of a tag and ends its streak, if there is
// such a window and nothing is in the other columns, nor in the streak. Otherwise nothing is
// added, and no window is made. Nobody keeps the table from being given up: what it owes is said
// first, so that either the table stays or it is seen to be gone.
func (t *windowTable) addWell(tag uint64, h *Host) bool {
	p := &t.pages[tag%windowPages]
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.index(tag)
	if i < 0 {
		return false
	}
	now := h.counterClock()
	w, counts := &p.windows[i], p.ring(i, t.slots)
	w.slide(counts, now/t.width)
	if !w.well { // else it still is: slots only become empty
		sums := sumOf(counts)
		w.well = sums[1] == 0 && sums[2] == 0
	}
	if !w.well || w.streak != 0 {
		return false
	}
	t.owe((w.last+1)*t.width+t.span(), now)
	if t.gone.Load() {
		return false
	}
	at := &counts[w.last%int64(t.slots)]
	at[0] += min(1, math.MaxUint32-at[0])
	return true
}

// admit is add to the first column where the sum stays within the limit, and the window is there or
// has a place that nobody has to leave, on a page that is there; otherwise nothing is added. d.remaining is how
// much more could be added, and d.retry when this could, if it is that. Of tables that are gone, see addWell.
func (t *windowTable) admit(tag uint64, count uint32, limit int64, h *Host) (d taken, gone bool) {
	p := &t.pages[tag%windowPages]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.windows == nil {
		return taken{}, t.gone.Load()
	}
	now := h.counterClock()
	slot := now / t.width
	i, crowded := p.find(tag, slot, t.slots)
	if crowded {
		return taken{}, t.gone.Load()
	}
	w, counts := &p.windows[i], p.ring(i, t.slots)
	known, last, sum := w.used && w.tag == tag, slot, int64(0)
	if known {
		w.slide(counts, slot)
		last = w.last
		for k := range counts {
			sum += int64(counts[k][0])
		}
	}
	if sum+int64(count) > limit { // then it is known: nobody adds more than the limit
		return taken{remaining: max(limit-sum, 0), retry: w.retry(counts, t.width, sum+int64(count)-limit) - now}, t.gone.Load()
	}
	t.owe((last+1)*t.width+t.span(), now)
	if t.gone.Load() {
		return taken{}, true
	}
	if !known {
		clear(counts)
		*w = window{tag: tag, last: slot, used: true}
	}
	at := &counts[last%int64(t.slots)]
	add := min(count, math.MaxUint32-at[0])
	at[0] += add
	return taken{admitted: true, remaining: limit - sum - int64(add)}, false
}

// index returns the index of a key's window; -1 if there is none.
func (p *windowPage) index(tag uint64) int {
	for i := range p.windows {
		if w := &p.windows[i]; w.tag == tag && w.used {
			return i
		}
	}
	return -1
}

// newPage gives a page its memory; false: there is no room. Its lock is held.
func (t *windowTable) newPage(s *windowSpace, p *windowPage) bool {
	n := t.pageBytes()
	if s.bytes.Add(n) > maxWindowBytes {
		s.bytes.Add(-n)
		return false
	}
	p.windows = make([]window, windowPageKeys)
	p.counts = make([][abi.WindowColumns]uint32, windowPageKeys*int(t.slots))
	return true
}

// ring returns the counts of window i.
func (p *windowPage) ring(i int, slots uint32) [][abi.WindowColumns]uint32 {
	return p.counts[i*int(slots) : (i+1)*int(slots)]
}

// find returns the index of a key's window. A new key takes, in this order, one that is not
// in use, one that is empty, or the one with the least in its first column, crowded, whose
// counts it inherits: a key that was displaced and comes back finds no less than it left,
// as with the buckets of counterPage.find.
func (p *windowPage) find(tag uint64, slot int64, slots uint32) (i int, crowded bool) {
	if i := p.index(tag); i >= 0 {
		return i, false
	}
	least, fewest := 0, int64(math.MaxInt64)
	for i := range p.windows {
		w := &p.windows[i]
		if !w.used || w.last+int64(slots) <= slot {
			return i, false
		}
		w.slide(p.ring(i, slots), slot)
		sums := sumOf(p.ring(i, slots))
		if sums == [abi.WindowColumns]int64{} {
			return i, false
		}
		if sums[0] < fewest {
			least, fewest = i, sums[0]
		}
	}
	return least, true
}

// slide empties the slots that the time between has passed.
func (w *window) slide(counts [][abi.WindowColumns]uint32, slot int64) {
	n := int64(len(counts))
	if slot <= w.last {
		return
	}
	if slot-w.last >= n {
		clear(counts)
	} else {
		for i := w.last + 1; i <= slot; i++ {
			counts[i%n] = [abi.WindowColumns]uint32{}
		}
	}
	w.last = slot
}

// retry returns when that much of the first column has left the window.
func (w *window) retry(counts [][abi.WindowColumns]uint32, width, excess int64) int64 {
	n := int64(len(counts))
	for k := int64(1); k <= n; k++ { // the oldest slot is the one after the latest
		if excess -= int64(counts[(w.last+k)%n][0]); excess <= 0 {
			return (w.last + k) * width
		}
	}
	return (w.last + n) * width
}

func sumOf(counts [][abi.WindowColumns]uint32) (sums [abi.WindowColumns]int64) {
	for i := range counts {
		for c, n := range counts[i] {
			sums[c] += int64(n)
		}
	}
	return sums
}
