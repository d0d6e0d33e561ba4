package main

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeStore is shared data with compare and swap as hosts have it.
type fakeStore struct {
	mu     sync.Mutex
	values map[string]fakeValue
	cas    uint32
	// beforeSet, if not nil, is called before each Set, without the lock.
	beforeSet func()
}

type fakeValue struct {
	data []byte
	cas  uint32
}

func newFakeStore() *fakeStore { return &fakeStore{values: map[string]fakeValue{}} }

func (s *fakeStore) Get(key []byte) ([]byte, uint32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[string(key)]
	return append([]byte(nil), v.data...), v.cas, ok
}

func (s *fakeStore) Set(key, value []byte, cas uint32) bool {
	if s.beforeSet != nil {
		s.beforeSet()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.values[string(key)]; ok && cas != 0 && v.cas != cas {
		return false
	}
	s.cas++
	s.values[string(key)] = fakeValue{append([]byte(nil), value...), s.cas}
	return true
}

// size is what the store holds, in bytes.
func (s *fakeStore) size() int {
	n := 0
	for k, v := range s.values {
		n += len(k) + len(v.data)
	}
	return n
}

// fakeClock is a clock that tests move.
type fakeClock struct{ ns atomic.Int64 }

func newFakeClock() *fakeClock {
	c := &fakeClock{}
	c.ns.Store(1_700_000_000e9)
	return c
}

func (c *fakeClock) now() int64              { return c.ns.Load() }
func (c *fakeClock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// perSecond is a limit of n tokens a second.
func perSecond(n, burst int64) limit {
	return limit{interval: (1e9 + n - 1) / n, burst: burst, cost: 1}
}

func TestTake(t *testing.T) {
	clock := newFakeClock()
	l := newLimiter(perSecond(2, 3), newFakeStore(), clock.now)
	for i, step := range []struct {
		wait time.Duration
		want decision
	}{
		{0, decision{admitted: true, remaining: 2, full: 0.5e9}},
		{0, decision{admitted: true, remaining: 1, full: 1e9}},
		{0, decision{admitted: true, remaining: 0, full: 1.5e9}},
		{0, decision{remaining: 0, full: 1.5e9, retry: 0.5e9}},
		{400 * time.Millisecond, decision{remaining: 0, full: 1.1e9, retry: 0.1e9}},
		{100 * time.Millisecond, decision{admitted: true, remaining: 0, full: 1.5e9}},
		{time.Second, decision{admitted: true, remaining: 1, full: 1e9}},
		{time.Hour, decision{admitted: true, remaining: 2, full: 0.5e9}},
	} {
		clock.advance(step.wait)
		if got := l.take(42); got != step.want {
			t.Errorf("step %d: got %+v, want %+v", i, got, step.want)
		}
	}
}

func TestTakeCost(t *testing.T) {
	clock := newFakeClock()
	lim := perSecond(1, 5)
	lim.cost = 3
	l := newLimiter(lim, newFakeStore(), clock.now)
	if d := l.take(1); !d.admitted || d.remaining != 2 {
		t.Errorf("first: got %+v, want admitted with 2 left", d)
	}
	if d := l.take(1); d.admitted || d.retry != 1e9 {
		t.Errorf("second: got %+v, want refused for 1s", d)
	}
}

// TestKeysAreApart exhausts one key and looks at another one on the same page.
func TestKeysAreApart(t *testing.T) {
	l := newLimiter(perSecond(1, 1), newFakeStore(), newFakeClock().now)
	l.take(5)
	if d := l.take(5); d.admitted {
		t.Errorf("the same key: got %+v, want refused", d)
	}
	if d := l.take(5 + pageCount); !d.admitted {
		t.Errorf("another key: got %+v, want admitted", d)
	}
}

// TestClockSetBack: a clock that goes back an hour must not lock anybody out for an hour.
func TestClockSetBack(t *testing.T) {
	clock := newFakeClock()
	l := newLimiter(perSecond(1, 2), newFakeStore(), clock.now)
	for i := range uint64(pageBuckets) { // a page full of keys in debt
		l.take(1 + i*pageCount)
		l.take(1 + i*pageCount)
	}
	clock.advance(-time.Hour)
	for _, tag := range []uint64{1, 1 + 100*pageCount} { // one of them, and a new one
		if d := l.take(tag); d.admitted || d.retry != 1e9 {
			t.Errorf("key %d right after: got %+v, want refused for 1s", tag, d)
		}
	}
	clock.advance(time.Second)
	if d := l.take(1); !d.admitted {
		t.Errorf("a second later: got %+v, want admitted", d)
	}
}

func TestForeignValue(t *testing.T) {
	s := newFakeStore()
	l := newLimiter(perSecond(1, 1), s, newFakeClock().now)
	l.take(1)
	for k := range s.values {
		s.values[k] = fakeValue{[]byte("not a page"), 9}
	}
	if d := l.take(1); !d.admitted {
		t.Errorf("got %+v, want admitted: there is no bucket", d)
	}
	if d := l.take(1); d.admitted {
		t.Errorf("got %+v, want refused: there is one now", d)
	}
}

// TestContention: when the page changes between every read and write, the request is
// refused after a bounded number of tries.
func TestContention(t *testing.T) {
	s := newFakeStore()
	l := newLimiter(perSecond(100, 1000), s, newFakeClock().now)
	l.take(1)
	tries := 0
	s.beforeSet = func() {
		tries++
		s.mu.Lock()
		defer s.mu.Unlock()
		for k, v := range s.values {
			s.cas++
			s.values[k] = fakeValue{v.data, s.cas}
		}
	}
	if d := l.take(1); d.admitted || !d.contended || d.retry <= 0 {
		t.Errorf("got %+v, want refused as contended", d)
	}
	if tries != maxAttempts {
		t.Errorf("got %d tries, want %d", tries, maxAttempts)
	}
}

// TestExactUnderContention has many VMs take from the same few keys at once: admitted is at
// most rate * time + burst for each, and, since contention here is far from
// maxAttempts in a row with a real budget left, exactly that at a standing clock.
func TestExactUnderContention(t *testing.T) {
	const vms, takes, keys, burst = 8, 400, 3, 50
	s, clock := newFakeStore(), newFakeClock()
	var admitted, contended [keys]atomic.Int64
	round := func() {
		var wg sync.WaitGroup
		for range vms {
			l := newLimiter(perSecond(10, burst), s, clock.now) // each VM has its own
			wg.Go(func() {
				for i := range takes {
					// All on one page, so that they collide.
					k := i % keys
					d := l.take(uint64(k) * pageCount)
					if d.admitted {
						admitted[k].Add(1)
					}
					if d.contended {
						contended[k].Add(1)
					}
				}
			})
		}
		wg.Wait()
	}
	round()
	clock.advance(3 * time.Second)
	round()
	for k := range keys {
		got, most := admitted[k].Load(), int64(burst+30)
		if got > most {
			t.Errorf("key %d: %d admitted, more than rate * time + burst = %d", k, got, most)
		}
		if got < most && contended[k].Load() == 0 {
			t.Errorf("key %d: %d admitted of %d, and none was contended", k, got, most)
		}
	}
}

// TestClockRunsUnderContention moves the clock while VMs decide.
func TestClockRunsUnderContention(t *testing.T) {
	const burst, rate = 20, 1000
	s, clock := newFakeStore(), newFakeClock()
	start := clock.now()
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		l := newLimiter(perSecond(rate, burst), s, clock.now)
		wg.Go(func() {
			for range 2000 {
				if l.take(7).admitted {
					admitted.Add(1)
				}
				clock.advance(50 * time.Microsecond)
			}
		})
	}
	wg.Wait()
	elapsed := clock.now() - start
	if most := burst + rate*elapsed/1e9; admitted.Load() > most {
		t.Errorf("%d admitted in %v, more than %d", admitted.Load(), time.Duration(elapsed), most)
	}
}

// TestEvictionIsNoBypass floods one page with random keys and checks every one of them,
// displaced and come back or not, against rate * time + burst.
func TestEvictionIsNoBypass(t *testing.T) {
	const burst, rate, keys = 4, 5, 40 // more keys than the page has buckets
	s, clock := newFakeStore(), newFakeClock()
	l := newLimiter(perSecond(rate, burst), s, clock.now)
	start := clock.now()
	rng := rand.New(rand.NewPCG(1, 2))
	admitted := map[uint64]int64{}
	displaced := 0
	for range 20_000 {
		tag := rng.Uint64N(keys) * pageCount
		d := l.take(tag)
		if d.admitted {
			admitted[tag]++
		}
		if d.displaced {
			displaced++
		}
		clock.advance(time.Duration(rng.Int64N(2e6)))
	}
	if displaced == 0 {
		t.Fatal("no key was displaced: the test tests nothing")
	}
	most := burst + rate*(clock.now()-start)/1e9
	for tag, n := range admitted {
		if n > most {
			t.Errorf("key %d: %d admitted, more than %d", tag, n, most)
		}
	}
}

// TestBackToBack: a key that is drained, pushed out by others at once, and comes back has
// no tokens; the whole page can be turned over without anybody winning one.
func TestBackToBack(t *testing.T) {
	l := newLimiter(perSecond(1, 2), newFakeStore(), newFakeClock().now)
	for l.take(0).admitted {
	}
	for i := range uint64(1000) {
		l.take((i + 1) * pageCount)
	}
	if d := l.take(0); d.admitted {
		t.Errorf("got %+v, want refused", d)
	}
}

// TestFullBucketsGoFirst: a page full of keys of which one is full again gives that one up.
func TestFullBucketsGoFirst(t *testing.T) {
	clock := newFakeClock()
	l := newLimiter(perSecond(1, 3), newFakeStore(), clock.now)
	l.take(0) // full again in 1s
	for i := range uint64(pageBuckets - 1) {
		for l.take((i + 1) * pageCount).admitted {
		}
	}
	clock.advance(1500 * time.Millisecond)
	if d := l.take(99 * pageCount); !d.admitted || d.displaced || d.remaining != 2 {
		t.Errorf("new key: got %+v, want admitted from a full bucket, displacing nobody", d)
	}
	for i := range uint64(pageBuckets - 1) {
		if d := l.take((i + 1) * pageCount); !d.admitted || d.remaining != 0 {
			t.Errorf("key %d: got %+v, want its one new token", i+1, d)
		}
	}
}

func TestLoadSeed(t *testing.T) {
	s := newFakeStore()
	var made atomic.Int64
	fresh := func() seed { return seed{uint64(made.Add(1)), 5} }
	var wg sync.WaitGroup
	got := make([]seed, 8)
	for i := range got {
		wg.Go(func() {
			var ok bool
			if got[i], ok = loadSeed(s, fresh); !ok {
				t.Error("no seed")
			}
		})
	}
	wg.Wait()
	for i := range got {
		if got[i] != got[0] || got[i][1] != 5 {
			t.Errorf("VM %d has seed %v, VM 0 %v", i, got[i], got[0])
		}
	}
	if _, ok := loadSeed(deafStore{}, fresh); ok {
		t.Error("a store that keeps nothing: got a seed")
	}
}

// deafStore keeps nothing.
type deafStore struct{}

func (deafStore) Get([]byte) ([]byte, uint32, bool) { return nil, 0, false }
func (deafStore) Set(_, _ []byte, _ uint32) bool    { return true }
