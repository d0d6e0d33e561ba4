package h2_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// TestClientSilentConnection: a connection that has said nothing while a request waited,
// which was then given up, gets no more of them: its other end may have vanished, and
// the requests behind it would all wait as long. One that said something goes on.
func TestClientSilentConnection(t *testing.T) {
	t.Parallel()
	const wait = 3 * time.Second
	giveUp := map[string]func(s exchange.Upstream){
		"read timeout": func(exchange.Upstream) {},
		"deadline":     func(s exchange.Upstream) { setDeadline(s, wait) },
		"reset": func(s exchange.Upstream) {
			time.AfterFunc(wait-time.Millisecond, func() { s.Reset(exchange.CodeCancel) })
		},
	}
	for name, f := range giveUp {
		for _, silent := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					c, _ := scripted(t, &h2.ClientOptions{ReadTimeout: wait}, nil, func(o *origin) {
						h, _ := o.await(http2.FrameHeaders)
						o.okay(h.StreamID)
						o.await(http2.FrameHeaders)
						if !silent {
							time.Sleep(wait / 2)
							_ = o.fr.WritePing(false, [8]byte{})
						}
						o.drain()
					})
					if _, err := do(t, c, message{Head: newRequest("GET", "/", 0)}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute) // at rest: it was silent, and owed nothing
					s := open(t, c)
					f(s)
					if err := s.Head(newRequest("GET", "/", 0), true); err != nil {
						t.Fatal(err)
					}
					if err := s.Feed(new(response)); err == nil {
						t.Fatal("no error")
					}
					release(s)
					if c.Usable() == silent || c.Reserve() == silent {
						t.Errorf("silent: %v, and goes on: %v", silent, c.Usable())
					}
				})
			})
		}
	}
}

// TestClientPatientConnection: giving up soon says nothing of a connection.
func TestClientPatientConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, nil, nil, func(o *origin) { o.drain() })
		for range 10 {
			s := open(t, c)
			if err := s.Head(newRequest("GET", "/", 0), true); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			release(s)
		}
		if !c.Usable() {
			t.Error("given up after a tenth of a second")
		}
	})
}

// TestClientShutConnection: an origin that opens no window of the connection any more
// gets no more requests on it: all that have a body would run into it. What has none, and
// is under way, goes on.
func TestClientShutConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		settings := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 20}}
		c, _ := scripted(t, &h2.ClientOptions{WriteTimeout: 3 * time.Second}, settings, func(o *origin) {
			o.await(http2.FrameHeaders)
			o.await(http2.FrameHeaders)
			go o.drain()
			for range 10 {
				time.Sleep(time.Second)
				_ = o.fr.WriteWindowUpdate(3, 1)
				_ = o.fr.WritePing(false, [8]byte{})
			}
			o.okay(1)
		})
		synctest.Wait()
		get, post := open(t, c), open(t, c)
		if err := get.Head(newRequest("GET", "/", 0), true); err != nil {
			t.Fatal(err)
		}
		if err := post.Head(newRequest("POST", "/", 1<<20), false); err != nil {
			t.Fatal(err)
		}
		wantError(t, post.Data(make([]byte, 1<<20), true), 504, h2.ReasonWriteTimeout, exchange.RetryNever)
		release(post)
		if c.Usable() {
			t.Error("the connection takes more requests")
		}
		if err := get.Feed(new(response)); err != nil {
			t.Errorf("another one on it: %v", err)
		}
		release(get)
	})
}

// TestClientHeldInterim: interim heads that nobody takes are held up to the size of one
// head, not to 32 times it: they are not under flow control.
func TestClientHeldInterim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, o := scripted(t, &h2.ClientOptions{MaxHead: 20_000}, nil, func(o *origin) {
			o.await(http2.FrameHeaders)
			for range 4 {
				o.head(1, false, ":status", "103", "x", strings.Repeat("x", 8000))
			}
			o.okay(1)
			o.drain()
		})
		s := open(t, c)
		if err := s.Head(newRequest("POST", "/", 10), false); err != nil {
			t.Fatal(err)
		}
		if err := s.Data(nil, false); err != nil && !errors.Is(err, exchange.ErrAnswered) { // it may be quick
			t.Fatal(err)
		}
		synctest.Wait() // nobody feeds
		err := s.Feed(new(response))
		wantError(t, err, 502, h2.ReasonInterim, exchange.RetryNever)
		release(s)
		if !c.Usable() {
			t.Error("it has cost the connection")
		}
		_ = c.Close()
		<-o.done
	})
	synctest.Test(t, func(t *testing.T) { // taken at once, they may be as many
		c, _ := scripted(t, &h2.ClientOptions{MaxHead: 20_000}, nil, func(o *origin) {
			o.await(http2.FrameHeaders)
			for range 8 {
				o.head(1, false, ":status", "103", "x", strings.Repeat("x", 8000))
				time.Sleep(time.Millisecond)
			}
			o.okay(1)
			o.drain()
		})
		if _, err := do(t, c, message{Head: newRequest("GET", "/", 0)}); err != nil {
			t.Error(err)
		}
	})
}

