package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"wproxy/core/config"
)

// write writes files into a directory and returns the path of the first.
func write(tb testing.TB, files ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return filepath.Join(dir, files[0])
}

// load loads what must be right.
func load(tb testing.TB, files ...string) *config.File {
	tb.Helper()
	f, err := config.Load(write(tb, files...))
	if err != nil {
		tb.Fatalf("refused:\n%v", err)
	}
	return f
}

const full = `
version = 1

[listeners.http]
address     = ":80"
protocols   = ["h2c", "h1"]
trust_proxy = ["10.0.0.0/8", "2001:db8::1", "::ffff:192.0.2.1"]
limits      = { header = "32KiB", fields = 100, header_time = "5s", idle = "1m30s", body = 1048576, connections = 20_000, connections_per_client = 50 }

[listeners.door]
address  = "unix:/run/door.sock"

[routes.api]
host     = ["API.example.com", "*.api.example.com", "[::1]"]
path     = ["/v1/*", "/v1beta"]
methods  = ["GET", "POST"]
when     = { header = { X-Canary = "1", x-old = false }, query = { q = ["a", "b"], p = true } }
listener = "http"
priority = -3
upstream = { api = 95, api-next = 5 }
strip    = "/v1"
rewrite  = { regex = '^/u/(\d+)', to = '/users/${1}' }
timeout  = "10s"
allow    = "10.0.0.0/8"
deny     = ["10.1.0.0/16"]
encoded_slash = "keep"
repick   = "trust"
use      = ["headers", "limit"]
metadata = { team = "a", tags = ["x", 1, 2.5, true] }
request_headers  = { set = { X-Proxy-By = "wproxy" }, add = { via = "1.1 w" }, remove = ["Cookie"] }
response_headers = { remove = ["server"] }
retry    = { attempts = 2, on = ["connect", "reset", "503"], idempotent = true, per_try = "3s", budget = "12.5%", budget_min = "30/m", body_buffer = "1MiB", backoff = "10ms..1s", retry_after = "2s" }
websocket.idle = "1h"

[routes.api.with.limit]
rate = "20/s"
key.deep = { a = 2 }

[routes.moved]
path     = "/old/*"
redirect = { to = "https://new.example.com", status = 308 }

[routes.short]
path     = "/short"
redirect = "/long"

[routes.health]
path    = "/healthz"
respond = { status = 200, body = "ok", headers = { Content-Type = "text/plain" } }

[routes.to]
path = "/to"
to   = "http://origin.example"

[routes.to-too]
path = "/to-too"
to   = "http://origin.example"

[upstreams.api]
servers = ["10.0.0.1:80", { address = "unix:/run/api.sock", weight = 3, max_connections = 20, max_requests = 30 }, "builtin:httpbin", "http://[::1]"]
host    = "server"
pool    = { idle = 64, idle_time = "30s", per_server = 8, max_requests = 16, queue = 10, queue_time = "500ms" }
connect = { timeout = "1s", total = "5s", read_timeout = "20s", write_timeout = 0, protocol = "h1" }

[upstreams.api-next]
servers = "10.0.0.2:80"

[plugins.headers]
wasm = "builtin:securityheaders"

[plugins.limit]
wasm      = "./limit.wasm"
config    = { rate = "100/s", burst = 50, key = { kind = "ip", deep = { a = 1, b = 1 } }, since = 2026-01-02T03:04:05Z }
root_id   = "root"
vm_id     = "shared"
vm_config = { a = 1 }
env       = { LEVEL = "debug" }
grant     = ["log", "metrics", "shared-data", "env"]
sandbox   = { on_error = "open", restart = "2s..1m", stack = "2MiB" }

[sandbox]
on_error    = "close"
body_buffer = "2MiB"

[server]
drain   = "5s"
threads = 2

[admin]
address = ["127.0.0.1:9902", "unix:/run/w.sock"]

[log]
level = "debug"
to    = "stdout"
access.to = "none"

[[tests]]
request = "GET http://api.example.com/v1/users"
expect  = { route = "api", plugins = [], upstream_path = "/users", status = 200 }
`

