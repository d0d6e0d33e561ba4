package host

import (
	"math"
	"sync"
)

// A placeSpace has the places of keys that streams of one vm_id hold, and those that are
// kept (abi.ForeignAcquireCounter, abi.ForeignLeaseCounter). Its lock is below a VM's, and
// nothing waits under it. It has an entry for each key of which a stream has a place, and
// maxKept of others.
type placeSpace struct {
	mu   sync.Mutex
	keys map[uint64]places
	kept int   // keys with kept places
	due  int64 // when it is worth looking for what may be forgotten
}

// places are those of one key.
type places struct {
	held, kept int64
	forget     int64 // when kept is forgotten
}

// A placeAsk is what is asked for.
type placeAsk struct {
	tag    uint64
	most   int64 // places there are
	forget int64 // nanoseconds
}

func newPlaceSpace() *placeSpace {
	return &placeSpace{keys: map[uint64]places{}, due: math.MinInt64}
}

// at returns the places of a key, without what is to be forgotten.
func (s *placeSpace) atLocked(tag uint64, now int64) places {
	p := s.keys[tag]
	if p.kept > 0 && p.forget <= now {
		p.kept = 0
		s.kept--
		s.putLocked(tag, p)
	}
	return p
}

func (s *placeSpace) putLocked(tag uint64, p places) {
	if p.held == 0 && p.kept == 0 {
		delete(s.keys, tag)
		return
	}
	s.keys[tag] = p
}

// take takes a place if one is left.
func (s *placeSpace) take(a placeAsk, now int64) (got bool, p places) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p = s.atLocked(a.tag, now)
	if got = p.held+p.kept < a.most; got {
		p.held++
	}
	if p.kept > 0 {
		p.forget = max(p.forget, now+a.forget)
	}
	s.putLocked(a.tag, p)
	return got, p
}

// release gives a place back that is held.
func (s *placeSpace) release(tag uint64) places {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.keys[tag]
	p.held--
	s.putLocked(tag, p)
	return p
}

// keep makes a place that is held a kept one. It fails if there are too many of those; the
// place is held then as before.
func (s *placeSpace) keep(a placeAsk, now int64) (done bool, p places, looked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p = s.atLocked(a.tag, now)
	if p.kept == 0 {
		if s.kept >= maxKept {
			looked = s.forgetLocked(now)
		}
		if s.kept >= maxKept {
			return false, p, looked
		}
		s.kept++
	}
	p.held, p.kept, p.forget = p.held-1, p.kept+1, max(p.forget, now+a.forget)
	s.keys[a.tag] = p
	return true, p, looked
}

// forgetLocked forgets what has been kept for long enough.
func (s *placeSpace) forgetLocked(now int64) (looked int) {
	if now < s.due {
		return 0
	}
	looked, s.due = len(s.keys), math.MaxInt64
	for tag, p := range s.keys {
		switch {
		case p.kept == 0:
		case p.forget <= now:
			p.kept = 0
			s.kept--
			s.putLocked(tag, p)
		default:
			s.due = min(s.due, p.forget)
		}
	}
	return looked
}

// holds returns the index of a place of a key that the context holds, or -1.
func (c *Context) holds(tag uint64) int {
	for i, t := range c.held {
		if t == tag {
			return i
		}
	}
	return -1
}

// unhold gives all places back that the context holds. The VM's lock is held.
func (c *Context) unhold(s *placeSpace) {
	for _, tag := range c.held {
		s.release(tag)
	}
	c.held = c.held[:0]
}
