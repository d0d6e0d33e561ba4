package config

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// ProtocolTCP is the protocol of a listener that passes on what it gets.
const ProtocolTCP = "tcp"

// KindTCP is the kind of a plugin that handles TCP connections.
const KindTCP = "tcp"

// TCP holds settings of a route whose listeners speak TCP.
type TCP struct {
	// Idle is how long neither side may say anything. Default 10m; 0: for ever.
	Idle time.Duration `toml:"idle" default:"10m" range:"0..720h"`
	// Timeout of a whole connection. Default 0: none.
	Timeout time.Duration `toml:"timeout" default:"0" range:"0..720h"`
	// Connections is how many may be open at a time; one more is closed at once. Default 0:
	// any number.
	Connections int `toml:"connections" default:"0" range:"0..1000000"`
}

// TCP reports whether l passes on what it gets, instead of speaking HTTP.
func (l *Listener) TCP() bool { return slices.Contains(l.Protocols, ProtocolTCP) }

// TCP reports whether r is for connections and not for requests: it names a listener that
// passes on what it gets.
func (f *File) TCP(r *Route) bool {
	return slices.ContainsFunc(r.Listener, func(name string) bool {
		l := f.Listeners[name]
		return l != nil && l.TCP()
	})
}

// tcpKeys are the keys that mean something on a route for connections.
var tcpKeys = []string{
	"host", "listener", "priority", "upstream", "to", "split", "allow", "deny", "retry", "use", "with", "metadata", "tcp",
}

// tcp checks what a route for connections has beside what all routes have.
func (c *routeCheck) tcp() {
	for i, name := range c.r.Listener {
		if l := c.v.f.Listeners[name]; l != nil && !l.TCP() {
			c.addf(fmt.Sprintf("listener[%d]", i), "listener %q speaks HTTP, and another of this route TCP: a route is for requests or for connections; make two of it", name)
		}
	}
	for _, key := range c.v.keysUnder(c.key + ".") {
		switch {
		case key == "timeout":
			c.addf(key, "has no effect on connections; theirs is tcp = { timeout = %q }", FormatDuration(c.r.Timeout))
		case !slices.Contains(tcpKeys, key) && !c.v.reported(c.key+"."+key):
			c.addf(key, "has no effect: the route is for TCP connections (its listener), which have %s; leave it out", "no "+whatHas(key))
		}
	}
	for _, key := range c.v.keysUnder(c.key + ".retry.") {
		if key != "attempts" && key != "budget" && key != "budget_min" {
			c.addf("retry."+key, "has no effect: of a connection that could not be made only attempts, budget and budget_min count; leave it out")
		}
	}
	if s := c.r.Split; s != nil && (s.Cookie != "" || s.Hash != "" && s.Hash != "client-ip") {
		c.addf("split", "a connection has nothing to go by but the client's address; write hash = \"client-ip\"")
	}
	for _, t := range c.r.Upstream {
		if u := c.v.f.Upstreams[t.Upstream]; u != nil && u.HashKey != "" && u.HashKey != "client-ip" {
			c.addf("upstream", "upstream %q picks servers by %s, which a connection does not have; write hash = \"client-ip\"", t.Upstream, u.HashKey)
		}
	}
}

// whatHas says what the key of a route is about.
func whatHas(key string) string {
	switch key {
	case "path", "path_regex", "strip", "rewrite", "encoded_slash", "redirect":
		return "path"
	case "methods":
		return "method"
	case "when", "request_headers", "response_headers":
		return "header"
	default:
		return "request"
	}
}

// tcpListener checks a listener that passes on what it gets.
func (v *validator) tcpListener(l *Listener) {
	key, lb := "listeners."+l.Name, label("listeners", l.Name)
	if len(l.Protocols) > 1 {
		v.addf(key+".protocols", "%s: protocols: \"tcp\" stands alone: what is passed on as it is cannot be HTTP as well; leave the others out", lb)
	}
	if l.Redirect != "" {
		v.addf(key+".redirect", "%s: redirect: a listener with TCP answers nothing; leave it out", lb)
	}
	if l.StripPort {
		v.addf(key+".strip_port", "%s: strip_port: connections have no authority; leave it out", lb)
	}
	for _, name := range slices.Sorted(maps.Keys(v.f.Routes)) {
		if slices.Contains(v.f.Routes[name].Listener, l.Name) {
			return
		}
	}
	v.addf(key, "%s: has protocols = [\"tcp\"], and no route names it; write listener = %q in a route", lb, l.Name)
}
