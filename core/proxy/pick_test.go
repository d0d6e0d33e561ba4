package proxy_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/core/balance"
	"wproxy/core/exchange"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/upstream"
)

// picking makes the engine's upstream pick by a.
func (e *engine) picking(a balance.Algorithm, k proxy.Key) {
	e.t.Helper()
	p, err := balance.New(e.upstream.Cluster, balance.Options{Algorithm: a})
	if err != nil {
		e.t.Fatal(err)
	}
	e.upstream.Picker, e.upstream.Key, e.upstream.Timed = p, k, a == balance.LeastTime
}

// another makes an upstream of its own.
func (e *engine) another(name string, o *origin) *proxy.Upstream {
	e.t.Helper()
	endpoint, err := upstream.NewEndpoint("127.0.0.1:99", 1)
	if err != nil {
		e.t.Fatal(err)
	}
	c, err := upstream.NewCluster(name, []*upstream.Endpoint{endpoint}, "")
	if err != nil {
		e.t.Fatal(err)
	}
	p := pool.New(pool.Options{Dial: func(context.Context, *upstream.Endpoint) (pool.Conn, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.dials++
		return &conn{o: o}, nil
	}})
	e.t.Cleanup(p.Close)
	return &proxy.Upstream{Cluster: c, Picker: roundRobin(e.t, c), Pool: p, Metrics: e.metrics.Upstream(name)}
}

// server serves c and returns who answered.
func (e *engine) server(c *client) string {
	e.t.Helper()
	e.log.Reset() // line looks at all of it
	e.do(c)
	if c.status != 200 {
		e.t.Fatalf("got %d", c.status)
	}
	s, _ := e.line()["server"].(string)
	return s
}

// setCookies returns the set-cookie lines of an answer.
func (c *client) setCookies() []string {
	var all []string
	for _, f := range c.fields.List() {
		if f.Name == "set-cookie" {
			all = append(all, f.Value)
		}
	}
	return all
}

// TestKeys: requests with one key go to one server, whatever else they have; without
// the key they go anywhere.
func TestKeys(t *testing.T) {
	t.Parallel()
	request := func(i int, target string, pairs ...string) *client {
		return newClient("GET", target).with("x-request-id", fmt.Sprint("id-", i)).with(pairs...)
	}
	for _, tt := range []struct {
		name    string
		key     proxy.Key
		keyed   func(i, user int) *client // i: what does not matter
		missing func(i int) *client
	}{
		{
			"header",
			proxy.Key{From: proxy.KeyHeader, Name: "x-user"},
			func(i, user int) *client { return request(i, fmt.Sprint("/", i), "x-user", fmt.Sprint("u", user)) },
			func(i int) *client { return request(i, "/", "x-users", "u1") },
		},
		{
			"cookie",
			proxy.Key{From: proxy.KeyCookie, Name: "sid"},
			func(i, user int) *client {
				if i%2 == 0 {
					return request(i, "/", "cookie", fmt.Sprintf("asid=%d; sid=u%d; b=%d", i, user, i))
				}
				return request(i, "/", "cookie", fmt.Sprint("b=", i), "cookie", fmt.Sprintf(`sid="u%d"`, user))
			},
			func(i int) *client { return request(i, "/", "cookie", "asid=1; sid; sid=; x=sid=u1") },
		},
		{
			"query",
			proxy.Key{From: proxy.KeyQuery, Name: "user"},
			func(i, user int) *client { return request(i, fmt.Sprintf("/%d?a=%d&user=u%d&b", i, i, user)) },
			func(i int) *client { return request(i, "/?auser=1&user") },
		},
		{
			"path",
			proxy.Key{From: proxy.KeyPath},
			func(i, user int) *client { return request(i, fmt.Sprintf("/u%d?a=%d", user, i)) }, nil,
		},
		{
			"client-ip",
			proxy.Key{From: proxy.KeyClientIP},
			func(i, user int) *client { return request(i, fmt.Sprint("/", i)).from(fmt.Sprint("192.0.2.", user)) }, nil,
		},
	} {
		for _, a := range []balance.Algorithm{balance.HashRing, balance.Maglev} {
			t.Run(tt.name+"/"+string(a), func(t *testing.T) {
				t.Parallel()
				e := newEngine(t, &origin{}, config{servers: 5})
				e.picking(a, tt.key)
				used := map[string]bool{}
				for user := range 40 {
					first := e.server(tt.keyed(0, user))
					used[first] = true
					for i := range 4 {
						if s := e.server(tt.keyed(i+1, user)); s != first {
							t.Fatalf("user %d was sent to %s, and then to %s", user, first, s)
						}
					}
				}
				if len(used) != 5 {
					t.Errorf("40 keys are on %d of 5 servers", len(used))
				}
				if tt.missing == nil {
					return
				}
				seen := map[string]bool{}
				for i := range 100 {
					seen[e.server(tt.missing(i))] = true
				}
				if len(seen) != 5 {
					t.Errorf("100 requests without a key went to %d of 5 servers", len(seen))
				}
			})
		}
	}
}

