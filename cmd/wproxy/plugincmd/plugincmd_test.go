package plugincmd_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/cmd/wproxy/plugincmd"
)

func TestRun(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.wasm")
	const source = "../../../plugins/internal/adapter/testdata/inits"
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "go.mod"), []byte("module x\n\ngo 1.24\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad, "x.go"), []byte("package x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"nothing", nil, 2, "", "Usage: wproxy plugin COMMAND"},
		{"help", []string{"-h"}, 0, "Usage: wproxy plugin COMMAND", ""},
		{"build help", []string{"build", "-h"}, 0, "Usage: wproxy plugin build [-o NAME.wasm] [DIR]\n\ncompile the Go plugin in DIR (default: the current directory) to\nNAME.wasm", ""},
		{"bench help", []string{"bench", "-h"}, 0, "or the name of a file with JSON\n\nExit codes: 0 fine;", ""},
		{"unknown subcommand", []string{"biuld", "x.wasm"}, 2, "", `unknown subcommand "biuld"; there are: new, build, test, inspect, bench`},
		{"unknown flag", []string{"build", "-x"}, 2, "", "flag provided but not defined: -x"},
		{"two directories", []string{"build", "a", "b"}, 2, "", "one directory at a time"},
		{"no such directory", []string{"build", "/none/such"}, 2, "", "no such file or directory"},
		{"not a plugin", []string{"build", bad}, 1, "", "a plugin is a package main"},
		{"output directory missing", []string{"build", "-o", "/none/such/x.wasm", source}, 2, "", "output file"},
		{"build, flag first", []string{"build", "-o", out, source}, 0, "x.wasm: ", ""},
		{"build, flag last", []string{"build", source, "-o", out}, 0, "callbacks: proxy_on_log proxy_on_request_body ", ""},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "_"), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := plugincmd.Run(t.Context(), tc.args, &stdout, &stderr)
			if code != tc.code || !strings.Contains(stdout.String(), tc.stdout) || !strings.Contains(stderr.String(), tc.stderr) {
				t.Errorf("got %d, %q, %q\nwant %d, %q, %q", code, stdout.String(), stderr.String(), tc.code, tc.stdout, tc.stderr)
			}
			if tc.code == 0 && stderr.Len() > 0 {
				t.Errorf("stderr: got %q, want nothing", stderr.String())
			}
		})
	}
	if _, err := os.Stat(out); err != nil {
		t.Errorf("the file that was built: %v", err)
	}
}
