package config_test

import (
	"net/netip"
	"reflect"
	"slices"
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

// TestEveryKeyDiffers: whichever key of the file format changes, the object that it is in has
// another hash, and the change is told under its name: what a reload says and keeps is decided
// by these two.
func TestEveryKeyDiffers(t *testing.T) {
	n := everyKey(t, config.Listener{}) + everyKey(t, config.Route{}) + everyKey(t, config.Upstream{}) + everyKey(t, config.Plugin{}) +
		everyKey(t, config.Server{}) + everyKey(t, config.Admin{}) + everyKey(t, config.Log{}) + everyKey(t, config.Metrics{}) + everyKey(t, config.Tracing{})
	if n < 150 {
		t.Errorf("only %d keys are reached", n)
	}
}

// everyKey changes each key of zero, by itself, and returns how many there are.
func everyKey[T any](t *testing.T, zero T) (n int) {
	t.Helper()
	name := reflect.TypeFor[T]().Name()
	for _, path := range keysOf(reflect.TypeFor[T](), nil) {
		n++
		var old, next T
		var keys []string
		a, b := reflect.ValueOf(&old).Elem(), reflect.ValueOf(&next).Elem()
		for i, at := range path {
			keys = append(keys, a.Type().Field(at).Tag.Get("toml"))
			a, b = a.Field(at), b.Field(at)
			if i < len(path)-1 && a.Kind() == reflect.Pointer { // the table is there in both
				a.Set(reflect.New(a.Type().Elem()))
				b.Set(reflect.New(b.Type().Elem()))
				a, b = a.Elem(), b.Elem()
			}
		}
		other(t, b)
		key := strings.Join(keys, ".")
		if config.HashOf(old) == config.HashOf(next) {
			t.Errorf("%s: %s: the hash is the same", name, key)
		}
		if got := config.Differences(old, next); len(got) == 0 || !strings.HasPrefix(got[0].Key, key) {
			t.Errorf("%s: %s: told are %v", name, key, got)
		}
	}
	return n
}

// keysOf returns the indexes that lead to each key of a table, and to those of tables in it.
func keysOf(typ reflect.Type, path []int) (all [][]int) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		if k := f.Tag.Get("toml"); k == "" || k == "-" {
			continue
		}
		at := append(slices.Clone(path), i)
		all = append(all, at)
		in := f.Type
		if in.Kind() == reflect.Pointer {
			in = in.Elem()
		}
		if in.Kind() == reflect.Struct && in != reflect.TypeFor[config.Value]() {
			inner := keysOf(in, at)
			if in == f.Type && len(inner) > 0 {
				all = all[:len(all)-1] // a table is changed by its keys
			}
			all = append(all, inner...)
		}
	}
	return all
}

// other makes v another value of its type than zero.
func other(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *config.Value:
		*x = config.Plain("other")
		return
	case *netip.Prefix:
		*x = netip.MustParsePrefix("10.0.0.0/8")
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("other")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		other(t, v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		e := reflect.New(v.Type().Elem()).Elem()
		other(t, e)
		v.SetMapIndex(reflect.ValueOf("other").Convert(v.Type().Key()), e)
	case reflect.Interface:
		v.Set(reflect.ValueOf("other"))
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("hash") != "-" {
				other(t, v.Field(i))
				return
			}
		}
		t.Fatalf("how is a %s changed?", v.Type())
	default:
		switch {
		case v.CanInt():
			v.SetInt(1)
		case v.CanUint():
			v.SetUint(1)
		default:
			t.Fatalf("how is a %s changed?", v.Type())
		}
	}
}
