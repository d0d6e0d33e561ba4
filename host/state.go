package host

import (
	"maps"
	"slices"
	"strings"

	"wproxy/abi"
)

// The state of guests that outlives the process at an upgrade: what plugins of each vm_id
// have shared and counted, whatever the plugins are. It is plain data, and goes in two
// parts. The first has the clock of counters, the keys of their hashes and the shared data,
// and comes to the next process before it starts a guest; the second has what has changed
// meanwhile and everything that is counted, and comes when its guests have started.
//
// From the second part on the counters of the process that is left stand still: what it
// still admits is what its buckets had left, a burst at most, and never refills. So both
// together admit no more than rate * time + 2 * burst.

// A State is one part. Its fields are exported for encoding; what is missing in one that
// another version has made is empty.
type State struct {
	Clock   int64 // of counters, nanoseconds
	Spaces  []SpaceState
	Metrics []MetricState
	Left    int // entries, items and pages that had no room in it
}

// A SpaceState is of one vm_id.
type SpaceState struct {
	ID       string
	Key      [2]uint64     // that tags are made with
	Entries  []SharedEntry // least recently used first
	Queues   []QueueState
	Counters []CounterState
	Windows  []WindowState
	Kept     []KeptState
}

// A SharedEntry is one of shared data.
type SharedEntry struct {
	Key   string
	Value []byte
}

// A QueueState has the items of a queue that nobody has taken, oldest first.
type QueueState struct {
	Name  string
	Items [][]byte
}

// A CounterState has the buckets of one limit that are not full.
type CounterState struct {
	Interval, Burst int64
	Pages           int
	Debt            int64
	Tags            []uint64
	Full            []int64 // when each is full
}

// A WindowState has the windows of one shape that are not empty.
type WindowState struct {
	Slots   uint32
	Width   int64
	Tags    []uint64
	Last    []int64
	Streaks []uint32
	Counts  []uint32 // Slots * abi.WindowColumns for each
}

// A KeptState is the places of a key that are kept. Those that streams hold stay with them.
type KeptState struct {
	Tag    uint64
	Kept   int64
	Forget int64
}

// A MetricState is a guest's own counter or gauge, as the guest reads it.
type MetricState struct {
	Plugin, Name string
	Kind         abi.MetricKind
	Value        int64
}

// A StateMark is where the first part was taken.
type StateMark map[string]uint32 // the last CAS number by vm_id

// FirstState returns the first part, of about most bytes at most, and what SecondState
// needs to know of it.
func (h *Host) FirstState(most int64) (*State, StateMark) {
	s, mark := &State{Clock: h.counterClock()}, StateMark{}
	room := &stateRoom{left: most}
	for id, sp := range h.shared.all() {
		st := SpaceState{ID: id, Key: sp.counters.key}
		st.Entries, mark[id] = sp.entriesSince(0, room)
		s.Spaces = append(s.Spaces, st)
	}
	s.Left = room.without
	return s, mark
}

// SecondState stops the clock of counters and returns the second part: what was shared
// since mark, everything that is counted, and the items of queues, which are taken out.
// Guests go on. ResumeState undoes it.
func (h *Host) SecondState(mark StateMark, most int64) *State {
	s := &State{Clock: h.counterClock()}
	h.frozen.Store(max(s.Clock, 1)) // before the first page is looked at: who counts in one later sees it
	room := &stateRoom{left: most}
	spaces := h.shared.all()
	ids := slices.Sorted(maps.Keys(spaces))
	for _, id := range ids { // what is counted first: it is what bounds admissions
		sp := spaces[id]
		st := SpaceState{ID: id, Key: sp.counters.key}
		st.Counters = sp.counters.state(s.Clock, room)
		st.Windows = sp.windows.state(s.Clock, room)
		st.Kept = sp.places.state(s.Clock)
		s.Spaces = append(s.Spaces, st)
	}
	s.Metrics = h.metricStates(room)
	for i, id := range ids {
		sp := spaces[id]
		s.Spaces[i].Entries, _ = sp.entriesSince(mark[id], room)
		s.Spaces[i].Queues = h.shared.takeQueues(sp, room)
	}
	s.Left = room.without
	return s
}

// ResumeState has the clock of counters go on, and puts back what SecondState took, which
// may be nil: nobody else has come to use it.
func (h *Host) ResumeState(s *State) {
	h.frozen.Store(0)
	if s == nil {
		return
	}
	for i := range s.Spaces {
		h.shared.putQueues(&s.Spaces[i], true)
	}
}

// AdoptFirst takes in the first part of another process, before any plugin is loaded. What
// it has of a vm_id that no plugin has is dropped by DropUnclaimed.
func (h *Host) AdoptFirst(s *State) {
	h.clockBase.Store(0)
	h.clockBase.Store(s.Clock - h.counterClock())
	for i := range s.Spaces {
		st := &s.Spaces[i]
		sp := h.shared.acquire(st.ID)
		h.adopted = append(h.adopted, st.ID)
		sp.counters.key = st.Key
		sp.adoptEntries(st.Entries)
	}
}

// AdoptSecond takes in the second part, when the plugins have started and before they
// serve.
func (h *Host) AdoptSecond(s *State) {
	for i := range s.Spaces {
		st := &s.Spaces[i]
		sp := h.shared.find(st.ID)
		if sp == nil || sp.counters.key != st.Key {
			continue // there was no first part of it: tags would mean other keys
		}
		sp.adoptEntries(st.Entries)
		sp.counters.adopt(st.Counters, h.counterClock())
		sp.windows.adopt(st.Windows)
		sp.places.adopt(st.Kept)
		h.shared.putQueues(st, false)
	}
	h.adoptMetrics(s.Metrics)
}

