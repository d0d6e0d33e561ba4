//go:build linux

package h1_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// turnConn is usedConn with a Watcher: the next request that ends with its head is
// sent by Feed, which does not try to read before it waits.
func turnConn(t *testing.T, o h1.ClientOptions) (*h1.ClientConn, *net.TCPConn) {
	t.Helper()
	o.Watcher = newWatcher(t)
	client, upstream := tcpPair(t)
	cc := h1.NewClientConn(client, &o)
	t.Cleanup(func() {
		cc.Close()
		upstream.Close()
	})
	go func() { // ends with the write
		_, _ = upstream.Read(make([]byte, 1000))
		_, _ = io.WriteString(upstream, "HTTP/1.1 204 No Content\r\n\r\n")
	}()
	if !cc.Reserve() {
		t.Fatal("no slot")
	}
	if err := roundTrip(cc); err != nil {
		t.Fatal(err)
	}
	if !cc.Reserve() {
		t.Fatal("no slot for the second exchange")
	}
	return cc, upstream.(*net.TCPConn)
}

// TestTurn: what an upstream may do with a request that Feed sends.
func TestTurn(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
	readHead := func(c net.Conn) int {
		got := 0 // bytes
		buf := make([]byte, 256<<10)
		for {
			n, err := c.Read(buf)
			if got += n; err != nil || bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
				return got
			}
		}
	}
	abort := func(c *net.TCPConn) {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	for _, tt := range []struct {
		name     string
		field    int // bytes of a field of the request
		upstream func(c *net.TCPConn)
		before   bool // upstream acts before the request is sent
		status   int  // of the answer; 0: an error
		reason   string
		retry    exchange.Retry
		idle     bool // the connection can be used again
	}{
		{name: "answers", upstream: func(c *net.TCPConn) { readHead(c); _, _ = io.WriteString(c, ok) }, status: 200, idle: true},
		{name: "answers byte by byte", upstream: func(c *net.TCPConn) {
			readHead(c)
			for _, b := range []byte(ok) {
				_, _ = c.Write([]byte{b})
			}
		}, status: 200, idle: true},
		{name: "takes a long head in pieces", field: 16 << 20, upstream: func(c *net.TCPConn) {
			time.Sleep(20 * time.Millisecond) // the sender meets a full buffer
			if readHead(c) > 16<<20 {
				_, _ = io.WriteString(c, ok)
			}
		}, status: 200, idle: true},
		{name: "answers a long head early and closes", field: 16 << 20, upstream: func(c *net.TCPConn) {
			_, _ = io.WriteString(c, ok)
			_ = c.CloseWrite()
			readHead(c)
		}, status: 200},
		{
			name: "closes on it", upstream: func(c *net.TCPConn) { readHead(c); _ = c.Close() },
			reason: h1.ReasonClosed, retry: exchange.RetryIfReused,
		},
		{
			name: "resets on it", upstream: func(c *net.TCPConn) { readHead(c); abort(c) },
			reason: h1.ReasonClosed, retry: exchange.RetryIfReused,
		},
		{
			name: "half-closed before it", before: true, upstream: func(c *net.TCPConn) { _ = c.CloseWrite() },
			reason: h1.ReasonClosed, retry: exchange.RetryIfReused,
		},
		{
			name: "closed before it", before: true, upstream: func(c *net.TCPConn) { _ = c.Close() },
			reason: h1.ReasonClosed, retry: exchange.RetryIfReused,
		},
		{name: "says nothing", upstream: func(c *net.TCPConn) { readHead(c) }, reason: h1.ReasonReadTimeout},
		{name: "takes nothing of a long head", field: 16 << 20, upstream: func(*net.TCPConn) {}, reason: h1.ReasonWriteTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cc, upstream := turnConn(t, h1.ClientOptions{ReadTimeout: time.Second, WriteTimeout: time.Second})
			s, err := cc.Open(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			req := &exchange.Request{Method: "GET", Authority: "a"}
			req.SetTarget("/", 1)
			req.Fields.Add("x", strings.Repeat("x", tt.field))
			done := make(chan struct{})
			act := func() { defer close(done); tt.upstream(upstream) }
			if tt.before {
				act()
			}
			if err := s.Head(req, true); err != nil {
				t.Fatal(err)
			}
			if !tt.before {
				go act() // ends with the connection
			}
			rec := new(exchangetest.Recorder[*exchange.Response])
			err = s.Feed(rec)
			status := 0
			if h, _, _, _ := rec.Message(); h != nil {
				status = h.Status
			}
			var e *exchange.Error
			switch {
			case tt.status != 0 && (err != nil || status != tt.status):
				t.Errorf("got %v, want an answer", err)
			case tt.status == 0 && (!errors.As(err, &e) || e.Reason != tt.reason || e.Retry != tt.retry):
				t.Errorf("got %v, want %s", err, tt.reason)
			}
			s.(exchange.Releaser).Release()
			for begun := time.Now(); cc.Idle() != tt.idle; time.Sleep(time.Millisecond) { // a FIN may be on its way
				if time.Since(begun) > patience {
					t.Fatalf("idle: got %v, want %v", cc.Idle(), tt.idle)
				}
			}
			cc.Close()
			<-done
		})
	}
}

// TestTurnReset: whoever resets a stream whose request is on its way frees Feed.
func TestTurnReset(t *testing.T) {
	cc, upstream := turnConn(t, h1.ClientOptions{})
	s, err := cc.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	req := &exchange.Request{Method: "GET", Authority: "a"}
	req.SetTarget("/", 1)
	if err := s.Head(req, true); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the reset
		_, _ = upstream.Read(make([]byte, 1000)) // the request is there: Feed waits
		s.Reset(exchange.CodeCancel)
	}()
	err = s.Feed(new(exchangetest.Recorder[*exchange.Response]))
	if !errors.Is(err, exchange.ErrReset) {
		t.Errorf("got %v, want reset", err)
	}
	s.(exchange.Releaser).Release()
}

// TestTurnRace: a FIN that comes in the moment between the look at the connection and
// the request is noticed, at whatever time it comes.
func TestTurnRace(t *testing.T) {
	for i := range 100 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			cc, upstream := turnConn(t, h1.ClientOptions{ReadTimeout: patience})
			go func() { _ = upstream.CloseWrite() }() // it ends by itself
			begun := time.Now()
			err := roundTrip(cc)
			var e *exchange.Error
			if !errors.As(err, &e) || e.Retry != exchange.RetryIfReused || time.Since(begun) > patience/2 {
				t.Errorf("got %v after %v, want retry if reused", err, time.Since(begun))
			}
		})
	}
}