// TestRetryGoesElsewhere: a retry is sent to another server than the one that
// failed, with every algorithm, and to the backup when there is no other.
func TestRetryGoesElsewhere(t *testing.T) {
	t.Parallel()
	for _, a := range []balance.Algorithm{
		balance.RoundRobin, balance.Random, balance.Random2, balance.LeastConn, balance.LeastTime, balance.HashRing, balance.Maglev,
	} {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			o := &origin{dial: func(n int) error {
				if n == 0 {
					return upstreamError("dial", exchange.RetryAlways, "connect")
				}
				return nil
			}}
			e := newEngine(t, o, config{servers: 2})
			endpoints := e.upstream.Cluster.Endpoints
			endpoints[1].Tier = 7
			e.picking(a, proxy.Key{From: proxy.KeyPath})
			if s := e.server(newClient("GET", "/")); s != endpoints[1].Name {
				t.Errorf("the second try went to %s", s)
			}
			for _, x := range endpoints {
				if n := x.Live.Active.Load(); n != 0 {
					t.Errorf("%s has %d live exchanges when all are over", x.Name, n)
				}
			}
			refused, answered := endpoints[0].Latency(time.Now()), endpoints[1].Latency(time.Now())
			if timed := a == balance.LeastTime; timed != (refused > 900*time.Millisecond) || timed != (answered > 0) {
				t.Errorf("who refused is taken to answer within %v, who answered within %v", refused, answered)
			}
		})
	}
}

// TestLoadWhileConnecting: an exchange is its server's load from when that was picked:
// while a connection to it takes long, others are preferred.
func TestLoadWhileConnecting(t *testing.T) {
	t.Parallel()
	connecting, on := make(chan struct{}), make(chan struct{})
	o := &origin{dial: func(n int) error {
		if n == 0 {
			close(connecting)
			<-on
		}
		return nil
	}}
	e := newEngine(t, o, config{servers: 2})
	e.picking(balance.LeastConn, proxy.Key{})
	done := make(chan struct{})
	go func() { // ends with on
		defer close(done)
		e.Serve(t.Context(), newClient("GET", "/"))
	}()
	<-connecting
	seen := map[string]bool{}
	for range 10 {
		c := newClient("GET", "/")
		e.Serve(t.Context(), c)
		s, _ := e.line()["server"].(string)
		seen[s] = true
	}
	if len(seen) != 1 {
		t.Errorf("requests went to %v although one server was not even connected", seen)
	}
	close(on)
	<-done
}

func sticky(e *engine, c proxy.Cookie) {
	e.upstream.Sticky = proxy.NewSticky(e.upstream.Cluster, c, []byte("0123456789abcdef"))
}

// TestSticky: the first answer sets a cookie, with it a client stays where it is, and
// when that server is out it gets another with a new cookie.
func TestSticky(t *testing.T) {
	t.Parallel()
	e := newEngine(t, &origin{}, config{servers: 5})
	sticky(e, proxy.Cookie{Name: "srv", HTTPOnly: true, SameSite: "Lax"})
	first := newClient("GET", "/")
	home := e.server(first)
	lines := first.setCookies()
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "srv=") || !strings.HasSuffix(lines[0], "; Path=/; HttpOnly; SameSite=Lax") {
		t.Fatalf("set %q", lines)
	}
	if strings.Contains(lines[0], home) {
		t.Errorf("%q tells the server", lines[0])
	}
	cookie, _, _ := strings.Cut(lines[0], ";")
	for range 20 {
		c := newClient("GET", "/").with("cookie", "a=b; "+cookie)
		if s := e.server(c); s != home || len(c.setCookies()) != 0 {
			t.Fatalf("sent to %s and not to %s, set %q", s, home, c.setCookies())
		}
	}
	for _, bad := range []string{"srv=", "srv=AAAAAAAAAAAAAAAA", cookie + "x", "srv=" + home, strings.ToLower(cookie) + "_"} {
		c := newClient("GET", "/").with("cookie", bad)
		if e.server(c); len(c.setCookies()) != 1 {
			t.Errorf("%q was taken for a cookie of ours", bad)
		}
	}

	i := slices.IndexFunc(e.upstream.Cluster.Endpoints, func(x *upstream.Endpoint) bool { return x.Name == home })
	gone := e.upstream.Cluster.Endpoints[i]
	for _, reason := range []upstream.Reason{upstream.Unhealthy, upstream.Drained} {
		gone.Set(reason, time.Now())
		c := newClient("GET", "/").with("cookie", cookie)
		other := e.server(c)
		moved := c.setCookies()
		if other == home || len(moved) != 1 || strings.HasPrefix(moved[0], cookie+";") {
			t.Fatalf("%b: sent to %s, set %q", reason, other, moved)
		}
		next, _, _ := strings.Cut(moved[0], ";")
		if s := e.server(newClient("GET", "/").with("cookie", next)); s != other {
			t.Errorf("%b: the new cookie leads to %s and not to %s", reason, s, other)
		}
		gone.Clear(reason, time.Now())
	}

	// With all of them down all are tried, so the client stays; but not on who drains.
	for _, x := range e.upstream.Cluster.Endpoints {
		x.Set(upstream.Unhealthy, time.Now())
	}
	for range 10 {
		if s := e.server(newClient("GET", "/").with("cookie", cookie)); s != home {
			t.Fatalf("all are down: sent to %s", s)
		}
	}
	gone.Set(upstream.Drained, time.Now())
	for range 10 {
		if s := e.server(newClient("GET", "/").with("cookie", cookie)); s == home {
			t.Fatal("sent to who drains")
		}
	}
}

