package wasmfilter_test

import (
	"context"
	"testing"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

// nowhere is the end of a chain that nothing is looked at behind.
type nowhere struct{}

func (nowhere) Head(*exchange.Request, bool) error { return nil }
func (nowhere) Data([]byte, bool) error            { return nil }
func (nowhere) Trailer(*exchange.Fields) error     { return nil }

// onHead shows a request head, as a codec has made it, to a guest.
func onHead(t *testing.T, r *exchange.Request, f func(m host.Map)) {
	t.Helper()
	p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
		f(c.Map(abi.MapRequestHeaders))
		return abi.Continue
	}}, fakeOptions{})
	x := &filter.Exchange{Context: context.Background(), Request: r, Engine: noEngine{}}
	g, err := p.New(x)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Request(nowhere{}).Head(r, true); err != nil {
		t.Error(err)
	}
	g.Close(nil)
}

// What guests see can be put back: line by line, and the whole map with a line more.
func TestHeadsRoundTrip(t *testing.T) {
	tests := []struct{ method, target, authority, scheme string }{
		{"GET", "/", "", "http"}, // HTTP/1.0 without Host
		{"GET", "/", "h", "http"},
		{"GET", "/a%2Fb", "h", "http"},
		{"GET", "/a%00b?x", "h", "http"},
		{"GET", "/%C3%A9?%zz", "h:80", "https"},
		{"HEAD", "/x?", "[::1]:80", "http"},
		{"OPTIONS", "*", "h", "http"},
		{"OPTIONS", "*", "", "http"},
		{"CONNECT", "h:443", "h:443", "http"},
		{"CONNECT", "", "h:443", ""}, // RFC 9113 8.5
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.target+" of "+tt.authority, func(t *testing.T) {
			r := &exchange.Request{Method: tt.method, Scheme: tt.scheme, Authority: tt.authority}
			if err := r.ParseTarget(tt.target); err != nil {
				r.SetTarget(tt.target, len(tt.target))
			}
			onHead(t, r, func(m host.Map) {
				pairs := []abi.Pair{}
				for n, v := range m.All() {
					pairs = append(pairs, abi.Pair{Name: n, Value: v})
				}
				for _, p := range pairs {
					if !m.Set(p.Name, p.Value) {
						t.Errorf("%s: %q is refused when it is set again", p.Name, p.Value)
					}
				}
				if !m.Replace(append(pairs, abi.Pair{Name: "x", Value: "y"})) {
					t.Error("the whole map is refused")
				}
			})
			if got := r.Fields.Value("x"); got != "y" {
				t.Errorf("the line that was added: got %q", got)
			}
			if r.Method != tt.method || r.Target != tt.target || r.Authority != tt.authority || r.Scheme != tt.scheme {
				t.Errorf("the head was changed: %q %q %q %q", r.Method, r.Target, r.Authority, r.Scheme)
			}
		})
	}
}

// "*" is the target of OPTIONS and of nothing else (RFC 9112 3.2.4).
func TestAsteriskAndMethod(t *testing.T) {
	tests := []struct {
		name string
		edit func(m host.Map) bool
		ok   bool
	}{
		{"another method", func(m host.Map) bool { return m.Set(":method", "GET") }, false},
		{"another method in a whole map", func(m host.Map) bool { return m.Replace([]abi.Pair{{Name: ":method", Value: "GET"}}) }, false},
		{"the target first", func(m host.Map) bool { return m.Set(":path", "/") && m.Set(":method", "GET") }, true},
		{"both in a whole map", func(m host.Map) bool {
			return m.Replace([]abi.Pair{{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/"}})
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &exchange.Request{Method: "OPTIONS", Scheme: "http", Authority: "h"}
			if err := r.ParseTarget("*"); err != nil {
				t.Fatal(err)
			}
			onHead(t, r, func(m host.Map) {
				if got := tt.edit(m); got != tt.ok {
					t.Errorf("taken: %v, want %v", got, tt.ok)
				}
			})
			if want := "OPTIONS *"; !tt.ok && r.Method+" "+r.Target != want {
				t.Errorf("got %s %s, want %s", r.Method, r.Target, want)
			}
			if want := "GET /"; tt.ok && r.Method+" "+r.Target != want {
				t.Errorf("got %s %s, want %s", r.Method, r.Target, want)
			}
		})
	}
}
