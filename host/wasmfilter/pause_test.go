package wasmfilter_test

import (
	"testing"
	"testing/synctest"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

var post = plugintest.Request{Method: "POST", Path: "/p", Body: []byte("hello")}

// A guest that pauses in a headers callback and answers Continue to bodies, as
// the base classes of SDKs do, must not leak either before it resumes.
func TestStopAllHoldsBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqHeaders: pause, onReqBody: cont}, fakeOptions{})
		s := open(t, post, p)
		defer s.Finish()
		if up := s.Upstream(); up.Method != "" || !s.Paused() {
			t.Fatalf("before the resume the upstream has got %+v (paused %v), want nothing", up, s.Paused())
		}
		if got, want := p.log(), "request_headers"; got != want {
			t.Errorf("callbacks: got %q, want %q", got, want)
		}
		p.tick(resume(abi.StreamRequest))
		up := s.Upstream()
		if up.Method != "POST" || string(up.Body) != "hello" || !up.Ended {
			t.Errorf("after the resume the upstream has got %+v, want the whole request", up)
		}
		if got, want := p.log(), "request_headers request_body"; got != want {
			t.Errorf("callbacks: got %q, want %q", got, want)
		}
		s.Respond(plugintest.Response{Body: []byte("ok")})
		if c := s.Client(); c.Status != 200 || string(c.Body) != "ok" || !c.Ended {
			t.Errorf("client got %+v", c)
		}
	})
}

// Resuming inside the callback that pauses is the same as not pausing.
func TestResumeThenPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
			c.Resume(abi.StreamRequest)
			return abi.Pause
		}}, fakeOptions{})
		s := open(t, post, p)
		defer s.Finish()
		if up := s.Upstream(); !up.Ended {
			t.Errorf("upstream has got %+v, want the whole request", up)
		}
	})
}

// A resume of a direction that is not held must not make a later pause void.
func TestEarlyResumeIsVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{
			onReqHeaders: func(c *call, _ int, _ bool) abi.Action { c.Resume(abi.StreamRequest); return abi.Continue },
			onReqBody:    func(_ *call, _ int, _ bool) abi.Action { return abi.Pause },
		}, fakeOptions{})
		req := post
		req.More = true
		s := open(t, req, p)
		defer s.Finish()
		p.tick(resume(abi.StreamResponse)) // nothing of it is there
		if up := s.Upstream(); up.Method == "" || len(up.Body) > 0 {
			t.Errorf("upstream has got %+v, want the head only", up)
		}
	})
}

// In hold mode the guest keeps the head, reads the body, and edits the head then.
func TestHoldReadsBodyThenEditsHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{
			onReqHeaders: pause,
			onReqBody: func(c *call, n int, end bool) abi.Action {
				if !end {
					return abi.Pause
				}
				c.Map(abi.MapRequestHeaders).Set("x-body", body(c, abi.BufferRequestBody))
				c.Buffer(abi.BufferRequestBody).Replace(n, 0, []byte("!"))
				return abi.Continue
			},
		}, fakeOptions{hold: true})
		req := post
		req.More = true
		s := open(t, req, p)
		defer s.Finish()
		if s.Paused() {
			t.Fatal("the feeder is parked; in hold mode it has to go on")
		}
		if up := s.Upstream(); up.Method != "" {
			t.Fatalf("upstream has got %+v before the guest let go", up)
		}
		s.Send([]byte(" world"), false)
		s.Send(nil, true)
		up := s.Upstream()
		if up.Get("x-body") != "hello world" || string(up.Body) != "hello world!" || !up.Ended {
			t.Errorf("upstream has got %+v", up)
		}
		if got := up.Get("content-length"); got != "12" {
			t.Errorf("content-length of the body that was held to its end: got %q, want 12", got)
		}
	})
}

