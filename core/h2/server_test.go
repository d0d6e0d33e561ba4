package h2_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// client returns a polite client of r's server.
func (r *rig) client() *testConn {
	r.Helper()
	c := dialTest(r.T, r.connect())
	r.Cleanup(c.close)
	return c
}

// errorOf waits for what a Handler has to say.
func errorOf(t *testing.T, errs <-chan error) *exchange.Error {
	t.Helper()
	err := <-errs
	e, ok := errors.AsType[*exchange.Error](err)
	if !ok {
		t.Fatalf("got %v, want an *exchange.Error", err)
	}
	return e
}

// TestRefusals checks what the client gets, and the hook, for requests that never become
// exchanges.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		o      h2.ServerOptions
		fields []string
		body   bool
		status int
		reason string
		reset  string // what follows the answer
	}{
		{"malformed", h2.ServerOptions{}, with("x", "a\rb"), false, 400, h2.ReasonBadValue, "PROTOCOL_ERROR"},
		{"bad path", h2.ServerOptions{}, []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/%zz"}, false, 400, h2.ReasonBadEscape, ""},
		{"bad path, with a body", h2.ServerOptions{}, []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/%zz"}, true, 400, h2.ReasonBadEscape, ""},
		{"CONNECT", h2.ServerOptions{}, []string{":method", "CONNECT", ":authority", "a:1"}, true, 501, h2.ReasonConnect, ""},
		{"large head", h2.ServerOptions{MaxHead: 1000}, with("x", strings.Repeat("a", 900)), false, 431, h2.ReasonHeadTooLarge, ""},
		{"many fields", h2.ServerOptions{MaxFields: 3}, with("a", "", "b", "", "c", "", "d", ""), false, 431, h2.ReasonTooManyFields, ""},
		{"large body", h2.ServerOptions{MaxBody: 10}, with("content-length", "11"), true, 413, h2.ReasonBodyTooLarge, ""},
		{"expectation", h2.ServerOptions{}, with("expect", "x"), false, 417, h2.ReasonBadExpect, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, tt.o, hello)
				c := r.client()
				s := c.open()
				c.do(func() { _ = c.headers(s.id, !tt.body, tt.fields...) })
				status, body, err := s.answer()
				if want := " " + tt.reason + "\n"; status != tt.status || !strings.HasSuffix(body, want) {
					t.Errorf("got %d, %q", status, body)
				}
				if got := err != nil; got != (tt.reset != "") || got && !strings.Contains(err.Error(), tt.reset) {
					t.Errorf("behind the answer: %v, want %q", err, tt.reset)
				}
				synctest.Wait()
				c.do(func() {
					if s.stopped != (tt.body && tt.reset == "") {
						t.Errorf("the rest of the request is not wanted: %v", s.stopped)
					}
				})
				r.mu.Lock()
				x := slices.Clone(r.refused)
				r.mu.Unlock()
				if len(x) != 1 || x[0].Reason != tt.reason || x[0].Status != tt.status || x[0].Host == "" || x[0].Method == "" {
					t.Errorf("hook: %+v", x)
				}
				if status, _, err := c.get("/again").answer(); status != 200 || err != nil {
					t.Errorf("the next request: %d, %v", status, err)
				}
			})
		})
	}
}

// TestBodyTooLarge checks a body without a length that grows beyond the limit: the
// Handler hears of it, and can still answer.
func TestBodyTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, h2.ServerOptions{MaxBody: 1000}, func(_ context.Context, c exchange.Client) {
			e, ok := errors.AsType[*exchange.Error](c.Feed(new(request)))
			if !ok || e.Status != 413 || e.Reason != h2.ReasonBodyTooLarge || e.Side != exchange.ClientSide {
				t.Errorf("Feed: %v", e)
			}
			if err := c.Head(&exchange.Response{Status: 413, Length: 0}, true); err != nil {
				t.Error(err)
			}
		})
		c := r.client()
		s := c.open()
		c.do(func() { _ = c.headers(s.id, false, get...) })
		_ = s.Data(make([]byte, 1001), false)
		if status, _, err := s.answer(); status != 413 || err != nil {
			t.Errorf("got %d, %v", status, err)
		}
	})
}

