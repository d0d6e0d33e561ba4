package h1_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// A call is one exchange of a ClientConn with a raw upstream in a bubble.
type call struct {
	t  *testing.T
	up net.Conn // the upstream's end
	cc *h1.ClientConn
	s  exchange.Upstream
}

func startCall(t *testing.T, o *h1.ClientOptions) *call {
	t.Helper()
	near, far := exchangetest.Pipe()
	k := &call{t: t, up: far, cc: h1.NewClientConn(near, o)}
	t.Cleanup(func() {
		k.cc.Close()
		far.Close()
	})
	k.open()
	return k
}

func (k *call) open() {
	k.t.Helper()
	if !k.cc.Reserve() {
		k.t.Fatal("no slot")
	}
	if k.cc.Reserve() {
		k.t.Fatal("two slots")
	}
	s, err := k.cc.Open(context.Background())
	if err != nil {
		k.t.Fatal(err)
	}
	k.s = s
	k.t.Cleanup(s.(exchange.Releaser).Release)
}

func newRequest(method, target string, length int64, fields ...string) *exchange.Request {
	r := &exchange.Request{Method: method, Authority: "a", Length: length}
	path, _, _ := strings.Cut(target, "?")
	r.SetTarget(target, len(path))
	for i := 0; i < len(fields); i += 2 {
		r.Fields.Add(fields[i], fields[i+1])
	}
	return r
}

// wantError checks the facts of an error.
func wantError(t *testing.T, err error, status int, reason string, retry exchange.Retry) {
	t.Helper()
	var e *exchange.Error
	if !errors.As(err, &e) || e.Status != status || e.Reason != reason || e.Retry != retry || e.Side != exchange.UpstreamSide {
		t.Errorf("got %v (%+v), want status %d, reason %s, retry %d", err, e, status, reason, retry)
	}
}

// TestRequests: what a request looks like on the wire.
func TestRequests(t *testing.T) {
	var sum exchange.Fields
	sum.Add("x-sum", "1")
	unknown := int64(exchange.LengthUnknown)
	upgrade := newRequest("GET", "/", 0, "te", "trailers")
	upgrade.Upgrade = "websocket"
	type message = exchangetest.Message[*exchange.Request]
	for _, tt := range []struct {
		name string
		m    message
		want string
	}{
		{"GET", message{Head: newRequest("GET", "/x?y", 0, "x-a", "b")}, "GET /x?y HTTP/1.1\r\nhost: a\r\nx-a: b\r\n\r\n"},
		{"POST without body", message{Head: newRequest("POST", "/", 0)}, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
		{
			"length",
			message{Head: newRequest("POST", "/", 2, "content-length", "77", "transfer-encoding", "x"), Data: []string{"hi"}},
			"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
		},
		{
			"unknown length",
			message{Head: newRequest("GET", "/", unknown, "content-length", "2"), Data: []string{"hi"}},
			"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		},
		{
			"trailer",
			message{Head: newRequest("POST", "/", unknown), Data: []string{"hi"}, Trailer: &sum},
			"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n",
		},
		{
			"te",
			message{Head: newRequest("GET", "/", 0, "te", "trailers")},
			"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n",
		},
		{
			"hop by hop",
			message{Head: newRequest("GET", "/", 0, "host", "b", "connection", "x", "keep-alive", "1", "upgrade", "h2c", "http2-settings", "x")},
			"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
		},
		{
			"upgrade",
			message{Head: upgrade, Data: []string{"", ""}},
			"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: upgrade, te\r\nupgrade: websocket\r\n\r\n",
		},
	} {
		bubble(t, tt.name, func(t *testing.T) {
			k := startCall(t, nil)
			if err := tt.m.Push(k.s); err != nil {
				t.Fatal(err)
			}
			k.cc.Close()
			if b, _ := io.ReadAll(k.up); string(b) != tt.want {
				t.Errorf("got %q\nwant %q", b, tt.want)
			}
		})
	}
}

func TestRequestLineBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, r := range []*exchange.Request{
			newRequest("GET", "/", 0, "x", "a\r\nhost: b"), newRequest("GET", "/ HTTP/1.1\r\nhost: b\r\n\r\n", 0),
			newRequest("GET / HTTP/1.1\r\nhost: b\r\n", "/", 0),
			{Method: "GET", Authority: "a\nb", Target: "/"},
		} {
			k := startCall(t, nil)
			var e *exchange.Error
			if err := k.s.Head(r, true); !errors.As(err, &e) || e.Reason != h1.ReasonBadField {
				t.Errorf("%+v: got %v", r, err)
			}
			k.s.Reset(exchange.CodeInternal)
			if b, _ := io.ReadAll(k.up); len(b) > 0 {
				t.Errorf("%+v: %q went out", r, b)
			}
		}
	})
}

