package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/plugins"
)

// Reloads under load: in CI and, with WPROXY_LONG set, in the long form.
const (
	reloads      = 5
	reloadsLong  = 20
	reloadEvery  = 400 * time.Millisecond
	reloadLong   = 500 * time.Millisecond
	loadWorkers  = 4 // half of them on connections that are kept
	generationID = "x-generation"
)

// TestReloadUnderLoad: no request fails while the settings of the route's
// plugins and fields change, and what is wrong changes nothing.
func TestReloadUnderLoad(t *testing.T) {
	needBuiltins(t)
	origin := newGoOrigin(t)
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Listener.Addr().String())
	at := func(generation int) string {
		c := strings.Replace(toml, "[routes.denied]", fmt.Sprintf(`response_headers = { set = { %s = "%d" } }
use = ["headers", "limit"]
with = { limit = { burst = %d } }

[routes.denied]`, generationID, generation, 1_000_000+generation), 1)
		return c + `
[plugins.headers]
wasm = "builtin:securityheaders"
config = { preset = "basic" }

[plugins.limit]
wasm = "builtin:ratelimit"
config = { rate = "1000000/s", burst = 1000000, key = "client-ip" }
`
	}
	in := startInstance(t, at(0))
	reload := func() (int, string) {
		var out bytes.Buffer
		code := run(context.Background(), []string{"reload", "-c", in.file}, &out, &out)
		return code, out.String()
	}

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
	n, every := reloads, reloadEvery
	if os.Getenv("WPROXY_LONG") != "" {
		n, every = reloadsLong, reloadLong
	}
	for g := 1; g <= n; g++ {
		time.Sleep(every)
		in.write(t, at(g))
		if code, out := reload(); code != exitOK {
			t.Fatalf("reload %d: exit code %d: %s", g, code, out)
		}
		if got := in.get(t, "a.test", "/ok").Fields.Get(generationID); got != fmt.Sprint(g) {
			t.Errorf("after reload %d: generation %q answers", g, got)
		}
	}
	for name, broken := range map[string]string{
		"syntax":          "routes = [",
		"unknown key":     at(99) + "\n[surprise]\n",
		"plugin refuses":  strings.Replace(at(99), `preset = "basic"`, `preset = "nonsense"`, 1),
		"plugin missing":  strings.Replace(at(99), "builtin:ratelimit", "./there-is-none.wasm", 1),
		"unknown builtin": strings.Replace(at(99), "builtin:ratelimit", "builtin:there-is-none", 1),
	} {
		in.write(t, broken)
		if code, out := reload(); code != exitRefused || len(strings.TrimSpace(out)) == 0 {
			t.Errorf("%s: exit code %d, want %d and a reason: %q", name, code, exitRefused, out)
		}
		if got := in.get(t, "a.test", "/ok").Fields.Get(generationID); got != fmt.Sprint(n) {
			t.Errorf("%s: generation %q answers, want %d", name, got, n)
		}
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
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "ok" {
		return fmt.Errorf("got %d %q, %w", resp.StatusCode, body, err)
	}
	return nil
}
