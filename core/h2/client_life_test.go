package h2_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h2"
)

func TestClientGoAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		c, o := scripted(t, nil, nil, func(o *origin) {
			o.await(http2.FrameHeaders)
			o.await(http2.FrameHeaders)
			_ = o.fr.WriteGoAway(1, http2.ErrCodeNo, nil)
			<-goOn
			o.head(1, false, ":status", "200")
			_ = o.fr.WriteData(1, true, []byte("late"))
			o.drain()
		})
		first, second := open(t, c), open(t, c)
		early := open(t, c) // opened, and not begun
		for _, s := range []exchange.Upstream{first, second} {
			if err := s.Head(newRequest("POST", "/", 0), true); err != nil {
				t.Fatal(err)
			}
		}
		wantError(t, second.Feed(new(response)), 502, h2.ReasonGoAway, exchange.RetryAlways)
		if c.Reserve() || c.Usable() || c.Idle() {
			t.Error("the connection takes more after GOAWAY")
		}
		wantError(t, early.Head(newRequest("POST", "/", 0), true), 502, h2.ReasonGoAway, exchange.RetryAlways)
		close(goOn)
		var r response
		if err := first.Feed(&r); err != nil {
			t.Errorf("a stream that the upstream has taken: %v", err)
		}
		if _, data, _, ended := r.Message(); data != "late" || !ended {
			t.Errorf("got %q", data)
		}
		for _, s := range []exchange.Upstream{first, second, early} {
			release(s)
		}
		<-o.done // the connection ends with the last stream
	})
}

// TestClientEarlyAnswer: an upstream that has answered may reset the rest of the request,
// or close, and its answer is whole all the same.
func TestClientEarlyAnswer(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(o *origin){
		"nothing":  func(*origin) {},
		"reset":    func(o *origin) { _ = o.fr.WriteRSTStream(1, http2.ErrCodeNo) },
		"cancel":   func(o *origin) { _ = o.fr.WriteRSTStream(1, http2.ErrCodeCancel) },
		"goes off": func(o *origin) { time.Sleep(time.Second); _ = o.nc.Close() }, // it closes with a reset, which would outrun its answer
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, o := scripted(t, nil, nil, func(o *origin) {
					o.await(http2.FrameHeaders)
					o.head(1, false, ":status", "413")
					_ = o.fr.WriteData(1, true, []byte("big"))
					o.await(http2.FrameData)
					end(o)
					o.drain()
				})
				s := open(t, c)
				if err := s.Head(newRequest("POST", "/", 1<<30), false); err != nil {
					t.Fatal(err)
				}
				// The writer runs into the window, which nobody opens.
				pushed := make(chan error, 1)
				go func() {
					var err error
					for p := make([]byte, 16<<10); err == nil; {
						err = s.Data(p, false)
					}
					pushed <- err
				}()
				synctest.Wait()
				var r response
				if err := s.Feed(&r); err != nil {
					t.Errorf("Feed: %v", err)
				}
				if err := <-pushed; !errors.Is(err, exchange.ErrAnswered) {
					t.Errorf("Data: got %v, want ErrAnswered", err)
				}
				if head, data, _, ended := r.Message(); head == nil || head.Status != 413 || data != "big" || !ended {
					t.Errorf("got %v %q", head, data)
				}
				release(s)
				_ = c.Close()
				<-o.done
				if code, ok := o.rst[1]; name == "nothing" && (!ok || code != http2.ErrCodeNo) {
					t.Errorf("the rest of the request: got RST_STREAM %v, %v, want NO_ERROR", code, ok)
				}
			})
		})
	}
}

// TestClientSettings: the upstream's settings are kept to, also when they change.
func TestClientSettings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		received, first := 0, make(chan int, 1)
		var most uint32
		settings := []http2.Setting{
			{ID: http2.SettingMaxConcurrentStreams, Val: 2},
			{ID: http2.SettingInitialWindowSize, Val: 100},
			{ID: http2.SettingMaxHeaderListSize, Val: 1000},
			{ID: http2.SettingHeaderTableSize, Val: 0},
		}
		c, o := scripted(t, nil, settings, func(o *origin) {
			o.await(http2.FrameHeaders)
			for received < 100 {
				h, ok := o.await(http2.FrameData)
				if !ok {
					return
				}
				received += int(h.Length)
			}
			first <- received
			_ = o.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 50_000})
			for received < 40_000 {
				h, ok := o.await(http2.FrameData)
				if !ok {
					return
				}
				received += int(h.Length)
				most = max(most, h.Length)
			}
			o.okay(1)
			o.drain()
		})
		synctest.Wait() // until the settings are here
		huge := newRequest("GET", "/", 0)
		huge.Fields.Add("x", strings.Repeat("x", 1000))
		s := open(t, c)
		wantError(t, s.Head(huge, true), 431, h2.ReasonHeadTooLarge, exchange.RetryNever)
		release(s)
		s = open(t, c)
		if !c.Reserve() || c.Reserve() {
			t.Error("MAX_CONCURRENT_STREAMS is 2")
		}
		m := message{Head: newRequest("POST", "/", 40_000), Data: []string{strings.Repeat("x", 40_000)}}
		pushed := make(chan error, 1)
		go func() { pushed <- m.Push(s) }()
		synctest.Wait()
		if n := <-first; n != 100 {
			t.Errorf("%d bytes were sent into a window of 100", n)
		}
		if err := s.Feed(new(response)); err != nil {
			t.Error(err)
		}
		if err := <-pushed; err != nil {
			t.Error(err)
		}
		release(s)
		_ = c.Close()
		<-o.done
		if received != 40_000 || most > 16<<10 {
			t.Errorf("%d bytes, in frames of up to %d", received, most)
		}
	})
}

