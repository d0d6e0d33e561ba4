package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"wproxy/cmd/wproxy/internal/strict"
)

// upgradeHead asks for an upgrade to the protocol "test".
var upgradeHead = msg("GET /tunnel HTTP/1.1", hostLine, "Connection: upgrade", "Upgrade: test")

// tunnelOrigin accepts upgrades and then sends back what it gets, in upper
// case. open counts its tunnels.
func tunnelOrigin(t *testing.T, open *atomic.Int64) *strict.Origin {
	t.Helper()
	return strict.NewOrigin(t, func(r *strict.Request) strict.Answer {
		if r.Target != "/tunnel" || r.Fields.Get("upgrade") == "" {
			return echo(r)
		}
		open.Add(1)
		const accepted = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\nHELLO "
		return strict.Answer{Raw: []byte(accepted), Then: func(c net.Conn, rest io.Reader) {
			defer open.Add(-1)
			buf := make([]byte, 1000)
			for {
				n, err := rest.Read(buf)
				if _, werr := c.Write([]byte(strings.ToUpper(string(buf[:n])))); err != nil || werr != nil {
					return
				}
			}
		}}
	})
}

// TestTunnel: after a 101 bytes pass both ways, also those sent too early, and
// the end of one direction does not end the other.
func TestTunnel(t *testing.T) {
	var open atomic.Int64
	origin := tunnelOrigin(t, &open)
	in := startInstance(t, strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr()))
	for _, early := range []string{"", smuggled} {
		w := in.dial(t)
		if _, err := io.WriteString(w, upgradeHead+early); err != nil {
			t.Fatal(err)
		}
		resp, err := w.r.ReadResponse("GET")
		if err != nil || resp.Status != 101 {
			t.Fatalf("got %d, %v; want 101", resp.Status, err)
		}
		if _, err := io.WriteString(w, "more"); err != nil {
			t.Fatal(err)
		}
		if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(w.r.Buffered())
		if want := "HELLO " + strings.ToUpper(early) + "MORE"; err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
		_ = w.Close()
	}
	// Clients and tunnels that end in the middle.
	for i := range 20 {
		w := in.dial(t)
		if _, err := io.WriteString(w, upgradeHead+"x"); err != nil {
			t.Fatal(err)
		}
		if resp, err := w.r.ReadResponse("GET"); err != nil || resp.Status != 101 {
			t.Fatalf("got %d, %v; want 101", resp.Status, err)
		}
		if i%2 == 0 {
			_ = w.Conn.(*net.TCPConn).SetLinger(0)
			_ = w.Close()
			continue
		}
		origin.CloseConns()
		_, _ = io.Copy(io.Discard, w)
		_ = w.Close()
	}
	strict.Eventually(t, "without tunnels", func() bool { return open.Load() == 0 })
	strict.Eventually(t, "without client connections", func() bool { return in.sum(t, "wproxy_connections") == 0 })
	complete, _, violations := origin.Take()
	for _, r := range complete {
		if r.Target == "/smuggled" {
			t.Error("bytes of a tunnel were taken for a request")
		}
	}
	if len(violations) > 0 {
		t.Errorf("the origin: %q", violations)
	}
}

// TestUpgradeThenGone: a client that asks for an upgrade and goes away before
// the answer leaves nothing behind.
func TestUpgradeThenGone(t *testing.T) {
	origin := newGoOrigin(t)
	in := origin.start(t, "")
	for i := range 40 {
		w := in.dial(t)
		field, arrived := origin.expect(fmt.Sprint(i))
		if _, err := io.WriteString(w, msg("GET /hang HTTP/1.1", hostLine, strings.TrimSpace(field), "Connection: upgrade", "Upgrade: test")); err != nil {
			t.Fatal(err)
		}
		tcp := w.Conn.(*net.TCPConn)
		switch i % 4 {
		case 0:
			_ = tcp.CloseWrite()
		case 1:
			_ = tcp.SetLinger(0)
			_ = w.Close()
		case 2:
			wait(t, "at the origin", arrived)
			_ = w.Close()
		default:
			_ = w.Close()
		}
	}
	strict.Eventually(t, "without requests to the origin", func() bool { return origin.active.Load() == 0 })
	strict.Eventually(t, "without client connections", func() bool { return in.sum(t, "wproxy_connections") == 0 })
}

// TestBadBodyIsTheClientsFault: however the two directions race, a request
// body that cannot be parsed is a 400.
func TestBadBodyIsTheClientsFault(t *testing.T) {
	origin := strict.NewOrigin(t, echo)
	in := startInstance(t, strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr()))
	var wg sync.WaitGroup
	for range 16 { // many at once, so that goroutines are held up in odd places
		wg.Go(func() { // ends with its requests
			for range 100 {
				badBody(t, in)
			}
		})
	}
	wg.Wait()
}

