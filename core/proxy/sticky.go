package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"wproxy/core/upstream"
)

// A Cookie is how a cookie of wproxy's own is set (RFC 6265 4.1).
type Cookie struct {
	Name     string // a token
	Path     string // "": "/"
	MaxAge   time.Duration
	HTTPOnly bool
	Secure   Secure
	SameSite string // "Lax", "Strict", "None"; "": not said
}

// Secure says when a cookie has the Secure attribute.
type Secure uint8

// When it has it.
const (
	SecureAuto   Secure = iota // when the client's request came over TLS
	SecureAlways               // always
	SecureNever                // never
)

// schemeIndex is 1 for https.
func schemeIndex(scheme string) int {
	if scheme == "https" {
		return 1
	}
	return 0
}

// attributes returns what follows the value, for http and for https.
func (c *Cookie) attributes() [2]string {
	var b strings.Builder
	b.WriteString("; Path=")
	if c.Path == "" {
		b.WriteByte('/')
	}
	b.WriteString(c.Path)
	if c.MaxAge > 0 {
		b.WriteString("; Max-Age=" + strconv.FormatInt(max(int64(c.MaxAge/time.Second), 1), 10))
	}
	if c.HTTPOnly {
		b.WriteString("; HttpOnly")
	}
	if c.SameSite != "" {
		b.WriteString("; SameSite=" + c.SameSite)
	}
	plain := b.String()
	secure := plain + "; Secure"
	switch c.Secure {
	case SecureAlways:
		return [2]string{secure, secure}
	case SecureNever:
		return [2]string{plain, plain}
	default:
		return [2]string{plain, secure}
	}
}

// A SplitCookie keeps a client on its side of a split. Use [NewSplitCookie].
type SplitCookie struct {
	name       string
	attributes [2]string
}

// NewSplitCookie makes one.
func NewSplitCookie(c Cookie) *SplitCookie { return &SplitCookie{c.Name, c.attributes()} }

// line returns the value of the set-cookie field.
func (s *SplitCookie) line(id, scheme string) string {
	return s.name + "=" + id + s.attributes[schemeIndex(scheme)]
}

// A Sticky keeps a client on the server that it was sent to first, by a cookie. It is
// immutable; use [NewSticky].
//
// The cookie's value is a MAC of the names of the upstream and of the server: it says
// nothing about the server, cannot be made up, and is the same after a reload or in
// another process that has the same secret. As there are only as many valid values as
// servers, checking one is looking it up.
type Sticky struct {
	cookie    string
	endpoints map[string]*upstream.Endpoint
	lines     map[*upstream.Endpoint][2]string // of the set-cookie field, by scheme
}

// NewSticky makes one for the endpoints of c. secret should have 16 bytes or more.
func NewSticky(c *upstream.Cluster, cookie Cookie, secret []byte) *Sticky {
	s := &Sticky{
		cookie:    cookie.Name,
		endpoints: make(map[string]*upstream.Endpoint, len(c.Endpoints)),
		lines:     make(map[*upstream.Endpoint][2]string, len(c.Endpoints)),
	}
	attributes := cookie.attributes()
	for _, e := range c.Endpoints {
		value := stickyValue(secret, c.Name, e.Name)
		s.endpoints[value] = e
		s.lines[e] = [2]string{
			cookie.Name + "=" + value + attributes[0],
			cookie.Name + "=" + value + attributes[1],
		}
	}
	return s
}

// stickyBytes of the MAC are used: a value that is guessed is worth no more than what the
// next answer sets, so 96 bits are plenty.
const stickyBytes = 12

func stickyValue(secret []byte, cluster, server string) string {
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte("wproxy sticky 1\x00" + cluster + "\x00" + server)) // never fails
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:stickyBytes])
}

// endpoint returns the endpoint of a cookie's value, nil if there is none.
func (s *Sticky) endpoint(value string) *upstream.Endpoint {
	if value == "" {
		return nil
	}
	return s.endpoints[value]
}
