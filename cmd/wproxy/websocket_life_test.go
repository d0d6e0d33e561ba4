package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"wproxy/cmd/wproxy/internal/strict"
)

// TestWebSocketThousand: a thousand at the same time, each with its own messages, and
// nothing is left of them.
func TestWebSocketThousand(t *testing.T) {
	o := newWSOrigin(t)
	in := startInstance(t, o.config())
	ctx := wsContext(t)
	all := 1000
	if raceDetector {
		all = 200 // a close has five seconds, for client and server here
	}
	conns := make([]*websocket.Conn, all)
	for i := range conns {
		conns[i], _ = wsDial(ctx, t, in, nil)
	}
	if got := in.sum(t, "wproxy_tunnels"); got != float64(all) {
		t.Errorf("%v tunnels are counted, want %d", got, all)
	}
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() { // ends with its messages
			for n := range 3 {
				if err := wsRound(ctx, c, websocket.MessageText, fmt.Appendf(nil, "%d of %d", n, i)); err != nil {
					t.Errorf("%d: %v", i, err)
					return
				}
			}
			if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Errorf("%d: close: %v", i, err)
			}
		})
	}
	wg.Wait()
	strict.Eventually(t, "without tunnels", func() bool { return o.open.Load() == 0 && in.sum(t, "wproxy_tunnels") == 0 })
	lines := slices.DeleteFunc(in.accessLines(t), func(l string) bool { return !strings.Contains(l, `"path":"/chat"`) })
	bad := slices.IndexFunc(lines, func(l string) bool {
		return !regexp.MustCompile(`"status":101,"bytes_in":[1-9][0-9]*,"bytes_out":[1-9][0-9]*,`).MatchString(l) || strings.Contains(l, `"reason"`)
	})
	if len(lines) != all || bad >= 0 {
		t.Errorf("%d lines in the access log, want %d; the first that is wrong: %q", len(lines), all, lines[max(bad, 0)])
	}
}

