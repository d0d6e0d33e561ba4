package adapter_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/plugintest"
)

// TestWithoutGrants: the runtime of Go starts, and a plugin works on its streams, without
// being granted anything, not even a log.
func TestWithoutGrants(t *testing.T) {
	wasm := guest(t, "inits")
	o := plugintest.Options{Grants: []string{}, Env: map[string]string{"A": "b"}}
	plugintest.Run(t, wasm, o, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Do(plugintest.Request{}, plugintest.Response{})
		if got := s.Client().Get("x-calls"); got != "hH" {
			t.Errorf("callbacks up to the response: got %q, want hH", got)
		}
		if p.Logged("package variables are initialised") || !p.Logged("proxy_log was called without being granted") {
			t.Errorf("logs: %v", p.Logs())
		}
	})
}

// TestCalls: HTTP calls of a Go plugin. Each answer reaches the function that was
// given for it, on the stream that asked; one whose stream has gone is dropped.
func TestCalls(t *testing.T) {
	wasm := guest(t, "calls")
	o := plugintest.Options{Grants: []string{"log", "call:auth", "call:poll"}}
	plugintest.Run(t, wasm, o, func(t *testing.T, p *plugintest.Plugin) {
		wantLog := func(lines ...string) {
			t.Helper()
			for _, l := range lines {
				if !p.Logged(l) {
					t.Errorf("the log line %q is missing", l)
				}
			}
		}
		wantLog("nowhere: true", "no method: true", "too large: true")

		first, second, gone := p.Open(plugintest.Request{}), p.Open(plugintest.Request{}), p.Open(plugintest.Request{})
		calls := p.Callouts()
		if len(calls) != 9 {
			t.Fatalf("%d calls, want 9", len(calls))
		}
		for i, c := range calls {
			if want := fmt.Sprintf("/check/%d", i%3); c.Upstream != "auth" || c.Request.Path != want || c.Request.Get("x-token") != "t" ||
				string(c.Request.Body) != "who?" || len(c.Request.Trailers) != 1 || c.Timeout != 5*time.Second {
				t.Errorf("call %d: %+v", i, c)
			}
		}
		gone.Leave()
		gone.Finish()
		for _, i := range []int{8, 2, 4, 0, 7, 3} {
			calls[i].Answer(plugintest.Response{Body: fmt.Appendf(nil, "yes%d", i)})
		}
		if first.Upstream().Method != "" || second.Upstream().Method != "" {
			t.Error("a request went on before all had answered")
		}
		calls[1].Answer(plugintest.Response{Body: []byte("yes"), Trailers: plugintest.Fields("x-end", "z")})
		if got := first.Upstream().Get("x-said"); got != "2:yes2: 0:yes0: 1:yes:x-end=z" {
			t.Errorf("the first request says %q", got)
		}
		calls[5].Answer(plugintest.Response{Body: []byte("no")})
		if c := second.Client(); c.Status != 403 || string(c.Body) != "1:yes4: 0:yes3: 2:no: " {
			t.Errorf("the second client has got %+v", c)
		}
		calls[6].Fail(host.CallReset, "reset")
		wantLog("done with 3 open")

		third := p.Open(plugintest.Request{})
		p.Advance(time.Second)
		calls = p.Callouts()
		if len(calls) != 4 || calls[3].Upstream != "poll" {
			t.Fatalf("calls after a second: %+v", calls)
		}
		calls[3].Answer(plugintest.Response{Status: 204})
		wantLog("poll 1: 1 headers, status 204, 0 bytes")
		p.Advance(1100 * time.Millisecond) // the next one has timed out
		wantLog("poll 2: 3 headers, status 504, 24 bytes")
		p.Advance(900 * time.Millisecond)
		calls = p.Callouts()
		calls[len(calls)-1].Fail(host.CallReset, "reset")
		wantLog("poll 3: 0 headers, status none, 0 bytes")

		for _, c := range p.Callouts() {
			c.Fail(host.CallUnavailable, "refused") // an answer, with the text as the body
		}
		if got := third.Upstream().Get("x-said"); strings.Count(got, "reset reason: refused") != 3 {
			t.Errorf("the third request says %q", got)
		}
		if n := len(p.Stats().Traps); n != 0 {
			t.Errorf("traps: %v", p.Stats().Traps)
		}
	})
}
