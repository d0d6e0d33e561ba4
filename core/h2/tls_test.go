package h2_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/certs/certstest"
	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h2"
	"wproxy/core/internal/tlsconn"
)

// tlsPair is a connection with TLS, in memory or over a socket, after its handshake.
func tlsPair(t testing.TB, memory bool) (net.Conn, *tlsconn.Conn) {
	t.Helper()
	ca := certstest.New(t, "ca")
	p := ca.Server("a.example")
	var client, server net.Conn
	if memory {
		client, server = exchangetest.Pipe()
	} else {
		client, server = tcpPair(t)
	}
	s := tlsconn.Server(server, &tls.Config{Certificates: []tls.Certificate{p.TLS}, NextProtos: []string{"h2"}})
	c := tls.Client(client, &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example", NextProtos: []string{"h2"}})
	done := make(chan error, 1)
	go func() { done <- s.Handshake(context.Background()) }()
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return c, s
}

// TestConformanceTLS is the suite over TLS as listeners serve it.
func TestConformanceTLS(t *testing.T) {
	for name, memory := range map[string]bool{"memory": true, "socket": false} {
		t.Run(name, func(t *testing.T) {
			exchangetest.Run(t, exchangetest.Options{
				NoUpgrade: true,
				New: func(_ *testing.T, h exchange.Handler) exchangetest.Pair {
					return &pair{s: h2.NewServer(h2.ServerOptions{}, h), connect: func(t *testing.T) (net.Conn, net.Conn) { c, s := tlsPair(t, memory); return c, s }}
				},
			})
		})
	}
}

// patienceTLS is many times what TestTLSLife's connections may take to end.
const patienceTLS = 10 * time.Second

// TestTLSLife: over TLS, too, connections end that rest, or whose client does not read.
func TestTLSLife(t *testing.T) {
	answer := func(_ context.Context, c exchange.Client) {
		if c.Feed(new(request)) != nil {
			return
		}
		_ = c.Head(&exchange.Response{Status: 200, Length: 8 << 20}, false)
		_ = c.Data(make([]byte, 8<<20), true)
	}
	// idle
	s := h2.NewServer(h2.ServerOptions{Idle: 300 * time.Millisecond}, answer)
	c, sc := tlsPair(t, false)
	var wg sync.WaitGroup
	wg.Go(func() { s.ServeConn(context.Background(), sc, nil, nil); sc.Drop() })
	tc := dialTest(t, c)
	st := tc.get("/")
	if _, body, err := st.answer(); len(body) != 8<<20 || err != nil {
		t.Fatal(len(body), err)
	}
	start := time.Now()
	wg.Wait()
	if took := time.Since(start); took > patienceTLS {
		t.Errorf("a connection without a request ended after %v", took)
	}
	tc.do(func() {
		if tc.goAway == nil {
			t.Error("no GOAWAY")
		}
	})
	tc.close()
	// stall
	s = h2.NewServer(h2.ServerOptions{WriteTimeout: 400 * time.Millisecond}, answer)
	c, sc = tlsPair(t, false)
	wg.Go(func() { s.ServeConn(context.Background(), sc, nil, nil); sc.Drop() })
	_, _ = io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, nil)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	_ = fr.WriteWindowUpdate(0, 1<<30)
	x := &testConn{fr: fr}
	x.enc = newEnc(x)
	_ = x.headers(1, true, get...)
	start = time.Now()
	wg.Wait()
	if took := time.Since(start); took > patienceTLS {
		t.Errorf("a connection whose client does not read ended after %v", took)
	}
	_ = c.Close() // it has ended
}

func newEnc(c *testConn) *hpack.Encoder { return hpack.NewEncoder(&c.block) }
