package proxy_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/metrics"
	"wproxy/core/proxy"
)

// mirroring makes an engine whose route is copied to the upstream "copy" at o.
func mirroring(t *testing.T, o *origin, share float64, body int) *engine {
	t.Helper()
	e := newEngine(t, &origin{}, config{})
	e.route.Mirror = proxy.NewMirror(e.another("copy", o), share, body, e.metrics.Mirror("r", "copy"))
	e.route.RequestHeaders.Set = []exchange.Field{{Name: "x-edited", Value: "yes"}}
	return e
}

func (e *engine) mirrored(outcome string) float64 {
	return e.metric("wproxy_mirrored_total", "route", "r", "upstream", "copy", "outcome", outcome)
}

// TestMirror: a copy has what the upstream got, a mark, and nothing of its answer comes
// back.
func TestMirror(t *testing.T) {
	t.Parallel()
	for _, c := range []func() *client{
		func() *client { return newClient("GET", "/a?b=c").with("x-user", "u") },
		func() *client {
			return newClient("POST", "/a").sending("bo", "", "dy").with("x-wproxy-mirror", "forged")
		},
		func() *client { c := newClient("PUT", "/a").sending("body"); c.trailer = &exchange.Fields{}; return c },
	} {
		synctest.Test(t, func(t *testing.T) {
			o := &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
				return answer(dst, 500, "of the copy")
			}}
			e := mirroring(t, o, 1, 1000)
			client := e.do(c())
			if client.status != 200 || client.got.String() != "ok" {
				t.Errorf("the client got %d %q", client.status, client.got.String())
			}
			synctest.Wait()
			if len(o.streams) != 1 {
				t.Fatalf("%d copies", len(o.streams))
			}
			orig, copied := e.origin.streams[0], o.streams[0]
			if copied.head.Method != orig.head.Method || copied.head.Target != orig.head.Target || copied.head.Authority != orig.head.Authority {
				t.Errorf("copy of %s %s%s: %s %s%s", orig.head.Method, orig.head.Authority, orig.head.Target,
					copied.head.Method, copied.head.Authority, copied.head.Target)
			}
			if copied.body.String() != orig.body.String() || !copied.ended {
				t.Errorf("body %q of the copy, want %q", copied.body.String(), orig.body.String())
			}
			for _, f := range orig.head.Fields.List() {
				if f.Name != "x-wproxy-mirror" && copied.head.Fields.Value(f.Name) != f.Value {
					t.Errorf("%s of the copy is %q, want %q", f.Name, copied.head.Fields.Value(f.Name), f.Value)
				}
			}
			if v, ok := copied.head.Fields.Get("x-wproxy-mirror"); !ok || v != "r" {
				t.Errorf("the mark is %q", v)
			}
			if n := e.mirrored(metrics.MirrorAnswered); n != 1 {
				t.Errorf("%v copies counted", n)
			}
		})
	}
}

// TestMirrorHangs: a mirror that never answers delays nobody, holds a bounded number of
// copies, and is given up.
func TestMirrorHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &origin{feed: func(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error { return s.hang() }}
		e := mirroring(t, o, 1, 1000)
		start := time.Now()
		for range 100 {
			if c := e.do(newClient("GET", "/")); c.status != 200 {
				t.Fatalf("the client got %d", c.status)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("clients waited %v for a mirror", took)
		}
		synctest.Wait()
		if n := e.mirrored(metrics.MirrorSkipped); n != 36 || o.dialed() != 64 {
			t.Errorf("%v were left out and %d sent, want 36 and 64", n, o.dialed())
		}
		// A reload waits for copies, but not for ever.
		old := e.snapshot
		e.Swap(&proxy.Snapshot{Table: old.Table, Listeners: old.Listeners, NoRoute: old.NoRoute})
		<-old.Drained()
		if took := time.Since(start); took < time.Second || took > time.Minute {
			t.Errorf("given up after %v", took)
		}
		synctest.Wait()
		if n := e.mirrored(metrics.MirrorFailed); n != 64 {
			t.Errorf("%v counted as failed", n)
		}
		e.do(newClient("GET", "/"))
		if synctest.Wait(); o.dialed() != 64+1 {
			t.Errorf("there is room again, but no copy was sent: %d", o.dialed())
		}
		time.Sleep(time.Minute)
	})
}

// TestMirrorBody: what is larger than is held is not copied; nor what has not come whole.
func TestMirrorBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &origin{}
		e := mirroring(t, o, 1, 10)
		e.do(newClient("POST", "/").sending("12345", "67890"))
		e.do(newClient("POST", "/").sending("12345", "678901"))
		known := newClient("POST", "/").sending("12345678901")
		known.req.Length = 11
		e.do(known)
		broken := newClient("POST", "/")
		broken.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
			c.req.Length = exchange.LengthUnknown
			if err := dst.Head(&c.req, false); err != nil {
				return err
			}
			if err := dst.Data([]byte("123"), false); err != nil {
				return err
			}
			return &exchange.Error{Op: "read body", Side: exchange.ClientSide, Status: 400, Reason: "bad_chunk"}
		}
		e.do(broken)
		synctest.Wait()
		if len(o.streams) != 1 || o.streams[0].body.String() != "1234567890" {
			t.Errorf("%d copies", len(o.streams))
		}
		if large, half := e.mirrored(metrics.MirrorTooLarge), e.mirrored(metrics.MirrorIncomplete); large != 2 || half != 1 {
			t.Errorf("%v too large, %v incomplete", large, half)
		}
		for range 200 { // all of them have given their place back
			e.do(newClient("GET", "/"))
			synctest.Wait()
		}
		if n := e.mirrored(metrics.MirrorSkipped); n != 0 {
			t.Errorf("%v left out", n)
		}
	})
}

// TestMirrorShare copies about as many as it says.
func TestMirrorShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &origin{}
		e := mirroring(t, o, 0.2, 10)
		for range 2000 {
			e.do(newClient("GET", "/"))
			synctest.Wait()
		}
		if n := len(o.streams); n < 290 || n > 510 { // 400 ± 6 standard deviations of 18
			t.Errorf("%d of 2000 were copied", n)
		}
	})
}

// TestMirrorConcurrently: copies are made while the heads they come from are used again.
func TestMirrorConcurrently(t *testing.T) {
	t.Parallel()
	var bad atomic.Int64
	o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
		if want := strings.TrimPrefix(s.head.Target, "/"); s.head.Fields.Value("x-n") != want || s.body.String() != want {
			bad.Add(1)
		}
		return answer(dst, 200, "")
	}}
	e := mirroring(t, o, 1, 100)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				n := fmt.Sprint(g*1000 + i)
				e.Serve(t.Context(), newClient("POST", "/"+n).with("x-n", n).sending(n))
			}
		})
	}
	wg.Wait()
	old := e.snapshot
	e.Swap(&proxy.Snapshot{Table: old.Table, Listeners: old.Listeners, NoRoute: old.NoRoute})
	<-old.Drained()
	if n := bad.Load(); n != 0 {
		t.Errorf("%d copies are mixed up", n)
	}
}
