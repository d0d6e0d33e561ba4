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

// A cutFilling is told of an end.
type cutFilling chan error

func (c cutFilling) Cut(err error) { c <- err }

// TestMayFillCut: who keeps an answer that breaks off is told before the client gets another one, which it may take
// its time for, and a client that leaves takes the answer with it.
func TestMayFillCut(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{false, true} {
		cut := make(cutFilling, 10)
		_, filters := chain(func(a, _, _ *probe) {
			a.response = func(f *probeFilter, h *exchange.Response, _ bool) error {
				if s, ok := f.x.Engine.(filter.Streamer); !ok || !s.MayFill(cut) {
					t.Errorf("status %d may not be filled", h.Status)
				}
				return nil // it is kept
			}
		})
		begun := make(chan struct{})
		o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
			<-s.got
			if err := dst.Head(&exchange.Response{Status: 200, Length: 5}, false); err != nil {
				return err
			}
			close(begun)
			if leaves {
				return s.hang()
			}
			return &exchange.Error{Op: "read body", Side: exchange.UpstreamSide, Status: 502, Reason: "connection_closed"}
		}}
		e := newEngine(t, o, config{edit: func(r *proxy.Route) { r.Filters = filters }})
		c := newClient("GET", "/")
		c.gate = make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.do(c)
		}()
		<-begun
		if leaves {
			c.leave()
		}
		if err := <-cut; err == nil {
			t.Error("it is said to have ended well")
		}
		close(c.gate)
		<-done
		if !leaves && c.status != 502 {
			t.Errorf("the client got %d", c.status)
		}
	}
}

// TestMayFill: MayFill says of an answer what Fill does.
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
						if got := s.MayFill(noFilling{}); got != tt.want {
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
