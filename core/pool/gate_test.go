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

	"wproxy/core/pool"
)

// TestRequestLimit: no more than so many exchanges have a connection; who waits
// gets the turn of who is done, first come, first served.
func TestRequestLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &dialer{}
		p := pool.New(pool.Options{Dial: d.dial, Requests: 2, Queue: 2, QueueTime: time.Second})
		defer p.Close()
		e, other := endpoint(t, "127.0.0.1:1"), endpoint(t, "127.0.0.1:2")
		a, b := get(t, p, pool.Request{Endpoint: e}), get(t, p, pool.Request{Endpoint: e})
		put(p, other, get(t, p, pool.Request{Endpoint: other})) // has a limit of its own

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
		wantReason(t, err, pool.ReasonFull)
		if n := p.Stats().Waiting; n != 2 {
			t.Errorf("%d wait, want 2", n)
		}
		put(p, e, a)
		if r := <-results; r.n != 0 || r.c != pool.Conn(a) {
			t.Errorf("got %+v, want the first to have the connection", r)
		}
		start := time.Now()
		r := <-results
		wantReason(t, r.err, pool.ReasonQueueTime)
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if _, _, err := p.Get(ctx, pool.Request{Endpoint: e}); !errors.Is(err, context.Canceled) {
			t.Errorf("client gone: got %v", err)
		}
		put(p, e, a)
		put(p, e, b)
		d.fail.Store(true)
		for range 5 { // a failed dial gives its turn back
			if _, _, err := p.Get(t.Context(), pool.Request{Endpoint: e, Fresh: true}); !errors.Is(err, errDial) {
				t.Errorf("got %v", err)
			}
		}
		get(t, p, pool.Request{Endpoint: e})
		get(t, p, pool.Request{Endpoint: e})
		waiting := make(chan error)
		go func() {
			_, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
			waiting <- err
		}()
		synctest.Wait()
		p.Close()
		wantReason(t, <-waiting, "pool_closed")
	})
}

// TestEndpointLimits: a server's own limits go before those of the pool, and a reload
// that changes them meets exchanges under way.
func TestEndpointLimits(t *testing.T) {
	t.Parallel()
	d := &dialer{}
	p := pool.New(pool.Options{Dial: d.dial, PerServer: 3, Queue: -1})
	defer p.Close()
	free, limited, narrow := endpoint(t, "127.0.0.1:1"), endpoint(t, "127.0.0.1:1"), endpoint(t, "127.0.0.1:1")
	limited.MaxRequests, narrow.MaxConnections = 1, 2
	before := get(t, p, pool.Request{Endpoint: free})
	one := get(t, p, pool.Request{Endpoint: limited})
	_, _, err := p.Get(t.Context(), pool.Request{Endpoint: limited})
	wantReason(t, err, pool.ReasonFull)
	put(p, free, before) // is not the limited one's turn
	_, _, err = p.Get(t.Context(), pool.Request{Endpoint: limited})
	wantReason(t, err, pool.ReasonFull)
	two := get(t, p, pool.Request{Endpoint: narrow})
	_, _, err = p.Get(t.Context(), pool.Request{Endpoint: narrow})
	wantReason(t, err, pool.ReasonFull)
	put(p, narrow, two)
	put(p, limited, one)
	put(p, limited, get(t, p, pool.Request{Endpoint: limited}))
}

