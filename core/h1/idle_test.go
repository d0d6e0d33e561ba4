//go:build !race && !invariants && linux

package h1_test

import (
	"context"
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
