package proxy_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/upstream"
)

// A pipingClient can take bytes out of a pipe: so many of fd 7.
type pipingClient struct {
	*client
	can   bool
	piped int
}

func (c *pipingClient) Pipes() bool { return c.can }

func (c *pipingClient) DataPipe(fd, n int, end bool) error {
	if fd != 7 {
		panic("another pipe")
	}
	c.piped += n
	return c.Data(make([]byte, n), end)
}

// TestPiper: an upstream may hand a pipe on only where nobody looks at the body, and what
// goes through it counts.
func TestPiper(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		can    bool
		filter *probe
		pipes  bool
	}{
		{"no filter", true, nil, true},
		{"a filter without a use for the body", true, &probe{detach: true}, true},
		{"a filter that looks at it", true, &probe{}, false},
		{"a client that cannot", false, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked, pipes := false, false
			o := &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
				if err := dst.Head(&exchange.Response{Status: 200, Length: 10}, false); err != nil {
					return err
				}
				p, ok := dst.(exchange.Piper)
				asked, pipes = true, ok && p.Pipes()
				if !pipes {
					return dst.Data(make([]byte, 10), true)
				}
				if err := p.DataPipe(7, 4, false); err != nil {
					return err
				}
				return p.DataPipe(7, 6, true)
			}}
			e := newEngine(t, o, config{edit: func(r *proxy.Route) {
				if tt.filter != nil {
					tt.filter.log = &events{}
					r.Filters = []filter.Factory{tt.filter}
				}
			}})
			c := &pipingClient{client: newClient("GET", "/"), can: tt.can}
			e.Serve(t.Context(), c)
			if !asked || pipes != tt.pipes || c.status != 200 || !c.ended || c.got.Len() != 10 {
				t.Errorf("asked %v, pipes %v; got %d with %d bytes", asked, pipes, c.status, c.got.Len())
			}
			if want := map[bool]int{true: 10}[tt.pipes]; c.piped != want {
				t.Errorf("%d bytes through the pipe, want %d", c.piped, want)
			}
			if r := e.line(); r["bytes_out"] != 10.0 {
				t.Errorf("the log says %v", r["bytes_out"])
			}
		})
	}
}

// TestTiedSource: where servers are told who a connection is for, it is the client after
// trust_proxy, with its port if it is the peer itself.
func TestTiedSource(t *testing.T) {
	t.Parallel()
	var from []pool.Source
	o := &origin{}
	e := newEngine(t, o, config{trust: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	e.upstream.Pool = pool.New(pool.Options{DialFor: func(_ context.Context, _ *upstream.Endpoint, s pool.Source, _ bool) (pool.Conn, error) {
		from = append(from, s)
		return &conn{o: o}, nil
	}})
	defer e.upstream.Pool.Close()
	local := netip.MustParseAddrPort("198.51.100.1:443")
	ask := func(ip string, fields ...string) {
		c := newClient("GET", "/").from(ip).with(fields...)
		c.req.Conn.Local = local
		e.Serve(t.Context(), c)
		if c.status != 200 {
			t.Errorf("got %d", c.status)
		}
	}
	ask("192.0.2.1", "x-forwarded-for", "203.0.113.1")
	ask("192.0.2.1")
	ask("10.0.0.1", "x-forwarded-for", "203.0.113.1")
	ask("10.0.0.1")
	ask("192.0.2.1")
	want := []pool.Source{
		{Client: netip.MustParseAddrPort("192.0.2.1:1234"), Server: local},
		{Client: netip.MustParseAddrPort("203.0.113.1:0"), Server: local},
		{Client: netip.MustParseAddrPort("10.0.0.1:1234"), Server: local},
	}
	if !slices.Equal(from, want) {
		t.Errorf("connections were made for %v, want %v", from, want)
	}
}
