package main

import (
	"strings"

	"wproxy/abi"
)

// refuse notes that what comes under the key is not stored: nobody waits for it, and with a pass
// the host need not even ask.
func (x *exchange) refuse(pass *abi.ObjectPass, now int64) {
	m := meta{kind: kindRefused, stored: now}
	if pass != nil && x.missed && !x.c.noModels { // the host may do the same for other keys
		if x.storeRecord(&m, refusedFor, pass, &x.c.refusal) {
			return
		}
	}
	if pass != nil && x.storeRecord(&m, refusedFor, pass, nil) {
		return
	}
	x.storeRecord(&m, refusedFor, nil, nil) // too much to keep, or a host that knows none
}

// letBy tells the host of answers like one that is not stored as its request was for its client only: they may be
// for others if those ask, and nothing is noted.
func (x *exchange) letBy(v *verdict, resp *head, now int64) {
	if p := x.c.pass(&x.room.pass, v, resp, now); p != nil {
		x.storeRecord(&meta{kind: kindRefused}, 0, p, &noNote)
	}
}

// noNote is a model by which nothing is noted.
var noNote abi.ObjectModel

// refusal returns what the host is told, beside a pass, of the record that refuse makes.
func refusal() abi.ObjectModel {
	const now = 3 + 8 // where it is: see meta.append
	b := text((&meta{kind: kindRefused}).encode())
	return abi.ObjectModel{Extra: refusedFor, Meta: []abi.ModelPart{{Text: b[:now]}, {Kind: abi.ModelNow}, {Text: b[now+8:]}}}
}

// pass returns what the host is told about answers like resp, which is not stored: it may let
// them by, as onFetched would, until that has to be noted again. What is compared is everything by
// which judge has come to its verdict, whatever the request and the time; nil where that is too much. It is
// made in p.
func (c *config) pass(p *abi.ObjectPass, v *verdict, resp *head, now int64) *abi.ObjectPass {
	p.Since, p.Seconds = now, noteAgain
	p.Same, p.There, p.Edits = c.controls(p.Same[:0]), p.There[:0], p.Edits[:0]
	switch v.why {
	case "": // it would be, but for Vary
		p.Same = append(p.Same, "vary")
	case "must-understand", "no-store", "private", "authorization":
	case "set-cookie":
		p.There = append(p.There, "set-cookie")
	case "too-large":
		p.Same = append(p.Same, "content-length")
	case "not-fresh":
		if !c.neverFresh(v, resp) {
			return nil
		}
		p.Same = append(p.Same, "pragma", "expires", "etag", "last-modified")
	default:
		return nil
	}
	if c.status {
		p.Same = append(p.Same, "cache-status")
		value := c.miss
		if old := joined(resp, "cache-status"); old != "" {
			value = old + ", " + value
		}
		p.Edits = append(p.Edits, abi.FieldEdit{Op: abi.FieldSet, Name: "cache-status", Value: value})
	}
	return p
}

// controls appends the names of the fields that say what a cache may do.
func (c *config) controls(dst []string) []string {
	dst = append(dst, "cache-control")
	if c.cdn {
		dst = append(dst, cdnControl)
	}
	return dst
}

// neverFresh reports whether a response that is not fresh would not be at any time, and with
// any Date and Age: they change from one answer to the next.
func (c *config) neverFresh(v *verdict, resp *head) bool {
	if v.flags&flagNoCache != 0 {
		return true
	}
	if v.lifetime > 0 {
		return false // it was old when it came
	}
	cc := resp.control("cache-control")
	if c.isTargeted(resp) {
		return true // and Expires does not count
	}
	if cc.sMaxAge >= 0 || cc.maxAge >= 0 || !resp.has("expires") || resp.count("expires") > 1 {
		return true
	}
	_, ok := number(strings.TrimPrefix(resp.get("expires"), "-")) // 0, or -1
	return ok
}

// goneBy takes up a request that the host has let go by at a time, because of a pass that was noted
// under key, or as nothing was there, or for its method: the exchange is as onRequest would
// have left it. note is what was under the key, if anything. Both are its own already.
func (x *exchange) goneBy(key string, note []byte, at int64) {
	if method := x.request.get(":method"); method != "GET" {
		if x.c.invalidates(method) { // the host has counted it
			x.mode = modeInvalidate
			x.unkey(key)
		}
		return // else it could not be read: whether the answer is for one client is not known
	}
	m, ok := parseMeta(note)
	if !ok { // nothing, or another version's, which is none to find
		m = meta{}
	}
	if m.kind == kindIndex { // of which there was none for the request
		x.variants, m = true, meta{}
	}
	x.key, x.meta, x.asked, x.mode, x.isGet = key, m, at, modeStore, true
	x.missed = m.kind == 0
	x.unkey(key)
	x.own()
}

// unkey reads URL and route from a key.
func (x *exchange) unkey(key string) {
	x.url, key, _ = strings.Cut(key, "\n")
	x.route, _, _ = strings.Cut(key, "\x00")
}
