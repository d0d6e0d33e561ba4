package wasmfilter_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

func trap(c *call, _ int, _ bool) abi.Action { c.trap = true; return abi.Continue }
func trapTrailers(c *call, _ int) abi.Action { c.trap = true; return abi.Continue }

func TestTrap(t *testing.T) {
	req := plugintest.Request{Method: "POST", Body: []byte("hello"), Trailers: plugintest.Fields("x-t", "1")}
	resp := plugintest.Response{Body: []byte("world"), Trailers: plugintest.Fields("x-u", "1")}
	tests := []struct {
		name    string
		script  script
		aborted bool // with OnErrorClose: it is too late for a 503
		edited  string
	}{
		{"request headers", script{onReqHeaders: trap, onRespHeaders: cont}, false, ""},
		{"request body", script{onReqHeaders: cont, onReqBody: trap, onRespHeaders: cont}, false, ""},
		{"request body, head held", script{onReqHeaders: pause, onReqBody: trap}, false, ""},
		{"request trailers", script{onReqTrailers: trapTrailers}, false, ""},
		{"request trailers, body held", script{onReqBody: pause, onReqTrailers: trapTrailers}, false, ""},
		{"response headers", script{onRespHeaders: trap, onRespBody: cont}, false, ""},
		{"response body", script{onRespHeaders: cont, onRespBody: trap}, true, ""},
		{"response body, head held", script{onRespHeaders: pause, onRespBody: trap}, false, ""},
		{"response trailers", script{onRespTrailers: trapTrailers}, true, ""},
	}
	for _, tt := range tests {
		t.Run("close/"+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{hold: true})
				s := open(t, req, p)
				s.Respond(resp)
				s.Finish()
				c := s.Client()
				if tt.aborted {
					if s.Aborted() != "plugin_failed:p" || c.Ended {
						t.Errorf("reset %q, client has got %+v", s.Aborted(), c)
					}
					return
				}
				if c.Status != 503 || s.Reason() != "plugin_failed:p" || !c.Ended || s.Aborted() != "" {
					t.Errorf("client has got %+v, reason %q, reset %q", c, s.Reason(), s.Aborted())
				}
				if own := strings.HasPrefix(tt.name, "response"); own && !strings.HasPrefix(string(c.Body),
					"503 Service Unavailable\nreason: plugin_failed:p\nrequest id: ") {
					t.Errorf("the answer does not read like one of ours: %q", c.Body)
				}
			})
		})
		t.Run("open/"+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{hold: true, Options: wasmfilter.Options{OnError: wasmfilter.OnErrorOpen}})
				s := open(t, req, p)
				s.Respond(resp)
				s.Finish()
				up, c := s.Upstream(), s.Client()
				if string(up.Body) != "hello" || len(up.Trailers) != 1 || !up.Ended {
					t.Errorf("upstream has got %+v", up)
				}
				if c.Status != 200 || string(c.Body) != "world" || len(c.Trailers) != 1 || !c.Ended {
					t.Errorf("client has got %+v", c)
				}
			})
		})
	}
}

// The host learns for which exchange a guest has trapped, also when it is over.
func TestTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var route, id string
		tell := func(s any) { route, id = s.(host.Teller).Tell() } //nolint:forcetypeassert // a test
		p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
			tell(c.Stream)
			return abi.Continue
		}, putOff: true}, fakeOptions{})
		s := open(t, plugintest.Request{}, p)
		if route != "r" || id == "" {
			t.Errorf("the callback is for route %q, request %q", route, id)
		}
		want := id
		s.Respond(plugintest.Response{})
		s.Finish()
		if tell(p.late); route != "r" || id != want {
			t.Errorf("what is over was for route %q, request %q", route, id)
		}
	})
}

// fail is what a host does with a stream whose VM has died.
func fail(c *call) {
	c.dead = true
	f, ok := c.Stream.(host.Failer)
	if !ok {
		panic("the stream is no host.Failer")
	}
	f.Failed(errTrap)
}

