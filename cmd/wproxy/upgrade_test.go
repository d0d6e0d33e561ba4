package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
)

// startOrigin serves each connection with serve until the test ends, and
// returns its address.
func startOrigin(t *testing.T, serve func(c net.Conn, r *strict.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends when the listener is closed
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the proxy closes the connection, or serve does
				defer c.Close()
				serve(c, strict.NewReader(c))
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// staleOrigin answers the first request of a connection and closes it on the
// second, which it counts; an upgrade that comes first it accepts if asked to.
func staleOrigin(accepts bool, stale *atomic.Int64) func(net.Conn, *strict.Reader) {
	return func(c net.Conn, r *strict.Reader) {
		for n := range 2 {
			req, err := r.ReadHead()
			if err != nil {
				return
			}
			if n == 1 {
				stale.Add(1)
				return
			}
			if req.Fields.Get("upgrade") == "" {
				_, _ = c.Write(strict.Reply(200, "plain").Raw)
				continue
			}
			if accepts {
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n")
				_, _ = io.Copy(c, c)
			}
			return
		}
	}
}

// TestUpgradeOnStaleConnection: an upgrade on a connection that the upstream
// closes instead of answering is sent again on another one, or answered; it
// never hangs.
func TestUpgradeOnStaleConnection(t *testing.T) {
	for _, tt := range []struct {
		name, method string
		accepts      bool
		status       int
	}{
		{"sent again", "GET", true, 101},
		{"fails again", "GET", false, 502},
		{"not idempotent", "POST", true, 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stale atomic.Int64
			addr := startOrigin(t, staleOrigin(tt.accepts, &stale))
			in := startInstance(t, strings.ReplaceAll(hostileConfig, "@ORIGIN", addr))
			tries := 0
			for met := 0; met < 3; { // none leaves anything behind for the next
				if tries++; tries > 100 {
					t.Fatal("hardly any upgrade met a connection that had been used")
				}
				if got := in.get(t, "a.test", "/first"); got.Status != 200 {
					t.Fatalf("got %d, want 200", got.Status)
				}
				before := stale.Load()
				w := in.dial(t)
				if _, err := io.WriteString(w, msg(tt.method+" /tunnel HTTP/1.1", hostLine, "Connection: upgrade", "Upgrade: test")); err != nil {
					t.Fatal(err)
				}
				resp, err := w.r.ReadResponse(tt.method)
				if err != nil {
					t.Fatal(err)
				}
				if stale.Load() == before { // it was faster than the connection's way back into the pool
					_ = w.Close()
					continue
				}
				met++
				if resp.Status != tt.status {
					t.Fatalf("got %v; want %d", resp, tt.status)
				}
				if tt.status == 101 {
					if _, err := io.WriteString(w, "ping"); err != nil {
						t.Fatal(err)
					}
					buf := make([]byte, 4)
					if _, err := io.ReadFull(w.r.Buffered(), buf); err != nil || string(buf) != "ping" {
						t.Fatalf("tunnel: got %q, %v", buf, err)
					}
				}
				_ = w.Close()
			}
		})
	}
}

// TestTunnelIdleOfEachRoute: a tunnel that rests ends after its own route's
// time, whatever other routes say.
func TestTunnelIdleOfEachRoute(t *testing.T) {
	addr := startOrigin(t, staleOrigin(true, new(atomic.Int64)))
	in := startInstance(t, fmt.Sprintf(`
[listeners.http]
address = "@ADDR"
[admin]
address = "@ADMIN"
[log]
access = { to = "@ACCESS" }
[routes.short]
host = "short.test"
upstream = "o"
websocket.idle = "1s"
[routes.long]
host = "long.test"
upstream = "o"
websocket.idle = "0"
[upstreams.o]
servers = [%q]
`, addr))
	open := func(host string) *wire {
		w := in.dial(t)
		if _, err := io.WriteString(w, msg("GET /tunnel HTTP/1.1", "Host: "+host, "Connection: upgrade", "Upgrade: test")); err != nil {
			t.Fatal(err)
		}
		if resp, err := w.r.ReadResponse("GET"); err != nil || resp.Status != 101 {
			t.Fatalf("got %v, %v; want 101", resp, err)
		}
		return w
	}
	begun := time.Now() // not behind the 101, of which this side may hear late
	long, short := open("long.test"), open("short.test")
	if n, err := io.Copy(io.Discard, short.r.Buffered()); n > 0 || err != nil && !isClosed(err) {
		t.Errorf("got %d bytes, %v; want the end", n, err)
	}
	if took := time.Since(begun); took < 900*time.Millisecond {
		t.Errorf("it ended after %v", took)
	}
	if _, err := io.WriteString(long, "ping"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(long.r.Buffered(), buf); err != nil || string(buf) != "ping" {
		t.Errorf("the other route's tunnel: got %q, %v", buf, err)
	}
	_ = long.Close()
	in.stop(t)
	lines, err := os.ReadFile(in.access)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`"host":"short.test".*"status":101.*"reason":"tunnel_idle"`).Match(lines) {
		t.Errorf("the access log does not say why the tunnel has ended: %s", lines)
	}
}