// DropUnclaimed drops what AdoptFirst has taken in for vm_ids that no plugin has.
func (h *Host) DropUnclaimed() {
	for _, id := range h.adopted {
		h.shared.release(id)
	}
	h.adopted = nil
}

// A stateRoom is how much a State may still take.
type stateRoom struct {
	left    int64
	without int
}

// take reports whether n bytes fit.
func (r *stateRoom) take(n int) bool {
	if r.left < int64(n) {
		r.without++
		return false
	}
	r.left -= int64(n)
	return true
}

// all returns the spaces of all vm_ids.
func (s *sharedStore) all() map[string]*sharedSpace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.spaces)
}

// find returns the space of a vm_id, or nil.
func (s *sharedStore) find(id string) *sharedSpace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spaces[id]
}

// entriesSince returns copies of what was written after the CAS number since, least
// recently used first, and the last number. Of what does not fit the most recently used is
// kept.
func (s *sharedSpace) entriesSince(since uint32, room *stateRoom) (list []SharedEntry, last uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.useRead()
	for e := s.ring.next; e != &s.ring; e = e.next {
		if since > 0 && int32(e.cas-since) <= 0 { //nolint:gosec // the numbers wrap around
			continue
		}
		if room.take(int(size(len(e.key), len(e.value)))) {
			list = append(list, SharedEntry{e.key, append([]byte(nil), e.value...)})
		}
	}
	slices.Reverse(list)
	return list, s.lastCAS
}

// adoptEntries writes entries, each with a number of its own.
func (s *sharedSpace) adoptEntries(list []SharedEntry) {
	for _, e := range list {
		_ = s.set(e.Key, e.Value, 0) // one that is too large here is left out, as a guest's would be
	}
}

// takeQueues takes all items that fit out of the queues of sp.
func (s *sharedStore) takeQueues(sp *sharedSpace, room *stateRoom) []QueueState {
	s.mu.Lock()
	queues := slices.Collect(maps.Values(sp.queues))
	s.mu.Unlock()
	var all []QueueState
	for _, q := range queues {
		st := QueueState{Name: q.name}
		for {
			item, status := q.pop()
			if status != abi.StatusOK {
				break
			}
			if !room.take(len(item) + queueOverhead) {
				q.unpop(item) // its own consumer is still there
				break
			}
			st.Items = append(st.Items, item)
		}
		if len(st.Items) > 0 {
			all = append(all, st)
		}
	}
	return all
}

// putQueues puts items into queues, which are made if there are none: their consumers may
// register later. back tells that they were taken from here: then they go to the front.
func (s *sharedStore) putQueues(st *SpaceState, back bool) {
	for _, qs := range st.Queues {
		s.mu.Lock()
		var q *queue
		if sp := s.spaces[st.ID]; sp != nil {
			q = s.queueLocked(sp, qs.Name)
		}
		s.mu.Unlock()
		if q == nil {
			continue
		}
		if !back {
			for _, item := range qs.Items {
				_ = q.push(item) // one too many is counted there
			}
			continue
		}
		for _, item := range slices.Backward(qs.Items) {
			q.unpop(item)
		}
		q.mu.Lock()
		q.owed = q.sizeLocked()
		q.kickLocked()
		q.mu.Unlock()
	}
}

// queueLocked finds or makes a queue of sp; nil: there are too many. s.mu is held.
func (s *sharedStore) queueLocked(sp *sharedSpace, name string) *queue {
	if q := sp.queues[name]; q != nil {
		return q
	}
	if len(sp.queues) >= maxQueues {
		return nil
	}
	if s.lastToken++; s.lastToken == 0 { // 0 is no token
		s.lastToken = 1
	}
	q := &queue{store: s, space: sp, name: strings.Clone(name), token: s.lastToken}
	if sp.queues == nil {
		sp.queues = map[string]*queue{}
	}
	sp.queues[q.name] = q
	return q
}

// metricStates returns the counters and gauges of guests.
func (h *Host) metricStates(room *stateRoom) []MetricState {
	h.mu.Lock()
	sets := slices.Collect(maps.Values(h.metrics))
	h.mu.Unlock()
	var all []MetricState
	for _, s := range sets {
		s.mu.Lock()
		for key, id := range s.ids {
			m := s.at(id)
			if m == nil || key.kind == abi.MetricHistogram || !m.carries() {
				continue
			}
			if v := m.value.Load(); v != 0 && room.take(len(key.name)+len(s.plugin)+16) {
				all = append(all, MetricState{s.plugin, key.name, key.kind, v})
			}
		}
		s.mu.Unlock()
	}
	return all
}

// adoptMetrics has metrics begin where they were left; those that are not defined yet when
// they are.
func (h *Host) adoptMetrics(list []MetricState) {
	h.mu.Lock()
	sets := maps.Clone(h.metrics)
	h.mu.Unlock()
	for _, st := range list {
		s := sets[st.Plugin]
		if s == nil || st.Kind >= abi.MetricHistogram {
			continue
		}
		s.mu.Lock()
		key := metricKey{st.Name, st.Kind}
		if m := s.at(s.ids[key]); m != nil {
			m.adopt(st.Value)
		} else if len(s.carried) < maxMetrics {
			if s.carried == nil {
				s.carried = map[metricKey]int64{}
			}
			s.carried[key] = st.Value
		}
		s.mu.Unlock()
	}
}

// carries reports whether the value means something in another process: a gauge that goes
// up and down counts what is alive here.
func (m *metric) carries() bool { return m.kind == abi.MetricCounter || m.recorded.Load() }

// adopt makes value the one that m begins with.
func (m *metric) adopt(value int64) {
	if m.kind == abi.MetricCounter {
		m.value.Add(value)
		return
	}
	if m.recorded.CompareAndSwap(false, true) { // else the guest knows better
		m.value.Store(value)
	}
}
