package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/plugins/guestbuild"
)

// build compiles the plugin once for all tests.
var build = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "cache-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "plugin.wasm")
	if _, err := guestbuild.Build(context.Background(), guestbuild.Options{Out: out, Stderr: os.Stderr}); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

// TestWasmStarts: the real .wasm takes settings that are right and says what is wrong with
// others, or with the host. What it does in exchanges is tested in the whole proxy
// (cmd/wproxy, TestCache), whose objects it needs.
func TestWasmStarts(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	all := []string{host.GrantLog, host.GrantMetrics, host.GrantObjects}
	for _, tc := range []struct {
		name, config string
		grants       []string
		want         string // in the error; "": it starts
	}{
		{"defaults", "", all, ""},
		{"settings", `{"default_ttl":"1m","key":"header:x"}`, all, ""},
		{"a wrong key", `{"default_tll":"1m"}`, all, `did you mean "default_ttl"`},
		{"a wrong value", `{"max_size":"lots"}`, all, `"max_size": must be a number of bytes`},
		{"no grant", "", []string{host.GrantLog, host.GrantMetrics}, `takes "objects" in the plugin's grant`},
	} {
		err := plugintest.Start(t, wasm, plugintest.Options{Config: []byte(tc.config), Grants: tc.grants})
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
}
