package objects

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A Record is what there is to know about an object besides its bytes. It is immutable;
// an update makes another one.
type Record struct {
	Status int
	Fields Fields
	Meta   []byte    // its owner's
	Gone   time.Time // from then on nobody finds it; zero: never

	Promise Promise // its owner's too
	Note    Note    // likewise; nil: none

	identity Identity // set when it is stored
}

// An Identity is that of a record in its store: no other one has it, whatever its key, but those that differ in
// their notes alone ([Space.Annotate]). 0: that of a record that was not stored.
type Identity uint64

// Identity returns that of the record.
func (r *Record) Identity() Identity { return r.identity }

// A Note is what the owner of a record keeps with it in another form than bytes, immutable as all
// of a record. Size is what it costs, in bytes.
type Note interface{ Size() int64 }

// A Promise is until when a message may be served without asking its owner, as its age goes: it
// is Age seconds old at Since, and good while it is less than Lifetime seconds old. The zero
// value is good at no time.
type Promise struct{ Since, Age, Lifetime int64 }

// At returns the age at a time, in seconds since 1970, and whether the promise is good then.
func (p *Promise) At(now int64) (age int64, ok bool) {
	age = p.Age + max(now-p.Since, 0)
	return age, age < p.Lifetime
}

// size is what a record costs.
func (r *Record) size() int64 {
	return int64(len(r.Meta)+len(r.Fields)) + r.noteSize()
}

// noteSize is what its note costs.
func (r *Record) noteSize() int64 {
	if r.Note == nil {
		return 0
	}
	return r.Note.Size()
}

// LengthUnknown is the length of an object that is not whole and whose source does not say
// how long it will be.
const LengthUnknown = -1

// Errors of fills and readers.
var (
	// ErrAbandoned is returned to the fill of a window that nobody reads any more.
	ErrAbandoned = errors.New("objects: nobody reads what is too large to be kept")
	// ErrCut is what a reader gets if the fill has failed.
	ErrCut = errors.New("objects: the fill has failed")
	// ErrPassed is returned for bytes of a window that are gone.
	ErrPassed = errors.New("objects: the bytes are not there any more")
)

// An Object is what is stored under a key. Who has one, from Get or of a fill, has a
// reference, and gives it back by Release.
type Object struct {
	// Immutable.
	space *Space
	key   string
	line  uint64 // hash of the first line of the key
	hash  uint64 // of all of it
	tags  []string
	first Record // what record refers to until there is an update; most objects see none

	record atomic.Pointer[Record]
	refs   atomic.Int32 // the index, the fill, and everybody who has it
	hits   atomic.Int32 // for eviction, up to maxFrequency

	// Guarded by space.mu.
	prev, next *Object // in its queue
	weight     int64   // what the queue has counted for it
	kin, elder *Object // the neighbours among those whose keys have the same first line
	queue      queueID // that it is in
	found      bool    // the index has it
	far        bool    // by its whole key: see Space.index

	mu       sync.Mutex
	whole    bool     // the fill has ended well
	fill     *filling // of one that is not whole, or a window; settled for others
	chunks   []chunk  // guarded by mu, as is what follows
	one      [1]chunk // memory of chunks; most objects have one
	size     int64    // bytes written so far
	held     int64    // memory of the chunks and the trailers
	length   int64    // what it will be; LengthUnknown
	readers  *Reader  // a list
	trailers Fields
}

// A filling is what there is to an object while it is filled, and for as long as it is a window.
// Guarded by Object.mu.
type filling struct {
	room    sync.Cond     // on Object.mu: told when a window may go on
	dropped int           // chunks of a window before the first of the object's
	base    int64         // bytes in those
	failed  error         // the fill has
	window  bool          // nobody else may find the object
	changed chan struct{} // closed at the next change; nil: nobody waits
}

// settled is the filling of every object that is whole and no window. Nobody writes to it.
var settled filling

// Key returns the key.
func (o *Object) Key() string { return o.key }

// Record returns what is known about the object at the moment.
func (o *Object) Record() *Record { return o.record.Load() }

// Length returns how many bytes the object has, or will have, and whether it is whole.
func (o *Object) Length() (n int64, whole bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.length, o.whole
}

// Trailers returns the trailer fields of an object that is whole.
func (o *Object) Trailers() Fields {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.trailers
}

// Touch notes that o was of use, which Get does by itself and Find does not.
func (o *Object) Touch() {
	if n := o.hits.Load(); n < maxFrequency {
		o.hits.CompareAndSwap(n, n+1) // one that is lost does not matter
	}
}

