package proxy_test

import (
	"net/netip"
	"strings"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

func TestForwarded(t *testing.T) {
	t.Parallel()
	trust := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	tests := []struct {
		name   string
		peer   string
		send   []string
		client string
		want   map[string]string // "": must not be there
	}{
		{
			"untrusted, nothing sent", "192.0.2.1", nil, "192.0.2.1",
			map[string]string{"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "http", "x-forwarded-host": "a.example.com", "forwarded": ""},
		},
		{
			"untrusted, everything forged", "192.0.2.1",
			[]string{
				"x-forwarded-for", "1.1.1.1", "x-forwarded-proto", "https", "x-forwarded-host", "evil", "x-forwarded-port", "1",
				"x-forwarded-client-cert", "x", "forwarded", "for=1.1.1.1", "x-real-ip", "1.1.1.1",
				"x_forwarded_for", "1.1.1.1", "x-forwarded_proto", "https", "x_real_ip", "1.1.1.1", "x_real-ip", "1.1.1.1",
				"x-wproxy-mirror", "r", "x_wproxy-mirror", "r",
			},
			"192.0.2.1",
			map[string]string{
				"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "http", "x-forwarded-host": "a.example.com",
				"x-forwarded-port": "", "x-forwarded-client-cert": "", "forwarded": "", "x-real-ip": "",
				"x_forwarded_for": "", "x-forwarded_proto": "", "x_real_ip": "", "x_real-ip": "",
				"x-wproxy-mirror": "", "x_wproxy-mirror": "",
			},
		},
		{
			"a copy that a trusted wproxy sends", "10.0.0.1",
			[]string{"x-wproxy-mirror", "r", "x_wproxy_mirror", "r"},
			"10.0.0.1",
			map[string]string{"x-wproxy-mirror": "r", "x_wproxy_mirror": ""},
		},
		{
			"others are left alone", "192.0.2.1",
			[]string{"x-forwarder", "1", "from", "me", "x_custom", "2"},
			"192.0.2.1",
			map[string]string{"x-forwarder": "1", "from": "me", "x_custom": "2"},
		},
		{
			"trusted, chain", "10.0.0.1",
			[]string{"x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.7", "x-forwarded-proto", "https", "x-forwarded-host", "b"},
			"203.0.113.9",
			map[string]string{
				"x-forwarded-for": "1.1.1.1, 203.0.113.9, 10.0.0.7, 10.0.0.1", "x-forwarded-proto": "https", "x-forwarded-host": "b",
			},
		},
		{"trusted, repeated lines", "10.0.0.1", []string{"x-forwarded-for", "1.1.1.1", "x-forwarded-for", "10.0.0.2"}, "1.1.1.1", map[string]string{"x-forwarded-for": "1.1.1.1, 10.0.0.2, 10.0.0.1"}},
		{"trusted, all of the chain too", "10.0.0.1", []string{"x-forwarded-for", "10.0.0.3, 10.0.0.2"}, "10.0.0.3", nil},
		{"trusted, garbage in the chain", "10.0.0.1", []string{"x-forwarded-for", "1.1.1.1, nonsense, 10.0.0.2"}, "10.0.0.2", nil},
		{"trusted, only garbage", "10.0.0.1", []string{"x-forwarded-for", "nonsense"}, "10.0.0.1", nil},
		{"trusted, with a port", "10.0.0.1", []string{"x-forwarded-for", "[2001:db8::1]:80"}, "2001:db8::1", nil},
		{"trusted, mapped address", "10.0.0.1", []string{"x-forwarded-for", "::ffff:1.2.3.4"}, "1.2.3.4", nil},
		{
			"trusted, Forwarded", "10.0.0.1",
			[]string{"forwarded", `for=1.1.1.1, For="[2001:db8::2]:99";Proto=https;by=x`},
			"2001:db8::2",
			map[string]string{
				"forwarded":         `for=1.1.1.1, For="[2001:db8::2]:99";Proto=https;by=x, for=10.0.0.1;proto=http`,
				"x-forwarded-proto": "https", "x-forwarded-for": "10.0.0.1",
			},
		},
		{"trusted, obfuscated node", "10.0.0.1", []string{"forwarded", "for=_hidden"}, "10.0.0.1", nil},
		{"trusted, bad proto", "10.0.0.1", []string{"x-forwarded-proto", "gopher"}, "10.0.0.1", map[string]string{"x-forwarded-proto": "http"}},
		{"trusted, smuggled twin", "10.0.0.1", []string{"x_forwarded_for", "6.6.6.6"}, "10.0.0.1", map[string]string{"x_forwarded_for": ""}},
		{"trusted v6 peer", "fd00::1", []string{"forwarded", "for=1.1.1.1"}, "1.1.1.1", map[string]string{"forwarded": `for=1.1.1.1, for="[fd00::1]";proto=http`}},
		{"a long chain ends", "10.0.0.1", []string{"x-forwarded-for", strings.Repeat("10.9.9.9,", 1000) + "10.0.0.2"}, "10.9.9.9", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, &origin{}, config{trust: trust})
			e.do(newClient("GET", "/").from(tt.peer).with(tt.send...))
			if got := e.line()["client"]; got != tt.client {
				t.Errorf("client: got %v, want %s", got, tt.client)
			}
			f := &e.origin.streams[0].head.Fields
			for k, v := range tt.want {
				got, ok := f.Get(k)
				if got != v || ok && v == "" {
					t.Errorf("%s: got %q, want %q", k, got, v)
				}
			}
			for _, k := range []string{"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"} {
				n := 0
				for name := range f.All() {
					if name == k {
						n++
					}
				}
				if n != 1 {
					t.Errorf("%s: %d lines, want 1", k, n)
				}
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	e := newEngine(t, &origin{}, config{})
	for _, tt := range []struct {
		id   string
		keep bool
	}{
		{"", false},
		{"0123-abc_DEF", true},
		{"has space", false},
		{"quote\"", false},
		{strings.Repeat("a", 128), true},
		{strings.Repeat("a", 129), false},
	} {
		c := newClient("GET", "/")
		if tt.id != "" {
			c.with("x-request-id", tt.id, "x-request-id", "second")
		}
		e.do(c)
		f := &e.origin.streams[len(e.origin.streams)-1].head.Fields
		got := f.Value("x-request-id")
		if (got == tt.id) != tt.keep || got == "" || e.line()["request_id"] != got {
			t.Errorf("sent %q: got %q, logged %v", tt.id, got, e.line()["request_id"])
		}
		if n := len(got); !tt.keep && n != 32 {
			t.Errorf("made an id of %d bytes", n)
		}
	}
}

func TestAllowDeny(t *testing.T) {
	t.Parallel()
	p := netip.MustParsePrefix
	tests := []struct {
		name        string
		allow, deny []netip.Prefix
		client      string
		status      int
	}{
		{"no lists", nil, nil, "192.0.2.1", 200},
		{"allowed", []netip.Prefix{p("192.0.2.0/24")}, nil, "192.0.2.1", 200},
		{"not allowed", []netip.Prefix{p("192.0.2.0/24")}, nil, "192.0.3.1", 403},
		{"deny wins", []netip.Prefix{p("192.0.2.0/24")}, []netip.Prefix{p("192.0.2.1/32")}, "192.0.2.1", 403},
		{"not denied", nil, []netip.Prefix{p("192.0.2.1/32")}, "192.0.2.2", 200},
		{"mapped", []netip.Prefix{p("192.0.2.0/24")}, nil, "::ffff:192.0.2.9", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Allow, r.Deny = tt.allow, tt.deny }})
			c := e.do(newClient("GET", "/").from(tt.client))
			if c.status != tt.status {
				t.Errorf("got %d, want %d", c.status, tt.status)
			}
		})
	}
}

