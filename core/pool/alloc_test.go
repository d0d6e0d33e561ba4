//go:build !race

package pool_test

import (
	"testing"

	"wproxy/core/pool"
)

func TestGetPutDoNotAllocate(t *testing.T) {
	d := &dialer{}
	p := pool.New(pool.Options{Dial: d.dial})
	defer p.Close()
	e := endpoint(t, "127.0.0.1:1")
	put(p, e, get(t, p, pool.Request{Endpoint: e}))
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		c, _, _ := p.Get(ctx, pool.Request{Endpoint: e})
		if k, ok := c.(*conn); ok {
			put(p, e, k)
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func TestSharedGetPutDoNotAllocate(t *testing.T) {
	d := &muxDialer{slots: 10}
	p := pool.New(pool.Options{Dial: d.dial, Multiplex: pool.Maybe})
	defer p.Close()
	e := endpoint(t, "127.0.0.1:1")
	putMux(p, e, getMux(t, p, e))
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		c, _, _ := p.Get(ctx, pool.Request{Endpoint: e})
		if m, ok := c.(*mux); ok {
			putMux(p, e, m)
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}
