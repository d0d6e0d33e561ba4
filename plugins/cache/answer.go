package main

import (
	"strings"

	"wproxy/abi"
)

// onFetched handles the head of the response to a GET, with modeStore.
func (x *exchange) onFetched(resp *head) (goesOn bool) {
	now, status := x.host.now(), resp.status()
	x.mode = modeNone
	if x.validate && status == 304 {
		return x.onValidated(resp, now)
	}
	if status >= 500 && x.found != "" && x.meta.mayBeStale(now, x.meta.onError) && !x.refresh {
		x.why = "upstream-error"
		if x.serve(abi.ObjectInfo{Length: -1, Whole: true}, stale, now) {
			return false
		}
	}
	if x.refresh && status >= 500 {
		x.told.tell(failed)
	}
	x.told.tell(miss)
	v := x.c.judge(&x.request, resp, x.asked, now)
	stored := false
	names, known := []string(nil), true
	if resp.mayHave(varyMarks) {
		names, known = varyNames(resp)
	}
	switch {
	case v.store && !known:
		v.store, v.refused = false, true
	case v.store:
		stored = x.keep(resp, &v, names, now)
	}
	switch {
	case x.missed && v.why == "authorization" && !x.c.noModels:
		x.letBy(&v, resp, now)
	case status >= 500 || (x.found != "" || x.variants) && !ofResource(status): // no reason to forget what is stored
	case v.refused && !x.variants: // others find theirs by that
		if x.meta.kind == kindRefused && now-x.meta.stored < noteAgain {
			break // it is noted, and will be again before that is gone
		}
		x.refuse(x.c.pass(&x.room.pass, &v, resp, now), now)
	case !v.store && status != 304 && status != 206 && x.found != "":
		x.host.remove(abi.ObjectKey, x.found) // what there is now is another thing
	}
	x.tellFetched(resp, stored, status)
	return true
}

var varyMarks = mark("vary")

// ofResource reports whether an answer says something about what was asked for, and not only
// of who has asked, and how: by a request that is answered with 400, 403 or 429, a client must not
// have others lose what is stored.
func ofResource(status int) bool {
	return status < 400 || status == 404 || status == 405 || status == 410 || status == 451
}

// refusedFor is for how many seconds nobody waits for others, after an answer that was
// not stored.
const refusedFor = 30

// noteAgain is after how many seconds that is noted anew.
const noteAgain = refusedFor / 3

// tellFetched adds Cache-Status to a response from the upstream.
func (x *exchange) tellFetched(resp *head, stored bool, status int) {
	if !x.c.status {
		return
	}
	old := joined(resp, "cache-status")
	switch {
	case old != "" || x.found != "":
	case stored:
		x.host.editAs(x.c.storedEdit)
		return
	default:
		x.host.editAs(x.c.missEdit)
		return
	}
	b := x.room.text
	if old != "" {
		b = add(add(b, old), ", ")
	}
	switch {
	case x.validate && x.found != "":
		b = appendDecimal(add(add(b, x.c.name), "; fwd=stale; fwd-status="), int64(status))
	case x.found != "":
		b = add(add(b, x.c.name), "; fwd=stale")
	default:
		b = add(b, x.c.miss)
	}
	if stored {
		b = add(b, storedMark)
	}
	x.room.text = keep(b)
	x.setField("cache-status", text(b))
}

// storedMark is what Cache-Status says of an answer that is stored (RFC 9211, 2.5).
const storedMark = "; stored"

// setField sets a field of the response.
func (x *exchange) setField(name, value string) {
	x.room.edits = addEdit(x.room.edits[:0], abi.FieldSet, name, value)
	x.host.edit(abi.MapResponseHeaders, x.room.edits...)
	x.room.edits = x.room.edits[:0]
}

// storeRecord stores what is no message under the key of the exchange, and reports whether it
// could.
func (x *exchange) storeRecord(m *meta, gone int64, pass *abi.ObjectPass, model *abi.ObjectModel) bool {
	s := &x.room.store
	s.Record, s.Gone, s.Pass, s.Model = true, gone, pass, model
	s.Tags, s.MaxObject, s.Promise = "", 0, abi.ObjectPromise{}
	return x.storeUnder(x.key, m)
}

// storeUnder stores what room.store says, with metadata, under a key.
func (x *exchange) storeUnder(key string, m *meta) bool {
	s, b := &x.room.store, m.append(x.room.meta)
	x.room.meta = keep(b)
	s.Key, s.Meta, s.MaxSize = key, text(b), x.c.maxSize
	return x.host.store(s)
}

// keep stores a response.
func (x *exchange) keep(resp *head, v *verdict, names []string, now int64) bool {
	if !resp.has("date") { // RFC 9110, 6.6.1
		x.setField("date", formatDate(now))
	}
	key, promise := x.key, v.promise()
	var variant *abi.ObjectVariant
	if len(names) > 0 {
		list := listOf(names)
		key, variant = string(appendVariant([]byte(x.key), list, &x.request)), variantOf(list)
		x.index(names, variant)
	}
	s := &x.room.store
	s.Record, s.Gone, s.Pass, s.Model = false, gone(&v.meta), nil, nil
	s.Tags, s.MaxObject, s.Promise = x.c.tagsOf(resp), x.c.maxObject, promise
	if x.missed && !x.c.noModels && s.Tags == "" && (len(names) == 0 || variant != nil) && promise.Lifetime > 0 && x.model(&x.room.model, v, resp) {
		s.Model = &x.room.model
		if s.Variant = variant; variant != nil {
			m := indexOf(names)
			variant.Meta = text(m.encode())
		}
	}
	ok := x.storeUnder(key, &v.meta)
	if !ok && s.Model != nil {
		s.Model, s.Variant = nil, nil
		ok = x.host.store(s)
		x.c.noModels = ok // it was the model, or its variant
	}
	s.Variant = nil
	return ok
}

