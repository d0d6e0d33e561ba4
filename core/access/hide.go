package access

import (
	"slices"
	"strings"

	"wproxy/core/exchange"
)

// hidden stands for what is not written down.
const hidden = "***"

// A Hide says what of a request is not written down: the values of header fields (names
// in lower case), query parameters ("*": all of them) and cookies. The zero value hides
// nothing. It is immutable.
type Hide struct {
	Fields  []string
	Query   []string
	Cookies []string
}

// Target returns a target, or a URL, with *** for the values of query parameters that
// are hidden. If there are none it does not allocate.
func (h *Hide) Target(target string) string {
	if len(h.Query) == 0 {
		return target
	}
	return redactQuery(target, h.hidesQuery)
}

// hidesQuery also takes names for hidden that are written with escapes: nobody who has
// nothing to hide writes them so. A plus is a space, of which some servers take no notice
// around a name, and name[] and name[x] are elements of name to many.
func (h *Hide) hidesQuery(name string) bool {
	if strings.Contains(name, "%") {
		return true
	}
	name = strings.TrimSpace(strings.ReplaceAll(name, "+", " "))
	list, _, _ := strings.Cut(name, "[")
	return slices.ContainsFunc(h.Query, func(s string) bool { return s == "*" || strings.EqualFold(s, name) || strings.EqualFold(s, list) })
}

// Text returns what may be written of value, which is that of the field name.
func (h *Hide) Text(name, value string) string {
	switch {
	case value == "":
		return ""
	case slices.Contains(h.Fields, name):
		return hidden
	case name == "referer":
		return h.Target(value)
	default:
		return value
	}
}

// field returns what may be written of the field name.
func (h *Hide) field(f *exchange.Fields, name string) string {
	if f == nil {
		return ""
	}
	value := h.Text(name, f.Joined(name))
	if name == "cookie" && value != hidden && len(h.Cookies) > 0 {
		return h.cookies(f)
	}
	return value
}

// cookie returns what may be written of a cookie.
func (h *Hide) cookie(f *exchange.Fields, name string) string {
	if f == nil {
		return ""
	}
	for _, line := range f.List() {
		if line.Name != "cookie" { // which may have several lines in HTTP/2
			continue
		}
		for pair := range strings.SplitSeq(line.Value, ";") {
			k, v, ok := strings.Cut(strings.TrimSpace(pair), "=")
			switch {
			case !ok || strings.TrimSpace(k) != name: // servers take no notice of the space
			case slices.Contains(h.Cookies, name):
				return hidden
			default:
				return v
			}
		}
	}
	return ""
}

// cookies returns the field cookie without the values that are hidden.
func (h *Hide) cookies(f *exchange.Fields) string {
	var pairs []string
	for _, line := range f.List() {
		if line.Name != "cookie" {
			continue
		}
		for pair := range strings.SplitSeq(line.Value, ";") {
			pair = strings.TrimSpace(pair)
			if k, _, ok := strings.Cut(pair, "="); ok && slices.Contains(h.Cookies, strings.TrimSpace(k)) {
				pair = k + "=" + hidden
			}
			pairs = append(pairs, pair)
		}
	}
	return strings.Join(pairs, "; ")
}

// secretNames are parts of names of query parameters whose values are nobody's business:
// tokens, keys and signatures of links, passwords, codes of OAuth 2.0 (RFC 6749).
var secretNames = [...]string{"token", "secret", "passw", "pwd", "auth", "key", "sig", "session", "code", "credential", "jwt", "otp"}

// RedactQuery returns target with "***" for the values of query parameters whose names
// have a part that says that they are secret. Without any it does not allocate.
func RedactQuery(target string) string { return redactQuery(target, isSecret) }

func isSecret(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "%") || slices.ContainsFunc(secretNames[:], func(s string) bool { return strings.Contains(name, s) })
}

// redactQuery returns target without the values of query parameters whose names are
// secret.
func redactQuery(target string, secret func(name string) bool) string {
	at := strings.IndexByte(target, '?') + 1
	if at == 0 {
		return target
	}
	var b []byte // what has been taken over, if anything has changed
	taken := 0
	for at <= len(target) {
		end := len(target)
		if n := strings.IndexAny(target[at:], "&;"); n >= 0 {
			end = at + n
		}
		if name, _, ok := strings.Cut(target[at:end], "="); ok && secret(name) {
			// Whether a semicolon ends the value or belongs to it is the server's business.
			end = len(target)
			if n := strings.IndexByte(target[at:], '&'); n >= 0 {
				end = at + n
			}
			b = append(append(b, target[taken:at+len(name)]...), "="+hidden...)
			taken = end
		}
		at = end + 1
	}
	if b == nil {
		return target
	}
	return string(append(b, target[taken:]...))
}
