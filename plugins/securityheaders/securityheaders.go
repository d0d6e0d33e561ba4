// Securityheaders is a Proxy-Wasm plugin that sets the response headers by which a site
// tells browsers to protect it. README.md has the settings.
//
// main.go is what speaks to the SDK and exists in the guest only; everything else is
// plain Go, tested on any platform.
package main

import (
	"encoding/base64"
	"slices"

	"wproxy/abi"
)

// nonceMark is what a policy contains where the nonce of the response goes.
const nonceMark = "{nonce}"

// nonceHeader is the request field in which the upstream gets the nonce.
const nonceHeader = "x-csp-nonce"

// nonceSize is the number of random bytes of a nonce: 128 bits, as CSP level 3, section
// 7.1 asks for at least.
const nonceSize = 16

// A header is one response field to send.
type header struct {
	name  string
	value string
	// parts is the value cut at each nonceMark, where there is one.
	parts []string
	// tlsOnly: only on answers to requests that came over TLS (RFC 6797, section 7.2:
	// an HSTS host must not send the field over plain HTTP).
	tlsOnly bool
}

// A policy is a plugin's settings, checked and ready: what to do with each response.
type policy struct {
	remove       []string
	headers      []header
	addIfMissing bool // leave fields that the response has
	needsNonce   bool
	needsTLS     bool // whether the request came over TLS matters

	// types are the policies of answers of some media types; others have this one.
	types []typePolicy
}

// A typePolicy is a policy for one media type, or for all below "type/*".
type typePolicy struct {
	name   string // in lower case
	policy *policy
}

// anyNonce reports whether some answers need a nonce, which is not known when the request
// comes.
func (p *policy) anyNonce() bool {
	return p.needsNonce || slices.ContainsFunc(p.types, func(t typePolicy) bool { return t.policy.needsNonce })
}

// choose returns the index in types of the policy for a content-type, or -1 for p itself. The
// type itself goes before all below "type/*".
func (p *policy) choose(contentType []byte) int {
	for i, c := range contentType {
		if c == ';' || c == ',' {
			contentType = contentType[:i]
			break
		}
	}
	for len(contentType) > 0 && isSpace(contentType[0]) {
		contentType = contentType[1:]
	}
	for n := len(contentType); n > 0 && isSpace(contentType[n-1]); n-- {
		contentType = contentType[:n-1]
	}
	group := -1
	for i := range p.types {
		name := p.types[i].name
		if equalFold(contentType, name) {
			return i
		}
		// "image/*" is for what begins with "image/".
		if n := len(name) - 1; name[n] == '*' && name[n-1] == '/' && len(contentType) > n && equalFold(contentType[:n], name[:n]) {
			group = i
		}
	}
	return group
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// equalFold reports whether b is lower, which is in lower case, in any case of ASCII.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// A response is what a policy edits.
type response interface {
	Has(name string) bool
	Set(name, value string)
	Remove(name string)
}

// apply edits the fields of a response. overTLS says how the request came in; nonce is
// the text of the nonce, not looked at unless the policy needs one.
func (p *policy) apply(r response, overTLS bool, nonce string) {
	for _, name := range p.remove {
		r.Remove(name)
	}
	for i := range p.headers {
		h := &p.headers[i]
		if h.tlsOnly && !overTLS {
			continue
		}
		if p.addIfMissing && r.Has(h.name) {
			continue
		}
		value := h.value
		if h.parts != nil {
			value = join(h.parts, nonce)
		}
		r.Set(h.name, value)
	}
}

// edits returns what apply does, as edits of fields, for a policy without a nonce.
func (p *policy) edits(overTLS bool) []abi.FieldEdit {
	list := make([]abi.FieldEdit, 0, len(p.remove)+len(p.headers))
	for _, name := range p.remove {
		list = append(list, abi.FieldEdit{Op: abi.FieldRemove, Name: name})
	}
	op := abi.FieldSet
	if p.addIfMissing {
		op = abi.FieldAddIfMissing
	}
	for i := range p.headers {
		if h := &p.headers[i]; !h.tlsOnly || overTLS {
			list = append(list, abi.FieldEdit{Op: op, Name: h.name, Value: h.value})
		}
	}
	return list
}

// join puts the nonce between the parts.
func join(parts []string, nonce string) string {
	size := (len(parts) - 1) * len(nonce)
	for _, p := range parts {
		size += len(p)
	}
	b := make([]byte, 0, size)
	for i, p := range parts {
		if i > 0 {
			b = append(b, nonce...)
		}
		b = append(b, p...)
	}
	return string(b)
}

// nonceText encodes a nonce as CSP's base64-value.
func nonceText(random [nonceSize]byte) string {
	return base64.RawStdEncoding.EncodeToString(random[:])
}
