package objects

// A Fill writes an object. It is used by one goroutine, and ends with End or Fail.
type Fill struct {
	o       *Object
	max     int64
	filling filling
}

// FillOptions say what is to be filled.
type FillOptions struct {
	Record Record
	Tags   []string
	Length int64 // bytes that will come; LengthUnknown
	Max    int64 // most bytes that are kept; 0: no bound but the space's
}

// Fill begins an object in the place of what key has, and has others find it at once. It returns nil
// if there is no memory for it, or its Length is more than Max or than the space holds.
func (s *Space) Fill(key string, p FillOptions) *Fill {
	f := s.Prepare(key, p)
	if f != nil {
		f.Show()
	}
	return f
}

// Fits reports whether an object of that length may be kept at all, as FillOptions have it.
func (s *Space) Fits(length, most int64) bool {
	return (most <= 0 || length <= most) && length <= s.Max()
}

// Prepare is Fill, but others do not find the object before Show, for who has something to do
// first that may fail. Until then Fail is all else that is called.
func (s *Space) Prepare(key string, p FillOptions) *Fill {
	if !s.Fits(p.Length, p.Max) {
		return nil
	}
	o := s.newObject(key, &p.Record, p.Tags)
	if !s.reserve(o.fixed()) {
		return nil
	}
	o.length = p.Length
	o.refs.Store(1)
	f := &Fill{o: o, max: p.Max}
	f.filling.room.L = &o.mu
	o.fill = &f.filling
	return f
}

// Show has others find the object, in the place of what its key has.
func (f *Fill) Show() {
	s := f.o.space
	f.o.refs.Add(1) // the index's
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insertLocked(f.o)
}

// Object returns what is being filled; the reference is the fill's.
func (f *Fill) Object() *Object { return f.o }

// Write adds bytes, which it copies. It waits for readers if the object has become a
// window. The error is ErrAbandoned: nobody reads it any more.
func (f *Fill) Write(p []byte) error {
	o := f.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.fill.window && f.max > 0 && o.size+int64(len(p)) > f.max {
		f.becomeWindowLocked()
	}
	for len(p) > 0 {
		n := f.putLocked(p)
		p = p[n:]
		if n > 0 {
			o.tellLocked()
			continue
		}
		if err := f.growLocked(len(p)); err != nil {
			return err
		}
	}
	return nil
}

// putLocked copies what fits into the last chunk.
func (f *Fill) putLocked(p []byte) int {
	o := f.o
	if len(o.chunks) == 0 {
		return 0
	}
	last := &o.chunks[len(o.chunks)-1]
	n := min(len(p), cap(*last)-len(*last))
	*last = append(*last, p[:n]...)
	o.size += int64(n)
	return n
}

// growLocked adds a chunk for at least a part of n bytes, or waits until there may be one.
func (f *Fill) growLocked(n int) error {
	o := f.o
	class := f.class(n)
	size := int64(classSize(class))
	if !o.fill.window {
		if o.space.reserve(size) {
			o.addLocked(class)
			return nil
		}
		f.becomeWindowLocked()
	}
	for {
		if o.readers == nil {
			return ErrAbandoned
		}
		o.trimLocked()
		if o.held+size <= windowBytes && (o.space.reserve(size) || o.held == 0 && o.space.overdraw(size)) {
			o.addLocked(class)
			return nil
		}
		if o.readAllLocked() { // of a window that may not grow: its memory is used again
			o.recycleLocked()
			return nil
		}
		o.fill.room.Wait()
	}
}

func (o *Object) addLocked(class int) {
	o.chunks = append(o.chunks, newChunk(class))
	o.held += int64(classSize(class))
}

// readAllLocked reports whether everybody is done with all that was written.
func (o *Object) readAllLocked() bool {
	for r := o.readers; r != nil; r = r.next {
		if r.done < o.size {
			return false
		}
	}
	return true
}

// recycleLocked uses the only chunk of a window again.
func (o *Object) recycleLocked() {
	c := o.chunks[0]
	o.fill.base += int64(len(c))
	o.fill.dropped++
	o.chunks[0] = c[:0]
}

// class returns the size of the next chunk: what is known to come, or else a part of
// what has come already.
func (f *Fill) class(n int) int {
	o := f.o
	switch {
	case o.fill.window:
		return classes - 1
	case o.length >= o.size+int64(n):
		return classOf(o.length - o.size)
	default:
		return classOf(max(int64(n), firstChunk, o.size))
	}
}

// becomeWindowLocked has nobody find the object any more.
func (f *Fill) becomeWindowLocked() {
	o := f.o
	o.fill.window = true
	o.mu.Unlock() // below the space's lock
	o.space.remove(o)
	o.mu.Lock()
}

// End ends the fill of an object that is whole. One whose length was announced and is
// not what has come fails instead.
func (f *Fill) End(trailers Fields) {
	o := f.o
	o.mu.Lock()
	if o.length >= 0 && o.length != o.size {
		o.mu.Unlock()
		f.Fail(ErrCut)
		return
	}
	o.length, o.whole, o.trailers = o.size, true, trailers
	o.shrinkLocked()
	if n := int64(len(trailers)); n > 0 { // what is over the bounds then, the next chunk makes room for
		o.held += n
		o.space.overdraw(n)
	}
	window := o.fill.window
	o.tellLocked()
	if !window {
		o.fill = &settled
	}
	o.mu.Unlock()
	if !window {
		o.space.filled(o)
	}
	o.Release()
}

// shrinkLocked moves what is in the last chunk into a smaller one, if nobody reads it: most
// objects are small, and half of the memory may be the rest of a chunk.
func (o *Object) shrinkLocked() {
	n := len(o.chunks)
	if n == 0 || o.fill.window || o.readers != nil {
		return
	}
	last := o.chunks[n-1]
	class := classOf(int64(len(last)))
	saved := int64(cap(last) - classSize(class))
	if saved <= 0 {
		return
	}
	o.chunks[n-1] = append(newChunk(class), last...)
	o.held -= saved
	o.space.give(saved)
	freeChunk(last)
}

// Fail ends the fill of an object that will not be whole: its readers get what there is,
// and then err; nobody else finds it.
func (f *Fill) Fail(err error) {
	o := f.o
	o.space.remove(o)
	o.mu.Lock()
	o.fill.failed = err
	o.tellLocked()
	o.mu.Unlock()
	o.Release()
}
