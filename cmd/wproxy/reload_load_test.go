package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/plugins"
)

// Reloads under load: in CI and in the long form. padding is how many bytes of settings
// each makes the process hold, and must be enough for the sum to be seen if they are kept.
const (
	reloads     = 60
	reloadsLong = 10_000
	reloadLoad  = 4 // requests between two reloads, at least
	padding     = 64 << 10
	paddingLong = 8 << 10

	generationID = "x-generation"
	guestMark    = "x-guest"
)

// reloadConfig is a function of the generation: the route's fields and the settings of
// its three plugins change with it. moody is a file, fill the bytes of padding.
func reloadConfig(t *testing.T, moody string, fill int) func(generation int) string {
	t.Helper()
	origin := newGoOrigin(t)
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Listener.Addr().String())
	toml = strings.Replace(toml, `to = "stderr"`, `to = "`+filepath.Join(t.TempDir(), "wproxy.log")+`"`, 1) // not into memory
	filler := strings.Repeat("x", fill)
	return func(generation int) string {
		c := strings.Replace(toml, "[routes.denied]", fmt.Sprintf(`response_headers = { set = { %s = "%d" } }
use = ["headers", "limit", "moody"]
with = { headers = { content-security-policy = "img-src /%[2]d" }, limit = { burst = %[3]d }, moody = { mood = "fine %[2]d", pad = "%[4]s" } }

[routes.denied]`, generationID, generation, 1_000_000+generation, filler), 1)
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
}

// TestReloadUnderLoad: no request fails while the settings of the route's
// plugins and fields change, what is wrong changes nothing, and what is gone leaves
// nothing behind: no memory, goroutine, context of a guest or series of metrics.
func TestReloadUnderLoad(t *testing.T) {
	needBuiltins(t)
	moody := filepath.Join(t.TempDir(), "moody.wasm")
	if err := os.WriteFile(moody, countingGuest("yes").Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	n, fill := reloads, padding
	if long() {
		n, fill = reloadsLong, paddingLong
	}
	at := reloadConfig(t, moody, fill)
	in := startInstance(t, at(0))
	load := startLoad(t, in, func(h http.Header) error {
		if h.Get(guestMark) != "yes" || h.Get(generationID) == "" || !strings.Contains(h.Get("Content-Security-Policy"), "/"+h.Get(generationID)) {
			return fmt.Errorf("fields of two generations, or of none: %v", h)
		}
		return nil
	})
	serves := func(what string, g int) {
		t.Helper()
		if got := in.get(t, "a.test", "/ok").Fields.Get(generationID); got != fmt.Sprint(g) {
			t.Fatalf("%s: generation %q answers, want %d", what, got, g)
		}
	}
	var early footprint
	for g := 1; g <= n; g++ {
		load.wait(t, reloadLoad)
		in.write(t, at(g))
		in.reload(t)
		serves("after a reload", g)
		if g == n/3 {
			early = in.footprint(t)
		}
	}
	flat(t, early, in.footprint(t))
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
		serves(tt.name, n)
		load.wait(t, reloadLoad)
	}
	// And after all that, one more that is good.
	in.write(t, at(n+1))
	in.reload(t)
	serves("after the last reload", n+1)
	load.stop()
	in.onlyRoots(t)
	t.Logf("%d requests, %d failed", load.requests.Load(), load.failures.Load())
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
