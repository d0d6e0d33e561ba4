package tcp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/core/access"
	"wproxy/core/balance"
	"wproxy/core/dial"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/metrics"
	"wproxy/core/pool"
	"wproxy/core/route"
	"wproxy/core/tcp"
	"wproxy/core/upstream"
)

// patience is only used up by failures.
const patience = 20 * time.Second

// A setup is a Proxy with one route.
type setup struct {
	t       *testing.T
	proxy   *tcp.Proxy
	route   *tcp.Route
	snap    *tcp.Snapshot
	metrics *metrics.Metrics
	cluster *upstream.Cluster
	log     string
}

// newSetup makes a Proxy whose route leads to addresses. change may change the route.
func newSetup(t *testing.T, change func(*tcp.Route), addresses ...string) *setup {
	t.Helper()
	m := metrics.New()
	s := &setup{t: t, metrics: m, log: filepath.Join(t.TempDir(), "access.log")}
	logger, err := access.Open(access.Options{To: s.log, Format: access.JSON})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = logger.Close() })
	var endpoints []*upstream.Endpoint
	for _, a := range addresses {
		e, err := upstream.NewEndpoint(a, 1)
		if err != nil {
			t.Fatal(err)
		}
		endpoints = append(endpoints, e)
	}
	cluster, err := upstream.NewCluster("up", endpoints, "")
	if err != nil {
		t.Fatal(err)
	}
	s.cluster = cluster
	picker, err := balance.New(cluster, balance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := pool.New(pool.Options{Idle: -1, Dial: dial.New(dial.Options{
		Protocol: dial.Plain, NewConn: func(nc net.Conn) pool.Conn { return tcp.NewConn(nc) },
	}).Dial})
	t.Cleanup(p.Close)
	s.route = &tcp.Route{
		Name: "r", Info: filter.Route{Name: "r"}, Metrics: m.TCPRoute("r"), Open: new(tcp.Count), Retries: 1, Budget: 100, BudgetMin: 10,
		Split: []tcp.Target{{Weight: 1, Upstream: &tcp.Upstream{
			Name: "up", Pool: p, Metrics: m.Upstream("up"),
			Servers: func() tcp.Servers { return tcp.Servers{Cluster: cluster, Picker: picker} },
		}}},
	}
	if change != nil {
		change(s.route)
	}
	s.snap = s.snapshot(s.route, logger)
	s.proxy = tcp.New(tcp.Options{Metrics: m}, s.snap)
	t.Cleanup(func() {
		if n := cluster.Live.Active.Load() + endpoints[0].Live.Active.Load() + s.route.Open.N(); n != 0 {
			t.Errorf("%d are still counted", n)
		}
		if st := p.Stats(); st.Open != 0 {
			t.Errorf("the pool has %+v", st)
		}
	})
	return s
}

func (s *setup) snapshot(r *tcp.Route, l *access.Logger) *tcp.Snapshot {
	table, err := route.New([]route.Entry[*tcp.Route]{{Spec: route.Spec{Name: r.Name, Listeners: []string{"l"}}, Value: r}})
	if err != nil {
		s.t.Fatal(err)
	}
	return &tcp.Snapshot{Table: table, Routes: map[string]*tcp.Route{r.Name: r}, Listeners: map[string]*tcp.Listener{"l": {}}, Access: l}
}

// connect returns the client's side of a connection that is served, and what waits for its end.
func (s *setup) connect() (*net.TCPConn, func()) {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	nc, err := l.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	client, _ := c.(*net.TCPConn)
	_ = client.SetDeadline(time.Now().Add(patience))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.proxy.Serve(context.Background(), nc, &exchange.Conn{ID: 7, Listener: "l", Remote: netip.MustParseAddrPort("127.0.0.1:5"), RemoteIP: "127.0.0.1"})
	}()
	wait := func() {
		s.t.Helper()
		select {
		case <-done:
		case <-time.After(patience):
			s.t.Fatal("the connection does not end")
		}
	}
	s.t.Cleanup(func() { _ = client.Close(); wait() })
	return client, wait
}

