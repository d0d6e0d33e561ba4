package listen

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
)

// TestMain fails when goroutines of this package outlive the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	for range 100 {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		if bytes.Count(buf, []byte("wproxy/core/listen.(")) == 0 {
			os.Exit(code)
		}
		time.Sleep(10 * time.Millisecond)
	}
	_, _ = os.Stderr.WriteString("goroutines were left behind\n")
	os.Exit(1)
}

// echo serves a connection by sending back what it reads.
func echo(_ context.Context, c net.Conn, _ *exchange.Conn) { _, _ = io.Copy(c, c) }

// stays is Options.Serve with a goroutine to the end.
func stays(serve func(context.Context, net.Conn, *exchange.Conn)) func(context.Context, net.Conn, *exchange.Conn, func()) bool {
	return func(ctx context.Context, c net.Conn, f *exchange.Conn, _ func()) bool {
		serve(ctx, c, f)
		return false
	}
}

// start binds and starts a listener that the test's end closes.
func start(t *testing.T, o Options) *Listener {
	t.Helper()
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	l, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l.Start()
	t.Cleanup(func() {
		l.Abort()
		if err := l.Wait(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ping writes a byte and waits for it to come back.
func ping(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestFacts(t *testing.T) {
	type seen struct {
		facts exchange.Conn
		ctx   error
	}
	got := make(chan seen, 2)
	serve := func(ctx context.Context, c net.Conn, f *exchange.Conn) { got <- seen{*f, ctx.Err()} }
	l := start(t, Options{Name: "front", Serve: stays(serve)})
	for id := uint64(1); id <= 2; id++ {
		c := dial(t, l)
		s := <-got
		local, remote := l.Addr().String(), c.LocalAddr().String()
		want := exchange.Conn{
			ID: id, Listener: "front",
			Remote: netip.MustParseAddrPort(remote), Local: netip.MustParseAddrPort(local),
			RemoteIP: "127.0.0.1", RemoteAddr: remote, LocalAddr: local,
		}
		if s.facts != want {
			t.Errorf("got %+v, want %+v", s.facts, want)
		}
		if s.ctx != nil {
			t.Errorf("context of a live connection: %v", s.ctx)
		}
	}
}

// TestMapped checks that a client of an any-address socket counts as IPv4.
func TestMapped(t *testing.T) {
	a := addrPort(&net.TCPAddr{IP: net.ParseIP("::ffff:10.1.2.3"), Port: 7})
	if want := netip.MustParseAddrPort("10.1.2.3:7"); a != want {
		t.Errorf("got %v, want %v", a, want)
	}
}

func TestConnectionCap(t *testing.T) {
	l := start(t, Options{Connections: 1, Serve: stays(echo)})
	first := dial(t, l)
	ping(t, first)

	second := dial(t, l) // the kernel answers, nobody serves
	if _, err := second.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	_ = second.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("second connection beyond the cap: got %v, want a timeout", err)
	}
	if open, total := l.Open(); open != 1 || total != 1 {
		t.Errorf("got %d open of %d, want 1 of 1", open, total)
	}
	_ = first.Close()
	_ = second.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(second, make([]byte, 1)); err != nil {
		t.Fatalf("second connection once there is room: %v", err)
	}

	third := dial(t, l)
	l.SetConnections(2)
	ping(t, third)
}

func TestCloseKeepsConnections(t *testing.T) {
	l := start(t, Options{Serve: stays(echo)})
	c := dial(t, l)
	ping(t, c)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { _ = l.Close() })
	}
	wg.Wait()
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("a closed listener accepts")
	}
	ping(t, c)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with a connection open: got %v", err)
	}
	_ = c.Close()
	if err := l.Wait(t.Context()); err != nil {
		t.Errorf("Wait: %v", err)
	}
	if open, _ := l.Open(); open != 0 {
		t.Errorf("%d connections open, want 0", open)
	}
}

