package objects

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

// A Flight is under way to get what will be stored under a key.
type Flight struct {
	space   *Space
	key     string
	waiters []Waiter // guarded by space.flightMu
}

// Join returns the flight for key. If there was none, the caller leads it, and has to end
// it with Land; otherwise w waits for it.
func (s *Space) Join(key string, w Waiter) (f *Flight, leads bool) {
	s.flightMu.Lock()
	defer s.flightMu.Unlock()
	if f = s.flights[key]; f != nil {
		f.waiters = append(f.waiters, w)
		return f, false
	}
	f = &Flight{space: s, key: key}
	s.flights[key] = f
	return f, true
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
	waiters := f.waiters
	f.waiters = nil
	if s.flights[f.key] == f {
		delete(s.flights, f.key)
	}
	s.flightMu.Unlock()
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
