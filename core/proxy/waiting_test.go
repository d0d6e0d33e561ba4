package proxy_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

// waiting is a client that has sent a part of its request, and waits for the answer before
// it sends more.
func waiting(part string) *client {
	c := newClient("PUT", "/")
	c.req.Length = exchange.LengthUnknown
	c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
		if err := dst.Head(&c.req, false); err != nil {
			return err
		}
		for _, p := range []string{part, ""} {
			if err := dst.Data([]byte(p), false); err != nil {
				return err
			}
		}
		select {
		case <-c.answered:
			return dst.Data([]byte("b"), true)
		case <-time.After(time.Hour): // the codec's own time
			return &exchange.Error{Op: "read body", Side: exchange.ClientSide, Status: 408, Reason: "body_timeout"}
		}
	}
	return c
}

// TestClientWaits: a client that waits for the answer before it sends more has it from the
// next server when the first one fails, at once; and if all fail it is told so at once.
func TestClientWaits(t *testing.T) {
	t.Parallel()
	closed := &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 502, Reason: "closed"}
	for _, tt := range []struct {
		name   string
		part   string
		bad    int // so many servers fail
		status int
		reason string
	}{
		{"one fails", "a", 1, 200, ""},
		{"two fail", "a", 2, 200, ""},
		{"more than is pushed before an answer is read", strings.Repeat("a", 40<<10), 2, 200, ""},
		{"all fail", "a", 3, 502, "upstream_closed"},
		{"more than is held", strings.Repeat("a", 65<<10), 1, 502, "upstream_closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &origin{feed: func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
					<-s.headed
					time.Sleep(time.Millisecond) // the client waits by now
					if n < tt.bad {
						return closed
					}
					return answer(dst, 200, "early")
				}}
				e := newEngine(t, o, config{servers: 3, edit: func(r *proxy.Route) {
					on(proxy.OnReset, 2)(r)
					r.Timeout = 2 * time.Second
				}})
				start := time.Now()
				c := e.do(waiting(tt.part))
				if tt.status == 200 {
					if c.status != 200 || c.got.String() != "early" {
						t.Errorf("got %d %q", c.status, c.got.String())
					}
					// It may have what the client sends once it is answered, too.
					if got := o.streams[len(o.streams)-1].body.String(); strings.TrimSuffix(got, "b") != tt.part {
						t.Errorf("the server that answers has %d bytes of the request, want %d", len(got), len(tt.part))
					}
				} else {
					e.wantStatus(c, tt.status, tt.reason)
				}
				if took := time.Since(start); took > 600*time.Millisecond { // back-offs
					t.Errorf("it took %v", took)
				}
				if got, want := len(o.streams), min(tt.bad+1, 3); tt.status == 200 && got != want {
					t.Errorf("%d tries, want %d", got, want)
				}
			})
		})
	}
}

// TestClientLeavesWhileItIsTriedAgain: a try that is made for a client that waits ends with
// it, at any moment.
func TestClientLeavesWhileItIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond} {
		for _, status := range []int{0, 408} {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{feed: func(n int, s *stream, _ exchange.Sink[*exchange.Response]) error {
					<-s.headed
					if n%2 == 0 {
						return &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 502, Reason: "closed"}
					}
					<-s.done // waits for the rest
					return &exchange.Error{Op: "read answer", Side: exchange.Internal, Reason: "reset", Err: exchange.ErrReset}
				}}
				e := newEngine(t, o, config{servers: 3, edit: func(r *proxy.Route) {
					on(proxy.OnReset, 5)(r)
					r.Timeout = time.Hour
				}})
				c := newClient("PUT", "/")
				c.req.Length = exchange.LengthUnknown
				c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
					if err := dst.Head(&c.req, false); err != nil {
						return err
					}
					for _, p := range []string{"a", ""} {
						if err := dst.Data([]byte(p), false); err != nil {
							return err
						}
					}
					time.Sleep(after)
					return &exchange.Error{Op: "read body", Side: exchange.ClientSide, Status: status, Reason: "gone"}
				}
				start := time.Now()
				e.do(c)
				if took := time.Since(start); took > time.Second {
					t.Errorf("gone after %v with %d: it took %v", after, status, took)
				}
			})
		}
	}
}

