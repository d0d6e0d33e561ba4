package objects

// A Whole is an object whose bytes are all at hand. What it refers to is the object's once it is
// stored, but for Body.
type Whole struct {
	Record   Record
	Tags     []string
	Max      int64  // most bytes; 0: no bound but the space's
	Body     []byte // copied
	Trailers Fields // behind it
}

// PutWhole stores an object in one go, in the place of what key has: what a fill with one Write
// comes to, for less. It reports whether there was memory for it, and it was neither larger than
// Max nor than the space.
func (s *Space) PutWhole(key string, w *Whole) bool { return s.putWhole(key, w, 1) != nil }

// KeepWhole is PutWhole for who goes on to read the object: it has a reference for the caller. nil:
// it was not stored.
func (s *Space) KeepWhole(key string, w *Whole) *Object { return s.putWhole(key, w, 2) }

func (s *Space) putWhole(key string, w *Whole, refs int32) *Object {
	size := int64(len(w.Body))
	if !s.Fits(size, w.Max) {
		return nil
	}
	o := s.newObject(key, &w.Record, w.Tags)
	o.length, o.size, o.whole, o.trailers = size, size, true, w.Trailers
	o.refs.Store(refs) // the first is the index's
	o.held = chunkBytes(size) + int64(len(w.Trailers))
	o.weight = o.held + o.fixed()
	// All that needs no lock is done before it is taken: lookups wait for who has it.
	counted := s.add(o.weight)
	o.chunks = appendChunks(o.chunks, w.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !counted && !s.reserveLocked(o.weight) {
		for _, c := range o.chunks {
			freeChunk(c)
		}
		return nil
	}
	s.insertLocked(o)
	s.queueLocked(o)
	return o
}
