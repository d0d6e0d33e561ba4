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

func all(m host.Map) string {
	var out []string
	for n, v := range m.All() {
		out = append(out, n+"="+v)
	}
	return strings.Join(out, " ")
}

// inRequest runs f in a request headers callback and returns what arrived.
func inRequest(t *testing.T, req plugintest.Request, f func(c *call, m host.Map)) *plugintest.Stream {
	t.Helper()
	p := newPlugin("p", script{onReqHeaders: func(c *call, n int, _ bool) abi.Action {
		m := c.Map(abi.MapRequestHeaders)
		if m.Len() != n {
			t.Errorf("lines: the argument says %d, the map %d", n, m.Len())
		}
		f(c, m)
		return abi.Continue
	}}, fakeOptions{})
	s := open(t, req, p)
	s.Finish()
	return s
}

func TestMapRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		req := plugintest.Request{Path: "/a?b=c", Fields: plugintest.Fields("cookie", "a", "x-a", "1", "cookie", "b")}
		inRequest(t, req, func(_ *call, m host.Map) {
			if got, want := all(m), ":authority=example.com :path=/a?b=c :method=GET :scheme=http cookie=a x-a=1 cookie=b"; got != want {
				t.Errorf("all: got %q, want %q", got, want)
			}
			for name, want := range map[string]string{
				":path": "/a?b=c", ":authority": "example.com", "host": "example.com", ":method": "GET",
				":scheme": "http", "cookie": "a", "X-A": "1", "COOKIE": "a",
			} {
				if got, ok := m.Get(name); !ok || got != want {
					t.Errorf("Get(%q): got %q, %v, want %q", name, got, ok, want)
				}
			}
			for _, name := range []string{"", ":status", ":x", "x-b"} {
				if got, ok := m.Get(name); ok {
					t.Errorf("Get(%q): got %q, want none", name, got)
				}
			}
		})
	})
}