func TestHeaderEdits(t *testing.T) {
	t.Parallel()
	o := &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
		h := &exchange.Response{Status: 200}
		h.Fields.Add("server", "x")
		h.Fields.Add("set-cookie", "a")
		h.Fields.Add("set-cookie", "b")
		return dst.Head(h, true)
	}}
	e := newEngine(t, o, config{edit: func(r *proxy.Route) {
		r.RequestHeaders = proxy.HeaderEdits{
			Remove: []string{"cookie"}, Set: []exchange.Field{{Name: "x-a", Value: "new"}}, Add: []exchange.Field{{Name: "x-b", Value: "2"}},
		}
		r.ResponseHeaders = proxy.HeaderEdits{Remove: []string{"server"}, Set: []exchange.Field{{Name: "x-c", Value: "3"}}}
	}})
	c := newClient("GET", "/").with("cookie", "s", "x-a", "old", "x-a", "old", "x-b", "1", "connection", "x-a", "keep-alive", "1", "upgrade", "h2c")
	e.do(c)
	f := &o.streams[0].head.Fields
	got := ""
	for k, v := range f.All() {
		if !strings.HasPrefix(k, "x-forwarded") && k != "x-request-id" {
			got += k + "=" + v + ";"
		}
	}
	if want := "x-a=new;x-b=1;x-b=2;"; got != want {
		t.Errorf("request: got %s, want %s", got, want)
	}
	if c.req.Fields.Value("cookie") != "s" {
		t.Error("the connector edited the client's head and not a copy")
	}
	if c.fields.Has("server") || c.fields.Value("x-c") != "3" || c.fields.Len() != 3 {
		t.Errorf("response: got %v", c.fields.List())
	}
}

func TestRetryable(t *testing.T) {
	t.Parallel()
	for _, class := range []exchange.Retry{exchange.RetryNever, exchange.RetryIfReused, exchange.RetryAlways} {
		for bits := range 32 {
			reused, idempotent, held, answered := bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0
			left := bits >> 4
			got := proxy.Retryable(class, reused, idempotent, held, answered, left)
			want := held && !answered && left == 1 &&
				(class == exchange.RetryAlways || class == exchange.RetryIfReused && reused && idempotent)
			if got != want {
				t.Errorf("class %d, reused %v, idempotent %v, held %v, answered %v, left %d: got %v",
					class, reused, idempotent, held, answered, left, got)
			}
		}
	}
}
