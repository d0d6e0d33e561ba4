package proxy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

// pluginFailed is what a filter of this test fails with.
var pluginFailed = &exchange.Error{Op: "plugin b", Side: exchange.Internal, Status: 503, Reason: "plugin_failed:b"}

// TestFilterFailsBehindTheHead: a filter that fails at a response whose head it has
// passed on is answered for as long as the client has seen nothing, and the answer
// is cut otherwise, also when the request is not complete: nobody waits for its end.
func TestFilterFailsBehindTheHead(t *testing.T) {
	t.Parallel()
	failing := func(_, b, _ *probe) {
		b.body = func(*probeFilter, []byte, bool) error { return pluginFailed }
	}
	reply := func(a, b, c *probe) {
		failing(a, b, c)
		c.head = func(f *probeFilter, _ *exchange.Request, _ bool) error { // from aside
			f.x.Mu.Lock()
			f.x.StartLocked()
			f.x.Mu.Unlock()
			go func() {
				defer f.x.Pushed()
				_ = f.answer(403, "no")
			}()
			return nil
		}
		c.data = func(*probeFilter, []byte, bool) error { return nil }
	}
	// VM dies in another stream's callback: nobody is in the direction.
	aside := func(_, b, _ *probe) {
		b.body = func(f *probeFilter, p []byte, end bool) error {
			f.x.Mu.Lock()
			f.x.StartLocked()
			f.x.Mu.Unlock()
			go func() {
				defer f.x.Pushed()
				_ = f.resp.Data(p, end) // what it still pushes is taken back
				f.x.Engine.Fail(pluginFailed)
			}()
			return nil
		}
	}
	early := func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
		if err := dst.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false); err != nil {
			return err
		}
		if err := dst.Data([]byte("secret"), false); err != nil {
			return err
		}
		return s.hang()
	}
	for _, tt := range []struct {
		name  string
		edit  func(a, b, c *probe)
		open  bool // the client does not send the rest of its request
		sends bool // the client sees the head at once
	}{
		{"unseen", failing, false, false},
		{"unseen, request open", failing, true, false},
		{"seen", failing, false, true},
		{"seen, request open", failing, true, true},
		{"reply, unseen, request open", reply, true, false},
		{"reply, seen, request open", reply, true, true},
		{"aside, unseen", aside, false, false},
		{"aside, unseen, request open", aside, true, false},
		{"aside, seen, request open", aside, true, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, filters := chain(tt.edit)
			e := newEngine(t, &origin{feed: early}, config{edit: func(r *proxy.Route) { r.Filters = filters }})
			c := newClient("POST", "/").sending("", "x")
			c.holds = !tt.sends
			if tt.open {
				over := make(chan struct{})
				c.onEnd = func() { close(over) }
				c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
					c.req.Length = 10
					if err := dst.Head(&c.req, false); err != nil {
						return err
					}
					if err := dst.Data(nil, false); err != nil {
						return err
					}
					<-over // the client says no more
					return exchange.ErrAnswered
				}
			}
			e.do(c)
			if tt.sends {
				if !c.reset || c.ended {
					t.Errorf("%s: reset %v, complete %v; want a cut answer", tt.name, c.reset, c.ended)
				}
			} else if e.wantStatus(c, 503, "plugin_failed:b"); c.reset {
				t.Errorf("%s: the client was reset", tt.name)
			}
			if got := e.line()["reason"]; got != "plugin_failed:b" {
				t.Errorf("%s: reason %v", tt.name, got)
			}
			for _, s := range e.origin.streams {
				if !s.reset {
					t.Errorf("%s: the upstream was not reset", tt.name)
				}
			}
			e.logger.Close()
		})
	}
}

// TestAnswerEndsWhileItsUpstreamFails: a filter's goroutine that is about to end the
// answer, in place of a response that its upstream breaks off, is not overtaken.
func TestAnswerEndsWhileItsUpstreamFails(t *testing.T) {
	t.Parallel()
	for _, streaming := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			_, filters := chain(func(_, b, _ *probe) {
				b.response = func(f *probeFilter, _ *exchange.Response, _ bool) error { // held back, and replaced
					f.x.Mu.Lock()
					f.x.StartLocked()
					f.x.Mu.Unlock()
					go func() {
						defer f.x.Pushed()
						h := &exchange.Response{Status: 403, Length: 2}
						_ = f.resp.Head(h, false)
						time.Sleep(time.Second) // the upstream fails meanwhile
						_ = f.resp.Data([]byte("no"), true)
					}()
					return nil
				}
			})
			e := newEngine(t, &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
				if err := dst.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false); err != nil {
					return err
				}
				time.Sleep(time.Second / 2)
				return upstreamError("read body", exchange.RetryNever, "truncated")
			}}, config{edit: func(r *proxy.Route) { r.Filters = filters }})
			c := newClient("GET", "/")
			if streaming { // the response has a goroutine of its own
				c = newClient("POST", "/").sending("x", "", "y")
			}
			e.do(c)
			if c.status != 403 || c.got.String() != "no" || c.reset {
				t.Errorf("streaming %v: got %d %q, reset %v", streaming, c.status, c.got.String(), c.reset)
			}
			e.logger.Close()
		})
	}
}
