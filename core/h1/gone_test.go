//go:build linux

package h1_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// reset is an exchange.Resetter that tells.
type reset chan exchange.Code

func (r reset) Reset(c exchange.Code) { r <- c }

// serveSocket serves one end of a TCP connection and returns the other.
func serveSocket(t *testing.T, o h1.ServerOptions, h exchange.Handler) *net.TCPConn {
	t.Helper()
	client, server := tcpPair(t)
	served := make(chan struct{})
	go func() { // ends with the connection, which the cleanup closes
		defer close(served)
		h1.NewServer(o, h).ServeConn(context.Background(), server, nil)
	}()
	t.Cleanup(func() {
		client.Close()
		server.Close()
		<-served
	})
	_ = client.SetDeadline(time.Now().Add(patience))
	return client.(*net.TCPConn)
}

// TestClientGone: a client that goes away while its answer is due cancels the
// context and resets the registered stream, however it goes.
func TestClientGone(t *testing.T) {
	w := newWatcher(t)
	for _, tt := range []struct {
		name  string
		send  string
		leave func(c *net.TCPConn) error
	}{
		{"FIN", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", (*net.TCPConn).CloseWrite},
		{"close", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", (*net.TCPConn).Close},
		{"reset", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() }},
		{"FIN behind a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", (*net.TCPConn).CloseWrite},
		{
			"reset with a pipelined request", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
			func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			started, result := make(chan struct{}), make(chan error, 1)
			c := serveSocket(t, h1.ServerOptions{Watcher: w}, func(ctx context.Context, c exchange.Client) {
				r := make(reset, 1)
				c.(exchange.GoneNotifier).ResetWhenGone(r)
				var rec exchangetest.Recorder[*exchange.Request]
				if err := c.Feed(&rec); err != nil {
					result <- err
					return
				}
				close(started)
				select {
				case <-r:
				case <-time.After(patience):
					result <- errors.New("the stream was not reset")
					return
				}
				<-ctx.Done()
				result <- context.Cause(ctx)
			})
			if _, err := io.WriteString(c, tt.send); err != nil {
				t.Fatal(err)
			}
			<-started
			if err := tt.leave(c); err != nil {
				t.Fatal(err)
			}
			if err := <-result; !errors.Is(err, exchange.ErrClientGone) {
				t.Errorf("got %v, want ErrClientGone", err)
			}
		})
	}
}

// TestGoneBeforeStart: the FIN may be noticed before the request is read.
func TestGoneBeforeStart(t *testing.T) {
	w := newWatcher(t)
	result := make(chan error, 1)
	c := serveSocket(t, h1.ServerOptions{Watcher: w}, func(ctx context.Context, c exchange.Client) {
		var rec exchangetest.Recorder[*exchange.Request]
		_ = c.Feed(&rec)
		select {
		case <-ctx.Done():
			result <- context.Cause(ctx)
		case <-time.After(patience):
			result <- errors.New("not cancelled")
		}
	})
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, exchange.ErrClientGone) {
		t.Errorf("got %v, want ErrClientGone", err)
	}
}

