package h2_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// TestDrain checks the shutdown in two steps (RFC 9113 6.8).
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		r := newRig(t, h2.ServerOptions{}, func(ctx context.Context, c exchange.Client) {
			<-letGo
			hello(ctx, c)
		})
		c, idle := r.client(), r.client()
		first := c.get("/first")
		synctest.Wait()
		// The client's PING answer is held back: it has not read the GOAWAY yet.
		c.mu.Lock()
		r.s.Drain()
		r.s.Drain()
		second := &testStream{c: c, id: 3}
		c.streams[3] = second
		_ = c.headers(3, true, get...)
		c.mu.Unlock()
		synctest.Wait()
		if err := idle.err; !errors.Is(err, io.EOF) {
			t.Errorf("an idle connection: %v", err)
		}
		c.do(func() {
			if c.err != nil || c.goAway == nil || c.goAway.LastStreamID != 3 || c.goAway.ErrCode != http2.ErrCodeNo {
				t.Errorf("GOAWAY: %v, %v", c.goAway, c.err)
			}
			_ = c.headers(5, true, get...) // ignored
		})
		close(letGo)
		for _, s := range []*testStream{first, second} {
			if status, _, err := s.answer(); status != 200 || err != nil {
				t.Errorf("stream %d: %d, %v", s.id, status, err)
			}
		}
		synctest.Wait()
		if !errors.Is(c.err, io.EOF) {
			t.Errorf("the connection goes on: %v", c.err)
		}
		late := r.client()
		synctest.Wait()
		if late.goAway == nil {
			t.Error("a connection that comes later is not told")
		}
	})
}

// TestKeepAlive checks that a silent client with an exchange is asked for a sign of life,
// and given up without one.
func TestKeepAlive(t *testing.T) {
	for _, dead := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, h2.ServerOptions{}, func(ctx context.Context, c exchange.Client) {
				_ = c.Feed(new(request))
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Minute):
					_ = c.Head(&exchange.Response{Status: 200}, true)
				}
			})
			start := time.Now()
			if dead {
				r.begin(true) // reads, and answers nothing
				_ = r.open(1, true, r.request("GET"))
				for r.handlers.Load() > 0 || r.served.Load() == 0 {
					time.Sleep(time.Second)
				}
				if took := time.Since(start); took < 75*time.Second || took > 77*time.Second {
					t.Errorf("given up after %v", took)
				}
				r.want(http2.ErrCodeNo, h2.ReasonDead)
				return
			}
			if status, _, err := r.client().get("/").answer(); status != 200 || err != nil {
				t.Errorf("after %v: %d, %v", time.Since(start), status, err)
			}
		})
	}
}
