package main

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"wproxy/core/config"
)

// A change is one object that two configurations differ in, and what becomes of what
// runs for it. `wproxy diff` tells them before a reload, `wproxy reload` after it.
type change struct {
	Noun string `json:"noun"` // "listener", "route", "upstream", "plugin", or a table: "server", "admin", "log", "metrics", "tracing"
	Name string `json:"name,omitempty"`
	What string `json:"what"` // "added", "removed", "changed", or "its .wasm changed"

	Keys    []config.KeyChange `json:"keys,omitempty"`
	Effects []string           `json:"effects,omitempty"` // what is kept, and what is not
	Restart []string           `json:"restart,omitempty"` // keys that count at the start only
}

// A side is one of two configurations that are compared.
type side struct {
	file    *config.File
	modules map[string]moduleKey // what each plugin runs; one that is not there could not be read
}

// sideOf returns the configuration of a generation.
func sideOf(g *generation) side { return side{g.file, g.modules} }

// sideFor returns a configuration that nobody has built. It reads the modules of its
// plugins, because what is in them decides whether instances are kept.
func sideFor(f *config.File) side {
	s := side{f, map[string]moduleKey{}}
	for name, p := range f.Plugins {
		wasm, err := readModule(f, p)
		if err != nil {
			continue // a reload would say so
		}
		if o, err := pluginOptions(f, p); err == nil {
			s.modules[name] = keyOf(sha256.Sum256(wasm), o)
		}
	}
	return s
}

// changes returns what differs: listeners, routes, upstreams and plugins by name, then
// the tables that are there once.
func changes(old, next side) []change {
	o, n := old.file, next.file
	c := comparison{old, next}
	all := []change{}
	all = append(all, compareTables("listener", o.Listeners, n.Listeners, func(l *config.Listener) any { return l.Hash }, c.listener)...)
	all = append(all, compareTables("route", o.Routes, n.Routes, func(r *config.Route) any { return r.Hash }, c.route)...)
	all = append(all, compareTables("upstream", o.Upstreams, n.Upstreams, func(u *config.Upstream) any { return u.Hash }, c.upstream)...)
	all = append(all, compareTables("plugin", o.Plugins, n.Plugins, func(p *config.Plugin) any { return p.Hash }, c.plugin)...)
	for _, name := range slices.Sorted(maps.Keys(n.Plugins)) {
		if !c.newModule(name) {
			continue
		}
		x := change{Noun: "plugin", Name: name, What: "its .wasm changed"}
		c.plugin(&x, o.Plugins[name], n.Plugins[name])
		all = append(all, x)
	}
	for _, s := range []struct {
		noun string
		keys []config.KeyChange
	}{
		{"server", config.Differences(o.Server, n.Server)},
		{"admin", config.Differences(o.Admin, n.Admin)},
		{"log", config.Differences(o.Log, n.Log)},
		{"metrics", config.Differences(o.Metrics, n.Metrics)},
		{"tracing", config.Differences(o.Tracing, n.Tracing)},
	} {
		if len(s.keys) == 0 {
			continue
		}
		x := change{Noun: s.noun, What: "changed", Keys: s.keys}
		for _, k := range s.keys {
			if s.noun == "server" && slices.Contains([]string{"user", "group", "pid_file"}, k.Key) {
				x.Restart = append(x.Restart, k.Key)
			}
		}
		all = append(all, x)
	}
	return all
}

// compareTables compares two tables of named objects; tell adds what there is to say of one.
func compareTables[T any](noun string, old, next map[string]T, hash func(T) any, tell func(x *change, was, is T)) []change {
	names := map[string]bool{}
	for name := range old {
		names[name] = true
	}
	for name := range next {
		names[name] = true
	}
	var all []change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, before := old[name]
		is, after := next[name]
		x := change{Noun: noun, Name: name, What: "changed"}
		switch {
		case !before:
			x.What = "added"
		case !after:
			x.What = "removed"
		case hash(was) == hash(is):
			continue
		default:
			x.Keys = config.Differences(was, is)
		}
		tell(&x, was, is)
		all = append(all, x)
	}
	return all
}

// A comparison knows both sides.
type comparison struct{ old, next side }

func (x *change) effect(format string, args ...any) {
	x.Effects = append(x.Effects, fmt.Sprintf(format, args...))
}

// listener says what becomes of a socket and of the connections that came in by it.
func (c comparison) listener(x *change, was, is *config.Listener) {
	switch x.What {
	case "added":
		if other := atAddress(c.old.file, is.Address); other != nil && !sameDoor(c.next.file, other) {
			x.effect("takes over the socket of listener %q; connections that are open end after the request they are in", other.Name)
			return
		}
		x.effect("%s is bound", is.Address)
	case "removed":
		if other := atAddress(c.next.file, was.Address); other == nil || sameDoor(c.old.file, other) {
			x.effect("%s is given up; its connections end after the request they are in", was.Address)
		}
	case "changed":
		if was.Address != is.Address {
			x.effect("%s is bound; %s is given up unless both are the same, and its connections end after the request they are in", is.Address, was.Address)
			return
		}
		x.effect("its socket and its connections are kept; settings of connections are for new ones")
	}
}

// atAddress returns the listener of f at an address; nil: there is none, or the address
// is any that is free.
func atAddress(f *config.File, address string) *config.Listener {
	if strings.HasSuffix(address, ":0") {
		return nil
	}
	for _, l := range f.Listeners {
		if l.Address == address {
			return l
		}
	}
	return nil
}