func TestAbort(t *testing.T) {
	ended := make(chan error, 1)
	l := start(t, Options{Serve: stays(func(ctx context.Context, c net.Conn, _ *exchange.Conn) {
		_, _ = c.Write([]byte("half an ans"))
		_, _ = io.Copy(io.Discard, c)
		ended <- ctx.Err()
	})})
	c := dial(t, l)
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	l.Abort()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("context after Abort: got %v, want canceled", err)
	}
	_, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a cut answer ended with %v, want a reset", err)
	}
}

// TestHangUp checks that reads end while the connection can still be written to.
func TestHangUp(t *testing.T) {
	l := start(t, Options{Serve: stays(func(ctx context.Context, c net.Conn, _ *exchange.Conn) {
		_, err := io.Copy(io.Discard, c)
		if err == nil && ctx.Err() != nil {
			_, _ = c.Write([]byte("bye"))
		}
	})})
	c := dial(t, l)
	if _, err := c.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	for open, _ := l.Open(); open == 0; open, _ = l.Open() {
		time.Sleep(time.Millisecond) // polling
	}
	l.HangUp()
	if b, err := io.ReadAll(c); string(b) != "bye" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if err := l.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCloseBeforeStart(t *testing.T) {
	l, err := Listen(t.Context(), Options{Address: "127.0.0.1:0", Serve: stays(echo)})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	l.Start()
	if err := l.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestListenErrors(t *testing.T) {
	taken := start(t, Options{Serve: stays(echo)})
	for _, tt := range []struct{ name, address, want string }{
		{"taken", taken.Addr().String(), "address already in use"},
		{"no port", "127.0.0.1", "missing port in address"},
		{"not ours", "192.0.2.1:1", "cannot assign requested address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Listen(t.Context(), Options{Name: "web", Address: tt.address, Serve: stays(echo)})
			if err == nil {
				_ = l.Close()
				t.Fatal("got no error")
			}
			want := `listener "web": cannot listen on ` + tt.address + ": "
			if got := err.Error(); !strings.HasPrefix(got, want) || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q... %q", got, want, tt.want)
			}
		})
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	facts := make(chan exchange.Conn, 1)
	o := Options{Address: "unix:" + path, Serve: stays(func(_ context.Context, c net.Conn, f *exchange.Conn) {
		facts <- *f
		_, _ = io.Copy(c, c)
	})}

	// What a process that was killed leaves behind.
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ul, ok := dead.(*net.UnixListener)
	if !ok {
		t.Fatalf("got a %T", dead)
	}
	ul.SetUnlinkOnClose(false)
	_ = ul.Close()

	l := start(t, o)
	c := dial(t, l)
	ping(t, c)
	if f := <-facts; f.RemoteIP != "127.0.0.1" || f.LocalAddr != "unix:"+path {
		t.Errorf("got remote %s local %s", f.RemoteIP, f.LocalAddr)
	}
	if _, err := Listen(t.Context(), o); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener on a live socket: got %v, want address in use", err)
	}
	ping(t, c)
}

// failing is a net.Listener whose Accept fails n times before it is closed.
type failing struct {
	net.Listener
	n      int
	closed chan struct{}
}

func (f *failing) Accept() (net.Conn, error) {
	if f.n--; f.n < 0 {
		<-f.closed
		return nil, net.ErrClosed
	}
	return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
}

func (f *failing) Close() error { close(f.closed); return nil }

func TestAcceptBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const failures = 12
		var pauses []time.Duration
		l := newListener(t.Context(), Options{AcceptError: func(err error, pause time.Duration) {
			if !errors.Is(err, syscall.EMFILE) {
				t.Errorf("got %v", err)
			}
			pauses = append(pauses, pause)
		}}, &failing{n: failures, closed: make(chan struct{})})
		l.Start()
		time.Sleep(time.Hour)
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if len(pauses) != failures {
			t.Fatalf("got %d pauses, want %d", len(pauses), failures)
		}
		for i, p := range pauses {
			if want := min(acceptBackoffMin<<i, acceptBackoffMax); p != want {
				t.Errorf("pause %d: got %v, want %v", i, p, want)
			}
		}
		l.cancel()
	})
}