// TestWrongLength checks that DATA has to be what content-length promises.
func TestWrongLength(t *testing.T) {
	for _, tt := range []struct {
		name, data string
		end        bool
	}{{"more", "123456", false}, {"less", "1234", true}, {"nothing", "", true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				errs := make(chan error, 1)
				r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) { errs <- c.Feed(new(request)) })
				c := r.client()
				s := c.open()
				c.do(func() {
					_ = c.headers(s.id, false, with("content-length", "5")...)
					_ = c.fr.WriteData(s.id, tt.end, []byte(tt.data))
				})
				if e := errorOf(t, errs); e.Reason != h2.ReasonWrongLength || e.Side != exchange.ClientSide {
					t.Errorf("Feed: %v", e)
				}
				if _, _, err := s.answer(); err == nil || *s.reset != http2.ErrCodeProtocol {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestTrailers checks what trailer sections may be.
func TestTrailers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		end    bool
		fields []string
		want   string // of the trailer, or the reason
		ok     bool
	}{
		{"plain", true, []string{"x-sum", "1", "content-length", "5", "x-sum", "2"}, "x-sum=1 x-sum=2 ", true},
		{"empty", true, nil, "", true},
		{"pseudo", true, []string{":path", "/"}, h2.ReasonBadTrailer, false},
		{"connection", true, []string{"connection", "close"}, h2.ReasonBadTrailer, false},
		{"without the end", false, []string{"x", "y"}, h2.ReasonBadTrailer, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				errs, got := make(chan error, 1), ""
				r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) {
					var q request
					err := c.Feed(&q)
					if _, _, tr, _ := q.Message(); tr != nil {
						for n, v := range tr.All() {
							got += n + "=" + v + " "
						}
					}
					errs <- err
				})
				c := r.client()
				s := c.open()
				c.do(func() {
					_ = c.headers(s.id, false, get...)
					_ = c.fr.WriteData(s.id, false, []byte("x"))
					_ = c.headers(s.id, tt.end, tt.fields...)
				})
				if !tt.ok {
					if e := errorOf(t, errs); e.Reason != tt.want {
						t.Errorf("got %v", e)
					}
				} else if err := <-errs; err != nil || got != tt.want {
					t.Errorf("got %q, %v", got, err)
				}
			})
		})
	}
}

// TestContinue checks that 100 is sent when the body is wanted, and only then.
func TestContinue(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, h2.ServerOptions{}, func(ctx context.Context, c exchange.Client) {
				if wanted {
					hello(ctx, c)
					return
				}
				_ = c.Feed(&request{OnHead: func(*exchange.Request, bool) error {
					return c.Head(&exchange.Response{Status: 403}, true)
				}})
			})
			c := r.client()
			s := c.open()
			c.do(func() { _ = c.headers(s.id, false, with("expect", "100-continue")...) })
			var res response
			res.OnHead = func(h *exchange.Response, _ bool) error {
				if h.Status == 100 {
					return s.Data([]byte("x"), true)
				}
				return nil
			}
			err := s.Feed(&res)
			h, _, _, _ := res.Message()
			want := map[bool]int{true: 200, false: 403}[wanted]
			if err != nil || h.Status != want || len(res.Interim()) != map[bool]int{true: 1, false: 0}[wanted] {
				t.Errorf("wanted %v: got %d, %v behind %d 1xx", wanted, h.Status, err, len(res.Interim()))
			}
		})
	}
}

// resetter records that it was reset.
type resetter struct{ n atomic.Int64 }

func (r *resetter) Reset(c exchange.Code) {
	if c == exchange.CodeCancel {
		r.n.Add(1)
	}
}

// TestGone checks rule 11: the context ends, with the cause, and the upstream is reset.
func TestGone(t *testing.T) {
	for name, leave := range map[string]func(c *testConn, s *testStream){
		"reset":  func(_ *testConn, s *testStream) { s.Reset(exchange.CodeCancel) },
		"closed": func(c *testConn, _ *testStream) { _ = c.nc.Close() },
	} {
		for _, early := range []bool{true, false} { // it is gone before somebody wants to know
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var up resetter
					begun, done := make(chan struct{}), make(chan struct{})
					r := newRig(t, h2.ServerOptions{}, func(ctx context.Context, c exchange.Client) {
						defer close(done)
						_ = c.Feed(new(request))
						g, _ := c.(exchange.GoneNotifier)
						if !early {
							g.ResetWhenGone(&up)
						}
						close(begun)
						<-ctx.Done()
						if early {
							g.ResetWhenGone(&up)
						}
						synctest.Wait()
						if !errors.Is(context.Cause(ctx), exchange.ErrClientGone) {
							t.Errorf("cause: %v", context.Cause(ctx))
						}
						g.ResetWhenGone(nil)
						if err := c.Head(&exchange.Response{Status: 200}, true); err == nil {
							t.Error("an answer could be written")
						}
					})
					c := r.client()
					s := c.get("/")
					<-begun
					leave(c, s)
					<-done
					if n := up.n.Load(); n != 1 {
						t.Errorf("the upstream was reset %d times", n)
					}
				})
			})
		}
	}
}

// TestRetract checks that a head of which nothing has gone out can be taken back.
func TestRetract(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			_ = c.Feed(new(request))
			x, _ := c.(exchange.Retractor)
			if x.Retract() {
				t.Error("there was nothing to take back")
			}
			if err := c.Head(&exchange.Response{Status: 200, Length: 5}, false); err != nil {
				t.Error(err)
			}
			if !x.Retract() {
				t.Error("not taken back")
			}
			if err := c.Head(&exchange.Response{Status: 502, Length: 5}, false); err != nil {
				t.Error(err)
			}
			_ = c.Data(nil, false)
			if x.Retract() {
				t.Error("taken back behind a flush")
			}
			_ = c.Data([]byte("sorry"), true)
		})
		if status, body, err := r.client().get("/").answer(); status != 502 || body != "sorry" || err != nil {
			t.Errorf("got %d, %q, %v", status, body, err)
		}
	})
}

