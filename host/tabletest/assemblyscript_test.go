//go:build !race

package tabletest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAssemblyScript builds the example of docs/plugins-other-languages.md with npm and runs
// its table. With the race detector nothing else would be tested, so it is left out there.
func TestAssemblyScript(t *testing.T) {
	if testing.Short() {
		t.Skip("it downloads packages")
	}
	missing := t.Skipf // what is not here is no failure, but in CI
	if os.Getenv("CI") == "true" {
		missing = t.Fatalf
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		missing("npm is needed to build a plugin in AssemblyScript: %v", err)
	}
	text, err := os.ReadFile("../../docs/plugins-other-languages.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "assembly/index.ts", "greet.test.toml"} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(block(t, string(text), name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, npm, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("npm %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return err
	}
	if err := run("install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=30000"); err != nil {
		missing("the packages cannot be fetched")
	}
	if err := run("run", "build"); err != nil {
		t.Fatal("the example does not compile")
	}
	wasm, err := os.ReadFile(filepath.Join(dir, "greet.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(wasm, []string{filepath.Join(dir, "greet.test.toml")})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	s.Run(t, nil, func(r Result) {
		n++
		if !r.OK {
			t.Errorf("%s: %+v\n%s", r.Name, r.Failures, strings.Join(r.Log, "\n"))
		}
	})
	if n != 3 {
		t.Errorf("%d cases ran, want 3", n)
	}
}

// block returns the content of the block of a Markdown file that is called name.
func block(t *testing.T, markdown, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(markdown, " "+name+"\n")
	content, _, ok2 := strings.Cut(rest, "\n```")
	if !ok || !ok2 {
		t.Fatalf("there is no block %s", name)
	}
	return content + "\n"
}