// The VM dies in the callback of another stream while this one is held.
func TestFailedWhileHeld(t *testing.T) {
	more := post
	more.More = true
	tests := []struct {
		name   string
		script script
		req    plugintest.Request
	}{
		{"feeder parked", script{onReqHeaders: pause}, post},
		{"feeder elsewhere", script{onReqBody: pause}, more},
	}
	for _, tt := range tests {
		t.Run("close/"+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{})
				s := open(t, tt.req, p)
				p.tick(fail)
				if c := s.Client(); c.Status != 503 || s.Reason() != "plugin_failed:p" {
					t.Errorf("client has got %+v, reason %q", c, s.Reason())
				}
				s.Finish()
			})
		})
		t.Run("open/"+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{Options: wasmfilter.Options{OnError: wasmfilter.OnErrorOpen}})
				s := open(t, tt.req, p)
				p.tick(fail)
				if up := s.Upstream(); string(up.Body) != "hello" {
					t.Errorf("upstream has got %+v", up)
				}
				if tt.req.More {
					s.Send([]byte("!"), true)
				}
				if up := s.Upstream(); !up.Ended {
					t.Errorf("upstream has got %+v, want all of it", up)
				}
				s.Finish()
			})
		})
	}
}

// The VM dies after the request has been passed on: with OnErrorClose no response
// may pass a plugin that cannot look at it any more.
func TestFailedBeforeResponse(t *testing.T) {
	for onError, want := range map[wasmfilter.OnError]int{wasmfilter.OnErrorClose: 503, wasmfilter.OnErrorOpen: 200} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlugin("p", script{onReqHeaders: cont, onRespHeaders: cont}, fakeOptions{Options: wasmfilter.Options{OnError: onError}})
			s := open(t, post, p)
			p.tick(fail)
			s.Respond(plugintest.Response{Body: []byte("secret")})
			s.Finish()
			if c := s.Client(); c.Status != want || !c.Ended {
				t.Errorf("OnError %d: client has got %+v, want %d", onError, c, want)
			}
			if got, want := p.log(), "request_headers log"; got != want {
				t.Errorf("callbacks: got %q, want %q", got, want)
			}
		})
	}
}

// The guest traps in the request while it holds the response: that ends at once.
func TestTrapEndsOtherDirection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqBody: trap, onRespHeaders: pause}, fakeOptions{})
		s := open(t, plugintest.Request{Method: "POST", More: true}, p)
		s.Respond(plugintest.Response{Body: []byte("x")})
		if !s.Paused() {
			t.Fatal("the response is not held")
		}
		s.Send([]byte("y"), false)
		if c := s.Client(); c.Status != 503 || s.Reason() != "plugin_failed:p" || s.Paused() {
			t.Errorf("client has got %+v, reason %q", c, s.Reason())
		}
		s.Finish()
	})
}

// A plugin whose root is closed, or that has no VM.
func TestOpenFails(t *testing.T) {
	for _, onError := range []wasmfilter.OnError{wasmfilter.OnErrorClose, wasmfilter.OnErrorOpen} {
		synctest.Test(t, func(t *testing.T) {
			f := wasmfilter.NewFake("p", host.Callbacks{RequestHeaders: true, ResponseHeaders: true}, false,
				wasmfilter.Options{OnError: onError}, nil,
				func(host.Stream) (wasmfilter.Guest, error) { return nil, &host.ClosedError{Plugin: "p"} })
			s := open(t, post, &plugin{Factory: f})
			s.Respond(plugintest.Response{})
			s.Finish()
			want := 200
			if onError == wasmfilter.OnErrorClose {
				want = 503
			}
			if c := s.Client(); c.Status != want {
				t.Errorf("OnError %d: got %d, want %d", onError, c.Status, want)
			}
		})
	}
}
