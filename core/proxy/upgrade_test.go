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
