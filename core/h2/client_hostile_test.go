package h2_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h2"
)

// An origin is a server that says what a test wants it to. It shares no code with the
// package but the Framer.
type origin struct {
	t    *testing.T
	nc   net.Conn
	fr   *http2.Framer
	buf  bytes.Buffer
	enc  *hpack.Encoder
	done chan struct{}
	got  map[http2.FrameType]int // frames that came while something else was awaited
	rst  map[uint32]http2.ErrCode
	away *http2.ErrCode
}

// scripted starts an origin that runs f, in a bubble, and returns a connection to it.
func scripted(t *testing.T, o *h2.ClientOptions, settings []http2.Setting, f func(o *origin)) (*h2.ClientConn, *origin) {
	t.Helper()
	client, server := exchangetest.Pipe()
	s := &origin{
		t: t, nc: server, fr: http2.NewFramer(server, server), done: make(chan struct{}),
		got: map[http2.FrameType]int{}, rst: map[uint32]http2.ErrCode{},
	}
	s.enc = hpack.NewEncoder(&s.buf)
	s.fr.AllowIllegalWrites = true
	go func() { // ends with the script
		defer close(s.done)
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(server, preface); err != nil || string(preface) != http2.ClientPreface {
			t.Errorf("preface: %q, %v", preface, err)
		}
		_ = s.fr.WriteSettings(settings...)
		f(s)
	}()
	c := h2.NewClientConn(client, o)
	t.Cleanup(func() {
		_ = c.Close()
		_ = server.Close()
		<-s.done
		synctest.Wait()
	})
	return c, s
}

// await reads frames until one of this type, whose header it returns; false: the
// connection has ended.
func (o *origin) await(want http2.FrameType) (http2.FrameHeader, bool) {
	for {
		f, err := o.fr.ReadFrame()
		if err != nil {
			return http2.FrameHeader{}, false
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			o.rst[f.StreamID] = f.ErrCode
		case *http2.GoAwayFrame:
			code := f.ErrCode
			o.away = &code
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = o.fr.WriteSettingsAck()
			}
		}
		h := f.Header()
		if h.Type == want {
			return h, true
		}
		o.got[h.Type]++
	}
}

// drain reads until the connection ends.
func (o *origin) drain() {
	for {
		if _, ok := o.await(0xff); !ok {
			return
		}
	}
}

// head sends a field section; fields are names and values in turn.
func (o *origin) head(id uint32, end bool, fields ...string) {
	o.buf.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		_ = o.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: o.buf.Bytes(), EndStream: end, EndHeaders: true})
}

// okay answers a stream.
func (o *origin) okay(id uint32) { o.head(id, true, ":status", "200") }

