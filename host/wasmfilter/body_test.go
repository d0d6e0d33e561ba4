package wasmfilter_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"wproxy/abi"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

// onBody makes a body callback that edits once the end is seen and pauses before.
func onBody(kind abi.BufferType, edit func(c *call, b string)) func(*call, int, bool) abi.Action {
	return func(c *call, n int, end bool) abi.Action {
		if !end {
			return abi.Pause
		}
		edit(c, body(c, kind))
		return abi.Continue
	}
}

func TestReplaceBody(t *testing.T) {
	tests := []struct {
		name        string
		start, size int
		data        string
		want        string
	}{
		{"prepend", 0, 0, "abc", "abchello world"},
		{"front", 0, 5, "bye", "bye world"},
		{"all", 0, 1 << 31, "new", "new"},
		{"all, exactly", 0, 11, "new", "new"},
		{"append", 1<<31 - 1, 0, "!", "hello world!"},
		{"append, at the end", 11, 5, "!", "hello world!"},
		{"middle", 5, 1, ", ", "hello, world"},
		{"tail", 6, 100, "all", "hello all"},
		{"delete", 5, 6, "", "hello"},
		{"delete all", 0, 11, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var after string
				edit := func(kind abi.BufferType) func(c *call, b string) {
					return func(c *call, _ string) {
						if !c.Buffer(kind).Replace(tt.start, tt.size, []byte(tt.data)) {
							t.Error("refused")
						}
						after = body(c, kind)
					}
				}
				p := newPlugin("p", script{
					onReqHeaders: pause, onReqBody: onBody(abi.BufferRequestBody, edit(abi.BufferRequestBody)),
					onRespHeaders: pause, onRespBody: onBody(abi.BufferResponseBody, edit(abi.BufferResponseBody)),
				}, fakeOptions{hold: true})
				s := open(t, plugintest.Request{Method: "PUT", Body: []byte("hello "), More: true}, p)
				s.Send([]byte("world"), true)
				s.Respond(plugintest.Response{Body: []byte("hello world")})
				s.Finish()
				if after != tt.want {
					t.Errorf("read back: got %q, want %q", after, tt.want)
				}
				up, c := s.Upstream(), s.Client()
				length := fmt.Sprint(len(tt.want))
				if string(up.Body) != tt.want || up.Get("content-length") != length || !up.Ended {
					t.Errorf("upstream has got %+v, want body %q", up, tt.want)
				}
				if string(c.Body) != tt.want || c.Get("content-length") != length || c.Length != int64(len(tt.want)) || !c.Ended {
					t.Errorf("client has got %+v, want body %q", c, tt.want)
				}
			})
		})
	}
}

