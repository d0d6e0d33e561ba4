package main

import (
	"encoding/binary"
	"slices"
	"strings"

	"wproxy/plugins/internal/ipaddr"
	"wproxy/plugins/internal/settings"
)

// A request is what keys and exemptions are read from.
type request interface {
	Header(name string) (string, bool)
	Client() (ipaddr.Addr, bool)
}

// part is one part of a key.
type part struct {
	kind partKind
	name string // of a header, cookie or query parameter
	bits int    // client-ip: how much of an IPv6 address counts
}

// partKind is what a part is made from. The numbers are in the hashed keys.
type partKind byte

const (
	byGlobal partKind = iota
	byClient
	byHeader
	byCookie
	byQuery
	byHost
	byPath
	byMethod
)

// parsePart reads a key as it is written in the settings; the problem is "" if it is one.
func parsePart(text string) (p part, problem string) {
	word, name, named := strings.Cut(text, ":")
	if named {
		switch word {
		case "header":
			p.kind, p.name = byHeader, settings.Lower(name)
			if !settings.IsToken(name) {
				return part{}, settings.Quote(name) + " is not the name of a header"
			}
		case "cookie":
			p.kind, p.name = byCookie, name
			if !settings.IsToken(name) {
				return part{}, settings.Quote(name) + " is not the name of a cookie"
			}
		case "query":
			p.kind, p.name = byQuery, name
			if name == "" || strings.IndexByte(name, 0) >= 0 {
				return part{}, settings.Quote(name) + " is not the name of a query parameter"
			}
		default:
			return part{}, unknownKey(text)
		}
		return p, ""
	}
	switch text {
	case "global":
		return part{kind: byGlobal}, ""
	case "client-ip":
		return part{kind: byClient, bits: 128}, ""
	case "host":
		return part{kind: byHost}, ""
	case "path":
		return part{kind: byPath}, ""
	case "method":
		return part{kind: byMethod}, ""
	}
	if digits, ok := strings.CutPrefix(text, "client-ip/"); ok {
		bits, ok := settings.Int(digits)
		if !ok || bits < 1 || bits > 128 {
			return part{}, settings.Quote(text) + " needs a prefix length from 1 to 128"
		}
		return part{kind: byClient, bits: int(bits)}, ""
	}
	return part{}, unknownKey(text)
}

func unknownKey(text string) string {
	return settings.Quote(text) + " is not a key; keys are client-ip, client-ip/64, header:NAME, cookie:NAME, query:NAME, host, path, method, global"
}

// header returns the name of the header that the part is made from; "" if it is none.
func (p *part) header() string {
	switch p.kind { //nolint:exhaustive // the others are made from no header
	case byHeader:
		return p.name
	case byCookie:
		return "cookie"
	case byQuery, byPath:
		return ":path"
	case byHost:
		return ":authority"
	case byMethod:
		return ":method"
	}
	return ""
}

// looksAtClient reports whether the client's address matters.
func (c *config) looksAtClient() bool { //nolint:unused // by main.go, which is for guests
	return len(c.exempt.clients) > 0 || slices.ContainsFunc(c.parts, func(p part) bool { return p.kind == byClient })
}

// headers returns the names of the request's headers that are looked at, each once.
func (c *config) headers() []string { //nolint:unused // by main.go, which is for guests
	var names []string
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for i := range c.parts {
		add(c.parts[i].header())
	}
	for i := range c.exempt.headers {
		add(c.exempt.headers[i].name)
	}
	return names
}

