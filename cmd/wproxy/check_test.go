package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/core/config"
	"wproxy/plugins"
)

// TestDocumentedTests: the examples of the reference do what their tests say.
func TestDocumentedTests(t *testing.T) {
	t.Setenv("API_TOKEN", "token")
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var example strings.Builder
	for i, block := range strings.Split(string(text), "```toml\n") {
		if toml, _, ok := strings.Cut(block, "```"); ok && i > 0 {
			example.WriteString(toml)
		}
	}
	f, err := config.Parse("example.toml", []byte(example.String()))
	if err != nil {
		t.Fatal(err)
	}
	pl, err := newPlanner(f)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	r.test(f, pl)
	if len(r.Tests) < 2 || len(r.problems) > 0 || len(pl.table.Shadowed()) > 0 {
		t.Errorf("%d tests: %v, %v", len(r.Tests), r.problems, pl.table.Shadowed())
	}
}

// TestWarningsAreLogged: who does not run check is told, too.
func TestWarningsAreLogged(t *testing.T) {
	const text = "[listeners.http]\naddress = \"127.0.0.1:0\"\nlimits.connections = 100\n[admin]\naddress = \"none\"\n[routes.a]\nrespond.body = \"a\"\npriority = 1\n"
	a, log := newTestApp(t, text)
	if got := log.String(); strings.Contains(got, "warn") {
		t.Errorf("a warning without a cause: %s", got)
	}
	if err := os.WriteFile(a.source.file, []byte(text+"[routes.b]\nrespond.body = \"b\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.log.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"warn", "can never match", a.source.file + ":9:1"} {
		if got := log.String(); !strings.Contains(got, want) {
			t.Errorf("after a reload: no %q in %s", want, got)
		}
	}
	b, log := newTestApp(t, text+"[routes.b]\nrespond.body = \"b\"\n")
	if got := log.String(); !strings.Contains(got, "can never match") {
		t.Errorf("at the start: %s", got)
	}
	status, err := json.Marshal(b.status())
	if err != nil || bytes.Contains(status, []byte("null")) {
		t.Errorf("a list that is null: %s, %v", status, err)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	accessLog := filepath.Join(dir, "access.log")
	for name, c := range map[string]struct {
		text           string
		code           int
		stdout, stderr string // @ is the file; lines of stderr must be equal
	}{
		"fine": {
			text: `
[routes.a]
host = "a.example"
path = "/v1/*"
to   = "builtin:httpbin"
strip = "/v1"
[routes.b]
redirect = "https://b.example"
[log]
access.to = "` + accessLog + `"
[[tests]]
request = "GET http://a.example/v1/x?y"
expect  = { route = "a", plugins = [], upstream = "builtin:httpbin", upstream_path = "/x" }
[[tests]]
request = "GET https://a.example/"
expect  = { route = "b", status = 307, location = "https://b.example/" }
[[tests]]
request = "GET https://a.example/a%2fb"
expect  = { status = 400 }
`,
			stdout: "@ is fine: 1 listener, 2 routes, 1 upstream, 0 plugins, 3 tests\n",
		},
		"warnings": {
			text: `
[routes.a]
to = "127.0.0.1:1"
priority = 1
[routes.b]
to = "127.0.0.1:1"
[upstreams.u]
servers = ["127.0.0.1:1"]
`,
			stdout: "@ is fine: 1 listener, 2 routes, 2 upstreams, 0 plugins, 0 tests\n",
			stderr: `@:5:1  warning: route "b" can never match: "a" covers /* with no extra condition [route_shadowed]
@:7:1  warning: upstream "u" is used by no route [upstream_unused]
`,
		},
		"tests": {
			text: `
[routes.a]
to = "127.0.0.1:1"
[routes.b]
host    = "b"
respond = { status = 204 }
when.header.x-a = "1"
[[tests]]
request = "GET http://b/"
expect  = { route = "b", status = 204, upstream = "127.0.0.1:1", upstream_path = "/x", plugins = ["p"], location = "/y" }
[[tests]]
request = "GET http://b/"
headers = { X-A = "1" }
expect  = { route = "b", status = 200 }
[[tests]]
request = "GET http://b/%zz"
expect  = { status = 404 }
`,
			code: exitRefused,
			stderr: `@:8:1  test 1: GET http://b/: location is none, expected /y
@:8:1  test 1: GET http://b/: plugins is [], expected ["p"]
@:8:1  test 1: GET http://b/: route is a (b lost: header x-a: is not there), expected b
@:8:1  test 1: GET http://b/: status is the upstream's, expected 204
@:8:1  test 1: GET http://b/: upstream_path is /, expected /x
@:11:1  test 2: GET http://b/: status is 204 (respond), expected 200
@:15:1  test 3: GET http://b/%zz: status is 400 (bad_escape), expected 404
`,
		},
		"tie": {
			text: `
[routes.a]
to = "127.0.0.1:1"
[routes.b]
to = "127.0.0.1:1"
[plugins.p]
wasm = "missing.wasm"
`,
			code: exitRefused,
			stderr: `@:4:1  route "b": is as specific as route "a" for /*, and a request can meet both: give one of them a further condition or a priority
@:7:1  plugin "p" (missing.wasm): there is no file DIR/missing.wasm
`,
		},
		"text for a plugin": {
			text: `
[routes.a]
to  = "127.0.0.1:1"
use = ["limit"]
[plugins.limit]
wasm   = "builtin:ratelimit"
config = '{"rate":"6/m"}'
`,
			stdout: "@ is fine: 1 listener, 1 route, 1 upstream, 1 plugin, 0 tests\n",
		},
		"with over text": {
			text: `
[routes.a]
to  = "127.0.0.1:1"
use = ["limit"]
with.limit.rate = "1/s"
[plugins.limit]
wasm   = "builtin:ratelimit"
config = '{"rate":"6/m"}'
`,
			code:   exitRefused,
			stderr: "@:5:6  route \"a\": with.limit: the config of plugin \"limit\" is text, which nothing can be laid over; a second [plugins] entry with the same wasm can have another text\n",
		},
		"load": {
			text:   "[routes.a]\nto = \"127.0.0.1:1\"\npaht = \"/\"\n",
			code:   exitRefused,
			stderr: "@:3:1  route \"a\": unknown key \"paht\" (did you mean \"path\"?)\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(c.text, "builtin:ratelimit") && c.code == exitOK {
				if _, err := plugins.Builtin("ratelimit"); errors.Is(err, plugins.ErrNotBuilt) {
					t.Skip(err) // `make test` builds it first
				}
			}
			file := writeConfig(t, c.text)
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), []string{"check", "-c", file}, &stdout, &stderr)
			got := [2]string{strings.ReplaceAll(stdout.String(), file, "@"), strings.ReplaceAll(strings.ReplaceAll(stderr.String(), file, "@"), filepath.Dir(file), "DIR")}
			if code != c.code || got[0] != c.stdout || got[1] != c.stderr {
				t.Errorf("code %d, want %d\ngot\n%s%s\nwant\n%s%s", code, c.code, got[0], got[1], c.stdout, c.stderr)
			}
			stdout.Reset()
			var r report
			if code := run(t.Context(), []string{"check", "--json", "-c", file}, &stdout, &stderr); code != c.code {
				t.Errorf("--json: code %d, want %d", code, c.code)
			}
			errs := 0
			if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
				t.Errorf("--json: %v, %s", err, stdout.String())
			}
			for _, f := range r.Findings {
				if f.File == "" || f.Line == 0 || f.Key == "" || f.Severity == "" || f.Code == "" || f.Message == "" {
					t.Errorf("--json: a finding without a place, or a code: %+v", f)
				}
				if f.Severity == "error" {
					errs++
				}
			}
			if r.OK != (c.code == exitOK) || r.OK != (errs == 0) || errs > strings.Count(c.stderr, "\n") {
				t.Errorf("--json: %s", stdout.String())
			}
		})
	}
	if _, err := os.Stat(accessLog); err == nil {
		t.Error("check has made the access log")
	}
	// No configuration is no wrong configuration, whether it was named or looked for.
	missing := filepath.Join(dir, "none.toml")
	t.Chdir(dir)
	for _, args := range [][]string{
		{"check", "-c", missing}, {"check", "--json", "-c", missing}, {"run", "-c", missing}, {"explain", "-c", missing, "GET", "http://x/"},
	} {
		var stdout, stderr bytes.Buffer
		want := "wproxy " + args[0] + ": " + missing + ": file not found\n"
		if code := run(t.Context(), args, &stdout, &stderr); code != exitFailed || stderr.String() != want || stdout.Len() > 0 {
			t.Errorf("%q: code %d: %s%s", args, code, stdout.String(), stderr.String())
		}
	}
	if _, err := os.Stat(defaultFiles[1]); err != nil {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"check"}, &stdout, &stderr); code != exitFailed {
			t.Errorf("without a file: code %d: %s", code, stderr.String())
		}
	}
}

