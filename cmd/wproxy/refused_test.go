package main

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/host/wasmtest"
)

// starter is a guest that logs, defines a metric and asks for ticks when it is
// configured, and accepts settings of fewer than 10 bytes.
func starter() *wasmtest.Module {
	m := wasmtest.NewGuest()
	log, tick := m.Env("proxy_log", "iii>i"), m.Env("proxy_set_tick_period_milliseconds", "i>i")
	define := m.Env("proxy_define_metric", "iiii>i")
	at := m.Slot(4)
	m.Func("proxy_on_configure", "ii>i",
		wasmtest.Call(log, wasmtest.I32(2), m.Str("guest configured")), wasmtest.Drop(),
		wasmtest.Call(define, wasmtest.I32(0), m.Str("started"), wasmtest.I32(at)), wasmtest.Drop(),
		wasmtest.Call(tick, wasmtest.I32(1)), wasmtest.Drop(),
		wasmtest.LtU(wasmtest.Local(1), wasmtest.I32(10)))
	m.Func("proxy_on_tick", "i", wasmtest.Call(log, wasmtest.I32(2), m.Str("guest ticks")), wasmtest.Drop())
	m.Headers("request", wasmtest.I32(0))
	return m
}

// TestRefusedReloadLeavesNoTrace: a reload that is refused for a port has run no code of
// guests, and one that is refused by a guest leaves no port, no metrics and no ticks.
func TestRefusedReloadLeavesNoTrace(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	guest := filepath.Join(t.TempDir(), "guest.wasm")
	if err := os.WriteFile(guest, starter().Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	origin := strict.NewOrigin(t, echo)
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr())
	in := startInstance(t, toml)
	plugin := func(name, config string) string {
		return "\n[plugins." + name + "]\nwasm = \"" + guest + "\"\nconfig = \"" + config + "\"\n"
	}
	used := strings.Replace(toml, "[routes.denied]", "use = [\"first\", \"second\"]\n\n[routes.denied]", 1) + plugin("first", "fine")
	door := func(address string) string { return "\n[listeners.more]\naddress = \"" + address + "\"\n" }
	series := func() string {
		values, err := in.scrape()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range maps.Keys(values) {
			// Those of the requests for the metrics themselves come and go.
			if strings.HasPrefix(name, "wproxy_") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return strings.Join(names, "\n")
	}
	before := series()

	in.write(t, used+plugin("second", "fine")+door(taken.Addr().String()))
	if code, out := in.tryReload(); code != exitRefused || !strings.Contains(out, `listener "more"`) {
		t.Errorf("a port that is taken: exit code %d: %s", code, out)
	}
	if got := in.stderr.String(); strings.Contains(got, "guest configured") {
		t.Errorf("a guest was run: %s", got)
	}
	if got := series(); got != before {
		t.Errorf("metrics afterwards:\n%s\nbefore:\n%s", got, before)
	}

	free := freeAddress(t)
	in.write(t, used+plugin("second", "not so fine")+door(free))
	if code, out := in.tryReload(); code != exitRefused || !strings.Contains(out, `plugin "second"`) {
		t.Errorf("a guest refuses: exit code %d: %s", code, out)
	}
	if c, err := net.Dial("tcp", free); err == nil {
		_ = c.Close()
		t.Error("its listener is still there")
	}
	if got := series(); got != before {
		t.Errorf("metrics afterwards:\n%s\nbefore:\n%s", got, before)
	}
	in.stop(t)
	// The first plugin was started, and has ended with the reload.
	said := in.stderr.String()
	if !strings.Contains(said, "guest configured") {
		t.Errorf("the first guest has not run: %s", said)
	}
	_, after, _ := strings.Cut(said, "reload refused, nothing has changed\",\"error\":\"plugin")
	if strings.Contains(after, "guest ticks") {
		t.Errorf("a guest of a refused reload still runs: %s", after)
	}
}