// TestCloseEndsBackoff checks that a pause does not hold Close up.
func TestCloseEndsBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener(t.Context(), Options{}, &failing{n: 1 << 30, closed: make(chan struct{})})
		l.Start()
		time.Sleep(10 * time.Second) // pauses are a second long by now
		start := time.Now()
		_ = l.Close()
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v", d)
		}
		l.cancel()
	})
}

// TestHammer opens, caps and closes from all sides at once, for the race detector.
func TestHammer(t *testing.T) {
	l := start(t, Options{Connections: 3, Serve: stays(echo)})
	end := time.Now().Add(100 * time.Millisecond)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for time.Now().Before(end) {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write([]byte{1})
				_ = c.SetReadDeadline(end)
				_, _ = c.Read(make([]byte, 1))
				_ = c.Close()
				l.SetConnections(1 + i)
				l.Open()
			}
		})
	}
	wg.Wait()
}

// TestPerClient: a client with as many connections as it may have gets no more, one
// that has closed some does, and others do not notice.
func TestPerClient(t *testing.T) {
	t.Parallel()
	refused := make(chan struct{}, 100)
	l := start(t, Options{Name: "l", PerClient: 2, Serve: stays(echo), TooMany: func() { refused <- struct{}{} }})
	dial := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
		c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Skipf("no connections from %s here: %v", from, err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	served := func(c net.Conn) bool {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, err := c.Write([]byte("x"))
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		return err == nil
	}
	a, b := dial("127.0.0.1"), dial("127.0.0.1")
	if !served(a) || !served(b) {
		t.Fatal("the first two are not served")
	}
	if served(dial("127.0.0.1")) {
		t.Error("a third is served")
	}
	<-refused
	if open, total := l.Open(); open != 2 || total != 2 {
		t.Errorf("%d of %d are open, want 2 of 2", open, total)
	}
	if !served(dial("127.0.0.2")) {
		t.Error("another client is not served")
	}
	_ = a.Close()
	for begin := time.Now(); !served(dial("127.0.0.1")); { // the end of a takes a moment
		if time.Since(begin) > 5*time.Second {
			t.Fatal("not served although another connection was closed")
		}
	}
	l.SetPerClient(1, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")})
	for range 5 {
		if !served(dial("127.0.0.1")) {
			t.Error("a peer that speaks for others is not served")
		}
	}
	if served(dial("127.0.0.2")) {
		t.Error("the new limit has no effect")
	}
	l.SetPerClient(0, nil)
	if !served(dial("127.0.0.2")) {
		t.Error("without a limit one is not served")
	}
}

// TestClientsAreForgotten: who has no connection is not kept.
func TestClientsAreForgotten(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Name: "l", Serve: stays(func(context.Context, net.Conn, *exchange.Conn) {})})
	for range 20 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		n := len(l.clients)
		l.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Since(begin) > 5*time.Second {
			t.Fatalf("%d clients are kept", n)
		}
	}
}

func TestClientKey(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.0.2.1":               "192.0.2.1",
		"::ffff:192.0.2.1":        "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":    "2001:db8:1:2::",
		"2001:db8:1:2::":          "2001:db8:1:2::",
		"fe80::1%eth0":            "fe80::",
		"2001:db8:1:3:ffff:4:5:6": "2001:db8:1:3::",
	} {
		if got := ClientKey(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	if ClientKey(netip.Addr{}).IsValid() {
		t.Error("no address has become one")
	}
}

// TestPerClientUnix: peers of a unix socket have no address, and no limit.
func TestPerClientUnix(t *testing.T) {
	t.Parallel()
	l := start(t, Options{Name: "l", Address: "unix:" + filepath.Join(t.TempDir(), "s"), PerClient: 1, Serve: stays(echo)})
	for range 3 {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}
