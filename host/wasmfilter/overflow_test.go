package wasmfilter_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

// An edit that makes a message larger than it may be must not leave the message as it
// was: what the guest wanted gone would get through.
func TestEditBeyondLimit(t *testing.T) {
	large := strings.Repeat("x", wasmfilter.MaxHeadBytes)
	grow := func(kind abi.BufferType) func(c *call, n int, end bool) abi.Action {
		return func(c *call, n int, _ bool) abi.Action {
			if !c.Buffer(kind).Replace(n, 0, make([]byte, 2000)) {
				t.Error("a guest was told of the limit: a status kills some")
			}
			return abi.Continue
		}
	}
	edit := func(kind abi.MapType, f func(m host.Map) bool) func(c *call, _ int, _ bool) abi.Action {
		return func(c *call, _ int, _ bool) abi.Action {
			if !f(c.Map(kind)) {
				t.Error("a guest was told of the limit: a status kills some")
			}
			return abi.Continue
		}
	}
	set := func(m host.Map) bool { return m.Set("x", large) }
	add := func(m host.Map) bool {
		for range wasmfilter.MaxHeadFields + 1 {
			if !m.Add("x", "") {
				return false
			}
		}
		return true
	}
	replace := func(m host.Map) bool { return m.Replace(plugintest.Fields("x", large, "y", "")) }
	many := func(m host.Map) bool { return m.Replace(make([]abi.Pair, wasmfilter.MaxHeadFields+10)) }
	told := func(m host.Map) bool { m.(host.Overflower).Overflow(); return true }
	tests := []struct {
		name   string
		script script
		status int
		reason string // of the answer, or else of the reset
	}{
		{"request body", script{onReqBody: grow(abi.BufferRequestBody)}, 413, "request_payload_too_large:p"},
		{"request body, head held", script{onReqHeaders: pause, onReqBody: grow(abi.BufferRequestBody)}, 413, "request_payload_too_large:p"},
		{"response body, head held", script{onRespHeaders: pause, onRespBody: grow(abi.BufferResponseBody)}, 502, "response_payload_too_large:p"},
		{"response body", script{onRespBody: grow(abi.BufferResponseBody)}, 0, "response_payload_too_large:p"},
		{"request head, a value", script{onReqHeaders: edit(abi.MapRequestHeaders, set)}, 431, "request_headers_too_large:p"},
		{"request head, lines", script{onReqHeaders: edit(abi.MapRequestHeaders, add)}, 431, "request_headers_too_large:p"},
		{"request head, whole", script{onReqHeaders: edit(abi.MapRequestHeaders, replace)}, 431, "request_headers_too_large:p"},
		{"request head, whole with many lines", script{onReqHeaders: edit(abi.MapRequestHeaders, many)}, 431, "request_headers_too_large:p"},
		{"request head, not even decoded", script{onReqHeaders: edit(abi.MapRequestHeaders, told)}, 431, "request_headers_too_large:p"},
		{"response head", script{onRespHeaders: edit(abi.MapResponseHeaders, set)}, 502, "response_headers_too_large:p"},
		{"request trailers", script{onReqTrailers: func(c *call, _ int) abi.Action {
			return edit(abi.MapRequestTrailers, set)(c, 0, false)
		}}, 431, "request_headers_too_large:p"},
		{"response trailers", script{onRespTrailers: func(c *call, _ int) abi.Action {
			return edit(abi.MapResponseTrailers, set)(c, 0, false)
		}}, 0, "response_headers_too_large:p"},
		{"an answer of the guest's own instead", script{onReqHeaders: func(c *call, n int, end bool) abi.Action {
			c.Reply(host.Reply{Status: 403, Details: "no"})
			return edit(abi.MapRequestHeaders, set)(c, n, end)
		}}, 403, "no"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{hold: true, Options: wasmfilter.Options{BodyBuffer: 1000}})
				trailers := plugintest.Fields("t", "1")
				s := open(t, plugintest.Request{Method: "POST", Body: []byte("secret"), Trailers: trailers}, p)
				s.Respond(plugintest.Response{Body: []byte("secret"), Trailers: trailers})
				s.Finish()
				c, up := s.Client(), s.Upstream()
				if tt.status == 0 {
					if s.Aborted() != tt.reason || c.Ended {
						t.Errorf("reset %q, client has got %+v", s.Aborted(), c)
					}
					return
				}
				if c.Status != tt.status || s.Reason() != tt.reason {
					t.Errorf("client has got %d, reason %q, want %d, %q", c.Status, s.Reason(), tt.status, tt.reason)
				}
				if tt.status != 502 && up.Ended || strings.Contains(string(c.Body), "secret") {
					t.Errorf("the message was passed on: upstream %+v, client %+v", up, c)
				}
			})
		})
	}
}

// A tick makes a head too large that the guest holds back.
func TestEditBeyondLimitFromTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqHeaders: pause}, fakeOptions{})
		s := open(t, plugintest.Request{}, p)
		p.tick(func(c *call) {
			c.Map(abi.MapRequestHeaders).Set("x", strings.Repeat("x", wasmfilter.MaxHeadBytes))
		})
		if c := s.Client(); c.Status != 431 {
			t.Errorf("client has got %+v", c)
		}
		s.Finish()
	})
}

// The largest head that a listener can be told to let in (limits.header,
// limits.fields) can be edited, with room to add.
func TestRoomAboveListener(t *testing.T) {
	r := &exchange.Request{Method: "GET", Scheme: "http", Authority: "h"}
	if err := r.ParseTarget("/"); err != nil {
		t.Fatal(err)
	}
	r.Fields.Add("x-user", "admin")
	r.Fields.Add("cookie", strings.Repeat("x", 1<<20))
	for i := range 10_000 {
		r.Fields.Add("a", fmt.Sprint(i%10))
	}
	p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
		m := c.Map(abi.MapRequestHeaders)
		pairs := []abi.Pair{}
		for n, v := range m.All() {
			pairs = append(pairs, abi.Pair{Name: n, Value: v})
		}
		if decoded, err := abi.ParsePairs(nil, string(abi.AppendPairs(nil, pairs))); err != nil || !m.Replace(decoded) {
			t.Errorf("the whole map is refused: %v", err)
		}
		if !m.Set("x-user", "nobody") || !m.Add("b", "1") {
			t.Error("an edit was refused")
		}
		return abi.Continue
	}}, fakeOptions{})
	x := &filter.Exchange{Context: context.Background(), Request: r, Engine: noEngine{}}
	f, err := p.New(x)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Request(nowhere{}).Head(r, true); err != nil {
		t.Error(err)
	}
	f.Close(nil)
	if got := r.Fields.Value("x-user") + r.Fields.Value("b"); got != "nobody1" {
		t.Errorf("fields: got %q", got)
	}
}

// Setting a line that is there makes the head no longer.
func TestSetAtTheLimit(t *testing.T) {
	r := &exchange.Request{Method: "GET", Scheme: "http", Authority: "h"}
	if err := r.ParseTarget("/"); err != nil {
		t.Fatal(err)
	}
	for range wasmfilter.MaxHeadFields - 1 {
		r.Fields.Add("a", "b")
	}
	r.Fields.Add("x-user", strings.Repeat("x", wasmfilter.MaxHeadBytes-r.Fields.Size()-len("x-user")))
	onHead(t, r, func(m host.Map) { m.Set("x-user", "nobody") })
	if got := r.Fields.Value("x-user"); got != "nobody" {
		t.Errorf("got %d bytes", len(got))
	}
}
