package h1_test

import (
	"context"
	"net"
	"sync"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// h1Pair is an h1 client in front of an h1 server.
type h1Pair struct {
	connect func(t *testing.T) (client, server net.Conn)
	s       *h1.Server
	o       *h1.ClientOptions
	ctx     context.Context
	cancel  context.CancelFunc
	conn    *h1.ClientConn
	conns   []*h1.ClientConn
	servers sync.WaitGroup
	raw     []net.Conn
}

func newPair(t *testing.T, h exchange.Handler, w *h1.Watcher, connect func(t *testing.T) (client, server net.Conn)) *h1Pair {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	return &h1Pair{
		connect: connect, ctx: ctx, cancel: cancel,
		s: h1.NewServer(h1.ServerOptions{Watcher: w}, h),
		o: &h1.ClientOptions{Watcher: w},
	}
}

func (p *h1Pair) Open(t *testing.T) exchange.Upstream {
	t.Helper()
	if p.conn == nil || !p.conn.Reserve() {
		client, server := p.connect(t)
		p.servers.Go(func() { p.s.ServeConn(p.ctx, server, nil) }) // ends when the connection does
		p.conn = h1.NewClientConn(client, p.o)
		p.conns = append(p.conns, p.conn)
		p.raw = append(p.raw, server)
		if !p.conn.Reserve() {
			t.Fatal("a new connection has no slot")
		}
	}
	s, err := p.conn.Open(p.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *h1Pair) Close() {
	p.cancel()
	for _, c := range p.conns {
		_ = c.Close()
	}
	for _, c := range p.raw {
		_ = c.Close()
	}
	p.servers.Wait()
}

func TestConformanceInMemory(t *testing.T) {
	exchangetest.Run(t, exchangetest.Options{
		Bubble: true,
		New: func(t *testing.T, h exchange.Handler) exchangetest.Pair {
			return newPair(t, h, nil, func(*testing.T) (net.Conn, net.Conn) { return exchangetest.Pipe() })
		},
	})
}

func TestConformanceSockets(t *testing.T) {
	w := newWatcher(t)
	exchangetest.Run(t, exchangetest.Options{
		New: func(t *testing.T, h exchange.Handler) exchangetest.Pair { return newPair(t, h, w, socketPair) },
	})
}

func newWatcher(tb testing.TB) *h1.Watcher {
	tb.Helper()
	w, err := h1.NewWatcher()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	})
	return w
}

// socketPair returns the two ends of a TCP connection over loopback.
func socketPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	return tcpPair(t)
}

func tcpPair(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	type accepted struct {
		c   net.Conn
		err error
	}
	ch := make(chan accepted, 1)
	go func() { // ends with the accept, or with Close
		c, err := l.Accept()
		ch <- accepted{c, err}
	}()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	a := <-ch
	if a.err != nil {
		tb.Fatal(a.err)
	}
	return client, a.c
}
