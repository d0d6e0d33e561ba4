package listen

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wproxy/core/exchange"
)

// option returns an option of a socket, as the kernel has it.
func option(t *testing.T, c any, level, name int) (value int) {
	t.Helper()
	onSocket(t, c, func(fd int) (err error) {
		value, err = unix.GetsockoptInt(fd, level, name)
		return err
	})
	return value
}

// queued returns how many connections a listening socket queues: tcp_diag(7) and TCP_INFO
// have it where other sockets have their SACKs.
func queued(t *testing.T, ln net.Listener) (n int) {
	t.Helper()
	onSocket(t, ln, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = int(info.Sacked)
		}
		return err
	})
	return n
}

func onSocket(t *testing.T, c any, f func(fd int) error) {
	t.Helper()
	sc, ok := c.(syscall.Conn)
	if !ok {
		t.Fatalf("%T is no socket", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
}

type socketValues struct{ noDelay, keepAlive, idle, interval, count int }

// TestSocket: options are what the kernel has, and a reload changes them for new connections.
func TestSocket(t *testing.T) {
	accepted := make(chan net.Conn)
	l := start(t, Options{Serve: stays(func(_ context.Context, c net.Conn, _ *exchange.Conn) {
		accepted <- c
		_, _ = io.Copy(io.Discard, c)
	})})
	standard := queued(t, l.ln)
	for _, tt := range []struct {
		name    string
		s       Socket
		want    socketValues
		backlog int
	}{
		{"default", Socket{}, socketValues{1, 1, 15, 15, 9}, standard},
		{"keep-alive", Socket{KeepAlive: KeepAlive{Idle: time.Minute, Interval: 5 * time.Second, Count: 3}}, socketValues{1, 1, 60, 5, 3}, standard},
		{"one of its times", Socket{KeepAlive: KeepAlive{Interval: time.Second}}, socketValues{1, 1, 15, 1, 9}, standard},
		{"no keep-alive", Socket{NoKeepAlive: true}, socketValues{noDelay: 1}, standard},
		{"delay", Socket{Delay: true}, socketValues{0, 1, 15, 15, 9}, standard},
		{"backlog", Socket{Backlog: 7}, socketValues{1, 1, 15, 15, 9}, 7},
		{"backlog as it was", Socket{}, socketValues{1, 1, 15, 15, 9}, standard},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l.SetSettings(Settings{Socket: tt.s})
			dial(t, l)
			c := <-accepted
			got := socketValues{
				noDelay:   option(t, c, unix.IPPROTO_TCP, unix.TCP_NODELAY),
				keepAlive: option(t, c, unix.SOL_SOCKET, unix.SO_KEEPALIVE),
			}
			if got.keepAlive != 0 {
				got.idle = option(t, c, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
				got.interval = option(t, c, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
				got.count = option(t, c, unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if n := queued(t, l.ln); n != tt.backlog {
				t.Errorf("the kernel queues %d, want %d", n, tt.backlog)
			}
		})
	}
}

// TestInheritedSocket: options are those of who serves, and not of who has opened the socket.
func TestInheritedSocket(t *testing.T) {
	standard := queued(t, start(t, Options{Serve: stays(echo)}).ln)
	for _, tt := range []struct {
		name    string
		foreign bool
		backlog int
		want    int
	}{
		{"backlog", false, 9, 9},
		{"foreign, backlog", true, 9, 9},
		{"no backlog", false, 0, standard},
		{"foreign, no backlog", true, 0, 5}, // a service manager's choice
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, err := Listen(t.Context(), Options{Address: "127.0.0.1:0", Serve: stays(echo), Settings: Settings{Socket: Socket{Backlog: 5}}})
			if err != nil {
				t.Fatal(err)
			}
			f, err := before.File()
			if err != nil {
				t.Fatal(err)
			}
			_ = before.Leave()
			socket, err := net.FileListener(f)
			_ = f.Close()
			if err != nil {
				t.Fatal(err)
			}
			accepted := make(chan net.Conn, 1)
			l := start(t, Options{
				Socket: socket, Foreign: tt.foreign, Settings: Settings{Socket: Socket{Backlog: tt.backlog, NoKeepAlive: true}},
				Serve: stays(func(_ context.Context, c net.Conn, _ *exchange.Conn) {
					accepted <- c
					_, _ = io.Copy(io.Discard, c)
				}),
			})
			dial(t, l)
			if option(t, <-accepted, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0 {
				t.Error("keep-alive is on")
			}
			if n := queued(t, l.ln); n != tt.want {
				t.Errorf("the kernel queues %d, want %d", n, tt.want)
			}
		})
	}
}

// TestReusePort: who shares a port has to say so, on both sides.
func TestReusePort(t *testing.T) {
	shared := Settings{Socket: Socket{ReusePort: true, Backlog: 9}}
	a := start(t, Options{Serve: stays(echo), Settings: shared})
	if option(t, a.ln, unix.SOL_SOCKET, unix.SO_REUSEPORT) != 1 || queued(t, a.ln) != 9 {
		t.Error("the options are not set")
	}
	address := a.Addr().String()
	if l, err := Listen(t.Context(), Options{Address: address, Serve: stays(echo)}); err == nil {
		_ = l.Close()
		t.Fatal("one that does not share has got the port")
	}
	b := start(t, Options{Address: address, Serve: stays(echo), Settings: shared})
	for range 1000 { // by a hash of the addresses: each has its share
		ping(t, dial(t, a))
		_, atA := a.Open()
		_, atB := b.Open()
		if atA > 0 && atB > 0 {
			return
		}
	}
	t.Error("all connections went to one of them")
}

// TestInherited: a socket of another process is made what the options say when it is used, and
// not before: until then it is the other one's. A service manager's own length stays.
func TestInherited(t *testing.T) {
	for _, tt := range []struct {
		name           string
		foreign        bool
		backlog, queue int
	}{
		{"from another wproxy", false, 5, 5},
		{"by default", false, 0, -1},
		{"from a service manager", true, 5, 5},
		{"as it has made it", true, 0, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bound, err := bind(t.Context(), "127.0.0.1:0", &Socket{Backlog: 3})
			if err != nil {
				t.Fatal(err)
			}
			l, err := Listen(t.Context(), Options{Socket: bound, Foreign: tt.foreign, Serve: stays(echo), Settings: Settings{Socket: Socket{Backlog: tt.backlog}}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if n := queued(t, l.ln); n != 3 {
				t.Errorf("before it is used the kernel queues %d, want 3 as ever", n)
			}
			l.Start()
			if n := queued(t, l.ln); n != tt.queue && (tt.queue >= 0 || n <= 7) {
				t.Errorf("the kernel queues %d, want %d", n, tt.queue)
			}
		})
	}
	for _, shares := range []bool{true, false} {
		l := start(t, Options{Serve: stays(echo), Settings: Settings{Socket: Socket{ReusePort: shares}}})
		if got := SharesPort(l.ln); got != shares {
			t.Errorf("shares its port: %v, want %v", got, shares)
		}
	}
}
