package config

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// A validator checks what concerns more than one key.
type validator struct {
	f        *File
	problems Problems
	children map[string][]string // keys right under a prefix; made on first use
}

// addf records a problem at key, under the object's label.
func (v *validator) addf(key, format string, args ...any) {
	p := v.f.Problemf(key, format, args...)
	p.Text = oneLine(p.Text)
	v.problems = append(v.problems, p)
}

// file checks everything.
func (v *validator) file() {
	f := v.f
	if len(f.Routes) == 0 && len(v.problems) == 0 {
		v.addf("", "there are no routes; a file has at least a [routes.NAME] with to = \"host:port\"")
	}
	addresses := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(f.Listeners)) {
		v.listener(f.Listeners[name], addresses)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Upstreams)) {
		v.upstream(f.Upstreams[name])
	}
	for _, name := range slices.Sorted(maps.Keys(f.Plugins)) {
		v.plugin(f.Plugins[name])
	}
	for _, name := range slices.Sorted(maps.Keys(f.Routes)) {
		v.route(f.Routes[name])
	}
	v.admin()
	if f.Server.Group != "" && f.Server.User == "" {
		v.addf("server.group", "server.group: needs a user; the group of root alone is not given up")
	}
	if p := f.Server.PidFile; p != "" && !filepath.IsAbs(p) {
		v.addf("server.pid_file", "server.pid_file: %q is not an absolute path; begin it with /", p)
	}
	for i := range f.Tests {
		v.test(i, &f.Tests[i])
	}
	for i, p := range f.Include {
		if at := fmt.Sprintf("include[%d]", i); p == "" && !v.reported(at) {
			v.addf(at, "include: is empty, want a file or a glob")
		}
	}
	if f.Log.To == "" && !v.reported("log.to") {
		v.addf("log.to", "log.to: is empty, want \"stderr\", \"stdout\" or a file")
	}
	v.telemetry()
	if f.Log.Access.To == "" && !v.reported("log.access.to") {
		v.addf("log.access.to", "log.access.to: is empty, want \"stdout\", \"stderr\", \"none\" or a file")
	}
}

func (v *validator) listener(l *Listener, addresses map[string]string) {
	key, lb := "listeners."+l.Name, label("listeners", l.Name)
	if l.Address == "" && v.reported(key) {
		return
	}
	if l.Address == "" {
		v.addf(key, "%s: needs an address, e.g. address = \":8080\"", lb)
		return
	}
	if err := checkListen(l.Address); err != nil {
		v.addf(key+".address", "%s: address: %v", lb, err)
	}
	if other := addresses[l.Address]; other != "" && !strings.HasSuffix(l.Address, ":0") {
		v.addf(key+".address", "%s: address: listener %q has %s already; give one of them another", lb, other, l.Address)
	}
	addresses[l.Address] = l.Name
	for _, a := range v.f.Admin.Address {
		if sameSocket(a, l.Address) {
			v.addf(key+".address", "%s: address: %s is for admin.address (%s) already; give one of them another", lb, l.Address, a)
		}
	}
	v.protocols(l, key+".protocols", lb)
	if l.TCP() {
		v.tcpListener(l)
	}
	if l.TLS != nil {
		v.listenerTLS(key, lb, l.TLS)
	}
	v.listenerRedirect(key, lb, l)
	v.listenerSocket(key, lb, l)
}

// protocols checks those of a listener.
func (v *validator) protocols(l *Listener, key, lb string) {
	if len(l.Protocols) == 0 && !v.reported(key) {
		v.addf(key, "%s: protocols: is empty; leave it out, or write [\"h1\"]", lb)
	}
	for i, p := range l.Protocols {
		at := fmt.Sprintf("%s[%d]", key, i)
		switch {
		case slices.Contains(l.Protocols[:i], p):
			v.addf(at, "%s: protocols[%d]: %q is listed twice; leave one out", lb, i, p)
		case p == "h2" && !l.secure():
			v.addf(at, "%s: protocols[%d]: \"h2\" is HTTP/2 over TLS, and the listener has no TLS; without it HTTP/2 is \"h2c\"", lb, i)
		case p == "h2c" && l.secure():
			v.addf(at, "%s: protocols[%d]: \"h2c\" is HTTP/2 without TLS, and the listener has TLS; with it HTTP/2 is \"h2\"", lb, i)
		}
	}
}