// What a changed body does to a length that has been announced (abi.md 5.5).
func TestFraming(t *testing.T) {
	replace := func(data string) func(*call, int, bool) abi.Action {
		return onBody(abi.BufferResponseBody, func(c *call, _ string) {
			c.Buffer(abi.BufferResponseBody).Replace(0, 1<<30, []byte(data))
		})
	}
	remove := func(c *call, _ int, _ bool) abi.Action {
		c.Map(abi.MapResponseHeaders).Remove("content-length")
		return abi.Continue
	}
	set := func(v string) func(c *call, _ int, _ bool) abi.Action {
		return func(c *call, _ int, _ bool) abi.Action {
			c.Map(abi.MapResponseHeaders).Set("content-length", v)
			return abi.Continue
		}
	}
	plain := plugintest.Response{Body: []byte("hello")}
	tests := []struct {
		name    string
		script  script
		hold    bool
		resp    plugintest.Response
		body    string
		length  int64
		field   string
		aborted bool
	}{
		{"head held to the end", script{onRespHeaders: pause, onRespBody: replace("changed")}, true, plain, "changed", 7, "7", false},
		{"length removed", script{onRespHeaders: remove, onRespBody: replace("changed")}, false, plain, "changed", -1, "", false},
		{"length removed, head callback only", script{onRespHeaders: remove}, false, plain, "hello", -1, "", false},
		{"length announced and right", script{onRespHeaders: set("7"), onRespBody: replace("changed")}, false, plain, "changed", 7, "7", false},
		{"length announced, body unchanged", script{onRespHeaders: set("7"), onRespBody: cont}, false, plain, "", 7, "7", true},
		{"length kept, same size", script{onRespBody: replace("HELLO")}, false, plain, "HELLO", 5, "5", false},
		{"length kept, longer body", script{onRespBody: replace("too long")}, false, plain, "", 5, "5", true},
		{"length kept, shorter body", script{onRespBody: replace("x")}, false, plain, "", 5, "5", true},
		{
			"no length, longer body",
			script{onRespBody: replace("longer than before")},
			false,
			plugintest.Response{Body: []byte("hello"), Trailers: plugintest.Fields("a", "b")},
			"longer than before", -1, "", false,
		},
		{"length of a guest that sees no body", script{onRespHeaders: set("7")}, false, plain, "hello", 5, "5", false},
		{"length that is none", script{onRespHeaders: set("5, 5"), onRespBody: cont}, false, plain, "hello", 5, "5", false},
		{"length removed, no body", script{onRespHeaders: remove}, false, plugintest.Response{Fields: plugintest.Fields("content-length", "0")}, "", 0, "", false},
		{"length of a message without body", script{onRespHeaders: set("7"), onRespBody: cont}, false, plugintest.Response{}, "", 0, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{hold: tt.hold})
				s := open(t, plugintest.Request{}, p)
				s.Respond(tt.resp)
				s.Finish()
				c := s.Client()
				if string(c.Body) != tt.body || c.Length != tt.length || c.Get("content-length") != tt.field {
					t.Errorf("client has got %+v, want body %q, length %d", c, tt.body, tt.length)
				}
				if got := s.Aborted() != ""; got != tt.aborted || c.Ended == tt.aborted {
					t.Errorf("reset: got %q (complete %v), want one: %v", s.Aborted(), c.Ended, tt.aborted)
				}
			})
		})
	}
}

func TestStatusWithoutBody(t *testing.T) {
	tests := []struct {
		name     string
		method   string
		from     int
		to       string
		body     string
		wantBody string
		length   int64
	}{
		{"200 to 204", "GET", 200, "204", "hello", "", 0},
		{"200 to 304", "GET", 200, "304", "hello", "", 0},
		{"304 to 200", "GET", 304, "200", "", "", 0},
		{"HEAD keeps its length", "HEAD", 200, "201", "hello", "", 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", script{onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
					c.Map(abi.MapResponseHeaders).Set(":status", tt.to)
					return abi.Continue
				}}, fakeOptions{})
				s := open(t, plugintest.Request{Method: tt.method}, p)
				r := plugintest.Response{Status: tt.from, Body: []byte(tt.body)}
				if tt.from == 304 {
					r.Fields = plugintest.Fields("content-length", "99")
				}
				s.Respond(r)
				s.Finish()
				c := s.Client()
				if fmt.Sprint(c.Status) != tt.to || string(c.Body) != tt.wantBody || c.Length != tt.length || !c.Ended {
					t.Errorf("client has got %+v", c)
				}
			})
		})
	}
}