// TestRetryWarnings: retries that cannot work as they are written are told, with their
// place, and others are not.
func TestRetryWarnings(t *testing.T) {
	t.Parallel()
	const upstream = "\n[upstreams.u]\nservers = [\"127.0.0.1:1\"]\n"
	for _, tt := range []struct{ name, route, upstream, want string }{
		{"defaults", ``, ``, ``},
		{"fits", `timeout = "9s"` + "\n" + `retry = { attempts = 2, per_try = "3s", on = ["timeout"] }`, ``, ``},
		{"does not fit", `timeout = "8s"` + "\n" + `retry = { attempts = 2, per_try = "3s" }`, ``, `4:25 retry.per_try: 3 tries of 3s take longer than the whole request may (timeout, 8s): the last are cut short`},
		{"longer than all", `timeout = "3s"` + "\n" + `retry = { per_try = "3s" }`, ``, `4:11 retry.per_try: 3s has no effect: the whole request has 3s (timeout)`},
		{"no end", `timeout = "0"` + "\n" + `retry = { attempts = 9, per_try = "1h", on = ["timeout"] }`, ``, ``},
		{"everything", `retry = { attempts = 3, budget = "100%" }`, ``, `3:25 retry.budget: 100% bounds nothing: when every server fails they get 2 times the requests`},
		{"never", `retry = { attempts = 0, budget = "100%", per_try = "2m" }`, ``, ``},
		{"nothing times out", `timeout = "20s"` + "\n" + `retry = { on = ["timeout"] }`, ``, `4:11 retry.on: "timeout" has no effect: nothing times out before the whole request does (timeout, 20s); set per_try`},
		{"the upstream does", `timeout = "20s"` + "\n" + `retry = { on = ["timeout"] }`, `connect = { read_timeout = "10s" }`, ``},
	} {
		f, err := config.Parse("w.toml", []byte("[routes.r]\nupstream = \"u\"\n"+tt.route+upstream+tt.upstream+"\n"))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got := ""
		for _, p := range warnings(f, nil) {
			got += fmt.Sprintf("%d:%d %s", p.Pos.Line, p.Pos.Col, p.Text)
		}
		if got = strings.Replace(got, `route "r": `, "", 1); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestTelemetryWarnings(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"all is well", "[tracing]\notlp = \"http://127.0.0.1:4318\"\nheaders = { x = \"y\" }\n", ""},
		{"nothing is recorded", "[tracing]\notlp = \"http://h\"\nsample = \"0%\"\n", "tracing: nothing is ever recorded"},
		{"nor like this", "[tracing]\notlp = \"http://h\"\nsample = \"0%\"\nparent = \"ignore\"\n", "tracing: nothing is ever recorded"},
		{"somebody decides", "[tracing]\notlp = \"http://h\"\nsample = \"0%\"\nparent = \"follow\"\n", ""},
		{"somebody is trusted", "[listeners.l]\naddress = \":1\"\ntrust_proxy = [\"10.0.0.0/8\"]\n[tracing]\notlp = \"http://h\"\nsample = \"0%\"\n", ""},
		{"there is a token", "[admin]\ndebug_token = \"0123456789abcdef\"\n[tracing]\notlp = \"http://h\"\nsample = \"0%\"\n", ""},
		{"in clear", "[tracing]\notlp = \"http://h\"\nheaders = { x = \"y\" }\n", "tracing.headers: are sent in clear to h"},
		{"not in clear", "[tracing]\notlp = \"https://h\"\nheaders = { x = \"y\" }\n", ""},
		{"credentials, hidden", "[log.access]\nfields = [\"header:Authorization\"]\n", ""},
		{"credentials", "[log.access]\nfields = [\"header:Authorization\"]\nhide = []\n", "writes credentials into the log"},
		{"some cookies", "[log.access]\nfields = [\"header:cookie\"]\nhide = [\"cookie:id\"]\n", ""},
		{"all cookies", "[log.access]\nfields = [\"response:set-cookie\"]\nhide = [\"cookie:id\"]\n", "writes credentials into the log"},
	} {
		f, err := config.Parse("w.toml", []byte(tt.text+"[routes.a]\nto = \"127.0.0.1:1\"\n"))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var got string
		for _, p := range telemetryWarnings(f) {
			got += p.Text
		}
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