func (v *validator) upstream(u *Upstream) {
	key, lb := "upstreams."+u.Name, label("upstreams", u.Name)
	if _, ok := v.f.index[key]; !ok {
		return // made from a `to`, which the route checks
	}
	v.serverSource(u)
	v.health(u)
	v.outlier(u)
	seen := map[string]bool{}
	for i, s := range u.Servers {
		if s.Network == "builtin" && u.Connect.Protocol == "h2" {
			v.addf(fmt.Sprintf("%s.servers[%d]", key, i), "%s: servers: %q speaks HTTP/1.1 only; leave out connect.protocol", lb, s.Address)
		}
		if seen[s.Address] {
			v.addf(fmt.Sprintf("%s.servers[%d]", key, i), "%s: servers: %q is listed twice; give it a weight instead", lb, s.Address)
		}
		seen[s.Address] = true
	}
	v.balance(u, key, lb)
	if host := u.Host; host != "" {
		if _, _, err := splitAddress(host); err != nil && !isName(host) {
			v.addf(key+".host", "%s: host: %q is not a name, host:port, or \"server\"; for example \"app.internal\"", lb, host)
		}
	}
	if name := u.DeadlineHeader; name != "" {
		switch {
		case !isToken(name):
			v.addf(key+".deadline_header", "%s: deadline_header: %q is not a field name; write letters, digits and -", lb, name)
		case isFraming(strings.ToLower(name)):
			v.addf(key+".deadline_header", "%s: deadline_header: %s is a field of HTTP's own; choose another", lb, name)
		}
	}
	if u.Connect.Timeout > u.Connect.Total {
		v.addf(key+".connect", "%s: connect: one attempt (timeout, %s) is longer than all together (total, %s); make total longer",
			lb, FormatDuration(u.Connect.Timeout), FormatDuration(u.Connect.Total))
	}
	v.upstreamTLS(u)
	v.sendProxy(u, key, lb)
}

// upstreamTLS checks the tls of an upstream, and whether its servers agree with it.
func (v *validator) upstreamTLS(u *Upstream) {
	key, lb, t := "upstreams."+u.Name, label("upstreams", u.Name), u.TLS
	if t == nil || v.reported(key+".tls") {
		return
	}
	if (t.Cert == "") != (t.Key == "") {
		v.addf(key+".tls", "%s: tls: cert and key go together; one is the certificate that servers are shown, the other its key", lb)
	}
	if n := t.ServerName; n != "" && !isName(n) {
		if _, err := netip.ParseAddr(n); err != nil {
			v.addf(key+".tls.server_name", "%s: tls.server_name: %q is neither a name nor an address; for example app.internal", lb, n)
		}
	}
	if _, all := v.f.index[key+".tls"]; !all {
		return
	}
	named := t.ServerName != "" || u.Host != "" && u.Host != "server" || t.InsecureSkipVerify
	for i, s := range u.Servers {
		at := fmt.Sprintf("%s.servers[%d]", key, i)
		switch {
		case s.Network == "builtin":
			v.addf(at, "%s: servers: %q is inside this process and knows no TLS; leave out tls", lb, s.Address)
		case s.Scheme == "http":
			v.addf(at, "%s: servers: %q says http, but the upstream has tls; write https:// or no scheme", lb, s.Address)
		case s.Network == "unix" && !named:
			v.addf(at, "%s: servers: %q has no name that its certificate could be held against; set tls.server_name", lb, s.Address)
		}
	}
}

