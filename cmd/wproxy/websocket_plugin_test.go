package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"wproxy/abi"
	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/host/wasmtest"
)

// tunnelGuest is a plugin that marks the handshake both ways and whose body callbacks put
// a Z over the first byte that a client says, or hold everything back.
func tunnelGuest(holds bool) []byte {
	g := wasmtest.NewGuest()
	add := g.Env(abi.ImportAddHeaderMapValue, "iiiii>i")
	mark := func(kind int32) []wasmtest.Instr {
		return []wasmtest.Instr{wasmtest.Call(add, wasmtest.I32(kind), g.Str("x-guest"), g.Str("seen")), wasmtest.Drop(), wasmtest.I32(0)}
	}
	g.Func("proxy_on_request_headers", "iii>i", mark(0)...)
	g.Func("proxy_on_response_headers", "iii>i", mark(2)...)
	if holds {
		g.Func("proxy_on_request_body", "iii>i", wasmtest.I32(1))
		return g.Bytes()
	}
	set := g.Env(abi.ImportSetBufferBytes, "iiiii>i")
	g.Func("proxy_on_request_body", "iii>i",
		wasmtest.Call(set, wasmtest.I32(0), wasmtest.I32(0), wasmtest.I32(1), g.Str("Z")), wasmtest.Drop(), wasmtest.I32(0))
	return g.Bytes()
}

// TestTunnelPlugins: plugins see the handshake, both ways; those with body callbacks see
// the bytes of the tunnel, as they come, and one that holds them back may do so as far as
// its buffer goes.
func TestTunnelPlugins(t *testing.T) {
	dir := t.TempDir()
	for name, holds := range map[string]bool{"sees": false, "holds": true} {
		if err := os.WriteFile(filepath.Join(dir, name+".wasm"), tunnelGuest(holds), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var heads []string
	addr := startOrigin(t, func(c net.Conn, r *strict.Reader) {
		req, err := r.ReadHead()
		if err != nil {
			return
		}
		mu.Lock()
		heads = append(heads, req.Fields.Get("x-guest"))
		mu.Unlock()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n")
		_, _ = io.Copy(c, r.Buffered())
	})
	in := startInstance(t, reloadTunnelConfig(addr, fmt.Sprintf(`
[routes.sees]
host = "sees.test"
upstream = "o"
use = ["sees"]
[routes.holds]
host = "holds.test"
upstream = "o"
use = ["holds"]
[plugins.sees]
wasm = %q
[plugins.holds]
wasm = %q
sandbox.body_buffer = "1KiB"`, filepath.Join(dir, "sees.wasm"), filepath.Join(dir, "holds.wasm")), ""))
	for _, host := range []string{"sees.test", "holds.test"} {
		w := in.dial(t)
		if _, err := io.WriteString(w, msg("GET /tunnel HTTP/1.1", "Host: "+host, "Connection: upgrade", "Upgrade: test")); err != nil {
			t.Fatal(err)
		}
		resp, err := w.r.ReadResponse("GET")
		if err != nil || resp.Status != 101 || resp.Fields.Get("x-guest") != "seen" {
			t.Fatalf("%s: got %v, %v; want 101 with the plugin's field", host, resp, err)
		}
		if host == "sees.test" {
			if _, err := io.WriteString(w, "hello"); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 5)
			if _, err := io.ReadFull(w.r.Buffered(), buf); err != nil || string(buf) != "Zello" {
				t.Errorf("got %q, %v; want what the plugin makes of it", buf, err)
			}
			_ = w.Close()
			continue
		}
		for range 20 {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 100)); err != nil {
				break // it has been closed
			}
		}
		w.ends(t)
	}
	mu.Lock()
	if !slices.Equal(heads, []string{"seen", "seen"}) {
		t.Errorf("the upstream has seen %q", heads)
	}
	mu.Unlock()
	if log := strings.Join(in.accessLines(t), "\n"); !regexp.MustCompile(`"host":"holds.test".*"status":101.*"reason":"[^"]+"`).MatchString(log) {
		t.Errorf("the access log does not say why the tunnel has ended: %s", log)
	}
}

// TestTunnelHoldsPlace: a tunnel is a request in flight for as long as it is open, past the plugin that
// limits them and through reloads.
func TestTunnelHoldsPlace(t *testing.T) {
	needBuiltins(t)
	in := startInstance(t, reloadTunnelConfig(tunnelOriginAddr(t), `
[routes.limited]
host = "limited.test"
upstream = "o"
use = ["limit"]
[plugins.limit]
wasm = "builtin:ratelimit"
config = { key = "global", concurrency = 1 }`, ""))
	w := tunnelOf(t, in, "limited.test")
	for range 2 {
		if resp := in.get(t, "limited.test", "/"); resp.Status != 429 {
			t.Errorf("beside a tunnel: got %d, want 429", resp.Status)
		}
		in.reload(t)
	}
	if err := w.echoes("limited"); err != nil {
		t.Error(err)
	}
	_ = w.Close()
	strict.Eventually(t, "with the place of a tunnel that has ended", func() bool { return in.get(t, "limited.test", "/").Status != 429 })
}

// TestUpgradeAnswers: only a 101 to what was asked for makes a tunnel.
func TestUpgradeAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		asks         bool
		status       int
	}{
		{"nobody asked", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n", false, 502},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n", true, 502},
		{"no protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n", true, 502},
		{"not nominated", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\n\r\n", true, 502},
		{"another case", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: TEST\r\n\r\n", true, 101},
		{"refused", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true, 200},
		{"another way", "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: other\r\nContent-Length: 0\r\n\r\n", true, 426},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := startOrigin(t, func(c net.Conn, r *strict.Reader) {
				for i := 0; ; i++ {
					req, err := r.ReadHead()
					if err != nil {
						return
					}
					if req.Target == "/next" {
						_, _ = c.Write(strict.Reply(200, "next").Raw)
						continue
					}
					_, _ = io.WriteString(c, tt.answer)
					if tt.status == 101 {
						_, _ = io.Copy(c, r.Buffered())
						return
					}
					if tt.status == 502 { // an upstream that believes in a tunnel
						_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
					}
				}
			})
			in := startInstance(t, reloadTunnelConfig(addr, "", ""))
			w := in.dial(t)
			lines := []string{"GET /tunnel HTTP/1.1", "Host: kept.test"}
			if tt.asks {
				lines = append(lines, "Connection: upgrade", "Upgrade: test")
			}
			if _, err := io.WriteString(w, msg(lines...)); err != nil {
				t.Fatal(err)
			}
			if resp, err := w.r.ReadResponse("GET"); err != nil || resp.Status != tt.status {
				t.Fatalf("got %v, %v; want %d", resp, err, tt.status)
			}
			if tt.status == 101 {
				if err := w.echoes("hello"); err != nil {
					t.Error(err)
				}
				return
			}
			// The next request is one, on this connection and on others.
			for _, v := range []*wire{w, in.dial(t)} {
				if _, err := io.WriteString(v, msg("GET /next HTTP/1.1", "Host: kept.test")); err != nil {
					t.Fatal(err)
				}
				if resp, err := v.r.ReadResponse("GET"); err != nil || string(resp.Body) != "next" {
					t.Errorf("the next request: got %v, %v", resp, err)
				}
			}
		})
	}
}
