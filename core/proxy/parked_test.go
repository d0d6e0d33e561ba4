package proxy_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

func TestAbortAndGoneWakeWhoIsParked(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"abort", "gone"} {
		synctest.Test(t, func(t *testing.T) {
			var parked *probeFilter
			_, filters := chain(func(_, b, _ *probe) {
				b.head = func(f *probeFilter, _ *exchange.Request, _ bool) error {
					parked = f
					w := make(waker)
					if f.x.Park(w) {
						<-w
						f.x.Unpark(w)
					}
					return exchange.ErrAnswered
				}
			})
			e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Filters = filters }})
			c := newClient("GET", "/")
			done := make(chan struct{})
			go func() { e.Serve(t.Context(), c); close(done) }()
			synctest.Wait()
			want := "client_gone"
			if how == "abort" {
				parked.x.Engine.Abort("plugin_closed")
				want = "plugin_closed"
			} else {
				c.leave()
			}
			<-done
			if !c.reset || c.status != 0 {
				t.Errorf("%s: reset %v, status %d", how, c.reset, c.status)
			}
			if got := e.line()["reason"]; got != want {
				t.Errorf("%s: reason %v, want %s", how, got, want)
			}
			e.logger.Close()
		})
	}
}

// TestIncompleteRequestIsNotHeld: a request that will never be complete is
// refused although a filter holds it, before or behind its head, and a filter that
// would hold it later does not.
func TestIncompleteRequestIsNotHeld(t *testing.T) {
	t.Parallel()
	park := func(f *probeFilter) error {
		w := make(waker)
		if f.x.Park(w) {
			<-w
			f.x.Unpark(w)
		}
		return exchange.ErrAnswered
	}
	for _, where := range []string{"head", "data", "before"} {
		synctest.Test(t, func(t *testing.T) {
			log, filters := chain(func(_, b, _ *probe) {
				switch where {
				case "data":
					b.data = func(f *probeFilter, _ []byte, _ bool) error { return park(f) }
				default:
					b.head = func(f *probeFilter, _ *exchange.Request, _ bool) error { return park(f) }
				}
			})
			o := &origin{feed: func(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error { return s.hang() }}
			e := newEngine(t, o, config{edit: func(r *proxy.Route) { r.Filters = filters }})
			c := newClient("POST", "/").sending("", "x", "y")
			if where == "before" {
				c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
					c.tell(exchange.CodeIncomplete)
					return dst.Head(&c.req, false)
				}
			}
			done := make(chan struct{})
			go func() { e.Serve(t.Context(), c); close(done) }()
			synctest.Wait()
			if where != "before" {
				c.tell(exchange.CodeIncomplete)
			}
			<-done
			e.wantStatus(c, 400, "incomplete_request")
			if where == "data" && (len(o.streams) != 1 || !o.streams[0].reset) {
				t.Error("the upstream was not reset")
			}
			if got := log.String(); !strings.HasSuffix(got, "a.close b.close c.close") {
				t.Errorf("%s: events %s", where, got)
			}
			e.logger.Close()
		})
	}
}

type waker chan struct{}

func (w waker) Wake() {
	select {
	case <-w:
	default:
		close(w)
	}
}
