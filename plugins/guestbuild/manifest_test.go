package guestbuild_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wproxy/plugins/guestbuild"
	"wproxy/plugins/manifest"
)

// The manifest comes from the callbacks, plugin.toml and schema.json, and is in the file.
func TestManifest(t *testing.T) {
	dir := module(t, "main.go", plugin,
		"plugin.toml", "name = \"demo\"\nversion = \"1.0\"\ndescription = \"Does it.\"\ngrant = [\"log\", \"call:idp\"]\n",
		"schema.json", `{"properties":{"a":{"type":"string"}}}`)
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	r, err := guestbuild.Build(t.Context(), guestbuild.Options{Dir: dir, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Read(wasm)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "demo" || m.Version != "1.0" || m.Description != "Does it." || !m.RequestBody || m.ResponseBody ||
		!slices.Equal(m.Grants, []string{"call:idp", "log"}) || !slices.Equal(m.Settings.Keys(), []string{"a"}) {
		t.Errorf("got %+v", m)
	}
	if r.Manifest.Name != m.Name {
		t.Errorf("Result.Manifest: got %+v", r.Manifest)
	}
}

// Without any file the manifest has the name of the package.
func TestManifestDefaults(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.wasm")
	r, err := guestbuild.Build(t.Context(), guestbuild.Options{Dir: module(t, "main.go", plugin), Out: out})
	if err != nil {
		t.Fatal(err)
	}
	if r.Manifest.Name != "plugin" || r.Manifest.Settings != nil {
		t.Errorf("got %+v", r.Manifest)
	}
}

func TestManifestRefuses(t *testing.T) {
	for _, tc := range []struct{ name, file, text, want string }{
		{"syntax", "plugin.toml", "\nname = ", "plugin.toml:2: "},
		{"unknown key", "plugin.toml", "nome = \"x\"\n", `unknown key "nome"; known are description, grant, name, version`},
		{"type", "plugin.toml", "name = 5\n", "plugin.toml"},
		{"grant", "plugin.toml", "grant = [\"Log it\"]\n", `grant: "Log it" does not look like`},
		{"schema", "schema.json", `{"type":"strin"}`, "schema.json: is not the schema of settings: not a JSON Schema: at /type"},
		{"no JSON", "schema.json", `{`, "schema.json: is not the schema of settings"},
		{"large", "schema.json", strings.Repeat(" ", 300<<10), "the most is"},
		{"control character", "plugin.toml", `name = "a\u001b"`, "control character"},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "_"), func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "x.wasm")
			_, err := guestbuild.Build(t.Context(), guestbuild.Options{Dir: module(t, "main.go", plugin, tc.file, tc.text), Out: out})
			source, ok := errors.AsType[*guestbuild.SourceError](err)
			if !ok || !strings.Contains(source.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is an output file: %v", err)
			}
		})
	}
}
