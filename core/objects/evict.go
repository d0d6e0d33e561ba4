package objects

import "slices"

// A queue is a list of objects, the newest first.
type queue struct {
	id         queueID
	head, tail *Object
	bytes      int64
}

// A queueID is one of the queues of a space.
type queueID uint8

const (
	noQueue queueID = iota
	smallQueue
	mainQueue
)

func (q *queue) push(o *Object) {
	o.queue, o.prev, o.next = q.id, nil, q.head
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
	o.queue, o.prev, o.next = noQueue, nil, nil
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
			s.ghosts.add(o.hash)
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
// given up too early and goes to the main one. What is kept of a key is a part of its hash, in a
// set that another part names, the latest first: an access touches one line of the processor's
// cache, and nothing else has to be kept in order. Two keys that are taken for each other, by one
// chance in 2^28, do no harm.
type ghosts struct {
	sets []ghostSet // maxGhosts in all; nil: none so far
}

// A ghostSet is tags of keys; 0: none.
type ghostSet [16]uint32

// find returns the set that a hash belongs to, its tag, and where in the set that is, -1 if it is not.
func (g *ghosts) find(h uint64) (set *ghostSet, tag uint32, at int) {
	set, tag = &g.sets[h>>32%uint64(len(g.sets))], max(uint32(h), 1)
	return set, tag, slices.Index(set[:], tag)
}

func (g *ghosts) add(h uint64) {
	if g.sets == nil {
		g.sets = make([]ghostSet, maxGhosts/len(ghostSet{}))
	}
	set, tag, at := g.find(h)
	if at >= 0 {
		return
	}
	copy(set[1:], set[:])
	set[0] = tag
}

// take forgets a hash and reports whether it was known.
func (g *ghosts) take(h uint64) bool {
	if g.sets == nil {
		return false
	}
	set, _, at := g.find(h)
	if at < 0 {
		return false
	}
	copy(set[at:], set[at+1:])
	set[len(set)-1] = 0
	return true
}
