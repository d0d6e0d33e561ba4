package main

import (
	"strings"
	"testing"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/host/wasmtest"
)

// TestGuestLogsHaveNoSecrets: a guest that logs its settings while it serves does not
// put the secrets in them into the log, also those of the configuration before.
func TestGuestLogsHaveNoSecrets(t *testing.T) {
	m := wasmtest.NewGuest()
	get, log := m.Env("proxy_get_buffer_bytes", "iiiii>i"), m.Env("proxy_log", "iii>i")
	at, size := m.Slot(4), m.Slot(4)
	m.Headers("request",
		wasmtest.Call(get, wasmtest.I32(7), wasmtest.I32(0), wasmtest.I32(1000), wasmtest.I32(at), wasmtest.I32(size)), wasmtest.Drop(),
		wasmtest.Call(log, wasmtest.I32(2), wasmtest.Load32(wasmtest.I32(at)), wasmtest.Load32(wasmtest.I32(size))), wasmtest.Drop(),
		wasmtest.I32(0))
	t.Setenv("WPROXY_TEST_SECRET", "hunter2hunter2")
	origin := strict.NewOrigin(t, echo)
	in, toml := startGuestWith(t, origin.Addr(), m, "config = \"key=${env:WPROXY_TEST_SECRET} open\"\n")
	in.get(t, "a.test", "/")
	in.write(t, strings.ReplaceAll(toml, "open", "other"))
	t.Setenv("WPROXY_TEST_SECRET", "correcthorse")
	in.reload(t)
	in.get(t, "a.test", "/")
	in.stop(t)
	said := in.stderr.String()
	for _, want := range []string{`"msg":"key=${env:WPROXY_TEST_SECRET} open"`, `"msg":"key=${env:WPROXY_TEST_SECRET} other"`} {
		if strings.Count(said, want) != 1 {
			t.Errorf("no %q in %s", want, said)
		}
	}
	for _, secret := range []string{"hunter2", "correcthorse"} {
		if strings.Contains(said, secret) {
			t.Errorf("%q shows in %s", secret, said)
		}
	}
}