// sameDoor reports whether f has l's name at l's address.
func sameDoor(f *config.File, l *config.Listener) bool {
	other := f.Listeners[l.Name]
	return other != nil && other.Address == l.Address
}

// route says what becomes of a route's tunnels. One that is unchanged keeps them.
func (c comparison) route(x *change, was, is *config.Route) {
	if x.What == "added" {
		return
	}
	if x.What == "changed" {
		if was.To != is.To { // the upstream that is made of it says the same
			x.Keys = slices.DeleteFunc(x.Keys, func(k config.KeyChange) bool { return k.Key == "to" })
		}
		for _, use := range is.Plugins {
			i := slices.IndexFunc(was.Plugins, func(u config.Use) bool { return u.Plugin == use.Plugin })
			if i >= 0 && was.Plugins[i].Hash != use.Hash && !slices.ContainsFunc(x.Keys, func(k config.KeyChange) bool {
				return strings.HasPrefix(k.Key, "with."+use.Plugin)
			}) {
				x.effect("the settings of plugin %q have changed", use.Plugin)
			}
		}
	}
	c.tunnels(x, []*config.Route{was})
}

// tunnels says that what is open on routes ends.
func (c comparison) tunnels(x *change, routes []*config.Route) {
	var tunnels, connections []string
	for _, r := range routes {
		switch name := fmt.Sprintf("%q", r.Name); {
		case c.old.file.TCP(r):
			connections = append(connections, name)
		case len(r.Upstream) > 0:
			tunnels = append(tunnels, name)
		}
	}
	c.ending(x, "WebSockets", tunnels)
	c.ending(x, "connections", connections)
}

// ending says that what is open on the routes with these names ends.
func (c comparison) ending(x *change, what string, names []string) {
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	grace := config.FormatDuration(c.next.file.Server.Drain)
	if x.Noun == "route" {
		x.effect("%s that are open on it end after %s (server.drain)", what, grace)
		return
	}
	if n := len(names) - maxNamed; n > 0 {
		names = append(names[:maxNamed], fmt.Sprintf("%d more", n))
	}
	x.effect("%s that are open on its routes end after %s (server.drain): %s", what, grace, strings.Join(names, ", "))
}

// maxNamed is how many routes one effect names.
const maxNamed = 5

// upstream says what becomes of connections and servers.
func (c comparison) upstream(x *change, was, is *config.Upstream) {
	switch {
	case x.What == "removed":
		x.effect("its connections close when the last request on them has ended")
		return
	case x.What == "added":
		return
	case poolKeyOf(was) != poolKeyOf(is):
		x.effect("connections are made anew; those that are open close when their request has ended")
	default:
		x.effect("its connections are kept")
	}
	before := map[config.ServerEntry]bool{}
	for _, s := range was.Servers {
		before[s] = true
	}
	kept := 0
	for _, s := range is.Servers {
		if before[s] {
			kept++
		}
	}
	if n := len(is.Servers); n > 0 && kept == n {
		x.effect("its servers keep their health and their counts")
	} else if kept > 0 {
		x.effect("%d of its %s: health and counts are kept", kept, count(n, "server"))
	}
}

// newModule says whether a plugin's .wasm is another one while all that the file says of
// it is the same.
func (c comparison) newModule(name string) bool {
	was, is := c.old.file.Plugins[name], c.next.file.Plugins[name]
	if was == nil || is == nil || was.Hash != is.Hash {
		return false
	}
	a, ok := c.old.modules[name]
	b, ok2 := c.next.modules[name]
	return ok && ok2 && a != b
}

// plugin says what becomes of a plugin's instances.
func (c comparison) plugin(x *change, was, is *config.Plugin) {
	switch x.What {
	case "added":
		return
	case "removed":
		x.effect("its instances end with their last request")
		return
	}
	a, ok := c.old.modules[x.Name]
	b, ok2 := c.next.modules[x.Name]
	switch {
	case !ok || !ok2:
		x.effect("whether its instances are kept cannot be told: %s cannot be read", cmp.Or(is.Path, is.Wasm))
	case a == b:
		x.effect("its instances are kept, with their memory; new settings are handed to them")
	default:
		x.effect("its instances are started anew; the old ones end with their last request")
	}
	// The same as in markRoute: a route whose plugin is another one is another route.
	var routes []*config.Route
	for name, r := range c.old.file.Routes {
		if now := c.next.file.Routes[name]; now != nil && now.Hash == r.Hash && slices.Contains(r.Use, x.Name) {
			routes = append(routes, r)
		}
	}
	c.tunnels(x, routes)
}

// title is the first line about x.
func (x *change) title() string {
	if x.Name == "" {
		return fmt.Sprintf("[%s]: %s", x.Noun, x.What)
	}
	return fmt.Sprintf("%s %q: %s", x.Noun, x.Name, x.What)
}

// lines writes changes down: one that begins at the margin for each object, and what
// there is to say of it below, indented.
func lines(all []change) []string {
	var text []string
	for _, x := range all {
		text = append(text, x.title())
		for _, k := range x.Keys {
			text = append(text, "  "+k.String())
		}
		for _, e := range x.Effects {
			text = append(text, "  ("+e+")")
		}
		for _, k := range x.Restart {
			text = append(text, "  ("+k+" counts at the start only: it needs a restart)")
		}
	}
	return text
}

// isDetail tells the lines below a change from those that name one.
func isDetail(line string) bool { return strings.HasPrefix(line, " ") }
