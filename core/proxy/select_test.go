package proxy_test

import (
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

// TestSelected: a request goes where a filter sends it, with the route it has, and never to
// the route's own upstream instead.
func TestSelected(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, upstream, reason string
		status                 int
	}{
		{"", "u", "", 200},
		{"spare", "spare", "", 200},
		{"nothing", "", "no_server", 503},
	} {
		_, filters := chain(func(a, _, _ *probe) {
			a.head = func(f *probeFilter, h *exchange.Request, end bool) error {
				f.x.Mu.Lock()
				f.x.Selected = tt.name
				f.x.Mu.Unlock()
				return f.req.Head(h, end)
			}
		})
		e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Filters = filters }})
		spare := e.another("spare", &origin{})
		e.snapshot.Upstreams = map[string]*proxy.Upstream{"spare": spare}
		e.wantStatus(e.do(newClient("GET", "/")), tt.status, tt.reason)
		m := e.line()
		if up, _ := m["upstream"].(string); m["route"] != "r" || tt.name != "" && up != tt.upstream {
			t.Errorf("%q: route %v, upstream %q, want %q", tt.name, m["route"], up, tt.upstream)
		}
		if n := len(e.origin.streams); (n == 1) != (tt.name == "") {
			t.Errorf("%q: the route's own upstream has got %d requests", tt.name, n)
		}
	}
}
