package proxy_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
	"wproxy/core/route"
)

// newTunnel is a client whose upgrade is accepted, and that says nothing until it is reset.
func newTunnel() *client {
	c, over := newUpgrade(), make(chan struct{})
	c.onEnd = func() { close(over) }
	c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
		if err := dst.Head(&c.req, false); err != nil {
			return err
		}
		if err := dst.Data(nil, false); err != nil {
			return err
		}
		<-over
		return &exchange.Error{Op: "read tunnel", Side: exchange.Internal, Reason: "reset", Err: exchange.ErrReset}
	}
	return c
}

// switches accepts an upgrade, and is silent until it is reset.
func switches(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
	if err := dst.Head(&exchange.Response{Status: 101, Upgrade: "websocket"}, false); err != nil {
		return err
	}
	return s.hang()
}

// next is a snapshot that comes after e's, in which the route is as edit makes it; without
// one it is gone.
func (e *engine) next(t *testing.T, grace time.Duration, edit func(r *proxy.Route)) *proxy.Snapshot {
	t.Helper()
	s := &proxy.Snapshot{
		Listeners: e.snapshot.Listeners, NoRoute: e.snapshot.NoRoute, Access: e.snapshot.Access,
		Routes: map[string]*proxy.Route{}, TunnelGrace: grace,
	}
	var entries []route.Entry[*proxy.Route]
	if edit != nil {
		r := *e.route
		edit(&r)
		s.Routes["r"] = &r
		entries = append(entries, route.Entry[*proxy.Route]{Spec: route.Spec{Name: "r", Paths: []string{"/*"}}, Value: &r})
	}
	var err error
	if s.Table, err = route.New(entries); err != nil {
		t.Fatal(err)
	}
	return s
}

func isDrained(s *proxy.Snapshot) bool {
	synctest.Wait()
	select {
	case <-s.Drained():
		return true
	default:
		return false
	}
}

// TestTunnelMoves: a tunnel lets go of a snapshot that the next one has everything of, keeps
// one whose upstream it needs, and ends a while after its route is gone.
func TestTunnelMoves(t *testing.T) {
	t.Parallel()
	same := func(*proxy.Route) {}
	changed := func(r *proxy.Route) { r.Mark[0]++; r.Parts[0]++ }
	otherUpstream := func(r *proxy.Route) { r.Parts[0]++ }
	const grace = 3 * time.Second
	for _, tt := range []struct {
		name    string
		edits   []func(*proxy.Route) // of the routes of reloads that follow, a second apart; nil: it is gone
		drained bool                 // the first snapshot, after these
		ends    time.Duration        // after the first reload; 0: it goes on
	}{
		{"same", []func(*proxy.Route){same}, true, 0},
		{"same, often", []func(*proxy.Route){same, same, same}, true, 0},
		{"another upstream", []func(*proxy.Route){otherUpstream}, false, 0},
		{"another upstream and back", []func(*proxy.Route){otherUpstream, same}, true, 0},
		{"changed", []func(*proxy.Route){changed}, false, grace},
		{"gone", []func(*proxy.Route){nil}, false, grace},
		{"gone and back in time", []func(*proxy.Route){nil, same}, true, 0},
		{"gone, and reloads that do not matter", []func(*proxy.Route){nil, changed, nil}, false, grace},
		{"gone later", []func(*proxy.Route){same, same, nil}, true, 2*time.Second + grace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &origin{feed: switches}
				e := newEngine(t, o, config{})
				e.Swap(e.next(t, grace, same)) // a snapshot that knows its routes
				first := e.Snapshot()
				c := newTunnel()
				over := make(chan struct{})
				go func() { // ends with the tunnel
					e.Serve(t.Context(), c)
					close(over)
				}()
				synctest.Wait()
				if c.status != 101 {
					t.Fatalf("got %d", c.status)
				}
				begun := time.Now()
				for i, edit := range tt.edits {
					if i > 0 {
						time.Sleep(time.Second)
					}
					e.Swap(e.next(t, grace, edit))
				}
				if got := isDrained(first); got != tt.drained {
					t.Errorf("the first snapshot is drained: %v, want %v", got, tt.drained)
				}
				reason := proxy.ReasonRouteGone
				if tt.ends == 0 {
					time.Sleep(time.Hour)
					select {
					case <-over:
						t.Fatal("the tunnel has ended")
					default:
					}
					if n := e.EndTunnels(); n != 1 {
						t.Errorf("ended %d tunnels", n)
					}
					reason = proxy.ReasonDrain
				}
				<-over
				if took := time.Since(begun); tt.ends > 0 && took != tt.ends {
					t.Errorf("ended after %v, want %v", took, tt.ends)
				}
				e.wantStatus(c, 101, reason)
				if n := e.EndTunnels(); n != 0 {
					t.Errorf("%d tunnels are left", n)
				}
				if s := e.Snapshot(); s != first && !isDrained(first) {
					t.Error("the first snapshot is held by nobody, and not drained")
				}
				if o.streams[0].code != exchange.CodeNoError {
					t.Errorf("the upstream was reset with %v", o.streams[0].code)
				}
			})
		})
	}
}

// TestTunnelPlaces: a route has as many tunnels as it may, over snapshots; one that is
// refused, or ends, leaves its place.
func TestTunnelPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		count := new(proxy.TunnelCount)
		e := newEngine(t, &origin{feed: switches}, config{edit: func(r *proxy.Route) { r.Tunnels, r.MaxTunnels = count, 2 }})
		serve := func() *client {
			c := newTunnel()
			go e.Serve(t.Context(), c) // ends with the tunnel
			synctest.Wait()
			return c
		}
		one, two := serve(), serve()
		if one.status != 101 || two.status != 101 {
			t.Fatalf("got %d, %d", one.status, two.status)
		}
		for range 3 {
			e.wantStatus(serve(), 503, "too_many_tunnels")
		}
		e.Swap(e.next(t, time.Hour, func(*proxy.Route) {}))
		e.wantStatus(serve(), 503, "too_many_tunnels")
		plain := newClient("GET", "/")
		if e.Serve(t.Context(), plain); plain.status != 502 { // its answer is a 101
			t.Errorf("a request that asks for no upgrade got %d", plain.status)
		}
		one.Reset(exchange.CodeCancel)
		synctest.Wait()
		three := serve()
		if three.status != 101 {
			t.Errorf("got %d when there was room", three.status)
		}
		two.Reset(exchange.CodeCancel)
		three.Reset(exchange.CodeCancel)
		synctest.Wait()
	})
}

// TestTunnelCut: what an upstream says before it resets a tunnel ends it in order; a client
// that has gone is not told.
func TestTunnelCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
			err := errors.Join(dst.Head(&exchange.Response{Status: 101, Upgrade: "websocket"}, false), dst.Data([]byte("goodbye"), false))
			if err != nil {
				return err
			}
			return upstreamError("read tunnel", exchange.RetryNever, "truncated")
		}}
		e := newEngine(t, o, config{})
		c := newTunnel()
		e.Serve(t.Context(), c)
		if !c.ended || c.got.String() != "goodbye" {
			t.Errorf("got %q, ended %v; want an end in order", c.got.String(), c.ended)
		}
		e.wantStatus(c, 101, "upstream_truncated")
	})
}
