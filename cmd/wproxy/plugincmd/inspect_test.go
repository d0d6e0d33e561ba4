package plugincmd

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/plugins/manifest"

	wt "wproxy/host/wasmtest"
)

// testGuest is a plugin with a manifest; it logs, defines a metric and answers nothing.
func testGuest(t *testing.T) []byte {
	t.Helper()
	m := wt.NewGuest()
	log := m.Env(abi.ImportLog, "iii>i")
	m.Env(abi.ImportHTTPCall, "iiiiiiiiii>i")
	m.Env("proxy_\x1b[2J", "i>i")
	m.Headers("request", wt.Call(log, wt.I32(0), m.Str("x")), wt.Drop(), wt.I32(0))
	m.Body("response", wt.I32(0))
	m.Func(abi.ExportOnLog, "i")
	s, err := manifest.Compile([]byte(`{"required":["a"],"properties":{"a":{"type":"integer"},"b":{}},"additionalProperties":false}`))
	if err != nil {
		t.Fatal(err)
	}
	wasm, err := manifest.Append(m.Bytes(), &manifest.Manifest{
		Name: "demo", Version: "1.0", Description: "Does it.", ResponseBody: true, Grants: []string{"log"}, Settings: s,
	})
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// write puts a file into a directory of the test.
func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// command runs a subcommand.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = Run(t.Context(), args, &out, &err)
	return code, out.String(), err.String()
}

func TestInspect(t *testing.T) {
	file := write(t, "demo.wasm", testGuest(t))
	code, out, stderr := command(t, "inspect", file)
	if code != exitOK || stderr != "" {
		t.Fatalf("code %d, %s", code, stderr)
	}
	for _, want := range []string{
		"sha256     ", "name       demo 1.0\n           Does it.\n", "abi        0.2", "memory     128.0 KiB at start\n",
		"callbacks  proxy_on_request_headers, proxy_on_response_body, proxy_on_log\n", "bodies     response\n",
		"grants     asks for log\n           its imports could use call:UPSTREAM, log\n", "settings   a (required), b\n",
		`imports    env: proxy_log, proxy_http_call, "proxy_\x1b[2J" (unknown here: a call traps)`, `"wproxy.manifest"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q in\n%s", want, out)
		}
	}
	if strings.ContainsRune(out, 0x1b) {
		t.Error("what a module says reaches the terminal as it is")
	}

	code, out, _ = command(t, "inspect", "--json", file)
	var i inspection
	if err := json.Unmarshal([]byte(out), &i); err != nil || code != exitOK {
		t.Fatalf("code %d: %v", code, err)
	}
	if len(i.SHA256) != 64 || i.Manifest.Name != "demo" || !slices.Equal(i.Body, []string{"response"}) || len(i.Sections) < 5 ||
		!slices.Equal(i.Grants, []string{"call:UPSTREAM", "log"}) || len(i.Problems) != 0 || !bytes.Contains(i.Manifest.Schema, []byte(`"integer"`)) {
		t.Errorf("got %+v", i)
	}
}

func TestInspectRefused(t *testing.T) {
	broken := wt.NewGuest().Bytes()
	content := "\x0fwproxy.manifest{"
	broken = append(append(broken, 0, byte(len(content))), content...)
	noMarker := (&wt.Module{}).Bytes()
	for _, tt := range []struct {
		name, want string
		wasm       []byte
		code       int
	}{
		{"text", "not a WebAssembly module", []byte("hello"), exitRefused},
		{"empty", "not a WebAssembly module", nil, exitRefused},
		{"broken manifest", "REFUSED    its section wproxy.manifest: it is not the JSON", broken, exitRefused},
		{"no plugin", "it exports no ABI marker", noMarker, exitRefused},
		{"no manifest", "it has no manifest: any are handed on unchecked", wt.NewGuest().Bytes(), exitOK},
	} {
		code, out, stderr := command(t, "inspect", write(t, "x.wasm", tt.wasm))
		if code != tt.code || !strings.Contains(out+stderr, tt.want) {
			t.Errorf("%s: code %d, %s%s\nwant %d, %s", tt.name, code, out, stderr, tt.code, tt.want)
		}
	}
	if code, _, stderr := command(t, "inspect", "/none/such.wasm"); code != exitFailed || !strings.Contains(stderr, "no such file") {
		t.Errorf("code %d, %s", code, stderr)
	}
}

// FuzzInspect takes any bytes for a module; what it tells is JSON.
func FuzzInspect(f *testing.F) {
	f.Add(wt.NewGuest().Bytes())
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x00\x03\x01a\xff"))
	f.Fuzz(func(t *testing.T, wasm []byte) {
		if len(wasm) > 1<<14 {
			t.Skip("the compiler's speed is not what is tested")
		}
		i, err := newInspection(t.Context(), "x.wasm", wasm)
		if err != nil {
			return
		}
		if _, err := json.Marshal(i); err != nil {
			t.Error(err)
		}
		var b bytes.Buffer
		if err := i.write(&b); err != nil {
			t.Error(err)
		}
		if bytes.ContainsRune(b.Bytes(), 0x1b) {
			t.Errorf("an escape character: %q", b.Bytes())
		}
	})
}
