package pool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

// from returns the source of client n.
func from(n int) pool.Source {
	return pool.Source{
		Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 1),
		Server: netip.MustParseAddrPort("198.51.100.1:443"),
	}
}

// A tiedDialer makes connections and remembers whose they are.
type tiedDialer struct {
	muxDialer
	mu    sync.Mutex
	whose map[pool.Conn]pool.Source // guarded by mu
}

func (d *tiedDialer) dialFor(ctx context.Context, e *upstream.Endpoint, from pool.Source, upgrade bool) (pool.Conn, error) {
	c, err := d.dial(ctx, e)
	if err != nil {
		return nil, err
	}
	if upgrade && !d.plain {
		_ = c.Close()
		d.open.Add(1)
		c = &conn{id: int(d.n.Load()), open: &d.open}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.whose[c] = from
	return c, nil
}

// owned reports whether c was made for from.
func (d *tiedDialer) owned(c pool.Conn, from pool.Source) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.whose[c] == from
}

func newTiedDialer(plain bool, slots int) *tiedDialer {
	return &tiedDialer{muxDialer: muxDialer{plain: plain, slots: slots}, whose: map[pool.Conn]pool.Source{}}
}

// TestTied: a connection that was made for a client serves that client, and nobody else.
func TestTied(t *testing.T) {
	t.Parallel()
	d := newTiedDialer(true, 1)
	p := pool.New(pool.Options{Dial: d.dial, DialFor: d.dialFor})
	defer p.Close()
	if !p.Tied() || pool.New(pool.Options{Dial: d.dial}).Tied() {
		t.Error("Tied is wrong")
	}
	e := endpoint(t, "127.0.0.1:1")
	a := get(t, p, pool.Request{Endpoint: e, Source: from(1)})
	a.busy.Store(false)
	p.PutFor(e, a, from(1))
	b := get(t, p, pool.Request{Endpoint: e, Source: from(2)})
	if a == b {
		t.Fatal("client 2 got the connection of client 1")
	}
	b.busy.Store(false)
	p.PutFor(e, b, from(2))
	if c := get(t, p, pool.Request{Endpoint: e, Source: from(1)}); c != a {
		t.Error("client 1 did not get its own again")
	}
	if st := p.Stats(); st.Open != 2 || st.Idle != 1 {
		t.Errorf("got %+v", st)
	}
}

// TestTiedLimit: the limit of a server is that of all clients together: connections at rest
// give way, and what comes free is made anew for who waits.
func TestTiedLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newTiedDialer(true, 1)
		p := pool.New(pool.Options{Dial: d.dial, DialFor: d.dialFor, PerServer: 1})
		defer p.Close()
		e := endpoint(t, "127.0.0.1:1")
		a := get(t, p, pool.Request{Endpoint: e, Source: from(1)})
		a.busy.Store(false)
		p.PutFor(e, a, from(1))
		b := get(t, p, pool.Request{Endpoint: e, Source: from(2)})
		if a.closed.Load() != 1 || d.open.Load() != 1 {
			t.Error("the connection at rest has not given way")
		}
		got := make(chan pool.Conn)
		go func() {
			c, _, err := p.Get(t.Context(), pool.Request{Endpoint: e, Source: from(3)})
			if err != nil {
				t.Error(err)
			}
			got <- c
		}()
		synctest.Wait()
		b.busy.Store(false)
		p.PutFor(e, b, from(2))
		if c := <-got; c == pool.Conn(b) || !d.owned(c, from(3)) {
			t.Error("client 3 got the connection of client 2")
		}
		if d.open.Load() != 1 {
			t.Errorf("%d open", d.open.Load())
		}
	})
}

// TestTiedShared: the same where a connection carries many exchanges.
func TestTiedShared(t *testing.T) {
	t.Parallel()
	d := newTiedDialer(false, 3)
	p := pool.New(pool.Options{Dial: d.dial, DialFor: d.dialFor, Multiplex: pool.Always, PerServer: 2})
	defer p.Close()
	e := endpoint(t, "127.0.0.1:1")
	take := func(n int) *mux {
		c, _, err := p.Get(t.Context(), pool.Request{Endpoint: e, Source: from(n)})
		m, ok := c.(*mux)
		if err != nil || !ok {
			t.Fatalf("got %T, %v", c, err)
		}
		return m
	}
	a, a2, b := take(1), take(1), take(2)
	if a != a2 || a == b {
		t.Error("clients and connections are mixed up")
	}
	b.free()
	p.PutFor(e, b, from(2))
	if c := take(3); c == b || b.closed.Load() != 1 || d.open.Load() != 2 {
		t.Error("a connection that nobody uses has not given way")
	}
}

// TestTiedRandom: whatever happens, nobody gets what was made for somebody else, the
// limit holds, and nothing is left open.
func TestTiedRandom(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]pool.Options{
		"one at a time": {}, "shared": {Multiplex: pool.Always}, "either": {Multiplex: pool.Maybe},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newTiedDialer(name == "one at a time", 3)
			d.takes = 50 * time.Microsecond
			o.Dial, o.DialFor = d.dial, d.dialFor
			o.PerServer, o.Idle, o.Queue, o.QueueTime, o.IdleTime, o.Streams = 4, 3, 8, 5*time.Millisecond, 20*time.Millisecond, 5
			p := pool.New(o)
			e := endpoint(t, "127.0.0.1:1")
			var served atomic.Int64
			var wg sync.WaitGroup
			for g := range 16 {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(uint64(g), 1))
					for range 300 {
						source := from(r.IntN(5))
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(3000))*time.Microsecond)
						c, _, err := p.Get(ctx, pool.Request{Endpoint: e, Source: source, Upgrade: r.IntN(10) == 0, Fresh: r.IntN(10) == 0})
						cancel()
						if err != nil {
							var x *exchange.Error
							if !errors.As(err, &x) && !errors.Is(err, context.DeadlineExceeded) {
								t.Error(err)
							}
							continue
						}
						served.Add(1)
						if !d.owned(c, source) {
							t.Error("somebody else's connection")
						}
						time.Sleep(time.Duration(r.IntN(100)) * time.Microsecond)
						switch k := c.(type) {
						case *conn:
							k.dead.Store(r.IntN(10) == 0)
							k.busy.Store(false)
						case *mux:
							if r.IntN(50) == 0 {
								k.goAway()
							}
							k.free()
						}
						p.PutFor(e, c, source)
					}
				})
			}
			wg.Wait()
			if served.Load() < 100 {
				t.Errorf("only %d were served", served.Load())
			}
			if st := p.Stats(); st.Open > 4 || st.Waiting != 0 {
				t.Errorf("got %+v", st)
			}
			p.Close()
			if n := d.open.Load(); n != 0 {
				t.Errorf("%d connections are left open", n)
			}
		})
	}
}