// reported tells whether there is a problem about key or something in it
// already, so that a consequence is not reported as well.
func (v *validator) reported(key string) bool {
	return slices.ContainsFunc(v.problems, func(p Problem) bool {
		rest, ok := strings.CutPrefix(p.Key, key)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func (v *validator) plugin(p *Plugin) {
	key, lb := "plugins."+p.Name, label("plugins", p.Name)
	at := key + ".wasm"
	switch scheme, _, ok := strings.Cut(p.Wasm, "://"); {
	case p.Wasm == "" && !v.reported(at):
		v.addf(key, "%s: needs wasm; \"builtin:NAME\" or the path of a .wasm file", lb)
	case ok:
		v.addf(at, "%s: wasm: %s:// is not supported by this version yet; write a path", lb, scheme)
	case strings.HasPrefix(p.Wasm, "builtin:") && !isObjectName(p.Builtin):
		v.addf(at, "%s: wasm: %q names no built-in; for example \"builtin:ratelimit\"", lb, p.Wasm)
	}
	v.settings(key+".config", lb+": config", p.Config)
	v.settings(key+".vm_config", lb+": vm_config", p.VMConfig)
	for name := range p.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			v.addf(key+".env."+name, "%s: env: %q is not a name of an environment variable; it is not empty and has no =", lb, name)
		}
	}
	v.grants(p)
	if p.VMID == "" {
		v.addf(key+".vm_id", "%s: vm_id: is empty; leave it out for the plugin's name", lb)
	}
}

// grants checks what a plugin may use.
func (v *validator) grants(p *Plugin) {
	key, lb := "plugins."+p.Name, label("plugins", p.Name)
	if v.reported(key + ".grant") {
		return
	}
	for i, g := range p.Grant {
		kind, name, named := strings.Cut(g, ":")
		if !named || kind != "call" && kind != "upstream" || v.f.Upstreams[name] != nil {
			continue
		}
		v.addf(fmt.Sprintf("%s.grant[%d]", key, i), "%s: grant: %q: there is no upstream %q%s",
			lb, g, name, orWhich(name, slices.Sorted(maps.Keys(v.f.Upstreams))))
	}
	if p.Grant != nil && len(p.Env) > 0 && !slices.Contains(p.Grant, "env") {
		v.addf(key+".grant", "%s: grant: has no \"env\", so that the plugin would not see its env; add it", lb)
	}
}

// settings checks that what is for the guest is text or a table.
func (v *validator) settings(key, label string, tree any) {
	switch tree.(type) {
	case nil, string, Value, map[string]any:
	default:
		v.addf(key, "%s: is neither a table nor a string; the guest gets a table as JSON, and a string as it is", label)
	}
}

func (v *validator) admin() {
	a := v.f.Admin
	tcp := false
	for i, s := range a.Address {
		at := fmt.Sprintf("admin.address[%d]", i)
		if s == "none" {
			if len(a.Address) > 1 {
				v.addf(at, "admin.address: \"none\" stands alone; leave the others out")
			}
			continue
		}
		if err := checkListen(s); err != nil {
			v.addf(at, "admin.address: %v", err)
			continue
		}
		tcp = tcp || !strings.HasPrefix(s, "unix:")
	}
	if len(a.Address) == 0 {
		v.addf("admin.address", "admin.address: is empty; write \"none\" for no address")
	}
	if tcp && a.Write && a.Token.Reveal() == "" {
		v.addf("admin.write", "admin.write: needs admin.token, e.g. token = \"${file:/run/secrets/wproxy}\"")
	}
}

// test checks one of [[tests]].
func (v *validator) test(i int, t *Test) {
	key, lb := fmt.Sprintf("tests[%d]", i), fmt.Sprintf("test %d", i+1)
	method, target, ok := strings.Cut(t.Request, " ")
	scheme, rest, absolute := strings.Cut(target, "://") // not url.Parse: what is refused with 400 can be tested too
	switch {
	case t.Request == "":
		if !v.reported(key + ".request") {
			v.addf(key, "%s: needs a request, e.g. request = \"GET https://example.com/\"", lb)
		}
	case !ok || !isToken(method) || !absolute || scheme != "http" && scheme != "https" || rest == "" || strings.Contains(rest, " "):
		v.addf(key+".request", "%s: request: %q is not a method and an absolute URL, e.g. \"GET https://example.com/\"", lb, t.Request)
	}
	if t.Listener != "" && v.f.Listeners[t.Listener] == nil {
		v.addf(key+".listener", "%s: listener: there is no listener %q%s", lb, t.Listener, orWhich(t.Listener, slices.Sorted(maps.Keys(v.f.Listeners))))
	}
	e := t.Expect
	if e == (Expect{}) && !v.reported(key) {
		v.addf(key, "%s: expects nothing, e.g. expect = { route = \"NAME\" }", lb)
	}
	if r := e.Route; r != nil && *r != "none" && v.f.Routes[*r] == nil {
		v.addf(key+".expect.route", "%s: expect.route: there is no route %q%s", lb, *r, orWhich(*r, slices.Sorted(maps.Keys(v.f.Routes))))
	}
	if u := e.Upstream; u != nil && v.f.Upstreams[*u] == nil {
		v.addf(key+".expect.upstream", "%s: expect.upstream: there is no upstream %q%s", lb, *u, orWhich(*u, slices.Sorted(maps.Keys(v.f.Upstreams))))
	}
}
