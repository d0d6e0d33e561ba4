package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"wproxy/cmd/wproxy/internal/strict"
)

// Swaps of a .wasm file under load: in CI and in the long form.
const (
	swaps     = 30
	swapsLong = 200
)

// TestSwapUnderLoad: a .wasm file is replaced by another one and back, again and again,
// without a restart. No request fails or sees anything but one of the two, the old ones
// are drained and closed, and memory and goroutines are flat.
func TestSwapUnderLoad(t *testing.T) {
	origin := newGoOrigin(t)
	wasm := filepath.Join(t.TempDir(), "mark.wasm")
	names := [...]string{"even", "odd"}
	put := func(i int) {
		if err := os.WriteFile(wasm, countingGuest(names[i%2]).Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Listener.Addr().String())
	toml = strings.Replace(toml, "[routes.denied]", "use = [\"mark\"]\nwith = { mark = { mood = \"fine\" } }\n\n[routes.denied]", 1)
	in := startInstance(t, toml+"\n[plugins.mark]\nwasm = \""+wasm+"\"\n")
	load := startLoad(t, in, func(h http.Header) error {
		if mark := h.Get(guestMark); mark != names[0] && mark != names[1] {
			return fmt.Errorf("the guest's mark is %q", mark)
		}
		return nil
	})
	n := swaps
	if long() {
		n = swapsLong
	}
	var early footprint
	for i := 1; i <= n; i++ {
		load.wait(t, reloadLoad)
		put(i)
		in.reload(t)
		if got := in.get(t, "a.test", "/ok").Fields.Get(guestMark); got != names[i%2] {
			t.Errorf("after swap %d: %q answers, want %q", i, got, names[i%2])
		}
		if i == n/3 {
			early = in.footprint(t)
		}
	}
	flat(t, early, in.footprint(t))
	load.stop()
	strict.Eventually(t, "one VM pool left", func() bool { return in.sum(t, "wproxy_plugin_instances") <= float64(runtime.GOMAXPROCS(0)) })
	in.onlyRoots(t)
	t.Logf("%d requests, %d failed", load.requests.Load(), load.failures.Load())
}