// A tick resumes a held message whose feeder waits for the client: one goroutine
// pushes what is held, flushes it, and the rest streams.
func TestResumeWhileFeederWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		p := newPlugin("p", script{onReqBody: func(*call, int, bool) abi.Action {
			if first {
				first = false
				return abi.Pause
			}
			return abi.Continue
		}}, fakeOptions{})
		req := post
		req.More = true
		s := open(t, req, p)
		defer s.Finish()
		s.Send(nil, false) // the flush of a feeder that is about to wait
		if up := s.Upstream(); up.Method == "" || len(up.Body) != 0 {
			t.Fatalf("upstream has got %+v, want the head only", up)
		}
		p.tick(resume(abi.StreamRequest))
		if up := s.Upstream(); string(up.Body) != "hello" || up.Ended {
			t.Errorf("upstream has got %+v, want the body so far", up)
		}
		if n, _ := s.Flushes(); n == 0 {
			t.Error("what a tick released was not flushed")
		}
		s.Send([]byte(" world"), true)
		if up := s.Upstream(); string(up.Body) != "hello world" || !up.Ended {
			t.Errorf("upstream has got %+v, want all of it", up)
		}
	})
}

// One tick resumes many streams; none waits for another.
// Each side is let go of by itself, from its own callback or from elsewhere; what is not
// held, and what is of TCP, is not touched, and a local reply cannot be taken back.
func TestContinueSides(t *testing.T) {
	all := []abi.StreamType{abi.StreamRequest, abi.StreamResponse, abi.StreamDownstream, abi.StreamUpstream}
	for _, held := range []abi.StreamType{abi.StreamRequest, abi.StreamResponse} {
		synctest.Test(t, func(t *testing.T) {
			hold := pause
			p := newPlugin("p", script{onReqHeaders: cont, onRespHeaders: hold}, fakeOptions{})
			if held == abi.StreamRequest {
				p = newPlugin("p", script{onReqHeaders: hold, onRespHeaders: cont}, fakeOptions{})
			}
			s := open(t, plugintest.Request{}, p)
			respond := func() { s.Respond(plugintest.Response{Body: []byte("x")}) }
			if held == abi.StreamResponse {
				respond()
			}
			passed := func() bool {
				if held == abi.StreamRequest {
					return s.Upstream().Method != ""
				}
				return s.Client().Status != 0
			}
			for _, side := range all {
				if side != held {
					p.tick(func(c *call) { c.Resume(side) })
					if passed() {
						t.Errorf("%v was let go of by continuing %v", held, side)
					}
				}
			}
			p.tick(func(c *call) { c.Resume(held); c.Resume(held) })
			if !passed() {
				t.Errorf("%v is still held", held)
			}
			if held == abi.StreamRequest {
				respond()
			}
			s.Finish()
			if c := s.Client(); c.Status != 200 || !c.Ended {
				t.Errorf("%v: client has got %+v", held, c)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
			c.Reply(host.Reply{Status: 403})
			c.Resume(abi.StreamRequest)
			return abi.Continue
		}}, fakeOptions{})
		s := open(t, plugintest.Request{}, p)
		s.Finish()
		if up, c := s.Upstream(), s.Client(); up.Method != "" || c.Status != 403 {
			t.Errorf("upstream has got %+v, client %+v", up, c)
		}
	})
}

func TestTickResumesMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		p := newPlugin("p", script{onReqHeaders: pause}, fakeOptions{})
		streams := make([]*plugintest.Stream, n)
		for i := range streams {
			streams[i] = open(t, post, p)
		}
		p.tick(resume(abi.StreamRequest))
		for i, s := range streams {
			if up := s.Upstream(); !up.Ended {
				t.Fatalf("stream %d: upstream has got %+v", i, up)
			}
			s.Respond(plugintest.Response{})
		}
		for _, s := range streams {
			s.Finish()
		}
	})
}

func TestClientLeavesWhilePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqHeaders: pause, onRespHeaders: cont}, fakeOptions{})
		s := open(t, post, p)
		s.Leave()
		if s.Paused() {
			t.Error("the feeder is still parked")
		}
		p.tick(resume(abi.StreamRequest)) // must not push anything
		if up := s.Upstream(); up.Method != "" {
			t.Errorf("upstream has got %+v after the client had left", up)
		}
		s.Finish()
		if got, want := p.log(), "request_headers log"; got != want {
			t.Errorf("callbacks: got %q, want %q", got, want)
		}
	})
}

func TestPauseLimit(t *testing.T) {
	tests := []struct {
		name   string
		script script
		o      wasmfilter.Options
		wait   time.Duration
		status int
	}{
		{"request, own limit", script{onReqHeaders: pause}, wasmfilter.Options{Pause: time.Second}, time.Second, 504},
		{"request, route's timeout", script{onReqHeaders: pause}, wasmfilter.Options{}, time.Minute, 504},
		{"request, the shorter one", script{onReqHeaders: pause}, wasmfilter.Options{Pause: time.Hour}, time.Minute, 504},
		{"response", script{onRespHeaders: pause}, wasmfilter.Options{Pause: time.Second}, time.Second, 504},
		{"response body", script{onRespHeaders: cont, onRespBody: pause}, wasmfilter.Options{Pause: time.Second}, time.Second, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, post, newPlugin("p", tt.script, fakeOptions{Options: tt.o}))
				if !s.Paused() {
					s.Respond(plugintest.Response{Body: []byte("ok")})
				}
				time.Sleep(tt.wait - 30*time.Millisecond)
				synctest.Wait()
				if c := s.Client(); !s.Paused() {
					t.Fatalf("before the limit the client has got %+v", c)
				}
				time.Sleep(31 * time.Millisecond)
				synctest.Wait()
				defer s.Finish()
				if tt.status == 0 { // the head has gone
					if got, want := s.Aborted(), "plugin_timeout:p"; got != want {
						t.Errorf("reset: got %q, want %q", got, want)
					}
					return
				}
				if c := s.Client(); c.Status != tt.status || s.Reason() != "plugin_timeout:p" || !c.Ended {
					t.Errorf("client has got %+v, reason %q", c, s.Reason())
				}
			})
		})
	}
}

// An answer that the upstream gives early ends the wait for a guest that holds the
// rest of the request.
func TestEarlyAnswerEndsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlugin("p", script{onReqBody: pause}, fakeOptions{})
		s := open(t, post, p)
		if !s.Paused() {
			t.Fatal("the guest does not hold the body")
		}
		s.Respond(plugintest.Response{Status: 403})
		if s.Paused() {
			t.Error("the feeder of the request is still parked after the answer has ended")
		}
		s.Finish()
		if c := s.Client(); c.Status != 403 || !c.Ended {
			t.Errorf("client has got %+v", c)
		}
	})
}

// TestResumedWithoutBody: nothing follows an answer that a guest has made one without a body
// when it lets go of it from outside.
func TestResumedWithoutBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		holds := newPlugin("holds", script{
			onRespHeaders: func(*call, int, bool) abi.Action { return abi.Pause },
			onRespBody:    func(*call, int, bool) abi.Action { return abi.Continue },
		}, fakeOptions{hold: true})
		x := newExchange(t)
		x.SetRequestRun()
		client := &slowClient{let: make(chan struct{})}
		close(client.let)
		f, err := holds.New(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Response(client).Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false); err != nil {
			t.Fatal(err)
		}
		holds.vm.Lock()
		holds.open[0].Map(abi.MapResponseHeaders).Set(":status", "204")
		holds.open[0].Resume(abi.StreamResponse)
		holds.vm.Unlock()
		synctest.Wait()
		f.Close(nil)
		if client.heads != 1 || client.data != 0 {
			t.Errorf("%d heads, %d calls with data after the end", client.heads, client.data)
		}
	})
}
