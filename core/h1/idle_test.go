//go:build !race && !invariants && linux

package h1_test

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/h1"
)

// TestIdleMemory: a keep-alive connection that rests after an exchange costs no
// more than 6 KiB, stack included.
func TestIdleMemory(t *testing.T) {
	const n, limit = 200, 6 << 10
	var sink requestSink
	res := plainResponse()
	body := make([]byte, 1024)
	s := h1.NewServer(h1.ServerOptions{Watcher: newWatcher(t)}, func(_ context.Context, c exchange.Client) {
		deep(64, func() { // an engine and its filters use some stack
			if c.Feed(&sink) != nil || c.Head(res, false) != nil || c.Data(body, true) != nil {
				t.Error("the exchange has failed")
			}
		})
	})
	request, answer := []byte(plainRequest), make([]byte, 4096)
	clients, servers := make([]net.Conn, n), make([]net.Conn, n)
	for i := range n {
		clients[i], servers[i] = tcpPair(t)
	}
	before := memory()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { s.ServeConn(context.Background(), servers[i], nil) }) // ends when the client closes
		exchangeOnce(t, clients[i], request, answer)
	}
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

// TestRestMemory: a connection that has given up its goroutine costs h1 less than 1 KiB, and
// with TLS 1.3 less than 5 KiB, most of which is crypto/tls's.
func TestRestMemory(t *testing.T) {
	const n = 500
	for _, tt := range []struct {
		name    string
		version uint16
		limit   int
	}{{"plain", 0, 1 << 10}, {"TLS", tls.VersionTLS13, 5 << 10}} {
		t.Run(tt.name, func(t *testing.T) {
			var sink requestSink
			r := serveResting(t, tt.version, h1.ServerOptions{}, plainHandler(t, &sink))
			clients, servers := make([]net.Conn, n), make([]net.Conn, n)
			for i := range n {
				clients[i], servers[i] = tcpPair(t)
				defer clients[i].Close()
			}
			before := memory()
			for i := range n {
				c, request, buf := clients[i], []byte(plainRequest), make([]byte, 4096)
				if r.cc != nil {
					var accepted sync.WaitGroup
					accepted.Go(func() { servers[i], _ = accept(t, servers[i], r.sc) }) // ends with the handshake
					secured := tls.Client(c, r.cc)
					if err := secured.Handshake(); err != nil {
						t.Fatal(err)
					}
					accepted.Wait()
					c = secured
				}
				r.serve(r.Server, servers[i])
				readAnswer(t, c, request, buf)
			}
			r.asleep(t, n)
			each := (memory() - before) / n
			t.Logf("%d bytes per connection that rests", each)
			if each > tt.limit {
				t.Errorf("a connection that rests costs %d bytes, want at most %d", each, tt.limit)
			}
		})
	}
}

// deep calls f with some 10 KiB of stack below it.
func deep(n int, f func()) {
	var pad [128]byte
	if n > 0 {
		deep(n-1, f)
	} else {
		f()
	}
	runtime.KeepAlive(&pad)
}

// memory returns what heap and stacks use, after stacks have been shrunk.
func memory() int {
	for range 4 { // each collection halves stacks that are mostly unused
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
