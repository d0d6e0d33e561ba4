package objects

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what a Store is. The zero value works.
type Options struct {
	Bytes int64            // what all spaces hold together; 0: DefaultBytes
	Now   func() time.Time // nil: time.Now
}

// A Store holds the objects of a process. It is safe for concurrent use, as its spaces are.
type Store struct {
	max  atomic.Int64
	now  func() time.Time
	used atomic.Int64
	last atomic.Uint64 // Identity that was given last

	mu     sync.Mutex
	spaces map[string]*Space
}

// New returns an empty Store.
func New(o Options) *Store {
	s := &Store{now: o.Now, spaces: map[string]*Space{}}
	s.max.Store(DefaultBytes)
	if o.Bytes > 0 {
		s.max.Store(o.Bytes)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Limit sets what all spaces hold together. What is over where that is less than it was is
// given up by and by, as in [Space.Limit].
func (s *Store) Limit(bytes int64) { s.max.Store(max(bytes, 0)) }

// Used returns the bytes that are held.
func (s *Store) Used() int64 { return s.used.Load() }

// Space returns the space called name, which it makes if there is none.
func (s *Store) Space(name string) *Space {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.spaces[name]
	if p == nil {
		p = &Space{
			store: s, seed: maphash.MakeSeed(), index: map[uint64]*Object{}, far: map[string]*Object{},
			tagged: map[string]map[*Object]struct{}{}, small: queue{id: smallQueue}, main: queue{id: mainQueue}, flights: map[string]*Flight{},
		}
		p.max.Store(DefaultSpaceBytes)
		s.spaces[name] = p
	}
	return p
}

// Each calls f for every space.
func (s *Store) Each(f func(name string, p *Space)) {
	s.mu.Lock()
	all := maps.Clone(s.spaces)
	s.mu.Unlock()
	for name, p := range all {
		f(name, p)
	}
}

// A Space is the objects of one owner.
type Space struct {
	store *Store
	max   atomic.Int64
	used  atomic.Int64

	seed maphash.Seed // of the hashes of keys

	mu sync.RWMutex
	// index has lists of objects by the hash of the first line of their keys: most lists have one, so that one look
	// tells that a key has nothing, and one entry is all that an object takes. No more than maxNear of a list are
	// compared with a key; they are its first. Further ones are found in far. Guarded by mu, as what follows.
	index  map[uint64]*Object
	far    map[string]*Object
	count  int // of objects that are found
	tagged map[string]map[*Object]struct{}
	small  queue
	main   queue
	ghosts ghosts

	flightMu sync.Mutex
	flights  map[string]*Flight // guarded by flightMu
	landings atomic.Uint64      // how many flights have ended
}

// Limit sets what the space holds; no more than its store does. Where that is less than it
// was, what is over is given up with what comes next, and so by and by: the caller does not wait
// for all of it.
func (s *Space) Limit(bytes int64) {
	bytes = max(bytes, 0)
	if s.max.Load() != bytes && s.max.Swap(bytes) > bytes {
		s.mu.Lock()
		s.evictLocked(s.used.Load() - bytes)
		s.mu.Unlock()
	}
}

// Max returns the most bytes that it holds: what Limit has set, or the store's if that
// is less.
func (s *Space) Max() int64 { return min(s.max.Load(), s.store.max.Load()) }

// Used returns the bytes that the space holds, and how many objects are found there.
func (s *Space) Used() (bytes int64, objects int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.used.Load(), s.count
}

// Get returns what is stored under key, with a reference for the caller, or nil. An object
// that is not whole yet is found too.
func (s *Space) Get(key string) *Object {
	o := s.Find(key)
	if o != nil {
		o.Touch()
	}
	return o
}

// Find is Get for who does not know yet whether the object is of use to him: see [Object.Touch].
func (s *Space) Find(key string) *Object {
	line := maphash.String(s.seed, firstLine(key))
	s.mu.RLock()
	o := s.findLocked(line, key)
	ok := o != nil && o.acquire()
	s.mu.RUnlock()
	if !ok {
		return nil
	}
	if gone := o.Record().Gone; !gone.IsZero() && !s.store.now().Before(gone) {
		s.remove(o)
		o.Release()
		return nil
	}
	return o
}

// Put stores an object without bytes. It reports whether there was memory for it.
func (s *Space) Put(key string, r Record, tags []string) bool {
	return s.PutWhole(key, &Whole{Record: r, Tags: tags})
}

// Update replaces the record of an object by what edit makes of it, and reports whether it is
// still what is stored under its key and there is memory for it.
func (s *Space) Update(o *Object, r Record) bool {
	s.identify(&r)
	s.mu.Lock()
	defer s.mu.Unlock()
	return o.found && s.replaceLocked(o, &r)
}

// Annotate replaces the note of old, and reports whether old is still the record of o, o what is stored under its key,
// and there is memory for it. The record stays the same by its Identity.
func (s *Space) Annotate(o *Object, old *Record, n Note) bool {
	r := *old
	r.Note = n
	s.mu.Lock()
	defer s.mu.Unlock()
	return o.found && o.Record() == old && s.replaceLocked(o, &r)
}

// replaceLocked has r be the record of o, if there is memory for it.
func (s *Space) replaceLocked(o *Object, r *Record) bool {
	more := o.updated(r) - o.updated(o.Record())
	if more > 0 && !s.reserveLocked(more) { // for which o itself may have to go
		return false
	}
	if more < 0 {
		s.give(-more)
	}
	o.record.Store(r)
	switch o.queue {
	case smallQueue:
		s.small.bytes += more
	case mainQueue:
		s.main.bytes += more
	case noQueue:
		return true
	}
	o.weight += more
	return true
}

// identify makes r a record that is not any other.
func (s *Space) identify(r *Record) { r.identity = Identity(s.store.last.Add(1)) }

// Delete removes what is stored under key, and reports whether there was something.
func (s *Space) Delete(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.findLocked(maphash.String(s.seed, firstLine(key)), key)
	if o == nil {
		return false
	}
	s.removeLocked(o)
	return true
}

// DeletePrefix removes all whose keys begin with prefix, and returns how many. It looks at
// every key, unless prefix is a line with the line feed at its end.
func (s *Space) DeletePrefix(prefix string) int {
	if prefix != "" && strings.IndexByte(prefix, '\n') == len(prefix)-1 {
		return s.deleteLine(prefix)
	}
	var list []*Object
	s.mu.RLock()
	for _, o := range s.index {
		for ; o != nil; o = o.kin {
			if strings.HasPrefix(o.key, prefix) {
				list = append(list, o)
			}
		}
	}
	s.mu.RUnlock()
	return s.removeAll(list)
}

// deleteLine is DeletePrefix for a line, which may have a million of keys: others have their turn in between. Most
// lines that are deleted have none, which it finds out beside everybody else.
func (s *Space) deleteLine(line string) (n int) {
	hash := maphash.String(s.seed, line)
	s.mu.RLock()
	more := s.index[hash] != nil
	s.mu.RUnlock()
	for more {
		more = false
		part := 0
		s.mu.Lock()
		for o := s.index[hash]; o != nil && !more; {
			next := o.kin
			switch {
			case !strings.HasPrefix(o.key, line): // two lines, by chance
			case part == maxEvicted:
				more = true
			default:
				s.removeLocked(o)
				part++
			}
			o = next
		}
		s.mu.Unlock()
		n += part
	}
	return n
}

// DeleteTag removes all that have the tag, and returns how many.
func (s *Space) DeleteTag(tag string) int {
	s.mu.RLock()
	list := make([]*Object, 0, len(s.tagged[tag]))
	for o := range s.tagged[tag] {
		list = append(list, o)
	}
	s.mu.RUnlock()
	return s.removeAll(list)
}

// removeAll removes what is still found of a list, and returns how many that were. Others have their
// turn in between: there may be a million.
func (s *Space) removeAll(list []*Object) (n int) {
	for part := range slices.Chunk(list, maxEvicted) {
		s.mu.Lock()
		for _, o := range part {
			if o.found {
				s.removeLocked(o)
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}

// newObject returns an object that is not found yet and not counted.
func (s *Space) newObject(key string, r *Record, tags []string) *Object {
	o := &Object{space: s, key: key, tags: tags[:min(len(tags), maxTags)], first: *r, length: LengthUnknown, fill: &settled}
	s.identify(&o.first)
	line := firstLine(key)
	o.line = maphash.String(s.seed, line)
	o.hash = o.line
	if rest := key[len(line):]; rest != "" {
		o.hash = o.hash*oddHash + maphash.String(s.seed, rest)
	}
	o.chunks = o.one[:0]
	o.record.Store(&o.first)
	return o
}

// oddHash tells what is before a part of a key from what is behind it.
const oddHash = 0x9e3779b97f4a7c15

// firstLine returns key up to its first line feed, with that; all of it if it has none.
func firstLine(key string) string {
	if i := strings.IndexByte(key, '\n'); i >= 0 {
		return key[:i+1]
	}
	return key
}

// findLocked returns what is found under a key, whose first line has the hash line, or nil.
func (s *Space) findLocked(line uint64, key string) *Object {
	o := s.index[line]
	for ; o != nil && !o.far; o = o.kin {
		if o.key == key {
			return o
		}
	}
	if o == nil {
		return nil
	}
	return s.far[key]
}

// insertLocked has o found under its key.
func (s *Space) insertLocked(o *Object) {
	if old := s.findLocked(o.line, o.key); old != nil {
		s.removeLocked(old)
	}
	o.found = true
	s.count++
	s.linkLocked(o)
	for _, t := range o.tags {
		if s.tagged[t] == nil {
			s.tagged[t] = map[*Object]struct{}{}
		}
		s.tagged[t][o] = struct{}{}
	}
}

// remove has o not be found any more, if it is.
func (s *Space) remove(o *Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.found {
		s.removeLocked(o)
	}
}

func (s *Space) removeLocked(o *Object) {
	o.found = false
	s.count--
	s.unlinkLocked(o)
	for _, t := range o.tags {
		delete(s.tagged[t], o)
		if len(s.tagged[t]) == 0 {
			delete(s.tagged, t)
		}
	}
	switch o.queue {
	case smallQueue:
		s.small.remove(o)
	case mainQueue:
		s.main.remove(o)
	case noQueue: // it is being filled
	}
	o.Release()
}

// linkLocked puts o into the list of its line.
func (s *Space) linkLocked(o *Object) {
	head := s.index[o.line]
	var last *Object // of those that are compared
	near := 0
	for p := head; p != nil && !p.far; p = p.kin {
		last = p
		near++
	}
	if near < maxNear {
		if o.kin = head; head != nil {
			head.elder = o
		}
		s.index[o.line] = o
		return
	}
	o.far = true
	s.far[o.key] = o
	o.elder, o.kin = last, last.kin
	if last.kin = o; o.kin != nil {
		o.kin.elder = o
	}
}

// unlinkLocked takes o out of the list of its line.
func (s *Space) unlinkLocked(o *Object) {
	if o.far {
		delete(s.far, o.key)
	}
	if o.kin != nil {
		o.kin.elder = o.elder
	}
	switch {
	case o.elder != nil:
		o.elder.kin = o.kin
	case o.kin != nil:
		s.index[o.line] = o.kin
	default:
		delete(s.index, o.line)
	}
	o.kin, o.elder = nil, nil
}

// filled makes o, which is whole, one that may be evicted.
func (s *Space) filled(o *Object) {
	o.mu.Lock()
	weight := o.held
	o.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !o.found || o.queue != noQueue {
		return
	}
	o.weight = weight + o.fixed()
	s.queueLocked(o)
}

// queueLocked has o be evicted some time.
func (s *Space) queueLocked(o *Object) {
	if s.ghosts.take(o.hash) {
		s.main.push(o)
		return
	}
	s.small.push(o)
}

// reserve counts n bytes, for which it may evict; false: there is no room.
func (s *Space) reserve(n int64) bool {
	if s.add(n) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reserveLocked(n)
}

func (s *Space) reserveLocked(n int64) bool {
	if s.add(n) {
		return true
	}
	over := max(s.used.Load()+n-s.max.Load(), s.store.used.Load()+n-s.store.max.Load())
	s.evictLocked(over)
	return s.add(n)
}

// add counts n bytes if they are within both bounds.
func (s *Space) add(n int64) bool {
	if s.used.Add(n) > s.max.Load() {
		s.used.Add(-n)
		return false
	}
	if s.store.used.Add(n) > s.store.max.Load() {
		s.give(n)
		return false
	}
	return true
}

// overdraw counts n bytes whatever the bounds: a window has to have something. There are
// at most as many as exchanges, each of which holds as much in its codec.
func (s *Space) overdraw(n int64) bool {
	s.used.Add(n)
	s.store.used.Add(n)
	return true
}

// give takes n bytes out of the count.
func (s *Space) give(n int64) {
	s.used.Add(-n)
	s.store.used.Add(-n)
}
