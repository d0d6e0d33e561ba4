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

// numbers returns the first two u64 of a value that has them. key is borrowed.
func (s *sharedSpace) numbers(key []byte) (first, second uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[string(key)]
	if e == nil || len(e.value) < 16 {
		return 0, 0, false
	}
	s.use(e)
	return binary.LittleEndian.Uint64(e.value), binary.LittleEndian.Uint64(e.value[8:]), true
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
	s.bytes += int64(cap(e.value))
	if s.lastCAS++; s.lastCAS == 0 {
		s.lastCAS = 1
	}
	e.cas = s.lastCAS
	s.front(e)
	for s.bytes > s.limit {
		s.evict()
	}
	return abi.StatusOK
}

// stats returns the bytes held and the number of entries evicted.
func (s *sharedSpace) stats() (bytes int64, evicted uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes, s.evicted
}

func size(key, value int) int64 { return int64(key) + int64(value) + sharedOverhead }

// evict drops the least recently used entry.
func (s *sharedSpace) evict() {
	e := s.ring.prev
	unlink(e)
	delete(s.entries, e.key)
	s.bytes -= size(len(e.key), cap(e.value))
	s.evicted++
}

func (s *sharedSpace) use(e *sharedEntry) {
	unlink(e)
	s.front(e)
}

func (s *sharedSpace) front(e *sharedEntry) {
	e.prev, e.next = &s.ring, s.ring.next
	e.prev.next, e.next.prev = e, e
}

func unlink(e *sharedEntry) { e.prev.next, e.next.prev = e.next, e.prev }
