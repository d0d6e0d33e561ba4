package guestbuild_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/plugins/guestbuild"

	"github.com/tetratelabs/wazero"
)

const sdkModule = "github.com/tetratelabs/proxy-wasm-go-sdk"

// plugin is the source of a plugin in a module of its own.
const plugin = `package main

import (
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm"
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

func main() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &root{} }

type root struct{ types.DefaultPluginContext }

func (*root) NewHttpContext(uint32) types.HttpContext { return &stream{} }

type stream struct{ types.DefaultHttpContext }

func (*stream) OnHttpRequestBody(int, bool) types.Action { return types.ActionContinue }

func (*stream) OnHttpStreamDone() {}
`

// module writes a module that is not wproxy's, with the files given as names and texts in
// turn, and returns its directory. Its language is an old one, as plugins' is.
func module(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	sums, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	files = append([]string{
		"go.mod", "module example.com/plugin\n\ngo 1.19\n\nrequire " + sdkModule + " v0.24.0\n",
		"go.sum", string(sums),
	}, files...)
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuild(t *testing.T) {
	dir := module(t, "main.go", plugin)
	before := names(t, dir)
	out := filepath.Join(t.TempDir(), "plugin.wasm")
	var stderr bytes.Buffer
	r, err := guestbuild.Build(t.Context(), guestbuild.Options{Dir: dir, Out: out, Stderr: &stderr})
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("the plugin's directory had %v and has %v", before, after)
	}
	want := []string{"proxy_on_log", "proxy_on_request_body"}
	if !slices.Equal(r.Exports, want) {
		t.Errorf("Exports: got %v, want %v", r.Exports, want)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if r.Size != int64(len(wasm)) {
		t.Errorf("Size: got %d, want %d", r.Size, len(wasm))
	}
	exports, imports := inspect(t, wasm)
	want = append(want, "_initialize", "main", "proxy_abi_version_0_2_0",
		"proxy_on_context_create", "proxy_on_delete", "proxy_on_memory_allocate", abi.ExportStreamSlots)
	slices.Sort(want)
	if !slices.Equal(exports, want) {
		t.Errorf("exports: got %v, want %v", exports, want)
	}
	for _, m := range imports {
		if m != "env" && m != "wasi_snapshot_preview1" {
			t.Errorf("imports from %s", m)
		}
	}

	// The same source in another place gives the same bytes.
	again := filepath.Join(t.TempDir(), "again.wasm")
	if _, err := guestbuild.Build(t.Context(), guestbuild.Options{Dir: module(t, "main.go", plugin), Out: again}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(again); err != nil || !bytes.Equal(b, wasm) {
		t.Errorf("a second build differs: %v, %d and %d bytes", err, len(b), len(wasm))
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// inspect returns the exported functions and the modules imported from, sorted.
func inspect(t *testing.T, wasm []byte) (exports, imports []string) {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer r.Close(ctx)
	m, err := r.CompileModule(ctx, wasm)
	if err != nil {
		t.Fatal(err)
	}
	for name := range m.ExportedFunctions() {
		exports = append(exports, name)
	}
	for _, f := range m.ImportedFunctions() {
		module, _, _ := f.Import()
		imports = append(imports, module)
	}
	slices.Sort(exports)
	slices.Sort(imports)
	return exports, slices.Compact(imports)
}

func TestBuildRefuses(t *testing.T) {
	t.Setenv("GOFLAGS", "-mod=mod") // the environment does not decide what a plugin is built of
	const empty = "package main\n\nfunc main() {}\n"
	noModule := t.TempDir()
	if err := os.WriteFile(filepath.Join(noModule, "main.go"), []byte(empty), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		dir    string
		want   string // in the error
		stderr string // in what the go command said
	}{
		{"not a main package", module(t, "lib.go", "package lib\n"), "is package lib; a plugin is a package main", ""},
		{"no Go files", module(t, "readme", "x"), "has no Go files", ""},
		{"only files for other systems", module(t, "main.go", "//go:build linux\n\n"+empty), "has no Go files for GOOS=wasip1", ""},
		{"no SDK", module(t, "main.go", empty), "does not use the SDK", ""},
		{"SDK not required", module(t, "main.go", plugin, "go.mod", "module example.com/plugin\n\ngo 1.19\n"), "run `go get " + sdkModule + "@v0.24.0`", ""},
		{"a missing package", module(t, "main.go", plugin, "b.go", "package main\n\nimport _ \"example.com/plugin/none\"\n"), "example.com/plugin/none", ""},
		{"no module", noModule, "go.mod file not found", ""},
		{"type error", module(t, "main.go", plugin, "b.go", "package main\n\nvar x int = \"a\"\n"), guestbuild.ErrCompile.Error(), "b.go:3:13: cannot use"},
		{"syntax error", module(t, "main.go", plugin, "b.go", "package main\n\nvar x = = 1\n"), guestbuild.ErrCompile.Error(), "b.go:3:9: syntax error"},
		{
			"another SDK", module(t, "main.go", plugin, "go.mod",
				"module example.com/plugin\n\ngo 1.19\n\nrequire "+sdkModule+" v0.24.0\n\nreplace "+sdkModule+" => "+otherSDK(t)+"\n"),
			"it has ProxyNew(*byte,int), it lacks ProxyAddHeaderMapValue(uint32,*byte,int,*byte,int), ", "",
		},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "_"), func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "plugin.wasm")
			var stderr bytes.Buffer
			_, err := guestbuild.Build(t.Context(), guestbuild.Options{Dir: tc.dir, Out: out, Stderr: &stderr})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			var source *guestbuild.SourceError
			if !errors.As(err, &source) && !errors.Is(err, guestbuild.ErrCompile) {
				t.Errorf("got a %T, want a SourceError or ErrCompile", err)
			}
			if !strings.Contains(stderr.String(), tc.stderr) {
				t.Errorf("stderr: got %q, want %q", stderr.String(), tc.stderr)
			}
			if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is an output file: %v", err)
			}
		})
	}
}

// otherSDK makes a module that looks like the SDK and has another host interface.
func otherSDK(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                          "module " + sdkModule + "\n\ngo 1.19\n",
		"proxywasm/p.go":                  "package proxywasm\n\nimport (\n\t_ \"" + sdkModule + "/proxywasm/internal\"\n\t\"" + sdkModule + "/proxywasm/types\"\n)\n\nfunc SetVMContext(types.VMContext) {}\n",
		"proxywasm/types/t.go":            "package types\n\ntype VMContext interface{}\n",
		"proxywasm/internal/hostcalls.go": "package internal\n\ntype ProxyWasmHost interface{ ProxyNew(p *byte, n int) }\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuildWithoutGo(t *testing.T) {
	dir := module(t, "main.go", plugin)
	t.Setenv("PATH", t.TempDir())
	if _, err := guestbuild.Build(t.Context(), guestbuild.Options{Dir: dir, Out: filepath.Join(t.TempDir(), "x.wasm")}); !errors.Is(err, guestbuild.ErrNoToolchain) {
		t.Errorf("got %v, want ErrNoToolchain", err)
	}
}

func TestBuildWithoutDirectory(t *testing.T) {
	if _, err := guestbuild.Build(t.Context(), guestbuild.Options{Dir: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}
