package host_test

import (
	"os"
	"strings"
	"testing"

	"wproxy/host"
)

// TestDocumented: docs/plugins.md has every host function.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range host.HostFunctions() {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/plugins.md does not have %s", name)
		}
	}
}
