package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
)

// Reloads with tunnels open: in CI and in the long form, which takes as long as it says.
const (
	tunnelReloads     = 12
	tunnelReloadsLong = 80
	tunnelReloadEvery = 7500 * time.Millisecond // of the long form: 8 a minute, for 10 minutes
	openTunnels       = 8

	// tunnelPadding makes two thirds of the reloads hold more than heapSlack, if they are kept.
	tunnelPadding = 512 << 10
)

// TestReloadUnderLoadWithTunnels: reloads that change another route, its plugins and their
// settings let no request fail and no tunnel break, gather no configurations, and leave
// no memory behind.
func TestReloadUnderLoadWithTunnels(t *testing.T) {
	moody := filepath.Join(t.TempDir(), "moody.wasm")
	if err := os.WriteFile(moody, countingGuest("yes").Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	n, every := tunnelReloads, time.Duration(0)
	if long() {
		n, every = tunnelReloadsLong, tunnelReloadEvery
	}
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", newGoOrigin(t).Listener.Addr().String())
	toml = strings.Replace(toml, `to = "stderr"`, `to = "`+filepath.Join(t.TempDir(), "wproxy.log")+`"`, 1) // not into memory
	toml += fmt.Sprintf("\n[plugins.moody]\nwasm = %q\n[routes.kept]\nhost = \"kept.test\"\nupstream = \"tunnels\"\n[upstreams.tunnels]\nservers = [%q]\n", moody, tunnelOriginAddr(t))
	filler := strings.Repeat("x", tunnelPadding)
	at := func(g int) string { // another route, plugin and settings each time
		return strings.Replace(toml, "[routes.denied]", fmt.Sprintf("response_headers = { set = { %s = \"%d\" } }\nuse = [\"moody\"]\nwith = { moody = { mood = \"fine %d\" } }\nmetadata = { pad = %q }\n\n[routes.denied]",
			generationID, g, g, filler), 1)
	}
	in := startInstance(t, at(0))
	load := startLoad(t, in, func(h http.Header) error {
		if h.Get(guestMark) != "yes" {
			return fmt.Errorf("not through the plugin: %v", h)
		}
		return nil
	})
	var open []*wire
	for range openTunnels {
		open = append(open, tunnelOf(t, in, "kept.test"))
	}
	inUse := func() int {
		var st Status
		var out bytes.Buffer
		code := run(t.Context(), []string{"status", "--json", "-c", in.file}, &out, &out)
		if err := json.Unmarshal(out.Bytes(), &st); code != exitOK || err != nil {
			t.Fatalf("status: %d, %v: %s", code, err, out.String())
		}
		return st.InUse
	}
	var early footprint
	for g := 1; g <= n; g++ {
		load.wait(t, reloadLoad)
		in.write(t, at(g))
		in.reload(t)
		for i, w := range open {
			if err := w.SetDeadline(time.Now().Add(patience)); err != nil { // dial's own is for a short exchange
				t.Fatal(err)
			}
			if err := w.echoes(fmt.Sprintf("%d after %d", i, g)); err != nil {
				t.Fatalf("tunnel %d, after reload %d: %v", i, g, err)
			}
		}
		if g == n/3 {
			early = in.footprint(t)
		}
		time.Sleep(every)
	}
	strict.Eventually(t, "one configuration in use", func() bool { return inUse() == 1 })
	flat(t, early, in.footprint(t))
	load.stop()
	if got := in.sum(t, "wproxy_tunnels"); got != openTunnels {
		t.Errorf("%v tunnels are open, want %d", got, openTunnels)
	}
	for _, w := range open {
		_ = w.Close()
	}
	strict.Eventually(t, "without tunnels", func() bool { return in.sum(t, "wproxy_tunnels") == 0 })
	t.Logf("%d requests, %d failed; %d tunnels over %d reloads", load.requests.Load(), load.failures.Load(), len(open), n)
}
