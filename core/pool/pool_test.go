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

// A conn is a connection with one slot.
type conn struct {
	id     int
	busy   atomic.Bool
	dead   atomic.Bool
	closed atomic.Int32
	open   *atomic.Int64
}

func (c *conn) Reserve() bool { return !c.dead.Load() && c.busy.CompareAndSwap(false, true) }
func (c *conn) Open(context.Context) (exchange.Upstream, error) {
	return nil, errors.New("not in this test")
}
func (c *conn) Reused() bool { return false }
func (c *conn) Idle() bool   { return !c.dead.Load() && !c.busy.Load() }
func (c *conn) Close() error {
	c.dead.Store(true)
	if c.closed.Add(1) == 1 && c.open != nil {
		c.open.Add(-1)
	}
	return nil
}

// A dialer makes conns and counts them.
type dialer struct {
	n    atomic.Int64
	open atomic.Int64
	fail atomic.Bool
}

var errDial = errors.New("refused")

func (d *dialer) dial(context.Context, *upstream.Endpoint) (pool.Conn, error) {
	if d.fail.Load() {
		return nil, errDial
	}
	d.open.Add(1)
	return &conn{id: int(d.n.Add(1)), open: &d.open}, nil
}

func endpoint(tb testing.TB, address string) *upstream.Endpoint {
	tb.Helper()
	e, err := upstream.NewEndpoint(address, 1)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// get takes a connection and returns it with its number.
func get(t *testing.T, p *pool.Pool, r pool.Request) *conn {
	t.Helper()
	c, _, err := p.Get(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	k, ok := c.(*conn)
	if !ok || !k.busy.Load() {
		t.Fatal("not reserved")
	}
	return k
}

func put(p *pool.Pool, e *upstream.Endpoint, c *conn) {
	c.busy.Store(false)
	p.Put(e, c)
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	var e *exchange.Error
	if !errors.As(err, &e) || e.Reason != reason || e.Status != 503 || e.Side != exchange.UpstreamSide {
		t.Errorf("got %v, want 503 %s", err, reason)
	}
}

func TestLastInFirstOut(t *testing.T) {
	t.Parallel()
	d := &dialer{}
	p := pool.New(pool.Options{Dial: d.dial})
	defer p.Close()
	a, b := endpoint(t, "127.0.0.1:1"), endpoint(t, "127.0.0.1:2")
	c1, c2 := get(t, p, pool.Request{Endpoint: a}), get(t, p, pool.Request{Endpoint: a})
	put(p, a, c1)
	put(p, a, c2)
	if c := get(t, p, pool.Request{Endpoint: b}); c.id != 3 {
		t.Errorf("a connection to another server: got %d, want a new one", c.id)
	}
	if c := get(t, p, pool.Request{Endpoint: a}); c != c2 {
		t.Errorf("got connection %d, want the one used last", c.id)
	}
	if c := get(t, p, pool.Request{Endpoint: a, Fresh: true}); c == c1 {
		t.Error("fresh: got one at rest")
	}
	if c := get(t, p, pool.Request{Endpoint: endpoint(t, "http://127.0.0.1:1/")}); c != c1 {
		t.Error("the same server under another name has other connections")
	}
}

func TestDeadConnectionIsNotHandedOut(t *testing.T) {
	t.Parallel()
	d := &dialer{}
	p := pool.New(pool.Options{Dial: d.dial})
	defer p.Close()
	e := endpoint(t, "127.0.0.1:1")
	c1, c2 := get(t, p, pool.Request{Endpoint: e}), get(t, p, pool.Request{Endpoint: e})
	put(p, e, c1)
	put(p, e, c2)
	c2.dead.Store(true)
	if c := get(t, p, pool.Request{Endpoint: e}); c != c1 {
		t.Errorf("got connection %d, want %d", c.id, c1.id)
	}
	if c2.closed.Load() != 1 {
		t.Error("the dead one was not closed")
	}
	if st := p.Stats(); st.Open != 1 || st.Idle != 0 {
		t.Errorf("got %+v", st)
	}
}

// TestClosedWhileDialled: a server that takes a connection and closes it at once has been
// reached, and may be asked again whatever the request is.
func TestClosedWhileDialled(t *testing.T) {
	t.Parallel()
	d := &dialer{}
	p := pool.New(pool.Options{Dial: func(ctx context.Context, e *upstream.Endpoint) (pool.Conn, error) {
		c, err := d.dial(ctx, e)
		c.(*conn).dead.Store(true) //nolint:forcetypeassert // the dialer's
		return c, err
	}})
	defer p.Close()
	_, _, err := p.Get(t.Context(), pool.Request{Endpoint: endpoint(t, "127.0.0.1:1")})
	e, ok := errors.AsType[*exchange.Error](err)
	if !ok || e.Status != 502 || e.Reason != "upstream_closed" || e.Retry != exchange.RetryAlways {
		t.Errorf("got %v, want 502 upstream_closed that may always be tried again", err)
	}
	if d.open.Load() != 0 {
		t.Error("the connection was not closed")
	}
}

func TestCaps(t *testing.T) {
	t.Parallel()
	d := &dialer{}
	p := pool.New(pool.Options{Dial: d.dial, Idle: 2})
	defer p.Close()
	e, other := endpoint(t, "127.0.0.1:1"), endpoint(t, "127.0.0.1:2")
	var all []*conn
	for range 3 {
		all = append(all, get(t, p, pool.Request{Endpoint: e}))
	}
	o := get(t, p, pool.Request{Endpoint: other})
	for _, c := range all {
		put(p, e, c)
	}
	if all[0].closed.Load() != 1 || all[2].closed.Load() != 0 {
		t.Error("beyond the cap the oldest has to go")
	}
	put(p, other, o)
	if st := p.Stats(); st.Idle != 2 || st.Open != 2 {
		t.Errorf("got %+v, want 2 at rest", st)
	}
	none := pool.New(pool.Options{Dial: d.dial, Idle: -1})
	defer none.Close()
	c := get(t, none, pool.Request{Endpoint: e})
	put(none, e, c)
	if c.closed.Load() != 1 {
		t.Error("kept although none is to be kept")
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &dialer{}
		p := pool.New(pool.Options{Dial: d.dial, PerServer: 1, Queue: 2, QueueTime: time.Second})
		defer p.Close()
		e := endpoint(t, "127.0.0.1:1")
		first := get(t, p, pool.Request{Endpoint: e})

		type result struct {
			n   int
			c   pool.Conn
			err error
		}
		results := make(chan result, 2)
		for i := range 2 {
			go func() {
				c, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
				results <- result{i, c, err}
			}()
			synctest.Wait()
		}
		_, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
		wantReason(t, err, "queue_full")

		put(p, e, first) // to the one that waits longest
		if r := <-results; r.n != 0 || r.c != pool.Conn(first) {
			t.Errorf("got %+v, want the first waiter to have the connection", r)
		}
		first.dead.Store(true) // its place goes on, the connection does not
		p.Put(e, first)
		r := <-results
		c, ok := r.c.(*conn)
		if !ok || c == first {
			t.Fatalf("got %+v, want a new connection", r)
		}

		start := time.Now()
		_, _, err = p.Get(t.Context(), pool.Request{Endpoint: e})
		wantReason(t, err, "queue_timeout")
		if time.Since(start) != time.Second {
			t.Errorf("waited %v", time.Since(start))
		}
		start = time.Now()
		_, _, err = p.Get(t.Context(), pool.Request{Endpoint: e, Deadline: start.Add(100 * time.Millisecond)})
		wantReason(t, err, "queue_timeout")
		if time.Since(start) != 100*time.Millisecond {
			t.Errorf("waited %v with a deadline of 100ms", time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if _, _, err = p.Get(ctx, pool.Request{Endpoint: e}); !errors.Is(err, context.Canceled) {
			t.Errorf("client gone: got %v", err)
		}
		put(p, e, c)
		if st := p.Stats(); st.Open != 1 || st.Idle != 1 || st.Waiting != 0 {
			t.Errorf("got %+v", st)
		}
		if c := get(t, p, pool.Request{Endpoint: e, Fresh: true}); c == first || p.Stats().Open != 1 {
			t.Error("fresh, with no room: one at rest has to give way")
		}
	})
}

func TestSweep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &dialer{}
		p := pool.New(pool.Options{Dial: d.dial, IdleTime: 8 * time.Second})
		defer p.Close()
		e := endpoint(t, "127.0.0.1:1")
		old, young, dead := get(t, p, pool.Request{Endpoint: e}), get(t, p, pool.Request{Endpoint: e}), get(t, p, pool.Request{Endpoint: e})
		put(p, e, old)
		put(p, e, dead)
		dead.dead.Store(true)
		time.Sleep(5 * time.Second)
		put(p, e, young)
		synctest.Wait()
		if dead.closed.Load() != 1 || old.closed.Load() != 0 {
			t.Errorf("after 5s: dead closed %d, old closed %d", dead.closed.Load(), old.closed.Load())
		}
		time.Sleep(6 * time.Second)
		if old.closed.Load() != 1 || young.closed.Load() != 0 {
			t.Errorf("after 11s: old closed %d, young closed %d", old.closed.Load(), young.closed.Load())
		}
		time.Sleep(10 * time.Second)
		if st := p.Stats(); young.closed.Load() != 1 || st.Open != 0 || d.open.Load() != 0 {
			t.Errorf("in the end: %+v", st)
		}
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &dialer{}
		p := pool.New(pool.Options{Dial: d.dial, PerServer: 2})
		e := endpoint(t, "127.0.0.1:1")
		used, idle := get(t, p, pool.Request{Endpoint: e}), get(t, p, pool.Request{Endpoint: e})
		failed := make(chan error)
		go func() {
			_, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
			failed <- err
		}()
		synctest.Wait()
		p.Close()
		wantReason(t, <-failed, "pool_closed")
		put(p, e, idle)
		put(p, e, used)
		_, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
		wantReason(t, err, "pool_closed")
		if d.open.Load() != 0 {
			t.Errorf("%d connections are open", d.open.Load())
		}
		p.Close()
	})
}

