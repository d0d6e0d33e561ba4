package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wproxy/host/wasmtest"
)

// TestTrapInTheLogs: an exchange whose plugin traps, in either direction, has the reason
// in the access log, and the line about the trap names the exchange.
func TestTrapInTheLogs(t *testing.T) {
	origin := newGoOrigin(t)
	for _, side := range []string{"request", "response"} {
		t.Run(side, func(t *testing.T) {
			m := wasmtest.NewGuest()
			m.Headers(side, wasmtest.Unreachable(), wasmtest.I32(0))
			guest := filepath.Join(t.TempDir(), "guest.wasm")
			if err := os.WriteFile(guest, m.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Listener.Addr().String())
			toml = strings.Replace(toml, "[routes.denied]", "use = [\"bad\"]\n\n[routes.denied]", 1)
			in := startInstance(t, toml+"\n[plugins.bad]\nwasm = \""+guest+"\"\n")
			resp := in.get(t, "a.test", "/ok")
			if resp == nil || resp.Status != 503 {
				t.Fatalf("got %+v, want a 503", resp)
			}
			id := regexp.MustCompile(`request id: (\w+)`).FindSubmatch(resp.Body)
			if id == nil {
				t.Fatalf("no request id in %q", resp.Body)
			}
			in.stop(t)
			line, err := os.ReadFile(in.access)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{`"status":503`, `"reason":"plugin_failed:bad"`, `"request_id":"` + string(id[1]) + `"`} {
				if !strings.Contains(string(line), want) {
					t.Errorf("access log %s has no %s", line, want)
				}
			}
			said := strings.ReplaceAll(in.stderr.String(), `": "`, `":"`)
			for _, want := range []string{"unreachable", `"route":"all"`, `"request_id":"` + string(id[1]) + `"`} {
				if !strings.Contains(said, want) {
					t.Errorf("log %s has no %s", said, want)
				}
			}
		})
	}
}
