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

type (
	request  = exchangetest.Recorder[*exchange.Request]
	response = exchangetest.Recorder[*exchange.Response]
)

// A pair is the test client in front of an h2 server.
type pair struct {
	connect func(t *testing.T) (client, server net.Conn)
	s       *h2.Server
	conn    *testConn
	conns   []*testConn
	servers sync.WaitGroup
}

func (p *pair) Open(t *testing.T) exchange.Upstream {
	t.Helper()
	if p.conn != nil {
		if s := p.conn.open(); s != nil {
			return s
		}
	}
	client, server := p.connect(t)
	p.servers.Go(func() { // ends when the connection does
		p.s.ServeConn(context.Background(), server, nil, nil)
		if d, ok := server.(interface{ Drop() }); ok { // as whoever serves TLS does
			d.Drop()
		}
	})
	p.conn = dialTest(t, client)
	p.conns = append(p.conns, p.conn)
	// The first answer to our settings tells the windows.
	p.conn.until(func() bool { return p.conn.acked > 0 })
	return p.conn.open()
}

func (p *pair) Close() {
	for _, c := range p.conns {
		c.close()
	}
	p.servers.Wait()
}

func TestConformanceInMemory(t *testing.T) {
	exchangetest.Run(t, exchangetest.Options{
		Bubble: true, NoUpgrade: true,
		New: func(_ *testing.T, h exchange.Handler) exchangetest.Pair {
			return &pair{s: h2.NewServer(h2.ServerOptions{}, h), connect: func(*testing.T) (net.Conn, net.Conn) { return exchangetest.Pipe() }}
		},
	})
}

func TestConformanceSockets(t *testing.T) {
	exchangetest.Run(t, exchangetest.Options{
		NoUpgrade: true,
		New: func(_ *testing.T, h exchange.Handler) exchangetest.Pair {
			return &pair{s: h2.NewServer(h2.ServerOptions{}, h), connect: func(t *testing.T) (net.Conn, net.Conn) { return tcpPair(t) }}
		},
	})
}

// tcpPair returns the two ends of a TCP connection over loopback.
func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
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
		t.Fatal(err)
	}
	a := <-ch
	if a.err != nil {
		t.Fatal(a.err)
	}
	return client, a.c
}
