package proxy_test

import (
	"net/netip"
	"testing"

	"wproxy/core/proxy"
	"wproxy/core/route"
)

// TestChallenge: a pending challenge is answered before a route can redirect or deny;
// everything else goes its way, and other paths are not even asked about.
func TestChallenge(t *testing.T) {
	t.Parallel()
	const prefix = "/.well-known/acme-challenge/"
	redirect, err := route.NewRedirect("https://b.example.com", 308, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range map[string]func(*proxy.Route){
		"redirect": func(r *proxy.Route) { r.Split, r.Redirect = nil, redirect },
		"deny": func(r *proxy.Route) {
			r.Split, r.Redirect, r.Deny = nil, redirect, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		},
	} {
		e := newEngine(t, &origin{}, config{edit: edit})
		asked := 0
		p := proxy.New(proxy.Options{Metrics: e.metrics, Challenge: func(authority, path string) (string, bool) {
			asked++
			return "token.thumbprint", authority == "a.example.com" && path == prefix+"token"
		}}, &proxy.Snapshot{
			Table: e.snapshot.Table, Listeners: e.snapshot.Listeners, NoRoute: e.snapshot.NoRoute, Access: e.snapshot.Access,
		})
		e.Proxy = p
		for _, tt := range []struct {
			method, target string
			mine           bool
			asks           int
		}{
			{"GET", prefix + "token", true, 1},
			{"HEAD", prefix + "token?x", true, 1},
			{"GET", "/x/.." + prefix + "token", true, 1}, // paths are canonical by then
			{"POST", prefix + "token", false, 0},
			{"GET", prefix + "other", false, 1},
			{"GET", prefix, false, 1},
			{"GET", "/.well-known/acme-challenge", false, 0},
			{"GET", "/", false, 0},
		} {
			asked = 0
			c := e.do(newClient(tt.method, tt.target))
			want := ""
			if tt.mine && tt.method == "GET" {
				want = "token.thumbprint"
			}
			if (c.status == 200) != tt.mine || tt.mine && c.got.String() != want || asked != tt.asks {
				t.Errorf("%s %s: %d %q, asked %d times", tt.method, tt.target, c.status, c.got.String(), asked)
			}
			m := e.line()
			if tt.mine && (m["reason"] != "acme_challenge" || m["route"] != nil && m["route"] != "") {
				t.Errorf("%s %s: the log has %v", tt.method, tt.target, m)
			}
		}
		if n := e.metric("wproxy_refused_total", "reason", "acme_challenge"); n != 0 {
			t.Errorf("%v challenges are counted as refused", n)
		}
	}
}

// TestChallengeInBody: a GET with a body is a message like any other.
func TestChallengeInBody(t *testing.T) {
	t.Parallel()
	e := newEngine(t, &origin{}, config{})
	e.Proxy = proxy.New(proxy.Options{Metrics: e.metrics, Challenge: func(string, string) (string, bool) { return "yes", true }}, &proxy.Snapshot{
		Table: e.snapshot.Table, Listeners: e.snapshot.Listeners, NoRoute: e.snapshot.NoRoute, Access: e.snapshot.Access,
	})
	c := e.do(newClient("GET", "/.well-known/acme-challenge/x").sending("a", "b"))
	e.wantStatus(c, 200, "acme_challenge")
	if c.got.String() != "yes" || e.origin.dials != 0 {
		t.Errorf("got %q, %d connections", c.got.String(), e.origin.dials)
	}
}
