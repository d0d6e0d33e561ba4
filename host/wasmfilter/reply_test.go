package wasmfilter_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
)

func reply(status int, body string) func(c *call) {
	return func(c *call) {
		c.Reply(host.Reply{
			Status: status, Details: "by the guest", Body: []byte(body), GRPCStatus: abi.GRPCNotSet,
			Fields: []abi.Pair{{Name: "X-From", Value: "guest"}, {Name: "transfer-encoding", Value: "chunked"}, {Name: "bad\r\n", Value: "x"}},
		})
	}
}

func TestLocalReply(t *testing.T) {
	deny := reply(403, "denied")
	withTrailers := plugintest.Request{Method: "POST", Body: []byte("hello"), Trailers: plugintest.Fields("x-t", "1")}
	respTrailers := plugintest.Response{Body: []byte("body"), Trailers: plugintest.Fields("x-t", "1")}
	tests := []struct {
		name     string
		script   script
		upstream bool   // the request's head has reached the upstream
		aborted  string // why, where it is too late for an answer
		calls    string
	}{
		{"request headers", script{
			onReqHeaders:  func(c *call, _ int, _ bool) abi.Action { deny(c); return abi.Pause },
			onReqBody:     cont,
			onRespHeaders: cont, onRespBody: cont,
		}, false, "", "request_headers response_headers response_body log"},
		{"request headers, and Continue", script{
			onReqHeaders: func(c *call, _ int, _ bool) abi.Action { deny(c); deny(c); return abi.Continue },
		}, false, "", "request_headers log"},
		{"request body", script{
			onReqBody: func(c *call, _ int, _ bool) abi.Action { deny(c); return abi.Continue },
		}, true, "", "request_body log"},
		{"request trailers", script{
			onReqTrailers: func(c *call, _ int) abi.Action { deny(c); return abi.Continue },
		}, true, "", "request_trailers log"},
		{"response headers", script{
			onRespHeaders: func(c *call, _ int, _ bool) abi.Action { deny(c); return abi.Pause },
			onRespBody:    cont,
		}, true, "", "response_headers log"},
		{"response body, head held", script{
			onRespHeaders: pause,
			onRespBody:    func(c *call, _ int, _ bool) abi.Action { deny(c); return abi.Continue },
		}, true, "", "response_headers response_body log"},
		{"response body, head gone", script{
			onRespBody: func(c *call, _ int, _ bool) abi.Action { deny(c); return abi.Continue },
		}, true, "late_local_reply:p", "response_body log"},
		{"response trailers, head gone", script{
			onRespTrailers: func(c *call, _ int) abi.Action { deny(c); return abi.Continue },
		}, true, "late_local_reply:p", "response_trailers log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{hold: true})
				s := open(t, withTrailers, p)
				s.Respond(respTrailers)
				s.Finish()
				if got := s.Upstream().Method != ""; got != tt.upstream {
					t.Errorf("request has reached the upstream: %v, want %v", got, tt.upstream)
				}
				if got := p.log(); got != tt.calls {
					t.Errorf("callbacks: got %q, want %q", got, tt.calls)
				}
				if got := s.Aborted(); got != tt.aborted {
					t.Fatalf("reset: got %q, want %q", got, tt.aborted)
				}
				c := s.Client()
				if tt.aborted != "" {
					if c.Ended {
						t.Errorf("a reset answer is complete: %+v", c)
					}
					return
				}
				if c.Status != 403 || string(c.Body) != "denied" || !c.Ended || c.Length != 6 {
					t.Errorf("client has got %+v", c)
				}
				if got, want := fmt.Sprint(c.Fields), "[{x-from guest} {content-length 6} {content-type text/plain}]"; got != want {
					t.Errorf("fields: got %s, want %s", got, want)
				}
				if got, want := s.Reason(), "by_the_guest"; got != want {
					t.Errorf("reason: got %q, want %q", got, want)
				}
			})
		})
	}
}

