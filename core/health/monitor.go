package health

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// Kind is what an [Event] is about.
type Kind string

// The kinds.
const (
	Up        Kind = "up"        // checks find it well again
	Down      Kind = "down"      // checks do not
	Ejected   Kind = "ejected"   // it failed too many requests
	Returned  Kind = "returned"  // its ejection is over
	Drained   Kind = "drained"   // an operator wants it to get no requests
	Ready     Kind = "ready"     // and now wants it to
	Panic     Kind = "panic"     // too few servers are left: all are tried
	PanicOver Kind = "panic_end" // enough are
)

// An Event is one change.
type Event struct {
	Kind     Kind
	Upstream string
	Server   string // "" for Panic and PanicOver
	Reason   string
	After    time.Duration // how long it was as it was before
	For      time.Duration // of an ejection

	// Available and Total count the servers of the upstream after the change.
	Available, Total int
}

// Hooks are told what happens. They are called with locks held: they must be quick
// and must not call the Monitor. Any may be nil.
type Hooks struct {
	// Changed is told each change, once, in order.
	Changed func(Event)
	// Available says whether a server is given requests, whenever that changes and
	// when it becomes a member; Gone, that it is none any more.
	Available func(server string, available bool)
	Gone      func(server string)
	// Checked is told of each check.
	Checked func(server string, r Result, took time.Duration)
	// Ejections counts servers taken out, and those that should have been when too
	// many were out already.
	Ejections func(server string, out bool)
}

// Settings say how a Monitor finds out. They are immutable.
type Settings struct {
	Check   *Check        // nil: no active checks
	Outlier *Outlier      // nil: no ejections
	Panic   float64       // share of available servers below which all are tried; 0: never
	Connect pool.DialFunc // makes the connections of checks
	Found   bool          // the servers are found: see Serve
	Key     string        // differs for settings whose checks differ; see Serve
}

// Options of a Monitor.
type Options struct {
	Upstream string
	Slots    *Slots // required; one per process
	Hooks    Hooks
	Now      func() time.Time // nil: time.Now
}

// A Monitor looks after the servers of one upstream. Use [New]. It is safe for
// concurrent use.
type Monitor struct {
	// Immutable.
	o    Options
	now  func() time.Time
	wake chan struct{} // has room for one: the scheduler is to look again

	changes upstream.Changes // of all endpoints: sets come and go, pickers compare counts

	mu sync.Mutex
	// Guarded by mu.
	settings Settings
	servers  map[string]*Server
	drained  map[string]time.Time // servers that were found and are lost, since when they are drained
	carried  map[string]Carried   // what another process knew of servers that are not attached yet
	cluster  *upstream.Cluster    // that serves
	members  int
	counts   map[int]count // of members, by tier
	panicked bool
	due      queue
	stop     func() // ends the scheduler; nil: it does not run
	ended    chan struct{}
	closed   bool
}

// New makes a Monitor without servers. It holds a goroutine while there is
// something to check; [Monitor.Close] ends it.
func New(o Options) *Monitor {
	m := &Monitor{o: o, now: o.Now, wake: make(chan struct{}, 1), servers: map[string]*Server{}, drained: map[string]time.Time{}}
	if m.now == nil {
		m.now = time.Now
	}
	return m
}

// Attach makes e an endpoint of the server that has its name, which may be known
// already: e then is what that is. It is to be called before e serves, and once.
// startUp is what a server that is new counts as until its first check.
func (m *Monitor) Attach(e *upstream.Endpoint, startUp bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	s := m.servers[e.Name]
	if s == nil {
		s = &Server{name: e.Name, monitor: m, state: Initial(startUp, now), queue: -1}
		s.drainedAt, s.drained = m.drained[e.Name]
		delete(m.drained, e.Name)
		m.servers[e.Name] = s
		m.adoptLocked(s, now)
	}
	s.endpoints = append(s.endpoints, e)
	e.Join(&m.changes)
	e.Observer = s
	s.apply(e, now)
}

