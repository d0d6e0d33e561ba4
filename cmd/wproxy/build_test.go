package main

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/core/config"
)

// TestModuleKey: what changes a plugin's VMs, and what they live on through.
func TestModuleKey(t *testing.T) {
	const base = `[routes.all]
respond = { body = "ok" }
use = ["p"]
[plugins.p]
wasm = "p.wasm"
config = { a = 1 }
sandbox = { memory = "1MiB" }
[log]
level = "info"
`
	key := func(text string) moduleKey {
		file := filepath.Join(t.TempDir(), "wproxy.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		o, err := pluginOptions(f, f.Plugins["p"])
		if err != nil {
			t.Fatal(err)
		}
		return keyOf(sha256.Sum256([]byte("wasm")), o)
	}
	was := key(base)
	for _, tt := range []struct {
		old, new string
		same     bool
	}{
		{"", "", true},
		{`"info"`, `"debug"`, true},
		{"a = 1", "a = 2", true},
		{"1MiB", "2MiB", false},
		{"config =", "env = { A = \"1\" }\nconfig =", false},
	} {
		if got := key(strings.Replace(base, tt.old, tt.new, 1)); (got == was) != tt.same {
			t.Errorf("%q for %q: the same VMs is %v, want %v", tt.new, tt.old, got == was, tt.same)
		}
	}
}
