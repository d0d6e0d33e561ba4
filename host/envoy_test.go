package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// liveEnvoyBinary returns where Envoy is, or skips the test.
func liveEnvoyBinary(t *testing.T) string {
	t.Helper()
	binary := os.Getenv("WPROXY_ENVOY")
	if binary == "" {
		t.Skip("WPROXY_ENVOY names no Envoy; make conformance-envoy installs one and runs this")
	}
	return binary
}

// buildWproxy builds this proxy.
func buildWproxy(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "wproxy")
	if said, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "wproxy/cmd/wproxy").CombinedOutput(); err != nil { //nolint:gosec // nothing from outside
		t.Fatalf("%v\n%s", err, said)
	}
	return binary
}

func TestEnvoy(t *testing.T) {
	envoy := liveEnvoy{liveEnvoyBinary(t)}
	wproxy := liveWproxy{buildWproxy(t)}
	cases := slices.Concat(liveCalls(t), liveCallbacks(t), liveOrders(), livePlugins(t))
	theirs := runLive(t, envoy, cases)
	ours := runLive(t, wproxy, cases)
	for _, c := range cases {
		a, b := ours[c.id], theirs[c.id]
		for _, r := range []*liveResult{a, b} {
			if r.refused != "" {
				r.facts["loaded"] = r.refused
				continue
			}
			c.read(r)
		}
		fmt.Printf("%s %s\n", c.id, c.name)
		for _, k := range []string{"loaded", "status", "result", "upstream", "client", "log", "called with", "order"} {
			if a.facts[k] == b.facts[k] {
				fmt.Printf("    %s: %s\n", k, a.facts[k])
			} else {
				fmt.Printf("  ! %s:\n      wproxy %s\n      envoy  %s\n", k, a.facts[k], b.facts[k])
			}
		}
	}
}
