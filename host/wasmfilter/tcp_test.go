package wasmfilter_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/balance"
	"wproxy/core/dial"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/metrics"
	"wproxy/core/pool"
	"wproxy/core/route"
	"wproxy/core/tcp"
	"wproxy/core/upstream"
	"wproxy/host"
	"wproxy/host/wasmfilter"
	"wproxy/host/wasmtest"
)

// moodyGuest does with a connection what its first byte says: t traps, l loops, p pauses for
// ever, c closes; anything else comes through.
func moodyGuest() []byte {
	m := wasmtest.NewGuest()
	get := m.Env(abi.ImportGetBufferBytes, "iiiii>i")
	shut := m.Env(abi.ImportCloseStream, "i>i")
	at, n := m.Slot(4), m.Slot(4)
	mood := func(c byte) wasmtest.Instr {
		return wasmtest.Eq(wasmtest.Load8(wasmtest.Load32(wasmtest.I32(at))), wasmtest.I32(int32(c)))
	}
	m.Func("proxy_on_downstream_data", "iii>i",
		wasmtest.If(wasmtest.Eq(wasmtest.Local(1), wasmtest.I32(0)), wasmtest.I32(0), wasmtest.Return()),
		wasmtest.Call(get, wasmtest.I32(2), wasmtest.I32(0), wasmtest.I32(1), wasmtest.I32(at), wasmtest.I32(n)), wasmtest.Drop(),
		wasmtest.If(mood('t'), wasmtest.Unreachable()),
		wasmtest.If(mood('l'), wasmtest.Loop(wasmtest.I32(1))),
		wasmtest.If(mood('c'), wasmtest.Call(shut, wasmtest.I32(2)), wasmtest.Drop()),
		mood('p'))
	m.Func("proxy_on_upstream_data", "iii>i", wasmtest.I32(0))
	m.Func("proxy_on_log", "i")
	return m.Bytes()
}

// A tcpDoor is a proxy for connections through a plugin, in memory, to an upstream that echoes.
type tcpDoor struct {
	proxy  *tcp.Proxy
	plugin *host.Plugin
	open   *tcp.Count
}

func newTCPDoor(t *testing.T, wasm []byte, po host.PluginOptions, o wasmfilter.Options) *tcpDoor {
	t.Helper()
	h, err := host.NewHost(host.HostOptions{Log: func(host.LogEntry) {}})
	if err != nil {
		t.Fatal(err)
	}
	po.Name = "p"
	p, err := h.Load(t.Context(), wasm, po)
	if err != nil {
		t.Fatal(err)
	}
	root, err := p.NewRoot(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var servers sync.WaitGroup
	e := upstream.NewLocal("echo", 1, func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		servers.Go(func() { _, _ = io.Copy(b, b); _ = b.Close() })
		return a, nil
	})
	cluster, err := upstream.NewCluster("up", []*upstream.Endpoint{e}, "")
	if err != nil {
		t.Fatal(err)
	}
	picker, err := balance.New(cluster, balance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	connections := pool.New(pool.Options{Idle: -1, Dial: dial.New(dial.Options{
		Protocol: dial.Plain, NewConn: func(nc net.Conn) pool.Conn { return tcp.NewConn(nc) },
	}).Dial})
	m := metrics.New()
	d := &tcpDoor{plugin: p, open: new(tcp.Count)}
	r := &tcp.Route{
		Name: "r", Info: filter.Route{Name: "r"}, Metrics: m.TCPRoute("r"), Open: d.open,
		Filters: []filter.TCPFactory{wasmfilter.NewTCP(root, o)},
		Split: []tcp.Target{{Weight: 1, Upstream: &tcp.Upstream{
			Name: "up", Pool: connections, Metrics: m.Upstream("up"),
			Servers: func() tcp.Servers { return tcp.Servers{Cluster: cluster, Picker: picker} },
		}}},
	}
	table, err := route.New([]route.Entry[*tcp.Route]{{Spec: route.Spec{Name: "r"}, Value: r}})
	if err != nil {
		t.Fatal(err)
	}
	d.proxy = tcp.New(tcp.Options{Metrics: m}, &tcp.Snapshot{Table: table})
	t.Cleanup(func() {
		servers.Wait()
		root.Close()
		p.Close()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// connect begins a connection, and returns the client's end and what is closed at its end.
func (d *tcpDoor) connect() (net.Conn, <-chan struct{}) {
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.proxy.Serve(context.Background(), b, &exchange.Conn{ID: 1, Listener: "l", Remote: netip.MustParseAddrPort("192.0.2.1:1"), RemoteIP: "192.0.2.1"})
	}()
	return a, done
}

// talk sends text and returns what comes back; "" if the connection is closed instead.
func talk(t *testing.T, c net.Conn, text string) string {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write: %v", err)
	}
	b := make([]byte, len(text))
	n, err := io.ReadFull(c, b)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("read: %v", err)
	}
	return string(b[:n])
}

// Connections whose guest traps, loops, pauses for ever or closes are closed, those beside
// them go on once there is a VM again, and nothing of 10,000 is left behind.
func TestTCPNothingIsLeft(t *testing.T) {
	const all, workers = 10_000, 8
	d := newTCPDoor(t, moodyGuest(), host.PluginOptions{Instances: 2, CPU: time.Millisecond, RestartMin: time.Millisecond, RestartMax: time.Millisecond},
		wasmfilter.Options{Pause: 50 * time.Millisecond})
	c, done := d.connect()
	if got := talk(t, c, "hello"); got != "hello" {
		t.Fatalf("got %q", got)
	}
	_ = c.Close()
	<-done
	goroutines := runtime.NumGoroutine()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range all / workers {
				text, bad := "hello", false
				if n := i*workers + w; n%500 == 0 {
					text, bad = []string{"trap", "loop", "pause", "close"}[n/500%4], true
				}
				c, done := d.connect()
				if got := talk(t, c, text); bad && got != "" {
					t.Errorf("%s: got %q", text, got)
				}
				_ = c.Close()
				<-done
			}
		})
	}
	wg.Wait()
	s := d.plugin.Stats()
	if len(s.Traps) == 0 || s.Streams != 0 || d.proxy.Open() != 0 || d.open.N() != 0 {
		t.Errorf("%+v, %d open, %d counted", s, d.proxy.Open(), d.open.N())
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.HeapAlloc > before.HeapAlloc+8<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", before.HeapAlloc, after.HeapAlloc)
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines+5 && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // the upstream's end a moment after
	}
	if n := runtime.NumGoroutine(); n > goroutines+5 {
		t.Errorf("%d goroutines, and %d before", n, goroutines)
	}
	if got := retryTalk(t, d); got != "hello" {
		t.Errorf("afterwards: got %q", got)
	}
}

// retryTalk talks until there is a VM again: the last one to trap may have been the last there was.
func retryTalk(t *testing.T, d *tcpDoor) (got string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); got == "" && time.Now().Before(end); {
		c, done := d.connect()
		got = talk(t, c, "hello")
		_ = c.Close()
		<-done
	}
	return got
}
