package guestbuild

import (
	"os"
	"path/filepath"
	"testing"
)

// TestNeedsTimes: package time is what it is as soon as anybody but the SDK, or what only package
// fmt brings along, has a use for it.
func TestNeedsTimes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("off.go", "package internal\nimport \"time\"\nfunc f() { g(time.Now()) }\nfunc g(time.Time) {}\n")
	write("on.go", "package internal\nimport \"time\"\nfunc f(t time.Time) { println(time.Since(t)) }\n")
	write("other.go", "package internal\nimport t \"time\"\nfunc f() { t.Sleep(1) }\n")
	sdk := func(file string) listed {
		return listed{ImportPath: sdkPath, Dir: dir, GoFiles: []string{file}, Imports: []string{"fmt", "time"}}
	}
	std := func(path string, imports ...string) listed {
		return listed{ImportPath: path, Name: path, Standard: true, Imports: imports}
	}
	plugin := func(imports ...string) listed {
		return listed{ImportPath: "p", Name: "main", Imports: append(imports, sdkPath)}
	}
	for _, tc := range []struct {
		name string
		pkgs []listed
		want bool
	}{
		{"the SDK only", []listed{std("time"), std("os", "time"), std("fmt", "os"), sdk("off.go"), plugin()}, false},
		{"the SDK measures", []listed{std("time"), std("os", "time"), std("fmt", "os"), sdk("on.go"), plugin()}, true},
		{"under another name", []listed{std("time"), std("fmt"), sdk("other.go"), plugin()}, true},
		{"the plugin", []listed{std("time"), std("fmt"), sdk("off.go"), plugin("time")}, true},
		{"what the plugin imports", []listed{std("time"), std("os", "time"), std("fmt", "os"), sdk("off.go"), std("io/fs", "os"), plugin("io/fs")}, true},
	} {
		if got := needsTimes(tc.pkgs); got != tc.want {
			t.Errorf("%s: got %t", tc.name, got)
		}
	}
}