// TestClientLateFlood: frames of streams that are over cost the connection when they do
// not end.
func TestClientLateFlood(t *testing.T) {
	t.Parallel()
	for name, flood := range map[string]func(o *origin) error{
		"heads": func(o *origin) error {
			o.okay(1)
			return o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
		},
		"data": func(o *origin) error { return o.fr.WriteData(1, false, make([]byte, 1000)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, o := scripted(t, nil, nil, func(o *origin) {
					o.await(http2.FrameRSTStream)
					go o.drain()
					for range 100_000 {
						if flood(o) != nil {
							return
						}
					}
				})
				s := open(t, c)
				if err := s.Head(newRequest("GET", "/", 0), true); err != nil {
					t.Fatal(err)
				}
				release(s)
				<-o.done
				if c.Usable() {
					t.Error("the connection goes on")
				}
			})
		})
	}
}

// TestClientFewerStreams: an origin that lowers MAX_CONCURRENT_STREAMS behind a slot that
// was taken gets no stream too many.
func TestClientFewerStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lower, lowered := make(chan struct{}), make(chan struct{})
		c, o := scripted(t, nil, nil, func(o *origin) {
			<-lower
			_ = o.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			close(lowered)
			o.drain()
		})
		first, second := open(t, c), open(t, c)
		close(lower)
		<-lowered
		synctest.Wait()
		if err := first.Head(newRequest("POST", "/", 0), true); err != nil {
			t.Fatal(err)
		}
		err := second.Head(newRequest("POST", "/", 0), true)
		var e *exchange.Error
		if !errors.As(err, &e) || e.Retry != exchange.RetryAlways {
			t.Errorf("a stream too many: %v", err)
		}
		release(second)
		release(first)
		if !c.Reserve() {
			t.Error("a slot was lost")
		}
		_ = c.Close()
		<-o.done
		if o.got[http2.FrameHeaders] != 1 {
			t.Errorf("%d streams were opened, the origin takes 1", o.got[http2.FrameHeaders])
		}
	})
}

// TestClientContradiction: an origin that says of an answered request that it has not
// looked at it has answered all the same, and is not asked again.
func TestClientContradiction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, nil, nil, func(o *origin) {
			o.await(http2.FrameHeaders)
			o.head(1, false, ":status", "413")
			_ = o.fr.WriteData(1, true, []byte("big"))
			_ = o.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			_ = o.fr.WriteGoAway(5, http2.ErrCodeNo, nil)
			o.drain()
		})
		s := open(t, c)
		if err := s.Head(newRequest("POST", "/", 10), false); err != nil {
			t.Fatal(err)
		}
		if err := s.Data(nil, false); err != nil && !errors.Is(err, exchange.ErrAnswered) { // it may be quick
			t.Fatal(err)
		}
		synctest.Wait()
		var r response
		if err := s.Feed(&r); err != nil {
			t.Errorf("got %v", err)
		}
		release(s)
	})
}

