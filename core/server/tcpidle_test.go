//go:build !race

package server_test

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"testing"
	"time"

	"wproxy/core/certs"
	"wproxy/core/certs/certstest"
	"wproxy/core/filter"
	"wproxy/core/server"
)

// letThrough is a filter without an interest in anything.
type letThrough struct{}

func (letThrough) Name() string                                      { return "none" }
func (letThrough) NewTCP(*filter.Exchange) (filter.TCPFilter, error) { return letThrough{}, nil }
func (letThrough) Downstream(next filter.Flow) filter.Flow           { return next }
func (letThrough) Upstream(next filter.Flow) filter.Flow             { return next }
func (letThrough) Close(bool)                                        {}

// TestIdleTCP: what a connection that is passed on costs while it rests, in stacks and heap,
// with the other ends of both sockets, which are here, too: some 1 KiB, and the client's side
// of TLS. docs/protocols.md has the numbers.
func TestIdleTCP(t *testing.T) {
	const connections = 400
	for _, tt := range []struct {
		name   string
		filter bool
		secure bool
		most   int64
	}{
		{"spliced", false, false, 12 << 10},
		{"filtered", true, false, 26 << 10},
		{"with TLS", false, true, 45 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMaker()
			o := m.options()
			o.TCP.Metrics = m.metrics
			var filters []filter.TCPFactory
			if tt.filter {
				filters = append(filters, letThrough{})
			}
			g := m.tcpGeneration(t, tcpSink(t), 0, filters...)
			var cc *tls.Config
			if tt.secure {
				ca := certstest.New(t, "ca")
				pair := ca.Server("a.example")
				cert, key := pair.Write(t, t.TempDir(), "a")
				secureFor(t, &g, certs.Pair{Cert: cert, Key: key})
				cc = &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"}
			}
			s, err := server.Start(t.Context(), o, g)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_ = s.Stop(ctx)
			})
			at := address(t, s, "a")
			open := func() {
				c, err := net.Dial("tcp", at)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close() })
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				if tt.secure {
					c = tls.Client(c, cc)
				}
				if err := ping(c); err != nil {
					t.Fatal(err)
				}
			}
			open() // what is needed once
			stacksBefore, heapBefore := stacks(), heap()
			for range connections {
				open()
			}
			stack := (stacks() - stacksBefore) / connections
			inHeap := (heap() - heapBefore) / connections
			t.Logf("a connection that rests has %d bytes of stacks and %d of the heap", stack, inHeap)
			if stack+inHeap > tt.most {
				t.Errorf("%d bytes, want at most %d", stack+inHeap, tt.most)
			}
		})
	}
}

// heap returns the bytes of the heap in use; stacks has just collected.
func heap() int64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
