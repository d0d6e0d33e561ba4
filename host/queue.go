package host

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"wproxy/abi"
)

// Shared queues (abi.md 4.10). A queue belongs to a vm_id and lives as long as the shared
// data of it: while a plugin with that vm_id is loaded, so over reloads. Locks are taken
// in the order VM, sharedStore, sharedSpace, queue, and none of them but the VM's is held
// while a guest runs.

// A queue is one shared queue.
type queue struct {
	store *sharedStore
	space *sharedSpace // of the vm_id that it belongs to
	name  string
	token uint32

	mu        sync.Mutex
	gone      bool // with its space
	items     [][]byte
	head      int            // items before it have been taken
	consumers []*rootContext // alive; the one that registered last is at the end
	owed      int            // calls of on_queue_ready to be made
	running   bool           // run is
}

// registerQueue opens the queue of sp's vm_id called name, or finds it, and makes base its
// consumer. False when there are too many.
func (s *sharedStore) registerQueue(sp *sharedSpace, name string, base *rootContext) (token uint32, ok bool) {
	s.mu.Lock()
	q := s.queueLocked(sp, name)
	s.mu.Unlock()
	if q == nil || !sp.learn(q) {
		return 0, false
	}
	if !slices.Contains(base.queues, q) {
		base.queues = append(base.queues, q)
	}
	q.register(base)
	return q.token, true
}

// resolveQueue finds a queue of another vm_id for sp. full tells that sp knows too many.
func (s *sharedStore) resolveQueue(sp *sharedSpace, vmID, name string) (token uint32, found, full bool) {
	s.mu.Lock()
	var q *queue
	if of := s.spaces[vmID]; of != nil {
		q = of.queues[name]
	}
	s.mu.Unlock()
	if q == nil {
		return 0, false, false
	}
	if !sp.learn(q) {
		return 0, true, true
	}
	return q.token, true, false
}

// learn lets the plugins of sp's vm_id use q by its token. Without that a guest could try
// the numbers of queues that it was told nothing of.
func (s *sharedSpace) learn(q *queue) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[q.token] == q {
		return true
	}
	if len(s.known) >= maxKnownQueues {
		for token, old := range s.known {
			if old.isGone() {
				delete(s.known, token)
			}
		}
		if len(s.known) >= maxKnownQueues {
			return false
		}
	}
	if s.known == nil {
		s.known = map[uint32]*queue{}
	}
	s.known[q.token] = q
	return true
}

// queue returns the queue that guests of s know by token, or nil.
func (s *sharedSpace) queue(token uint32) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[token]
}

// closeQueues ends the queues of a space whose last plugin has gone. sharedStore.mu is held.
func (s *sharedSpace) closeQueues() {
	for _, q := range s.queues {
		q.mu.Lock()
		q.gone, q.items, q.consumers = true, nil, nil
		q.mu.Unlock()
	}
	s.queues = nil
}

// list returns all queues there are.
func (s *sharedStore) list() []*queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*queue
	for _, sp := range s.spaces {
		for _, q := range sp.queues {
			all = append(all, q)
		}
	}
	slices.SortFunc(all, func(a, b *queue) int { return int(a.token) - int(b.token) })
	return all
}

func (q *queue) isGone() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.gone
}

// register makes base the consumer. It is told of what is in the queue already, if it is
// new: the one before may have died over it. One that registers again is not: it could do
// that each time it is told, and would be told for ever.
func (q *queue) register(base *rootContext) {
	q.mu.Lock()
	defer q.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(q.consumers), func(c *rootContext) bool { return c == base })
	if len(others) == len(q.consumers) {
		q.owed = q.sizeLocked()
	}
	q.consumers = append(others, base)
	q.kickLocked()
}

// leave takes base out of the consumers; the one that registered before it follows.
func (q *queue) leave(base *rootContext) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.consumers = slices.DeleteFunc(q.consumers, func(c *rootContext) bool { return c == base })
	q.owed = q.sizeLocked()
	q.kickLocked()
}

// kick sees to it that the consumer is called if it has to be.
func (q *queue) kick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.kickLocked()
}

func (q *queue) kickLocked() {
	if !q.running && q.owed > 0 && q.consumerLocked() != nil && q.store.spawn != nil {
		// Ends when nothing is owed, or nobody is there to be told: a plugin that is
		// shut has no live VM.
		q.running = q.store.spawn(q.run)
	}
}

