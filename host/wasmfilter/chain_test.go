package wasmfilter_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/core/filter"
	"wproxy/host"
	"wproxy/host/plugintest"
)

func TestChainOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mk := func(name string) *plugin {
			add := func(kind abi.MapType) func(c *call, _ int, _ bool) abi.Action {
				return func(c *call, _ int, _ bool) abi.Action { c.Map(kind).Add("x-order", name); return abi.Continue }
			}
			bodies := func(kind abi.BufferType) func(c *call, _ int, _ bool) abi.Action {
				return onBody(kind, func(c *call, b string) { c.Buffer(kind).Replace(len(b), 0, []byte(name)) })
			}
			return newPlugin(name, script{
				onReqHeaders:  add(abi.MapRequestHeaders),
				onReqBody:     bodies(abi.BufferRequestBody),
				onRespHeaders: func(c *call, _ int, _ bool) abi.Action { add(abi.MapResponseHeaders)(c, 0, false); return abi.Pause },
				onRespBody:    bodies(abi.BufferResponseBody),
			}, fakeOptions{hold: true})
		}
		a, b, c := mk("a"), mk("b"), mk("c")
		s := open(t, plugintest.Request{Method: "POST", Body: []byte("-"), Trailers: plugintest.Fields("t", "1")}, a, b, c)
		s.Respond(plugintest.Response{Body: []byte("-")})
		s.Finish()
		up, down := s.Upstream(), s.Client()
		order := ""
		for _, f := range up.Fields {
			order += f.Value
		}
		if order != "abc" || string(up.Body) != "-abc" || !up.Ended {
			t.Errorf("request: order %q, %+v", order, up)
		}
		if got := strings.Join(down.All("x-order"), ""); got != "cba" || string(down.Body) != "-cba" || down.Get("content-length") != "4" {
			t.Errorf("response: order %q, %+v", got, down)
		}
	})
}

// Guests see no 1xx but the one that switches protocols.
func TestInformational(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onRespHeaders: cont, onRespBody: cont, onReqBody: cont}, fakeOptions{})
		s := open(t, plugintest.Request{More: true, Body: []byte("up")}, p)
		s.RespondInformational(103, "link", "x")
		s.Respond(plugintest.Response{Status: 101, More: true})
		s.RespondData([]byte("tunnel"), false)
		s.Send([]byte("stream"), false)
		if got, want := p.log(), "request_body response_headers response_body request_body"; got != want {
			t.Errorf("callbacks: got %q, want %q", got, want)
		}
		c := s.Client()
		if fmt.Sprint(s.Informational()) != "[103]" || c.Status != 101 || string(c.Body) != "tunnel" {
			t.Errorf("client has got %v, %+v", s.Informational(), c)
		}
		if up := s.Upstream(); string(up.Body) != "upstream" {
			t.Errorf("upstream has got %+v", up)
		}
		s.Leave()
		s.Finish()
	})
}

// A plugin that has not seen the request does not see an answer to it either.
func TestUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqHeaders: pause, onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
			c.Map(abi.MapResponseHeaders).Set("x-p", "1")
			return abi.Continue
		}}, fakeOptions{})
		q := newPlugin("q", script{onReqHeaders: cont, onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
			c.Map(abi.MapResponseHeaders).Set("x-q", "1")
			return abi.Continue
		}}, fakeOptions{})
		// p has the request, q has not: the 504 passes q unseen.
		s := open(t, plugintest.Request{}, p, q)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		s.Finish()
		if c := s.Client(); c.Status != 504 || c.Get("x-p") != "1" || c.Get("x-q") != "" {
			t.Errorf("client has got %+v", c)
		}
	})
}

// What a guest that has put off its end may still see.
func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
			c.SetProperty("mine", []byte("v"))
			return abi.Continue
		}, onRespHeaders: cont, putOff: true}, fakeOptions{})
		s := open(t, plugintest.Request{Path: "/a", Fields: plugintest.Fields("x", "1")}, p)
		s.Respond(plugintest.Response{Status: 404, Body: []byte("gone"), Fields: plugintest.Fields("y", "2")})
		s.Finish()
		// The exchange and its filter are somebody else's now.
		again := open(t, plugintest.Request{Path: "/b", Fields: plugintest.Fields("x", "9")}, p)
		late := p.late
		if got, want := all(late.Map(abi.MapRequestHeaders)), ":authority=example.com :path=/a :method=GET :scheme=http x=1"; got != want {
			t.Errorf("request: got %q, want %q", got, want)
		}
		if got, want := all(late.Map(abi.MapResponseHeaders)), ":status=404 y=2 content-length=4"; got != want {
			t.Errorf("response: got %q, want %q", got, want)
		}
		if got, ok := late.Property(nil, "mine"); !ok || string(got) != "v" {
			t.Errorf("property: got %q, %v", got, ok)
		}
		if got, ok := late.Property(nil, "response\x00size"); !ok || string(got) != "\x04\x00\x00\x00\x00\x00\x00\x00" {
			t.Errorf("response.size: got %q, %v", got, ok)
		}
		if n := late.(host.Sizer).Size(); n < 1<<10 || n > 2<<10 {
			t.Errorf("it says that it holds %d bytes", n)
		}
		late.Map(abi.MapRequestHeaders).Set("x", "2")
		late.Resume(abi.StreamRequest)
		again.Respond(plugintest.Response{})
		again.Finish()
		if up := again.Upstream(); up.Get("x") != "9" {
			t.Errorf("the next exchange was touched: %+v", up)
		}
	})
}

func TestVerdictAndLogFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
			c.SetProperty("wproxy\x00log\x00cache", []byte("miss"))
			c.SetProperty("wproxy\x00log\x00cache", []byte("hit"))
			c.SetProperty("wproxy\x00verdict\x00", []byte("allowed"))
			c.SetProperty("wproxy\x00log\x00"+strings.Repeat("k", 1000), []byte("x"))
			for i := range 100 {
				c.SetProperty(fmt.Sprintf("wproxy\x00log\x00k%d", i), []byte("x"))
			}
			return abi.Continue
		}}, fakeOptions{})
		s := open(t, plugintest.Request{}, p)
		s.Finish()
		if got := s.LogField("cache"); got != "hit" {
			t.Errorf("log field: got %q, want hit", got)
		}
		if got := s.Verdict("p"); got != "allowed" {
			t.Errorf("verdict: got %q, want allowed", got)
		}
		if got := s.LogField("k99"); got != "" {
			t.Error("log fields are not bounded")
		}
	})
}

var _ filter.Factory = (*plugin)(nil)
