package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// route checks one route.
func (v *validator) route(r *Route) {
	c := routeCheck{v, r, "routes." + r.Name, label("routes", r.Name)}
	c.conditions()
	c.action()
	c.shaping()
	c.path()
	c.edit("request_headers", &r.RequestHeaders)
	c.edit("response_headers", &r.ResponseHeaders)
	c.retry()
	c.plugins()
	if v.f.TCP(r) {
		c.tcp()
	} else if c.has("tcp") {
		c.addf("tcp", "has no effect: the route is for requests; one for connections names a listener with protocols = [\"tcp\"]")
	}
}

// routeCheck is a validator at one route.
type routeCheck struct {
	v     *validator
	r     *Route
	key   string
	label string
}

// addf records a problem at a key of the route.
func (c *routeCheck) addf(key, format string, args ...any) {
	at := c.key
	if key != "" {
		at += "." + key
		format = stem(key) + ": " + format
	}
	c.v.addf(at, "%s: %s", c.label, fmt.Sprintf(format, args...))
}

// exclusive records that a and b are both set.
func (c *routeCheck) exclusive(a, b string) {
	c.v.addf(c.key+"."+b, "%s: %s and %s exclude each other; leave one out", c.label, a, b)
}

// elem is the key of element i of a list, and whether it has no problem yet.
func (c *routeCheck) elem(key string, i int) (string, bool) {
	at := fmt.Sprintf("%s[%d]", key, i)
	return at, !c.v.reported(c.key+"."+at) && (i != 0 || !c.v.reported(c.key+"."+key) || c.has(at))
}

// stem is key without a trailing index: messages quote the element instead.
func stem(key string) string { k, _, _ := strings.Cut(key, "["); return k }

// has reports whether the file sets a key of the route.
func (c *routeCheck) has(key string) bool { _, ok := c.v.f.index[c.key+"."+key]; return ok }

// conditions checks what the route is for.
func (c *routeCheck) conditions() {
	r := c.r
	for _, key := range []string{"host", "path", "methods", "listener"} {
		list := map[string][]string{"host": r.Host, "path": r.Path, "methods": r.Methods, "listener": r.Listener}[key]
		if c.has(key) && len(list) == 0 && !c.v.reported(c.key+"."+key) {
			c.addf(key, "is an empty list, which nothing can meet; leave it out for any")
		}
	}
	for i, h := range r.Host {
		if at, ok := c.elem("host", i); ok {
			if err := checkHostPattern(h); err != nil {
				c.addf(at, "%v", err)
			}
		}
	}
	for i, p := range r.Path {
		if at, ok := c.elem("path", i); ok {
			if err := checkPathPattern(p); err != nil {
				c.addf(at, "%v", err)
			}
		}
	}
	if c.has("path_regex") {
		if _, err := regexp.Compile(r.PathRegex); err != nil {
			c.addf("path_regex", "%v; see https://github.com/google/re2/wiki/Syntax", err)
		}
		if c.has("path") {
			c.exclusive("path", "path_regex")
		}
	}
	for i, m := range r.Methods {
		switch at, ok := c.elem("methods", i); {
		case !ok:
		case !isToken(m):
			c.addf(at, "%q is not a method; for example GET", m)
		case m != strings.ToUpper(m):
			c.addf(at, "methods are case-sensitive: write %q", strings.ToUpper(m))
		}
	}
	for i, l := range r.Listener {
		if at, ok := c.elem("listener", i); ok && c.v.f.Listeners[l] == nil {
			c.addf(at, "there is no listener %q%s", l, orWhich(l, slices.Sorted(maps.Keys(c.v.f.Listeners))))
		}
	}
	c.names("when.header")
	for name := range r.When.Header {
		if name == "host" {
			c.addf("when.header.host", "host is no condition on a field; use the route's host")
		}
	}
}

