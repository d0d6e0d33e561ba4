package health

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"wproxy/core/upstream"
)

// Slots are what the checks of a process share: how many run at a time, and the
// pace of first ones. Use [NewSlots].
type Slots struct {
	free chan struct{}

	mu   sync.Mutex
	next time.Time // when the next first check is to be; guarded by mu
}

// NewSlots makes Slots for n checks at a time; 0: [MaxChecks].
func NewSlots(n int) *Slots {
	if n <= 0 {
		n = MaxChecks
	}
	return &Slots{free: make(chan struct{}, n)}
}

// firstDelay returns how long a first check waits for its turn.
func (s *Slots) firstDelay(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next.Before(now) {
		s.next = now
	}
	d := s.next.Sub(now)
	s.next = s.next.Add(firstPace)
	return d
}

// runLocked starts the scheduler when there is something to check, and ends it
// when there is not. It is called with mu held.
func (m *Monitor) runLocked() {
	wanted := m.settings.Check != nil && m.members > 0 && !m.closed
	switch {
	case wanted && m.stop == nil:
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		m.stop, m.ended = cancel, ended
		go func() { // ends with stop
			defer close(ended)
			m.schedule(ctx)
		}()
	case !wanted && m.stop != nil:
		m.stop()
		m.stop = nil
	}
}

// poke has the scheduler look again.
func (m *Monitor) poke() {
	select {
	case m.wake <- struct{}{}:
	default: // it will
	}
}

// schedule starts each check when it is due and a slot is free.
func (m *Monitor) schedule(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait := m.startDue(ctx)
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-m.wake:
		}
	}
}

// startDue starts what is due and returns how long until something else is.
func (m *Monitor) startDue(ctx context.Context) time.Duration {
	for {
		m.mu.Lock()
		wait := m.due.wait(m.now())
		m.mu.Unlock()
		if wait > 0 {
			return wait
		}
		select {
		case m.o.Slots.free <- struct{}{}:
		case <-ctx.Done():
			return 0
		}
		if !m.startOne(ctx) {
			<-m.o.Slots.free
		}
	}
}

// startOne starts the first check that is due, for which there is a slot. False: it
// has gone meanwhile.
func (m *Monitor) startOne(ctx context.Context) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.due.wait(m.now()) > 0 || m.settings.Check == nil || ctx.Err() != nil { // another scheduler has taken over
		return false
	}
	s := m.due.first()
	m.due.remove(s)
	if len(s.endpoints) == 0 {
		return false
	}
	e, settings, epoch := s.endpoints[len(s.endpoints)-1], m.settings, s.epoch
	go func() { // ends within the check's timeout
		start := m.now()
		r := settings.Check.Run(ctx, settings.Connect, e)
		<-m.o.Slots.free
		if ctx.Err() == nil {
			m.result(s, epoch, r, m.now().Sub(start))
		}
	}()
	return true
}

// result takes in what a check has found.
func (m *Monitor) result(s *Server, epoch uint64, r Result, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	check := m.settings.Check
	if s.epoch != epoch || check == nil {
		return // of other checks, or of a server that has gone
	}
	now := m.now()
	was, before := s.available(), s.statusLocked().Since
	s.checked, s.took = now, took
	if m.o.Hooks.Checked != nil {
		m.o.Hooks.Checked(s.name, r, took)
	}
	next, changed := s.state.Next(check.Thresholds, r, now)
	if !changed {
		s.state = next
		m.again(s, check, now)
		return
	}
	if !s.drained && !s.ejection.Out {
		before = s.state.Since
	}
	s.state = next
	e := Event{Kind: Up, After: now.Sub(before)}
	if next.Up {
		s.clear(upstream.Unhealthy, now)
	} else {
		e.Kind, e.Reason = Down, next.Reason
		s.set(upstream.Unhealthy, now)
	}
	m.changedLocked(s, was, e)
	m.again(s, check, now)
}

// again plans the next check of s.
func (m *Monitor) again(s *Server, check *Check, now time.Time) {
	every := check.Every
	if !s.state.Up {
		every = check.EveryDown
	}
	every += time.Duration((rand.Float64()*2 - 1) * jitter * float64(every))
	m.due.put(s, now.Add(every))
	if m.due.first() == s {
		m.poke()
	}
}

// A queue holds servers by when their next check is due. The zero value is empty.
type queue struct{ h serverHeap }

// put adds s, or moves it.
func (q *queue) put(s *Server, due time.Time) {
	s.due = due
	if s.queue >= 0 {
		heap.Fix(&q.h, s.queue)
		return
	}
	heap.Push(&q.h, s)
}

// remove takes s out, if it is in.
func (q *queue) remove(s *Server) {
	if s.queue >= 0 {
		heap.Remove(&q.h, s.queue)
	}
}

// first returns who is due first; there is somebody.
func (q *queue) first() *Server { return q.h[0] }

// wait returns how long until somebody is due; 0: not at all.
func (q *queue) wait(now time.Time) time.Duration {
	if len(q.h) == 0 {
		return time.Hour // whoever puts somebody in pokes
	}
	return max(q.h[0].due.Sub(now), 0)
}

// serverHeap implements heap.Interface; servers know their index.
type serverHeap []*Server //nolint:recvcheck // Push and Pop change it, the others do not

func (h serverHeap) Len() int           { return len(h) }
func (h serverHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

func (h serverHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].queue, h[j].queue = i, j
}

// Push implements heap.Interface.
func (h *serverHeap) Push(x any) {
	s, _ := x.(*Server)
	s.queue = len(*h)
	*h = append(*h, s)
}

// Pop implements heap.Interface.
func (h *serverHeap) Pop() any {
	n := len(*h) - 1
	s := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	s.queue = -1
	return s
}
