package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// module is the path of this module, root where it is from here.
const (
	module = "wproxy"
	root   = "../.."
)

// importRules is who may import whom, inside wproxy: the packages that match
// pkg may import those that match one of allow, and the standard library. A
// package is named by its directory; "x/..." is x and all below it. Every
// package of core, abi, host and plugins has a rule.
var importRules = []struct {
	pkg   string
	allow []string
	why   string
}{
	{"abi", nil, "host and guests both import it: standard library only"},
	{"core", nil, "it is documentation"},
	{"core/exchange", nil, "it is what everybody else agrees on"},
	{"core/metrics", nil, "it counts, and knows nothing of what it counts"},
	{"core/internal/buf", nil, "it is memory and nothing else"},
	{"core/internal/refs", nil, "it counts who uses something"},
	{"core/config", []string{"core/spelling"}, "it is plain data; only cmd/wproxy turns it into a running proxy"},
	{"core/spelling", nil, "it compares words"},
	{"core/exchange/exchangetest", []string{"core/exchange"}, "the suite is the same for every codec"},
	{"core/route", []string{"core/exchange"}, "matching is a function of a request"},
	{"core/filter", []string{"core/exchange"}, "it is all that core knows of plugins"},
	{"core/access", []string{"core/exchange"}, "it writes records down"},
	{"core/trace", nil, "it sends spans, and does not know what they are about"},
	{"core/upstream", []string{"core/metrics"}, "it is where requests may go, not how"},
	{"core/internal/tlsconn", []string{"core/internal/buf"}, "it is records of TLS, whatever is in them"},
	{"core/certs", []string{"core/internal/tlsconn"}, "it chooses certificates, and does not know what for"},
	{"core/certs/certstest", nil, "it makes certificates for tests"},
	{"core/h1", []string{"core/exchange", "core/internal/buf", "core/internal/tlsconn"}, "a codec never learns what a route is, and codecs never import each other"},
	{"core/h2", []string{"core/exchange", "core/internal/buf"}, "a codec never learns what a route is, and codecs never import each other"},
	{"core/h2/h2spectest", nil, "it is a client that knows an address"},
	{"core/balance", []string{"core/upstream"}, "picking needs endpoints and nothing else"},
	{"core/discover", []string{"core/upstream"}, "it finds servers, and does not know what they are for"},
	{"core/health", []string{"core/exchange", "core/upstream", "core/pool"}, "checks travel as requests do, by whatever codec"},
	{"core/pool", []string{"core/exchange", "core/upstream"}, "a pool does not know the protocol of its connections"},
	{"core/listen", []string{"core/exchange", "core/certs", "core/internal/buf", "core/internal/tlsconn"}, "a listener does not know what connections are for"},
	{"core/certs/acme", nil, "it talks to a CA, and knows neither listeners nor configuration files"},
	{"core/certs/acme/acmetest", nil, "it is a CA for tests"},
	{"core/dial", []string{"core/exchange", "core/upstream", "core/pool", "core/h1", "core/h2", "core/internal/tlsconn"}, "it makes connections for the pool"},
	{"core/proxy", []string{
		"core/exchange", "core/route", "core/filter", "core/upstream", "core/balance", "core/pool",
		"core/access", "core/metrics", "core/trace", "core/internal/buf", "core/internal/refs",
	}, "the engine never learns which codec it holds, nor what a configuration file is"},
	{"core/handover", nil, "it moves descriptors and bytes between processes"},
	{"core/tcp", []string{
		"core/exchange", "core/route", "core/filter", "core/upstream", "core/balance", "core/pool",
		"core/access", "core/metrics", "core/internal/buf", "core/internal/refs",
	}, "it joins connections, wherever they come from, as the engine does exchanges"},
	{"core/server", []string{"core/tcp", "core/exchange", "core/certs", "core/listen", "core/h1", "core/h2", "core/proxy", "core/internal/tlsconn"}, "it starts and stops, and does not proxy"},
	{"core/admin", []string{"core/metrics"}, "what it shows and does is passed in"},
	{"host", []string{"abi", "host/..."}, "the host knows no network"},
	{"host/gaterule", []string{"abi"}, "rules about requests, whoever asks"},
	{"host/objectkey", []string{"abi", "host/gaterule"}, "likewise"},
	{"host/meter", nil, "it rewrites bytes, of whose meaning to the host it knows nothing"},
	{"core/objects", nil, "bytes with keys; what they mean is somebody else's business"},
	{"host/wasmfilter", []string{"abi", "host", "host/gaterule", "host/objectkey", "core/exchange", "core/filter", "core/objects"}, "it is the one bridge between host and core"},
	{"host/plugintest", []string{"abi", "host", "host/meter", "host/wasmfilter", "core/exchange", "core/filter", "core/objects", "plugins/guestbuild"}, "it drives a guest without a proxy"},
	{"host/tabletest", []string{"abi", "host", "host/wasmfilter", "host/plugintest", "plugins/manifest"}, "it is plugintest for people without Go"},
	{"host/wasmtest", nil, "it assembles modules, of which it knows nothing"},
	{"plugins", []string{"plugins/manifest"}, "it embeds files"},
	{"plugins/guestbuild", []string{"plugins/internal/adapter", "plugins/manifest"}, "it runs the go command"},
	{"plugins/manifest", []string{"core/spelling"}, "builders and hosts both read it"},
	{"plugins/manifest/manifesttest", []string{"plugins/manifest"}, "it is for the tests of plugins"},
	{"plugins/internal/...", []string{"abi", "plugins/internal/..."}, "guests run anywhere"},
	{"plugins/securityheaders", []string{"abi", "plugins/internal/..."}, "guests run anywhere"},
	{"plugins/cache", []string{"abi", "plugins/internal/..."}, "guests run anywhere"},
	{"plugins/ratelimit", []string{"abi", "plugins/internal/..."}, "guests run anywhere"},
	{"plugins/breaker", []string{"abi", "plugins/internal/..."}, "guests run anywhere"},
}

