package proxy_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"wproxy/core/balance"
	"wproxy/core/proxy"
)

// upstreamOf serves c and returns the upstream that answered.
func upstreamOf(e *engine, c *client) string {
	e.t.Helper()
	e.log.Reset() // line looks at all of it
	e.do(c)
	s, _ := e.line()["upstream"].(string)
	return s
}

// splitting makes an engine with a route that is split by these weights.
func splitting(t *testing.T, edit func(*proxy.Route), weights ...int) *engine {
	t.Helper()
	e := newEngine(t, &origin{}, config{servers: 3})
	e.split(weights...)
	if edit != nil {
		edit(e.route)
	}
	return e
}

func (e *engine) split(weights ...int) {
	e.route.Split = nil
	for i, w := range weights {
		u := e.upstream
		if i > 0 {
			u = e.another(fmt.Sprint("u", i), &origin{})
		}
		e.route.Split = append(e.route.Split, proxy.Target{Upstream: u, Weight: w})
	}
}

// TestSplitByKey: a key stays on its side, sides have their shares, and of those keys
// that a change of weights does not have to move none moves.
func TestSplitByKey(t *testing.T) {
	t.Parallel()
	const users = 3000
	e := splitting(t, func(r *proxy.Route) { r.SplitKey = proxy.Key{From: proxy.KeyHeader, Name: "x-user"} }, 90, 10)
	side := func(i int) string { return upstreamOf(e, newClient("GET", "/").with("x-user", fmt.Sprint("user", i))) }
	before := make([]string, users)
	small := 0
	for i := range before {
		if before[i] = side(i); before[i] == "u1" {
			small++
		}
		if i < 100 && side(i) != before[i] {
			t.Fatalf("user %d changed sides", i)
		}
	}
	if want := users / 10.0; math.Abs(float64(small)-want) > 6*math.Sqrt(want) {
		t.Errorf("%d of %d users are on the side of 10 %%", small, users)
	}
	e.split(80, 20)
	for i := range before {
		if now := side(i); before[i] == "u1" && now != "u1" {
			t.Fatalf("user %d was moved away from the side that grew", i)
		}
	}
}

// TestSplitDoesNotDecideTheServer: the keys of a small side, which picks servers by the same
// key, are spread over all of its servers.
func TestSplitDoesNotDecideTheServer(t *testing.T) {
	t.Parallel()
	key := proxy.Key{From: proxy.KeyHeader, Name: "x-user"}
	e := splitting(t, func(r *proxy.Route) { r.SplitKey = key }, 5, 95)
	e.picking(balance.HashRing, key)
	count, total := map[string]int{}, 0
	for i := range 4000 {
		if upstreamOf(e, newClient("GET", "/").with("x-user", fmt.Sprint("user", i))) == "u" {
			s, _ := e.line()["server"].(string)
			count[s]++
			total++
		}
	}
	for s, n := range count {
		if n*100 > total*50 {
			t.Errorf("%s has %d of %d", s, n, total)
		}
	}
	if len(count) != 3 || total < 120 || total > 280 {
		t.Errorf("%v of 4000", count)
	}
}

// TestSplitByCookie: the first answer of whatever side sets a cookie, with which a client
// stays there; what is not a value of ours counts for nothing.
func TestSplitByCookie(t *testing.T) {
	t.Parallel()
	e := splitting(t, func(r *proxy.Route) { r.SplitCookie = proxy.NewSplitCookie(proxy.Cookie{Name: "side"}) }, 1, 1)
	sides := map[string]bool{}
	for range 40 {
		c := newClient("GET", "/")
		side := upstreamOf(e, c)
		lines := c.setCookies()
		if len(lines) != 1 || !strings.HasPrefix(lines[0], "side=") || strings.Contains(lines[0], side+";") {
			t.Fatalf("set %q", lines)
		}
		sides[side] = true
		cookie, _, _ := strings.Cut(lines[0], ";")
		for range 5 {
			again := newClient("GET", "/").with("cookie", cookie)
			if s := upstreamOf(e, again); s != side || len(again.setCookies()) != 0 {
				t.Fatalf("on %s, then on %s, set %q", side, s, again.setCookies())
			}
		}
	}
	if len(sides) != 2 {
		t.Error("40 clients are on one side")
	}
	for _, bad := range []string{"side=", "side=u1", "side=" + strings.Repeat("a", 17), "side=zzzzzzzzzzzzzzzz"} {
		c := newClient("GET", "/").with("cookie", bad)
		if upstreamOf(e, c); len(c.setCookies()) != 1 {
			t.Errorf("%q was taken for a cookie of ours", bad)
		}
	}
}