// TestClientGoesOnWhileItIsTriedAgain: what the client sends while its request is being
// tried again comes after what was held, whenever it comes.
func TestClientGoesOnWhileItIsTriedAgain(t *testing.T) {
	t.Parallel()
	for after := time.Duration(0); after < 40*time.Millisecond; after += 3 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			o := &origin{feed: func(n int, s *stream, dst exchange.Sink[*exchange.Response]) error {
				<-s.headed
				if n < 2 {
					time.Sleep(10 * time.Millisecond)
					return &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 502, Reason: "closed"}
				}
				<-s.got
				return answer(dst, 200, "ok")
			}}
			e := newEngine(t, o, config{servers: 3, edit: on(proxy.OnReset, 2)})
			c := newClient("PUT", "/")
			c.req.Length = exchange.LengthUnknown
			c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
				if err := dst.Head(&c.req, false); err != nil {
					return err
				}
				for _, p := range []string{"a", "", "b", "", "c", ""} {
					if err := dst.Data([]byte(p), false); err != nil {
						return err
					}
					if p == "" {
						time.Sleep(after)
					}
				}
				return dst.Data([]byte("d"), true)
			}
			e.do(c)
			if c.status != 200 || o.streams[len(o.streams)-1].body.String() != "abcd" {
				t.Errorf("pauses of %v: got %d, and the server has %q", after, c.status, o.streams[len(o.streams)-1].body.String())
			}
		})
	}
}

// TestSlowClientIsNoFailure: when the time of a request is over before its client has
// sent it, the server, which waits for the rest, has not failed.
func TestSlowClientIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, slow := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			o := &origin{feed: func(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error {
				time.Sleep(2 * time.Second)
				return &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 504, Reason: "timeout"}
			}}
			e := newEngine(t, o, config{edit: func(r *proxy.Route) { r.Timeout = 2 * time.Second }})
			e.upstream.Timed = true
			w := &watcher{}
			server := e.upstream.Cluster.Endpoints[0]
			server.Observer = w
			c := newClient("POST", "/")
			c.req.Length = exchange.LengthUnknown
			c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
				if err := dst.Head(&c.req, false); err != nil {
					return err
				}
				for _, p := range []string{"a", ""} {
					if err := dst.Data([]byte(p), false); err != nil {
						return err
					}
				}
				if slow {
					<-c.answered
				}
				return dst.Data([]byte("b"), true)
			}
			e.wantStatus(e.do(c), 504, "timeout")
			want := []string{"timeout"}
			if slow {
				want = nil
			}
			if !slices.Equal(w.said, want) {
				t.Errorf("slow client %v: the server is said to have failed: %q", slow, w.said)
			}
			if latency := server.Latency(time.Now()); (latency == 0) != slow {
				t.Errorf("slow client %v: the server has taken %v", slow, latency)
			}
		})
	}
}

// TestLongAnswerIsNoFailure: when the time of a request is over in the middle of an
// answer, its client may just be slow to take it.
func TestLongAnswerIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"timeout", "read_timeout"} {
		o := &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
			if err := dst.Head(&exchange.Response{Status: 200, Length: 10}, false); err != nil {
				return err
			}
			if err := dst.Data([]byte("half"), false); err != nil {
				return err
			}
			return &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 504, Reason: reason}
		}}
		e := newEngine(t, o, config{})
		w := &watcher{}
		e.upstream.Cluster.Endpoints[0].Observer = w
		e.do(newClient("GET", "/"))
		if blamed := len(w.said) > 0; blamed != (reason == "read_timeout") {
			t.Errorf("%s: the server is said to have failed: %q", reason, w.said)
		}
	}
}
