package h2_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// TestRoom checks that streams whose windows are wide open share the output: it is less
// than each of them has to write.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			if c.Feed(new(request)) == nil && c.Head(&exchange.Response{Status: 200, Length: size}, false) == nil {
				if err := c.Data(make([]byte, size), true); err != nil {
					t.Error(err)
				}
			}
		})
		c := r.client()
		c.do(func() {
			_ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
			_ = c.fr.WriteWindowUpdate(0, 1<<30)
		})
		start := time.Now()
		var all []*testStream
		for range 20 {
			all = append(all, c.get("/"))
		}
		for _, s := range all {
			if _, body, err := s.answer(); len(body) != size || err != nil {
				t.Errorf("got %d bytes, %v", len(body), err)
			}
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("somebody has waited for %v", took)
		}
	})
}

// TestGrowth checks that the window grows for a stream whose sink keeps up, up to a limit
// for the connection.
func TestGrowth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			_ = c.Feed(&countingSink{})
			_ = c.Head(&exchange.Response{Status: 200, Length: 0}, true)
		})
		c := r.client()
		var sum int64
		for range 5 {
			s := c.open()
			c.do(func() { _ = c.headers(s.id, false, get...) })
			if err := s.Data(make([]byte, 4<<20), false); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			c.do(func() { sum += s.window })
		}
		// 64 KiB each, and 2 MiB of growth for all; what was not granted yet is missing.
		if sum > 5*64<<10+2<<20 || sum < 384<<10 { // without growth: 320 KiB
			t.Errorf("five streams may send %d bytes", sum)
		}
	})
}

// countingSink takes everything.
type countingSink struct{ n int }

func (s *countingSink) Head(*exchange.Request, bool) error { return nil }
func (s *countingSink) Trailer(*exchange.Fields) error     { return nil }
func (s *countingSink) Data(p []byte, _ bool) error        { s.n += len(p); return nil }

// TestCancelledExchanges checks that a client that cancels within the rates, where the
// exchanges take their time to end, cannot have ever more of them.
func TestCancelledExchanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		r := newRig(t, h2.ServerOptions{MaxStreams: 20}, func(context.Context, exchange.Client) { <-end })
		defer close(end)
		r.begin(true)
		for i := range 1000 {
			if r.open(uint32(2*i+1), true, r.request("GET")) != nil || r.fr.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel) != nil {
				t.Fatalf("closed after %d", i)
			}
			time.Sleep(50 * time.Millisecond)
		}
		synctest.Wait()
		if n := r.most.Load(); n > 40 {
			t.Errorf("%d exchanges at a time", n)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.resets[http2.ErrCodeRefusedStream] < 900 {
			t.Errorf("resets: %v", r.resets)
		}
	})
}

// TestManyStreams checks that what is more than allowed is refused, and nothing else.
func TestManyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		r := newRig(t, h2.ServerOptions{MaxStreams: 10}, func(ctx context.Context, c exchange.Client) {
			<-end
			hello(ctx, c)
		})
		c := r.client()
		var all []*testStream
		for range 15 {
			all = append(all, c.get("/"))
		}
		synctest.Wait()
		close(end)
		for i, s := range all {
			status, _, err := s.answer()
			if i < 10 && (status != 200 || err != nil) || i >= 10 && (err == nil || *s.reset != http2.ErrCodeRefusedStream) {
				t.Errorf("stream %d: %d, %v", i, status, err)
			}
		}
		if n := r.most.Load(); n != 10 {
			t.Errorf("%d exchanges at a time", n)
		}
	})
}

// TestLateFrames checks that what was on its way when we gave a stream up is no offence.
func TestLateFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			_ = c.Feed(&request{OnHead: func(*exchange.Request, bool) error {
				return c.Head(&exchange.Response{Status: 413}, true)
			}})
		})
		r.begin(true)
		for i := range 300 {
			id := uint32(2*i + 1)
			_ = r.open(id, false, r.request("POST"))
			synctest.Wait()
			_ = r.fr.WriteData(id, false, make([]byte, 100))
			_ = r.fr.WriteWindowUpdate(id, 1)
			if err := r.open(id, true, r.head("x-trailer", "1")); err != nil {
				t.Fatalf("after %d: %v", i, err)
			}
		}
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.codes) > 0 || r.resets[http2.ErrCodeNo] != 300 || len(r.resets) != 1 {
			t.Errorf("GOAWAY %v, resets %v", r.codes, r.resets)
		}
	})
}

// TestDrainDeaf checks that a client that does not answer the PING behind the first
// GOAWAY holds the shutdown up for no longer than a second.
func TestDrainDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, h2.ServerOptions{}, hello)
		r.begin(true)
		synctest.Wait()
		start := time.Now()
		r.s.Drain()
		for closed := false; !closed; {
			time.Sleep(100 * time.Millisecond)
			r.mu.Lock()
			closed = r.closed
			r.mu.Unlock()
		}
		if took := time.Since(start); took < time.Second || took > 1200*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		r.want(http2.ErrCodeNo, "")
		if r.last[0] != 1<<31-1 || r.last[1] != 0 {
			t.Errorf("last streams: %v", r.last)
		}
	})
}