func TestClientTimes(t *testing.T) {
	bubble(t, "silence before the answer", func(t *testing.T) {
		k := startCall(t, nil)
		start := time.Now()
		if err := k.s.Head(newRequest("GET", "/", 0), true); err != nil {
			t.Fatal(err)
		}
		err := k.s.Feed(new(exchangetest.Recorder[*exchange.Response]))
		wantError(t, err, 504, h1.ReasonReadTimeout, exchange.RetryNever)
		if d := time.Since(start); d != h1.DefaultReadTimeout {
			t.Errorf("after %v", d)
		}
		if k.cc.Idle() {
			t.Errorf("still idle")
		}
	})
	bubble(t, "silence within the answer", func(t *testing.T) {
		k := startCall(t, nil)
		_ = k.s.Head(newRequest("GET", "/", 0), true)
		go func() { // ends with the writes
			_, _ = io.WriteString(k.up, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
			for range 3 {
				time.Sleep(29 * time.Second)
				_, _ = io.WriteString(k.up, "x")
			}
		}()
		start := time.Now()
		err := k.s.Feed(new(exchangetest.Recorder[*exchange.Response]))
		wantError(t, err, 504, h1.ReasonReadTimeout, exchange.RetryNever)
		if d, want := time.Since(start), 3*29*time.Second+h1.DefaultReadTimeout; d != want {
			t.Errorf("after %v, want %v", d, want)
		}
	})
	bubble(t, "a slow upload is not the upstream's silence", func(t *testing.T) {
		k := startCall(t, nil)
		_ = k.s.Head(newRequest("POST", "/", 3), false)
		fed := make(chan error, 1)
		start := time.Now()
		go func() { fed <- k.s.Feed(new(exchangetest.Recorder[*exchange.Response])) }() // ends by its timeout
		for i := range 3 {
			time.Sleep(time.Minute)
			if err := k.s.Data([]byte("x"), i == 2); err != nil {
				t.Fatal(err)
			}
		}
		wantError(t, <-fed, 504, h1.ReasonReadTimeout, exchange.RetryNever)
		if d, want := time.Since(start), 3*time.Minute+h1.DefaultReadTimeout; d != want {
			t.Errorf("after %v, want %v", d, want)
		}
	})
	bubble(t, "upstream does not read", func(t *testing.T) {
		k := startCall(t, &h1.ClientOptions{WriteTimeout: time.Second})
		_ = k.s.Head(newRequest("POST", "/", 1<<20), false)
		err := k.s.Data(make([]byte, 1<<20), true)
		wantError(t, err, 504, h1.ReasonWriteTimeout, exchange.RetryNever)
	})
	bubble(t, "deadline within the body", func(t *testing.T) {
		k := startCall(t, nil)
		k.s.(exchange.Deadliner).SetDeadline(time.Now().Add(5 * time.Second))
		_ = k.s.Head(newRequest("GET", "/", 0), true)
		_, _ = io.WriteString(k.up, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")
		start := time.Now()
		err := k.s.Feed(new(exchangetest.Recorder[*exchange.Response]))
		wantError(t, err, 504, h1.ReasonDeadline, exchange.RetryNever)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// TestAnotherProtocol: bytes that no status line begins with are judged as soon as
// they come, and not by what follows or ends them.
func TestAnotherProtocol(t *testing.T) {
	for _, tt := range []struct{ name, raw, reason string }{
		{"TLS alert", "\x15\x03\x03\x00\x02\x02\x50", h1.ReasonBadStatusLine},
		{"HTTP/2 settings", "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", h1.ReasonBadStatusLine},
		{"HTTP/0.9", "<html>\n<p>hello\n", h1.ReasonBadStatusLine},
		{"empty line", "\r\nHTTP/1.1 200 OK\r\n\r\n", h1.ReasonBadStatusLine},
		{"one byte", "S", h1.ReasonBadStatusLine},
		{"lower case", "http/1.1 200", h1.ReasonBadStatusLine},
		{"cut within the name", "HTT", h1.ReasonTruncated},
		{"cut behind the name", "HTTP/", h1.ReasonTruncated},
		{"LF alone", "HTTP/1.1 200 OK\n\n", h1.ReasonBareLF},
	} {
		bubble(t, tt.name, func(t *testing.T) {
			k := startCall(t, nil)
			_ = k.s.Head(newRequest("GET", "/", 0), true)
			_, _ = io.WriteString(k.up, tt.raw)
			if tt.reason == h1.ReasonTruncated {
				_ = k.up.(interface{ CloseWrite() error }).CloseWrite()
			}
			start := time.Now()
			err := k.s.Feed(new(exchangetest.Recorder[*exchange.Response]))
			wantError(t, err, 502, tt.reason, exchange.RetryNever)
			if d := time.Since(start); d != 0 {
				t.Errorf("after %v", d)
			}
		})
	}
}

// TestEarlyAnswerWins: an upstream that answers and closes without reading the
// body: the answer arrives, and Data says so.
func TestEarlyAnswerWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startCall(t, nil)
		_ = k.s.Head(newRequest("POST", "/", 1<<20), false)
		_ = k.s.Data(nil, false)
		_, _ = io.WriteString(k.up, "HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig")
		blocked := make(chan error, 1)
		go func() { blocked <- k.s.Data(make([]byte, 1<<20), true) }() // ends when Feed has closed the connection
		var r exchangetest.Recorder[*exchange.Response]
		if err := k.s.Feed(&r); err != nil {
			t.Fatal(err)
		}
		if err := <-blocked; !errors.Is(err, exchange.ErrAnswered) {
			t.Errorf("Data: got %v, want ErrAnswered", err)
		}
		if res, body, _, _ := r.Message(); res.Status != 413 || body != "big" {
			t.Errorf("got %d %q", res.Status, body)
		}
		if k.cc.Idle() {
			t.Errorf("still idle")
		}
	})
}

// TestLateReset: once an exchange is over, resetting its stream does not touch
// the next one on the connection.
func TestLateReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startCall(t, nil)
		answer := func() {
			t.Helper()
			_ = k.s.Head(newRequest("GET", "/", 0), true)
			_, _ = io.WriteString(k.up, "HTTP/1.1 204 No Content\r\n\r\n")
			if err := k.s.Feed(new(exchangetest.Recorder[*exchange.Response])); err != nil {
				t.Fatal(err)
			}
		}
		answer()
		old := k.s
		k.open()
		old.Reset(exchange.CodeCancel)
		if err := old.Data([]byte("x"), true); err == nil {
			t.Errorf("Data on a stream that is over")
		}
		answer()
		if !k.cc.Idle() || !k.cc.Reused() {
			t.Errorf("idle %v, reused %v", k.cc.Idle(), k.cc.Reused())
		}
	})
}

// TestConnClose: Close is idempotent, fails the stream and ends Idle.
func TestConnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startCall(t, nil)
		_ = k.s.Head(newRequest("GET", "/", 0), true)
		fed := make(chan error, 1)
		go func() { fed <- k.s.Feed(new(exchangetest.Recorder[*exchange.Response])) }() // ends with Close
		synctest.Wait()
		for range 2 {
			if err := k.cc.Close(); err != nil {
				t.Error(err)
			}
		}
		var e *exchange.Error
		if err := <-fed; !errors.As(err, &e) {
			t.Errorf("Feed: got %v", err)
		}
		if k.cc.Idle() || k.cc.Reserve() {
			t.Errorf("a closed connection has a slot")
		}
	})
}
