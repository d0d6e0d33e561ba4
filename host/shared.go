package host

import (
	"encoding/binary"
	"strings"
	"sync"
	"sync/atomic"

	"wproxy/abi"
)

// A sharedStore has the shared data of all vm_ids, in process. A space lives as
// long as a plugin with its vm_id is loaded, so that it outlives a reload.
type sharedStore struct {
	limit int64             // bytes of one space
	spawn func(func()) bool // runs what calls consumers of queues; nil: nobody calls them

	mu        sync.Mutex
	spaces    map[string]*sharedSpace
	lastToken uint32 // of a queue
}

// acquire returns the space of a vm_id; release gives it back.
func (s *sharedStore) acquire(id string) *sharedSpace {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.spaces[id]
	if sp == nil {
		sp = newSharedSpace(s.limit)
		if s.spaces == nil {
			s.spaces = map[string]*sharedSpace{}
		}
		s.spaces[id] = sp
	}
	sp.users++
	return sp
}

func (s *sharedStore) release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp := s.spaces[id]; sp != nil {
		if sp.users--; sp.users == 0 {
			sp.closeQueues()
			delete(s.spaces, id)
		}
	}
}

// A sharedSpace is the shared data of one vm_id: a bounded map whose least
// recently used entries make room for new ones. Its lock is below a VM's. It has the
// queues of the vm_id as well (queue.go).
type sharedSpace struct {
	limit    int64
	counters *counterSpace
	windows  *windowSpace
	places   *placeSpace

	// Guarded by sharedStore.mu.
	users  int
	queues map[string]*queue // by name

	queueBytes atomic.Int64  // that all of them hold
	full       atomic.Uint64 // items that found no room

	mu      sync.Mutex
	entries map[string]*sharedEntry
	ring    sharedEntry // sentinel: next is the most recently used entry, prev the least
	bytes   int64
	evicted uint64
	lastCAS uint32            // of the whole space, so that a number is not reused after an eviction
	known   map[uint32]*queue // by token: registered or resolved by a plugin of this vm_id
}

type sharedEntry struct {
	key        string
	value      []byte
	cas        uint32
	prev, next *sharedEntry
	cell       *sharedCell // nil: nobody has asked for it
}

// A sharedCell shows the first two u64 of an entry to whoever reads them for every request,
// without the lock and without moving the entry among those that were used. It lives as long as
// the entry.
type sharedCell struct {
	numbers atomic.Pointer[[2]uint64] // nil: the entry is gone, or its value is shorter
	used    atomic.Bool               // read since it was last asked, see wasRead
}

// read returns the numbers; nil if there are none.
func (c *sharedCell) read() *[2]uint64 {
	if !c.used.Load() { // a store would take the cache line from the others
		c.used.Store(true)
	}
	return c.numbers.Load()
}

// show brings the cell of e, if there is one, up to date. The space is locked.
func (e *sharedEntry) show() {
	switch c := e.cell; {
	case c == nil:
	case len(e.value) < 16:
		c.numbers.Store(nil)
	default:
		n := [2]uint64{binary.LittleEndian.Uint64(e.value), binary.LittleEndian.Uint64(e.value[8:])}
		if old := c.numbers.Load(); old == nil || *old != n {
			c.numbers.Store(&[2]uint64{n[0], n[1]})
		}
	}
}

func newSharedSpace(limit int64) *sharedSpace {
	s := &sharedSpace{
		limit: limit, counters: newCounterSpace(), windows: newWindowSpace(), places: newPlaceSpace(),
		entries: map[string]*sharedEntry{},
	}
	s.ring.prev, s.ring.next = &s.ring, &s.ring
	return s
}

// get appends the value of key to dst. key is borrowed. cas is never 0.
func (s *sharedSpace) get(dst []byte, key string) (value []byte, cas uint32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil {
		return dst, 0, false
	}
	s.use(e)
	return append(dst, e.value...), e.cas, true
}

// cell returns the cell of the entry called key; nil if there is no such entry. key is borrowed.
func (s *sharedSpace) cell(key []byte) *sharedCell {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[string(key)]
	if e == nil {
		return nil
	}
	s.use(e)
	if e.cell == nil {
		e.cell = new(sharedCell)
		e.show()
		s.bytes += sharedCellBytes
		s.fit(e)
	}
	return e.cell
}

// set stores a value; key and value are borrowed. cas 0 always writes; another one
// must be that of the entry, if there is an entry. A write to an existing entry of
// enough capacity allocates nothing.
func (s *sharedSpace) set(key string, value []byte, cas uint32) abi.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e != nil && cas != 0 && cas != e.cas {
		return abi.StatusCASMismatch
	}
	if size(len(key), len(value)) > s.limit {
		return abi.StatusInternalFailure
	}
	if e == nil {
		e = &sharedEntry{key: strings.Clone(key)}
		s.entries[e.key] = e
		s.bytes += size(len(key), 0)
	} else {
		unlink(e)
	}
	s.bytes -= int64(cap(e.value))
	if cap(e.value) < len(value) || cap(e.value) > 4*len(value)+64 { // do not keep what a short value does not need
		e.value = make([]byte, 0, len(value))
	}
	e.value = append(e.value[:0], value...)
	e.show()
	s.bytes += int64(cap(e.value))
	if s.lastCAS++; s.lastCAS == 0 {
		s.lastCAS = 1
	}
	e.cas = s.lastCAS
	s.front(e)
	s.fit(e)
	return abi.StatusOK
}

// stats returns the bytes held and the number of entries evicted.
func (s *sharedSpace) stats() (bytes int64, evicted uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes, s.evicted
}

func size(key, value int) int64 { return int64(key) + int64(value) + sharedOverhead }

// fit makes room where the limit is passed, for the sake of e.
func (s *sharedSpace) fit(e *sharedEntry) {
	for s.bytes > s.limit {
		s.evict(e)
	}
}

// evict drops the least recently used entry, for the sake of written. One whose cell was read counts
// as used when its turn has come; each once at most, as somebody may be reading all of them all the
// time. written, which is the last to have its turn, is not given up for these.
func (s *sharedSpace) evict(written *sharedEntry) {
	e := s.ring.prev
	for range len(s.entries) {
		if e != written && !e.wasRead() {
			break
		}
		s.use(e)
		e = s.ring.prev
	}
	if e.cell != nil {
		e.cell.numbers.Store(nil)
		s.bytes -= sharedCellBytes
	}
	unlink(e)
	delete(s.entries, e.key)
	s.bytes -= size(len(e.key), cap(e.value))
	s.evicted++
}

// useRead moves what was read through cells to the front.
func (s *sharedSpace) useRead() {
	e := s.ring.prev
	for range len(s.entries) {
		before := e.prev
		if e.wasRead() {
			s.use(e)
		}
		e = before
	}
}

// wasRead reports whether e was read through its cell since this was asked last.
func (e *sharedEntry) wasRead() bool { return e.cell != nil && e.cell.used.Swap(false) }

func (s *sharedSpace) use(e *sharedEntry) {
	unlink(e)
	s.front(e)
}

func (s *sharedSpace) front(e *sharedEntry) {
	e.prev, e.next = &s.ring, s.ring.next
	e.prev.next, e.next.prev = e, e
}

func unlink(e *sharedEntry) { e.prev.next, e.next.prev = e.next, e.prev }
