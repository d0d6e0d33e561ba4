package plugintest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"wproxy/plugins/guestbuild"
)

// BuildGo builds the Go plugin in dir, as `wproxy plugin build` does, and returns
// the .wasm. The test fails with the compiler's output if the plugin does not
// build. It has to be called outside of Run.
func BuildGo(tb testing.TB, dir string) []byte {
	tb.Helper()
	out := filepath.Join(tb.TempDir(), "plugin.wasm")
	var stderr bytes.Buffer
	if _, err := guestbuild.Build(tb.Context(), guestbuild.Options{Dir: dir, Out: out, Stderr: &stderr}); err != nil {
		tb.Fatalf("building the plugin in %s: %v\n%s", dir, err, stderr.Bytes())
	}
	wasm, err := os.ReadFile(out) //nolint:gosec // the file that was just built
	if err != nil {
		tb.Fatal(err)
	}
	return wasm
}