// TestPipelinedBeforeFIN: what came before a FIN is still answered.
func TestPipelinedBeforeFIN(t *testing.T) {
	w := newWatcher(t)
	c := serveSocket(t, h1.ServerOptions{Watcher: w}, func(ctx context.Context, c exchange.Client) {
		var rec exchangetest.Recorder[*exchange.Request]
		_ = c.Feed(&rec)
		time.Sleep(20 * time.Millisecond) // long enough for the FIN to be noticed
		req, _, _, _ := rec.Message()
		if err := answer(c, req.Target); err != nil {
			t.Error(err)
		}
	})
	const n = 3
	if _, err := io.WriteString(c, strings.Repeat("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", n)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if got := strings.Count(string(b), "HTTP/1.1 200 OK"); got != n || err != nil {
		t.Errorf("got %d answers, %v; want %d: %q", got, err, n, b)
	}
}

// TestHalfClosedTunnelIsNotGone: tunnels keep half-close, however early the 101
// came.
func TestHalfClosedTunnelIsNotGone(t *testing.T) {
	w := newWatcher(t)
	for name, start := range map[string]func(answer func()){
		"at some time":           func(answer func()) { go answer() }, // ends with the write
		"before the head is out": func(answer func()) { answer() },
	} {
		t.Run(name, func(t *testing.T) { testHalfClosedTunnel(t, w, start) })
	}
}

func testHalfClosedTunnel(t *testing.T, w *h1.Watcher, start func(answer func())) {
	c := serveSocket(t, h1.ServerOptions{Watcher: w}, func(ctx context.Context, c exchange.Client) {
		rec := exchangetest.Recorder[*exchange.Request]{OnHead: func(*exchange.Request, bool) error {
			start(func() { _ = c.Head(&exchange.Response{Status: 101, Upgrade: "x"}, false) })
			return nil
		}}
		if err := c.Feed(&rec); err != nil {
			t.Errorf("Feed: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // long enough for the FIN to be noticed
		if ctx.Err() != nil {
			t.Errorf("a half-closed tunnel was taken for a client gone")
		}
		if err := c.Data([]byte("bye"), true); err != nil {
			t.Errorf("Data: %v", err)
		}
	})
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
	br := bufio.NewReader(c)
	for {
		l, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if l == "\r\n" {
			break
		}
	}
	_ = c.CloseWrite()
	if b, err := io.ReadAll(br); string(b) != "bye" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestIdleUpstreamDies: a Watcher notices an upstream that closes an idle
// connection, and one that does so during an exchange is not idle afterwards.
func TestIdleUpstreamDies(t *testing.T) {
	w := newWatcher(t)
	client, upstream := tcpPair(t)
	defer upstream.Close()
	cc := h1.NewClientConn(client, &h1.ClientOptions{Watcher: w})
	defer cc.Close()
	if !cc.Idle() {
		t.Fatal("a new connection is not idle")
	}
	upstream.Close()
	for start := time.Now(); cc.Idle(); time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatal("still idle")
		}
	}
	if cc.Reserve() {
		t.Errorf("a dead connection has a slot")
	}
}

// usedConn returns a connection without a Watcher that has served an exchange,
// and the upstream's end of it.
func usedConn(t *testing.T) (*h1.ClientConn, *net.TCPConn) {
	t.Helper()
	client, upstream := tcpPair(t)
	cc := h1.NewClientConn(client, nil)
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
	if !cc.Idle() || !cc.Reused() {
		t.Fatalf("idle %v, reused %v", cc.Idle(), cc.Reused())
	}
	return cc, upstream.(*net.TCPConn)
}

// TestUnquietConnection: a connection that the upstream has closed, or has said
// something on that nobody asked for, has no slot.
func TestUnquietConnection(t *testing.T) {
	for _, tt := range []struct {
		name, behind string
		fin, usable  bool
	}{
		{"at rest", "", false, true},
		{"closed", "", true, false},
		{"an answer that nobody asked for", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", false, false},
		{"one byte", "\n", false, false},
		{"one byte and closed", "\n", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cc, upstream := usedConn(t)
			_, _ = io.WriteString(upstream, tt.behind)
			if tt.fin {
				_ = upstream.CloseWrite()
			}
			time.Sleep(10 * time.Millisecond) // over loopback it has arrived by then
			if got := cc.Reserve(); got != tt.usable {
				t.Errorf("got a slot: %v", got)
			}
			if cc.Idle() {
				t.Errorf("still idle")
			}
			if !tt.usable {
				_ = upstream.SetReadDeadline(time.Now().Add(patience))
				if n, err := upstream.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("it was not closed: %v", err)
				}
			}
		})
	}
}

// TestStaleConnection: an upstream that closes after the slot was taken.
func TestStaleConnection(t *testing.T) {
	cc, upstream := usedConn(t)
	if !cc.Reserve() {
		t.Fatal("no slot")
	}
	_ = upstream.CloseWrite()
	err := roundTrip(cc)
	var e *exchange.Error
	if !errors.As(err, &e) || e.Retry != exchange.RetryIfReused || e.Status != 502 {
		t.Errorf("got %v, want retry if reused", err)
	}
	if cc.Idle() {
		t.Errorf("still idle")
	}
}

// roundTrip makes an exchange in the slot that the caller has reserved.
func roundTrip(cc *h1.ClientConn) error {
	s, err := cc.Open(context.Background())
	if err != nil {
		return err
	}
	defer s.(exchange.Releaser).Release()
	req := &exchange.Request{Method: "GET", Authority: "a"}
	req.SetTarget("/", 1)
	if err := s.Head(req, true); err != nil {
		return err
	}
	return s.Feed(new(exchangetest.Recorder[*exchange.Response]))
}

// TestUpgradeThenGone: a client that asks for an upgrade and leaves before the
// answer does not hold its exchange.
func TestUpgradeThenGone(t *testing.T) {
	w := newWatcher(t)
	for _, tt := range []struct {
		name  string
		leave func(c *net.TCPConn) error
	}{
		{"FIN", (*net.TCPConn).CloseWrite},
		{"close", (*net.TCPConn).Close},
		{"reset", func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			flushed, result := make(chan struct{}), make(chan error, 1)
			c := serveSocket(t, h1.ServerOptions{Watcher: w}, func(_ context.Context, c exchange.Client) {
				rec := exchangetest.Recorder[*exchange.Request]{OnData: func([]byte, bool) error { close(flushed); return nil }}
				result <- c.Feed(&rec)
			})
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			<-flushed
			if err := tt.leave(c); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-result:
				var e *exchange.Error
				if !errors.As(err, &e) || e.Side != exchange.ClientSide || !errors.Is(err, exchange.ErrClientGone) {
					t.Errorf("got %v, want the client to be gone", err)
				}
			case <-time.After(patience):
				t.Error("Feed still waits for the answer")
			}
		})
	}
}