// consumerLocked returns who is to be told: the root that registered last, of those in
// VMs that serve. One that is still being tried may be thrown away.
func (q *queue) consumerLocked() *rootContext {
	for _, base := range slices.Backward(q.consumers) {
		if base.vm.serving.Load() {
			return base
		}
	}
	return nil
}

func (q *queue) sizeLocked() int { return len(q.items) - q.head }

// push appends data, which is borrowed.
func (q *queue) push(data []byte) abi.Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		return abi.StatusNotFound
	}
	if q.sizeLocked() >= maxQueueItems || !q.space.takeQueueBytes(len(data)) {
		q.space.full.Add(1)
		return abi.StatusInternalFailure
	}
	q.items = append(q.items, bytes.Clone(data))
	q.owed++
	q.kickLocked()
	return abi.StatusOK
}

// pop takes the oldest item.
func (q *queue) pop() ([]byte, abi.Status) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.gone:
		return nil, abi.StatusNotFound
	case q.sizeLocked() == 0:
		return nil, abi.StatusEmpty
	}
	item := q.items[q.head]
	q.items[q.head] = nil
	if q.head++; q.head > 32 && 2*q.head > len(q.items) { // what was taken is half: move up
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	if q.head == len(q.items) {
		q.items, q.head = nil, 0
	}
	q.space.giveQueueBytes(len(item))
	return item, abi.StatusOK
}

// unpop puts an item back that its taker could not take. It may be over the bounds.
func (q *queue) unpop(item []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		return
	}
	q.space.queueBytes.Add(int64(len(item)) + queueOverhead)
	if q.head > 0 { // where it came from, as a rule
		q.head--
		q.items[q.head] = item
		return
	}
	q.items = slices.Insert(q.items, q.head, item)
}

// takeQueueBytes counts an item of n bytes; false if it does not fit.
func (s *sharedSpace) takeQueueBytes(n int) bool {
	size := int64(n) + queueOverhead
	if s.queueBytes.Add(size) > maxQueueBytes {
		s.queueBytes.Add(-size)
		return false
	}
	return true
}

func (s *sharedSpace) giveQueueBytes(n int) { s.queueBytes.Add(-int64(n) - queueOverhead) }

// next returns whom to tell that there is something in the queue, once for each item that
// was put there; nil ends run.
func (q *queue) next() *rootContext {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.owed = min(q.owed, q.sizeLocked())
	base := q.consumerLocked()
	if q.owed == 0 || base == nil {
		q.running = false
		return nil
	}
	q.owed--
	return base
}

// run makes the calls of on_queue_ready that are owed. It is a goroutine of its own:
// whoever has put something into the queue is inside of a guest (abi.md 4.8).
func (q *queue) run() {
	for n := 1; ; n++ {
		base := q.next()
		if base == nil {
			return
		}
		base.vm.queueReady(base, q.token)
		if n%queueBurst == 0 {
			time.Sleep(minTick) // a guest that feeds its own queue has others beside it
		}
	}
}

// queueReady tells base, unless it has gone meanwhile.
func (v *vm) queueReady(base *rootContext, token uint32) {
	v.lock()
	if v.dead == nil && v.roots[base.root] == base && !base.closing {
		v.call(&base.Context, CallQueueReady, uint64(base.id), uint64(token))
	}
	v.unlock()
}

// leaveQueues takes a root that ends out of the queues that it consumes; mu is held.
func (v *vm) leaveQueues(base *rootContext) {
	for _, q := range base.queues {
		q.leave(base)
	}
	base.queues = nil
}

// serve lets the VM's roots be called for their queues: it has joined the pool.
func (v *vm) serve() {
	v.serving.Store(true)
	for _, base := range v.roots {
		for _, q := range base.queues {
			q.kick()
		}
	}
}

// RunQueues makes the calls of on_queue_ready that are owed to roots of the plugin, on
// the caller's goroutine, and returns how many there were. What they put into queues is
// left for the next time. It does nothing without HostOptions.ManualTicks; with them
// nobody else makes these calls.
func (p *Plugin) RunQueues() int {
	if !p.h.o.ManualTicks {
		return 0
	}
	type due struct {
		q *queue
		n int
	}
	var list []due
	for _, q := range p.h.shared.list() {
		q.mu.Lock()
		if base := q.consumerLocked(); base != nil && base.vm.p == p {
			list = append(list, due{q, min(q.owed, q.sizeLocked())})
		}
		q.mu.Unlock()
	}
	calls := 0
	for _, d := range list {
		for range d.n {
			base := d.q.next()
			if base == nil || base.vm.p != p {
				break
			}
			base.vm.queueReady(base, d.q.token)
			calls++
		}
	}
	return calls
}
