package main

import (
	"strings"

	"wproxy/abi"
)

// onResponse handles the response's head.
func (x *exchange) onResponse(resp *head) (goesOn bool) {
	switch x.mode {
	case modeInvalidate:
		x.invalidate(resp)
	case modeStore:
		return x.onFetched(resp)
	case modeNone:
	}
	return true
}

// onFetched handles the response to a GET.
func (x *exchange) onFetched(resp *head) bool {
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
	names, known := varyNames(resp)
	switch {
	case v.store && !known:
		v.store, v.refused = false, true
	case v.store:
		stored = x.keep(resp, &v, names, now)
	}
	switch {
	case status >= 500 || (x.found != "" || x.variants) && !ofResource(status): // no reason to forget what is stored
	case v.refused && !x.variants: // others find theirs by that
		if x.meta.kind == kindRefused && now-x.meta.stored < noteAgain {
			break // it is noted, and will be again before that is gone
		}
		x.refuse(x.c.pass(&v, resp, now), now)
	case !v.store && status != 304 && status != 206 && x.found != "":
		x.host.remove(abi.ObjectKey, x.found) // what there is now is another thing
	}
	x.tellFetched(resp, stored, status)
	return true
}

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
	value := x.c.miss
	switch {
	case x.validate && x.found != "":
		value = x.c.name + "; fwd=stale; fwd-status=" + decimal(int64(status))
	case x.found != "":
		value = x.c.name + "; fwd=stale"
	}
	if stored {
		value += "; stored"
	}
	x.host.edit(abi.MapResponseHeaders, statusEdit(resp, value))
}

// statusEdit adds value to the Cache-Status of those behind.
func statusEdit(resp *head, value string) abi.FieldEdit {
	if resp.has("cache-status") {
		if old := joined(resp, "cache-status"); old != "" {
			value = old + ", " + value
		}
	}
	return abi.FieldEdit{Op: abi.FieldSet, Name: "cache-status", Value: value}
}

// keep stores a response.
func (x *exchange) keep(resp *head, v *verdict, names []string, now int64) bool {
	if !resp.has("date") { // RFC 9110, 6.6.1
		x.host.edit(abi.MapResponseHeaders, abi.FieldEdit{Op: abi.FieldSet, Name: "date", Value: formatDate(now)})
	}
	key, promise := x.key, v.promise()
	if len(names) > 0 {
		key, promise = string(appendVariant([]byte(x.key), names, &x.request)), abi.ObjectPromise{}
		x.index(names)
	}
	return x.host.store(&abi.ObjectStore{
		Key: key, Meta: string(v.encode()), Tags: x.c.tagsOf(resp), Promise: promise,
		MaxObject: x.c.maxObject, MaxSize: x.c.maxSize, Gone: gone(&v.meta),
	})
}

// gone is when a message is of no use any more: with a validator it is for a week longer.
func gone(m *meta) int64 {
	n := max(m.lifetime-m.age, 0) + max(m.stale, m.onError) + 1
	if m.etag != "" || m.modified != "" {
		n += 7 * 86400
	}
	return n
}

// maxIndex is how many lists of names an index has: responses of one URL rarely vary in
// different ways.
const maxIndex = 4

// index notes that there are variants, by names.
func (x *exchange) index(names []string) {
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
	m := meta{kind: kindIndex, lists: appendLists(nil, vary)}
	x.host.store(&abi.ObjectStore{Key: x.key, Meta: string(m.encode()), Record: true, MaxSize: x.c.maxSize})
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
	update := abi.ObjectUpdate{Key: x.found, Meta: string(v.encode()), Gone: gone(&v.meta), Edits: edits}
	if x.found == x.key {
		update.Promise = v.promise()
	}
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
		e := abi.FieldEdit{Op: op, Name: p.Name, Value: p.Value}
		if p.Name == "set-cookie" && !c.storeCookies {
			own = append(own, e)
			continue
		}
		edits = append(edits, e)
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

// invalidate removes what an unsafe request has made wrong (RFC 9111, 4.4): of the same host
// only, as others could be emptied otherwise.
func (x *exchange) invalidate(resp *head) {
	if s := resp.status(); s < 200 || s > 399 {
		return
	}
	x.host.remove(abi.ObjectPrefix, x.url+"\n")
	for _, name := range [...]string{"location", "content-location"} {
		if u, ok := resolve(x.url, resp.get(name)); ok {
			x.host.remove(abi.ObjectPrefix, u+"\n")
		}
	}
}