// action checks that there is exactly one, and that it makes sense.
func (c *routeCheck) action() {
	var set []string
	for _, key := range []string{"upstream", "to", "redirect", "respond"} {
		if c.has(key) {
			set = append(set, key)
		}
	}
	switch {
	case len(set) == 0:
		if !c.v.reported(c.key) { // an unknown key may be the missing one, misspelt
			c.addf("", "needs one of upstream, to, redirect and respond; for example to = \"127.0.0.1:3000\"")
		}
	case len(set) > 1:
		c.exclusive(set[0], set[1])
	}
	if s := (ServerEntry{Address: c.r.To}); c.has("to") && !c.v.reported(c.key+".to") {
		if err := s.resolve(); err != nil {
			c.addf("to", "%v", err)
		}
	} else if !c.has("to") {
		c.targets()
	}
	if c.has("redirect") || c.has("respond") {
		for _, key := range []string{"strip", "rewrite", "retry", "websocket", "request_headers", "split", "mirror", "fault"} {
			if c.has(key) {
				c.addf(key, "has no effect: the route has no upstream; leave it out")
			}
		}
	}
	if d := c.r.Redirect; d != nil {
		c.redirect(d)
	}
	if r := c.r.Respond; r != nil {
		c.names("respond.headers")
		c.values("respond.headers", r.Headers)
		for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
			c.framing("respond.headers."+name, name)
		}
		if (r.Status == 204 || r.Status == 205 || r.Status == 304) && r.Body.Reveal() != "" {
			c.addf("respond.body", "a response with status %d has no body; leave it out", r.Status)
		}
	}
}

// targets checks the upstreams of a route.
func (c *routeCheck) targets() {
	for _, t := range c.r.Upstream {
		if c.v.f.Upstreams[t.Upstream] != nil || t.Upstream == "" && c.v.reported(c.key+".upstream") {
			continue
		}
		known := slices.Sorted(maps.Keys(c.v.f.Upstreams))
		hint := orWhich(t.Upstream, known)
		if strings.ContainsAny(t.Upstream, ":/") {
			hint = "; `to` takes an address"
		}
		key := "upstream"
		if len(c.r.Upstream) > 1 {
			key += "." + t.Upstream
		}
		at := c.key + "." + key
		c.v.addf(at, "%s: upstream: there is no upstream %q%s", c.label, t.Upstream, hint)
	}
}

// shaping checks what is done with the requests of a route beside passing them on.
func (c *routeCheck) shaping() {
	if s := c.r.Split; s != nil {
		c.split(s)
	}
	if m := c.r.Mirror; m != nil {
		known := slices.Sorted(maps.Keys(c.v.f.Upstreams))
		switch {
		case m.Upstream == "" && !c.v.reported(c.key+".mirror"):
			c.addf("mirror", "needs the name of an upstream, e.g. mirror = \"NAME\"")
		case m.Upstream != "" && c.v.f.Upstreams[m.Upstream] == nil:
			c.addf("mirror", "there is no upstream %q%s", m.Upstream, orWhich(m.Upstream, known))
		}
	}
	if f := c.r.Fault; f != nil {
		if f.Delay == 0 && f.Abort == 0 && !c.v.reported(c.key+".fault") {
			c.addf("fault", "does nothing: it has neither delay nor abort; set one, or leave it out")
		}
		if f.Abort != 0 && f.Abort < 200 {
			c.addf("fault.abort", "%d is not the status of an answer; those are 200 to 599", f.Abort)
		}
		if c.has("fault.header") && !isToken(f.Header) {
			c.addf("fault.header", "%q is not a field name; write letters, digits and -", f.Header)
		}
	}
}

// split checks what keeps requests on one side.
func (c *routeCheck) split(s *Split) {
	if len(c.r.Upstream) < 2 && !c.v.reported(c.key+".upstream") {
		c.addf("split", "has no effect: the route has one upstream; a split is upstream = { a = 95, b = 5 }")
	}
	switch {
	case s.Hash != "" && s.Cookie != "":
		c.addf("split", "hash and cookie exclude each other; cookie is one that wproxy sets, hash = \"cookie:NAME\" one of yours")
	case s.Hash == "" && s.Cookie == "" && !c.v.reported(c.key+".split"):
		c.addf("split", "needs hash or cookie; for example cookie = \"NAME\", which wproxy sets")
	case s.Cookie == "" && c.has("split.max_age"):
		c.addf("split.max_age", "has no effect without cookie; leave it out")
	}
	if s.Hash != "" {
		if _, _, err := ParseKey(s.Hash); err != nil {
			c.addf("split.hash", "%v", err)
		}
	}
	if s.Cookie != "" && !isToken(s.Cookie) {
		c.addf("split.cookie", "%q is not a name of a cookie; write letters, digits, - and _", s.Cookie)
	}
}

