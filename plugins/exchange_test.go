package plugins_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/wasmfilter"
	"wproxy/plugins"
)

// A use is a plugin that ships with wproxy, and its settings.
type use struct{ plugin, config string }

// The uses that costs are stated for.
var (
	strict = use{"securityheaders", `{"preset":"strict"}`}
	limit  = use{"ratelimit", `{"rate":"1000000/s","key":"client-ip"}`}
	closed = use{"breaker", `{}`}
)

// A chain is a route's plugins around a client and an upstream that do nothing.
type chain struct {
	plugins   []*host.Plugin
	factories []filter.Factory
	filters   []filter.Filter
	x         filter.Exchange
	req       exchange.Request
	resp      exchange.Response
	conn      exchange.Conn
	cancel    context.CancelFunc
	ctx       context.Context
	route     filter.Route
	aborted   string
}

// newChain loads the plugins as they are built in.
func newChain(tb testing.TB, uses ...use) *chain {
	tb.Helper()
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { h.Close() })
	c := &chain{route: filter.Route{Name: "api"}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	tb.Cleanup(c.cancel)
	for _, u := range uses {
		wasm, err := plugins.Builtin(u.plugin)
		if err != nil {
			tb.Skip(err)
		}
		p, err := h.Load(tb.Context(), wasm, host.PluginOptions{
			Name: u.plugin, Instances: 1, Grants: plugins.Grants(u.plugin),
			OnCall: func(host.Callback, time.Duration) {},
		})
		if err != nil {
			tb.Fatal(err)
		}
		root, err := p.NewRoot(tb.Context(), []byte(u.config))
		if err != nil {
			tb.Fatal(err)
		}
		c.plugins = append(c.plugins, p)
		c.factories = append(c.factories, wasmfilter.New(root, wasmfilter.Options{Objects: objects.New(objects.Options{})}))
	}
	client := netip.MustParseAddrPort("192.0.2.17:40000")
	c.conn = exchange.Conn{
		ID: 1, Listener: "main", Remote: client, Local: netip.MustParseAddrPort("198.51.100.1:8080"),
		RemoteIP: client.Addr().String(), RemoteAddr: client.String(), LocalAddr: "198.51.100.1:8080",
	}
	c.req = exchange.Request{Method: "GET", Scheme: "http", Version: exchange.HTTP11, Conn: &c.conn}
	if err := c.req.ParseAuthority("example.com"); err != nil {
		tb.Fatal(err)
	}
	if err := c.req.ParseTarget("/index.html"); err != nil {
		tb.Fatal(err)
	}
	c.req.Fields.Replace(requestFields)
	c.resp = exchange.Response{Status: 200, Length: 1024}
	return c
}

// requestFields are what a small client asks with.
var requestFields = []exchange.Field{
	{Name: "host", Value: "example.com"},
	{Name: "accept", Value: "*/*"},
	{Name: "user-agent", Value: "test"},
}

// upstreamFields are what a small web server answers with.
var upstreamFields = []exchange.Field{
	{Name: "server", Value: "nginx"},
	{Name: "date", Value: "Thu, 01 Jan 1970 00:00:00 GMT"},
	{Name: "content-type", Value: "application/octet-stream"},
	{Name: "content-length", Value: "1024"},
	{Name: "last-modified", Value: "Thu, 01 Jan 1970 00:00:00 GMT"},
	{Name: "etag", Value: `"5f3c7c2a-400"`},
	{Name: "accept-ranges", Value: "bytes"},
}

// exchange runs a GET through the filters and back.
func (c *chain) exchange() error {
	x := &c.x
	x.Reset()
	x.Context, x.Request, x.Route, x.Engine = c.ctx, &c.req, &c.route, c
	x.ClientAddr, x.ClientIP, x.RequestID = c.conn.Remote.Addr(), c.conn.RemoteIP, "0123456789abcdef"
	c.resp.Fields.Replace(upstreamFields)
	c.filters = c.filters[:0]
	var in exchange.Sink[*exchange.Request] = requestEnd{}
	var out exchange.Sink[*exchange.Response] = responseEnd{}
	for _, f := range c.factories {
		g, err := f.New(x)
		if err != nil {
			return err
		}
		c.filters = append(c.filters, g)
		out = g.Response(out)
	}
	for _, g := range slices.Backward(c.filters) {
		in = g.Request(in)
	}
	x.SetRequestRun()
	if err := in.Head(&c.req, true); err != nil {
		return err
	}
	x.Mu.Lock()
	x.Response = &c.resp
	x.Upstream = filter.Outcome{Cluster: c.route.Cluster, Address: "192.0.2.80:80", Attempts: 1}
	x.Mu.Unlock()
	if err := out.Head(&c.resp, false); err != nil {
		return err
	}
	for _, f := range c.filters {
		f.Close(nil)
	}
	if c.aborted != "" {
		return errors.New(c.aborted)
	}
	return nil
}

// fuel returns the units of work that the plugins' callbacks have done.
func (c *chain) fuel() (n uint64) {
	for _, p := range c.plugins {
		for _, w := range p.Stats().Work {
			n += w.Fuel
		}
	}
	return n
}

// Answer, Abort, Fail and Reroute implement filter.Engine.
func (c *chain) Answer(filter.Filter, *filter.Answer) error { panic("an answer of a plugin") }
func (c *chain) Abort(reason string)                        { c.aborted = reason }
func (c *chain) Fail(e *exchange.Error)                     { c.aborted = e.Reason }
func (c *chain) Reroute(bool)                               {}

type requestEnd struct{}

func (requestEnd) Head(*exchange.Request, bool) error { return nil }
func (requestEnd) Data([]byte, bool) error            { return nil }
func (requestEnd) Trailer(*exchange.Fields) error     { return nil }

type responseEnd struct{}

func (responseEnd) Head(*exchange.Response, bool) error { return nil }
func (responseEnd) Data([]byte, bool) error             { return nil }
func (responseEnd) Trailer(*exchange.Fields) error      { return nil }

func BenchmarkExchange(b *testing.B) {
	for _, bb := range []struct {
		name string
		uses []use
	}{
		{"none", nil},
		{"securityheaders", []use{strict}},
		{"ratelimit", []use{limit}},
		{"breaker", []use{closed}},
		{"both", []use{strict, limit}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			c := newChain(b, bb.uses...)
			b.ReportAllocs()
			begun := c.fuel()
			for b.Loop() {
				if err := c.exchange(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(c.fuel()-begun)/float64(b.N), "fuel/op")
		})
	}
}

// The exchange whose cost is measured is one in which the plugins do what they are for.
func TestExchangeFields(t *testing.T) {
	c := newChain(t, strict, limit)
	if err := c.exchange(); err != nil {
		t.Fatal(err)
	}
	if len(c.x.Verdicts) != 2 {
		t.Errorf("the log hears of %d plugins, want 2: %v", len(c.x.Verdicts), c.x.Verdicts)
	}
	for _, name := range []string{"x-frame-options", "content-security-policy", "ratelimit", "ratelimit-policy"} {
		if !c.resp.Fields.Has(name) {
			t.Errorf("the response has no %s: %v", name, c.resp.Fields.List())
		}
	}
}