func TestLocalReplyFromTick(t *testing.T) {
	body := plugintest.Response{Body: []byte("body"), More: true}
	tests := []struct {
		name    string
		script  script
		respond *plugintest.Response
		aborted string
	}{
		{"request paused", script{onReqHeaders: pause}, nil, ""},
		{"request passed on", script{onReqHeaders: cont}, nil, ""},
		{"response paused", script{onReqHeaders: cont, onRespHeaders: pause}, &body, ""},
		{"response passed on", script{onReqHeaders: cont}, &body, "late_local_reply:p"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{})
				s := open(t, post, p)
				if tt.respond != nil {
					s.Respond(*tt.respond)
				}
				replied := func(want bool) func(*call) {
					return func(c *call) {
						if r, ok := c.Stream.(host.Replier); !ok || r.Replied() != want {
							t.Errorf("Replied: want %v", want)
						}
					}
				}
				p.tick(replied(false))
				p.tick(func(c *call) { reply(429, "slow down")(c); replied(true)(c) })
				p.tick(func(c *call) { replied(true)(c); reply(500, "again")(c) })
				if got := s.Aborted(); got != tt.aborted {
					t.Errorf("reset: got %q, want %q", got, tt.aborted)
				}
				if c := s.Client(); tt.aborted == "" && (c.Status != 429 || string(c.Body) != "slow down") {
					t.Errorf("client has got %+v", c)
				}
				s.Finish()
			})
		})
	}
}

func TestLocalReplyForms(t *testing.T) {
	tests := []struct {
		name  string
		req   plugintest.Request
		reply host.Reply
		want  plugintest.Response
	}{
		{
			"status that is none",
			plugintest.Request{},
			host.Reply{Status: 99, GRPCStatus: -1},
			plugintest.Response{Status: 500},
		},
		{"1xx", plugintest.Request{}, host.Reply{Status: 101, GRPCStatus: -1}, plugintest.Response{Status: 500}},
		{
			"own content type",
			plugintest.Request{},
			host.Reply{Status: 200, Body: []byte("{}"), GRPCStatus: -1, Fields: plugintest.Fields("Content-Type", "application/json", ":status", "201", "content-length", "7")},
			plugintest.Response{Status: 200, Body: []byte("{}"), Length: 2, Fields: plugintest.Fields("content-type", "application/json", "content-length", "2")},
		},
		{
			"204 has no body",
			plugintest.Request{},
			host.Reply{Status: 204, Body: []byte("x"), GRPCStatus: -1},
			plugintest.Response{Status: 204},
		},
		{
			"HEAD",
			plugintest.Request{Method: "HEAD"},
			host.Reply{Status: 200, Body: []byte("abc"), GRPCStatus: -1},
			plugintest.Response{Status: 200, Length: 3, Fields: plugintest.Fields("content-length", "3", "content-type", "text/plain")},
		},
		{
			"gRPC, mapped",
			plugintest.Request{Method: "POST", Fields: plugintest.Fields("content-type", "application/grpc+proto")},
			host.Reply{Status: 429, Body: []byte("a b%\n"), GRPCStatus: -1},
			plugintest.Response{Status: 200, Fields: plugintest.Fields("content-type", "application/grpc", "grpc-status", "14", "grpc-message", "a b%25%0A")},
		},
		{
			"gRPC, given",
			plugintest.Request{Method: "POST", Fields: plugintest.Fields("content-type", "application/grpc")},
			host.Reply{Status: 403, GRPCStatus: 5, Fields: plugintest.Fields("grpc-status", "9", "x-a", "1")},
			plugintest.Response{Status: 200, Fields: plugintest.Fields("content-type", "application/grpc", "grpc-status", "5", "x-a", "1")},
		},
		{
			"gRPC-Web is not gRPC",
			plugintest.Request{Method: "POST", Fields: plugintest.Fields("content-type", "application/grpc-web")},
			host.Reply{Status: 403, GRPCStatus: -1},
			plugintest.Response{Status: 403},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
					c.Reply(tt.reply)
					return abi.Continue
				}}, fakeOptions{})
				s := open(t, tt.req, p)
				s.Finish()
				got, want := s.Client(), tt.want
				want.Ended = true
				if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
			})
		})
	}
}

// A reply goes through the response callbacks of the filters in front, not of those
// behind, which have not seen the request.
func TestReplyInChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mark := func(name string) func(*call, int, bool) abi.Action {
			return func(c *call, _ int, _ bool) abi.Action {
				if m := c.Map(abi.MapResponseHeaders); m != nil {
					m.Add("x-seen", name)
				}
				return abi.Continue
			}
		}
		a := newPlugin("a", script{onReqHeaders: cont, onRespHeaders: mark("a")}, fakeOptions{})
		b := newPlugin("b", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action { reply(401, "")(c); return abi.Pause }, onRespHeaders: mark("b")}, fakeOptions{})
		c := newPlugin("c", script{onReqHeaders: cont, onRespHeaders: mark("c")}, fakeOptions{})
		s := open(t, post, a, b, c)
		s.Finish()
		got := strings.Join(s.Client().All("x-seen"), " ")
		if want := "b a"; got != want {
			t.Errorf("response callbacks: got %q, want %q", got, want)
		}
		if got := c.log(); got != "" {
			t.Errorf("a plugin that never saw the exchange was called: %q", got)
		}
	})
}

