package server_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/core/balance"
	dialing "wproxy/core/dial"
	"wproxy/core/filter"
	"wproxy/core/pool"
	"wproxy/core/route"
	"wproxy/core/server"
	"wproxy/core/tcp"
	"wproxy/core/upstream"
)

// echo answers every connection with what it says, until the test ends.
func echo(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// tcpGeneration is generation with a listener "tcp" whose connections go to an upstream. What the
// route uses, but not the route, is another one in each.
func (m *maker) tcpGeneration(t *testing.T, n byte, u *tcp.Upstream, open *tcp.Count) server.Generation {
	t.Helper()
	g := m.generation(t, "http", nil, "tcp=127.0.0.1:0")
	g.Listeners[0].TCP = true
	r := &tcp.Route{
		Name: "r", Info: filter.Route{Name: "r"}, Metrics: m.metrics.TCPRoute("r"), Open: open,
		Mark: tcp.Mark{1}, Parts: tcp.Mark{n}, Split: []tcp.Target{{Weight: 1, Upstream: u}},
	}
	table, err := route.New([]route.Entry[*tcp.Route]{{Spec: route.Spec{Name: "r", Listeners: []string{"tcp"}}, Value: r}})
	if err != nil {
		t.Fatal(err)
	}
	g.TCP = &tcp.Snapshot{
		Table: table, Routes: map[string]*tcp.Route{"r": r},
		Listeners: map[string]*tcp.Listener{"tcp": {}}, Grace: time.Hour,
	}
	return g
}

// TestTCPGenerationsAreBounded: connections that never end do not keep any number of old
// generations, as exchanges do not.
func TestTCPGenerationsAreBounded(t *testing.T) {
	e, err := upstream.NewEndpoint(echo(t), 1)
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
	p := pool.New(pool.Options{Idle: -1, Dial: dialing.New(dialing.Options{
		Protocol: dialing.Plain, NewConn: func(nc net.Conn) pool.Conn { return tcp.NewConn(nc) },
	}).Dial})
	defer p.Close()
	m, open := newMaker(), new(tcp.Count)
	u := &tcp.Upstream{
		Name: "up", Pool: p, Metrics: m.metrics.Upstream("up"),
		Servers: func() tcp.Servers { return tcp.Servers{Cluster: cluster, Picker: picker} },
	}
	o := m.options()
	o.TCP.Metrics = m.metrics
	var ended atomic.Int32
	o.Generations, o.Ended = 2, func(n int) { ended.Add(int32(n)) }
	s, err := server.Start(t.Context(), o, m.tcpGeneration(t, 0, u, open))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	var clients []net.Conn
	for i := range 5 {
		c, err := net.Dial("tcp", address(t, s, "tcp"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if !echoes(c) {
			t.Fatal("it is not passed on")
		}
		clients = append(clients, c)
		if i == 1 {
			if n := s.Generations(); n != 2 {
				t.Errorf("%d generations, want one that has a connection and the one that serves", n)
			}
		}
		if err := s.Reload(t.Context(), m.tcpGeneration(t, byte(i+1), u, open)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the three oldest are released", func() bool { return m.released.Load() == 3 && ended.Load() == 3 })
	if n := s.Generations(); n != 3 {
		t.Errorf("%d generations, want two old ones and the one that serves", n)
	}
	for i, c := range clients {
		if got, want := echoes(c), i >= 3; got != want {
			t.Errorf("connection %d: goes on: %v, want %v", i, got, want)
		}
		_ = c.Close()
	}
	eventually(t, "all but the last are released", func() bool { return m.released.Load() == 5 && s.Generations() == 1 })
}

// echoes reports whether what c says comes back.
func echoes(c net.Conn) bool {
	if _, err := c.Write([]byte("x")); err != nil {
		return false
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err == nil
}