// Detach undoes Attach, when nothing holds e any more.
func (m *Monitor) Detach(e *upstream.Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.servers[e.Name]
	if s == nil {
		return
	}
	s.endpoints = slices.DeleteFunc(s.endpoints, func(o *upstream.Endpoint) bool { return o == e })
	m.forgetLocked(s)
}

// forgetLocked drops s if nothing stands for it any more.
func (m *Monitor) forgetLocked(s *Server) {
	if s.member || len(s.endpoints) > 0 {
		return
	}
	if s.returns != nil {
		s.returns.Stop()
	}
	m.due.remove(s)
	delete(m.servers, s.name)
	if s.drained && m.settings.Found {
		m.drained[s.name] = s.drainedAt // as many as an operator has named
	}
}

// Serve makes the endpoints of c, all of them attached, what is looked after, by
// settings. What is known of them stays; if the checks are others, by
// Settings.Key, results start to count anew. Servers that are not in c are not
// checked any more. With Settings.Found they may come back: that they are drained is
// remembered then, since it was not the operator who has left them out.
func (m *Monitor) Serve(settings Settings, c *upstream.Cluster) {
	m.mu.Lock()
	now := m.now()
	other := settings.Key != m.settings.Key ||
		m.cluster == nil && settings.Check == nil // what another process has found (Adopt) has nobody to contradict it
	m.settings, m.cluster = settings, c
	if !settings.Found {
		clear(m.drained)
	}
	judge := m.newJudge()

	members := make(map[string]*upstream.Endpoint, len(c.Endpoints))
	for _, e := range c.Endpoints {
		members[e.Name] = e
	}
	for name, s := range m.servers {
		if members[name] == nil && s.member {
			m.leaveLocked(s)
		}
	}
	for _, e := range c.Endpoints {
		s := m.servers[e.Name]
		if s == nil || m.closed {
			continue // Attach was not called
		}
		s.tier = e.Tier
		s.judge.Store(judge)
		if judge == nil && s.ejection.Out {
			m.returnLocked(s, now)
		}
		m.joinLocked(s, other, now)
	}
	m.members = len(members)
	m.panicLocked()
	m.runLocked()
	m.mu.Unlock()
	m.poke()
}

func (m *Monitor) newJudge() *judge {
	if m.settings.Outlier.off() {
		return nil
	}
	return newJudge(*m.settings.Outlier)
}

// joinLocked makes s a member, if it is none, and has it checked.
func (m *Monitor) joinLocked(s *Server, other bool, now time.Time) {
	was, before := s.available(), s.state
	fresh := !s.member
	s.member = true
	if other {
		s.epoch++
		s.state = before.Restart(m.settings.Check != nil, now)
	}
	if s.state.Up != before.Up { // there are no checks any more
		s.clear(upstream.Unhealthy, now)
		m.changedLocked(s, was, Event{Kind: Up, Reason: "it is not checked any more", After: now.Sub(before.Since)})
	}
	m.recountLocked(s)
	if fresh {
		m.tellAvailable(s)
	}
	switch {
	case m.settings.Check == nil:
		m.due.remove(s)
	case fresh || other:
		m.due.put(s, now.Add(m.firstDelay()))
	}
}

// leaveLocked makes s no member. It stays known as long as it has endpoints.
func (m *Monitor) leaveLocked(s *Server) {
	s.member = false
	m.recountLocked(s)
	s.epoch++
	m.due.remove(s)
	if m.o.Hooks.Gone != nil {
		m.o.Hooks.Gone(s.name)
	}
	m.forgetLocked(s)
}

// Close ends checks and timers. It does not wait for checks under way, whose
// results do not count any more; they end within their timeout.
func (m *Monitor) Close() {
	m.mu.Lock()
	m.closed = true
	for _, s := range m.servers {
		s.epoch++
		if s.returns != nil {
			s.returns.Stop()
		}
	}
	stop, ended := m.stop, m.ended
	m.stop = nil
	m.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
}

// ErrNoServer is why Drain and Ready have refused.
var ErrNoServer = errors.New("there is no such server")