func TestLoad(t *testing.T) {
	f := load(t, "w.toml", full)
	r := f.Routes["api"]
	check := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, want %#v", what, got, want)
		}
	}
	pre := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	check("listeners", len(f.Listeners), 2)
	check("protocols", f.Listeners["http"].Protocols, []string{"h2c", "h1"})
	check("default protocols", f.Listeners["door"].Protocols, []string{"h1", "h2c"})
	check("trust_proxy", f.Listeners["http"].TrustProxy, pre("10.0.0.0/8", "2001:db8::1/128", "192.0.2.1/32"))
	check("limits", f.Listeners["http"].Limits, config.Limits{32 << 10, 100, 5 * time.Second, 90 * time.Second, 1 << 20, 128, 20000, 50})
	check("default limits", f.Listeners["door"].Limits, config.Limits{64 << 10, 200, 10 * time.Second, time.Minute, 0, 128, 20000, 0})
	check("host", r.Host, []string{"api.example.com", "*.api.example.com", "::1"})
	check("path", r.Path, []string{"/v1/*", "/v1beta"})
	check("when", r.When, config.When{
		Header: map[string]config.Match{"x-canary": {Values: []string{"1"}}, "x-old": {Absent: true}},
		Query:  map[string]config.Match{"q": {Values: []string{"a", "b"}}, "p": {}},
	})
	check("listener", r.Listener, []string{"http"})
	check("priority", r.Priority, -3)
	check("upstream", r.Upstream, []config.Target{{"api", 95}, {"api-next", 5}})
	check("rewrite", *r.Rewrite, config.Rewrite{Regex: `^/u/(\d+)`, To: "/users/${1}"})
	check("timeout", r.Timeout, 10*time.Second)
	check("allow", r.Allow, pre("10.0.0.0/8"))
	check("deny", r.Deny, pre("10.1.0.0/16"))
	check("words", []string{r.EncodedSlash, r.Repick, f.Routes["to"].EncodedSlash, f.Routes["to"].Repick}, []string{"keep", "trust", "refuse", "refuse"})
	check("metadata", r.Metadata, map[string]any{"team": "a", "tags": []any{"x", int64(1), 2.5, true}})
	check("request_headers", r.RequestHeaders, config.HeaderEdit{
		Set: map[string]config.Value{"x-proxy-by": config.Plain("wproxy")}, Add: map[string]config.Value{"via": config.Plain("1.1 w")}, Remove: []string{"cookie"},
	})
	check("retry", r.Retry, config.Retry{
		Attempts: 2, On: []string{"connect", "reset", "503"}, Idempotent: true, PerTry: 3 * time.Second, Budget: 0.125, BudgetMin: 0.5,
		BodyBuffer: 1 << 20, Backoff: config.Backoff{10 * time.Millisecond, time.Second}, RetryAfter: 2 * time.Second,
	})
	check("default retry", f.Routes["to"].Retry, config.Retry{
		Attempts: 1, On: []string{"connect", "refused-stream"}, Budget: 0.2, BudgetMin: 3, BodyBuffer: 64 << 10,
		Backoff: config.Backoff{25 * time.Millisecond, 250 * time.Millisecond}, RetryAfter: time.Second,
	})
	check("websocket", []time.Duration{r.WebSocket.Idle, f.Routes["to"].WebSocket.Idle}, []time.Duration{time.Hour, 5 * time.Minute})
	check("merged", r.Plugins[1].Config, map[string]any{
		"rate": "20/s", "burst": int64(50), "since": "2026-01-02T03:04:05Z",
		"key": map[string]any{"kind": "ip", "deep": map[string]any{"a": int64(2), "b": int64(1)}},
	})
	check("redirect", *f.Routes["moved"].Redirect, config.Redirect{"https://new.example.com", 308})
	check("short redirect", *f.Routes["short"].Redirect, config.Redirect{"/long", 307})
	check("respond", f.Routes["health"].Respond.Headers, map[string]config.Value{"content-type": config.Plain("text/plain")})
	check("to", f.Routes["to"].Upstream, []config.Target{{"http://origin.example", 1}})
	check("to's upstream", f.Upstreams["http://origin.example"].Servers, []config.ServerEntry{{Address: "http://origin.example", Weight: 1, Network: "tcp", Dial: "origin.example:80", Scheme: "http"}})
	check("upstreams", len(f.Upstreams), 3)
	check("servers", f.Upstreams["api"].Servers, []config.ServerEntry{
		{Address: "10.0.0.1:80", Weight: 1, Network: "tcp", Dial: "10.0.0.1:80", Scheme: "http"},
		{Address: "unix:/run/api.sock", Weight: 3, MaxConnections: 20, MaxRequests: 30, Network: "unix", Dial: "/run/api.sock", Scheme: "http"},
		{Address: "builtin:httpbin", Weight: 1, Network: "builtin", Dial: "httpbin", Scheme: "http"},
		{Address: "http://[::1]", Weight: 1, Network: "tcp", Dial: "[::1]:80", Scheme: "http"},
	})
	check("pool", f.Upstreams["api"].Pool, config.Pool{64, 30 * time.Second, 8, 16, 10, 500 * time.Millisecond, 100})
	check("default pool", f.Upstreams["api-next"].Pool, config.Pool{256, time.Minute, 0, 0, 100, time.Second, 100})
	check("connect", f.Upstreams["api"].Connect, config.Connect{time.Second, 5 * time.Second, 20 * time.Second, 0, "h1"})
	p := f.Plugins["limit"]
	check("plugin path", p.Path, filepath.Join(filepath.Dir(f.Path), "limit.wasm"))
	check("plugin ids", []string{p.RootID, p.VMID, p.Kind, f.Plugins["headers"].VMID}, []string{"root", "shared", "http", "headers"})
	check("grant", [][]string{p.Grant, f.Plugins["headers"].Grant}, [][]string{{"log", "metrics", "shared-data", "env"}, nil})
	check("sandbox", p.Sandbox, config.Sandbox{Memory: 64 << 20, CPU: 10 * time.Millisecond, Start: 10 * time.Second, Stack: 2 << 20, OnError: "open", Restart: config.Backoff{2 * time.Second, time.Minute}, BodyBuffer: 2 << 20})
	check("built-in", f.Plugins["headers"].Builtin, "securityheaders")
	check("built-in memory", f.Plugins["headers"].Sandbox.Memory, config.Size(16<<20))
	check("server", f.Server, config.Server{Drain: 5 * time.Second, Threads: 2, Objects: 1 << 30, H2Memory: 256 << 20})
	check("admin", f.Admin.Address, []string{"127.0.0.1:9902", "unix:/run/w.sock"})
	check("log", f.Log, config.Log{"debug", "stdout", config.Access{To: "none", Format: "json", Hide: config.DefaultHide(), Sample: 1}})
	check("test", *f.Tests[0].Expect.UpstreamPath, "/users")
	check("test plugins", *f.Tests[0].Expect.Plugins, []string{})
	check("test upstream", f.Tests[0].Expect.Upstream, (*string)(nil))
	check("place", f.At("routes.api.retry.budget").Line, 32)
	check("near place", f.At("routes.api.retry.nothing").Line, 32)
	check("pos", []int{r.Pos.Line, r.Pos.Col, f.Upstreams["http://origin.example"].Pos.Line}, []int{13, 1, 53})
}

