package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const completionConfig = `
[listeners.web]
address = "127.0.0.1:0"
[listeners.inside]
address = "127.0.0.1:0"
[routes.api]
host = "api.example.com"
path = "/v1/*"
upstream = "app"
[upstreams.app]
servers = ["10.0.0.1:8080", "10.0.0.2:8080"]
[upstreams.other]
servers = ["unix:/run/x.sock"]
`

// words asks for completions as the scripts do, without what is said about them.
func words(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if code := run(t.Context(), append([]string{completeVerb}, args...), &out, &out); code != exitOK {
		t.Errorf("%q: code %d", args, code)
	}
	var list []string
	for line := range strings.Lines(out.String()) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		list = append(list, word)
	}
	return strings.Join(list, " ")
}

func TestComplete(t *testing.T) {
	t.Parallel()
	file := writeConfig(t, completionConfig)
	bad := writeConfig(t, "[routes.a]\nupstreem = 1\n")
	for _, tt := range []struct{ line, want string }{
		{"re", "reload"},
		{"nothing", ""},
		{"nothing ", ""},
		{"s", "stop server status schema"},
		{"server ", "drain ready"},
		{"server -c @ drain app/", "app/10.0.0.1:8080 app/10.0.0.2:8080"},
		{"server -c @ drain app/10.0.0.2", "app/10.0.0.2:8080"},
		{"server drain -c @ o", "other/unix:/run/x.sock"},
		{"server -c BAD drain ", ""},
		{"server -c @ drain app/10.0.0.1:8080 ", ""},
		{"explain -c @ --listener ", "inside web"},
		{"explain -c @ GE", "GET"},
		{"explain -c @ GET ", "http://api.example.com/v1/"},
		{"check -c ", filesWanted},
		{"check --j", "--json"},
		{"check -", "--help --json --memory --strict --to -c"},
		{"diff ", filesWanted},
		{"diff a b ", ""},
		{"diff --exit", "--exit-code"},
		{"completion ", "bash fish zsh"},
		{"cache ", "purge"},
		{"cache purge --p", "--prefix"},
		{"plugin b", "build bench"},
		{"plugin bench --", "--config --get --help --json --time"},
		{"plugin test -", "--help --json --run -v"},
		{"plugin inspect ", filesWanted},
		{"stop --now ", ""},
	} {
		args := strings.Split(strings.NewReplacer("@", file, "BAD", bad).Replace(tt.line), " ")
		if got := words(t, args...); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.line, got, tt.want)
		}
	}
	all := strings.Fields(words(t, ""))
	for _, c := range commands() {
		if !slices.Contains(all, c.name) {
			t.Errorf("%s is not completed", c.name)
		}
		if flags := flagsOf(t.Context(), []string{c.name}); c.name != "plugin" && c.name != "cache" && c.name != "version" &&
			c.name != "schema" && c.name != "completion" && len(flags) < 2 {
			t.Errorf("%s: no flags were found in its help", c.name)
		}
	}
}

// TestCompletionScripts: each shell that is there takes its script, and completes with it.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := writeConfig(t, completionConfig)
	// What the scripts call is this test's binary, which is wproxy by that name (TestMain).
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wproxy := filepath.Join(dir, "wproxy")
	if err := os.Symlink(self, wproxy); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+dir+string(filepath.ListSeparator)+os.Getenv("PATH"), "HOME="+dir)
	shell := func(t *testing.T, name string, args ...string) string {
		t.Helper()
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("there is no %s", name)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Env, cmd.Dir = env, dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	t.Run("bash", func(t *testing.T) {
		t.Parallel()
		const script = `source <(wproxy completion bash)
complete -p wproxy
ask() { COMP_LINE=$1 COMP_POINT=${#1}; _wproxy; echo "$1=> ${COMPREPLY[*]}"; }
ask "wproxy rel"
ask "wproxy server -c CONFIG drain app/10.0.0.2"
ask "wproxy server -c CONFIG drain app/10.0.0.2:"
ask "wproxy server "
ask "wproxy check -c wpro"
ask "wproxy check --"
`
		got := shell(t, "bash", "--norc", "-c", strings.ReplaceAll(script, "CONFIG", file))
		for _, want := range []string{
			"complete -F _wproxy wproxy",
			"wproxy rel=> reload\n",
			"drain app/10.0.0.2=> app/10.0.0.2:8080\n",
			"drain app/10.0.0.2:=> 8080\n", // what comes after the colon is a word to bash
			"wproxy server => drain ready\n",
			"wproxy check -c wpro=> wproxy\n", // the file
			"wproxy check --=> --help --json --memory --strict --to\n",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	})
	t.Run("zsh", func(t *testing.T) {
		t.Parallel()
		shell(t, "zsh", "-f", "-c", "autoload -U compinit && compinit -u && source <(wproxy completion zsh) && whence _wproxy")
	})
	t.Run("fish", func(t *testing.T) {
		t.Parallel()
		got := shell(t, "fish", "--no-config", "-c", "wproxy completion fish | source; complete -C 'wproxy rel'")
		if !strings.HasPrefix(got, "reload") {
			t.Errorf("got %q", got)
		}
	})
	var out bytes.Buffer
	if code := run(t.Context(), []string{"completion", "tcsh"}, &out, &out); code != exitFailed || !strings.Contains(out.String(), "bash|zsh|fish") {
		t.Errorf("tcsh: code %d: %s", code, out.String())
	}
}
