package config_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"wproxy/core/config"
)

// TestBadComplete: every message of the corpus has a place, a key and a suggestion.
func TestBadComplete(t *testing.T) {
	t.Chdir("testdata/bad")
	files, err := filepath.Glob("*.toml")
	if err != nil || len(files) < 40 {
		t.Fatalf("found %d bad files, %v", len(files), err)
	}
	codes := map[string]int{}
	for _, file := range files {
		_, err := config.Load(file)
		ps, ok := errors.AsType[config.Problems](err)
		if !ok || len(ps) == 0 {
			t.Errorf("%s: got %v", file, err)
			continue
		}
		for _, p := range ps {
			codes[p.Code]++
			whole := p.Code == config.CodeSyntax || file == "no_routes.toml"
			if p.Pos.File == "" || p.Pos.Line == 0 && file != "no_routes.toml" || p.Pos.Line > 0 && p.Pos.Col == 0 {
				t.Errorf("no place: %s", p.Error())
			}
			if p.Key == "" && !whole {
				t.Errorf("no key: %s", p.Error())
			}
			reason, suggestion := p.Parts()
			if reason == "" || suggestion == "" {
				t.Errorf("says not what would be right (see Problem.Parts): %s", p.Error())
			}
			if strings.Contains(reason, "wrong") && len(reason) < 10 {
				t.Errorf("says not what is wrong: %s", p.Error())
			}
		}
	}
	for _, code := range []string{
		config.CodeSyntax, config.CodeUnknownKey, config.CodeUnsupported, config.CodeWrongType, config.CodeOutOfRange, config.CodeBadChoice,
	} {
		if codes[code] == 0 {
			t.Errorf("no bad file has a problem with the code %s", code)
		}
	}
}

// elsewhere are messages that no bad file can have, or that another test has.
var elsewhere = map[string]string{
	"config: no default for %s":                              "a mistake in a tag; TestTags",
	"file is larger than %s":                                 "nobody wants such a file here; TestPipe has the other check of readFile",
	"is not a regular file":                                  "TestPipe",
	"%q finds more than %d files":                            "a thousand files",
	"%s: tls.acme.hosts: %d are more than %d":                "a thousand hosts",
	"is %s, want a list of servers, or servers = [...]":      "TestParseServers",
	"has no servers; an empty list says that there are none": "TestParseServers",
}

// TestEveryMessage: every message that this package can make is made by some bad file, so
// that its words have been read by somebody. A message is the format of a call of addf,
// fmt.Errorf or errors.New.
func TestEveryMessage(t *testing.T) {
	goldens, err := filepath.Glob("testdata/bad/*.golden")
	if err != nil || len(goldens) < 40 {
		t.Fatalf("found %d goldens, %v", len(goldens), err)
	}
	var all strings.Builder
	for _, g := range goldens {
		b, err := os.ReadFile(g)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	text := all.String()
	verb := regexp.MustCompile(`%[#+]?[a-z]`)
	seen, known := 0, map[string]bool{}
	for _, f := range formats(t) {
		known[f.text] = true
		if _, ok := elsewhere[f.text]; ok {
			continue
		}
		pattern := ""
		for i, part := range verb.Split(strings.ReplaceAll(f.text, "%%", "\x00"), -1) {
			if i > 0 {
				pattern += ".*"
			}
			pattern += regexp.QuoteMeta(strings.ReplaceAll(part, "\x00", "%"))
		}
		if !regexp.MustCompile(`[a-z]{3}`).MatchString(verb.ReplaceAllString(f.text, "")) {
			continue // all of its words come from somewhere else
		}
		seen++
		if !regexp.MustCompile(pattern).MatchString(text) {
			t.Errorf("%s: no file in testdata/bad has the message %q", f.pos, f.text)
		}
	}
	for f := range elsewhere {
		if !known[f] {
			t.Errorf("there is no message %q any more", f)
		}
	}
	if seen < 150 {
		t.Errorf("only %d messages were found", seen)
	}
}

type format struct{ pos, text string }

// formats returns the formats of this package's messages.
func formats(t *testing.T) (list []format) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"addf", "Errorf", "New"}, sel.Sel.Name) {
				return true
			}
			for _, arg := range call.Args {
				lit, ok := arg.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					continue
				}
				s, err := strconv.Unquote(lit.Value)
				if err == nil && strings.Contains(s, " ") { // a key has none
					list = append(list, format{fset.Position(lit.Pos()).String(), s})
					break
				}
			}
			return true
		})
	}
	return list
}
