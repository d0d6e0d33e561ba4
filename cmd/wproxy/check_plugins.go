package main

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"wproxy/core/config"
	"wproxy/host"
)

// grantWarnings returns what plugins want and were not granted, or nobody has.
func grantWarnings(g *generation) (list config.Problems) {
	for name, p := range g.plugins {
		if unknown := p.Unknown(); len(unknown) > 0 {
			list = append(list, g.file.Problemf("plugins."+name+".wasm", "plugin %q imports what this host does not have, and a call of which is a trap: %s; build it for ABI 0.2.1 or older",
				name, strings.Join(unknown, ", ")).WithCode(codeImport))
		}
		if text := deniedWarning(g.file.Plugins[name], p.manifest.Grants, p.Denied()); text != "" {
			list = append(list, g.file.Problemf("plugins."+name+".grant", "%s", text).WithCode(codeGrant))
		}
	}
	return list
}

// callbacks are the callbacks of a plugin as one route uses it.
type callbacks struct {
	host.Callbacks

	// known: the module has some of the callbacks of streams and not others, so that those
	// that it has mean something. SDKs of other languages export all of them, with nothing
	// in most.
	known bool
}

func (c callbacks) request() bool {
	return c.RequestHeaders || c.RequestBody || c.RequestTrailers
}

func (c callbacks) response() bool {
	return c.ResponseHeaders || c.ResponseBody || c.ResponseTrailers
}

// callbacksOf returns the callbacks of the plugins of every route of g, which has been
// completed, by route, in the order of `use`. Of a plugin that has not started nothing is known.
func (p *parts) callbacksOf(g *generation) map[string][]callbacks {
	roots := map[rootKey]*host.Root{}
	p.roots.each(func(k rootKey, r *host.Root) { roots[k] = r })
	all := map[string][]callbacks{}
	for name, r := range g.file.Routes {
		for _, use := range r.Plugins {
			var c callbacks
			settings, err := config.Raw(use.Config)
			if plugin := g.plugins[use.Plugin]; plugin != nil && err == nil {
				if root := roots[rootKey{plugin.key, sha256.Sum256(settings)}]; root != nil {
					c.Callbacks = root.Callbacks()
					all := c.RequestHeaders && c.RequestBody && c.RequestTrailers && c.ResponseHeaders && c.ResponseBody && c.ResponseTrailers
					c.known = !all
				}
			}
			all[name] = append(all[name], c)
		}
	}
	return all
}

// callbackWarnings returns the plugins that do not do on a route what they are for.
func callbackWarnings(f *config.File, called map[string][]callbacks) (list config.Problems) {
	for name, r := range f.Routes {
		answers, streams := answersItself(r), streaming(f, r)
		for i, use := range r.Use {
			if i >= len(called[name]) || !called[name][i].known {
				continue
			}
			warn := func(code, format string, args ...any) {
				list = append(list, f.Problemf(fmt.Sprintf("routes.%s.use[%d]", name, i), "route %q: use: plugin %q "+format,
					append([]any{name, use}, args...)...).WithCode(code))
			}
			c := called[name][i]
			switch {
			case answers != "" && c.request() && !c.response():
				warn(codeNeverRuns, "looks at requests only, and never runs: %s, and that passes the plugins' response side alone; leave it out", answers)
			case answers != "" && c.request():
				warn(codeRequestSkipped, "looks at requests too, which it is not shown: %s, and that passes the plugins' response side alone", answers)
			}
			if streams != "" && (c.RequestBody || c.ResponseBody) {
				warn(codeBodyOnStream, "looks at bodies, and the route is for streams (%s): what it holds back waits, %s at most (its sandbox.body_buffer), and more than that ends the stream; use it on another route",
					streams, humanSize(int64(f.Plugins[use].Sandbox.BodyBuffer)))
			}
		}
	}
	return list
}

// answersItself says how wproxy itself answers every request of r; "": it does not.
func answersItself(r *config.Route) string {
	switch {
	case r.Redirect != nil:
		return "the route answers with its redirect"
	case r.Respond != nil:
		return "the route answers with its respond"
	case nobody(r):
		return "the route denies everybody"
	default:
		return ""
	}
}

// streaming says why r is taken to be for streams; "": it is not.
func streaming(f *config.File, r *config.Route) string {
	if len(r.Upstream) == 0 {
		return ""
	}
	if r.Timeout == 0 {
		return "timeout = \"0\""
	}
	if f.Has("routes." + r.Name + ".websocket") {
		return "websocket is set"
	}
	if !slices.ContainsFunc(r.Upstream, func(t config.Target) bool {
		u := f.Upstreams[t.Upstream]
		return u == nil || u.Connect.ReadTimeout > 0
	}) {
		return "connect.read_timeout = \"0\" of its upstream"
	}
	return ""
}
