package pool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// A mux is a connection with many slots.
type mux struct {
	id, slots int
	mu        sync.Mutex
	used      int  // guarded by mu
	leaving   bool // guarded by mu
	closed    atomic.Int32
	open      *atomic.Int64
}

func (m *mux) Reserve() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leaving || m.closed.Load() > 0 || m.used == m.slots {
		return false
	}
	m.used++
	return true
}

func (m *mux) free() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used--; m.used < 0 {
		panic("a slot is given back twice")
	}
}

// Open returns a stream that gives its slot back when it is reset.
func (m *mux) Open(context.Context) (exchange.Upstream, error) { return &muxStream{m: m}, nil }

type muxStream struct {
	exchange.Upstream
	m *mux
}

func (s *muxStream) Reset(exchange.Code) { s.m.free() }

func (m *mux) Usable() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.leaving && m.closed.Load() == 0
}

func (m *mux) Idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.leaving && m.closed.Load() == 0 && m.used == 0
}

func (m *mux) Reused() bool { return true }

func (m *mux) Close() error {
	if m.closed.Add(1) == 1 {
		m.open.Add(-1)
	}
	return nil
}

func (m *mux) goAway() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaving = true
}

// A muxDialer makes muxes of some slots, and takes a while.
type muxDialer struct {
	slots int
	takes time.Duration
	err   atomic.Pointer[error]
	plain bool // it makes conns
	n     atomic.Int64
	open  atomic.Int64
}

func (d *muxDialer) dial(ctx context.Context, _ *upstream.Endpoint) (pool.Conn, error) {
	n := int(d.n.Add(1))
	if d.takes > 0 {
		select {
		case <-time.After(d.takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := d.err.Load(); err != nil {
		return nil, *err
	}
	d.open.Add(1)
	if d.plain {
		return &conn{id: n, open: &d.open}, nil
	}
	return &mux{id: n, slots: d.slots, open: &d.open}, nil
}

func getMux(t *testing.T, p *pool.Pool, e *upstream.Endpoint) *mux {
	t.Helper()
	c, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
	m, ok := c.(*mux)
	if err != nil || !ok {
		t.Fatalf("got %T, %v", c, err)
	}
	return m
}

func putMux(p *pool.Pool, e *upstream.Endpoint, m *mux) {
	m.free()
	p.Put(e, m)
}

func TestSharedConnection(t *testing.T) {
	t.Parallel()
	d := &muxDialer{slots: 3}
	p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Always})
	defer p.Close()
	e := endpoint(t, "127.0.0.1:1")
	var all []*mux
	for range 7 {
		all = append(all, getMux(t, p, e))
	}
	for i, want := range []int{1, 1, 1, 2, 2, 2, 3} {
		if all[i].id != want {
			t.Errorf("exchange %d is on connection %d, want %d", i, all[i].id, want)
		}
	}
	if st := p.Stats(); st.Open != 3 || st.Idle != 0 {
		t.Errorf("got %+v, want 3 open", st)
	}
	putMux(p, e, all[1])
	if m := getMux(t, p, e); m.id != 1 { // not the one used last: few connections are to be used
		t.Errorf("got connection %d, want 1", m.id)
	}
	for _, i := range []int{0, 1, 2, 3, 4, 5, 6} {
		putMux(p, e, all[i])
	}
	if st := p.Stats(); st.Open != 3 || st.Idle != 3 {
		t.Errorf("got %+v, want 3 at rest", st)
	}
	if m := getMux(t, p, e); m.id != 1 || d.n.Load() != 3 {
		t.Errorf("got connection %d after %d dials", m.id, d.n.Load())
	}
}

// TestOneDial: a hundred requests at once make one connection, not a hundred.
func TestOneDial(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		mode         pool.Multiplexing
		plain        bool
		slots, dials int
	}{
		"many":                {pool.Always, false, 100, 1},
		"as it shows":         {pool.Maybe, false, 100, 1},
		"fewer than expected": {pool.Always, false, 25, 4},
		"one at a time":       {pool.Maybe, true, 0, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &muxDialer{slots: tt.slots, takes: time.Second, plain: tt.plain}
				p := pool.New(pool.Options{Dial: d.dial, Multiplex: tt.mode})
				defer p.Close()
				e := endpoint(t, "127.0.0.1:1")
				start := time.Now()
				var wg sync.WaitGroup
				for range 100 {
					wg.Go(func() {
						if _, _, err := p.Get(t.Context(), pool.Request{Endpoint: e}); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if n := int(d.n.Load()); n != tt.dials {
					t.Errorf("%d dials, want %d", n, tt.dials)
				}
				if took := time.Since(start); took > time.Duration(tt.dials)*time.Second || tt.plain && took > 2*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestOneDialFails: who waits for a dial fails with it, and at once; not one dial after
// the other. But the end of the one who dials is not the others'.
func TestOneDialFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &muxDialer{slots: 100, takes: time.Second}
		d.err.Store(&errDial)
		p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Always})
		defer p.Close()
		e := endpoint(t, "127.0.0.1:1")
		start := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, _, err := p.Get(t.Context(), pool.Request{Endpoint: e}); !errors.Is(err, errDial) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if d.n.Load() != 1 || time.Since(start) != time.Second {
			t.Errorf("%d dials in %v", d.n.Load(), time.Since(start))
		}
		if st := p.Stats(); st.Open != 0 {
			t.Errorf("got %+v", st)
		}

		d.err.Store(nil)
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, _, err := p.Get(ctx, pool.Request{Endpoint: e}); !errors.Is(err, context.Canceled) {
				t.Errorf("the one who has gone: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, _, err := p.Get(t.Context(), pool.Request{Endpoint: e}); err != nil {
				t.Errorf("the one who waits: %v", err)
			}
		})
		wg.Go(func() {
			_, _, err := p.Get(t.Context(), pool.Request{Endpoint: e, Deadline: time.Now().Add(100 * time.Millisecond)})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one with a deadline: %v", err)
			}
		})
		time.Sleep(500 * time.Millisecond)
		cancel()
		wg.Wait()
	})
}