// TestClientBadAnswers: what an origin says wrong on a stream costs that stream, and
// another exchange of the same connection goes well.
func TestClientBadAnswers(t *testing.T) {
	t.Parallel()
	data := func(o *origin, id uint32, end bool, text string) { _ = o.fr.WriteData(id, end, []byte(text)) }
	many := []string{":status", "200"}
	for i := range 300 {
		many = append(many, "x-"+strconv.Itoa(i), "v")
	}
	tests := []struct {
		name   string
		method string
		answer func(o *origin, id uint32)
		reason string
		retry  exchange.Retry
	}{
		{"no status", "GET", func(o *origin, id uint32) { o.head(id, true, "a", "b") }, h2.ReasonPseudo, 0},
		{"empty head", "GET", func(o *origin, id uint32) { o.head(id, true) }, h2.ReasonPseudo, 0},
		{"two statuses", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "200", ":status", "200") }, h2.ReasonPseudo, 0},
		{"status behind a field", "GET", func(o *origin, id uint32) { o.head(id, true, "a", "b", ":status", "200") }, h2.ReasonPseudo, 0},
		{"request's pseudo-field", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "200", ":path", "/") }, h2.ReasonPseudo, 0},
		{"status of two digits", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "20") }, h2.ReasonPseudo, 0},
		{"status of letters", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "2x0") }, h2.ReasonPseudo, 0},
		{"status 600", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "600") }, h2.ReasonPseudo, 0},
		{"status 101", "GET", func(o *origin, id uint32) { o.head(id, false, ":status", "101") }, h2.ReasonPseudo, 0},
		{"upper case", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "200", "A", "b") }, h2.ReasonBadField, 0},
		{"line break", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "200", "a", "b\r\nc: d") }, h2.ReasonBadValue, 0},
		{"connection", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "200", "connection", "close") }, h2.ReasonConnSpecific, 0},
		{"transfer-encoding", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "200", "transfer-encoding", "chunked") }, h2.ReasonConnSpecific, 0},
		{"too many fields", "GET", func(o *origin, id uint32) { o.head(id, true, many...) }, h2.ReasonTooManyFields, 0},
		{"too large", "GET", func(o *origin, id uint32) {
			o.head(id, true, ":status", "200", "a", strings.Repeat("a", 10_000), "b", strings.Repeat("a", 10_000))
		}, h2.ReasonHeadTooLarge, 0},
		{"lengths", "GET", func(o *origin, id uint32) {
			o.head(id, false, ":status", "200", "content-length", "1", "content-length", "1")
		}, h2.ReasonManyLengths, 0},
		{"length of letters", "GET", func(o *origin, id uint32) { o.head(id, false, ":status", "200", "content-length", "0x1") }, h2.ReasonBadLength, 0},
		{"length and no body", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "200", "content-length", "1") }, h2.ReasonWrongLength, 0},
		{"body too short", "GET", func(o *origin, id uint32) {
			o.head(id, false, ":status", "200", "content-length", "5")
			data(o, id, true, "four")
		}, h2.ReasonWrongLength, 0},
		{"body too long", "GET", func(o *origin, id uint32) {
			o.head(id, false, ":status", "200", "content-length", "3")
			data(o, id, false, "four")
		}, h2.ReasonWrongLength, 0},
		{"body of HEAD", "HEAD", func(o *origin, id uint32) {
			o.head(id, false, ":status", "200", "content-length", "4")
			data(o, id, true, "four")
		}, h2.ReasonWrongLength, 0},
		{"body of 204", "GET", func(o *origin, id uint32) {
			o.head(id, false, ":status", "204")
			data(o, id, true, "x")
		}, h2.ReasonWrongLength, 0},
		{"body before head", "GET", func(o *origin, id uint32) {
			data(o, id, false, "x")
			o.okay(id)
		}, h2.ReasonProtocol, 0},
		{"body and no head", "GET", func(o *origin, id uint32) { data(o, id, true, "x") }, h2.ReasonProtocol, 0},
		{"1xx at the end", "GET", func(o *origin, id uint32) { o.head(id, true, ":status", "103") }, h2.ReasonProtocol, 0},
		{"1xx without end", "GET", func(o *origin, id uint32) {
			for range 40 {
				o.head(id, false, ":status", "103")
			}
		}, h2.ReasonInterim, 0},
		{"100 without end", "GET", func(o *origin, id uint32) {
			for range 40 {
				o.head(id, false, ":status", "100")
			}
		}, h2.ReasonInterim, 0},
		{"trailers without end", "GET", func(o *origin, id uint32) {
			o.head(id, false, ":status", "200")
			o.head(id, false, "a", "b")
		}, h2.ReasonBadTrailer, 0},
		{"status in trailers", "GET", func(o *origin, id uint32) {
			o.head(id, false, ":status", "200")
			o.head(id, true, ":status", "200")
		}, h2.ReasonBadTrailer, 0},
		{"reset", "GET", func(o *origin, id uint32) { _ = o.fr.WriteRSTStream(id, http2.ErrCodeCancel) }, h2.ReasonReset, exchange.RetryNever},
		{"reset without error", "GET", func(o *origin, id uint32) { _ = o.fr.WriteRSTStream(id, http2.ErrCodeNo) }, h2.ReasonReset, exchange.RetryNever},
		{"refused", "GET", func(o *origin, id uint32) { _ = o.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) }, h2.ReasonRefused, exchange.RetryAlways},
		{"refused behind a head", "GET", func(o *origin, id uint32) {
			o.head(id, false, ":status", "200")
			_ = o.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		}, h2.ReasonTruncated, exchange.RetryNever},
		{"flow control", "GET", func(o *origin, id uint32) {
			o.head(id, false, ":status", "200")
			for range 5 {
				data(o, id, false, strings.Repeat("x", 16<<10))
			}
		}, h2.ReasonFlowControl, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, o := scripted(t, &h2.ClientOptions{MaxHead: 20_000}, nil, func(o *origin) {
					if h, ok := o.await(http2.FrameHeaders); ok {
						tt.answer(o, h.StreamID)
					}
					if h, ok := o.await(http2.FrameHeaders); ok {
						o.okay(h.StreamID)
					}
					o.drain()
				})
				s := open(t, c)
				if err := s.Head(newRequest(tt.method, "/", 0), true); err != nil {
					t.Fatal(err)
				}
				if tt.name == "flow control" {
					synctest.Wait() // nobody takes what comes
				}
				var r response
				err := s.Feed(&r)
				wantError(t, err, 502, tt.reason, tt.retry)
				if _, _, _, ended := r.Message(); ended {
					t.Error("a bad answer looks complete")
				}
				release(s)
				if _, err := do(t, c, message{Head: newRequest("GET", "/", 0)}); err != nil {
					t.Errorf("the next exchange of the connection: %v", err)
				}
				_ = c.Close()
				<-o.done
				if tt.method == "GET" && !strings.HasPrefix(tt.name, "re") && tt.name != "body and no head" && tt.name != "body before head" && o.rst[1] == http2.ErrCodeNo {
					t.Errorf("the stream was not reset: %v", o.rst)
				}
			})
		})
	}
}

