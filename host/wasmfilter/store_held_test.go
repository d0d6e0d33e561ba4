package wasmfilter_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"wproxy/abi"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/plugintest"
)

// TestStoreHeld: what a guest has held of the body is stored and passed on with the rest, and what it lets go of while
// the upstream is waited for reaches the client.
func TestStoreHeld(t *testing.T) {
	storing := func(c *call) abi.Action {
		o := abi.ObjectStore{Key: "k", Meta: "m"}
		if _, status := c.Stream.(host.ObjectStream).Object(host.ObjectStore, nil, o.Append(nil)); status != abi.StatusOK {
			panic(status)
		}
		return abi.Pause
	}
	for name, tc := range map[string]struct {
		body func(c *call, n int, end bool) abi.Action
		do   func(p *plugin, s *plugintest.Stream)
		want string // of the body, if it is edited
	}{
		"to the end": {
			func(_ *call, _ int, end bool) abi.Action {
				if end {
					return abi.Continue
				}
				return abi.Pause
			}, func(_ *plugin, s *plugintest.Stream) {
				s.Respond(plugintest.Response{Body: []byte("ab"), More: true})
				s.RespondData(nil, false)
				s.RespondData([]byte("c"), true)
			}, "abc",
		},
		"to the trailers": {
			func(c *call, n int, end bool) abi.Action {
				if end {
					c.Buffer(abi.BufferResponseBody).Replace(0, n, []byte("edited"))
					return abi.Continue
				}
				return abi.Pause
			}, func(_ *plugin, s *plugintest.Stream) {
				s.Respond(plugintest.Response{Body: []byte("ab"), More: true})
				s.RespondData([]byte("c"), false)
				s.RespondTrailers("t", "u")
			}, "edited",
		},
		"until a tick": {
			func(*call, int, bool) abi.Action { return abi.Pause },
			func(p *plugin, s *plugintest.Stream) {
				s.Respond(plugintest.Response{Body: []byte("ab"), More: true})
				s.RespondData(nil, false)
				p.tick(resume(abi.StreamResponse))
				if c := s.Client(); string(c.Body) != "ab" || c.Ended {
					t.Errorf("until the rest is there: %+v", c)
				}
				s.RespondData([]byte("c"), true)
			}, "abc",
		},
		"until a tick, all of it": {
			func(*call, int, bool) abi.Action { return abi.Pause },
			func(p *plugin, s *plugintest.Stream) {
				s.Respond(plugintest.Response{Body: []byte("abc")})
				p.tick(resume(abi.StreamResponse))
			}, "abc",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := objects.New(objects.Options{})
				space := store.Space("a")
				p := newPlugin("p", script{onReqHeaders: cont, onRespHeaders: func(c *call, _ int, _ bool) abi.Action { return storing(c) }, onRespBody: tc.body}, fakeOptions{hold: true})
				p.StoreIn(space)
				s := open(t, plugintest.Request{}, p)
				tc.do(p, s)
				if c := s.Client(); c.Status != 200 || string(c.Body) != tc.want || !c.Ended {
					t.Errorf("the client got %+v", c)
				}
				s.Finish()
				if got := storedUnder(space, "k"); !strings.Contains(got, " "+tc.want+" ") {
					t.Errorf("stored is %q", got)
				}
			})
		})
	}
}

// TestStoreLength: a length that the guest has announced, and that is wrong, is not on the wire with more than it says,
// stored or not.
func TestStoreLength(t *testing.T) {
	for _, memory := range []int64{1 << 20, 100} {
		synctest.Test(t, func(t *testing.T) {
			space := objects.New(objects.Options{Bytes: memory}).Space("a")
			p := newPlugin("p", script{onReqHeaders: cont, onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
				c.Map(abi.MapResponseHeaders).Set("content-length", "2")
				o := abi.ObjectStore{Key: "k"}
				if _, status := c.Stream.(host.ObjectStream).Object(host.ObjectStore, nil, o.Append(nil)); status != abi.StatusOK {
					panic(status)
				}
				return abi.Continue
			}, onRespBody: cont}, fakeOptions{})
			p.StoreIn(space)
			s := open(t, plugintest.Request{}, p)
			s.Respond(plugintest.Response{Body: []byte("ab"), More: true})
			s.RespondData(nil, false)
			s.RespondData([]byte("c"), true)
			if c := s.Client(); string(c.Body) != "ab" || s.Aborted() != "plugin_length:p" {
				t.Errorf("with %d bytes the client got %+v, aborted %q", memory, c, s.Aborted())
			}
			s.Finish()
			if got := storedUnder(space, "k"); got != "-" {
				t.Errorf("stored is %q", got)
			}
		})
	}
}
