package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/core/certs"
	"wproxy/core/certs/certstest"
	"wproxy/core/filter"
	"wproxy/core/h1"
	"wproxy/core/listen"
	"wproxy/core/proxy"
	"wproxy/core/server"
)

// resting makes the connections of g's listeners rest soon.
func resting(g server.Generation, w *h1.Watcher) server.Generation {
	for i := range g.Listeners {
		g.Listeners[i].HTTP1.Watcher, g.Listeners[i].HTTP1.RestAfter = w, 5*time.Millisecond
	}
	return g
}

func newWatcher(t *testing.T) *h1.Watcher {
	t.Helper()
	w, err := h1.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// until waits until ok, and fails the test if it takes too long.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it takes too long: %s", what)
		}
	}
}

// asleep waits until no connection has a goroutine.
func asleep(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 16<<20)
	until(t, "coming to rest", func() bool {
		all := stacks[:runtime.Stack(stacks, true)]
		return !bytes.Contains(all, []byte("wproxy/core/server.(*door).serve")) && !bytes.Contains(all, []byte("wproxy/core/server.(*visit)"))
	})
}

// gone checks that the other end has closed.
func gone(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v, want the end", n, err)
	}
}

// TestRestMany: connections that rest have no goroutine, and are served all the same.
func TestRestMany(t *testing.T) {
	const n = 5000
	m := newMaker()
	s := m.start(t, resting(m.generation(t, "hello", nil, "a=127.0.0.1:0"), newWatcher(t)))
	at := address(t, s, "a")
	asleep(t)
	before := runtime.NumGoroutine()
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = dial(t, at)
		if i%2 == 0 {
			clients[i].get(t, "hello")
		}
	}
	until(t, "accepting", func() bool { return m.opened()["a"] == n })
	asleep(t)
	if more := runtime.NumGoroutine() - before; more > 10 {
		t.Errorf("%d goroutines for %d connections", more, n)
	}
	for i, c := range clients {
		switch i % 3 {
		case 0:
			_ = c.Close()
		case 1:
			c.get(t, "hello")
		}
	}
	until(t, "the end of a third", func() bool { return m.opened()["a"] == n-(n+2)/3 })
	if open, total := s.Listeners()[0].Open, s.Listeners()[0].Total; open != n-(n+2)/3 || total != n {
		t.Errorf("%d open of %d", open, total)
	}
}

// TestRestEnds: what ends connections that wait ends those that rest, at once.
func TestRestEnds(t *testing.T) {
	for _, secured := range []bool{false, true} {
		for name, end := range map[string]func(t *testing.T, m *maker, s *server.Server, w *h1.Watcher){
			"stop": func(t *testing.T, _ *maker, s *server.Server, _ *h1.Watcher) {
				if err := s.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			},
			"the listener is gone": func(t *testing.T, m *maker, s *server.Server, w *h1.Watcher) {
				if err := s.Reload(t.Context(), resting(m.generation(t, "two", nil, "b=127.0.0.1:0"), w)); err != nil {
					t.Error(err)
				}
			},
			"the listener has another name": func(t *testing.T, m *maker, s *server.Server, w *h1.Watcher) {
				g := resting(m.generation(t, "two", nil, "b="+address(t, s, "a")), w)
				if err := s.Reload(t.Context(), g); err != nil {
					t.Error(err)
				}
			},
			"leave, and no patience": func(t *testing.T, _ *maker, s *server.Server, _ *h1.Watcher) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := s.Leave(ctx); err != nil {
					t.Error(err)
				}
			},
		} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, secured), func(t *testing.T) {
				const n = 50
				m, w := newMaker(), newWatcher(t)
				g := resting(m.generation(t, "hello", nil, "a=127.0.0.1:0"), w)
				connect := func(at string) net.Conn { return dial(t, at) }
				if secured {
					ca := certstest.New(t, "ca")
					pair := ca.Server("a.example")
					cert, key := pair.Write(t, t.TempDir(), "a")
					secure(t, &g, certs.Pair{Cert: cert, Key: key})
					connect = func(at string) net.Conn {
						return tls.Client(dial(t, at), &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"})
					}
				}
				s := m.start(t, g)
				at := address(t, s, "a")
				clients := make([]net.Conn, n)
				for i := range clients {
					clients[i] = connect(at)
					if err := get(clients[i], bufio.NewReader(clients[i]), "a.example"); err != nil {
						t.Fatal(err)
					}
				}
				asleep(t)
				start := time.Now()
				end(t, m, s, w)
				for _, c := range clients {
					gone(t, c)
				}
				until(t, "the count", func() bool { return m.opened()["a"] == 0 })
				if took := time.Since(start); took > 15*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		}
	}
}

// TestRestLeave: when another process has the sockets, a connection that rests is answered
// once more.
func TestRestLeave(t *testing.T) {
	m := newMaker()
	s := m.start(t, resting(m.generation(t, "hello", nil, "a=127.0.0.1:0"), newWatcher(t)))
	c := dial(t, address(t, s, "a"))
	c.get(t, "hello")
	asleep(t)
	left := make(chan error, 1)
	go func() { left <- s.Leave(t.Context()) }() // ends with the connection
	until(t, "leaving", s.Draining)
	time.Sleep(20 * time.Millisecond)
	if c.get(t, "hello") {
		t.Error("the answer does not say that it is the last")
	}
	gone(t, c)
	if err := <-left; err != nil {
		t.Error(err)
	}
}