// TestSlowSinks checks that streams whose sinks take nothing do not stall the others, and
// that they hold no more than their windows.
func TestSlowSinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		r := newRig(t, h2.ServerOptions{ReadTimeout: time.Hour}, func(_ context.Context, c exchange.Client) {
			n, slow := 0, false
			err := c.Feed(&request{
				OnHead: func(h *exchange.Request, _ bool) error { slow = h.Target == "/slow"; return nil },
				OnData: func(p []byte, _ bool) error {
					if slow {
						<-letGo
					}
					n += len(p)
					return nil
				},
			})
			if err != nil {
				t.Error(err)
			}
			_ = c.Head(&exchange.Response{Status: 200, Length: 0}, true)
		})
		c := r.client()
		const size = 1 << 20
		post := func(path string) (*testStream, chan error) {
			s := c.open()
			c.do(func() {
				_ = c.headers(s.id, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", path)
			})
			done := make(chan error, 1)
			go func() { done <- s.Data(make([]byte, size), true) }() // ends when it was taken
			return s, done
		}
		type slow struct {
			s    *testStream
			done chan error
		}
		var all []slow
		for range 100 {
			s, done := post("/slow")
			all = append(all, slow{s, done})
		}
		synctest.Wait()
		for _, x := range all {
			c.do(func() {
				if x.s.window != 0 {
					t.Errorf("a slow stream has %d bytes left of its window", x.s.window)
				}
			})
		}
		s, done := post("/fast")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if status, _, err := s.answer(); status != 200 || err != nil {
			t.Errorf("a fast stream: %d, %v", status, err)
		}
		close(letGo)
		for _, x := range all {
			if err := <-x.done; err != nil {
				t.Fatal(err)
			}
			if status, _, err := x.s.answer(); status != 200 || err != nil {
				t.Errorf("a slow stream: %d, %v", status, err)
			}
		}
	})
}

// TestFairness checks that streams take turns when the connection's window is what they
// wait for, and that each gets its whole answer.
func TestFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 200 << 10
		r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) {
			if c.Feed(new(request)) == nil && c.Head(&exchange.Response{Status: 200, Length: size}, false) == nil {
				if err := c.Data(make([]byte, size), true); err != nil {
					t.Error(err)
				}
			}
		})
		c := r.client()
		c.do(func() { _ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}) })
		var all []*testStream
		for range 10 {
			all = append(all, c.get("/"))
		}
		synctest.Wait()
		got := func() (n []int) {
			for _, s := range all {
				m := 0
				for _, e := range s.events {
					m += len(e.data)
				}
				n = append(n, m)
			}
			return n
		}
		for i := range 10 * size / (16 << 10) {
			c.do(func() { _ = c.fr.WriteWindowUpdate(0, 16<<10) })
			synctest.Wait()
			if i%10 != 9 {
				continue
			}
			c.do(func() {
				n := got()
				least, most := n[0], n[0]
				for _, m := range n {
					least, most = min(least, m), max(most, m)
				}
				if most-least > 80<<10 { // the first had the connection's first window to itself
					t.Errorf("after %d grants: %v", i+1, n)
				}
			})
		}
		c.do(func() { _ = c.fr.WriteWindowUpdate(0, 1<<20) })
		for _, s := range all {
			if _, body, err := s.answer(); len(body) != size || err != nil {
				t.Errorf("got %d bytes, %v", len(body), err)
			}
		}
	})
}

// TestResets checks the codes of resets.
func TestResets(t *testing.T) {
	for code, want := range map[exchange.Code]http2.ErrCode{
		exchange.CodeCancel: http2.ErrCodeCancel, exchange.CodeInternal: http2.ErrCodeInternal,
		exchange.CodeRefused: http2.ErrCodeRefusedStream, exchange.CodeTimeout: http2.ErrCodeCancel,
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) { c.Reset(code) })
			s := r.client().get("/")
			if _, _, err := s.answer(); err == nil || *s.reset != want {
				t.Errorf("%v: got %v, want %v", code, err, want)
			}
		})
	}
}

// TestBadAnswers checks the net under those who edit fields.
func TestBadAnswers(t *testing.T) {
	for name, f := range map[string]exchange.Field{
		"value with CRLF": {Name: "x", Value: "a\r\nb"}, "name with a space": {Name: "x y", Value: "a"}, "upper case": {Name: "X", Value: "a"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) {
				_ = c.Feed(new(request))
				h := &exchange.Response{Status: 200}
				h.Fields.Add(f.Name, f.Value)
				e, ok := errors.AsType[*exchange.Error](c.Head(h, true))
				if !ok || e.Status != 502 || e.Reason != h2.ReasonBadField {
					t.Errorf("%s: %v", name, e)
				}
				if err := c.Head(&exchange.Response{Status: 502}, true); err != nil {
					t.Error(err)
				}
			})
			if status, _, err := r.client().get("/").answer(); status != 502 || err != nil {
				t.Errorf("%s: %d, %v", name, status, err)
			}
		})
	}
}