// logged waits for text in the log.
func (s *setup) logged(text string) {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if b, _ := os.ReadFile(s.log); strings.Contains(string(b), text) {
			return
		}
	}
	b, _ := os.ReadFile(s.log)
	s.t.Fatalf("no %s in %s", text, b)
}

// server serves each connection by f.
func server(t *testing.T, f func(c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tc, _ := c.(*net.TCPConn)
			_ = tc.SetDeadline(time.Now().Add(patience))
			wg.Go(func() {
				defer tc.Close()
				f(tc)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

// passing is a filter that lets everything through, so that the way through filters is taken.
type passing struct{}

func (passing) Name() string                                      { return "passing" }
func (passing) NewTCP(*filter.Exchange) (filter.TCPFilter, error) { return passing{}, nil }
func (passing) Downstream(next filter.Flow) filter.Flow           { return next }
func (passing) Upstream(next filter.Flow) filter.Flow             { return next }
func (passing) Close(bool)                                        {}

func withFilter(r *tcp.Route) { r.Filters = []filter.TCPFactory{passing{}} }

func ways(t *testing.T, f func(t *testing.T, change func(*tcp.Route))) {
	t.Helper()
	t.Run("spliced", func(t *testing.T) {
		t.Parallel() // lines of the log come once a second
		f(t, func(*tcp.Route) {})
	})
	t.Run("filtered", func(t *testing.T) {
		t.Parallel()
		f(t, withFilter)
	})
}

// Bytes come through both ways, whole, and each side may end its direction alone.
func TestRelay(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, change func(*tcp.Route)) {
		const size = 3 << 20
		up := server(t, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "220 ready\r\n") // the server speaks first
			h := sha256.New()
			n, err := io.Copy(h, c) // until the client's end
			if err != nil || n != size {
				t.Errorf("the upstream has got %d bytes, %v", n, err)
			}
			_, _ = c.Write(h.Sum(nil))
			_, _ = c.Write(make([]byte, size))
		})
		s := newSetup(t, change, up)
		c, wait := s.connect()
		if b := make([]byte, 11); true {
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "220 ready\r\n" {
				t.Fatalf("%q, %v", b, err)
			}
		}
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		if _, err := c.Write(data); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		got, err := io.ReadAll(c)
		if sum := sha256.Sum256(data); err != nil || len(got) != size+len(sum) || !bytes.Equal(got[:len(sum)], sum[:]) {
			t.Errorf("the client has got %d bytes, %v", len(got), err)
		}
		wait()
		s.logged(`"bytes_in":3145728,"bytes_out":3145771,"route":"r","upstream":"up","server":"` + up + `","tries":1`)
	})
}

// A reset on one side is one on the other: what was cut must not look complete.
func TestReset(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, change func(*tcp.Route)) {
		s := newSetup(t, change, server(t, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_ = c.SetLinger(0)
		}))
		c, wait := s.connect()
		_, _ = c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("got %v, want a reset", err)
		}
		wait()
		s.logged(`"reason":"upstream_reset"`)
	})
}

// A server that cannot be connected to is passed over.
func TestFailover(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	_ = l.Close()
	s := newSetup(t, nil, dead, server(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "ok") }))
	for range 2 { // one of them begins at the dead one
		c, wait := s.connect()
		_ = c.CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "ok" {
			t.Errorf("%q, %v", b, err)
		}
		wait()
	}
	s.logged(`"tries":2,"retried":["connect"]`)
	s = newSetup(t, nil, dead)
	c, wait := s.connect()
	if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
		t.Errorf("%q, %v", b, err)
	}
	wait()
	s.logged(`"reason":"upstream_refused"`)
}

