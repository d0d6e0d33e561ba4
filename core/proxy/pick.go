package proxy

import (
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"

	"wproxy/core/balance"
	"wproxy/core/exchange"
	"wproxy/core/route"
	"wproxy/core/upstream"
)

// KeySource says what of a request ties it to a server, or to one side of a split.
type KeySource uint8

// The sources of keys.
const (
	KeyNone     KeySource = iota // nothing
	KeyClientIP                  // the client's address
	KeyHeader                    // the first line of a field
	KeyCookie                    // a cookie
	KeyQuery                     // a parameter of the query, as it was sent
	KeyPath                      // the path, without the query
)

// A Key is what ties a request to a server. The zero value: nothing does.
type Key struct {
	From KeySource
	Name string // of the field (in lower case), cookie or parameter
}

// hash returns the hash of the key of h, 0 if h has none, or an empty one. What plugins
// have made of the request counts, and not what route.Rewrite will.
func (x *state) hash(k Key, h *exchange.Request) uint64 {
	var s string
	switch k.From {
	case KeyClientIP:
		s = x.fx.ClientIP
	case KeyHeader:
		s, _ = h.Fields.Get(k.Name)
	case KeyCookie:
		s = cookieValue(&h.Fields, k.Name)
	case KeyQuery:
		if q, ok := h.Query(); ok {
			s, _ = route.QueryValue(q, k.Name)
		}
	case KeyPath:
		s = h.Path()
	default:
	}
	if s == "" {
		return 0
	}
	return balance.Key(s)
}

// cookieValue returns the value of a cookie, "" if it is not there (RFC 6265 4.2.1; in
// HTTP/2 each may have a line of its own).
func cookieValue(f *exchange.Fields, name string) string {
	for i := range f.Len() {
		line := f.At(i)
		if line.Name != "cookie" {
			continue
		}
		for rest := line.Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			k, v, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if ok && strings.TrimRight(k, " \t") == name {
				return strings.Trim(v, `"`)
			}
		}
	}
	return ""
}

// pick chooses the endpoint of the next try.
func (x *state) pick() *upstream.Endpoint {
	o := &x.out
	if o.tries == 0 {
		o.key = x.hash(o.to.Key, x.req)
		if s := o.to.Sticky; s != nil && !o.keepHost { // a plugin or mirror is no client
			o.wanted = s.endpoint(cookieValue(&x.req.Fields, s.cookie))
		}
	}
	w := o.wanted
	if w == nil || slices.Contains(o.tried, w) || w.Reasons()&upstream.Drained != 0 {
		return o.to.Picker.Pick(o.key, o.tried)
	}
	if w.Available() {
		return w
	}
	// It is down. If the picker is down to those, nothing is better than the one
	// where the session is.
	if e := o.to.Picker.Pick(o.key, o.tried); e == nil || e.Available() {
		return e
	}
	return w
}

// target picks the upstream of the exchange: what a filter has chosen, or one of its route;
// nil if there is none.
func (x *state) target(h *exchange.Request) *Upstream {
	if len(x.filters) > 0 {
		x.fx.Mu.Lock()
		name := x.fx.Selected
		x.fx.Mu.Unlock()
		if name != "" {
			return x.snap.Upstreams[name]
		}
	}
	r := x.route
	if len(r.Split) == 1 {
		return r.Split[0].Upstream
	}
	if s := r.SplitCookie; s != nil {
		value := cookieValue(&h.Fields, s.name)
		if !isSplitID(value) {
			value = newSplitID()
			x.out.splitID = value
		}
		return r.split(balance.Key(value))
	}
	return r.split(x.hash(r.SplitKey, h))
}

// split returns the upstream of a key, by weight; without a key, any. A key stays where it
// is when weights change by a little: only the border between two upstreams moves.
func (r *Route) split(key uint64) *Upstream {
	total := 0
	for _, t := range r.Split {
		total += max(t.Weight, 0)
	}
	if total == 0 {
		return nil
	}
	if key == 0 {
		key = rand.Uint64()
	} else {
		// The same key may find the server within the upstream. There it must not be one
		// of a small part of the keys: that would be a small part of the servers.
		key = balance.Rehash(key)
	}
	at, _ := bits.Mul64(key, uint64(total)) //nolint:gosec // not negative
	n := int(at)                            //nolint:gosec // below total
	for _, t := range r.Split {
		if n -= max(t.Weight, 0); n < 0 {
			return t.Upstream
		}
	}
	return nil
}

const splitIDBytes = 8

// newSplitID returns what a client is remembered by. It is random, and not the name of
// an upstream: who changes it may get another one, but that can be had by leaving it out.
func newSplitID() string {
	var raw [splitIDBytes]byte
	for i, v := 0, rand.Uint64(); i < len(raw); i++ {
		raw[i], v = byte(v), v>>8
	}
	return hex.EncodeToString(raw[:])
}

// isSplitID reports whether s may be one.
func isSplitID(s string) bool {
	if len(s) != 2*splitIDBytes {
		return false
	}
	for i := range len(s) {
		if _, ok := exchange.HexDigit(s[i]); !ok {
			return false
		}
	}
	return true
}

// setCookies adds the cookies by which the client comes back to where it has been. They
// are added behind the filters: a cache must not keep them, or all its clients would
// be tied to one server.
func (x *state) setCookies(f *exchange.Fields) {
	o := &x.out
	if o.splitID != "" {
		f.Add("set-cookie", x.route.SplitCookie.line(o.splitID, x.req.Scheme))
	}
	if s := o.to.Sticky; s != nil && !o.keepHost && o.endpoint != o.wanted {
		if lines, ok := s.lines[o.endpoint]; ok {
			f.Add("set-cookie", lines[schemeIndex(x.req.Scheme)])
		}
	}
}
