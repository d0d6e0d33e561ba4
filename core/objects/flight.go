package objects

import (
	"sync"
	"unsafe"
)

// An Outcome is what those who wait for a flight are told.
type Outcome uint8

// The outcomes.
const (
	Stored   Outcome = iota // there is an object, perhaps another one than they hoped for
	Unstored                // there was an answer, which may not be stored
	Failed                  // there was none: who led has gone
)

// A Waiter is told how a flight ended, once, on whatever goroutine: it must not block, and
// not call the space.
type Waiter interface{ Landed(f *Flight, o Outcome) }

// A Flight is under way to get what will be stored under a key. It is its leader's until Land, and
// may be that of another exchange afterwards, if nobody has joined it.
type Flight struct {
	space   *Space
	key     string
	room    []byte   // memory of key, if Lead has copied it
	waiters []Waiter // guarded by space.flightMu
	joined  bool     // somebody beside the leader has it; guarded by space.flightMu
}

var flightPool sync.Pool // *Flight

// Join returns the flight for key. If there was none, the caller leads it, and has to end
// it with Land; otherwise w waits for it.
func (s *Space) Join(key string, w Waiter) (f *Flight, leads bool) {
	s.flightMu.Lock()
	defer s.flightMu.Unlock()
	if f = s.flights[key]; f != nil {
		f.waiters, f.joined = append(f.waiters, w), true
		return f, false
	}
	f = newFlight()
	s.beginLocked(f, key)
	return f, true
}

// Landings returns how many flights of the space have ended, for Lead.
func (s *Space) Landings() uint64 { return s.landings.Load() }

// Lead returns a flight for key, which the caller has to end with Land, if there is none; if there
// is one it returns false, and registers nobody. key is copied if it leads, and may be borrowed. landed:
// another flight has ended since there were seen, by Landings, and what it has brought may be found now, which it was
// not if the caller looked for it since.
func (s *Space) Lead(key string, seen uint64) (f *Flight, leads, landed bool) {
	s.flightMu.Lock()
	defer s.flightMu.Unlock()
	if s.flights[key] != nil {
		return nil, false, false
	}
	f = newFlight()
	f.room = append(f.room[:0], key...)
	s.beginLocked(f, unsafe.String(unsafe.SliceData(f.room), len(f.room)))
	return f, true, s.landings.Load() != seen
}

func (s *Space) beginLocked(f *Flight, key string) {
	f.space, f.key = s, key
	s.flights[key] = f
}

func newFlight() *Flight {
	if f, ok := flightPool.Get().(*Flight); ok {
		return f
	}
	return new(Flight)
}

// free takes back a flight that nobody has any more.
func (f *Flight) free() {
	if cap(f.room) > keptKey {
		f.room = nil
	}
	*f = Flight{room: f.room}
	flightPool.Put(f)
}

// Flying reports whether there is a flight for key.
func (s *Space) Flying(key string) bool {
	s.flightMu.Lock()
	defer s.flightMu.Unlock()
	return s.flights[key] != nil
}

// Land ends the flight, once; only who leads calls it.
func (f *Flight) Land(o Outcome) {
	s := f.space
	s.flightMu.Lock()
	waiters, joined := f.waiters, f.joined
	f.waiters = nil
	s.landings.Add(1)
	if s.flights[f.key] == f {
		delete(s.flights, f.key)
	}
	s.flightMu.Unlock()
	if !joined {
		f.free()
		return
	}
	for _, w := range waiters {
		w.Landed(f, o)
	}
}

// Leave has w not be told.
func (f *Flight) Leave(w Waiter) {
	f.space.flightMu.Lock()
	defer f.space.flightMu.Unlock()
	for i := range f.waiters {
		if f.waiters[i] == w {
			f.waiters = append(f.waiters[:i], f.waiters[i+1:]...)
			return
		}
	}
}
