package proxy_test

import (
	"net/netip"
	"strings"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/proxy"
)

// noFilling is told nothing that it needs.
type noFilling struct{}

func (noFilling) Cut(error) {}

// TestMayFill: MayFill says of an answer what Fill does, and changes nothing.
func TestMayFill(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		route func(*proxy.Route)
		head  func(*probeFilter, *exchange.Request, bool) error // of the filter behind
		body  []string
		want  bool
	}{
		"an upstream's":          {want: true},
		"after a body":           {body: []string{"x"}, want: true},
		"before the end of one":  {body: []string{"x", "", strings.Repeat("y", 100)}},
		"of a filter":            {head: func(f *probeFilter, _ *exchange.Request, _ bool) error { return f.answer(200, "own") }},
		"of the engine":          {route: func(r *proxy.Route) { r.Deny = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }},
		"fixed in configuration": {route: func(r *proxy.Route) { r.Split, r.Respond = nil, &proxy.Respond{Status: 200, Body: []byte("x")} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := false
			_, filters := chain(func(a, b, _ *probe) {
				b.head = tt.head
				a.response = func(f *probeFilter, h *exchange.Response, end bool) error {
					s, ok := f.x.Engine.(filter.Streamer)
					if !ok {
						t.Fatal("the engine is none for stored messages")
					}
					asked = true
					for range 2 {
						if got := s.MayFill(); got != tt.want {
							t.Errorf("may fill: %t, want %t", got, tt.want)
						}
					}
					if got := s.Fill(noFilling{}); got != tt.want {
						t.Errorf("fills: %t, want %t", got, tt.want)
					} else if got {
						s.Filled()
					}
					return f.resp.Head(h, end)
				}
			})
			o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
				if tt.want {
					<-s.got
				}
				return answer(dst, 200, "ok")
			}}
			e := newEngine(t, o, config{edit: func(r *proxy.Route) {
				r.Filters = filters
				if tt.route != nil {
					tt.route(r)
				}
			}})
			c := newClient("GET", "/")
			if tt.body != nil {
				c.sending(tt.body...)
			}
			e.do(c)
			if !asked {
				t.Error("there was no answer")
			}
		})
	}
}
