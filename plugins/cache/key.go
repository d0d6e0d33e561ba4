package main

import (
	"slices"
	"strings"

	"wproxy/abi"
	"wproxy/plugins/internal/settings"
)

// A keyPart is something of a request, beside its URL, that answers depend on.
type keyPart struct {
	cookie bool // else a header
	name   string
}

// parsePart reads "header:NAME" or "cookie:NAME".
func parsePart(text string) (keyPart, bool) {
	if name, ok := strings.CutPrefix(text, "header:"); ok && settings.IsToken(name) {
		return keyPart{name: settings.Lower(name)}, true
	}
	if name, ok := strings.CutPrefix(text, "cookie:"); ok && settings.IsToken(name) {
		return keyPart{cookie: true, name: name}, true
	}
	return keyPart{}, false
}

// kind returns what abi.ObjectStanding.Key has before the name of the part.
func (p keyPart) kind() string {
	switch {
	case p.cookie:
		return "cookie:"
	case isSet(p.name):
		return "set:"
	}
	return "list:"
}

// append appends what the key of a request has of the part: its name too, as what was stored before a change of the settings has
// other parts.
func (p keyPart) append(dst []byte, r *head) []byte {
	dst = add(add(add(dst, "\x00"), p.kind()), p.name)
	if !p.cookie {
		return appendNormal(dst, p.name, r)
	}
	if v, ok := cookie(r, p.name); ok {
		dst = add(add(dst, ":"), v)
	}
	return dst
}

// appendKey appends the key of a request: the URL, by which it can be purged, then the
// route, as others may have another upstream, and the parts. The host makes it too (abi.ObjectStanding.Key).
func (c *config) appendKey(dst []byte, url, route string, r *head) []byte {
	dst = append(append(dst, url...), '\n')
	dst = append(dst, route...)
	for _, p := range c.key {
		dst = p.append(dst, r)
	}
	return dst
}

// cookie returns the value of a cookie.
func cookie(r *head, name string) (string, bool) {
	for _, p := range r.list() {
		if p.Name != "cookie" {
			continue
		}
		for pair := range strings.SplitSeq(p.Value, ";") {
			if k, v, ok := strings.Cut(strings.Trim(pair, " \t"), "="); ok && k == name {
				return v, true
			}
		}
	}
	return "", false
}

// bypasses reports whether nothing is stored or served for a request because of a field
// that is not in the key, and that some upstreams answer something else for.
func (c *config) bypasses(r *head) bool {
	if !r.mayHave(c.bypassMarks) {
		return false
	}
	return slices.ContainsFunc(c.bypass, r.has)
}

// notKeyed returns names without those of headers that are in the key.
func (c *config) notKeyed(names []string) (out []string) {
	for _, name := range names {
		if !slices.Contains(c.key, keyPart{name: name}) {
			out = addName(out, name)
		}
	}
	return out
}

// tagsOf returns the tags of a response, joined by NUL.
func (c *config) tagsOf(resp *head) string {
	if !resp.mayHave(c.tagMarks) {
		return ""
	}
	var tags []string
	for i := range resp.pairs {
		for _, name := range c.tags {
			if resp.pairs[i].Name == name {
				tags = settings.Words(tags, resp.pairs[i].Value, true)
			}
		}
	}
	return strings.Join(tags[:min(len(tags), maxTags)], "\x00")
}

// maxTags is the most tags of a response.
const maxTags = 64

// resolve returns the URL that a reference leads to, if it is of the same scheme and host
// as base. Dot segments are not resolved: no stored URL has them.
func resolve(base, ref string) (string, bool) {
	ref, _, _ = strings.Cut(ref, "#")
	if ref == "" {
		return "", false
	}
	i := strings.Index(base, "://") + 3
	slash := strings.IndexByte(base[i:], '/')
	if slash < 0 {
		return "", false
	}
	origin, path := base[:i+slash], base[i+slash:]
	switch {
	case strings.HasPrefix(ref, "//"):
		ref = base[:i-2] + ref
		fallthrough
	case strings.Contains(ref, "://"):
		if len(ref) <= len(origin) || !equalFold(ref[:len(origin)], origin) || ref[len(origin)] != '/' {
			return "", false
		}
		return origin + ref[len(origin):], true
	case ref[0] == '/':
		return origin + ref, true
	case ref[0] == '?':
		p, _, _ := strings.Cut(path, "?")
		return origin + p + ref, true
	}
	p, _, _ := strings.Cut(path, "?")
	return origin + p[:strings.LastIndexByte(p, '/')+1] + ref, true
}

// clone copies a head whose strings are borrowed.
func clone(h *head) head {
	n := 0
	for _, p := range h.pairs {
		n += len(p.Name) + len(p.Value)
	}
	b := make([]byte, 0, n)
	for _, p := range h.pairs {
		b = add(add(b, p.Name), p.Value)
	}
	text, out := string(b), make([]abi.Pair, len(h.pairs))
	for i, p := range h.pairs {
		k, v := len(p.Name), len(p.Value)
		out[i] = abi.Pair{Name: text[:k], Value: text[k : k+v]}
		text = text[k+v:]
	}
	return head{pairs: out, names: h.names, first: h.first}
}