func TestSharedGoAway(t *testing.T) {
	t.Parallel()
	d := &muxDialer{slots: 10}
	p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Always, PerServer: 1})
	defer p.Close()
	e := endpoint(t, "127.0.0.1:1")
	a, b := getMux(t, p, e), getMux(t, p, e)
	a.goAway()
	c := getMux(t, p, e) // the one that leaves does not count
	if c == a || a.closed.Load() != 0 {
		t.Fatalf("got connection %d; the first is closed %d times", c.id, a.closed.Load())
	}
	putMux(p, e, a)
	if a.closed.Load() != 0 {
		t.Error("closed although there is an exchange on it")
	}
	putMux(p, e, b)
	if a.closed.Load() != 1 {
		t.Error("not closed after its last exchange")
	}
	putMux(p, e, c)
	c.goAway() // at rest
	f := getMux(t, p, e)
	if f == c || c.closed.Load() != 1 {
		t.Errorf("got connection %d, the one at rest is closed %d times", f.id, c.closed.Load())
	}
	if st := p.Stats(); st.Open != 1 || st.Idle != 0 || d.open.Load() != 1 {
		t.Errorf("got %+v, %d really open", st, d.open.Load())
	}
}

func TestSharedQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &muxDialer{slots: 2}
		p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Always, PerServer: 1, Queue: 2, QueueTime: time.Second})
		defer p.Close()
		e := endpoint(t, "127.0.0.1:1")
		a, b := getMux(t, p, e), getMux(t, p, e)
		got := make(chan error, 2)
		ctx, cancel := context.WithCancel(t.Context())
		for _, ctx := range []context.Context{ctx, t.Context()} {
			go func() {
				_, _, err := p.Get(ctx, pool.Request{Endpoint: e})
				got <- err
			}()
			synctest.Wait()
		}
		_, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
		wantReason(t, err, "queue_full")
		// The first waiter goes at the moment at which it gets its slot: that goes to
		// the second.
		cancel()
		putMux(p, e, a)
		errs := []error{<-got, <-got}
		if errs[0] != nil && errs[1] != nil {
			t.Errorf("a slot was lost: %v", errs)
		}
		if st := p.Stats(); st.Open != 1 || st.Waiting != 0 {
			t.Errorf("got %+v", st)
		}
		_, _, err = p.Get(t.Context(), pool.Request{Endpoint: e})
		if errs[0] == nil && errs[1] == nil { // both have a slot: cancel came too late
			return
		}
		wantReason(t, err, "queue_timeout")
		putMux(p, e, b)
	})
}

func TestSharedAtRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &muxDialer{slots: 1}
		p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Always, Idle: 2, IdleTime: 8 * time.Second})
		e := endpoint(t, "127.0.0.1:1")
		var all []*mux
		for range 3 {
			all = append(all, getMux(t, p, e))
		}
		for _, m := range all {
			putMux(p, e, m)
		}
		if st := p.Stats(); st.Idle != 2 || st.Open != 2 || d.open.Load() != 2 {
			t.Errorf("got %+v, want 2 at rest, %d are open", st, d.open.Load())
		}
		all[1].goAway()
		time.Sleep(5 * time.Second) // one sweep at least
		if st := p.Stats(); st.Open != 1 || all[1].closed.Load() != 1 {
			t.Errorf("one that leaves, at rest: got %+v", st)
		}
		m := getMux(t, p, e)
		time.Sleep(time.Minute)
		if m.closed.Load() != 0 {
			t.Error("closed although in use")
		}
		putMux(p, e, m)
		time.Sleep(20 * time.Second)
		if st := p.Stats(); st.Open != 0 || st.Idle != 0 || d.open.Load() != 0 {
			t.Errorf("in the end: %+v", st)
		}
		m = getMux(t, p, e)
		n := getMux(t, p, e)
		putMux(p, e, n)
		p.Close()
		if n.closed.Load() != 1 || m.closed.Load() != 0 {
			t.Error("Close: want what is at rest closed, and nothing else")
		}
		putMux(p, e, m)
		if m.closed.Load() != 1 {
			t.Error("one that comes back after Close is not closed")
		}
	})
}

// TestUpgradeConnection: an upgrade gets a connection that can be upgraded.
func TestUpgradeConnection(t *testing.T) {
	t.Parallel()
	d, up := &muxDialer{slots: 10}, &dialer{}
	p := pool.New(pool.Options{Dial: d.dial, DialUpgrade: up.dial, Multiplex: pool.Maybe})
	defer p.Close()
	e := endpoint(t, "127.0.0.1:1")
	m := getMux(t, p, e)
	c := get(t, p, pool.Request{Endpoint: e, Upgrade: true})
	put(p, e, c)
	if again := get(t, p, pool.Request{Endpoint: e, Upgrade: true}); again != c || up.n.Load() != 1 {
		t.Error("a connection at rest was not used for the next upgrade")
	}
	if x := getMux(t, p, e); x != m {
		t.Error("upgrades have made the pool forget what the server can")
	}
}

func TestSharedHammer(t *testing.T) {
	t.Parallel()
	d := &muxDialer{slots: 5}
	p := pool.New(pool.Options{
		Dial: d.dial, Multiplex: pool.Always, PerServer: 3, Idle: 2, Queue: 8, QueueTime: 5 * time.Millisecond, IdleTime: 20 * time.Millisecond, Streams: 5,
	})
	servers := []*upstream.Endpoint{endpoint(t, "127.0.0.1:1"), endpoint(t, "127.0.0.1:2")}
	end := time.Now().Add(100 * time.Millisecond)
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			for time.Now().Before(end) {
				e := servers[rand.IntN(2)]
				ctx, cancel := context.WithCancel(t.Context())
				if rand.IntN(10) == 0 {
					cancel()
				}
				c, _, err := p.Get(ctx, pool.Request{Endpoint: e})
				cancel()
				if err != nil {
					continue
				}
				m, ok := c.(*mux)
				if !ok || m.closed.Load() > 0 {
					t.Error("got a connection that is closed")
					continue
				}
				if rand.IntN(20) == 0 {
					m.goAway()
				}
				putMux(p, e, m)
			}
		})
	}
	wg.Wait()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		st := p.Stats()
		if st.Waiting == 0 && st.Open == st.Idle && int64(st.Open) == d.open.Load() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %d connections really open", st, d.open.Load())
		}
	}
	p.Close()
	if d.open.Load() != 0 {
		t.Errorf("%d connections are open after Close", d.open.Load())
	}
}
