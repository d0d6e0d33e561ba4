package h1_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/core/certs/certstest"
	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
	"wproxy/core/internal/tlsconn"
)

// tlsConfigs returns settings for both sides.
func tlsConfigs(tb testing.TB) (client, server *tls.Config) {
	tb.Helper()
	ca := certstest.New(tb, "test")
	pair := ca.Server("a.example")
	return &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"}, &tls.Config{Certificates: []tls.Certificate{pair.TLS}}
}

// secure puts TLS on both ends of a connection, and does the handshake.
func secure(tb testing.TB, client, server net.Conn, cc, sc *tls.Config) (*tls.Conn, *tlsconn.Conn) {
	tb.Helper()
	s := tlsconn.Server(server, sc)
	c := tls.Client(client, cc)
	done := make(chan error, 1)
	go func() { done <- s.Handshake(context.Background()) }() // ends with the handshake
	if err := c.Handshake(); err != nil {
		tb.Fatal(err)
	}
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
	return c, s
}

// TestConformanceTLS: an exchange under TLS is like any other.
func TestConformanceTLS(t *testing.T) {
	w := newWatcher(t)
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		cc, sc := tlsConfigs(t)
		sc.MaxVersion = version
		connect := func(pair func(*testing.T) (net.Conn, net.Conn)) func(t *testing.T) (net.Conn, net.Conn) {
			return func(t *testing.T) (net.Conn, net.Conn) {
				client, server := pair(t)
				return secure(t, client, server, cc, sc)
			}
		}
		t.Run(name, func(t *testing.T) {
			exchangetest.Run(t, exchangetest.Options{New: func(t *testing.T, h exchange.Handler) exchangetest.Pair {
				return newPair(t, h, w, connect(socketPair))
			}})
		})
		t.Run(name+" in memory", func(t *testing.T) {
			exchangetest.Run(t, exchangetest.Options{New: func(t *testing.T, h exchange.Handler) exchangetest.Pair {
				return newPair(t, h, nil, connect(func(*testing.T) (net.Conn, net.Conn) { return exchangetest.Pipe() }))
			}})
		})
	}
}

// tlsSocket serves one end of a TCP connection with TLS.
func tlsSocket(t *testing.T, o h1.ServerOptions, h exchange.Handler) (*tls.Conn, *net.TCPConn) {
	t.Helper()
	cc, sc := tlsConfigs(t)
	client, server := tcpPair(t)
	if err := server.(*net.TCPConn).SetWriteBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	c, s := secure(t, client, server, cc, sc)
	served := make(chan struct{})
	go func() { // ends with the connection, which the cleanup closes
		defer close(served)
		h1.NewServer(o, h).ServeConn(context.Background(), s, nil)
	}()
	t.Cleanup(func() {
		client.Close()
		server.Close()
		<-served
	})
	_ = client.SetDeadline(time.Now().Add(patience))
	return c, client.(*net.TCPConn)
}