// acquire adds a reference, unless the object is gone.
func (o *Object) acquire() bool {
	for {
		n := o.refs.Load()
		if n == 0 {
			return false
		}
		if o.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives a reference back. The bytes go with the last one.
func (o *Object) Release() {
	if o.refs.Add(-1) > 0 {
		return
	}
	o.mu.Lock()
	chunks, held := o.chunks, o.held
	o.chunks, o.held = nil, 0
	o.mu.Unlock()
	for _, c := range chunks {
		freeChunk(c)
	}
	o.space.give(held + o.fixed())
}

// fixed is what the object costs beside its chunks and its record's changes. A record
// that replaces another is counted by the one who replaces it, and the first one stays: it is a part
// of the object.
func (o *Object) fixed() int64 {
	n := objectOverhead + int64(len(o.key)) + o.first.size()
	for _, t := range o.tags {
		n += int64(len(t)) + tagOverhead
	}
	return n + o.updated(o.record.Load())
}

// updated is what a record of the object costs beside the first.
func (o *Object) updated(r *Record) int64 {
	if r == &o.first {
		return 0
	}
	if r.identity == o.first.identity { // another note: all else is the first's
		return r.noteSize() + recordOverhead
	}
	return r.size() + recordOverhead
}

// tellLocked wakes who waits for a change.
func (o *Object) tellLocked() {
	if o.fill.changed != nil {
		close(o.fill.changed)
		o.fill.changed = nil
	}
	o.fill.room.Broadcast()
}

// A Reader reads a part of an object. It is used by one goroutine.
type Reader struct {
	o          *Object
	prev, next *Reader // in o.readers

	// Guarded by o.mu.
	pos   int64 // of the next byte
	done  int64 // bytes before it are not looked at any more
	end   int64 // where the part ends; -1: with the object
	chunk int   // number of the chunk that pos is in, dropped ones counted
	start int64 // where that chunk begins
}

// Read readies r for reading n bytes from offset off on; n < 0: all that follow. It takes a
// reference, which Close gives back. The error is ErrPassed for bytes that a window has
// let go of.
func (o *Object) Read(r *Reader, off, n int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if off < o.fill.base {
		return ErrPassed
	}
	if !o.acquire() {
		return ErrPassed
	}
	*r = Reader{o: o, pos: off, done: off, end: -1, chunk: o.fill.dropped, start: o.fill.base, next: o.readers}
	if n >= 0 {
		r.end = off + n
	}
	if o.readers != nil {
		o.readers.prev = r
	}
	o.readers = r
	return nil
}

// Next returns the bytes that follow, which are valid until the next call of Next or Close. At
// the end of the part they are empty and wait is nil. If nothing is at hand they are empty and
// wait is closed when there may be. The error is ErrCut, with the reason, if nothing will follow that should.
func (r *Reader) Next() (p []byte, wait <-chan struct{}, err error) {
	o := r.o
	o.mu.Lock()
	defer o.mu.Unlock()
	r.done = r.pos
	if o.fill.window {
		o.trimLocked()
		o.fill.room.Broadcast() // also if nothing was freed: the last chunk may be used again
	}
	if r.chunk < o.fill.dropped { // its chunk has gone: all of that was read
		r.chunk, r.start = o.fill.dropped, o.fill.base
	}
	if r.end >= 0 && r.pos >= r.end {
		return nil, nil, nil
	}
	for r.chunk-o.fill.dropped < len(o.chunks) {
		c := o.chunks[r.chunk-o.fill.dropped]
		at := r.pos - r.start
		if at >= int64(len(c)) {
			if r.chunk-o.fill.dropped == len(o.chunks)-1 {
				break // it may still grow
			}
			r.start += int64(len(c))
			r.chunk++
			continue
		}
		p = c[at:]
		if r.end >= 0 && int64(len(p)) > r.end-r.pos {
			p = p[:r.end-r.pos]
		}
		r.pos += int64(len(p))
		return p, nil, nil
	}
	switch {
	case o.whole:
		return nil, nil, nil
	case o.fill.failed != nil:
		return nil, nil, errors.Join(ErrCut, o.fill.failed)
	}
	if o.fill.changed == nil {
		o.fill.changed = make(chan struct{})
	}
	return nil, o.fill.changed, nil
}

// Close ends the reading, and may be called again.
func (r *Reader) Close() {
	o := r.o
	if o == nil {
		return
	}
	o.mu.Lock()
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		o.readers = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	if o.fill.window {
		o.trimLocked()
		o.fill.room.Broadcast() // there may be no readers left
	}
	o.mu.Unlock()
	*r = Reader{}
	o.Release()
}

// trimLocked gives the chunks of a window back that all readers are done with.
func (o *Object) trimLocked() {
	least := o.size
	for r := o.readers; r != nil; r = r.next {
		least = min(least, r.done)
	}
	var freed int64
	for len(o.chunks) > 1 && o.fill.base+int64(len(o.chunks[0])) <= least {
		c := o.chunks[0]
		o.fill.base += int64(len(c))
		o.fill.dropped++
		freed += int64(cap(c))
		o.chunks[0] = nil
		o.chunks = o.chunks[1:]
		freeChunk(c)
	}
	if freed > 0 {
		o.held -= freed
		o.space.give(freed)
		o.fill.room.Broadcast()
	}
}
