package proxy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

// A filter that was resumed from elsewhere pushes the request on a goroutine of its own,
// and stands in a write that the upstream does not take. The exchange is over all the
// same when the answer breaks off, or the client leaves.
func TestPusherAtTheUpstream(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(s *stream) error // how the answer goes on
		leave  bool                  // the client leaves
	}{
		"the answer breaks off": {answer: func(*stream) error { return upstreamError("read body", exchange.RetryNever, "truncated") }},
		"the client leaves":     {answer: (*stream).hang, leave: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine(t, &origin{
					data: func(_ int, s *stream, p []byte) error {
						if string(p) == "second" {
							return s.hang()
						}
						return nil
					},
					feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
						time.Sleep(time.Second)
						if err := dst.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false); err != nil {
							return err
						}
						if err := dst.Data([]byte("part"), false); err != nil {
							return err
						}
						return tt.answer(s)
					},
				}, config{edit: func(r *proxy.Route) { _, r.Filters = chain(pushAside) }})
				defer e.logger.Close()
				c := newClient("POST", "/")
				over := make(chan struct{})
				c.onEnd = func() { close(over) }
				c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
					c.req.Length = 20
					if err := dst.Head(&c.req, false); err != nil {
						return err
					}
					if err := dst.Data([]byte("held"), false); err != nil {
						return err
					}
					select {
					case <-over:
					case <-time.After(10 * time.Second):
					}
					return exchange.ErrAnswered
				}
				done := make(chan struct{})
				go func() { defer close(done); e.do(c) }() // ends with the exchange
				if tt.leave {
					time.Sleep(5 * time.Second)
					c.leave()
				}
				select {
				case <-done:
				case <-time.After(time.Hour):
					t.Fatal("the exchange never ends")
				}
				if !c.reset {
					t.Error("the answer that broke off was not cut")
				}
			})
		})
	}
}

// pushAside makes the second filter pass the request on from a goroutine of its own.
func pushAside(_, b, _ *probe) {
	var head *exchange.Request
	b.head = func(_ *probeFilter, h *exchange.Request, _ bool) error { head = h; return nil }
	b.data = func(f *probeFilter, _ []byte, _ bool) error {
		f.x.Mu.Lock()
		started := f.x.StartLocked()
		f.x.Mu.Unlock()
		if !started {
			return exchange.ErrAnswered
		}
		go func() { // ends when the upstream takes it, or is reset
			defer f.x.Pushed()
			if f.req.Head(head, false) == nil && f.req.Data([]byte("first"), false) == nil && f.req.Data(nil, false) == nil {
				_ = f.req.Data([]byte("second"), false)
			}
		}()
		return nil
	}
}
