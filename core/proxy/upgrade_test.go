package proxy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

// newUpgrade is a client that asks for an upgrade, as a codec presents it: it
// feeds nothing until there is an answer.
func newUpgrade() *client {
	c := newClient("GET", "/chat")
	c.req.Upgrade = "websocket"
	c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
		if err := dst.Head(&c.req, false); err != nil {
			return err
		}
		if err := dst.Data(nil, false); err != nil {
			return err
		}
		<-c.answered
		return dst.Data(nil, true)
	}
	return c
}

// TestUpgradeIsBoundedInTime: the route's time ends an upgrade whose answer does
// not come, whatever holds it back.
func TestUpgradeIsBoundedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &origin{feed: func(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error { return s.hang() }}
		e := newEngine(t, o, config{noLog: true, edit: func(r *proxy.Route) { r.Timeout = 3 * time.Second }})
		c, start := newUpgrade(), time.Now()
		e.Serve(t.Context(), c)
		if c.status != 504 || time.Since(start) != 3*time.Second {
			t.Errorf("got %d after %v, want 504 after 3s", c.status, time.Since(start))
		}
	})
}

// TestUpgradeIsTriedAgain: the tries after the first are made although the
// request's feeder waits; a client that leaves, or a deadline that passes, in the
// middle of one ends it.
func TestUpgradeIsTriedAgain(t *testing.T) {
	t.Parallel()
	lost := upstreamError("read answer", exchange.RetryIfReused, "closed")
	for _, tt := range []struct {
		name   string
		second func(s *stream, c *client, dst exchange.Sink[*exchange.Response]) error
		status int
		after  time.Duration
	}{
		{"answered", func(_ *stream, _ *client, dst exchange.Sink[*exchange.Response]) error { return answer(dst, 426, "no") }, 426, 0},
		{"fails", func(*stream, *client, exchange.Sink[*exchange.Response]) error {
			return upstreamError("read answer", exchange.RetryNever, "truncated")
		}, 502, 0},
		{"silent", func(s *stream, _ *client, _ exchange.Sink[*exchange.Response]) error { return s.hang() }, 504, 3 * time.Second},
		{"client leaves", func(s *stream, c *client, _ exchange.Sink[*exchange.Response]) error {
			c.leave()
			close(c.answered) // the codec ends the wait
			return s.hang()
		}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var c *client
				o := &origin{}
				o.feed = func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
					switch n {
					case 0:
						return answer(dst, 200, "ok")
					case 1:
						return lost
					default:
						return tt.second(s, c, dst)
					}
				}
				e := newEngine(t, o, config{noLog: true, edit: func(r *proxy.Route) { r.Timeout = 3 * time.Second }})
				e.do(newClient("GET", "/")) // leaves a connection that has been used
				c = newUpgrade()
				start := time.Now()
				e.do(c)
				if c.status != tt.status || time.Since(start) != tt.after {
					t.Errorf("got %d after %v, want %d after %v", c.status, time.Since(start), tt.status, tt.after)
				}
				if n := len(o.streams); n != 3 {
					t.Errorf("%d streams, want 3", n)
				}
			})
		})
	}
}

// TestUpgradeIsFlushedWhileTriedAgain: the request's feeder may flush at any time of the tries that are made
// without it, and has no part in them (for the race detector).
func TestUpgradeIsFlushedWhileTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &origin{}
		o.feed = func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
			switch n {
			case 0:
				return answer(dst, 200, "ok")
			case 1:
				return upstreamError("read answer", exchange.RetryIfReused, "closed")
			default:
				return s.hang()
			}
		}
		e := newEngine(t, o, config{noLog: true, edit: func(r *proxy.Route) { r.Timeout = 3 * time.Second }})
		e.do(newClient("GET", "/")) // leaves a connection that has been used
		c := newUpgrade()
		c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
			if err := dst.Head(&c.req, false); err != nil {
				return err
			}
			for range 3 {
				time.Sleep(100 * time.Millisecond)
				if err := dst.Data(nil, false); err != nil {
					return err
				}
			}
			<-c.answered
			return dst.Data(nil, true)
		}
		e.do(c)
		if c.status != 504 || len(o.streams) != 3 {
			t.Errorf("got %d from %d streams, want 504 from 3", c.status, len(o.streams))
		}
	})
}

// TestUpgradeIsTriedAgainAfterAStatus: an upgrade is asked for again after a status, a
// time and a wait as any request is, and who leaves during the wait is not kept.
func TestUpgradeIsTriedAgainAfterAStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		first, second func(s *stream, dst exchange.Sink[*exchange.Response]) error
		leaves        time.Duration // 0: never
		status        int
		streams       int
		after         time.Duration
	}{
		{"status", busy("1"), tooOld, 0, 426, 2, time.Second},
		{"twice", busy("1"), busy("1"), 0, 426, 3, 2 * time.Second},
		{"silence", hangs, tooOld, 0, 426, 2, 500 * time.Millisecond},
		{"leaves", busy("1"), tooOld, 300 * time.Millisecond, 0, 1, 300 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &origin{feed: func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
					switch n {
					case 0:
						return tt.first(s, dst)
					case 1:
						return tt.second(s, dst)
					default:
						return tooOld(s, dst)
					}
				}}
				e := newEngine(t, o, config{servers: 3, noLog: true, edit: func(r *proxy.Route) {
					on(proxy.OnTimeout, 2, 503)(r)
					r.Retry.PerTry, r.Retry.Backoff, r.Retry.MaxBackoff = 500*time.Millisecond, 1, 1
				}})
				c := newUpgrade()
				if tt.leaves > 0 {
					time.AfterFunc(tt.leaves, func() {
						c.leave()
						close(c.answered) // the codec ends the wait
					})
				}
				start := time.Now()
				e.do(c)
				took := time.Since(start)
				if c.status != tt.status || len(o.streams) != tt.streams || took < tt.after || took > tt.after+time.Millisecond {
					t.Errorf("got %d after %v and %d tries, want %d after %v and %d", c.status, took, len(o.streams), tt.status, tt.after, tt.streams)
				}
				e.pool.Close()
			})
		})
	}
}

func busy(retryAfter string) func(s *stream, dst exchange.Sink[*exchange.Response]) error {
	return func(_ *stream, dst exchange.Sink[*exchange.Response]) error {
		h := &exchange.Response{Status: 503}
		h.Fields.Add("retry-after", retryAfter)
		return dst.Head(h, true)
	}
}

func tooOld(_ *stream, dst exchange.Sink[*exchange.Response]) error { return answer(dst, 426, "no") }

func hangs(s *stream, _ exchange.Sink[*exchange.Response]) error { return s.hang() }
