package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"wproxy/core/certs/certstest"
	"wproxy/host/wasmtest"
	"wproxy/plugins"
)

// bookFiles returns the pages of the book.
func bookFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d pages: %v", len(files), err)
	}
	more, err := filepath.Glob(filepath.Join(root, "plugins/*/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return append(append(files, more...), filepath.Join(root, "README.md"), filepath.Join(root, "deploy/README.md"))
}

// TestBookConfigs holds every whole configuration of the book to what `wproxy check` says:
// those in blocks that name a file and have a route. Its [[tests]] are run, its plugins
// started. What is not whole is a part of another, or run by a script of its own.
func TestBookConfigs(t *testing.T) {
	if _, err := plugins.Builtin("ratelimit"); err != nil {
		t.Skip("the shipped plugins are not built: make plugins")
	}
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cmp.Or(os.Getenv(sharedCache), dir)) // of compiled plugins
	t.Setenv("API_TOKEN", "token")
	files := bookNeeds(t, dir)
	n := 0
	for _, path := range bookFiles(t) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		page := filepath.Base(path)
		for _, block := range markdownBlocks(string(b)) {
			text := block.output
			if filepath.Ext(block.file) != ".toml" || !strings.Contains(text, "[routes.") || page == "check.md" && block.file == "mistakes.toml" {
				continue
			}
			n++
			t.Run(page+"/"+block.file, func(t *testing.T) {
				if page == "plugins.md" && block.file == "wproxy.toml" {
					text = strings.ReplaceAll(text, "kyes", "keys") // the mistake that the page is about
				}
				name := filepath.Join(dir, page+"-"+block.file)
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				r, err := check(t.Context(), source{file: name, name: name})
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range r.problems {
					t.Error(p.Error())
				}
			})
		}
	}
	if n < 25 {
		t.Errorf("only %d configurations, beside the files %v", n, files)
	}
	t.Run("parts", func(t *testing.T) { bookParts(t, dir) })
}

// bookParts checks the examples of the shipped plugins' pages, which leave out where
// requests go: with that they are files that are fine.
func bookParts(t *testing.T, dir string) {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "plugins/*/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	block, table := regexp.MustCompile("(?ms)^```toml\n(.*?)^```"), regexp.MustCompile(`(?m)^\[routes\.(\w+)\]$`)
	n := 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range block.FindAllStringSubmatch(string(b), -1) {
			part := m[1]
			if !table.MatchString(part) {
				continue // settings only
			}
			n++
			whole := table.ReplaceAllString(part, "[routes.$1]\nhost = \"$1.example.com\"")
			if strings.Contains(part, "upstream ") {
				whole += "[upstreams.backend]\nservers = [\"127.0.0.1:3000\"]\n"
			} else {
				whole = table.ReplaceAllString(whole, "[routes.$1]\nto = \"127.0.0.1:3000\"")
			}
			name := filepath.Join(dir, fmt.Sprintf("%s-%d.toml", filepath.Base(filepath.Dir(page)), i))
			if err := os.WriteFile(name, []byte(whole), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := check(t.Context(), source{file: name, name: name})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range r.problems {
				t.Errorf("%s: %s\n%s", page, p.Error(), whole)
			}
		}
	}
	if n < 4 {
		t.Errorf("only %d examples of plugins", n)
	}
}

// bookNeeds makes the files that configurations of the book name.
func bookNeeds(t *testing.T, dir string) (names []string) {
	t.Helper()
	write := func(name string, content []byte) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	ca := certstest.New(t, "ca")
	for _, name := range []string{"shop", "api"} {
		pair := ca.Sign(certstest.Request{Names: []string{name + ".example.com"}})
		pair.Write(t, dir, name)
	}
	for _, name := range []string{"ca.pem", "partners.pem"} {
		certstest.WriteFile(t, filepath.Join(dir, name), ca.Cert)
	}
	write("sticky.secret", []byte("0123456789abcdef"))
	write("servers.json", []byte(`["10.0.0.1:8080"]`))
	write("demo/demo.wasm", wasmtest.NewGuest().Bytes())
	return names
}

var markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestBookLinks: what a page points to is there, and the section of it, too.
func TestBookLinks(t *testing.T) {
	pages := append(bookFiles(t), filepath.Join(root, "CONTRIBUTING.md"), filepath.Join(root, "RATIONALE.md"))
	listed, err := os.ReadFile(filepath.Join(root, "docs/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if name := filepath.Base(page); filepath.Base(filepath.Dir(page)) == "docs" && name != "README.md" && !strings.Contains(string(listed), "("+name+")") {
			t.Errorf("docs/README.md does not have %s", name)
		}
		for _, m := range markdownLink.FindAllStringSubmatch(string(b), -1) {
			target, section, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			n++
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			text, err := os.ReadFile(file)
			if fi, bad := os.Stat(file); bad == nil && fi.IsDir() {
				continue
			}
			if err != nil {
				t.Errorf("%s points to %s, which is not there", page, m[1])
				continue
			}
			if section != "" && !anchors(string(text))[section] {
				t.Errorf("%s points to %s, and there is no such section", page, m[1])
			}
		}
	}
	if n < 80 {
		t.Errorf("only %d links", n)
	}
}

var htmlAnchor = regexp.MustCompile(`<a id="([^"]+)">`)

var noAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// anchors returns the sections of a page by the names that GitHub gives them.
func anchors(markdown string) map[string]bool {
	found, fenced := map[string]bool{}, false
	for line := range strings.Lines(markdown) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if m := htmlAnchor.FindStringSubmatch(line); m != nil {
			found[m[1]] = true
		}
		if title := strings.TrimLeft(line, "#"); title != line && !fenced {
			name := noAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			found[strings.ReplaceAll(name, " ", "-")] = true
		}
	}
	return found
}

var limitRow = regexp.MustCompile("(?m)^\\| `((?:core|host)[a-z0-9/]*)\\.(\\w+)` \\| ([^|]+) \\|")

// TestBookLimits: the limits of docs/security.md have the values that the code has. Those
// that are keys of the file are compared in core/config.
func TestBookLimits(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := limitRow.FindAllStringSubmatch(string(b), -1)
	if len(rows) < 20 {
		t.Fatalf("only %d limits", len(rows))
	}
	packages := map[string]*types.Scope{}
	for _, row := range rows {
		dir, name, want := row[1], row[2], strings.TrimSpace(row[3])
		if packages[dir] == nil {
			packages[dir] = limitsOf(t, dir)
		}
		c, ok := packages[dir].Lookup(name).(*types.Const)
		if !ok {
			t.Errorf("%s/limits.go has no constant %s", dir, name)
			continue
		}
		got, _ := constant.Int64Val(constant.ToInt(c.Val()))
		if n, err := amount(want); err != nil || n != got {
			t.Errorf("%s.%s is %d, the page says %s (%d, %v)", dir, name, got, want, n, err)
		}
	}
}

// limitsOf returns the constants of a package's limits.go.
func limitsOf(t *testing.T, dir string) *types.Scope {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, filepath.Join(root, dir, "limits.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	cfg := types.Config{Importer: onlyTime{}, Error: func(error) {}} // other files are not looked at
	p, _ := cfg.Check(dir, fset, []*ast.File{f}, nil)                // what can be evaluated is
	return p.Scope()
}

// onlyTime imports package time, as far as limits need it.
type onlyTime struct{}

// Import implements types.Importer.
func (onlyTime) Import(string) (*types.Package, error) {
	p := types.NewPackage("time", "time")
	d := types.NewNamed(types.NewTypeName(token.NoPos, p, "Duration", nil), types.Typ[types.Int64], nil)
	p.Scope().Insert(d.Obj())
	for name, v := range map[string]time.Duration{
		"Nanosecond": 1, "Microsecond": time.Microsecond, "Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
	} {
		p.Scope().Insert(types.NewConst(token.NoPos, p, name, d, constant.MakeInt64(int64(v))))
	}
	p.MarkComplete()
	return p, nil
}

// amount reads "64 KiB", "1,024" or "30 s", which is in nanoseconds.
func amount(s string) (int64, error) {
	number, unit, _ := strings.Cut(s, " ")
	n, err := strconv.ParseInt(strings.ReplaceAll(number, ",", ""), 10, 64)
	units := map[string]int64{"": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "ms": int64(time.Millisecond), "s": int64(time.Second)}
	if units[unit] == 0 {
		return 0, fmt.Errorf("what is the unit %q", unit)
	}
	return n * units[unit], err
}