func TestFailedDialFreesItsPlace(t *testing.T) {
	t.Parallel()
	d := &dialer{}
	p := pool.New(pool.Options{Dial: d.dial, PerServer: 1})
	defer p.Close()
	e := endpoint(t, "127.0.0.1:1")
	d.fail.Store(true)
	for range 3 {
		if _, _, err := p.Get(t.Context(), pool.Request{Endpoint: e}); !errors.Is(err, errDial) {
			t.Fatalf("got %v", err)
		}
	}
	d.fail.Store(false)
	get(t, p, pool.Request{Endpoint: e})
}

// Many goroutines take, break, return and give up, for a tenth of a second;
// in the end the books have to be balanced.
func TestHammer(t *testing.T) {
	t.Parallel()
	d := &dialer{}
	const perServer = 4
	p := pool.New(pool.Options{Dial: d.dial, PerServer: perServer, Idle: 5, Queue: 8, QueueTime: 5 * time.Millisecond, IdleTime: 20 * time.Millisecond})
	servers := []*upstream.Endpoint{endpoint(t, "127.0.0.1:1"), endpoint(t, "127.0.0.1:2")}
	end := time.Now().Add(100 * time.Millisecond)
	var wg sync.WaitGroup
	var used [2]atomic.Int64
	for range 16 {
		wg.Go(func() {
			for time.Now().Before(end) {
				i := rand.IntN(2)
				ctx, cancel := context.WithCancel(t.Context())
				if rand.IntN(10) == 0 {
					cancel()
				}
				c, _, err := p.Get(ctx, pool.Request{Endpoint: servers[i], Fresh: rand.IntN(20) == 0})
				cancel()
				if err != nil {
					continue
				}
				k, ok := c.(*conn)
				if !ok || used[i].Add(1) > perServer {
					t.Error("more connections in use than allowed")
				}
				if rand.IntN(5) == 0 {
					k.dead.Store(true)
				}
				used[i].Add(-1)
				put(p, servers[i], k)
			}
		})
	}
	wg.Wait()
	balanced := func(when string, ok func(st pool.Stats) bool) {
		t.Helper()
		end := time.Now().Add(5 * time.Second)
		for !ok(p.Stats()) || int64(p.Stats().Open) != d.open.Load() { // a sweep may be going on: it closes what it has uncounted
			if time.Now().After(end) {
				t.Fatalf("%s: %+v, %d connections really open", when, p.Stats(), d.open.Load())
			}
			time.Sleep(time.Millisecond)
		}
	}
	balanced("at the end", func(st pool.Stats) bool { return st.Waiting == 0 && st.Open == st.Idle })
	p.Close()
	balanced("after Close", func(st pool.Stats) bool { return st.Open == 0 })
}

func BenchmarkGetPut(b *testing.B) {
	d := &dialer{}
	p := pool.New(pool.Options{Dial: d.dial})
	defer p.Close()
	e := endpoint(b, "127.0.0.1:1")
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		c, _, err := p.Get(ctx, pool.Request{Endpoint: e})
		if err != nil {
			b.Fatal(err)
		}
		if k, ok := c.(*conn); ok {
			put(p, e, k)
		}
	}
}
