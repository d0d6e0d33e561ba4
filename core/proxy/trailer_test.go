package proxy_test

import (
	"errors"
	"strings"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/proxy"
)

// Trailers that go past a filter are there when it is closed.
func TestTrailersAtTheEnd(t *testing.T) {
	t.Parallel()
	fields := func(name string) *exchange.Fields {
		f := &exchange.Fields{}
		f.Add(name, "1")
		return f
	}
	var got []string
	_, filters := chain(func(a, b, c *probe) {
		for _, p := range []*probe{a, b, c} {
			p.detach = true
			p.closed = func(x *filter.Exchange) {
				for _, f := range []*exchange.Fields{x.RequestTrailer, x.ResponseTrailer} {
					if f == nil {
						got = append(got, "none")
						continue
					}
					got = append(got, f.At(0).Name)
				}
			}
		}
	})
	o := &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
		return errors.Join(dst.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false),
			dst.Data([]byte("x"), false), dst.Trailer(fields("response")))
	}}
	e := newEngine(t, o, config{edit: func(r *proxy.Route) { r.Filters = filters }})
	c := newClient("POST", "/").sending("body")
	c.trailer = fields("request")
	e.wantStatus(e.do(c), 200, "")
	if want := strings.Repeat("request response ", 3); strings.Join(got, " ")+" " != want {
		t.Errorf("filters found %q, want %q", got, want)
	}
}