// TestClientBlockedWrite: an upstream that opens its windows and does not read holds
// nobody beyond deadline, Reset or write timeout.
func TestClientBlockedWrite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		how    func(s exchange.Upstream)
		after  time.Duration
		status int
		reason string
	}{
		{"deadline", func(s exchange.Upstream) { setDeadline(s, time.Second) }, time.Second, 504, h2.ReasonDeadline},
		{"reset", func(s exchange.Upstream) { time.AfterFunc(time.Second, func() { s.Reset(exchange.CodeCancel) }) }, time.Second, 0, h2.ReasonReset},
		{"timeout", func(exchange.Upstream) {}, 3 * time.Second, 504, h2.ReasonWriteTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stop := make(chan struct{})
				settings := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 30}}
				c, _ := scripted(t, &h2.ClientOptions{WriteTimeout: 3 * time.Second}, settings, func(o *origin) {
					_ = o.fr.WriteWindowUpdate(0, 1<<30)
					<-stop
				})
				synctest.Wait()
				s, late := open(t, c), open(t, c)
				tt.how(s)
				start := time.Now()
				if err := s.Head(newRequest("POST", "/", exchange.LengthUnknown), false); err != nil {
					t.Fatal(err)
				}
				var err error
				for p := make([]byte, 10_000); err == nil; {
					err = s.Data(p, false)
				}
				var e *exchange.Error
				if took := time.Since(start); !errors.As(err, &e) || e.Status != tt.status || e.Reason != tt.reason || took != tt.after {
					t.Errorf("got %v after %v, want %d %s after %v", err, took, tt.status, tt.reason, tt.after)
				}
				s.Reset(exchange.CodeCancel)
				start = time.Now()
				_ = late.Head(newRequest("GET", "/", 0), true) // it may be too late for it
				if took := time.Since(start); took > 0 {
					t.Errorf("another one's head was held up for %v", took)
				}
				close(stop)
				release(late)
				release(s)
			})
		})
	}
}

func setDeadline(s exchange.Upstream, d time.Duration) {
	if x, ok := s.(exchange.Deadliner); ok {
		x.SetDeadline(time.Now().Add(d))
	}
}

// TestClientRefusesItsAnswer: an upstream that has begun to answer has looked at the
// request, whatever it says afterwards: nothing that fails then may be sent again, also
// when it is the writer who hears of it.
func TestClientRefusesItsAnswer(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(o *origin){
		"refused": func(o *origin) { _ = o.fr.WriteRSTStream(1, http2.ErrCodeRefusedStream) },
		"goaway":  func(o *origin) { _ = o.fr.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"closed":  func(o *origin) { _ = o.nc.Close() },
	} {
		for _, status := range []string{"103", "200"} {
			t.Run(name+" behind "+status, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					c, _ := scripted(t, nil, nil, func(o *origin) {
						o.await(http2.FrameData)
						o.head(1, false, ":status", status)
						time.Sleep(time.Second)
						end(o)
						o.drain()
					})
					s := open(t, c)
					if err := s.Head(newRequest("POST", "/", exchange.LengthUnknown), false); err != nil {
						t.Fatal(err)
					}
					if err := errors.Join(s.Data([]byte("x"), false), s.Data(nil, false)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Second)
					var e *exchange.Error
					if err := s.Data([]byte("x"), true); !errors.As(err, &e) || e.Retry != exchange.RetryNever {
						t.Errorf("Data: got %v", err)
					}
					if err := s.Feed(new(response)); !errors.As(err, &e) || e.Retry != exchange.RetryNever {
						t.Errorf("Feed: got %v", err)
					}
					release(s)
				})
			})
		}
	}
}

// TestClientHalfData: an answer that stops within a DATA frame has stopped, and is no slow
// head; an answer that is cut so never looks complete.
func TestClientHalfData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, &h2.ClientOptions{ReadTimeout: 3 * time.Second}, nil, func(o *origin) {
			o.await(http2.FrameHeaders)
			o.await(http2.FrameHeaders)
			o.head(1, false, ":status", "200")
			_, _ = o.nc.Write([]byte{0, 0, 100, 0, 1, 0, 0, 0, 1, 'x', 'x'})
			o.drain()
		})
		s, other := open(t, c), open(t, c)
		for _, x := range []exchange.Upstream{s, other} {
			if err := x.Head(newRequest("GET", "/", 0), true); err != nil {
				t.Fatal(err)
			}
		}
		failed := make(chan error, 1)
		go func() { failed <- other.Feed(new(response)) }()
		var r response
		var e *exchange.Error
		if err := s.Feed(&r); !errors.As(err, &e) || e.Reason != h2.ReasonReadTimeout || e.Retry != exchange.RetryNever {
			t.Errorf("got %v", err)
		}
		if _, data, _, ended := r.Message(); data != "xx" || ended {
			t.Errorf("got %q, ended: %v", data, ended)
		}
		wantError(t, <-failed, 504, h2.ReasonReadTimeout, exchange.RetryNever)
		release(s)
		release(other)
	})
}
