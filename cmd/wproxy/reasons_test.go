package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// How reasons are written in the code: constants and fields called so, and arguments of
// the few functions that take one.
var (
	reasonInCode = regexp.MustCompile(`[rR]eason[A-Za-z]*(?::|\s*=|\s*:=)\s*"([a-z][a-z0-9_-]+:?)"|\b(?:unavailable|answer|refuse)\((?:\d+, )?"([a-z][a-z0-9_]+)"`)
	reasonInDocs = regexp.MustCompile("`([a-z][a-z0-9_]+)(:NAME)?`")
)

// Packages that name reasons of another kind: of failed calls, handshakes, checks and metrics.
var otherReasons = []string{"core/health", "core/metrics", "core/certs", "core/listen", "core/admin", "core/access"}

// TestReasons: docs/operations.md explains every reason that there is, and no other.
func TestReasons(t *testing.T) {
	inCode := map[string]string{}
	var code strings.Builder
	for _, dir := range []string{"core", "host/wasmfilter"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(root, path)
			if d != nil && d.IsDir() && slices.Contains(otherReasons, filepath.ToSlash(rel)) {
				return filepath.SkipDir
			}
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			code.Write(b)
			for _, m := range reasonInCode.FindAllSubmatch(b, -1) {
				inCode[strings.TrimSuffix(string(m[1])+string(m[2]), ":")] = filepath.ToSlash(rel)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(inCode) < 60 {
		t.Fatalf("only %d reasons are found in the code", len(inCode))
	}
	b, err := os.ReadFile(filepath.Join(root, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## Reasons\n")
	if !ok {
		t.Fatal("there is no section of reasons")
	}
	inDocs := map[string]bool{}
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, m := range reasonInDocs.FindAllStringSubmatch(cells[1], -1) {
				inDocs[m[1]] = true
			}
		}
	}
	for reason, file := range inCode {
		if !inDocs[reason] && !inDocs["upstream_"+reason] && !strings.HasSuffix(reason, "_") { // a status or another reason follows
			t.Errorf("%s: the reason %q is not explained in docs/operations.md", file, reason)
		}
	}
	for reason := range inDocs {
		of, upstream := strings.CutPrefix(reason, "upstream_") // what a codec says is the upstream's
		if upstream && inCode[of] == "" {
			upstream = false
		}
		if inCode[reason] == "" && !upstream && !strings.Contains(code.String(), `"`+reason) && !strings.Contains(code.String(), reason+`:"`) &&
			!strings.HasSuffix(reason, "_payload_too_large") { // request or response, and that

			t.Errorf("docs/operations.md explains %q, which no code gives", reason)
		}
	}
}