func TestBodyLimit(t *testing.T) {
	big := strings.Repeat("x", 2000)
	o := wasmfilter.Options{BodyBuffer: 1000}
	tests := []struct {
		name    string
		script  script
		chunks  []string
		status  int
		reason  string
		aborted bool
		request bool
	}{
		{"request, one chunk", script{onReqBody: pause}, []string{big}, 413, "request_payload_too_large:p", false, true},
		{"request, in pieces", script{onReqBody: pause}, []string{big[:600], big[:600]}, 413, "request_payload_too_large:p", false, true},
		{"request, streamed", script{onReqBody: cont}, []string{big, big}, 200, "", false, true},
		{"request, raised by the guest", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
			c.SetProperty("set_decoder_buffer_limit", []byte("3000"))
			return abi.Continue
		}, onReqBody: onBody(abi.BufferRequestBody, func(*call, string) {})}, []string{big, ""}, 200, "", false, true},
		{"response, head held", script{onRespHeaders: pause, onRespBody: pause}, []string{big}, 502, "response_payload_too_large:p", false, false},
		{"response, head gone", script{onRespBody: pause}, []string{big[:600], big[:600]}, 200, "", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlugin("p", tt.script, fakeOptions{hold: true, Options: o})
				req := plugintest.Request{Method: "POST", More: tt.request}
				s := open(t, req, p)
				send := s.Send
				if !tt.request {
					s.Respond(plugintest.Response{More: true})
					send = s.RespondData
				}
				for i, c := range tt.chunks {
					send([]byte(c), i == len(tt.chunks)-1)
				}
				if tt.request {
					s.Respond(plugintest.Response{})
				}
				s.Finish()
				c := s.Client()
				if c.Status != tt.status || s.Reason() != tt.reason || (s.Aborted() != "") != tt.aborted {
					t.Errorf("client has got %d, reason %q, reset %q", c.Status, s.Reason(), s.Aborted())
				}
				warned := strings.Join(p.warnings, "\n")
				if failed := tt.aborted || tt.status != 200; failed != (warned != "") ||
					failed && !strings.Contains(warned, "body_buffer, "+strconv.Itoa(o.BodyBuffer)+" bytes (route r, request 0000") {
					t.Errorf("the host is to log %q", warned)
				}
			})
		})
	}
}

// The other return values of body callbacks, of the C++ SDK.
func TestBodyActions(t *testing.T) {
	tests := []struct {
		name  string
		act   []abi.Action
		seen  string
		want  string
		flows bool // the second chunk is let in at all
	}{
		{"watermark shows new data only", []abi.Action{2, 2, 0}, "ab|cd|", "abcd", true},
		{"no buffer loses the chunk", []abi.Action{3, 0, 0}, "ab|cd|", "cd", true},
		{"buffer shows all", []abi.Action{1, 1, 0}, "ab|abcd|abcd", "abcd", true},
		{"unknown buffers", []abi.Action{77, 0, 0}, "ab|abcd|", "abcd", true},
		{"buffer, then drop", []abi.Action{1, 3, 0}, "ab|abcd|ab", "ab", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen []string
				p := newPlugin("p", script{onReqBody: func(c *call, n int, _ bool) abi.Action {
					b := body(c, abi.BufferRequestBody)
					if len(b) != n {
						t.Errorf("size argument: got %d, want %d", n, len(b))
					}
					seen = append(seen, b)
					return tt.act[len(seen)-1]
				}}, fakeOptions{})
				s := open(t, plugintest.Request{Method: "POST", More: true}, p)
				s.Send([]byte("ab"), false)
				s.Send([]byte("cd"), false)
				s.Send(nil, true)
				s.Finish()
				if got := strings.Join(seen, "|"); got != tt.seen {
					t.Errorf("the guest saw %q, want %q", got, tt.seen)
				}
				if up := s.Upstream(); string(up.Body) != tt.want || !up.Ended {
					t.Errorf("upstream has got %+v, want %q", up, tt.want)
				}
			})
		})
	}
}

// Data held at a watermark stop the feeder at the limit instead of a 413.
func TestWatermarkBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqBody: func(*call, int, bool) abi.Action { return abi.BodyStopIterationAndWatermark }},
			fakeOptions{Options: wasmfilter.Options{BodyBuffer: 4}})
		s := open(t, plugintest.Request{Method: "POST", More: true}, p)
		s.Send([]byte("abc"), false)
		if s.Paused() {
			t.Fatal("the feeder is parked below the limit")
		}
		s.Send([]byte("def"), false)
		if !s.Paused() {
			t.Fatal("the feeder is not parked at the limit")
		}
		p.tick(resume(abi.StreamRequest))
		if up := s.Upstream(); string(up.Body) != "abcdef" {
			t.Errorf("upstream has got %+v", up)
		}
		s.Finish()
	})
}

// A guest that waits for the end gets the empty last call, and may still append.
func TestEmptyLastCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqBody: func(c *call, n int, end bool) abi.Action {
			if end && n == 0 {
				c.Buffer(abi.BufferRequestBody).Replace(0, 0, []byte(" end"))
			}
			return abi.Continue
		}}, fakeOptions{})
		s := open(t, plugintest.Request{Method: "POST", Body: []byte("data"), More: true}, p)
		s.Send(nil, false)
		s.Send(nil, true)
		s.Finish()
		if up := s.Upstream(); string(up.Body) != "data end" || !up.Ended {
			t.Errorf("upstream has got %+v", up)
		}
		if got, want := p.log(), "request_body request_body log"; got != want {
			t.Errorf("callbacks: got %q, want %q (flushes are not shown)", got, want)
		}
	})
}

