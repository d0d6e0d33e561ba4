package h2_test

import (
	"context"
	"net"
	"sync"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h2"
)

// A clientPair is an h2 client in front of an h2 server.
type clientPair struct {
	connect func(t *testing.T) (client, server net.Conn)
	s       *h2.Server
	ctx     context.Context
	cancel  context.CancelFunc
	conn    *h2.ClientConn
	conns   []*h2.ClientConn
	raw     []net.Conn
	servers sync.WaitGroup
}

func (p *clientPair) Open(t *testing.T) exchange.Upstream {
	t.Helper()
	if p.conn == nil || !p.conn.Reserve() {
		client, server := p.connect(t)
		p.servers.Go(func() { p.s.ServeConn(p.ctx, server, nil, nil) }) // ends when the connection does
		p.conn = h2.NewClientConn(client, nil)
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

func (p *clientPair) Close() {
	p.cancel()
	for _, c := range p.conns {
		_ = c.Close()
	}
	for _, c := range p.raw {
		_ = c.Close()
	}
	p.servers.Wait()
}

func newClientPair(h exchange.Handler, connect func(*testing.T) (client, server net.Conn)) *clientPair {
	p := &clientPair{s: h2.NewServer(h2.ServerOptions{}, h), connect: connect}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

func TestClientConformanceInMemory(t *testing.T) {
	exchangetest.Run(t, exchangetest.Options{
		Bubble: true, NoUpgrade: true,
		New: func(_ *testing.T, h exchange.Handler) exchangetest.Pair {
			return newClientPair(h, func(*testing.T) (net.Conn, net.Conn) { return exchangetest.Pipe() })
		},
	})
}

func TestClientConformanceSockets(t *testing.T) {
	exchangetest.Run(t, exchangetest.Options{
		NoUpgrade: true,
		New: func(_ *testing.T, h exchange.Handler) exchangetest.Pair {
			return newClientPair(h, func(t *testing.T) (net.Conn, net.Conn) { return tcpPair(t) })
		},
	})
}