// redirect checks a redirect.
func (c *routeCheck) redirect(d *Redirect) {
	key := "redirect"
	if c.has("redirect.to") {
		key = "redirect.to"
	}
	if d.To == "" {
		if !c.v.reported(c.key + "." + key) {
			c.addf(key, "needs a target; to = \"/path\" or \"https://host/path\"")
		}
		return
	}
	u, err := url.Parse(d.To)
	switch {
	case err != nil || !isTarget(d.To):
		c.addf(key, "%q is not a URL; write what is not ASCII, or a space, as %%XX", d.To)
	case strings.HasPrefix(d.To, "//"):
		c.addf(key, "%q leads to another host in an unclear way: write the scheme", d.To)
	case strings.HasPrefix(d.To, "/"):
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil:
		c.addf(key, "%q is neither a path nor an absolute URL; write \"/new\" or \"https://host/path\"", d.To)
	}
	if d.Status > 303 && d.Status < 307 {
		c.addf("redirect.status", "%d is not a redirect; those are 301, 302, 303, 307 and 308", d.Status)
	}
}

// path checks strip and rewrite.
func (c *routeCheck) path() {
	r := c.r
	if c.has("strip") && !c.v.reported(c.key+".strip") {
		if r.Strip == "/" || !strings.HasPrefix(r.Strip, "/") || strings.HasSuffix(r.Strip, "/") || !isTarget(r.Strip) || strings.ContainsAny(r.Strip, "?*") {
			c.addf("strip", "%q is not a path prefix: write it as in \"/v1\", without slash at the end", r.Strip)
		}
	}
	w := r.Rewrite
	if w == nil {
		return
	}
	switch {
	case c.has("rewrite.path") && (c.has("rewrite.regex") || c.has("rewrite.to")):
		c.addf("rewrite", "path and regex exclude each other; leave one out")
	case c.has("rewrite.path"):
		if !strings.HasPrefix(w.Path, "/") || !isTarget(w.Path) || strings.Contains(w.Path, "?") {
			c.addf("rewrite.path", "%q is not a path; it begins with / and has no query", w.Path)
		}
	case !c.has("rewrite.regex") || !c.has("rewrite.to"):
		if !c.v.reported(c.key + ".rewrite") {
			c.addf("rewrite", "needs either path, or regex and to; for example path = \"/new\"")
		}
	default:
		re, err := regexp.Compile(w.Regex)
		if err != nil {
			c.addf("rewrite.regex", "%v; see https://github.com/google/re2/wiki/Syntax", err)
			return
		}
		if err := checkTemplate(re, w.To); err != nil {
			c.addf("rewrite.to", "%v", err)
		}
	}
}

// retry checks what a request is tried again after.
func (c *routeCheck) retry() {
	classes := []string{RetryConnect, RetryRefused, RetryReset, RetryTimeout}
	if c.has("retry.on") && len(c.r.Retry.On) == 0 && !c.v.reported(c.key+".retry.on") {
		c.addf("retry.on", "is empty; for no tries but the first write attempts = 0")
	}
	for i, on := range c.r.Retry.On {
		at, ok := c.elem("retry.on", i)
		switch {
		case !ok:
		case slices.Index(c.r.Retry.On, on) < i:
			c.addf(at, "%q is there twice; leave one out", on)
		case !slices.Contains(classes, on) && RetryStatus(on) == 0:
			c.addf(at, "%q is neither one of \"%s\" nor a status from 400 to 599%s", on, strings.Join(classes, "\", \""), cmp.Or(suggest(on, classes), "; write one of them"))
		}
	}
}

// edit checks a header edit.
func (c *routeCheck) edit(key string, e *HeaderEdit) {
	for _, part := range []struct {
		key    string
		values map[string]Value
	}{{key + ".set", e.Set}, {key + ".add", e.Add}} {
		c.names(part.key)
		c.values(part.key, part.values)
		for _, name := range slices.Sorted(maps.Keys(part.values)) {
			c.framing(part.key+"."+name, name)
		}
	}
	for i, name := range e.Remove {
		at := fmt.Sprintf("%s.remove[%d]", key, i)
		if !isToken(name) {
			c.addf(at, "%q is not a field name; write letters, digits and -", name)
		}
		c.framing(at, name)
	}
}