func TestTrailers(t *testing.T) {
	req := plugintest.Request{Method: "POST", Body: []byte("hello"), Trailers: plugintest.Fields("x-sum", "1", "x-sum", "2")}
	var n int
	edit := func(kind abi.MapType) func(c *call, lines int) abi.Action {
		return func(c *call, lines int) abi.Action {
			n = lines
			c.Map(kind).Set("x-sum", "3")
			c.Map(kind).Add("X-More", "4")
			return abi.Continue
		}
	}
	tests := []struct {
		name     string
		script   script
		trailers string
		calls    string
	}{
		{"edited", script{onReqTrailers: edit(abi.MapRequestTrailers)}, "[{x-sum 3} {x-more 4}]", "request_trailers log"},
		{"with a held body", script{onReqBody: pause, onReqTrailers: edit(abi.MapRequestTrailers)}, "[{x-sum 3} {x-more 4}]", "request_body request_trailers log"},
		{"without a trailers callback", script{onReqBody: func(_ *call, n int, end bool) abi.Action {
			if !end {
				return abi.Pause
			}
			if n != 5 {
				return abi.Pause // would fail the test
			}
			return abi.Continue
		}}, "[{x-sum 1} {x-sum 2}]", "request_body request_body log"},
		{"not looked at", script{onReqHeaders: cont}, "[{x-sum 1} {x-sum 2}]", "request_headers log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n = 2
				p := newPlugin("p", tt.script, fakeOptions{})
				s := open(t, req, p)
				s.Finish()
				up := s.Upstream()
				if string(up.Body) != "hello" || fmt.Sprint(up.Trailers) != tt.trailers || !up.Ended || n != 2 {
					t.Errorf("upstream has got %+v, %d lines", up, n)
				}
				if got := p.log(); got != tt.calls {
					t.Errorf("callbacks: got %q, want %q", got, tt.calls)
				}
			})
		})
	}
}

// In the body callback that sees the end a guest may add trailers to a message that
// has none; the head, if it is still held, gives up its length for them.
func TestAddTrailers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onRespHeaders: pause, onRespBody: func(c *call, _ int, end bool) abi.Action {
			if end {
				c.Map(abi.MapResponseTrailers).Add("x-digest", "d")
			}
			return abi.Continue
		}}, fakeOptions{hold: true})
		s := open(t, plugintest.Request{}, p)
		s.Respond(plugintest.Response{Body: []byte("hello")})
		s.Finish()
		c := s.Client()
		if string(c.Body) != "hello" || fmt.Sprint(c.Trailers) != "[{x-digest d}]" || c.Length != -1 || !c.Ended {
			t.Errorf("client has got %+v", c)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var late string
		add := func(kind abi.MapType) func(c *call, _ int, end bool) abi.Action {
			return func(c *call, _ int, end bool) abi.Action {
				if m := c.Map(kind); end {
					m.Add("x-digest", "d")
				} else if m != nil {
					t.Error("trailers before the end of the body")
				}
				return abi.Continue
			}
		}
		p := newPlugin("p", script{
			onReqHeaders: pause, onReqBody: add(abi.MapRequestTrailers), onRespBody: add(abi.MapResponseTrailers),
			onLog: func(c *call) { late = all(c.Map(abi.MapRequestTrailers)) + " " + all(c.Map(abi.MapResponseTrailers)) },
		}, fakeOptions{hold: true})
		s := open(t, post, p)
		s.Respond(plugintest.Response{Body: []byte("hello")})
		s.Finish()
		up := s.Upstream()
		if string(up.Body) != "hello" || fmt.Sprint(up.Trailers) != "[{x-digest d}]" || !up.Ended {
			t.Errorf("upstream has got %+v", up)
		}
		if late != "x-digest=d x-digest=d" {
			t.Errorf("on_log has found %q", late)
		}
	})
}
