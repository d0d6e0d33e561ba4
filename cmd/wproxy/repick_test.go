package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/host/wasmtest"
)

// pathGuest moves requests to /respond if they have the field x-do, with what its first
// letter says: "e" nothing more, "o" after it has switched off that edits move the route,
// "c" and "f" so, and then with clear_route_cache, the host call and the foreign function.
const pathGuest = `(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_clear_route_cache" (func $clear (result i32)))
  (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) "x-do" ":path" "/respond" "clear_route_cache" "off")
  (func (export "@MARKER"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $do i32)
    (if (call $get (i32.const 0) (i32.const 512) (i32.const 4) (i32.const 600) (i32.const 604))
      (then (return (i32.const 0))))
    (local.set $do (i32.load8_u (i32.load (i32.const 600))))
    (if (i32.ne (local.get $do) (i32.const 101))
      (then (drop (call $property (i32.const 529) (i32.const 17) (i32.const 546) (i32.const 3)))))
    (drop (call $set (i32.const 0) (i32.const 516) (i32.const 5) (i32.const 521) (i32.const 8)))
    (if (i32.eq (local.get $do) (i32.const 99)) (then (drop (call $clear))))
    (if (i32.eq (local.get $do) (i32.const 102))
      (then (drop (call $foreign (i32.const 529) (i32.const 17) (i32.const 0) (i32.const 0) (i32.const 608) (i32.const 612)))))
    (i32.const 0)))`

// TestPluginMovesRoute: an edit of the path moves the route, unless the plugin has
// switched that off and does not ask for it by one of the two calls.
func TestPluginMovesRoute(t *testing.T) {
	origin := newGoOrigin(t)
	dir := t.TempDir()
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Listener.Addr().String())
	markers := []string{"proxy_abi_version_0_1_0", "proxy_abi_version_0_2_1", "proxy_abi_version_0_2_100"}
	for i, marker := range markers {
		wasm, err := wasmtest.WAT(strings.Replace(pathGuest, "@MARKER", marker, 1))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, fmt.Sprintf("p%d.wasm", i))
		if err := os.WriteFile(file, wasm, 0o600); err != nil {
			t.Fatal(err)
		}
		toml += fmt.Sprintf("\n[routes.via%d]\nhost = \"a.test\"\npath = \"/ok%d\"\nupstream = \"origin\"\nuse = [\"p%[1]d\"]\n[plugins.p%[1]d]\nwasm = %[3]q\n", i, i, file)
	}
	in := startInstance(t, toml)
	client := &http.Client{Timeout: wireTimeout}
	defer client.CloseIdleConnections()
	for i, marker := range markers {
		for _, tt := range []struct {
			do   string
			want int
		}{{"", 404}, {"edit", 418}, {"off", 404}, {"clear", 418}, {"foreign", 418}} {
			req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/ok%d", in.addr, i), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "a.test"
			if tt.do != "" {
				req.Header.Set("x-do", tt.do)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			// The origin is net/http, whose 404 has this field.
			if fromOrigin := resp.Header.Get("x-content-type-options") != ""; resp.StatusCode != tt.want || fromOrigin != (tt.want == 404) {
				t.Errorf("%s, %q: %d with %v, want %d", marker, tt.do, resp.StatusCode, resp.Header, tt.want)
			}
		}
	}
}

// suffixGuest appends "-canary" to the authority, as the SDK's example http_routing does,
// and answers 418 where that is refused.
const suffixGuest = `(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) ":authority" "-canary")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $get (i32.const 0) (i32.const 512) (i32.const 10) (i32.const 600) (i32.const 604)))
    (i64.store (i32.add (i32.load (i32.const 600)) (i32.load (i32.const 604))) (i64.load (i32.const 522)))
    (if (call $set (i32.const 0) (i32.const 512) (i32.const 10) (i32.const 1024) (i32.add (i32.load (i32.const 604)) (i32.const 7)))
      (then (drop (call $reply (i32.const 418) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
        (return (i32.const 1))))
    (i32.const 0)))`

// TestStripPort: where the listener has strip_port, a plugin and the upstream see a host
// without the port that the client named, and the plugin can route by what it appends.
func TestStripPort(t *testing.T) {
	origin := newGoOrigin(t)
	wasm, err := wasmtest.WAT(suffixGuest)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "suffix.wasm")
	if err := os.WriteFile(file, wasm, 0o600); err != nil {
		t.Fatal(err)
	}
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Listener.Addr().String())
	strip := freeAddress(t)
	in := startInstance(t, fmt.Sprintf(`%s
[listeners.strip]
address = %q
strip_port = true
[routes.primary]
host = ["p.test", "::1"]
upstream = "origin"
use = ["suffix"]
[routes.canary]
host = "p.test-canary"
path = "/ok"
upstream = "origin"
use = ["suffix"]
response_headers = { set = { x-route = "canary" } }
[plugins.suffix]
wasm = %q
`, toml, strip, file))
	for _, tt := range []struct {
		addr, host string
		want       int
		route      string
	}{
		{in.addr, "p.test", 200, "canary"},
		{in.addr, "p.test:8080", 418, ""},
		{strip, "p.test", 200, "canary"},
		{strip, "p.test:8080", 200, "canary"},
		{strip, "[::1]:8080", 418, ""}, // "[::1]-canary" is no host
	} {
		req, err := http.NewRequest(http.MethodGet, "http://"+tt.addr+"/ok", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tt.host
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: wireTimeout}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("x-route"); resp.StatusCode != tt.want || got != tt.route {
			t.Errorf("%s at %s: %d by route %q, want %d by %q", tt.host, tt.addr, resp.StatusCode, got, tt.want, tt.route)
		}
	}
}