// denyRules is what packages must not import from outside wproxy, the
// standard library included.
var denyRules = []struct{ pkg, deny, why string }{
	{"core/...", "github.com/tetratelabs/wazero/...", "core knows no wasm"},
	{"host/meter", "github.com/...", "it rewrites bytes, whatever runs them"},
	{"host", "net", "the host knows no network"},
	{"host", "net/http", "the host knows no network"},
	{"host", "crypto/tls", "the host knows no network"},
	{"core/route", "github.com/...", "the data path counts and logs at its edges"},
	{"core/balance", "github.com/...", "the data path counts and logs at its edges"},
	{"core/h1", "go.uber.org/...", "the data path counts and logs at its edges"},
	{"core/h1", "github.com/...", "the data path counts and logs at its edges"},
	{"core/h2", "go.uber.org/...", "the data path counts and logs at its edges"},
	{"core/h2", "github.com/...", "the data path counts and logs at its edges"},
	{"core/pool", "net/http", "a pool does not know the protocol of its connections"},
	{"core/config", "net/http", "it is plain data"},
}

// An importLine is one import of one file.
type importLine struct {
	pkg, file, path string
}

// TestImports reads the import lines of every file that is no test and holds
// them against the rules. (Not through `go list`: the test cache records the
// files that a test opens, not those that a child opens.)
func TestImports(t *testing.T) {
	lines, packages := readImports(t)

	ruled := map[string]bool{}
	for _, r := range importRules {
		matched := false
		for pkg := range packages {
			if !matches(r.pkg, pkg) {
				continue
			}
			matched, ruled[pkg] = true, true
			for _, l := range lines[pkg] {
				to, inside := strings.CutPrefix(l.path, module+"/")
				if inside && to != pkg && !matchesAny(r.allow, to) {
					t.Errorf("%s imports %s: %s may import %v of wproxy (%s)", l.file, l.path, r.pkg, r.allow, r.why)
				}
			}
		}
		if !matched {
			t.Errorf("the rule for %q matches no package; was it renamed?", r.pkg)
		}
	}
	for _, r := range denyRules {
		matched := false
		for pkg := range packages {
			if !matches(r.pkg, pkg) {
				continue
			}
			matched = true
			for _, l := range lines[pkg] {
				if matches(r.deny, l.path) {
					t.Errorf("%s imports %s: %s must not (%s)", l.file, l.path, r.pkg, r.why)
				}
			}
		}
		if !matched {
			t.Errorf("the rule for %q matches no package; was it renamed?", r.pkg)
		}
	}
	for pkg := range packages {
		top, _, _ := strings.Cut(pkg, "/")
		if top != "cmd" && top != "bench" && !ruled[pkg] {
			t.Errorf("package %s has no rule: add one to importRules, with its reason", pkg)
		}
	}
}

// readImports returns the import lines of each package, and the packages.
func readImports(t *testing.T) (map[string][]importLine, map[string]bool) {
	t.Helper()
	lines, packages := map[string][]importLine{}, map[string]bool{}
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && (strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, name, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		pkg := path.Dir(rel)
		packages[pkg] = true
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			lines[pkg] = append(lines[pkg], importLine{pkg, rel, p})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, packages
}

// matches reports whether pattern, a path or "path/...", covers p.
func matches(pattern, p string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return p == prefix || strings.HasPrefix(p, prefix+"/")
	}
	return pattern == p
}

func matchesAny(patterns []string, p string) bool {
	for _, pattern := range patterns {
		if matches(pattern, p) {
			return true
		}
	}
	return false
}

// TestMatches checks the checker.
func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, path string
		want          bool
	}{
		{"core/h1", "core/h1", true},
		{"core/h1", "core/h10", false},
		{"core/h1", "core/h1/x", false},
		{"core/...", "core", true},
		{"core/...", "core/a/b", true},
		{"core/...", "corex", false},
	} {
		if got := matches(tt.pattern, tt.path); got != tt.want {
			t.Errorf("matches(%q, %q) = %v, want %v", tt.pattern, tt.path, got, tt.want)
		}
	}
}