// framing refuses fields that wproxy itself answers for: changing them would
// break the message or the connection.
func (c *routeCheck) framing(key, name string) {
	if name == "host" {
		if strings.HasPrefix(key, "respond.") || strings.HasPrefix(key, "response_headers.") {
			c.addf(key, "host is a field of requests only; leave it out")
			return
		}
		c.addf(key, "the upstream decides what its servers see as host; set its `host` instead")
		return
	}
	if isFraming(name) {
		c.addf(key, "%s is about the connection or the message's framing; wproxy sets it", name)
	}
}

// isFraming reports whether a field is wproxy's to set.
func isFraming(name string) bool {
	switch name {
	case "host", "connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer",
		"transfer-encoding", "upgrade", "expect", "http2-settings":
		return true
	}
	return false
}

// names checks the keys of a table of fields, as they were written.
func (c *routeCheck) names(key string) {
	prefix := c.key + "." + key + "."
	lower := map[string]string{}
	for _, k := range c.v.keysUnder(prefix) {
		l := strings.ToLower(k)
		switch {
		case !isToken(k):
			c.addf(key+"."+k, "%q is not a field name; write letters, digits and -", k)
		case lower[l] != "":
			c.addf(key+"."+k, "field names are the same in upper and lower case, and it is there as %q too; leave one out", lower[l])
		}
		lower[l] = k
	}
}

// keysUnder returns the keys of the file right under prefix, sorted.
func (v *validator) keysUnder(prefix string) []string {
	if v.children == nil {
		v.children = map[string][]string{}
		for k := range v.f.index {
			if i := strings.LastIndexByte(k, '.'); i >= 0 && !strings.HasSuffix(k, "]") {
				v.children[k[:i+1]] = append(v.children[k[:i+1]], k[i+1:])
			}
		}
	}
	return slices.Sorted(slices.Values(v.children[prefix]))
}

// values checks field values (RFC 9110 5.5).
func (c *routeCheck) values(key string, m map[string]Value) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		s := m[name].Reveal()
		for i := range len(s) {
			if (s[i] < ' ' && s[i] != '\t') || s[i] == 0x7f {
				c.addf(key+"."+name, "the value has a control character, which a field cannot carry; leave it out")
				break
			}
		}
		if s != strings.Trim(s, " \t") {
			c.addf(key+"."+name, "the value begins or ends with white space, which a field does not keep; leave that out")
		}
	}
}

// isText reports whether a plugin's config is text rather than a table.
func isText(config any) bool {
	switch config.(type) {
	case string, Value:
		return true
	default:
		return false
	}
}

// plugins checks use and with.
func (c *routeCheck) plugins() {
	known := slices.Sorted(maps.Keys(c.v.f.Plugins))
	for i, name := range c.r.Use {
		at, ok := c.elem("use", i)
		switch p := c.v.f.Plugins[name]; {
		case ok && p == nil:
			c.addf(at, "there is no plugin %q%s", name, orWhich(name, known))
		case ok && p != nil && p.Kind == "service":
			c.addf(at, "plugin %q is a service: it runs by itself and has no part in exchanges; leave it out", name)
		case ok && p.Kind == KindTCP && !c.v.f.TCP(c.r):
			c.addf(at, "plugin %q has kind = \"tcp\", and the route is for requests; use it on a route whose listener has protocols = [\"tcp\"]", name)
		case ok && p.Kind != KindTCP && c.v.f.TCP(c.r):
			c.addf(at, "plugin %q has kind = %q, and the route is for TCP connections; want kind = \"tcp\"", name, p.Kind)
		}
		if slices.Index(c.r.Use, name) < i {
			c.addf(at, "plugin %q is there twice; a second instance of it needs a name of its own", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.r.With)) {
		if !slices.Contains(c.r.Use, name) {
			c.addf("with."+name, "the route does not use %q%s", name, suggest(name, c.r.Use))
		} else if p := c.v.f.Plugins[name]; p != nil && isText(p.Config) {
			c.addf("with."+name, "the config of plugin %q is text, which nothing can be laid over; a second [plugins] entry with the same wasm can have another text", name)
		}
	}
}
