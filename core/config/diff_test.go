package config_test

import (
	"strings"
	"testing"

	"wproxy/core/config"
)

// TestDifferences: every key that differs is told, with its values where they are no
// secret, and no other.
func TestDifferences(t *testing.T) {
	t.Setenv("WPROXY_TEST_TOKEN", "tok-en")
	t.Setenv("WPROXY_TEST_OTHER", "oth-er")
	base := load(t, "w.toml", full)
	for _, tt := range []struct{ from, to, route, upstream, plugin, listener string }{
		{from: `"10s"`, to: `"10000ms"`},
		{from: `timeout  = "10s"`, to: `timeout  = "11s"`, route: "timeout: 10s -> 11s"},
		{from: `{ X-Canary = "1"`, to: `{ X-Canary = "2"`, route: "when.header.x-canary"},
		{from: `{ X-Canary = "1"`, to: `{ X-Other = "1"`, route: "when.header.x-canary; when.header.x-other"},
		{from: `upstream = { api = 95, api-next = 5 }`, to: `upstream = { api = 90, api-next = 10 }`, route: "upstream: api (95), api-next (5) -> api (90), api-next (10)"},
		{from: `upstream = { api = 95, api-next = 5 }`, to: `upstream = "api"`, route: "upstream: api (95), api-next (5) -> api"},
		{from: `use      = ["headers", "limit"]`, to: `use      = ["limit"]`, route: "use: headers, limit -> limit"},
		{from: `rewrite  = { regex = '^/u/(\d+)', to = '/users/${1}' }`, to: "", route: "rewrite"},
		{from: `strip    = "/v1"`, to: `strip    = "/v"`, route: "strip"},
		{from: `deny     = ["10.1.0.0/16"]`, to: `deny     = ["10.1.0.0/17"]`, route: "deny"},
		{from: `budget = "12.5%"`, to: `budget = "10%"`, route: "retry.budget: 12.5% -> 10%"},
		{from: `backoff = "10ms..1s"`, to: `backoff = "10ms..2s"`, route: "retry.backoff: 10ms..1s -> 10ms..2s"},
		{from: `rate = "20/s"`, to: `rate = "21/s"`, route: "with.limit.rate"},
		{from: `X-Proxy-By = "wproxy"`, to: `X-Proxy-By = "${env:WPROXY_TEST_TOKEN}"`, route: "request_headers.set.x-proxy-by"},
		{from: `servers = "10.0.0.2:80"`, to: `servers = ["10.0.0.2:80", "10.0.0.3:80"]`, upstream: "servers: 10.0.0.2:80 -> 10.0.0.2:80, 10.0.0.3:80"},
		{from: `servers = "10.0.0.2:80"`, to: "servers = \"10.0.0.2:80\"\ntls = {}", upstream: "tls"},
		{from: `env       = { LEVEL = "debug" }`, to: `env       = { LEVEL = "debug", X = "${env:WPROXY_TEST_TOKEN}" }`, plugin: "env.X"},
		{from: `config    = { rate = "100/s"`, to: `config    = { rate = "200/s"`, plugin: "config.rate"},
		{from: `on_error = "open"`, to: `on_error = "close"`, plugin: "sandbox.on_error: open -> close"},
		{from: `protocols   = ["h2c", "h1"]`, to: `protocols   = ["h1"]`, listener: "protocols: h2c, h1 -> h1"},
		{from: `address     = ":80"`, to: `address     = ":81"`, listener: "address: :80 -> :81"},
		{from: `connections = 20_000`, to: `connections = 20_001`, listener: "limits.connections: 20000 -> 20001"},
	} {
		text := strings.Replace(full, tt.from, tt.to, 1)
		if text == full {
			t.Fatalf("%s is not in the file", tt.from)
		}
		f := load(t, "w.toml", text)
		for what, c := range map[string]struct {
			want string
			got  []config.KeyChange
		}{
			"route":    {tt.route, config.Differences(base.Routes["api"], f.Routes["api"])},
			"upstream": {tt.upstream, config.Differences(base.Upstreams["api-next"], f.Upstreams["api-next"])},
			"plugin":   {tt.plugin, config.Differences(base.Plugins["limit"], f.Plugins["limit"])},
			"listener": {tt.listener, config.Differences(base.Listeners["http"], f.Listeners["http"])},
		} {
			var all []string
			for _, k := range c.got {
				all = append(all, k.String())
			}
			if got := strings.Join(all, "; "); got != c.want {
				t.Errorf("%s -> %s: %s: got %q, want %q", tt.from, tt.to, what, got, c.want)
			}
		}
	}
	secret := func(name string) *config.Route {
		return load(t, "w.toml", "[routes.a]\nrespond.body = \"x ${env:"+name+"}\"\n").Routes["a"]
	}
	a, b := secret("WPROXY_TEST_TOKEN"), secret("WPROXY_TEST_OTHER")
	if got := config.Differences(a, b); len(got) != 1 || got[0].String() != "respond.body: x ${env:WPROXY_TEST_TOKEN} -> x ${env:WPROXY_TEST_OTHER}" {
		t.Errorf("another reference: %v", got)
	}
	t.Setenv("WPROXY_TEST_TOKEN", "rotated")
	if got := config.Differences(a, secret("WPROXY_TEST_TOKEN")); len(got) != 1 || got[0].String() != "respond.body" {
		t.Errorf("another secret by the same name: %v", got)
	}
	if got := config.Differences(base.Log, config.Log{Level: "info"}); len(got) == 0 || got[0].String() != "level: debug -> info" {
		t.Errorf("[log]: %v", got)
	}
}