// TestClientGoneTLS: a client that goes away while its answer is due is noticed, with
// and without a goodbye, which are bytes that may not be taken for another request.
func TestClientGoneTLS(t *testing.T) {
	w := newWatcher(t)
	for _, tt := range []struct {
		name  string
		send  string
		leave func(c *tls.Conn, tc *net.TCPConn) error
	}{
		{"close_notify and FIN", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", func(c *tls.Conn, _ *net.TCPConn) error { return c.Close() }},
		{"FIN", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", func(_ *tls.Conn, tc *net.TCPConn) error { return tc.CloseWrite() }},
		{
			"close_notify and half-close", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
			func(c *tls.Conn, tc *net.TCPConn) error { return errors.Join(c.CloseWrite(), tc.CloseWrite()) },
		},
		{
			"reset", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
			func(_ *tls.Conn, tc *net.TCPConn) error { return errors.Join(tc.SetLinger(0), tc.Close()) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			started, result := make(chan struct{}), make(chan error, 1)
			c, tc := tlsSocket(t, h1.ServerOptions{Watcher: w}, func(ctx context.Context, c exchange.Client) {
				var rec exchangetest.Recorder[*exchange.Request]
				if err := c.Feed(&rec); err != nil {
					result <- err
					return
				}
				close(started)
				select {
				case <-ctx.Done():
					result <- context.Cause(ctx)
				case <-time.After(patience):
					result <- errors.New("not noticed")
				}
			})
			if _, err := io.WriteString(c, tt.send); err != nil {
				t.Fatal(err)
			}
			<-started
			if err := tt.leave(c, tc); err != nil {
				t.Fatal(err)
			}
			if err := <-result; !errors.Is(err, exchange.ErrClientGone) {
				t.Errorf("got %v, want ErrClientGone", err)
			}
		})
	}
}

// TestPipelinedTLS: requests in one record, in several, and behind a FIN are all answered.
func TestPipelinedTLS(t *testing.T) {
	w := newWatcher(t)
	const one, n = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 5
	for name, send := range map[string]func(c *tls.Conn, tc *net.TCPConn) error{
		"one record": func(c *tls.Conn, _ *net.TCPConn) error {
			_, err := io.WriteString(c, strings.Repeat(one, n))
			return err
		},
		"a record each": func(c *tls.Conn, _ *net.TCPConn) error {
			var errs []error
			for range n {
				_, err := io.WriteString(c, one)
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
		"a record for each byte, then FIN": func(c *tls.Conn, tc *net.TCPConn) error {
			var errs []error
			for _, b := range []byte(strings.Repeat(one, n)) {
				_, err := c.Write([]byte{b})
				errs = append(errs, err)
			}
			return errors.Join(append(errs, c.CloseWrite(), tc.CloseWrite())...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			served := make(chan struct{}, n)
			c, tc := tlsSocket(t, h1.ServerOptions{Watcher: w}, func(_ context.Context, c exchange.Client) {
				var rec exchangetest.Recorder[*exchange.Request]
				_ = c.Feed(&rec)
				time.Sleep(5 * time.Millisecond) // long enough for a FIN to be noticed
				if err := answer(c, "hello"); err != nil {
					t.Error(err)
				}
				served <- struct{}{}
			})
			if err := send(c, tc); err != nil {
				t.Fatal(err)
			}
			for range n {
				<-served
			}
			_ = c.CloseWrite()
			_ = tc.CloseWrite()
			b, err := io.ReadAll(c)
			if got := bytes.Count(b, []byte("hello")); got != n || err != nil {
				t.Errorf("got %d answers, %v; want %d", got, err, n)
			}
		})
	}
}

// TestTruncatedTLS: without a close_notify a request is cut, wherever that was, and
// a tunnel has not ended in order; with one it has.
func TestTruncatedTLS(t *testing.T) {
	for _, tt := range []struct {
		name, send string
		goodbye    bool
		want       string // reason of Feed's error; "": none
	}{
		{"chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, h1.ReasonIncompleteReq},
		{"chunked, in order", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true, h1.ReasonIncompleteReq},
		{"tunnel", "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", false, h1.ReasonIncompleteReq},
		{"tunnel, in order", "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			result := make(chan error, 1)
			c, tc := tlsSocket(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
				rec := exchangetest.Recorder[*exchange.Request]{OnHead: func(h *exchange.Request, _ bool) error {
					if h.Upgrade != "" {
						return c.Head(&exchange.Response{Status: 101, Upgrade: "x"}, false)
					}
					return nil
				}}
				result <- c.Feed(&rec)
			})
			if _, err := io.WriteString(c, tt.send); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(tt.name, "tunnel") {
				if _, err := c.Read(make([]byte, 1024)); err != nil {
					t.Fatal(err)
				}
			}
			if tt.goodbye {
				_ = c.CloseWrite()
			}
			_ = tc.CloseWrite()
			err := <-result
			reason := ""
			if e, ok := errors.AsType[*exchange.Error](err); ok {
				reason = e.Reason
			}
			if reason != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v, want reason %q", err, tt.want)
			}
		})
	}
}

// TestGoodbyeTLS: a whole answer is followed by close_notify; one that is cut is not.
func TestGoodbyeTLS(t *testing.T) {
	for name, cut := range map[string]bool{"whole": false, "cut": true} {
		t.Run(name, func(t *testing.T) {
			c, _ := tlsSocket(t, h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
				var rec exchangetest.Recorder[*exchange.Request]
				_ = c.Feed(&rec)
				_ = c.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false)
				_ = c.Data([]byte("some"), false)
				_ = c.Data(nil, false)
				if !cut {
					_ = c.Data(nil, true)
				}
			})
			_, _ = io.WriteString(c, "GET / HTTP/1.0\r\nHost: a\r\n\r\n") // ends with the connection
			_, err := io.ReadAll(c)
			if cut != (err != nil) {
				t.Errorf("the answer ends with %v", err)
			}
		})
	}
}

// TestSlowWriteTLS: a write that takes longer than a timer was set for is not over.
func TestSlowWriteTLS(t *testing.T) {
	// The client reads slowly, so that timers of writes fire early again and again.
	const size = 1 << 20
	c, tc := tlsSocket(t, h1.ServerOptions{WriteTimeout: time.Second}, func(_ context.Context, c exchange.Client) {
		var rec exchangetest.Recorder[*exchange.Request]
		_ = c.Feed(&rec)
		_ = c.Head(&exchange.Response{Status: 200, Length: size}, false)
		for range size >> 16 {
			if err := c.Data(make([]byte, 1<<16), false); err != nil {
				t.Errorf("write: %v", err)
				return
			}
		}
		_ = c.Data(nil, true)
	})
	if err := tc.SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	got := 0
	b := make([]byte, 64<<10)
	for i := 0; got < size; i++ {
		n, err := io.ReadAtLeast(c, b, min(len(b), size-got))
		if got += n; err != nil {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		if i < 8 {
			time.Sleep(200 * time.Millisecond) // below the timeout, and together above it
		}
	}
}

// TestDrainTLS: idle connections are told, without waiting for those that do not read.
func TestDrainTLS(t *testing.T) {
	cc, sc := tlsConfigs(t)
	client, server := tcpPair(t)
	c, s := secure(t, client, server, cc, sc)
	srv := h1.NewServer(h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
		var rec exchangetest.Recorder[*exchange.Request]
		_ = c.Feed(&rec)
		_ = answer(c, "x")
	})
	var wg sync.WaitGroup
	wg.Go(func() { srv.ServeConn(context.Background(), s, nil) }) // ends with Drain
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := c.Read(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond) // let it come to rest
	srv.Drain()
	if _, err := c.Read(make([]byte, 10)); err != io.EOF { //nolint:errorlint // close_notify is exactly this
		t.Errorf("got %v, want EOF", err)
	}
	wg.Wait()
}