// TestRaisedLimit: who waits when a reload raises the limit goes before who comes then.
func TestRaisedLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &dialer{}
		p := pool.New(pool.Options{Dial: d.dial, QueueTime: time.Minute})
		defer p.Close()
		narrow, wide := endpoint(t, "127.0.0.1:1"), endpoint(t, "127.0.0.1:1")
		narrow.MaxRequests, wide.MaxRequests = 1, 3
		get(t, p, pool.Request{Endpoint: narrow})
		var first []string
		var mu sync.Mutex
		queue := func(name string, r pool.Request) {
			go func() {
				if _, _, err := p.Get(t.Context(), r); err == nil {
					mu.Lock()
					first = append(first, name)
					mu.Unlock()
				}
			}()
			synctest.Wait()
		}
		queue("a", pool.Request{Endpoint: narrow})
		queue("b", pool.Request{Endpoint: narrow})
		queue("late", pool.Request{Endpoint: wide})
		mu.Lock()
		if len(first) != 2 || first[0] == "late" || first[1] == "late" {
			t.Errorf("%v have a connection, want a and b", first)
		}
		mu.Unlock()
	})
}

// TestRequestLimitHammer: what many goroutines take, break and give up stays within
// the limit, and adds up.
func TestRequestLimitHammer(t *testing.T) {
	t.Parallel()
	d := &dialer{}
	const limit = 3
	p := pool.New(pool.Options{Dial: d.dial, Requests: limit, Queue: 6, QueueTime: 3 * time.Millisecond})
	defer p.Close()
	e := endpoint(t, "127.0.0.1:1")
	end := time.Now().Add(100 * time.Millisecond)
	var used, passed atomic.Int64
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for time.Now().Before(end) {
				ctx, cancel := context.WithCancel(t.Context())
				if rand.IntN(8) == 0 {
					time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, cancel)
				}
				c, _, err := p.Get(ctx, pool.Request{Endpoint: e})
				cancel()
				if err != nil {
					continue
				}
				passed.Add(1)
				if used.Add(1) > limit {
					t.Error("more exchanges than allowed")
				}
				if rand.IntN(4) == 0 {
					c.(*conn).dead.Store(true) //nolint:forcetypeassert // the dialer's
				}
				used.Add(-1)
				put(p, e, c.(*conn)) //nolint:forcetypeassert // the same
			}
		})
	}
	wg.Wait()
	if passed.Load() == 0 || p.Stats().Waiting != 0 {
		t.Fatalf("%d passed, %d wait", passed.Load(), p.Stats().Waiting)
	}
	for range limit {
		get(t, p, pool.Request{Endpoint: e})
	}
}

// TestRequestLimitShared: the limit of a server holds for exchanges that share a connection,
// over any number of them.
func TestRequestLimitShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &muxDialer{slots: 2}
		p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Always, Requests: 3, Queue: 1, QueueTime: time.Second})
		defer p.Close()
		e := endpoint(t, "127.0.0.1:1")
		all := []*mux{getMux(t, p, e), getMux(t, p, e), getMux(t, p, e)}
		got := make(chan error, 1)
		go func() {
			c, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
			if m, ok := c.(*mux); ok {
				all[2] = m
			}
			got <- err
		}()
		synctest.Wait()
		_, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
		wantReason(t, err, pool.ReasonFull)
		putMux(p, e, all[2])
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			putMux(p, e, m)
		}
		for range 3 { // every turn was given back
			all = append(all, getMux(t, p, e))
		}
		for _, m := range all[3:] {
			putMux(p, e, m)
		}
	})
}

// TestOneTimeForAllQueues: who has waited for its turn has what is left of the time to wait
// for a connection.
func TestOneTimeForAllQueues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &dialer{}
		p := pool.New(pool.Options{Dial: d.dial, Requests: 2, PerServer: 1, QueueTime: time.Second})
		defer p.Close()
		e := endpoint(t, "127.0.0.1:1")
		c := get(t, p, pool.Request{Endpoint: e})
		var wg sync.WaitGroup
		for range 2 { // one passes the gate and waits for a connection, the other one takes its place
			wg.Go(func() {
				start := time.Now()
				_, _, err := p.Get(t.Context(), pool.Request{Endpoint: e})
				wantReason(t, err, pool.ReasonQueueTime)
				if waited := time.Since(start); waited != time.Second {
					t.Errorf("waited %v", waited)
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		put(p, e, c)
		if n := p.Stats().Waiting; n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}
