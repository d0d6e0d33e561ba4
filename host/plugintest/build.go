package plugintest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BuildGo builds the Go plugin in dir with `wproxy plugin build` and returns the
// .wasm. The command is $WPROXY if that is set, else it is run from the source of
// the wproxy module that the test itself is built with. The test fails with the
// compiler's output if the plugin does not build.
func BuildGo(t testing.TB, dir string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	args := []string{"go", "run", "wproxy/cmd/wproxy"}
	if bin := os.Getenv("WPROXY"); bin != "" {
		args = []string{bin}
	}
	args = append(args, "plugin", "build", "-o", out, dir)
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.Stdout = &stderr, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("building the plugin in %s: %v\n%s", dir, err, stderr.Bytes())
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}