func TestDefaults(t *testing.T) {
	f, err := config.ForAddress("127.0.0.1:3000")
	if err != nil {
		t.Fatal(err)
	}
	if l := f.Listeners["http"]; len(f.Listeners) != 1 || l.Address != ":8080" || !slices.Equal(l.Protocols, []string{"h1", "h2c"}) {
		t.Errorf("listeners: %+v", f.Listeners)
	}
	if r := f.Routes["all"]; len(f.Routes) != 1 || r.Upstream[0].Upstream != "127.0.0.1:3000" || r.Timeout != time.Minute || len(r.Host)+len(r.Path) != 0 {
		t.Errorf("routes: %+v", f.Routes["all"])
	}
	if u := f.Upstreams["127.0.0.1:3000"]; u == nil || u.Servers[0].Dial != "127.0.0.1:3000" || u.Pool.Idle != 256 {
		t.Errorf("upstream: %+v", u)
	}
	if f.Admin.Address[0] != "127.0.0.1:9901" || f.Server.Drain != 30*time.Second || f.Log.Access.To != "stdout" || f.Version != 1 {
		t.Errorf("%+v", f)
	}
	g := load(t, "w.toml", "[routes.all]\nto = \"127.0.0.1:3000\"\n")
	if g.Routes["all"].Hash != f.Routes["all"].Hash || g.Upstreams["127.0.0.1:3000"].Hash != f.Upstreams["127.0.0.1:3000"].Hash {
		t.Error("--to and the smallest file differ")
	}
	for _, bad := range []string{"", "3000", "ftp://a", "a:0"} {
		if _, err := config.ForAddress(bad); err == nil || !strings.HasPrefix(err.Error(), "--to: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if d := config.Defaults(); len(d.Listeners) != 1 || d.Sandbox.Memory != 64<<20 {
		t.Errorf("%+v", d)
	}
}

func TestSecrets(t *testing.T) {
	t.Setenv("WPROXY_TEST_TOKEN", "tok-en")
	f := load(t, "w.toml", strings.ReplaceAll(secretFile, "PORT", "3000"), "key", "s3cret\n")
	set := f.Routes["a"].RequestHeaders.Set
	for name, want := range map[string][2]string{
		"authorization": {"Bearer tok-en", "Bearer ${env:WPROXY_TEST_TOKEN}"},
		"x-key":         {"s3cret", "${file:key}"},
		"x-plain":       {"${env:X} $1 ${2} $", "${env:X} $1 ${2} $"},
	} {
		if v := set[name]; v.Reveal() != want[0] || v.String() != want[1] {
			t.Errorf("%s: got %q and %q, want %q", name, v.Reveal(), v, want)
		}
	}
	revealed, err := config.JSON(f.Routes["a"].Plugins[0].Config)
	if want := `{"list":["s3cret","x"],"token":"tok-en"}`; err != nil || string(revealed) != want {
		t.Errorf("JSON: got %s, want %s", revealed, want)
	}
	shown, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	dump := string(shown) + fmt.Sprintf("%v %+v %#v %s", f.Routes["a"], *f.Plugins["p"], f.Admin, f.Admin.Token)
	if strings.Contains(dump, "s3cret") || strings.Contains(dump, "tok-en") {
		t.Errorf("a secret shows in %s", dump)
	}
	if len(f.Files) != 1+4 || filepath.Base(f.Files[1]) != "key" {
		t.Errorf("files: %q", f.Files)
	}
}

const secretFile = `
[routes.a]
to              = "127.0.0.1:PORT"
request_headers = { set = { authorization = "Bearer ${env:WPROXY_TEST_TOKEN}", x-key = "${file:key}", x-plain = "$${env:X} $1 ${2} $" } }
use             = ["p"]
[plugins.p]
wasm   = "p.wasm"
config = { token = "${env:WPROXY_TEST_TOKEN}", list = ["${file:key}", "x"] }
env    = { KEY = "${file:key}" }
[admin]
write = true
token = "${file:key}"
`

func TestInclude(t *testing.T) {
	f := load(t, "w.toml", "include = [\"conf.d/*.toml\", \"*.toml\"]\n[routes.a]\nto = \"a:1\"\n",
		"conf.d/b.toml", "[routes.b]\npath = \"/b\"\nupstream = \"c\"\nuse = [\"p\"]\n[plugins.p]\nwasm = \"p.wasm\"\n[[tests]]\nrequest = \"GET http://a/\"\nexpect.route = \"a\"\n",
		"conf.d/c.toml", "[upstreams.c]\nservers = \"c:1\"\n[server]\ndrain = \"1s\"\n[[tests]]\nrequest = \"GET http://a/b\"\nexpect.route = \"b\"\n")
	if len(f.Routes) != 2 || f.Upstreams["c"] == nil || f.Server.Drain != time.Second || len(f.Tests) != 2 || len(f.Files) != 3 {
		t.Errorf("got %+v", f)
	}
	if p := f.Plugins["p"].Path; p != filepath.Join(filepath.Dir(f.Path), "conf.d", "p.wasm") {
		t.Errorf("path %s is not relative to the file that names it", p)
	}
	if pos := f.Routes["b"].Pos; filepath.Base(pos.File) != "b.toml" || pos.Line != 1 {
		t.Errorf("pos: %v", pos)
	}
	if p := f.Tests[1].Pos; filepath.Base(p.File) != "c.toml" || p.Line != 5 {
		t.Errorf("test pos: %v", p)
	}
}

// TestHash checks that a hash is of the settings, not of how they were written.
func TestHash(t *testing.T) {
	base := load(t, "w.toml", full)
	moved := load(t, "w.toml", "# a comment\n\n"+strings.NewReplacer(`"10s"`, `"10000ms"`, `"x", 1`, `"x",1`).Replace(full))
	hashes := func(f *config.File) map[string]config.Hash {
		m := map[string]config.Hash{}
		for n, o := range f.Listeners {
			m["listener "+n] = o.Hash
		}
		for n, o := range f.Routes {
			m["route "+n] = o.Hash
		}
		for n, o := range f.Upstreams {
			m["upstream "+n] = o.Hash
		}
		for n, o := range f.Plugins {
			o.Path, m["plugin "+n] = "", o.Hash
		}
		return m
	}
	want := hashes(base)
	for name, h := range hashes(moved) {
		if name != "plugin limit" && h != want[name] || h == (config.Hash{}) {
			t.Errorf("%s: hash changed without a change", name)
		}
	}
	for _, c := range []struct{ from, to, changed string }{
		{`"10s"`, `"11s"`, "route api"},
		{`rate = "20/s"`, `rate = "21/s"`, "route api"},
		{`{ X-Canary = "1"`, `{ X-Canary = ["1", ""]`, "route api"},
		{`deny     = ["10.1.0.0/16"]`, `deny     = ["10.1.0.0/17"]`, "route api"},
		{`servers = "10.0.0.2:80"`, `servers = ["10.0.0.3:80"]`, "upstream api-next"},
		{`connections = 20_000`, `connections = 20_001`, "listener http"},
		{`wasm = "builtin:securityheaders"`, "wasm = \"builtin:securityheaders\"\nroot_id = \"r\"", "plugin headers"},
	} {
		text := strings.Replace(full, c.from, c.to, 1)
		if text == full {
			t.Fatalf("%s is not in the file", c.from)
		}
		for name, h := range hashes(load(t, "w.toml", text)) {
			if (h != want[name]) != (name == c.changed) && name != "plugin limit" { // its path is in another directory each time
				t.Errorf("%s -> %s: hash of %s: changed %v", c.from, c.to, name, h != want[name])
			}
		}
	}
}

// TestTextConfig: a plugin's settings may be text, which the guest gets as it is.
func TestTextConfig(t *testing.T) {
	t.Setenv("WPROXY_TEST_TOKEN", "tok-en")
	plugin := func(config string) *config.File {
		return load(t, "w.toml", "[routes.a]\nto = \"a:1\"\nuse = [\"p\"]\n[plugins.p]\nwasm = \"builtin:x\"\n"+config)
	}
	hashes := map[config.Hash]string{}
	for _, tt := range []struct{ toml, want string }{
		{"config = 'rate: 5'", "rate: 5"},
		{`config = "a\nb\u0000"`, "a\nb\x00"},
		{`config = '{"a":1}'`, `{"a":1}`},
		{`config = "key=${env:WPROXY_TEST_TOKEN}"`, "key=tok-en"},
		{"config = { a = 1 }", `{"a":1}`},
		{"config = {}", ""},
		{"root_id = ''", ""},
	} {
		f := plugin(tt.toml)
		u := f.Routes["a"].Plugins[0]
		if got, err := config.Raw(u.Config); err != nil || string(got) != tt.want {
			t.Errorf("%s: the guest gets %q, %v, want %q", tt.toml, got, err, tt.want)
		}
		if shown := fmt.Sprintf("%v %+v %#v", u, *f.Plugins["p"], u.Config); strings.Contains(shown, "tok-en") {
			t.Errorf("a secret shows in %s", shown)
		}
		if other := hashes[u.Hash]; other != "" && tt.want != "" {
			t.Errorf("%s and %s have one hash", tt.toml, other)
		}
		hashes[u.Hash] = tt.toml
	}
	before := plugin(`config = "key=${env:WPROXY_TEST_TOKEN}"`)
	t.Setenv("WPROXY_TEST_TOKEN", "another")
	if plugin(`config = "key=${env:WPROXY_TEST_TOKEN}"`).Routes["a"].Hash == before.Routes["a"].Hash {
		t.Error("another secret has the same hash")
	}
	if got := config.NewRedactor(before.Plugins["p"].Config).Redact("it says key=tok-en"); got != "it says key=${env:WPROXY_TEST_TOKEN}" {
		t.Errorf("redacted: %q", got)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := config.Load("nowhere/wproxy.toml")
	if err == nil || err.Error() != "nowhere/wproxy.toml: file not found" {
		t.Errorf("got %v", err)
	}
	_, err = config.Load(t.TempDir())
	if err == nil || !strings.HasSuffix(err.Error(), "cannot be read: is a directory") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if strings.Contains(string(b), "include") || strings.Contains(string(b), "${") {
			return // would read files of this machine
		}
		file, err := config.Parse("w.toml", b)
		if (file == nil) == (err == nil) {
			t.Fatal("either a file or an error")
		}
		if err == nil {
			return
		}
		for _, p := range func() config.Problems {
			var target config.Problems
			_ = errors.As(err, &target)
			return target
		}() {
			if p.Text == "" || strings.ContainsAny(p.Text, "\n\r") || p.Pos.File != "w.toml" {
				t.Errorf("problem %#v", p)
			}
			lines := strings.Count(string(b), "\n") + 1
			if p.Pos.Line > lines || p.Pos.Line < 0 || p.Pos.Line > 0 && p.Pos.Col < 1 {
				t.Errorf("place %v of %d lines", p.Pos, lines)
			}
		}
	})
}

