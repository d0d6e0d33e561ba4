package proxy_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

// TestClientWaits: a client that has sent a part of its request, and waits for the
// answer before it sends more, has one by the deadline also when the try has failed, and
// the next one is up to the request.
func TestClientWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &origin{feed: func(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error {
			<-s.headed
			return &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 502, Reason: "closed"}
		}}
		e := newEngine(t, o, config{servers: 3, edit: func(r *proxy.Route) {
			on(proxy.OnReset, 2)(r)
			r.Timeout = 2 * time.Second
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
			select {
			case <-c.answered:
				return dst.Data([]byte("b"), true)
			case <-time.After(time.Hour): // the codec's own time
				return &exchange.Error{Op: "read body", Side: exchange.ClientSide, Status: 408, Reason: "body_timeout"}
			}
		}
		start := time.Now()
		e.wantStatus(e.do(c), 504, "timeout")
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %v, with a timeout of 2s", took)
		}
	})
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
