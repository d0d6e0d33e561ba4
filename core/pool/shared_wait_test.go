package pool_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// TestSlotsOfWhoHasLeft: slots that are free because those who waited for the dial have
// gone are offered to who waits in the queue.
func TestSlotsOfWhoHasLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &muxDialer{slots: 3, takes: 500 * time.Millisecond}
		p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Always, PerServer: 1, Streams: 3, QueueTime: 2 * time.Second})
		defer p.Close()
		e := endpoint(t, "127.0.0.1:1")
		get := func(ctx context.Context) <-chan error {
			done := make(chan error, 1)
			go func() {
				_, _, err := p.Get(ctx, pool.Request{Endpoint: e})
				done <- err
			}()
			synctest.Wait()
			return done
		}
		ctx, cancel := context.WithCancel(t.Context())
		all := []<-chan error{get(t.Context()), get(ctx), get(t.Context()), get(t.Context())} // the dialler, two behind it, one in the queue
		cancel()
		start := time.Now()
		for i, done := range all {
			if err := <-done; (err != nil) != (i == 1) {
				t.Errorf("%d: %v", i, err)
			}
		}
		if took := time.Since(start); took != 500*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if st := p.Stats(); st.Open != 1 || st.Waiting != 0 {
			t.Errorf("got %+v", st)
		}
	})
}

// TestUpgradeWaits: an upgrade that waits for a connection of its own keeps no slot of
// another from those behind it.
func TestUpgradeWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, up := &muxDialer{slots: 2}, &dialer{}
		p := pool.New(pool.Options{Dial: d.dial, DialUpgrade: up.dial, Multiplex: pool.Maybe, PerServer: 2, QueueTime: time.Second})
		defer p.Close()
		e := endpoint(t, "127.0.0.1:1")
		a := getMux(t, p, e)
		for range 3 {
			getMux(t, p, e)
		}
		upgraded, got := make(chan error, 1), make(chan error, 1)
		go func() {
			_, _, err := p.Get(t.Context(), pool.Request{Endpoint: e, Upgrade: true})
			upgraded <- err
		}()
		synctest.Wait()
		go func() {
			_, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
			got <- err
		}()
		synctest.Wait()
		putMux(p, e, a) // an exchange ends, another one on the same connection goes on
		synctest.Wait()
		select {
		case err := <-got:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("a free slot was not given to who waits for one")
		}
		wantReason(t, <-upgraded, "queue_timeout")
	})
}

// TestUpgradeTakesPlace: where no more connections may be made, one that nobody uses gives
// way to an upgrade, at once or when its last exchange ends.
func TestUpgradeTakesPlace(t *testing.T) {
	t.Parallel()
	for _, busy := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d, up := &muxDialer{slots: 10}, &dialer{}
			p := pool.New(pool.Options{Dial: d.dial, DialUpgrade: up.dial, Multiplex: pool.Maybe, PerServer: 1, QueueTime: time.Second})
			defer p.Close()
			e := endpoint(t, "127.0.0.1:1")
			m := getMux(t, p, e)
			if busy {
				time.AfterFunc(500*time.Millisecond, func() { putMux(p, e, m) })
			} else {
				putMux(p, e, m)
			}
			c, _, err := p.Get(t.Context(), pool.Request{Endpoint: e, Upgrade: true})
			if err != nil {
				t.Fatal(err)
			}
			if m.closed.Load() != 1 {
				t.Error("two connections where one is allowed")
			}
			if st := p.Stats(); st.Open != 1 || st.Idle != 0 {
				t.Errorf("got %+v", st)
			}
			if k, ok := c.(*conn); ok {
				put(p, e, k)
			}
		})
	}
}

// TestNoSlotsAtRest: a connection whose server takes nothing at present, and that nobody
// uses, is no reason to wait: another one may be better.
func TestNoSlotsAtRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &muxDialer{slots: 1}
		p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Always, PerServer: 1})
		defer p.Close()
		e := endpoint(t, "127.0.0.1:1")
		m := getMux(t, p, e)
		putMux(p, e, m)
		m.mu.Lock()
		m.slots = 0
		m.mu.Unlock()
		c, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
		if err != nil || c == pool.Conn(m) || m.closed.Load() != 1 {
			t.Errorf("got %v, %v", c, err)
		}
		if st := p.Stats(); st.Open != 1 || st.Idle != 0 {
			t.Errorf("got %+v", st)
		}
	})
}

// TestClosedWhileDialling: a connection that is made while its pool is closed is closed
// when its last exchange ends, and nothing is counted twice.
func TestClosedWhileDialling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &muxDialer{slots: 10, takes: time.Second}
		p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Always})
		e := endpoint(t, "127.0.0.1:1")
		errs := make(chan error, 3)
		conns := make(chan pool.Conn, 3)
		for range 3 {
			go func() {
				c, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
				if err == nil {
					conns <- c
				}
				errs <- err
			}()
		}
		synctest.Wait()
		p.Close()
		served := 0
		for range 3 {
			if err := <-errs; err != nil {
				wantReason(t, err, "pool_closed")
				continue
			}
			served++
		}
		for range served {
			m, ok := (<-conns).(*mux)
			if !ok {
				t.Fatal("no mux")
			}
			putMux(p, e, m)
		}
		if st := p.Stats(); st.Open != 0 || st.Idle != 0 || d.open.Load() != 0 {
			t.Errorf("got %+v, %d open", st, d.open.Load())
		}
	})
}

// TestMixedServers: that one server of an upstream has only connections for one exchange
// says nothing of another.
func TestMixedServers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		plain := &muxDialer{plain: true, takes: time.Second}
		many := &muxDialer{slots: 100, takes: time.Second}
		one, other := endpoint(t, "127.0.0.1:1"), endpoint(t, "127.0.0.1:2")
		p := pool.New(pool.Options{Multiplex: pool.Maybe, Dial: func(ctx context.Context, e *upstream.Endpoint) (pool.Conn, error) {
			if e == one {
				return plain.dial(ctx, e)
			}
			return many.dial(ctx, e)
		}})
		defer p.Close()
		get(t, p, pool.Request{Endpoint: one})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, _, err := p.Get(t.Context(), pool.Request{Endpoint: other}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := many.n.Load(); n != 1 {
			t.Errorf("%d dials, want 1", n)
		}
	})
}

// TestNews: who waits hears of it, soon, when a server allows more streams, or says that it
// leaves, although nobody gives anything back.
func TestNews(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(m *mux){
		"more": func(m *mux) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.slots = 2
		},
		"leaves": func(m *mux) { m.goAway() },
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &muxDialer{slots: 1}
			p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Always, PerServer: 1, QueueTime: time.Second})
			e := endpoint(t, "127.0.0.1:1")
			m := getMux(t, p, e)
			time.AfterFunc(300*time.Millisecond, func() { f(m) })
			start := time.Now()
			c, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
			if took := time.Since(start); err != nil || took > 400*time.Millisecond {
				t.Errorf("%s: got %v after %v", name, err, took)
			}
			if x, ok := c.(*mux); ok {
				putMux(p, e, x)
			}
			putMux(p, e, m)
			p.Close()
			if st := p.Stats(); st.Open != 0 || st.Idle != 0 || d.open.Load() != 0 {
				t.Errorf("%s: got %+v, %d open", name, st, d.open.Load())
			}
		})
	}
}
