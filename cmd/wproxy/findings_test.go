package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"wproxy/core/certs/certstest"
	"wproxy/host/wasmtest"
)

var updateFindings = flag.Bool("update", false, "write the .golden files of testdata/check anew")

// checkFixtures writes what the configurations in testdata/check name.
func checkFixtures(t *testing.T, dir string) {
	t.Helper()
	zero := wasmtest.I32(0)
	body := func(m *wasmtest.Module, sides ...string) {
		for _, s := range sides {
			m.Func("proxy_on_"+s+"_body", "iii>i", zero)
		}
	}
	guests := map[string]*wasmtest.Module{"moody": countingGuest("yes"), "calls": askGuest("asked", 100)}
	for _, name := range []string{"request", "response", "both", "body", "everything", "import"} {
		guests[name] = wasmtest.NewGuest()
	}
	guests["request"].Headers("request", zero)
	guests["response"].Headers("response", zero)
	guests["both"].Headers("request", zero)
	guests["both"].Headers("response", zero)
	body(guests["body"], "request", "response")
	all := guests["everything"]
	body(all, "request", "response")
	for _, s := range []string{"request", "response"} {
		all.Headers(s, zero)
		all.Func("proxy_on_"+s+"_trailers", "ii>i", zero)
	}
	guests["import"].Env("proxy_of_another_world", "i>i")
	for name, m := range guests {
		certstest.WriteFile(t, filepath.Join(dir, name+".wasm"), m.Bytes())
	}
	certstest.WriteFile(t, filepath.Join(dir, "text.wasm"), []byte("not a module\n"))
	now := time.Now()
	ca := certstest.New(t, "ca")
	certstest.WriteFile(t, filepath.Join(dir, "ca.pem"), ca.Cert)
	for name, r := range map[string]certstest.Request{
		"good": {},
		"soon": {NotBefore: now.AddDate(0, -2, 0), NotAfter: now.Add(73 * time.Hour)},
		"old":  {NotBefore: now.AddDate(0, -2, 0), NotAfter: now.AddDate(0, 0, -1)},
	} {
		r.Subject, r.Names = name, []string{name + ".example"}
		p := ca.Sign(r)
		p.Write(t, dir, name)
	}
}

// TestFindings holds what check says of each file in testdata/check against its golden:
// place, severity, code, key, message and suggestion of every finding.
func TestFindings(t *testing.T) {
	const corpus = root + "/testdata/check"
	files, err := filepath.Glob(corpus + "/*.toml")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	dir := t.TempDir()
	checkFixtures(t, dir)
	date := regexp.MustCompile(`\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?( UTC)?`)
	var all strings.Builder
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".toml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "builtin:ratelimit") {
			needBuiltins(t)
		}
		path := filepath.Join(dir, name+".toml")
		certstest.WriteFile(t, path, text)
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{"check", "--json", "-c", path}, &stdout, &stderr)
		var r report
		if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v: %s%s", name, err, stdout.String(), stderr.String())
		}
		var got strings.Builder
		for _, f := range r.Findings {
			if f.Line == 0 || f.Column == 0 || f.Key == "" || f.Message == "" || f.Suggestion == "" {
				t.Errorf("%s: no place, key, message or suggestion: %+v", name, f)
			}
			fmt.Fprintf(&got, "%s:%d:%d %s %s %s\n  %s\n  -> %s\n", filepath.Base(f.File), f.Line, f.Column, f.Severity, f.Code, f.Key, f.Message, f.Suggestion)
		}
		if want := exitOK; strings.Contains(got.String(), " error ") != (code == exitRefused) || code != want && code != exitRefused {
			t.Errorf("%s: exit code %d with\n%s", name, code, got.String())
		}
		if len(r.Findings) == 0 {
			t.Errorf("%s: nothing was found", name)
		}
		out := date.ReplaceAllString(strings.ReplaceAll(got.String(), dir+"/", ""), "DATE")
		all.WriteString(out)
		golden := corpus + "/" + name + ".golden"
		if *updateFindings {
			if err := os.WriteFile(golden, []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if out != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, out, want)
		}
		stdout.Reset()
		if code := run(t.Context(), []string{"check", "--strict", "-c", path}, &stdout, &stderr); code != exitRefused {
			t.Errorf("%s: --strict: exit code %d", name, code)
		}
	}
	documented, err := os.ReadFile(root + "/docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, code := range findingCodes(t) {
		if !strings.Contains(string(documented), "| `"+code+"` |") {
			t.Errorf("docs/check.md has no line about %s", code)
		}
		if !strings.Contains(all.String(), " "+code+" ") && !strings.HasPrefix(name, "Code") { // those are core/config's
			t.Errorf("no file in testdata/check is a case of %s", code)
		}
	}
}

// findingCodes returns the values of all constants that are codes, by name.
func findingCodes(t *testing.T) map[string]string {
	t.Helper()
	codes := map[string]string{}
	for _, file := range []string{"check_codes.go", "check.go", root + "/core/config/problem.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 || !strings.HasPrefix(strings.ToLower(v.Names[0].Name), "code") {
				return true
			}
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				code, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				codes[v.Names[0].Name] = code
			}
			return true
		})
	}
	if len(codes) < 25 {
		t.Fatalf("only %d codes were found", len(codes))
	}
	return codes
}