// A plugin replies while the upstream's response is held by a filter behind it: the
// reply takes the response's place when that arrives.
func TestReplyOutrun(t *testing.T) {
	for _, wants := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			front := script{onReqHeaders: cont}
			if wants {
				front.onRespHeaders = cont
			}
			a := newPlugin("a", front, fakeOptions{})
			b := newPlugin("b", script{onRespHeaders: pause}, fakeOptions{})
			s := open(t, post, a, b)
			s.Respond(plugintest.Response{Body: []byte("secret")})
			a.tick(reply(403, "denied"))
			if c := s.Client(); c.Status != 0 {
				t.Fatalf("client has got %+v before b let go", c)
			}
			b.tick(resume(abi.StreamResponse))
			if c := s.Client(); c.Status != 403 || string(c.Body) != "denied" || !c.Ended {
				t.Errorf("client has got %+v, want the reply", c)
			}
			s.Finish()
		})
	}
}

// The plugin's own response callback traps on its own reply: one answer, no reset.
func TestReplyReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqHeaders: cont, onRespHeaders: trap}, fakeOptions{})
		s := open(t, post, p)
		p.tick(reply(403, "denied"))
		s.Finish()
		if c := s.Client(); c.Status != 503 || !c.Ended || s.Aborted() != "" {
			t.Errorf("client has got %+v, reset %q", c, s.Aborted())
		}
	})
}

// A filter in front answers from a tick while one behind it holds the request: the
// parked feeder is let go.
func TestReplyUnparksFiltersBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newPlugin("a", script{onReqHeaders: cont}, fakeOptions{})
		b := newPlugin("b", script{onReqHeaders: pause}, fakeOptions{})
		s := open(t, post, a, b)
		if !s.Paused() {
			t.Fatal("b does not hold the request")
		}
		a.tick(reply(503, "busy"))
		if s.Paused() {
			t.Error("the feeder is still parked after the answer")
		}
		if c := s.Client(); c.Status != 503 || !c.Ended {
			t.Errorf("client has got %+v", c)
		}
		s.Finish()
	})
}

func TestCloseStream(t *testing.T) {
	tests := []struct {
		name   string
		script script
		tick   bool
	}{
		{"in a callback", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action { c.Close(abi.StreamRequest); return abi.Continue }}, false},
		{"from a tick, paused", script{onReqHeaders: pause}, true},
		{"from a tick, passed on", script{onReqHeaders: cont}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{})
				s := open(t, post, p)
				if tt.tick {
					p.tick(func(c *call) { c.Close(abi.StreamResponse) })
				}
				if got, want := s.Aborted(), "closed_by_plugin:p"; got != want {
					t.Errorf("reset: got %q, want %q", got, want)
				}
				if s.Paused() {
					t.Error("the feeder is still parked")
				}
				s.Finish()
			})
		})
	}
	for _, side := range []abi.StreamType{abi.StreamDownstream, abi.StreamUpstream} {
		synctest.Test(t, func(t *testing.T) { // of TCP: nothing to close
			p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action { c.Close(side); return abi.Continue }}, fakeOptions{})
			s := open(t, post, p)
			if got := s.Aborted(); got != "" {
				t.Errorf("%v: reset: %q", side, got)
			}
			s.Finish()
		})
	}
}

// The log names the plugin that answered without saying why.
func TestLocalReplyReason(t *testing.T) {
	for _, tt := range []struct{ details, want string }{
		{"", "plugin_reply:p"},
		{"no token", "no_token"},
		{strings.Repeat("x", 1000), strings.Repeat("x", 128)},
	} {
		for _, side := range []string{"request", "response"} {
			synctest.Test(t, func(t *testing.T) {
				deny := func(c *call, _ int, _ bool) abi.Action {
					c.Reply(host.Reply{Status: 403, Details: tt.details, GRPCStatus: abi.GRPCNotSet})
					return abi.Pause
				}
				on := script{onReqHeaders: deny}
				if side == "response" {
					on = script{onRespHeaders: deny}
				}
				s := open(t, plugintest.Request{}, newPlugin("p", on, fakeOptions{}))
				s.Respond(plugintest.Response{})
				s.Finish()
				if got := s.Reason(); s.Client().Status != 403 || got != tt.want {
					t.Errorf("%s: details %q make reason %q, want %q", side, tt.details, got, tt.want)
				}
			})
		}
	}
}
