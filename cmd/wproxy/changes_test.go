package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"wproxy/core/config"
)

// TestChanges: what is said of each object that differs, beside its name.
func TestChanges(t *testing.T) {
	t.Parallel()
	const base = `
[listeners.a]
address = "127.0.0.1:81"
[routes.r]
upstream = "u"
[listeners.raw]
address = "127.0.0.1:91"
protocols = ["tcp"]
[routes.raw]
listener = "raw"
upstream = "u"
tcp.connections = 7
[routes.answer]
path = "/answer"
respond.body = "x"
[upstreams.u]
servers = ["10.0.0.1:80", "10.0.0.2:80"]
`
	parse := func(text string) side {
		t.Helper()
		f, err := config.Parse("x.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return side{f, map[string]moduleKey{}}
	}
	for _, tt := range []struct {
		name, from, to string // replaced in base
		want           string // lines, without the margin of those below
	}{
		{"nothing", "x", "x", ""},
		{"address", ":81", ":82", `listener "a": changed
address: 127.0.0.1:81 -> 127.0.0.1:82
(127.0.0.1:82 is bound; 127.0.0.1:81 is given up unless both are the same, and its connections end after the request they are in)`},
		{"limit", `81"`, "81\"\nlimits.body = \"1MiB\"", `listener "a": changed
limits.body: 0 -> 1MiB
(its socket and its connections are kept; settings of connections are for new ones)`},
		{"rename", "listeners.a", "listeners.b", `listener "a": removed
listener "b": added
(takes over the socket of listener "a"; connections that are open end after the request they are in)`},
		{"new door", "[routes.r]", "[listeners.b]\naddress = \"127.0.0.1:82\"\n[routes.r]", `listener "b": added
(127.0.0.1:82 is bound)`},
		{"pool", `80"]`, "80\"]\npool.idle = 5", `upstream "u": changed
pool.idle: 256 -> 5
(connections are made anew; those that are open close when their request has ended)
(its servers keep their health and their counts)`},
		{"servers", `, "10.0.0.2:80"`, `, "10.0.0.3:80"`, `upstream "u": changed
servers: 10.0.0.1:80, 10.0.0.2:80 -> 10.0.0.1:80, 10.0.0.3:80
(its connections are kept)
(1 of its 2 servers: health and counts are kept)`},
		{"connections", `connections = 7`, `connections = 8`, `route "raw": changed
tcp.connections: 7 -> 8
(connections that are open on it end after 30s (server.drain))`},
		{"answer", `body = "x"`, `body = "y"`, `route "answer": changed
respond.body`},
		{"drain", "[routes.r]", "[server]\ndrain = \"5s\"\nuser = \"nobody\"\n[routes.r]", `[server]: changed
drain: 30s -> 5s
user
(user counts at the start only: it needs a restart)`},
		{"grace", "[routes.r]", "[server]\ndrain = \"5s\"\n[routes.r]\ntimeout = \"1s\"", `route "r": changed
timeout: 1m -> 1s
(WebSockets that are open on it end after 5s (server.drain))
[server]: changed
drain: 30s -> 5s`},
	} {
		next := strings.Replace(base, tt.from, tt.to, 1)
		all := changes(parse(base), parse(next))
		got := lines(all)
		for i, line := range got {
			if isDetail(line) != strings.HasPrefix(line, "  ") {
				t.Errorf("%s: %q", tt.name, line)
			}
			got[i] = strings.TrimPrefix(line, "  ")
		}
		if text := strings.Join(got, "\n"); text != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, text, tt.want)
		}
		back := changes(parse(next), parse(base))
		if len(back) != len(all) {
			t.Errorf("%s: %d changes there, %d back", tt.name, len(all), len(back))
		}
		for _, x := range all {
			if x.What == "added" && !slices.ContainsFunc(back, func(y change) bool { return y.Name == x.Name && y.What == "removed" }) {
				t.Errorf("%s: %s %q is not removed on the way back", tt.name, x.Noun, x.Name)
			}
		}
	}
}