// Drain keeps requests from a server, and Ready lets them come again. Those under
// way are not disturbed. They report whether that is a change.
func (m *Monitor) Drain(server string) (changed bool, err error) { return m.setDrained(server, true) }

// Ready is described at Drain.
func (m *Monitor) Ready(server string) (changed bool, err error) { return m.setDrained(server, false) }

func (m *Monitor) setDrained(server string, on bool) (changed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.servers[server]
	if s == nil || !s.member {
		return false, fmt.Errorf("upstream %q: server %q: %w", m.o.Upstream, server, ErrNoServer)
	}
	if s.drained == on {
		return false, nil
	}
	now := m.now()
	after := now.Sub(s.statusLocked().Since)
	was := s.available()
	s.drained, s.drainedAt = on, now
	kind := Ready
	if on {
		kind = Drained
		s.set(upstream.Drained, now)
	} else {
		s.clear(upstream.Drained, now)
	}
	m.changedLocked(s, was, Event{Kind: kind, After: after})
	return true, nil
}

// Snapshot returns what is known of the servers that serve, by name.
func (m *Monitor) Snapshot() map[string]Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string]Status, m.members)
	for name, s := range m.servers {
		if s.member {
			all[name] = s.statusLocked()
		}
	}
	return all
}

// Panicking reports whether so few servers are available that all are tried.
func (m *Monitor) Panicking() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.panicked
}

// eject takes s out, unless too many are out already.
func (m *Monitor) eject(s *Server, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.tally.reset() // what is counted from here on is another story, if only to come here less
	j := s.judge.Load()
	if j == nil || s.ejection.Out || !s.member || m.closed {
		return // another failure was first, or the rules have changed
	}
	ok := mayEject(m.sumLocked().out, m.members, j.o.Share)
	if m.o.Hooks.Ejections != nil {
		m.o.Hooks.Ejections(s.name, ok)
	}
	if !ok {
		return
	}
	now := m.now()
	after := now.Sub(s.statusLocked().Since)
	was := s.available()
	s.ejection = s.ejection.Eject(j.o.Base, j.o.Longest, reason, now)
	s.set(upstream.Ejected, now)
	wait := s.ejection.Until.Sub(now)
	s.returns = time.AfterFunc(wait, func() { m.endEjection(s) }) // stopped when s is forgotten
	m.changedLocked(s, was, Event{Kind: Ejected, Reason: reason, After: after, For: wait})
}

func (m *Monitor) endEjection(s *Server) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed && s.ejection.Out {
		m.returnLocked(s, m.now())
	}
}

// returnLocked ends an ejection.
func (m *Monitor) returnLocked(s *Server, now time.Time) {
	was := s.available()
	s.returns.Stop()
	s.returns = nil
	s.tally.reset() // requests that were under way have counted meanwhile
	after := now.Sub(s.ejection.Since)
	s.ejection = s.ejection.Return()
	s.ejection.Until = now
	s.clear(upstream.Ejected, now)
	m.changedLocked(s, was, Event{Kind: Returned, After: after})
}

// changedLocked tells of a change of s, which was available or not before.
func (m *Monitor) changedLocked(s *Server, was bool, e Event) {
	if !s.member {
		return
	}
	if s.available() != was {
		m.tellAvailable(s)
	}
	m.recountLocked(s)
	e.Server = s.name
	m.tell(e)
	m.panicLocked()
}

// tellAvailable is called with mu held.
func (m *Monitor) tellAvailable(s *Server) {
	if m.o.Hooks.Available != nil {
		m.o.Hooks.Available(s.name, s.available())
	}
}

func (m *Monitor) tell(e Event) {
	if m.o.Hooks.Changed == nil {
		return
	}
	e.Upstream = m.o.Upstream
	sum := m.sumLocked()
	e.Available, e.Total = sum.available, sum.total
	m.o.Hooks.Changed(e)
}

// firstDelay spreads first checks over the process.
func (m *Monitor) firstDelay() time.Duration {
	longest := time.Duration(rand.Float64() * float64(m.settings.Check.Every))
	return min(m.o.Slots.firstDelay(m.now()), longest)
}
