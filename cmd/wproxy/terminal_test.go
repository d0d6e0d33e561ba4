package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/host/wasmtest"
	"wproxy/plugins/manifest"
)

func TestTerminal(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"plain Ünicode 世界\n\ttab", "plain Ünicode 世界\n\ttab"},
		{"\x1b]0;title\a\r", `\u001b]0;title\u0007\u000d`},
		{"c1 \u009b31m del \x7f bidi \u202e", `c1 \u009b31m del \u007f bidi \u202e`},
		{"tag \U000e0041", `tag \udb40\udc41`},
		{"bad \xff\xc3(", `bad \xff\xc3(`},
		{"real \uFFFD", "real \uFFFD"},
	} {
		for _, size := range []int{1, 3, len(tt.in)} { // characters may come in parts
			var b strings.Builder
			w := newTerminal(&b)
			for in := tt.in; in != ""; {
				n := min(size, len(in))
				if got, err := w.Write([]byte(in[:n])); got != n || err != nil {
					t.Fatalf("Write: %d, %v", got, err)
				}
				in = in[n:]
			}
			if b.String() != tt.want {
				t.Errorf("%q in parts of %d: got %q, want %q", tt.in, size, b.String(), tt.want)
			}
		}
	}
	for _, in := range []string{"plain", "\x1b"} {
		if _, err := newTerminal(brokenWriter{}).Write([]byte(in)); !errors.Is(err, errBroken) {
			t.Errorf("%q: error %v", in, err)
		}
	}
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// TestHostileModule: nothing that a module has in it gets at the terminal of who looks at
// it, or into a line of its own.
func TestHostileModule(t *testing.T) {
	const evil = "a\x1b[2J\u009b31m\x7f\nFORGED\u202eb"
	m := wasmtest.NewGuest()
	m.Env(evil, "i")
	m.Import("wasi_unstable", evil, "i")
	m.Func(evil, "")
	m.Func("proxy_abi_version_"+evil, "")
	good := m.Bytes()
	bad := wasmtest.NewGuest()
	bad.Import(evil, evil, "i")
	bad.ImportGlobal("env", evil)
	name, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := manifest.Compile([]byte(`{"additionalProperties":false,"required":[` + string(name) + `],"properties":{` + string(name) + `:{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(file string, data []byte) string {
		t.Helper()
		file = filepath.Join(dir, file)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	conf := func(wasm string) string {
		return write(wasm+".toml", []byte("version = 1\n[listeners.http]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"none\"\n"+
			"[plugins.p]\nwasm = \"./"+wasm+"\"\nconfig = { z = 1 }\n[routes.r]\npath = \"/*\"\nrespond = { status = 204 }\nuse = [\"p\"]\n"))
	}
	for file, wasm := range map[string][]byte{"good.wasm": good, "bad.wasm": bad.Bytes()} {
		withManifest, err := manifest.Append(wasm, &manifest.Manifest{Name: "p", Settings: s})
		if err != nil {
			t.Fatal(err)
		}
		path := write(file, append(withManifest, customSection(evil)...))
		for _, args := range [][]string{
			{"plugin", "inspect", path},
			{"plugin", "inspect", "--json", path},
			{"plugin", "bench", path},
			{"check", "-c", conf(file)},
			{"check", "--json", "-c", conf(file)},
		} {
			var stdout, stderr bytes.Buffer
			run(t.Context(), args, &stdout, &stderr)
			text := stdout.String() + stderr.String()
			if !isPrintable(text, "\n\t") || strings.Contains(text, "\nFORGED") {
				t.Errorf("%q: %q", args, text)
			}
			if !strings.Contains(text, "FORGED") && args[1] != "bench" {
				t.Errorf("%q does not show the name: %s", args, text)
			}
			if strings.Contains(strings.Join(args, " "), "--json") && !json.Valid(stdout.Bytes()) {
				t.Errorf("%q is no JSON: %q", args, stdout.String())
			}
		}
	}
}

// customSection makes a custom section of that name.
func customSection(name string) []byte {
	return append([]byte{0, byte(len(name) + 1), byte(len(name))}, name...)
}