// tcpMemory has a listener for connections, beside a route for requests that holds more.
func tcpMemory(t *testing.T) *config.File {
	t.Helper()
	f, err := config.Parse("x.toml", []byte(`
[listeners.tcp]
address = "127.0.0.1:81"
protocols = ["tcp"]
limits.connections = 10
[routes.sni]
listener = "tcp"
host = "a.example"
to = "10.0.0.1:80"
use = ["p"]
[routes.large]
upstream = "u"
retry.body_buffer = "1MiB"
[upstreams.u]
servers = ["10.0.0.1:80"]
[plugins.p]
wasm = "p.wasm"
kind = "tcp"
sandbox.body_buffer = "8KiB"
`))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestMostMemory: the arithmetic, and sums that are larger than any number.
func TestMostMemory(t *testing.T) {
	t.Parallel()
	f, err := config.Parse("x.toml", []byte(`
[listeners.h1]
address = "127.0.0.1:81"
protocols = ["h1"]
limits = { connections = 10, header = "1KiB" }
[listeners.h2]
address = "127.0.0.1:82"
limits = { connections = 10, streams = 3, header = "1KiB" }
[routes.plain]
path = "/plain"
respond.body = "x"
use = ["p"]
[routes.large]
listener = "h2"
upstream = "u"
mirror = { upstream = "u", body = "2KiB" }
retry.body_buffer = "4KiB"
use = ["p"]
[upstreams.u]
servers = ["10.0.0.1:80"]
[plugins.p]
wasm = "p.wasm"
sandbox = { body_buffer = "8KiB", memory = "1MiB", instances = 2 }
`))
	if err != nil {
		t.Fatal(err)
	}
	var c callbacks
	c.RequestBody, c.ResponseBody = true, true
	m := mostMemory(f, map[string][]callbacks{"plain": {c}, "large": {c}})
	// plain answers itself: its plugin holds the response's body only.
	const plain, large = 1<<10 + 8<<10, 1<<10 + 4<<10 + 2<<10 + 2*8<<10
	if want := int64(10*plain + 30*large); m.Requests != want || m.Plugins != 2<<20 {
		t.Errorf("%d and %d, want %d and %d: %s", m.Requests, m.Plugins, want, 2<<20, strings.Join(m.Lines, "\n"))
	}
	if want := `  listener "h2": 10 connections x 3 requests (limits.streams) x 23KiB (1KiB limits.header + 4KiB retry.body_buffer + 2KiB mirror.body + 16KiB body_buffer of plugin "p", request and response, on route "large") = 690KiB`; !slices.Contains(m.Lines, want) {
		t.Errorf("no line %s in\n%s", want, strings.Join(m.Lines, "\n"))
	}
	if m := mostMemory(tcpMemory(t), nil); m.Requests != 10*(64+16+2*8)<<10 {
		t.Errorf("TCP: %s", strings.Join(m.Lines, "\n"))
	}
	f.Listeners["h2"].Limits.Connections, f.Listeners["h2"].Limits.Streams = 1<<62, 1<<62
	if m := mostMemory(f, nil); m.Requests != 1<<63-1 || humanSize(m.Requests) != "8EiB" {
		t.Errorf("an overflow: %d, %s", m.Requests, humanSize(m.Requests))
	}
}

// TestEveryTableIsCompared: what a reload prints, and `wproxy diff`, is of all tables that the
// file has, whatever tables come.
func TestEveryTableIsCompared(t *testing.T) {
	t.Parallel()
	elsewhere := map[string]string{
		"version": "there is one",
		"include": "what is included is compared",
		"sandbox": "is in every plugin's own",
		"tests":   "are run by a reload, and nothing else comes of them",
	}
	typ := reflect.TypeFor[config.File]()
	for i := range typ.NumField() {
		key := typ.Field(i).Tag.Get("toml")
		if key == "" || key == "-" || elsewhere[key] != "" {
			continue
		}
		old, next := &config.File{}, &config.File{}
		v := reflect.ValueOf(next).Elem().Field(i)
		switch v.Kind() {
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(reflect.ValueOf("new"), reflect.New(v.Type().Elem().Elem()))
		case reflect.Struct:
			next.Server.Threads, next.Admin.Write, next.Log.To, next.Metrics.Limit, next.Tracing.OTLP = 1, true, "x", 1, "x"
			now := reflect.ValueOf(*next).Field(i)
			if now.IsZero() {
				t.Fatalf("%s: no key of it is known here", key)
			}
			next = &config.File{}
			reflect.ValueOf(next).Elem().Field(i).Set(now)
		default:
			t.Fatalf("%s: how is a %s changed?", key, v.Type())
		}
		all := changes(side{old, nil}, side{next, nil})
		if len(all) != 1 || all[0].Noun != key && all[0].Noun+"s" != key {
			t.Errorf("%s: told are %+v", key, all)
		}
	}
}
