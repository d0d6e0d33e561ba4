package discover

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A Finder looks for servers, once. It is called from one goroutine at a time.
type Finder interface {
	Find(ctx context.Context) (Answer, error)
}

// Options of a Source.
type Options struct {
	Finder Finder
	Every  time.Duration // longest time between two looks
	Keep   time.Duration // how long servers are kept that are not found any more
	// Forever keeps servers while looks fail, whatever Keep says: a file that is
	// broken says nothing about servers.
	Forever bool
	// Slots, if there are any, bound how many of the Sources that share them look at a
	// time: each has room for one look.
	Slots chan struct{}

	// Looked is told of each look: result is "ok", "empty" or "failed", used how many
	// servers are in use since. Changed is told when what is used, or whether looks
	// succeed, has changed. Both may be nil, and are called from the Source's goroutine.
	Looked  func(result string, used int)
	Changed func(Event)
}

// An Event is a change.
type Event struct {
	Added, Removed []string // addresses
	Used           int      // servers in use since
	Failing        string   // why the last look found nothing; "": it did
	Since          time.Duration
}

// A Source has a Finder look again and again, and keeps what was found. Use [Start]. It
// is safe for concurrent use.
type Source struct {
	o     Options
	end   context.CancelFunc
	first chan struct{} // closed after the first look

	mu sync.Mutex
	// Guarded by mu.
	m    memory
	subs []*subscription
}

type subscription struct{ f func([]Server) }

// Start starts a Source. It holds a goroutine until [Source.Close].
func Start(o Options) *Source {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Source{o: o, end: cancel, first: make(chan struct{})}
	go s.run(ctx) // ended by Close
	return s
}

// Close ends s. Its goroutine ends soon: with the query that is under way.
func (s *Source) Close() { s.end() }

// Wait waits for the first look to be over, whatever it has found, or ctx.
func (s *Source) Wait(ctx context.Context) {
	select {
	case <-s.first:
	case <-ctx.Done():
	}
}

// Err returns why the last look found nothing; "": it did.
func (s *Source) Err() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m.reason
}

// Found reports whether there are servers in use.
func (s *Source) Found() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m.servers) > 0
}

// Subscribe calls f with the servers in use, now and whenever they change, one call
// at a time. f must not call s. stop ends that; f is not running when it returns.
func (s *Source) Subscribe(f func([]Server)) (stop func()) {
	sub := &subscription{f}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs = append(s.subs, sub)
	f(s.m.servers)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.subs = slices.DeleteFunc(s.subs, func(o *subscription) bool { return o == sub })
	}
}

// run looks until ctx is done.
func (s *Source) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failed := 0 // in a row
	looked := sync.OnceFunc(func() { close(s.first) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		a, err := s.look(ctx)
		if ctx.Err() != nil {
			return
		}
		s.take(a, err)
		looked()
		if err != nil {
			failed++
		} else {
			failed = 0
		}
		timer.Reset(pause(s.o.Every, a.TTL, failed))
	}
}

// look has the Finder look, when it is its turn.
func (s *Source) look(ctx context.Context) (Answer, error) {
	if s.o.Slots != nil {
		select {
		case s.o.Slots <- struct{}{}:
			defer func() { <-s.o.Slots }()
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	return s.o.Finder.Find(ctx)
}

// pause returns how long to wait after a look: until the TTL is over but not longer
// than every; after the n-th failure in a row a second, two, four.
func pause(every, ttl time.Duration, failed int) time.Duration {
	wait := every
	switch {
	case failed > 0:
		wait = min(every, firstRetry<<min(failed-1, 20))
	case ttl > 0:
		wait = min(every, max(ttl, minTTL))
	}
	return wait + time.Duration(rand.Float64()*0.1*float64(wait)) // many proxies do not ask in step
}

// take takes in what a look has found, and tells.
func (s *Source) take(a Answer, err error) {
	now := time.Now()
	s.mu.Lock()
	old := s.m
	s.m = old.next(a, err, s.o.Keep, s.o.Forever, now)
	m := s.m
	changed := !slices.Equal(old.servers, m.servers)
	if changed {
		for _, sub := range s.subs {
			sub.f(m.servers)
		}
	}
	s.mu.Unlock()
	if s.o.Looked != nil {
		result := "ok"
		switch {
		case err != nil:
			result = "failed"
		case len(a.Servers) == 0:
			result = "empty"
		}
		s.o.Looked(result, len(m.servers))
	}
	if s.o.Changed == nil || !changed && old.failing == m.failing {
		return
	}
	e := Event{Used: len(m.servers), Failing: m.reason}
	e.Added, e.Removed = difference(old.servers, m.servers)
	if !m.good.IsZero() {
		e.Since = now.Sub(m.good)
	}
	s.o.Changed(e)
}
