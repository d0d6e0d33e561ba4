package main

import (
	"slices"
	"strings"
)

// understood are the statuses that the plugin knows the meaning of, for must-understand
// (RFC 9111, 3).
var understood = [...]int{200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 451, 500, 501, 502, 503, 504}

// heuristic are those that may be fresh without being told for how long (RFC 9110, 15.1).
var heuristic = [...]int{200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501}

// A verdict is whether a response may be stored.
type verdict struct {
	meta
	store   bool
	refused bool   // nothing that comes here is likely to be stored
	why     string // it is not
}

// judge says whether a response to a GET is stored, and what is noted about it.
// asked is when the request was sent.
func (c *config) judge(req, resp *head, asked, now int64) (v verdict) {
	v.kind, v.status = kindMessage, resp.status()
	field, targeted := "cache-control", false
	if resp.mayHave(cdnMark) && c.isTargeted(resp) {
		field, targeted = cdnControl, true
	}
	cc := c.lately.controlOf(resp, field)
	switch {
	case v.status < 200 || v.status == 206 || v.status == 304:
		v.why = "status"
	case cc.mustUnderstand && !slices.Contains(understood[:], v.status):
		v.why, v.refused = "must-understand", true
	case cc.noStore && !cc.mustUnderstand:
		v.why, v.refused = "no-store", true
	case cc.private:
		v.why, v.refused = "private", true
	case req.has("authorization") && !cc.public && !cc.mustRevalidate && cc.sMaxAge < 0:
		v.why = "authorization"
	case !c.storeCookies && resp.has("set-cookie"):
		v.why, v.refused = "set-cookie", true
	case c.honour && req.control("cache-control").noStore:
		v.why = "request"
	case c.tooLarge(resp):
		v.why, v.refused = "too-large", true
	}
	if v.why != "" {
		return v
	}
	v.etag, v.modified = resp.get("etag"), resp.get("last-modified")
	v.upstream = joined(resp, "cache-status")
	v.withhold = cc.noCacheFields
	v.times(c, resp, &cc, targeted, asked, now)
	validator := v.etag != "" || v.modified != ""
	if !v.fresh(now) && !validator && v.stale <= 0 && v.onError <= 0 {
		v.why, v.refused = "not-fresh", true
		return v
	}
	v.store = true
	return v
}

// tooLarge reports whether a response says that it is. Others are found out about as they come.
func (c *config) tooLarge(resp *head) bool {
	n, ok := number(resp.get("content-length"))
	return ok && n > c.maxObject
}

// cdnControl is the field that takes the place of Cache-Control and Expires for caches
// like this one (RFC 9213).
const cdnControl = "cdn-cache-control"

var cdnMark = mark(cdnControl)

// isTargeted reports whether a response has it. One that is malformed counts as not
// there (RFC 9213, 2.1).
func (c *config) isTargeted(resp *head) bool {
	return c.cdn && resp.has(cdnControl) && isDictionary(joined(resp, cdnControl))
}

// times notes everything about freshness (RFC 9111, 4.2).
func (v *verdict) times(c *config, resp *head, cc *control, targeted bool, asked, now int64) {
	v.stored, v.date = now, now
	date, dated := c.lately.dateOf(resp, now)
	if dated {
		v.date = date
	}
	v.age = initialAge(resp, v.date, asked, now)
	v.lifetime = c.lifetime(v, resp, cc, targeted, now)
	if cc.mustRevalidate || cc.proxyRevalidate {
		v.flags |= flagMustRevalidate
	}
	if cc.noCache || !cc.present && !targeted && hasToken(resp, "pragma", "no-cache") {
		v.flags |= flagNoCache
	}
	v.stale, v.onError = cc.staleRevalidate, cc.staleError
	// s-maxage has the meaning of proxy-revalidate (RFC 9111, 5.2.2.10), which the settings
	// do not get around; a response that says both means what it says (RFC 5861).
	// Nor is an error kept for the time of errors.
	bare := cc.sMaxAge < 0 && v.status < 500
	if v.stale < 0 && bare {
		v.stale = c.stale
	}
	if v.onError < 0 && bare {
		v.onError = c.onError
	}
	v.stale, v.onError = max(v.stale, 0), max(v.onError, 0)
}

// initialAge is the corrected initial age (RFC 9111, 4.2.3). Of several values of Age the
// first counts, and one that is no number is none (5.1).
func initialAge(resp *head, date, asked, now int64) int64 {
	age := int64(0)
	if value, ok := resp.find("age"); ok {
		first, _, _ := strings.Cut(value, ",")
		age, _ = number(trim(first)) // 0 if it is none
	}
	return max(now-date, min(age, maxSeconds)+max(now-asked, 0), 0)
}

// lifetime is the freshness lifetime (RFC 9111, 4.2.1).
func (c *config) lifetime(v *verdict, resp *head, cc *control, targeted bool, now int64) int64 {
	n := c.explicit(v, resp, cc, targeted, now)
	if n < 0 {
		n = c.implied(v, cc)
	}
	return c.longest(n)
}

// longest bounds a lifetime.
func (c *config) longest(n int64) int64 {
	if c.maxTTL > 0 {
		n = min(n, c.maxTTL)
	}
	return min(n, maxSeconds)
}

// explicit is what the response says, -1 if it says nothing.
func (c *config) explicit(v *verdict, resp *head, cc *control, targeted bool, now int64) int64 {
	switch {
	case cc.sMaxAge >= 0:
		return cc.sMaxAge
	case cc.maxAge >= 0:
		return cc.maxAge
	case targeted:
		return -1
	case resp.has("expires"):
		t, ok := parseDate(resp.get("expires"), now)
		if !ok || resp.count("expires") > 1 {
			return 0
		}
		return max(t-v.date, 0)
	}
	return -1
}

// implied is what is assumed of a response that says nothing.
func (c *config) implied(v *verdict, cc *control) int64 {
	known := slices.Contains(heuristic[:], v.status)
	switch {
	case !known && !cc.public:
		return 0
	case c.negative > 0 && (v.status == 404 || v.status == 410):
		return c.negative
	case v.modified != "" && c.heuristic:
		t, ok := parseDate(v.modified, v.date)
		if !ok || t > v.date {
			return 0
		}
		v.flags |= flagHeuristic
		return min((v.date-t)/10, maxHeuristic)
	case v.status == 200 || v.status == 301 || v.status == 308:
		return c.defaultTTL
	}
	return 0
}

// maxHeuristic is the longest time that is assumed, in seconds: a day, beyond which a
// cache has to warn (RFC 9111, 4.2.2).
const maxHeuristic = 86400

func hasToken(h *head, name, token string) bool {
	if !h.has(name) {
		return false
	}
	for _, p := range h.list() {
		if p.Name == name && slices.Contains(fieldNames(p.Value), token) {
			return true
		}
	}
	return false
}

// joined returns all lines of a field as one.
func joined(h *head, name string) string {
	out := ""
	if !h.has(name) {
		return out
	}
	for i := range h.pairs {
		if h.pairs[i].Name == name {
			if out != "" {
				out += ", "
			}
			out += h.pairs[i].Value
		}
	}
	return out
}
