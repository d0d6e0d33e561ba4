//go:build !race && !invariants && linux

package h1_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/internal/tlsconn"
)

func plainHandler(t *testing.T, sink *requestSink) exchange.Handler {
	res, body := plainResponse(), make([]byte, 1024)
	return func(_ context.Context, c exchange.Client) {
		deep(64, func() { // an engine and its filters use some stack
			if c.Feed(sink) != nil || c.Head(res, false) != nil || c.Data(body, true) != nil {
				t.Error("the exchange has failed")
			}
		})
	}
}

// readAnswer reads an answer, which may be in two records.
func readAnswer(t *testing.T, c net.Conn, request, answer []byte) {
	t.Helper()
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 1100; {
		m, err := c.Read(answer[n:])
		if n += m; err != nil {
			t.Fatal(err)
		}
	}
}

// TestServerAllocsTLS: an exchange under TLS allocates the string of the head, and a
// reader of 24 bytes that crypto/tls makes for each record. The client is counted
// too, which makes such a reader for each attempt of its own.
func TestServerAllocsTLS(t *testing.T) {
	cc, sc := tlsConfigs(t)
	client, server := tcpPair(t)
	c, s := secure(t, client, server, cc, sc)
	defer client.Close()
	var sink requestSink
	go h1.NewServer(h1.ServerOptions{Watcher: newWatcher(t)}, plainHandler(t, &sink)).ServeConn(context.Background(), s, nil) // ends when the client closes
	request, answer := []byte(plainRequest), make([]byte, 4096)
	for range 10 {
		readAnswer(t, c, request, answer)
	}
	// What the client allocates: one reader per record, two for the few that come in pieces.
	const clients, ours = 2, 2
	if n := testing.AllocsPerRun(1000, func() { readAnswer(t, c, request, answer) }); n > clients+ours {
		t.Errorf("got %v allocations per exchange, want at most %d", n, clients+ours)
	}
}

// TestIdleMemoryTLS: a TLS connection that rests after an exchange costs no more than
// 16 KiB, stack included. The clients' halves of it are garbage by then.
func TestIdleMemoryTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a thousand connections")
	}
	const n, limit = 1000, 16 << 10
	var sink requestSink
	cc, sc := tlsConfigs(t)
	s := h1.NewServer(h1.ServerOptions{Watcher: newWatcher(t)}, plainHandler(t, &sink))
	request := []byte(plainRequest)
	clients, servers := make([]net.Conn, n), make([]net.Conn, n)
	for i := range n {
		clients[i], servers[i] = tcpPair(t)
	}
	before := memory()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { // ends when the client closes
			nc, facts := accept(t, servers[i], sc)
			s.ServeConn(context.Background(), nc, facts)
		})
		readAnswer(t, tls.Client(clients[i], cc), request, make([]byte, 4096))
	}
	memory() // the stack of a handshake is deep: it takes more collections to shrink
	each := (memory() - before) / n
	t.Logf("%d bytes per idle connection", each)
	if each > limit {
		t.Errorf("an idle connection costs %d bytes, want at most %d", each, limit)
	}
	for _, c := range clients {
		c.Close()
	}
	wg.Wait()
}

// accept does the handshake, in a frame of its own: what it needs is over then.
func accept(t *testing.T, nc net.Conn, sc *tls.Config) (net.Conn, *exchange.Conn) {
	t.Helper()
	c := tlsconn.Server(nc, sc)
	if err := c.Handshake(context.Background()); err != nil {
		t.Error(err)
	}
	state := c.State()
	return c, &exchange.Conn{TLS: &state}
}