// Who may not come in is told why in the log, at once.
func TestTurnedAway(t *testing.T) {
	t.Parallel()
	for reason, change := range map[string]func(*tcp.Route){
		"denied":               func(r *tcp.Route) { r.Deny = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} },
		"too_many_connections": func(r *tcp.Route) { r.Max = 1 },
		"idle_timeout":         func(r *tcp.Route) { r.Idle = 100 * time.Millisecond },
		"timeout":              func(r *tcp.Route) { r.Timeout = 100 * time.Millisecond; r.Idle = -1 },
	} {
		ways(t, func(t *testing.T, more func(*tcp.Route)) {
			s := newSetup(t, func(r *tcp.Route) { change(r); more(r) }, server(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
			c, wait := s.connect()
			if reason == "too_many_connections" {
				_, _ = c.Write([]byte("x"))
				_, _ = io.ReadFull(c, make([]byte, 1))
				c, wait = s.connect()
			}
			if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
				t.Errorf("%s: %q, %v", reason, b, err)
			}
			wait()
			s.logged(`"reason":"` + reason + `"`)
		})
	}
}

// Bytes keep a connection alive, however few.
func TestNotIdle(t *testing.T) {
	t.Parallel()
	s := newSetup(t, func(r *tcp.Route) { r.Idle = time.Second }, server(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	c, _ := s.connect()
	for range 20 {
		time.Sleep(100 * time.Millisecond) // less than the idle time, which is real for sockets
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

// A reload moves connections whose route it keeps, so that the old snapshot can go, and ends
// the others after their time.
func TestSwap(t *testing.T) {
	t.Parallel()
	s := newSetup(t, func(r *tcp.Route) { r.Mark, r.Parts = tcp.Mark{1}, tcp.Mark{1} }, server(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	c, wait := s.connect()
	echo := func() error {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	same := *s.route
	next := s.snapshot(&same, s.snap.Access)
	select {
	case <-s.proxy.Swap(next).Drained():
	case <-time.After(patience):
		t.Fatal("the old snapshot does not drain")
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	changed := *s.route
	changed.Mark = tcp.Mark{2}
	last := s.snapshot(&changed, s.snap.Access)
	last.Grace = 50 * time.Millisecond
	old := s.proxy.Swap(last)
	wait()
	<-old.Drained()
	s.logged(`"reason":"route_gone"`)
}

func TestEndAll(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, change func(*tcp.Route)) {
		s := newSetup(t, change, server(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
		c, wait := s.connect()
		_, _ = c.Write([]byte("x"))
		_, _ = io.ReadFull(c, make([]byte, 1))
		if n := s.proxy.EndAll(); n != 1 {
			t.Errorf("%d connections", n)
		}
		wait()
		s.logged(`"reason":"drain"`)
		_, wait = s.connect()
		wait()
	})
}

// Connections that are over leave neither goroutines nor descriptors.
func TestNothingIsLeft(t *testing.T) {
	s := newSetup(t, nil, server(t, func(c *net.TCPConn) {
		_, _ = io.Copy(struct{ io.Writer }{c}, c) // without the pipes that package net keeps, more of them with -race
	}))
	one := func() {
		c, wait := s.connect()
		_, _ = c.Write([]byte("x"))
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.Close()
		wait()
	}
	one()
	count := func() int { e, _ := os.ReadDir("/proc/self/fd"); return len(e) }
	goroutines, files := runtime.NumGoroutine(), count()
	for range 300 {
		one()
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines+3 && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // the server's
	}
	if n := runtime.NumGoroutine(); n > goroutines+3 {
		t.Errorf("%d goroutines, and %d before", n, goroutines)
	}
	for end := time.Now().Add(patience); count() > files+10 && time.Now().Before(end); {
		runtime.GC() // with the race detector pools forget some pipes, which it closes
		time.Sleep(time.Millisecond)
	}
	if n := count(); n > files+10 {
		t.Errorf("%d descriptors, and %d before", n, files)
	}
}