// TestWebSocketVanish: an end that goes without a word takes the other with it, whether
// it closes or resets.
func TestWebSocketVanish(t *testing.T) {
	o := newWSOrigin(t)
	in := startInstance(t, o.config())
	ctx := wsContext(t)
	for i := range 20 {
		c, _ := wsDial(ctx, t, in, nil)
		if err := wsRound(ctx, c, websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			_ = c.CloseNow()
			continue
		}
		if err := c.Write(ctx, websocket.MessageText, []byte("vanish")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Read(ctx); err == nil || websocket.CloseStatus(err) != -1 {
			t.Errorf("got %v, want an end without a close frame", err)
		}
		_ = c.CloseNow()
	}
	strict.Eventually(t, "without WebSockets", func() bool { return o.open.Load() == 0 })
	strict.Eventually(t, "without client connections", func() bool { return in.sum(t, "wproxy_connections") == 0 })
}

// tunnelOf opens a tunnel as bytes, on a host.
func tunnelOf(t *testing.T, in *instance, host string) *wire {
	t.Helper()
	w := in.dial(t)
	if _, err := io.WriteString(w, msg("GET /tunnel HTTP/1.1", "Host: "+host, "Connection: upgrade", "Upgrade: test")); err != nil {
		t.Fatal(err)
	}
	if resp, err := w.r.ReadResponse("GET"); err != nil || resp.Status != 101 {
		t.Fatalf("%s: got %v, %v; want 101", host, resp, err)
	}
	return w
}

// echoes reports whether a tunnel sends back what it gets.
func (w *wire) echoes(s string) error {
	if _, err := io.WriteString(w, s); err != nil {
		return err
	}
	buf := make([]byte, len(s))
	if _, err := io.ReadFull(w.r.Buffered(), buf); err != nil {
		return err
	}
	if string(buf) != s {
		return fmt.Errorf("got %q, want %q", buf, s)
	}
	return nil
}

// ends waits for the end of a tunnel that says nothing more.
func (w *wire) ends(t *testing.T) {
	t.Helper()
	if n, err := io.Copy(io.Discard, w.r.Buffered()); n > 0 || !isClosed(err) {
		t.Errorf("got %d bytes, %v; want the end", n, err)
	}
}

// tunnelOriginAddr is an upstream that accepts every upgrade and echoes.
func tunnelOriginAddr(t *testing.T) string {
	t.Helper()
	return startOrigin(t, func(c net.Conn, r *strict.Reader) {
		if _, err := r.ReadHead(); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n")
		_, _ = io.Copy(c, r.Buffered())
	})
}

// reloadTunnelConfig has three routes with tunnels.
func reloadTunnelConfig(addr, changing, server string) string {
	return fmt.Sprintf(`
[listeners.http]
address = "@ADDR"
[admin]
address = "@ADMIN"
[log]
access = { to = "@ACCESS" }
[server]
drain = "3s"
[routes.kept]
host = "kept.test"
upstream = "o"
[routes.moved]
host = "moved.test"
upstream = "p"
%s
[upstreams.o]
servers = [%q]
[upstreams.p]
servers = [%q]
%s
`, changing, addr, addr, server)
}

// TestTunnelsSurviveReloads: a reload leaves tunnels alone unless it changes or removes
// their route; then they have server.drain to end by themselves.
func TestTunnelsSurviveReloads(t *testing.T) {
	addr := tunnelOriginAddr(t)
	in := startInstance(t, reloadTunnelConfig(addr, `
[routes.changed]
host = "changed.test"
upstream = "o"
[routes.gone]
host = "gone.test"
upstream = "o"`, ""))
	kept, moved, changed, gone := tunnelOf(t, in, "kept.test"), tunnelOf(t, in, "moved.test"), tunnelOf(t, in, "changed.test"), tunnelOf(t, in, "gone.test")

	in.write(t, reloadTunnelConfig(addr, `
[routes.changed]
host = "changed.test"
upstream = "o"
response_headers = { set = { x-new = "1" } }
[routes.new]
host = "new.test"
upstream = "o"`, `pool.idle = 7`)) // of the upstream of moved
	begun := time.Now()
	in.reload(t)
	for name, w := range map[string]*wire{"kept": kept, "moved": moved, "changed": changed, "gone": gone} {
		if err := w.echoes(name); err != nil {
			t.Errorf("%s, after the reload: %v", name, err)
		}
	}
	for _, w := range []*wire{changed, gone} {
		w.ends(t)
		if took := time.Since(begun); took < 2900*time.Millisecond || took > prompt {
			t.Errorf("it ended after %v, want three seconds", took)
		}
	}
	for range 3 {
		in.reload(t)
	}
	for name, w := range map[string]*wire{"kept": kept, "moved": moved} {
		if err := w.echoes(name); err != nil {
			t.Errorf("%s, in the end: %v", name, err)
		}
		_ = w.Close()
	}
	strict.Eventually(t, "without tunnels", func() bool { return in.sum(t, "wproxy_tunnels") == 0 })
	log := strings.Join(in.accessLines(t), "\n")
	for _, host := range []string{"changed.test", "gone.test"} {
		if !regexp.MustCompile(`"host":"` + host + `".*"status":101.*"reason":"route_gone"`).MatchString(log) {
			t.Errorf("the access log does not say why the tunnel of %s has ended: %s", host, log)
		}
	}
	for _, host := range []string{"kept.test", "moved.test"} {
		if regexp.MustCompile(`"host":"` + host + `".*route_gone`).MatchString(log) {
			t.Errorf("the tunnel of %s was ended: %s", host, log)
		}
	}
}

// TestTunnelsLetConfigurationsGo: a tunnel does not keep alive what a reload has removed.
func TestTunnelsLetConfigurationsGo(t *testing.T) {
	needBuiltins(t)
	addr := tunnelOriginAddr(t)
	with := func(extra string) string {
		return reloadTunnelConfig(addr, `
[routes.plain]
host = "plain.test"
upstream = "o"
use = ["kept"]
[plugins.kept]
wasm = "builtin:securityheaders"
`+extra, "")
	}
	in := startInstance(t, with(`
[routes.other]
host = "other.test"
upstream = "o"
use = ["removed"]
[plugins.removed]
wasm = "builtin:securityheaders"`))
	w := tunnelOf(t, in, "plain.test")
	if in.sum(t, `wproxy_plugin_instances{plugin="removed"}`) == 0 {
		t.Fatal("the plugin does not run")
	}
	in.write(t, with(""))
	in.reload(t)
	strict.Eventually(t, "without the plugin that was removed", func() bool {
		values, err := in.scrape()
		_, ok := values[`wproxy_plugin_instances{plugin="removed"}`]
		return err == nil && !ok
	})
	if err := w.echoes("still there"); err != nil {
		t.Error(err)
	}
	_ = w.Close()
}

// TestTunnelDrain: tunnels that are left when the time to drain is over are closed, and
// both logs say so.
func TestTunnelDrain(t *testing.T) {
	in := startInstance(t, reloadTunnelConfig(tunnelOriginAddr(t), "", ""))
	w := tunnelOf(t, in, "kept.test")
	begun := time.Now()
	if code := run(context.Background(), []string{"stop", "-c", in.file}, io.Discard, io.Discard); code != exitOK {
		t.Fatalf("stop: exit code %d", code)
	}
	if err := w.echoes("while it drains"); err != nil {
		t.Error(err)
	}
	w.ends(t)
	if took := time.Since(begun); took < 2900*time.Millisecond || took > prompt {
		t.Errorf("it ended after %v, want three seconds", took)
	}
	if lines := in.accessLines(t); !regexp.MustCompile(`"status":101.*"reason":"drain"`).MatchString(lines[len(lines)-1]) {
		t.Errorf("the access log does not say why the tunnel has ended: %q", lines)
	}
	if log := in.stderr.String(); !regexp.MustCompile(`the time to drain is over.*"connections": ?1.*"tunnels": ?1`).MatchString(log) {
		t.Errorf("the log does not tell of what was closed: %s", log)
	}
}

// TestTunnelLimit: no more tunnels than a route is to have; those that have ended, and
// upgrades that were refused, give their place back, over reloads too.
func TestTunnelLimit(t *testing.T) {
	addr := tunnelOriginAddr(t)
	config := reloadTunnelConfig(addr, `
[routes.few]
host = "few.test"
upstream = "o"
websocket.connections = 2`, "")
	in := startInstance(t, config)
	refused := func() {
		t.Helper()
		w := in.dial(t)
		if _, err := io.WriteString(w, msg("GET /tunnel HTTP/1.1", "Host: few.test", "Connection: upgrade", "Upgrade: test")); err != nil {
			t.Fatal(err)
		}
		if resp, err := w.r.ReadResponse("GET"); err != nil || resp.Status != 503 || !strings.Contains(string(resp.Body), "too_many_tunnels") {
			t.Errorf("got %v, %v; want 503", resp, err)
		}
		// What follows is the next request.
		if _, err := io.WriteString(w, msg("GET / HTTP/1.1", "Host: nowhere.test")); err != nil {
			t.Fatal(err)
		}
		if resp, err := w.r.ReadResponse("GET"); err != nil || resp.Status != 404 {
			t.Errorf("the next request: got %v, %v; want 404", resp, err)
		}
	}
	one, two := tunnelOf(t, in, "few.test"), tunnelOf(t, in, "few.test")
	refused()
	in.write(t, strings.Replace(config, `[routes.few]`, "[routes.few]\ntimeout = \"50s\"", 1))
	in.reload(t)
	refused() // the new route has the tunnels of the old one, which end soon
	one.ends(t)
	two.ends(t)
	strict.Eventually(t, "with room again", func() bool { return in.sum(t, "wproxy_tunnels") == 0 })
	for range 2 {
		if err := tunnelOf(t, in, "few.test").echoes("x"); err != nil {
			t.Error(err)
		}
	}
	refused()
	if got := in.sum(t, `wproxy_refused_total{reason="too_many_tunnels"}`); got != 3 {
		t.Errorf("counted %v refusals, want 3", got)
	}
}

// TestTunnelHalfOpen: a tunnel of which one end has gone without a word of TCP rests, and
// ends with its idle time.
func TestTunnelHalfOpen(t *testing.T) {
	addr := tunnelOriginAddr(t)
	in := startInstance(t, reloadTunnelConfig(addr, `
[routes.short]
host = "short.test"
upstream = "o"
websocket.idle = "2s"`, ""))
	w := tunnelOf(t, in, "short.test")
	var begun time.Time
	for range 4 { // it is not at rest while either side speaks
		time.Sleep(600 * time.Millisecond)
		begun = time.Now() // not behind the answer, of which this side may hear late
		if err := w.echoes("tick"); err != nil {
			t.Fatal(err)
		}
	}
	w.ends(t)
	if took := time.Since(begun); took < 1900*time.Millisecond {
		t.Errorf("it ended after %v", took)
	}
}