// TestClientAbuse: what an origin does to its connection costs the connection.
func TestClientAbuse(t *testing.T) {
	t.Parallel()
	floods := func(n int, f func(o *origin, i int) error) func(o *origin, id uint32) {
		return func(o *origin, _ uint32) {
			go o.drain()
			for i := range n {
				if f(o, i) != nil {
					return
				}
			}
		}
	}
	tests := []struct {
		name   string
		answer func(o *origin, id uint32)
		reason string
	}{
		{"PING flood", floods(100_000, func(o *origin, i int) error { return o.fr.WritePing(false, [8]byte{byte(i)}) }), h2.ReasonControlFlood},
		{"SETTINGS flood", floods(100_000, func(o *origin, _ int) error { return o.fr.WriteSettings() }), h2.ReasonControlFlood},
		{"GOAWAY flood", floods(100_000, func(o *origin, _ int) error { return o.fr.WriteGoAway(1<<31-1, 0, nil) }), h2.ReasonControlFlood},
		{"WINDOW_UPDATE flood", floods(100_000, func(o *origin, _ int) error { return o.fr.WriteWindowUpdate(0, 1) }), h2.ReasonWindowFlood},
		{"PRIORITY flood", floods(100_000, func(o *origin, _ int) error {
			return o.fr.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		}), h2.ReasonPriorityFlood},
		{"unknown frames", floods(100_000, func(o *origin, _ int) error { return o.fr.WriteRawFrame(0x77, 0, 0, nil) }), h2.ReasonUnknownFlood},
		{"empty DATA", func(o *origin, id uint32) {
			o.head(id, false, ":status", "200")
			floods(100_000, func(o *origin, _ int) error { return o.fr.WriteData(id, false, nil) })(o, id)
		}, h2.ReasonEmptyData},
		{"CONTINUATION flood", func(o *origin, id uint32) {
			_ = o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true})
			floods(100_000, func(o *origin, _ int) error { return o.fr.WriteContinuation(id, false, []byte{0x82}) })(o, id)
		}, h2.ReasonContinuation},
		{"field block without end", func(o *origin, id uint32) {
			_ = o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true})
			junk := bytes.Repeat([]byte{0x40, 0x01, 'a', 0x01, 'b'}, 3000)
			floods(100_000, func(o *origin, _ int) error { return o.fr.WriteContinuation(id, false, junk) })(o, id)
		}, h2.ReasonHeadTooLarge},
		{"PUSH_PROMISE", func(o *origin, id uint32) {
			_ = o.fr.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, EndHeaders: true})
			o.drain()
		}, h2.ReasonProtocol},
		{"ENABLE_PUSH", func(o *origin, _ uint32) {
			_ = o.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1})
			o.drain()
		}, h2.ReasonProtocol},
		{"head of a stream that nobody opened", func(o *origin, _ uint32) { o.okay(99); o.drain() }, h2.ReasonProtocol},
		{"head of a stream of its own", func(o *origin, _ uint32) { o.okay(2); o.drain() }, h2.ReasonProtocol},
		{"window beyond the limit", func(o *origin, _ uint32) { _ = o.fr.WriteWindowUpdate(0, 1<<31-1); o.drain() }, h2.ReasonFlowControl},
		{"bad compression", func(o *origin, id uint32) {
			_ = o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
			o.drain()
		}, h2.ReasonCompression},
		{"HTTP/1.1", func(o *origin, _ uint32) {
			_, _ = io.WriteString(o.nc, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
			o.drain()
		}, h2.ReasonFrameSize},
		{"a frame without end", func(o *origin, id uint32) {
			_, _ = o.nc.Write([]byte{0, 0, 9, 1, 4, 0, 0, 0, byte(id), 0x88}) //nolint:gosec // 1
			o.drain()
		}, h2.ReasonHeadTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, o := scripted(t, nil, nil, func(o *origin) {
					if h, ok := o.await(http2.FrameHeaders); ok {
						tt.answer(o, h.StreamID)
					}
				})
				_, err := do(t, c, message{Head: newRequest("GET", "/", 0)})
				var e *exchange.Error
				if !errors.As(err, &e) || e.Reason != tt.reason || e.Status != 502 || e.Side != exchange.UpstreamSide || e.Retry != exchange.RetryNever {
					t.Errorf("got %v, want 502 %s", err, tt.reason)
				}
				if c.Reserve() || c.Idle() || c.Usable() {
					t.Error("the connection goes on")
				}
				<-o.done
			})
		})
	}
}

// TestClientMadeYouReset: an origin that makes us reset streams again and again loses its
// connection.
func TestClientMadeYouReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, nil, nil, func(o *origin) {
			for {
				h, ok := o.await(http2.FrameHeaders)
				if !ok {
					return
				}
				o.head(h.StreamID, true, "A", "b")
			}
		})
		n := 0
		for ; c.Usable() && n < 10_000; n++ {
			_, err := do(t, c, message{Head: newRequest("GET", "/", 0)})
			if err == nil {
				t.Fatal("a bad answer was taken")
			}
		}
		if n < 100 || n > 1000 {
			t.Errorf("the connection was given up after %d bad answers", n)
		}
	})
}

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
