package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/core/config"
	"wproxy/host/wasmtest"
)

// A module whose manifest is broken is refused by name, like one that does not compile.
func TestBrokenManifest(t *testing.T) {
	for name, tt := range map[string]struct{ content, want string }{
		"schema": {`{"manifest":1,"name":"p","settings":{"$ref":"#/nowhere"}}`, `plugin "p" (p.wasm): its section wproxy.manifest: "settings": the schema refers to "#/nowhere", which is not there`},
		"JSON":   {`{`, `plugin "p" (p.wasm): its section wproxy.manifest: it is not the JSON of a manifest`},
		"none":   {``, ``},
	} {
		dir := t.TempDir()
		wasm := wasmtest.NewGuest().Bytes()
		if tt.content != "" {
			const section = "wproxy.manifest"
			wasm = append(wasm, 0, byte(1+len(section)+len(tt.content)), byte(len(section)))
			wasm = append(wasm, section+tt.content...)
		}
		conf := filepath.Join(dir, "wproxy.toml")
		for file, content := range map[string]string{
			filepath.Join(dir, "p.wasm"): string(wasm),
			conf:                         "[plugins.p]\nwasm = \"p.wasm\"\n[routes.all]\nto = \"127.0.0.1:1\"\nuse = [\"p\"]\n",
		} {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f, err := config.Load(conf)
		if err != nil {
			t.Fatal(err)
		}
		_, err = buildDry(t.Context(), f)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "wproxy.toml:2:1") {
			t.Errorf("%s: got %v, want %q at line 2", name, err, tt.want)
		}
	}
}
