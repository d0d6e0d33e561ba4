package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/host/wasmtest"
	"wproxy/plugins"
)

// Reloads under load: in CI and, with WPROXY_LONG set, in the long form.
const (
	reloads      = 5
	reloadsLong  = 20
	reloadLoad   = 40 // requests between two reloads, at least
	reloadLong   = 500 * time.Millisecond
	loadWorkers  = 4 // half of them on connections that are kept
	generationID = "x-generation"
	guestMark    = "x-guest"
)

// moodyGuest is a plugin that marks answers, and whose mood, a setting, decides
// whether it starts ("fine"), refuses to, or traps.
func moodyGuest() []byte {
	i32, local, call := wasmtest.I32, wasmtest.Local, wasmtest.Call
	m := wasmtest.NewGuest()
	buffer := m.Env("proxy_get_buffer_bytes", "iiiii>i")
	add := m.Env("proxy_add_header_map_value", "iiiii>i")
	at, size := m.Slot(4), m.Slot(4)
	const pluginConfiguration, responseHeaders = 7, 2
	mood := wasmtest.Load8(wasmtest.Add(wasmtest.Load32(i32(at)), i32(int32(len(`{"mood":"`)))))
	m.Func("proxy_on_configure", "ii>i",
		call(buffer, i32(pluginConfiguration), i32(0), local(1), i32(at), i32(size)), wasmtest.Drop(),
		wasmtest.If(wasmtest.Eq(mood, i32('t')), wasmtest.Unreachable()),
		wasmtest.Eq(mood, i32('f')))
	m.Headers("response", call(add, i32(responseHeaders), m.Str(guestMark), m.Str("yes")), wasmtest.Drop(), i32(0))
	return m.Bytes()
}

// TestReloadUnderLoad: no request fails while the settings of the route's
// plugins and fields change, and what is wrong changes nothing.
func TestReloadUnderLoad(t *testing.T) {
	needBuiltins(t)
	origin := newGoOrigin(t)
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Listener.Addr().String())
	moody := filepath.Join(t.TempDir(), "moody.wasm")
	if err := os.WriteFile(moody, moodyGuest(), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(generation int) string {
		c := strings.Replace(toml, "[routes.denied]", fmt.Sprintf(`response_headers = { set = { %s = "%d" } }
use = ["headers", "limit", "moody"]
with = { limit = { burst = %d }, moody = { mood = "fine %[2]d" } }

[routes.denied]`, generationID, generation, 1_000_000+generation), 1)
		return c + `
[plugins.headers]
wasm = "builtin:securityheaders"
config = { preset = "basic" }

[plugins.limit]
wasm = "builtin:ratelimit"
config = { rate = "1000000/s", burst = 1000000, key = "client-ip" }

[plugins.moody]
wasm = "` + moody + `"
`
	}
	in := startInstance(t, at(0))

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var requests, failures atomic.Int64
	var wg sync.WaitGroup
	for i := range loadWorkers {
		wg.Go(func() { // ends with ctx
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				requests.Add(1)
				if err := loadOnce(client, in.addr); err != nil {
					failures.Add(1)
					t.Error(err)
					return
				}
			}
		})
	}
	// load waits until the workers have sent some more requests.
	load := func() {
		before := requests.Load()
		strict.Eventually(t, "under load", func() bool { return requests.Load() >= before+reloadLoad || failures.Load() > 0 })
	}
	n := reloads
	if os.Getenv("WPROXY_LONG") != "" {
		n = reloadsLong
		load = func() { time.Sleep(reloadLong) } // so many a second
	}
	for g := 1; g <= n; g++ {
		load()
		in.write(t, at(g))
		if code, out := in.tryReload(); code != exitOK {
			t.Fatalf("reload %d: exit code %d: %s", g, code, out)
		}
		if got := in.get(t, "a.test", "/ok").Fields.Get(generationID); got != fmt.Sprint(g) {
			t.Errorf("after reload %d: generation %q answers", g, got)
		}
	}
	for _, tt := range []struct{ name, broken, why string }{
		{"guest refuses", strings.Replace(at(99), "fine 99", "refuse", 1), "moody"},
		{"guest traps", strings.Replace(at(99), "fine 99", "trap", 1), "unreachable"},
		{"syntax", "routes = [", "syntax"},
		{"unknown key", at(99) + "\n[surprise]\n", "surprise"},
		{"plugin refuses", strings.Replace(at(99), `preset = "basic"`, `preset = "nonsense"`, 1), "preset"},
		{"plugin missing", strings.Replace(at(99), "builtin:ratelimit", "./there-is-none.wasm", 1), "there-is-none"},
		{"unknown builtin", strings.Replace(at(99), "builtin:ratelimit", "builtin:there-is-none", 1), "there-is-none"},
	} {
		in.write(t, tt.broken)
		if code, out := in.tryReload(); code != exitRefused || !strings.Contains(out, tt.why) {
			t.Errorf("%s: exit code %d, want %d and %q as a reason: %q", tt.name, code, exitRefused, tt.why, out)
		}
		if got := in.get(t, "a.test", "/ok").Fields.Get(generationID); got != fmt.Sprint(n) {
			t.Errorf("%s: generation %q answers, want %d", tt.name, got, n)
		}
		load()
	}
	// And after all that, one more that is good.
	in.write(t, at(n+1))
	if code, out := in.tryReload(); code != exitOK {
		t.Errorf("the last reload: exit code %d: %s", code, out)
	}
	if got := in.get(t, "a.test", "/ok").Fields.Get(generationID); got != fmt.Sprint(n+1) {
		t.Errorf("after the last reload: generation %q answers, want %d", got, n+1)
	}
	cancel()
	wg.Wait()
	t.Logf("%d requests, %d failed", requests.Load(), failures.Load())
	if requests.Load() < 100 {
		t.Errorf("only %d requests: that is no load", requests.Load())
	}
}

// needBuiltins skips a test where the shipped plugins are not embedded.
func needBuiltins(t *testing.T) {
	t.Helper()
	for _, name := range plugins.Names() {
		if _, err := plugins.Builtin(name); errors.Is(err, plugins.ErrNotBuilt) {
			t.Skip(name, "is not built")
		}
	}
}

// loadOnce sends a request that must be answered well.
func loadOnce(client *http.Client, addr string) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/ok", nil)
	if err != nil {
		return err
	}
	req.Host = "a.test"
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "ok" || resp.Header.Get(guestMark) != "yes" {
		return fmt.Errorf("got %d %q with the guest's mark %q, %w", resp.StatusCode, body, resp.Header.Get(guestMark), err)
	}
	return nil
}
