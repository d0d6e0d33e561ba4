package main

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"wproxy/core/config"
	"wproxy/core/exchange"
	"wproxy/core/route"
	"wproxy/core/tcp"
)

// methodTCP is what `explain` is asked about connections with.
const methodTCP = "TCP"

// newTCPTable makes the table of f's routes for connections, with all but what runs.
func newTCPTable(f *config.File) (*route.Table[*tcp.Route], error) {
	entries, err := tcpEntries(f, func(r *config.Route) (*tcp.Route, error) { return newTCPRoute(r), nil })
	if err != nil {
		return nil, err
	}
	return route.New(entries)
}

// explainTCP says what becomes of a connection that asks for the name in q's URL,
// "tcp://NAME[:PORT]", or for none.
func (pl *planner) explainTCP(q question, limit int) (*explanation, error) {
	rest, ok := strings.CutPrefix(q.url, "tcp://")
	name := strings.TrimSuffix(rest, "/")
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	if !ok || strings.ContainsAny(name, "/?#@ ") {
		return nil, fmt.Errorf("%q is not tcp://NAME[:PORT], or tcp:// for a connection without a name", q.url)
	}
	name = strings.ToLower(name)
	listener, err := pl.pickTCPListener(q, rest)
	if err != nil {
		return nil, err
	}
	e := &explanation{Request: explainedRequest{methodTCP, q.url}, Listener: listener}
	if q.peer.IsValid() {
		e.Client = q.peer.Unmap().String()
	}
	view := route.Request{Host: name, Path: "/", Listener: listener}
	for _, c := range pl.tcp.Explain(&view, limit) {
		r := explainedRoute{c.Name, c.Pattern, pl.file.Routes[c.Name].Pos, c.Lost}
		if c.Lost == "" {
			e.Route = &r
		} else {
			e.Lost = append(e.Lost, r)
		}
	}
	r, ok := pl.tcp.Match(&view)
	if !ok {
		e.Closed = "no_route"
		return e, nil
	}
	conf := pl.file.Routes[r.Name]
	for _, u := range conf.Plugins {
		e.Plugins = append(e.Plugins, explainedUse{u.Plugin, pl.file.Plugins[u.Plugin].Wasm, u.Config})
	}
	if q.peer.IsValid() && !r.Allows(q.peer) {
		e.Closed = "denied"
		return e, nil
	}
	e.shape(pl.file, &plan{conf: conf, listener: listener, head: &exchange.Request{}})
	e.Timeout = "none"
	if t := conf.TCP.Timeout; t > 0 {
		e.Timeout = config.FormatDuration(t)
	}
	e.Idle = "for ever"
	if t := conf.TCP.Idle; t > 0 {
		e.Idle = config.FormatDuration(t)
	}
	return e, nil
}

// pickTCPListener is pickListener among those with TCP.
func (pl *planner) pickTCPListener(q question, authority string) (string, error) {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(pl.file.Listeners)) {
		if pl.file.Listeners[name].TCP() {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("no listener has protocols = [%q]", config.ProtocolTCP)
	}
	if q.listener != "" {
		if !slices.Contains(names, q.listener) {
			return "", fmt.Errorf("there is no listener %q with TCP; there is %s", q.listener, strings.Join(names, ", "))
		}
		return q.listener, nil
	}
	_, port, _ := net.SplitHostPort(strings.TrimSuffix(authority, "/"))
	for _, name := range names {
		if _, p, err := net.SplitHostPort(pl.file.Listeners[name].Address); err == nil && p == port {
			return name, nil
		}
	}
	return names[0], nil
}
