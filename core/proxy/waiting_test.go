package proxy_test

import (
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
