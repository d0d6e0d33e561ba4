package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// scripts returns all of testdata/script, without comments, files and calls for help.
func scripts(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "testdata", "script", "*.txtar"))
	if err != nil || len(files) < 50 {
		t.Fatalf("found %d scripts, %v", len(files), err)
	}
	var all strings.Builder
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ := strings.Cut("\n"+string(b), "\n-- ")
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "#") && !strings.Contains(line, "-help") && !strings.Contains(line, " -h\n") {
				all.WriteString(line)
			}
		}
	}
	return all.String()
}

// TestEveryVerbHasAScript: every command that wproxy has is run by some script, so that
// none is added without one.
func TestEveryVerbHasAScript(t *testing.T) {
	t.Parallel()
	all := scripts(t)
	verbs := []string{"server drain", "server ready", "stop --now", "completion bash", "completion zsh", "completion fish"}
	for _, c := range commands() {
		subs := subcommands(c.name)
		if len(subs) == 0 {
			verbs = append(verbs, c.name)
		}
		for _, s := range subs {
			verbs = append(verbs, c.name+" "+s)
		}
	}
	if len(verbs) < 20 {
		t.Fatalf("only %d verbs: %q", len(verbs), verbs)
	}
	for _, verb := range verbs {
		// Flags may come between, with their values.
		words := strings.Fields(verb)
		pattern := `(?m)^(exec|exits 0|until \S+|! exec) wproxy ` + strings.Join(words, `( -\S+( \S+)?)* `) + `\b`
		if verb == "run" {
			pattern = `(?m)^serve\b`
		}
		if strings.Contains(verb, " --") {
			pattern = `(?m)^exec wproxy ` + words[0] + ` .*` + words[1] + `\b`
		}
		if !regexp.MustCompile(pattern).MatchString(all) {
			t.Errorf("no script in testdata/script runs `wproxy %s`", verb)
		}
	}
}

// TestEverySignalHasAScript: the same for the signals that a running wproxy listens to.
func TestEverySignalHasAScript(t *testing.T) {
	t.Parallel()
	all := scripts(t)
	signals := 0
	inspect(t, "*.go", func(n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return
		}
		if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "Notify" {
			return
		}
		for _, arg := range call.Args {
			s, ok := arg.(*ast.SelectorExpr)
			name, isSignal := "", false
			if ok {
				name, isSignal = strings.CutPrefix(s.Sel.Name, "SIG")
			}
			if !isSignal || name == "WINCH" { // a terminal's, for top
				continue
			}
			signals++
			if !strings.Contains(all, "\nsignal "+name+"\n") {
				t.Errorf("no script in testdata/script sends SIG%s", name)
			}
		}
	})
	if signals < 4 {
		t.Errorf("only %d signals were found", signals)
	}
}

// TestEveryAdminCallHasAScript: the same for what the admin server answers, by its path or
// by the command that calls it.
func TestEveryAdminCallHasAScript(t *testing.T) {
	t.Parallel()
	all := scripts(t)
	by := map[string]string{ // commands that call a path
		"/reload": "wproxy reload", "/stop": "wproxy stop", "/status": "wproxy status", "/purge": "wproxy cache purge", "/diff": "wproxy diff",
		"/upstreams/": "wproxy server", "/debug/pprof/": "/debug/pprof/", "/{$}": "http://$ADMIN_ADDR/ ",
	}
	calls := 0
	inspect(t, root+"/core/admin/*.go", func(n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		lit, isText := call.Args[0].(*ast.BasicLit)
		if !ok || !isText || f.Sel.Name != "Handle" && f.Sel.Name != "HandleFunc" {
			return
		}
		route, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		calls++
		_, path, _ := strings.Cut(route, " ")
		want := path
		for prefix, command := range by {
			if strings.HasPrefix(path, prefix) {
				want = command
			}
		}
		if fixed, _, cut := strings.Cut(want, "{"); cut && fixed != "" {
			want = fixed
		}
		if !strings.Contains(all, want) {
			t.Errorf("no script in testdata/script has %q, which would call %s", want, route)
		}
	})
	if calls < 12 {
		t.Errorf("only %d calls were found", calls)
	}
}

// inspect shows f every node of the files that match a pattern and are no tests.
func inspect(t *testing.T, pattern string, f func(ast.Node)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			f(n)
			return true
		})
	}
}