func TestMapEdits(t *testing.T) {
	tests := []struct {
		name   string
		edit   func(m host.Map) bool
		ok     bool
		want   string // what arrives: authority, target, method, scheme, fields
		dirty  bool
		fields string
	}{
		{"set a new field", func(m host.Map) bool { return m.Set("X-New", " v ") }, true, "example.com / GET http", true, "[{a 1} {b 2} {a 3} {x-new v}]"},
		{"set one of several", func(m host.Map) bool { return m.Set("a", "9") }, true, "example.com / GET http", true, "[{a 9} {b 2}]"},
		{"add", func(m host.Map) bool { return m.Add("A", "9") }, true, "example.com / GET http", true, "[{a 1} {b 2} {a 3} {a 9}]"},
		{"remove", func(m host.Map) bool { return m.Remove("A") }, true, "example.com / GET http", true, "[{b 2}]"},
		{"remove what is not there", func(m host.Map) bool { return m.Remove("zz") }, true, "example.com / GET http", false, ""},
		{"path", func(m host.Map) bool { return m.Set(":path", "/x/../y%7e?q") }, true, "example.com /y~?q GET http", true, ""},
		{"same path", func(m host.Map) bool { return m.Set(":path", "/") }, true, "example.com / GET http", false, ""},
		{"bad path", func(m host.Map) bool { return m.Set(":path", "x y") }, false, "example.com / GET http", false, ""},
		{"path with a line break", func(m host.Map) bool { return m.Set(":path", "/a\r\nhost: b") }, false, "example.com / GET http", false, ""},
		{"authority", func(m host.Map) bool { return m.Set(":authority", "OTHER.example:81") }, true, "other.example:81 / GET http", true, ""},
		{"host is authority", func(m host.Map) bool { return m.Set("Host", "other.example") }, true, "other.example / GET http", true, ""},
		{"second host", func(m host.Map) bool { return m.Add("host", "b") }, false, "example.com / GET http", false, ""},
		{"bad authority", func(m host.Map) bool { return m.Set(":authority", "a@b") }, false, "example.com / GET http", false, ""},
		{"method", func(m host.Map) bool { return m.Set(":method", "QUERY") }, true, "example.com / QUERY http", true, ""},
		{"method that is no token", func(m host.Map) bool { return m.Set(":method", "G ET") }, false, "example.com / GET http", false, ""},
		{"method that changes framing", func(m host.Map) bool { return m.Set(":method", "HEAD") }, false, "example.com / GET http", false, ""},
		{"scheme", func(m host.Map) bool { return m.Set(":scheme", "https") }, true, "example.com / GET https", true, ""},
		{"bad scheme", func(m host.Map) bool { return m.Set(":scheme", "ftp") }, false, "example.com / GET http", false, ""},
		{"pseudo removed", func(m host.Map) bool { return m.Remove(":path") }, false, "example.com / GET http", false, ""},
		{"second pseudo", func(m host.Map) bool { return m.Add(":path", "/b") }, false, "example.com / GET http", false, ""},
		{"unknown pseudo", func(m host.Map) bool { return m.Set(":protocol", "x") }, false, "example.com / GET http", false, ""},
		{"CR in a value", func(m host.Map) bool { return m.Set("x", "a\rb") }, false, "example.com / GET http", false, ""},
		{"LF in a value", func(m host.Map) bool { return m.Add("x", "a\nb: c") }, false, "example.com / GET http", false, ""},
		{"NUL in a value", func(m host.Map) bool { return m.Set("x", "a\x00b") }, false, "example.com / GET http", false, ""},
		{"LF in a name", func(m host.Map) bool { return m.Set("x\ny", "b") }, false, "example.com / GET http", false, ""},
		{"space in a name", func(m host.Map) bool { return m.Add("x y", "b") }, false, "example.com / GET http", false, ""},
		{"no name", func(m host.Map) bool { return m.Set("", "b") }, false, "example.com / GET http", false, ""},
		{"transfer-encoding", func(m host.Map) bool { return m.Set("Transfer-Encoding", "chunked") }, true, "example.com / GET http", false, ""},
		{"connection", func(m host.Map) bool { return m.Add("connection", "close") }, true, "example.com / GET http", false, ""},
		{"length of a request without body", func(m host.Map) bool { return m.Set("content-length", "5") }, true, "example.com / GET http", false, ""},
		{"replace all", func(m host.Map) bool {
			return m.Replace(plugintest.Fields(":path", "/new", "z", "1", "y", "2", "z", "3"))
		}, true, "example.com /new GET http", true, "[{z 1} {y 2} {z 3}]"},
		{"replace with two hosts", func(m host.Map) bool {
			return m.Replace(plugintest.Fields(":authority", "a", "host", "b"))
		}, false, "example.com / GET http", false, ""},
		{"replace with a bad value", func(m host.Map) bool {
			return m.Replace(plugintest.Fields(":path", "/new", "z", "1\n2"))
		}, false, "example.com / GET http", false, ""},
		{"replace with framing", func(m host.Map) bool {
			return m.Replace(plugintest.Fields("transfer-encoding", "chunked", "content-length", "7", "z", "1"))
		}, true, "example.com / GET http", true, "[{z 1}]"},
		{"replace with two lengths", func(m host.Map) bool {
			return m.Replace(plugintest.Fields("content-length", "7", "content-length", "8"))
		}, false, "example.com / GET http", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := inRequest(t, plugintest.Request{Fields: plugintest.Fields("a", "1", "b", "2", "a", "3")}, func(_ *call, m host.Map) {
					if got := tt.edit(m); got != tt.ok {
						t.Errorf("taken: got %v, want %v", got, tt.ok)
					}
				})
				up := s.Upstream()
				if got := strings.Join([]string{up.Authority, up.Path, up.Method, up.Scheme}, " "); got != tt.want {
					t.Errorf("head: got %q, want %q", got, tt.want)
				}
				want := tt.fields
				if want == "" {
					want = "[{a 1} {b 2} {a 3}]"
				}
				if got := fmt.Sprint(up.Fields); got != want {
					t.Errorf("fields: got %s, want %s", got, want)
				}
				if got := s.Rerouted(); got != tt.dirty {
					t.Errorf("route matched again: %v, want %v", got, tt.dirty)
				}
			})
		})
	}
}