// TestClientKeepAlive: an upstream that does not answer a PING is given up; one that does
// is not.
func TestClientKeepAlive(t *testing.T) {
	t.Parallel()
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c, _ := scripted(t, &h2.ClientOptions{KeepAlive: 10 * time.Second, PingTime: 5 * time.Second}, nil, func(o *origin) {
				o.await(http2.FrameHeaders)
				for range 3 {
					f, ok := o.await(http2.FramePing)
					if !ok {
						return
					}
					_ = f
					if answers {
						_ = o.fr.WritePing(true, [8]byte{'w', 'p', 'r', 'o', 'x', 'y', ' ', 'k'})
					}
				}
				o.okay(1)
				o.drain()
			})
			s := open(t, c)
			if err := s.Head(newRequest("POST", "/", exchange.LengthUnknown), false); err != nil {
				t.Fatal(err)
			}
			if err := s.Data(nil, false); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			err := s.Feed(new(response))
			switch took := time.Since(start); {
			case answers && (err != nil || took < 30*time.Second):
				t.Errorf("answered: %v after %v", err, took)
			case !answers && took != 15*time.Second:
				t.Errorf("not answered: given up after %v: %v", took, err)
			}
			if !answers {
				wantError(t, err, 502, h2.ReasonDead, exchange.RetryNever)
			}
			release(s)
		})
	}
}

// TestClientStale: an upstream that closes a connection which has served is no failure of
// a request that can be repeated; on a new one it may be.
func TestClientStale(t *testing.T) {
	t.Parallel()
	for _, served := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c, _ := scripted(t, nil, nil, func(o *origin) {
				if served {
					h, _ := o.await(http2.FrameHeaders)
					o.okay(h.StreamID)
				}
				o.await(http2.FrameHeaders)
				_ = o.nc.Close()
			})
			want := exchange.RetryNever
			if served {
				want = exchange.RetryIfReused
				if _, err := do(t, c, message{Head: newRequest("GET", "/", 0)}); err != nil {
					t.Fatal(err)
				}
			}
			_, err := do(t, c, message{Head: newRequest("GET", "/", 0)})
			wantError(t, err, 502, h2.ReasonClosed, want)
		})
	}
}

// TestClientNoTimeouts: negative timeouts are none.
func TestClientNoTimeouts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, &h2.ClientOptions{ReadTimeout: -1, WriteTimeout: -1, KeepAlive: -1}, nil, func(o *origin) {
			h, _ := o.await(http2.FrameHeaders)
			time.Sleep(24 * time.Hour)
			o.okay(h.StreamID)
			o.drain()
		})
		if _, err := do(t, c, message{Head: newRequest("GET", "/", 0)}); err != nil {
			t.Error(err)
		}
	})
}

// TestClientReady: a connection is ready when the upstream's settings have come, and never
// if something else comes.
func TestClientReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, nil, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 3}}, func(o *origin) { o.drain() })
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			if got := c.Reserve(); got != (i < 3) {
				t.Errorf("slot %d: %v", i, got)
			}
		}
	})
	for name, says := range map[string]string{"HTTP/1.1": "HTTP/1.1 400 Bad Request\r\n\r\n", "nothing": ""} {
		synctest.Test(t, func(t *testing.T) {
			near, far := exchangetest.Pipe()
			c := h2.NewClientConn(near, nil)
			go func() {
				time.Sleep(time.Second)
				_, _ = io.WriteString(far, says)
				_ = far.Close()
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if err := c.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: before it says it: %v", name, err)
			}
			cancel()
			if err := c.Ready(t.Context()); err == nil {
				t.Errorf("%s: ready", name)
			}
			_ = c.Close()
		})
	}
}
