package server_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/core/balance"
	dialer "wproxy/core/dial"
	"wproxy/core/filter"
	"wproxy/core/pool"
	"wproxy/core/route"
	"wproxy/core/server"
	"wproxy/core/tcp"
	"wproxy/core/upstream"
)

// A sink takes connections, and answers one byte with one; it has no goroutine for those
// that rest.
func tcpSink(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
			b := make([]byte, 1)
			if _, err := io.ReadFull(c, b); err == nil {
				_, _ = c.Write(b)
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		done.Wait()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return l.Addr().String()
}

// tcpGeneration passes on what comes to the listener a, to the server at address.
func (m *maker) tcpGeneration(t *testing.T, address string, parts byte, filters ...filter.TCPFactory) server.Generation {
	t.Helper()
	g := m.generation(t, "", nil, "a=127.0.0.1:0")
	g.Listeners[0].TCP = true
	e, err := upstream.NewEndpoint(address, 1)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := upstream.NewCluster("up", []*upstream.Endpoint{e}, "")
	if err != nil {
		t.Fatal(err)
	}
	picker, err := balance.New(cluster, balance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	connections := pool.New(pool.Options{Idle: -1, Dial: dialer.New(dialer.Options{
		Protocol: dialer.Plain, NewConn: func(nc net.Conn) pool.Conn { return tcp.NewConn(nc) },
	}).Dial})
	r := &tcp.Route{
		Name: "r", Info: filter.Route{Name: "r"}, Metrics: m.metrics.TCPRoute("r"), Open: new(tcp.Count), Filters: filters,
		Mark: tcp.Mark{1}, Parts: tcp.Mark{parts},
		Split: []tcp.Target{{Weight: 1, Upstream: &tcp.Upstream{
			Name: "up", Pool: connections, Metrics: m.metrics.Upstream("up"),
			Servers: func() tcp.Servers { return tcp.Servers{Cluster: cluster, Picker: picker} },
		}}},
	}
	table, err := route.New([]route.Entry[*tcp.Route]{{Spec: route.Spec{Name: "r"}, Value: r}})
	if err != nil {
		t.Fatal(err)
	}
	g.TCP = &tcp.Snapshot{
		Table: table, Routes: map[string]*tcp.Route{"r": r}, Listeners: map[string]*tcp.Listener{"a": {}}, Grace: time.Hour,
	}
	return g
}

// ping sends a byte through c and waits for it.
func ping(c net.Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// TestTCPGenerationsAreBounded: connections whose upstream each reload changes do not keep any
// number of old generations.
func TestTCPGenerationsAreBounded(t *testing.T) {
	m := newMaker()
	o := m.options()
	o.TCP.Metrics = m.metrics
	var ended atomic.Int32
	o.Generations, o.Ended = 2, func(n int) { ended.Add(int32(n)) }
	at := tcpSink(t)
	s, err := server.Start(t.Context(), o, m.tcpGeneration(t, at, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Stop(ctx)
	}()
	addr := address(t, s, "a")
	var clients []net.Conn
	for i := byte(1); i <= 5; i++ {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if err := ping(c); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		if err := s.Reload(t.Context(), m.tcpGeneration(t, at, i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the three oldest are released", func() bool { return m.released.Load() == 3 && ended.Load() == 3 })
	if n := s.Generations(); n != 3 {
		t.Errorf("%d generations, want two old ones and the one that serves", n)
	}
	for _, c := range clients[:3] {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection was to be ended")
		}
	}
	for _, c := range clients[3:] {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err == nil || !err.(net.Error).Timeout() { //nolint:errorlint,forcetypeassert // of package net
			t.Errorf("a connection was to go on: %v", err)
		}
		_ = c.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // by net.Dial. A reset: the other end takes a FIN for half of it
		_ = c.Close()
	}
	eventually(t, "one generation is left", func() bool { return s.Generations() == 1 })
}
