package objects

import "hash/maphash"

// A queue is a list of objects, the newest first.
type queue struct {
	head, tail *Object
	bytes      int64
}

func (q *queue) push(o *Object) {
	o.queue, o.prev, o.next = q, nil, q.head
	if q.head != nil {
		q.head.prev = o
	} else {
		q.tail = o
	}
	q.head = o
	q.bytes += o.weight
}

func (q *queue) remove(o *Object) {
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		q.head = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	} else {
		q.tail = o.prev
	}
	o.queue, o.prev, o.next = nil, nil, nil
	q.bytes -= o.weight
}

// evictLocked gives up objects that weigh n bytes together (S3-FIFO, 4.2): those that were
// read once at most since they came leave the small queue, those not read since they were
// looked at last leave the main one. What is being read still counts afterwards. The work of one
// call is bounded, so that n bytes may not have become free.
func (s *Space) evictLocked(n int64) {
	chances, evicted := maxChances, 0
	for n > 0 && evicted < maxEvicted {
		q := &s.main
		if s.small.tail != nil && (s.main.tail == nil || s.small.bytes > s.Max()/smallPart) {
			q = &s.small
		}
		o := q.tail
		if o == nil {
			return
		}
		hits := o.hits.Load()
		switch {
		case s.expired(o):
		case q == &s.small && hits > 1 && chances > 0:
			chances--
			q.remove(o)
			o.hits.Store(0)
			s.main.push(o)
			continue
		case q == &s.main && hits > 0 && chances > 0:
			chances--
			q.remove(o)
			o.hits.Store(hits - 1)
			s.main.push(o)
			continue
		case q == &s.small:
			s.ghosts.add(o.key)
		}
		n -= o.weight
		evicted++
		s.removeLocked(o)
	}
}

func (s *Space) expired(o *Object) bool {
	gone := o.Record().Gone
	return !gone.IsZero() && !s.store.now().Before(gone)
}

// ghosts are the keys that have left the small queue lately: one that comes back was
// given up too early and goes to the main one.
type ghosts struct {
	seed  maphash.Seed
	known map[uint64]int // and where in ring
	ring  []uint64
	next  int
}

func (g *ghosts) add(key string) {
	if g.known == nil {
		g.seed, g.known = maphash.MakeSeed(), map[uint64]int{}
	}
	h := maphash.String(g.seed, key)
	if _, ok := g.known[h]; ok {
		return
	}
	if len(g.ring) < maxGhosts {
		g.known[h] = len(g.ring)
		g.ring = append(g.ring, h)
		return
	}
	if old := g.ring[g.next]; g.known[old] == g.next {
		delete(g.known, old)
	}
	g.known[h], g.ring[g.next] = g.next, h
	g.next = (g.next + 1) % maxGhosts
}

// take forgets key and reports whether it was known.
func (g *ghosts) take(key string) bool {
	if g.known == nil {
		return false
	}
	h := maphash.String(g.seed, key)
	_, ok := g.known[h]
	delete(g.known, h)
	return ok
}
