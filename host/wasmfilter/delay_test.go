package wasmfilter_test

import (
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

// after asks for a resume after d and pauses.
func after(t *testing.T, side abi.StreamType, d time.Duration, want bool, act abi.Action) func(*call, int, bool) abi.Action {
	return func(c *call, _ int, _ bool) abi.Action {
		if got := c.Stream.(host.Delayer).ResumeAfter(side, d); got != want {
			t.Errorf("ResumeAfter: %t, want %t", got, want)
		}
		return act
	}
}

// TestResumeAfter: a paused message goes on by itself, at the time and not before it.
func TestResumeAfter(t *testing.T) {
	const d = 300 * time.Millisecond
	req, resp := abi.StreamRequest, abi.StreamResponse
	for _, tt := range []struct {
		name   string
		script func(t *testing.T) script
		o      fakeOptions
		wait   time.Duration
		status int
	}{
		{"request", func(t *testing.T) script { return script{onReqHeaders: after(t, req, d, true, abi.Pause)} }, fakeOptions{}, d, 200},
		{"request, hold", func(t *testing.T) script {
			return script{onReqHeaders: after(t, req, d, true, abi.Pause), onReqBody: cont}
		}, fakeOptions{hold: true}, d, 200},
		{"request body", func(t *testing.T) script {
			return script{onReqHeaders: cont, onReqBody: after(t, req, d, true, abi.Pause)}
		}, fakeOptions{}, d, 200},
		{"response", func(t *testing.T) script { return script{onRespHeaders: after(t, resp, d, true, abi.Pause)} }, fakeOptions{}, d, 200},
		{"not paused", func(t *testing.T) script { return script{onReqHeaders: after(t, req, d, true, abi.Continue)} }, fakeOptions{}, 0, 200},
		{"no time", func(t *testing.T) script { return script{onReqHeaders: after(t, req, 0, true, abi.Pause)} }, fakeOptions{}, 0, 200},
		{"another message", func(t *testing.T) script {
			return script{onReqHeaders: after(t, resp, d, false, abi.Continue)}
		}, fakeOptions{}, 0, 200},
		{"longer than a pause may be", func(t *testing.T) script {
			return script{onReqHeaders: after(t, req, time.Hour, true, abi.Pause)}
		}, fakeOptions{Options: wasmfilter.Options{Pause: time.Second}}, time.Second, 504},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, post, newPlugin("p", tt.script(t), tt.o))
				defer s.Finish()
				if !s.Paused() { // else that would end the request's pause
					s.Respond(plugintest.Response{Body: []byte("ok")})
				}
				if tt.wait > 0 {
					time.Sleep(tt.wait - time.Millisecond)
					synctest.Wait()
					if !s.Paused() {
						t.Fatal("it went on too early")
					}
					time.Sleep(time.Millisecond)
					synctest.Wait()
				}
				s.Respond(plugintest.Response{Body: []byte("ok")})
				if c := s.Client(); s.Paused() || c.Status != tt.status || !c.Ended {
					t.Errorf("the client has got %+v (paused %t)", c, s.Paused())
				}
			})
		})
	}
}

// TestResumeAfterEarlier: a resume ends such a pause too, and the time does not end the next one.
func TestResumeAfterEarlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{
			onReqHeaders: after(t, abi.StreamRequest, time.Second, true, abi.Pause),
			onReqBody:    pause,
		}, fakeOptions{})
		s := open(t, post, p)
		defer s.Finish()
		p.tick(resume(abi.StreamRequest))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if up := s.Upstream(); up.Method == "" || len(up.Body) > 0 || !s.Paused() {
			t.Errorf("upstream has got %+v, want the head only", up)
		}
		p.tick(func(c *call) {
			if !c.Stream.(host.Delayer).ResumeAfter(abi.StreamRequest, time.Second) {
				t.Error("a paused message cannot be given a time")
			}
		})
		time.Sleep(time.Second)
		synctest.Wait()
		if up := s.Upstream(); string(up.Body) != "hello" || !up.Ended {
			t.Errorf("upstream has got %+v, want all of it", up)
		}
	})
}

// TestSelectUpstream: only while the head is here.
func TestSelectUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pick := func(name string, want bool) func(*call, int, bool) abi.Action {
			return func(c *call, _ int, _ bool) abi.Action {
				if got := c.Stream.(host.Selector).SelectUpstream(name); got != want {
					t.Errorf("SelectUpstream(%q): %t, want %t", name, got, want)
				}
				return abi.Continue
			}
		}
		first := newPlugin("a", script{onReqHeaders: pick("x", true)}, fakeOptions{})
		second := newPlugin("b", script{onReqHeaders: pick("y", true), onReqBody: pick("z", false), onRespHeaders: pick("z", false)}, fakeOptions{})
		s := open(t, post, first, second)
		defer s.Finish()
		s.Respond(plugintest.Response{})
		if s.Selected() != "y" || s.Client().Status != 200 {
			t.Errorf("selected %q, want that of the last", s.Selected())
		}
	})
}