// TestRestReload: a connection that rests holds no generation, and its next request is served
// by the one that is there then.
func TestRestReload(t *testing.T) {
	m, w := newMaker(), newWatcher(t)
	s := m.start(t, resting(m.generation(t, "one", nil, "a=127.0.0.1:0"), w))
	c := dial(t, address(t, s, "a"))
	c.get(t, "one")
	asleep(t)
	if err := s.Reload(t.Context(), resting(m.generation(t, "two", nil, "a=127.0.0.1:0"), w)); err != nil {
		t.Fatal(err)
	}
	until(t, "release", func() bool { return m.released.Load() == 1 })
	c.get(t, "two")
	asleep(t)
	if want := map[string]int{"a": 1}; !maps.Equal(m.opened(), want) {
		t.Errorf("got %v, want %v", m.opened(), want)
	}
}

// TestRestCounts: a connection that rests counts against all limits until it ends.
func TestRestCounts(t *testing.T) {
	m := newMaker()
	o := m.options()
	var refused atomic.Int64
	o.TooMany = func(string) { refused.Add(1) }
	g := resting(m.generation(t, "hello", nil, "a=127.0.0.1:0", "b=127.0.0.1:0"), newWatcher(t))
	g.Listeners[0].PerClient, g.Listeners[1].Connections = 2, 2
	s, err := server.Start(t.Context(), o, g)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()

	at := address(t, s, "a")
	first, second := dial(t, at), dial(t, at)
	first.get(t, "hello")
	second.get(t, "hello")
	asleep(t)
	gone(t, dial(t, at))
	until(t, "refusing", func() bool { return refused.Load() == 1 })
	_ = first.Close()
	until(t, "the end of one", func() bool { return m.opened()["a"] == 1 })
	dial(t, at).get(t, "hello")

	at = address(t, s, "b")
	first, second = dial(t, at), dial(t, at)
	first.get(t, "hello")
	second.get(t, "hello")
	asleep(t)
	third := dial(t, at) // the kernel answers, nobody serves
	third.send(t)
	_ = third.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := third.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("beyond the cap: got %v, want a timeout", err)
	}
	_ = third.SetReadDeadline(time.Now().Add(patience))
	_ = first.Close()
	if body, _, err := third.receive(); body != "hello" || err != nil {
		t.Errorf("once there is room: %q, %v", body, err)
	}
}

// TestRestIdleTime: the time of a connection that rests is kept, and it is forgotten then.
func TestRestIdleTime(t *testing.T) {
	m := newMaker()
	g := resting(m.generation(t, "hello", nil, "a=127.0.0.1:0"), newWatcher(t))
	g.Listeners[0].HTTP1.Idle = 300 * time.Millisecond
	s := m.start(t, g)
	c := dial(t, address(t, s, "a"))
	start := time.Now() // not behind the answer: a client may hear of it late
	c.get(t, "hello")
	gone(t, c)
	if took := time.Since(start); took < 290*time.Millisecond || took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	until(t, "the end", func() bool { return s.Listeners()[0].Open == 0 && len(m.opened()) == 0 })
}

// TestRestProxied: a connection that began with a PROXY header is its client's after it has
// rested.
func TestRestProxied(t *testing.T) {
	m := newMaker()
	seen := make(chan string, 2)
	g := resting(m.generation(t, "hello", []filter.Factory{remote{seen}}, "a=127.0.0.1:0"), newWatcher(t))
	g.Listeners[0].Settings.Proxy = &listen.ProxyProtocol{Trust: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Timeout: 10 * time.Second}
	s := m.start(t, g)
	c := dial(t, address(t, s, "a"))
	if _, err := io.WriteString(c, "PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		time.Sleep(20 * time.Millisecond)
		asleep(t)
		c.get(t, "hello")
		if got := <-seen; got != "192.0.2.7:1234" {
			t.Errorf("got %s", got)
		}
	}
}

// remote is a filter that tells who the client is.
type remote struct{ seen chan string }

func (r remote) Name() string { return "remote" }

func (r remote) New(x *filter.Exchange) (filter.Filter, error) {
	r.seen <- x.Request.Conn.RemoteAddr
	return r, nil
}
func (r remote) Close(error)                             {}
func (r remote) Request(next requestSink) requestSink    { return next }
func (r remote) Response(next responseSink) responseSink { return next }

// TestRestHTTP2: a client of a port for both versions may come late with its preface.
func TestRestHTTP2(t *testing.T) {
	m := newMaker()
	s := m.start(t, resting(speaking(m.generation(t, "hello", nil, "a=127.0.0.1:0"), both), newWatcher(t)))
	c := dial(t, address(t, s, "a"))
	until(t, "accepting", func() bool { return m.opened()["a"] == 1 })
	asleep(t)
	if err := askH2(c); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	until(t, "the end", func() bool { return len(m.opened()) == 0 })
}

// TestRestPanic: a bug costs the connection that met it, after a rest, too.
func TestRestPanic(t *testing.T) {
	m := newMaker()
	g := resting(m.generation(t, "hello", nil, "a=127.0.0.1:0"), newWatcher(t))
	o := m.options()
	o.Refused = func(*proxy.Proxy, *h1.Refusal) { panic("a bug") }
	s, err := server.Start(t.Context(), o, g)
	if err != nil {
		t.Fatal(err)
	}
	at := address(t, s, "a")
	c, other := dial(t, at), dial(t, at)
	c.get(t, "hello")
	other.get(t, "hello")
	asleep(t)
	if _, err := io.WriteString(c, "no request\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, c) // an answer may have gone out
	until(t, "the end", func() bool { return m.opened()["a"] == 1 })
	m.mu.Lock()
	if m.panics != 1 {
		t.Errorf("%d panics reported, want 1", m.panics)
	}
	m.mu.Unlock()
	other.get(t, "hello")
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
