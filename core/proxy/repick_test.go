package proxy_test

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/proxy"
	"wproxy/core/route"
)

func TestRepick(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		edit   func(h *exchange.Request)
		says   []bool // what the filter says by Reroute
		other  func(*proxy.Route, []filter.Factory)
		status int
		reason string
		route  string
		target string
	}{
		{name: "nothing changed", edit: func(*exchange.Request) {}, status: 200, route: "r", target: "/"},
		{
			name: "path changed", edit: func(h *exchange.Request) { h.SetTarget("/other", 6) },
			status: 200, route: "other", target: "/other",
		},
		{
			name: "path changed, not canonical", edit: func(h *exchange.Request) { h.SetTarget("/x/../%6fther", 13) },
			status: 200, route: "other", target: "/other",
		},
		{
			name: "path changed, switched off", edit: func(h *exchange.Request) { h.SetTarget("/x/../%6fther", 13) },
			says: []bool{false}, status: 200, route: "r", target: "/other",
		},
		{
			name: "switched off by one, asked for by another", edit: func(h *exchange.Request) { h.SetTarget("/other", 6) },
			says: []bool{true, false}, status: 200, route: "other", target: "/other",
		},
		{
			name: "switched off, asked for later", edit: func(h *exchange.Request) { h.SetTarget("/other", 6) },
			says: []bool{false, true}, status: 200, route: "other", target: "/other",
		},
		{name: "asked for, nothing changed", edit: func(*exchange.Request) {}, says: []bool{true}, status: 200, route: "r", target: "/"},
		{
			name: "path broken, switched off", edit: func(h *exchange.Request) { h.SetTarget("/a b", 4) },
			says: []bool{false}, status: 400, reason: "bad_target", route: "r",
		},
		{
			name: "encoded slash, switched off", edit: func(h *exchange.Request) { h.SetTarget("/a%2Fb", 6) },
			says: []bool{false}, status: 400, reason: "encoded_slash", route: "r",
		},
		{name: "path broken", edit: func(h *exchange.Request) { h.SetTarget("/a b", 4) }, status: 400, reason: "bad_target", route: "r"},
		{name: "authority broken", edit: func(h *exchange.Request) { h.Authority = "a b" }, status: 400, reason: "bad_host", route: "r"},
		{name: "header that matching reads", edit: func(h *exchange.Request) { h.Fields.Set("x-canary", "1") }, status: 200, route: "canary", target: "/"},
		{
			name: "not allowed there", edit: func(h *exchange.Request) { h.SetTarget("/other", 6) },
			other: func(r *proxy.Route, _ []filter.Factory) {
				r.Deny = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
			},
			status: 403, reason: "denied", route: "other",
		},
		{
			name: "a plugin has not run", edit: func(h *exchange.Request) { h.SetTarget("/other", 6) },
			other: func(r *proxy.Route, f []filter.Factory) {
				r.Filters = append(f[:1:1], &probe{name: "auth", log: &events{}})
			},
			status: 503, reason: "repick_policy", route: "r",
		},
		{
			name: "a plugin has not run, trusted", edit: func(h *exchange.Request) { h.SetTarget("/other", 6) },
			other: func(r *proxy.Route, _ []filter.Factory) {
				r.Filters, r.TrustRepick = []filter.Factory{&probe{name: "auth", log: &events{}}}, true
			},
			status: 200, route: "other", target: "/other",
		},
		{
			name: "to a fixed answer", edit: func(h *exchange.Request) { h.SetTarget("/other", 6) },
			other: func(r *proxy.Route, _ []filter.Factory) {
				r.Split, r.Respond = nil, &proxy.Respond{Status: 418}
			}, status: 418, route: "other",
		},
		{
			name: "encoded slash", edit: func(h *exchange.Request) { h.SetTarget("/a%2Fb", 6) },
			status: 400, reason: "encoded_slash", route: "r",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, filters := chain(func(a, _, _ *probe) {
				a.head = func(f *probeFilter, h *exchange.Request, end bool) error {
					tt.edit(h)
					for _, on := range tt.says {
						f.x.Engine.Reroute(on)
					}
					return f.req.Head(h, end)
				}
			})
			other := &proxy.Route{Name: "other", Info: filter.Route{Name: "other"}}
			if tt.other != nil {
				if tt.other(other, filters); other.Respond != nil {
					other.Split = nil
				}
			}
			e := newEngine(t, &origin{}, config{
				edit: func(r *proxy.Route) { r.Filters = filters },
				routes: []route.Entry[*proxy.Route]{
					{Spec: route.Spec{Name: "other", Paths: []string{"/other"}}, Value: other},
					{
						Spec:  route.Spec{Name: "canary", Headers: []route.Condition{{Name: "x-canary", Values: []string{"1"}}}},
						Value: &proxy.Route{Name: "canary", Info: filter.Route{Name: "canary"}},
					},
				},
			})
			c := e.do(newClient("GET", "/"))
			e.wantStatus(c, tt.status, tt.reason)
			m := e.line()
			if m["route"] != tt.route || m["path"] != "/" {
				t.Errorf("route %v, path %v, want %s and /", m["route"], m["path"], tt.route)
			}
			if tt.target != "" && e.origin.streams[0].head.Target != tt.target {
				t.Errorf("upstream got %s, want %s", e.origin.streams[0].head.Target, tt.target)
			}
		})
	}
}

// TestRepickMovesTheDeadline: a collected body is bounded by the time of the
// route that the exchange has now, be it longer, shorter, none, or the first.
func TestRepickMovesTheDeadline(t *testing.T) {
	t.Parallel()
	const never = time.Hour // the upstream ends it
	for _, tt := range []struct {
		name          string
		before, after time.Duration
		status        int
		took          time.Duration
	}{
		{"longer", 3 * time.Second, 8 * time.Second, 504, 8 * time.Second},
		{"shorter", 8 * time.Second, 3 * time.Second, 504, 3 * time.Second},
		{"over already", 8 * time.Second, time.Second, 504, 2 * time.Second},
		{"none any more", 3 * time.Second, -1, 200, never},
		{"the first", -1, 3 * time.Second, 504, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, filters := chain(func(a, _, _ *probe) {
					a.head = func(f *probeFilter, h *exchange.Request, end bool) error {
						time.Sleep(2 * time.Second)
						h.SetTarget("/other", 6)
						return f.req.Head(h, end)
					}
				})
				// It answers, but sees no deadline of its own.
				o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
					select {
					case <-s.done:
						return s.hang()
					case <-time.After(never - 2*time.Second):
						return answer(dst, 200, "ok")
					}
				}}
				e := newEngine(t, o, config{
					noLog: true,
					edit:  func(r *proxy.Route) { r.Filters, r.Timeout = filters, tt.before },
					routes: []route.Entry[*proxy.Route]{{
						Spec:  route.Spec{Name: "other", Paths: []string{"/other"}},
						Value: &proxy.Route{Name: "other", Timeout: tt.after},
					}},
				})
				c := newClient("POST", "/").sending()
				c.feed = func(c *client, dst exchange.Sink[*exchange.Request]) error {
					if err := errors.Join(dst.Head(&c.req, false), dst.Data(nil, false)); err != nil {
						return err
					}
					<-c.answered // the client sends nothing more
					return exchange.ErrAnswered
				}
				start := time.Now()
				e.Serve(t.Context(), c)
				if c.status != tt.status || time.Since(start) != tt.took {
					t.Errorf("got %d after %v, want %d after %v", c.status, time.Since(start), tt.status, tt.took)
				}
			})
		})
	}
}
