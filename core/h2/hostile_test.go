package h2_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// TestHeadsWait checks that a client that asks and asks and does not read cannot
// make the answers pile up, although none of them has a body that would have to wait.
func TestHeadsWait(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(c exchange.Client, f exchange.Fields) error
	}{
		{"heads", func(c exchange.Client, f exchange.Fields) error {
			return c.Head(&exchange.Response{Status: 204, Length: 0, Fields: f}, true)
		}},
		{"1xx heads", func(c exchange.Client, f exchange.Fields) error {
			for range 20 {
				if err := c.Head(&exchange.Response{Status: 103, Fields: f}, false); err != nil {
					return err
				}
			}
			return c.Head(&exchange.Response{Status: 204}, true)
		}},
		{"trailers", func(c exchange.Client, f exchange.Fields) error {
			if err := c.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false); err != nil {
				return err
			}
			return c.Trailer(&f)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var late int
				r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) {
					var f exchange.Fields
					f.Add("x", strings.Repeat("~", 1000))
					if c.Feed(new(request)) == nil {
						if err := tt.answer(c, f); err != nil && strings.Contains(err.Error(), h2.ReasonWriteTimeout) {
							late++
						}
					}
				})
				r.begin(false)
				i := 0
				for ; i < 5000; i++ {
					if r.open(uint32(2*i+1), true, r.request("GET")) != nil {
						break
					}
					if i%100 == 0 {
						synctest.Wait()
					}
				}
				synctest.Wait()
				// What one connection may have in its output, and the socket's buffers.
				if n := r.served.Load(); n > 600 {
					t.Errorf("%d answers are waiting to be read", n)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := r.handlers.Load(); n != 0 {
					t.Errorf("%d exchanges run after a minute", n)
				}
			})
		})
	}
}

// TestRefusedStreams checks that what follows the head of a stream that was refused is
// not held against the client: it cannot know yet.
func TestRefusedStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		r := newRig(t, h2.ServerOptions{MaxStreams: 1}, func(context.Context, exchange.Client) { <-end })
		defer close(end)
		r.begin(true)
		_ = r.open(1, true, r.request("GET"))
		for id := uint32(3); id < 103; id += 2 {
			_ = r.open(id, false, r.request("POST"))
			for range 4 {
				_ = r.fr.WriteData(id, false, make([]byte, 100))
			}
			_ = r.fr.WriteWindowUpdate(id, 100)
			_ = r.open(id, true, r.head("x", "y"))
		}
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.codes) > 0 || r.closed {
			t.Errorf("GOAWAY %v, closed %v", r.codes, r.closed)
		}
		if n := r.resets[http2.ErrCodeRefusedStream]; n != 50 || len(r.resets) != 1 {
			t.Errorf("resets: %v, want 50 times REFUSED_STREAM", r.resets)
		}
		if len(r.refused) != 50 || r.refused[0].Reason != h2.ReasonTooMany || r.refused[0].Method != "POST" || r.refused[0].Host != "x" {
			t.Errorf("%d refusals were told, want 50 that say too_many_streams", len(r.refused))
		}
	})
}

// TestStreamsBehindGoAway checks that a client to which the GOAWAY has not come yet may go
// on: what it sends is ignored, counted for flow control, and spoils no exchange.
func TestStreamsBehindGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		r := newRig(t, h2.ServerOptions{}, func(ctx context.Context, c exchange.Client) {
			<-end
			hello(ctx, c)
		})
		r.begin(true)
		_ = r.open(1, true, r.request("GET"))
		synctest.Wait()
		r.s.Drain()
		time.Sleep(2 * time.Second) // it does not answer the PING: the second step was taken
		for id := uint32(3); id < 13; id += 2 {
			_ = r.open(id, false, r.request("POST"))
			_ = r.fr.WriteData(id, false, make([]byte, 16<<10))
			_ = r.fr.WriteWindowUpdate(id, 100)
			_ = r.fr.WritePriority(id, http2.PriorityParam{})
			_ = r.open(id, true, r.head("x", "y"))
			_ = r.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		synctest.Wait()
		close(end)
		synctest.Wait()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		for i, code := range r.codes {
			if code != http2.ErrCodeNo {
				t.Errorf("GOAWAY %v for %v", r.codes, r.last[i])
			}
		}
		if n := r.served.Load(); n != 1 || !r.closed || len(r.resets) > 0 || len(r.refused) > 0 {
			t.Errorf("%d exchanges, closed %v, resets %v, refused %v", n, r.closed, r.resets, r.refused)
		}
	})
}

// TestManySettings checks that one frame cannot make us go through all streams
// thousands of times.
func TestManySettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, h2.ServerOptions{}, hello)
		r.begin(true)
		var all []http2.Setting
		for i := range 2700 {
			all = append(all, http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
		}
		_ = r.fr.WriteSettings(all...)
		r.want(http2.ErrCodeEnhanceYourCalm, h2.ReasonControlFlood)
	})
}

// TestRefusedWithoutWindow checks that a refusal is a whole message also when there
// is no window for its text.
func TestRefusedWithoutWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, h2.ServerOptions{}, hello)
		_, _ = io.WriteString(r.nc, http2.ClientPreface)
		_ = r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		fr := http2.NewFramer(nil, r.nc)
		_ = r.open(1, true, r.head(":method", "GET", ":scheme", "http", ":authority", "a b", ":path", "/"))
		synctest.Wait()
		_ = r.fr.WritePing(false, [8]byte{})
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			h, ok := f.(*http2.HeadersFrame)
			if !ok {
				continue
			}
			fields := decode(t, h.HeaderBlockFragment())
			if h.StreamEnded() && fields["content-length"] != "0" {
				t.Errorf("the answer ends with its head, and has %v", fields)
			}
			return
		}
	})
}

func decode(t *testing.T, block []byte) map[string]string {
	t.Helper()
	list, err := hpack.NewDecoder(4096, nil).DecodeFull(block)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, f := range list {
		m[f.Name] = f.Value
	}
	return m
}