// TestPipe: a pipe that nobody writes to must not keep a reload waiting.
func TestPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), "wproxy.toml")
	if err := os.WriteFile(file, []byte("[routes.a]\nrespond = { body = \"${file:"+pipe+"}\" }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, file} {
		if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: got %v, want that it is not a regular file", path, err)
		}
	}
}

// TestHealthTimeout: what is left out is never longer than the time between two checks.
func TestHealthTimeout(t *testing.T) {
	t.Parallel()
	for health, want := range map[string]time.Duration{
		`{}`: 2 * time.Second, `{ every = "1s" }`: time.Second, `{ every = "1h" }`: 2 * time.Second, `{ every = "5s", timeout = "4s" }`: 4 * time.Second,
	} {
		f, err := config.Parse("x.toml", []byte("[routes.a]\nupstream = \"u\"\n[upstreams.u]\nservers = [\"10.0.0.1:80\"]\nhealth = "+health))
		if err != nil {
			t.Errorf("%s: %v", health, err)
		} else if got := f.Upstreams["u"].Health.Timeout; got != want {
			t.Errorf("%s: %s, want %s", health, got, want)
		}
	}
	if _, err := config.Parse("x.toml", []byte("[routes.a]\nupstream = \"u\"\n[upstreams.u]\nservers = [\"10.0.0.1:80\"]\nhealth.timeout = \"1ms\"")); err == nil {
		t.Error("1ms is allowed")
	}
}

// TestAdminAddress: a listener cannot be where the admin server is.
func TestAdminAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		admin, listener string
		ok              bool
	}{
		{"127.0.0.1:8080", "127.0.0.1:8080", false},
		{"127.0.0.1:8080", ":8080", false},
		{":8080", "127.0.0.1:8080", false},
		{"127.0.0.1:8080", "[::]:8080", false},
		{"unix:/a", "unix:/a", false},
		{"127.0.0.1:8080", "127.0.0.2:8080", true},
		{"127.0.0.1:8080", "127.0.0.1:8081", true},
		{"127.0.0.1:0", "127.0.0.1:0", true},
		{"none", ":8080", true},
	} {
		_, err := config.Parse("x.toml", fmt.Appendf(nil, "[routes.a]\nto = \"10.0.0.1:80\"\n[admin]\naddress = %q\n[listeners.l]\naddress = %q\n", tt.admin, tt.listener))
		if (err == nil) != tt.ok {
			t.Errorf("%s and %s: %v", tt.admin, tt.listener, err)
		}
		if err != nil && !strings.Contains(err.Error(), `x.toml:6:1  listener "l": address: `) {
			t.Error(err)
		}
	}
}
