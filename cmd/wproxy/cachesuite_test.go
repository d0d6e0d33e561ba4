package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/plugins"
)

const suiteConfig = `
version = 1
[listeners.main]
address = "@ADDR"
[admin]
address = "@ADMIN"
[log.access]
to = "@ACCESS"
[plugins.cache]
wasm = "builtin:cache"
config = { store_set_cookie = true, stale_if_error = "1m" }
[upstreams.origin]
servers = ["@ORIGIN"]
[routes.all]
path = "/*"
upstream = "origin"
use = ["cache"]
`

// A suiteCase is a test of http-cache-tests.
type suiteCase struct {
	ID      string   `json:"id"`
	Kind    string   `json:"kind"` // "required", "optimal" or "check"
	Depends []string `json:"depends_on"`
	Browser bool     `json:"browser_only"`
}

// TestCacheSuite runs http-cache-tests (https://cache-tests.fyi), which .ci/cache-tests puts
// into the directory that WPROXY_CACHE_TESTS names, against the cache plugin, and compares
// what fails with a list: a test that is not in it must pass, and one that is must fail. A
// test counts only if those pass that it depends on.
func TestCacheSuite(t *testing.T) {
	dir := os.Getenv("WPROXY_CACHE_TESTS")
	if dir == "" {
		t.Skip("WPROXY_CACHE_TESTS is not set: .ci/cache-tests runs this")
	}
	if _, err := plugins.Builtin("cache"); err != nil {
		t.Fatal(err)
	}
	engine, list := ".", "cache-tests-0.4.5.json"
	if _, err := os.Stat(filepath.Join(dir, "test-engine")); err == nil {
		engine, list = "test-engine", "cache-tests.json"
	}
	cases := suiteCases(t, dir)
	origin := startSuiteOrigin(t, dir, engine)
	in := startInstance(t, strings.ReplaceAll(suiteConfig, "@ORIGIN", origin))
	results := map[string]json.RawMessage{}
	out := node(t, dir, 4*time.Minute, []string{"npm_config_base=http://" + in.addr, "npm_package_config_id="}, "--no-warnings", engine+"/cli.mjs")
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatalf("%v: %s", err, out[:min(len(out), 1000)])
	}
	known := map[string]string{}
	file := filepath.Join("../../testdata/skip", list)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &known); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	byID := map[string]*suiteCase{}
	for i := range cases {
		byID[cases[i].ID] = &cases[i]
	}
	var pass func(c *suiteCase) bool
	pass = func(c *suiteCase) bool {
		return c != nil && string(results[c.ID]) == "true" &&
			!slices.ContainsFunc(c.Depends, func(id string) bool { return !pass(byID[id]) })
	}
	count, total := map[string]int{}, map[string]int{}
	for i := range cases {
		c := &cases[i]
		if c.Browser {
			continue
		}
		ok := pass(c)
		total[c.Kind]++
		if ok {
			count[c.Kind]++
		}
		_, listed := known[c.ID]
		switch {
		case c.Kind == "check": // a question, with no right answer
		case !ok && !listed:
			t.Errorf("%s (%s) fails: %s", c.ID, c.Kind, results[c.ID])
		case ok && listed:
			t.Errorf("%s passes: take it out of %s", c.ID, file)
		}
	}
	t.Logf("required %d of %d, optimal %d of %d", count["required"], total["required"], count["optimal"], total["optimal"])
}

// suiteCases lists the tests.
func suiteCases(t *testing.T, dir string) []suiteCase {
	t.Helper()
	script := `import tests from './tests/index.mjs'
let all = [...tests]
try { all.push((await import('./tests/surrogate-control.mjs')).default) } catch {}
console.log(JSON.stringify(all.flatMap(s => s.tests.map(({id, kind, depends_on, browser_only}) => ({id, kind, depends_on, browser_only})))))`
	var cases []suiteCase
	out := node(t, dir, time.Minute, nil, "--no-warnings", "--input-type=module", "-e", script)
	if err := json.Unmarshal(out, &cases); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i := range cases {
		if cases[i].Kind == "" {
			cases[i].Kind = "required"
		}
	}
	return cases
}

// startSuiteOrigin starts the suite's server and returns its address.
func startSuiteOrigin(t *testing.T, dir, engine string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "node", "--no-warnings", engine+"/server/server.mjs")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "npm_config_protocol=http", "npm_config_port="+port, "npm_config_pidfile="+filepath.Join(t.TempDir(), "pid"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	address := net.JoinHostPort("localhost", port)
	for range 100 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return address
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the suite's server does not start")
	return ""
}

// node runs node in dir and returns what it prints.
func node(t *testing.T, dir string, limit time.Duration, env []string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v: %s", err, stderr.String())
	}
	return out
}