// appendValue appends what the part is in a request; false if the request lacks it. An
// empty value counts as lacking.
func (p *part) appendValue(dst []byte, r request) ([]byte, bool) {
	start := len(dst)
	switch p.kind {
	case byGlobal:
		return dst, true
	case byClient:
		return p.appendClient(dst, r)
	case byHeader:
		v, _ := r.Header(p.name)
		dst = append(dst, v...)
	case byCookie:
		v, _ := r.Header("cookie")
		dst = append(dst, cookie(v, p.name)...)
	case byQuery:
		v, _ := r.Header(":path")
		_, query, _ := strings.Cut(v, "?")
		dst = appendQueryValue(dst, query, p.name)
	case byHost:
		v, _ := r.Header(":authority")
		for i := range len(v) {
			dst = append(dst, lower(v[i])) // RFC 9110, section 4.2.3: case-insensitive
		}
	case byPath:
		v, _ := r.Header(":path")
		v, _, _ = strings.Cut(v, "?")
		dst = append(dst, v...)
	case byMethod:
		v, _ := r.Header(":method")
		dst = append(dst, v...)
	}
	return dst, len(dst) > start
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// appendClient appends the client's address: all of IPv4, the prefix of IPv6, since one
// subscriber has a /64 or more of it to send from.
func (p *part) appendClient(dst []byte, r request) ([]byte, bool) {
	addr, ok := r.Client()
	if !ok {
		return dst, false
	}
	if addr.Is4() {
		a := addr.As4()
		return append(dst, a[:]...), true
	}
	a := addr.As16()
	for i := range a {
		switch keep := p.bits - 8*i; {
		case keep <= 0:
			a[i] = 0
		case keep < 8:
			a[i] &= 0xff << (8 - keep)
		}
	}
	return append(dst, a[:]...), true
}

// appendScope appends what the key of a request begins with. After it comes each part with its value,
// such that no two different keys give the same bytes. If a part is missing, the key is that of all
// requests without one: the scope and a byte that no part begins with.
func appendScope(dst []byte, perRoute bool, route string) []byte {
	if !perRoute {
		return append(dst, 0)
	}
	return appendCounted(append(dst, 1), route)
}

func appendParts(dst []byte, parts []part, r request) ([]byte, bool) {
	for i := range parts {
		var ok bool
		if dst, ok = parts[i].appendSized(parts[i].appendHead(dst), r); !ok {
			return dst, false
		}
	}
	return dst, true
}

// appendHead appends what goes before the value of a part, with room for its size at the end.
func (p *part) appendHead(dst []byte) []byte {
	dst = appendCounted(append(dst, byte(p.kind), byte(p.bits)), p.name)
	return append(dst, 0, 0, 0, 0)
}

// appendSized appends the value of a part, and writes its size to where appendHead has left room.
func (p *part) appendSized(dst []byte, r request) ([]byte, bool) {
	at := len(dst)
	dst, ok := p.appendValue(dst, r)
	binary.LittleEndian.PutUint32(dst[at-4:], uint32(len(dst)-at))
	return dst, ok
}

func appendCounted(dst []byte, s string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// cookie returns the value of the first cookie of that name in a cookie header
// (RFC 6265, section 5.4), "" if there is none.
func cookie(header, name string) string {
	for header != "" {
		var pair string
		pair, header, _ = strings.Cut(header, ";")
		if n, v, ok := strings.Cut(strings.Trim(pair, " \t"), "="); ok && n == name {
			return v
		}
	}
	return ""
}

// appendQueryValue appends the value of the first query parameter of that name, decoded: an
// application takes "a", "%61" for the same, so they must be one key.
func appendQueryValue(dst []byte, query, name string) []byte {
	start := len(dst)
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		n, v, _ := strings.Cut(pair, "=")
		dst = appendDecoded(dst[:start], n)
		if string(dst[start:]) == name {
			return appendDecoded(dst[:start], v)
		}
	}
	return dst[:start]
}

// appendDecoded appends a query component with %XX and + decoded; a bad escape stays as it
// is (WHATWG URL, percent-decode).
func appendDecoded(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(s):
			high, ok1 := hexDigit(s[i+1])
			low, ok2 := hexDigit(s[i+2])
			if ok1 && ok2 {
				c = high<<4 | low
				i += 2
			}
		}
		dst = append(dst, c)
	}
	return dst
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// clientAddr reads the property source.address, an address and a port.
func clientAddr(text string) (ipaddr.Addr, bool) {
	if a, ok := clientAddr4(text); ok {
		return a, true
	}
	if i := strings.IndexByte(text, '%'); i >= 0 { // a zone, which is no part of the key
		if end := strings.IndexByte(text[i:], ']'); end > 0 {
			text = text[:i] + text[i+end:]
		}
	}
	return ipaddr.ParseWithPort(text)
}

// clientAddr4 reads an IPv4 address and a port, in the form hosts write them, in one go: it is
// asked for every request. What it does not take is left to ipaddr.
func clientAddr4(text string) (ipaddr.Addr, bool) {
	var a [4]byte
	at := 0
	for i := range a {
		n, start := 0, at
		for ; at < len(text) && at < start+3 && '0' <= text[at] && text[at] <= '9'; at++ {
			n = 10*n + int(text[at]-'0')
		}
		end := byte('.')
		if i == 3 {
			end = ':'
		}
		if at == start || n > 255 || at > start+1 && text[start] == '0' || at >= len(text) || text[at] != end {
			return ipaddr.Addr{}, false
		}
		a[i] = byte(n)
		at++
	}
	if at == len(text) || len(text) > at+5 {
		return ipaddr.Addr{}, false
	}
	for ; at < len(text); at++ {
		if text[at] < '0' || text[at] > '9' {
			return ipaddr.Addr{}, false
		}
	}
	return ipaddr.From4(a), true
}
