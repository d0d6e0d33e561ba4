package main

import (
	"strconv"
	"strings"

	"wproxy/core/config"
	"wproxy/plugins/manifest"
)

// readManifest returns what p's module says about itself; nothing, if it has no manifest. The
// error is a config.Problem.
func readManifest(f *config.File, p *config.Plugin, wasm []byte) (*manifest.Manifest, error) {
	m, err := manifest.Read(wasm)
	if err != nil {
		return nil, f.Problemf("plugins."+p.Name+".wasm", "plugin %q (%s): %v", p.Name, p.Wasm, err).WithCode(codeModule)
	}
	if m == nil {
		m = &manifest.Manifest{}
	}
	return m, nil
}

// checkSettings holds the settings that a route (or "", for a service) gives a plugin, as
// the guest would get them, against the schema in its module. The error is a config.Problems list, each
// at the key that it is about: in the route's `with`, or else in the plugin's config.
func checkSettings(f *config.File, s *manifest.Schema, route, plugin string, settings []byte) error {
	if s == nil {
		return nil
	}
	var list config.Problems
	conf := f.Plugins[plugin]
	var with map[string]any
	if r := f.Routes[route]; r != nil {
		with = r.With[plugin]
	}
	redactor := config.NewRedactor(conf.Config, with)
	for _, p := range s.Check(settings) {
		key := "plugins." + plugin + ".config"
		if hasPath(with, p.Path) || len(p.Path) == 0 && len(with) > 0 {
			key = "routes." + route + ".with." + plugin
		}
		place := key
		if p.Key != "" {
			key += "." + p.Key
		} else if len(with) == 0 && route != "" { // something is missing, or everything is wrong
			place += ", as route " + strconv.Quote(route) + " uses it"
		}
		// The text may show a value.
		text := redactor.Redact(p.Text)
		list = append(list, f.Problemf(key, "%s: %s", place, strings.ReplaceAll(text, "\n", " ")).WithCode(codeSettings))
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// hasPath reports whether tree has a value at path, which is not its root.
func hasPath(tree map[string]any, path []string) bool {
	if len(path) == 0 {
		return false
	}
	v, ok := tree[path[0]]
	if !ok || len(path) == 1 {
		return ok
	}
	switch v := v.(type) {
	case map[string]any:
		return hasPath(v, path[1:])
	default: // a list or a scalar stands in one place with all that is in it
		return true
	}
}
