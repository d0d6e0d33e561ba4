package plugincmd

import (
	"bytes"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/plugins/manifest"
)

// What a new plugin is made of is as its tools would write it. That it builds and passes
// its tests, the script plugin_new shows.
func TestRender(t *testing.T) {
	sums, err := os.ReadFile("../../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds() {
		files, err := render(k, "demo")
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]string{}
		for _, f := range files {
			have[f.name] = f.text
			if i := strings.IndexByte(f.text, '@'); i >= 0 && f.name != "go.sum" {
				t.Errorf("%s: %s still has %.20q", k.name, f.name, f.text[i:])
			}
			if !strings.HasSuffix(f.name, ".go") {
				continue
			}
			formatted, err := format.Source([]byte(f.text))
			if err != nil || !bytes.Equal(formatted, []byte(f.text)) {
				t.Errorf("%s: %s is not formatted: %v", k.name, f.name, err)
			}
		}
		for _, name := range []string{
			".gitignore", "README.md", "demo.test.toml", "go.mod", "go.sum", "main.go", "main_test.go", "plugin.toml", "schema.json",
		} {
			if have[name] == "" {
				t.Errorf("%s: there is no %s", k.name, name)
			}
		}
		for line := range strings.Lines(have["go.sum"]) {
			if !strings.Contains(string(sums), line) {
				t.Errorf("%s: go.sum has %q, which this module's has not", k.name, line)
			}
		}
		s, err := manifest.Compile([]byte(have["schema.json"]))
		if err != nil {
			t.Fatalf("%s: schema.json: %v", k.name, err)
		}
		for _, key := range s.Keys() {
			if !strings.Contains(have["README.md"], "| `"+key+"` |") {
				t.Errorf("%s: README.md does not have the setting %q", k.name, key)
			}
			if !strings.Contains(have["main.go"], "`json:\""+key+"\"`") {
				t.Errorf("%s: main.go does not have the setting %q", k.name, key)
			}
		}
	}
}

// A plugin's module has the plugin's name, which must not be one of the standard library's.
func TestTaken(t *testing.T) {
	out, err := exec.Command("go", "list", "std", "cmd").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.Lines(string(out)) {
		top, _, _ := strings.Cut(strings.TrimSpace(path), "/")
		if !taken(top) {
			t.Errorf("%q is a package of the standard library", top)
		}
	}
	if taken("demo") {
		t.Error("demo is none")
	}
}

// A directory that could only be written in part is said to be there.
func TestWriteDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	if err := writeDir(dir, []newFile{{"a", "1"}}); err != nil {
		t.Fatal(err)
	}
	if err := writeDir(dir, []newFile{{"a", "2"}}); err == nil || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(b) != "1" {
		t.Errorf("the file has %q, %v", b, err)
	}
	if err := writeDir(filepath.Join(dir, "none", "y"), nil); err == nil {
		t.Error("a directory that is not there")
	}
}