// gone is when a message is of no use any more.
func gone(m *meta) int64 { return max(m.lifetime-m.age, 0) + extra(m) }

// extra is for how long it is of use beyond its lifetime: with a validator that is a week more.
func extra(m *meta) int64 {
	n := max(m.stale, m.onError) + 1
	if m.etag != "" || m.modified != "" {
		n += 7 * 86400
	}
	return n
}

// maxIndex is how many lists of names an index has: responses of one URL rarely vary in
// different ways.
const maxIndex = 4

// indexOf returns what is noted where variants are, by these lists of names.
func indexOf(vary ...[]string) meta { return meta{kind: kindIndex, lists: appendLists(nil, vary)} }

// index notes that there are variants, by names, at what is said of them.
func (x *exchange) index(names []string, variant *abi.ObjectVariant) {
	vary := [][]string{names}
	if info, ok := x.host.lookup(x.key); ok {
		if old, ok := parseMeta(info.Meta); ok && old.kind == kindIndex {
			had := old.vary()
			for _, v := range had {
				if !same(v, names) && len(vary) < maxIndex {
					vary = append(vary, v)
				}
			}
			if len(vary) == len(had) && same(had[0], names) {
				return
			}
		}
	}
	m, s := indexOf(vary...), &x.room.store
	if len(vary) == 1 { // else which is the right one is for us to find out
		s.Variant = variant
	}
	if !x.storeRecord(&m, 0, nil, nil) && s.Variant != nil {
		s.Variant = nil
		x.host.store(s)
	}
	s.Variant = nil
}

func same(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

// onValidated answers with what is stored, of which the upstream has said that it is
// still right, and updates it (RFC 9111, 4.3.4).
func (x *exchange) onValidated(resp *head, now int64) bool {
	// What is stored is judged anew by the fields that it has from now on. A field that the 304
	// does not have stays as it is, and so do the times that come from it.
	v := verdict{meta: x.meta}
	v.status = x.meta.status
	cc := resp.control("cache-control")
	targeted := x.c.isTargeted(resp)
	if targeted {
		cc = resp.control(cdnControl)
	}
	if cc.present || resp.has("expires") {
		v.flags &^= flagMustRevalidate | flagNoCache | flagHeuristic
		v.times(x.c, resp, &cc, targeted, x.asked, now)
		v.withhold = cc.noCacheFields
	} else {
		v.stored, v.age = now, 0
		if t, ok := parseDate(resp.get("date"), now); ok {
			v.date = t
		}
	}
	edits, own := x.c.merge(resp)
	// What is for one client from now on, that client gets, and nobody else (RFC 9111, 3).
	forget := cc.private || cc.noStore && !cc.mustUnderstand
	more := append(edits, own...)
	update := abi.ObjectUpdate{Key: x.found, Meta: string(v.encode()), Gone: gone(&v.meta), Edits: edits, Promise: v.promise()}
	if !forget && x.host.update(&update) {
		more = own
	}
	x.meta = v.meta
	x.why = "validated"
	served := x.serveWith(abi.ObjectInfo{Length: -1, Whole: true}, revalidated, now, more)
	if forget {
		x.host.remove(abi.ObjectKey, x.found)
	}
	if served {
		return false
	}
	x.told.tell(revalidated) // it is gone, and there is nothing to answer with
	x.host.reply(502, "cache_lost", "")
	return false
}

// merge returns what a 304 changes about a stored head: everything but what describes the
// bytes, which are those that were stored (RFC 9111, 3.2). Cookies are the client's own, for
// whom the upstream was asked, unless they are stored.
func (c *config) merge(resp *head) (edits, own []abi.FieldEdit) {
	for i, p := range resp.pairs {
		if p.Name == "" || p.Name[0] == ':' || keeps(p.Name) {
			continue
		}
		op := abi.FieldSet
		for j := range i {
			if resp.pairs[j].Name == p.Name {
				op = abi.FieldAdd
				break
			}
		}
		if p.Name == "set-cookie" && !c.storeCookies {
			own = addEdit(own, op, p.Name, p.Value)
			continue
		}
		edits = addEdit(edits, op, p.Name, p.Value)
	}
	return edits, own
}

func keeps(name string) bool {
	switch name {
	case "content-length", "content-encoding", "content-range", "content-md5", "etag", "cache-status", "vary", "transfer-encoding":
		return true
	}
	return false
}

// locations are fields that name other URLs that an unsafe request has changed.
var locations = [...]string{"location", "content-location"}

// endUnsafe handles the head of the response to an unsafe request, with modeInvalidate. It removes what the
// request has made wrong (RFC 9111, 4.4): of the same host only, as others could be emptied otherwise.
func (x *exchange) endUnsafe(resp *head) {
	x.mode = modeNone
	if status := resp.status(); status < 200 || status > 399 {
		return
	}
	x.removePrefix(x.url)
	for _, name := range locations {
		if u, ok := resolve(x.url, resp.get(name)); ok {
			x.removePrefix(u)
		}
	}
}

// removePrefix removes what is stored for a URL.
func (x *exchange) removePrefix(url string) {
	b := add(add(x.room.text, url), "\n")
	x.room.text = keep(b)
	x.host.remove(abi.ObjectPrefix, text(b))
}
