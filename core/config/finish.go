package config

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// finish fills in what follows from other settings: the default listener,
// upstreams from `to`, merged plugin settings, names in one case.
func (f *File) finish() {
	if len(f.Listeners) == 0 {
		l := &Listener{Name: DefaultListener, Pos: Pos{File: f.Path}}
		setDefaultsOf(l)
		l.Address = DefaultAddress
		f.Listeners[l.Name] = l
	}
	if f.Log.Access.Hide == nil {
		f.Log.Access.Hide = DefaultHide()
	}
	for _, u := range f.Upstreams {
		u.finish()
	}
	for _, l := range f.Listeners {
		l.finish()
	}
	for _, name := range slices.Sorted(maps.Keys(f.Routes)) { // in order: the first that has a `to` is its place
		f.finishRoute(f.Routes[name])
	}
	for _, u := range f.Upstreams {
		u.secure()
	}
}

// secure decides which servers are spoken to over TLS.
func (u *Upstream) secure() {
	scheme := "http"
	if u.TLS != nil {
		scheme = "https"
	}
	for i := range u.Servers {
		s := &u.Servers[i]
		if s.Scheme = cmp.Or(s.Scheme, scheme); s.Scheme == "https" && u.TLS == nil {
			u.TLS = new(UpstreamTLS)
			setDefaultsOf(u.TLS)
		}
	}
}

// finish fills in what follows for one upstream.
func (u *Upstream) finish() {
	u.DeadlineHeader = strings.ToLower(u.DeadlineHeader)
	if d := u.Discover; d != nil && d.File != "" && !filepath.IsAbs(d.File) {
		d.File = filepath.Join(filepath.Dir(u.Pos.File), d.File)
	}
	if h := u.Health; h != nil {
		h.Headers = lowerKeys(h.Headers)
		if h.EveryDown == 0 {
			h.EveryDown = h.Every
		}
		if h.Timeout == 0 {
			h.Timeout = min(usualTimeout, h.Every)
		}
	}
}

// finish fills in the protocols.
func (l *Listener) finish() {
	if l.Protocols != nil {
		return
	}
	l.Protocols = []string{"h1", "h2c"}
	if l.secure() {
		l.Protocols = []string{"h1", "h2"}
	}
}

// secure reports whether clients connect with TLS.
func (l *Listener) secure() bool { return l.TLS != nil }

// finishRoute fills in what follows for one route.
func (f *File) finishRoute(r *Route) {
	if r.To != "" && len(r.Upstream) == 0 {
		f.upstreamTo(r.To, f.At("routes."+r.Name+".to"))
		r.Upstream = []Target{{r.To, 1}}
	}
	for i, h := range r.Host {
		r.Host[i] = strings.Trim(strings.ToLower(h), "[]")
	}
	for _, e := range []*HeaderEdit{&r.RequestHeaders, &r.ResponseHeaders} {
		for i, name := range e.Remove {
			e.Remove[i] = strings.ToLower(name)
		}
		e.Set, e.Add = lowerKeys(e.Set), lowerKeys(e.Add)
	}
	r.When.Header = lowerKeys(r.When.Header)
	if r.Respond != nil {
		r.Respond.Headers = lowerKeys(r.Respond.Headers)
	}
	for _, name := range r.Use {
		u := Use{Plugin: name}
		if p := f.Plugins[name]; p != nil {
			u.Config = settings(p.Config, r.With[name])
		}
		r.Plugins = append(r.Plugins, u)
	}
}

// settings returns a plugin's config as a route uses it. Text stays as it is: that
// there is something to lay over it is reported by the validator.
func settings(config any, with map[string]any) any {
	base, ok := config.(map[string]any)
	if !ok && config != nil {
		return config
	}
	if m := Merge(base, with); m != nil {
		return m
	}
	return nil
}

// lowerKeys returns m with its keys in lower case. Of two that differ only in
// case one is lost; the validator refuses such a table by its keys as written.
func lowerKeys[V any](m map[string]V) map[string]V {
	for k, v := range m {
		if l := strings.ToLower(k); l != k {
			delete(m, k)
			m[l] = v
		}
	}
	return m
}

// upstreamTo makes the upstream of a `to`; routes with the same one share it.
func (f *File) upstreamTo(address string, pos Pos) {
	if f.Upstreams[address] != nil {
		return
	}
	u := &Upstream{Name: address, Pos: pos}
	setDefaultsOf(u)
	s := ServerEntry{Address: address, Weight: 1}
	if s.resolve() == nil { // a bad address is reported by the validator
		u.Servers = []ServerEntry{s}
	}
	f.Upstreams[address] = u
}