// badBody sends a request whose second chunk is none.
func badBody(t *testing.T, in *instance) {
	w := in.dial(t)
	defer w.Close()
	for _, part := range []string{chunked("5\r\nhello\r\n"), "x", "\r\n"} {
		if _, err := io.WriteString(w, part); err != nil {
			t.Error(err)
			return
		}
	}
	if resp, err := w.r.ReadResponse("POST"); err != nil || resp.Status != 400 {
		t.Errorf("got %d %q, %v; want 400", resp.Status, resp.Body, err)
	}
	w.wantClosed(t, "after the answer")
}

// TestEarlyAnswer: an origin that answers before it has the whole request
// answers that request and no other, and what it has not read yet is not the
// next request.
func TestEarlyAnswer(t *testing.T) {
	for _, closes := range []bool{false, true} {
		t.Run(fmt.Sprintf("closes=%v", closes), func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			var faults atomic.Int64
			go func() { // ends when the listener is closed
				defer close(done)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() { // ends when the proxy closes the connection
						defer c.Close()
						serveEarly(c, closes, &faults)
					}()
				}
			}()
			defer func() { <-done }()
			defer l.Close()
			in := startInstance(t, strings.ReplaceAll(hostileConfig, "@ORIGIN", l.Addr().String()))
			for _, rest := range []string{"", strings.Repeat("x", 1000), smuggled + strings.Repeat("x", 900), strings.Repeat("x", 100_000)} {
				w := in.dial(t)
				head := fmt.Sprintf("POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", len(rest)+2)
				if _, err := io.WriteString(w, head+"ab"); err != nil {
					t.Fatal(err)
				}
				resp, err := w.r.ReadResponse("POST")
				if err != nil || string(resp.Body) != "POST /early" {
					t.Errorf("got %d %q, %v", resp.Status, resp.Body, err)
				}
				_, _ = io.WriteString(w, rest) // or it is closed: both are right
				for range 3 {
					if got := in.get(t, "a.test", "/next"); string(got.Body) != "GET /next" {
						t.Errorf("the next request got %d %q", got.Status, got.Body)
					}
				}
				_ = w.Close()
			}
			if n := faults.Load(); n > 0 {
				t.Errorf("%d requests to the origin were not well formed", n)
			}
		})
	}
}

// serveEarly answers each request when it has seen its head.
func serveEarly(c net.Conn, closes bool, faults *atomic.Int64) {
	r := strict.NewReader(c)
	for {
		req, err := r.ReadHead()
		if err != nil {
			if _, ok := err.(*strict.Violation); ok { //nolint:errorlint // never wrapped
				faults.Add(1)
			}
			return
		}
		body := req.Method + " " + req.Target
		if _, err := c.Write(strict.Reply(200, body).Raw); err != nil {
			return
		}
		if closes && req.Method == "POST" {
			return
		}
		if err := r.ReadBody(req); err != nil {
			return
		}
	}
}

// TestPluginReplyLeavesNoBody: after a plugin's own answer the body of the
// request is drained or the connection closed, never parsed as a request.
func TestPluginReplyLeavesNoBody(t *testing.T) {
	needBuiltins(t)
	origin := strict.NewOrigin(t, echo)
	toml := strings.Replace(strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr()), "[routes.denied]", "use = [\"limit\"]\n[routes.denied]", 1)
	in := startInstance(t, toml+`
[plugins.limit]
wasm = "builtin:ratelimit"
config = { rate = "1/h", burst = 1, key = "client-ip" }
`)
	in.get(t, "a.test", "/first")
	for name, s := range map[string]string{
		"length":  post(smuggled, "Content-Length: 40"),
		"chunked": chunked("28\r\n" + smuggled + "\r\n0\r\n\r\n"),
		"slow":    post("", "Content-Length: 40"),
	} {
		w := in.dial(t)
		if _, err := io.WriteString(w, s); err != nil {
			t.Fatal(err)
		}
		if resp, err := w.r.ReadResponse("POST"); err != nil || resp.Status != 429 {
			t.Errorf("%s: got %d, %v; want 429", name, resp.Status, err)
		}
		if name == "slow" {
			_, _ = io.WriteString(w, smuggled) // or it is closed
		}
		// The next answer, if there is one, is to this and no other.
		if _, err := io.WriteString(w, msg("HEAD /next HTTP/1.1", "Host: nowhere.test")); err == nil {
			if resp, err := w.r.ReadResponse("HEAD"); err == nil && resp.Status != 404 {
				t.Errorf("%s: the next request got %d", name, resp.Status)
			}
		}
		_ = w.Close()
	}
	complete, partial, violations := origin.Take()
	if len(complete) != 1 || len(partial)+len(violations) > 0 {
		t.Errorf("the origin has seen %v, %v, %q; want /first alone", complete, partial, violations)
	}
}