// A status is not to be changed into something that is none, or into a tunnel.
func TestStatusEdits(t *testing.T) {
	for value, ok := range map[string]bool{
		"201": true, "599": true, "200": true, "100": false, "101": false, "600": false, "20": false, "+20": false, "abc": false, "": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlugin("p", script{onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
				if got := c.Map(abi.MapResponseHeaders).Set(":status", value); got != ok {
					t.Errorf(":status %q: taken %v, want %v", value, got, ok)
				}
				return abi.Continue
			}}, fakeOptions{})
			s := open(t, plugintest.Request{}, p)
			s.Respond(plugintest.Response{})
			s.Finish()
			if c := s.Client(); !ok && c.Status != 200 {
				t.Errorf("client has got %d", c.Status)
			}
		})
	}
}

// set-cookie repeats, and order is kept, through the whole chain.
func TestRepeatsAndOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
			c.Map(abi.MapResponseHeaders).Add("set-cookie", "c=3")
			return abi.Continue
		}}, fakeOptions{})
		s := open(t, plugintest.Request{}, p)
		s.Respond(plugintest.Response{Fields: plugintest.Fields("set-cookie", "a=1", "x", "y", "set-cookie", "b=2")})
		s.Finish()
		if got, want := fmt.Sprint(s.Client().Fields), "[{set-cookie a=1} {x y} {set-cookie b=2} {set-cookie c=3}]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// Maps stay readable after the message has been let go of; edits have no effect.
func TestMapsAfterRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen, late string
		look := func(c *call) string {
			out := ""
			for _, k := range []abi.MapType{abi.MapRequestHeaders, abi.MapRequestTrailers, abi.MapResponseHeaders, abi.MapResponseTrailers} {
				if m := c.Map(k); m == nil {
					out += "-"
				} else {
					out += "+"
				}
			}
			return out
		}
		p := newPlugin("p", script{
			onReqHeaders: func(c *call, _ int, _ bool) abi.Action { seen = look(c); return abi.Continue },
			onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
				if !c.Map(abi.MapRequestHeaders).Set("x-late", "1") {
					t.Error("a late edit was refused")
				}
				late, _ = c.Map(abi.MapRequestHeaders).Get(":path")
				return abi.Continue
			},
			onLog: func(c *call) { // also what went past it
				seen += " " + look(c)
				for _, k := range []abi.MapType{abi.MapRequestTrailers, abi.MapResponseTrailers} {
					v, _ := c.Map(k).Get("t")
					seen += " " + v
				}
			},
		}, fakeOptions{})
		s := open(t, plugintest.Request{Path: "/x", Body: []byte("b"), Trailers: plugintest.Fields("t", "1")}, p)
		s.Respond(plugintest.Response{Body: []byte("b"), Trailers: plugintest.Fields("t", "1")})
		s.Finish()
		if seen != "+--- ++++ 1 1" {
			t.Errorf("maps that are there: got %q, want %q", seen, "+--- ++++ 1 1")
		}
		if up := s.Upstream(); late != "/x" || up.Get("x-late") != "" {
			t.Errorf("late: read %q; upstream has got %+v", late, up)
		}
	})
}

func TestReroute(t *testing.T) {
	edit := func(c *call) { c.Map(abi.MapRequestHeaders).Set("x", "1") }
	tests := []struct {
		name string
		f    func(c *call)
		want bool
	}{
		{"nothing", func(*call) {}, false},
		{"edited", edit, true},
		{"edited, switched off", func(c *call) { edit(c); c.SetProperty("clear_route_cache", []byte("off")) }, false},
		{"asked for", func(c *call) { c.ClearRouteCache() }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := inRequest(t, plugintest.Request{}, func(c *call, _ host.Map) { tt.f(c) })
				if got := s.Rerouted(); got != tt.want {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			})
		})
	}
}