// TestStickyRetry: when the server fails the client moves, with a cookie for where it
// went.
func TestStickyRetry(t *testing.T) {
	t.Parallel()
	fails := false
	o := &origin{}
	o.dial = func(int) error {
		if fails {
			fails = false
			return upstreamError("dial", exchange.RetryAlways, "connect")
		}
		return nil
	}
	e := newEngine(t, o, config{servers: 2})
	sticky(e, proxy.Cookie{Name: "srv"})
	first := newClient("GET", "/")
	home := e.server(first)
	cookie, _, _ := strings.Cut(first.setCookies()[0], ";")
	e.pool.Close() // no connection is left
	e.upstream.Pool = pool.New(pool.Options{Dial: func(context.Context, *upstream.Endpoint) (pool.Conn, error) {
		if err := o.dial(0); err != nil {
			return nil, err
		}
		return &conn{o: o}, nil
	}})
	t.Cleanup(e.upstream.Pool.Close)
	fails = true
	c := newClient("GET", "/").with("cookie", cookie)
	if s := e.server(c); s == home || len(c.setCookies()) != 1 || strings.HasPrefix(c.setCookies()[0], cookie) {
		t.Errorf("went to %s, set %q", s, c.setCookies())
	}
}

// TestStickyAttributes: each says what it was told.
func TestStickyAttributes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cookie      proxy.Cookie
		http, https string // what follows the value
	}{
		{proxy.Cookie{}, "; Path=/", "; Path=/; Secure"},
		{proxy.Cookie{Path: "/app", MaxAge: time.Hour}, "; Path=/app; Max-Age=3600", "; Path=/app; Max-Age=3600; Secure"},
		{proxy.Cookie{Secure: proxy.SecureAlways, SameSite: "None"}, "; Path=/; SameSite=None; Secure", "; Path=/; SameSite=None; Secure"},
		{proxy.Cookie{Secure: proxy.SecureNever, HTTPOnly: true}, "; Path=/; HttpOnly", "; Path=/; HttpOnly"},
		{proxy.Cookie{MaxAge: time.Millisecond}, "; Path=/; Max-Age=1", "; Path=/; Max-Age=1; Secure"},
	} {
		tt.cookie.Name = "srv"
		for scheme, want := range map[string]string{"http": tt.http, "https": tt.https} {
			e := newEngine(t, &origin{}, config{servers: 2, edit: func(r *proxy.Route) { r.SplitCookie = proxy.NewSplitCookie(tt.cookie) }})
			sticky(e, tt.cookie)
			c := newClient("GET", "/")
			c.req.Scheme = scheme
			e.do(c)
			if lines := c.setCookies(); len(lines) != 1 || lines[0][strings.IndexByte(lines[0], ';'):] != want {
				t.Errorf("%s: %q, want %q", scheme, lines, want)
			}
		}
	}
}

// TestSecretDecides: another secret makes other cookies, the same one the same.
func TestSecretDecides(t *testing.T) {
	t.Parallel()
	e := newEngine(t, &origin{}, config{servers: 3})
	lines := func(secret string) []string {
		e.upstream.Sticky = proxy.NewSticky(e.upstream.Cluster, proxy.Cookie{Name: "s"}, []byte(secret))
		var all []string
		for range 3 {
			c := newClient("GET", "/")
			e.do(c)
			all = append(all, c.setCookies()...)
		}
		slices.Sort(all)
		return all
	}
	one, two, again := lines("secret number one"), lines("secret number two"), lines("secret number one")
	if !slices.Equal(one, again) || len(one) != 3 {
		t.Errorf("%q, and then %q", one, again)
	}
	for _, l := range two {
		if slices.Contains(one, l) {
			t.Errorf("%q with either secret", l)
		}
	}
}

// TestOwnAnswersSetNoCookie: neither does one that a plugin or wproxy gave.
func TestOwnAnswersSetNoCookie(t *testing.T) {
	t.Parallel()
	o := &origin{dial: func(int) error { return upstreamError("dial", exchange.RetryNever, "connect") }}
	e := newEngine(t, o, config{servers: 2})
	sticky(e, proxy.Cookie{Name: "srv"})
	c := newClient("GET", "/")
	e.do(c)
	if c.status != 502 || len(c.setCookies()) != 0 {
		t.Errorf("%d with %q", c.status, c.setCookies())
	}
}
