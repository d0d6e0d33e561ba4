// Cache is a Proxy-Wasm plugin: a shared HTTP cache (RFC 9111). It decides what is
// stored, under which key, for how long and for whom; the bytes stay in the host, which
// answers with them. README.md has the settings.
//
// main.go is what speaks to the SDK and exists in the guest only; everything else is plain
// Go, tested on any platform.
package main

import (
	"slices"
	"unsafe"

	"wproxy/abi"
	"wproxy/plugins/internal/settings"
)

// A backend is what the host does for the plugin; see package abi for what its functions mean.
type backend interface {
	lookup(key string) (abi.ObjectInfo, bool)
	serve(s *abi.ObjectServe) bool
	store(s *abi.ObjectStore) bool
	update(u *abi.ObjectUpdate) bool
	remove(how abi.ObjectDelete, what string)
	join(key string) (leads, ok bool)
	refresh()

	now() int64 // seconds since 1970
	edit(kind abi.MapType, edits ...abi.FieldEdit)
	editAs(args []byte) // edits as they are encoded
	reply(status uint32, details, body string)
	resume()
}

// A result is what became of a request, for the log, the metric and Cache-Status.
type result uint8

const (
	bypass result = iota
	hit
	stale
	revalidated
	miss
	collapsed
	failed // of a refresh: there was no answer, or an error

	results // how many there are
)

// String returns the result as the log and the metric have it.
func (r result) String() string {
	return resultNames[r]
}

var resultNames = [results]string{"bypass", "hit", "stale", "revalidated", "miss", "collapsed", "failed"}

// A teller is told what has become of a request.
type teller interface{ tell(r result) }

// An exchange is the cache's part in one. Its strings are borrowed, from the callback and from
// room, until own: an answer with what is stored, which is what a cache is for, keeps nothing.
type exchange struct {
	c     *config
	host  backend
	told  teller
	room  *room
	held  []byte // what it has of its own; an exchange after it may use that memory again
	owned bool

	url     string // scheme, host and target
	route   string
	request head
	isGet   bool
	refresh bool // there is no client
	client  bool // purges are allowed

	key      string // under which the response is stored, without the variant
	found    string // under which something was found; ""
	chosen   string // the names of fields by which that was found alone, as abi.ObjectServe.Repeat has them; "": it was not
	variants bool   // there is an index of variants under key
	meta     meta   // of that
	asked    int64  // when the request was sent on
	mode     mode
	why      string // for Cache-Status
	tries    int    // joins that came to nothing
	missed   bool   // the host has let it by as nothing was there, and knows no model of its answer
	waited   bool   // it has
	joined   bool   // it does
	validate bool   // the request was made conditional
}

// A room is memory that exchanges use one after the other, in a callback each.
type room struct {
	variant, index, text, meta []byte
	edits                      []abi.FieldEdit
	pairs                      []abi.Pair // of a request that was kept

	// What the host is asked for.
	answer abi.ObjectServe
	store  abi.ObjectStore
	pass   abi.ObjectPass  // of store
	model  abi.ObjectModel // likewise

	modelText [modelNumbers]byte // of which parts of model are
}

// maxRoom is the most bytes that a buffer of a room keeps.
const maxRoom = 4 << 10

// maxHeld is the most bytes that an exchange leaves to the next in its place. There are as many
// places as there have been exchanges at once; the head of a browser's request takes one.
const maxHeld = 2 << 10

// keep returns b for the next use, unless it has become too large.
func keep(b []byte) []byte {
	if cap(b) > maxRoom {
		return nil
	}
	return b[:0]
}

// text returns bytes as a string without a copy: it is borrowed.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// own makes the strings of the exchange its own, so that they outlive the callback. It is called again
// when something else has been found. The key is its own from the beginning.
func (x *exchange) own() {
	b := x.held
	if !x.owned {
		x.owned = true
		if x.key != "" { // which begins with them
			x.url, x.route = x.key[:len(x.url)], x.key[len(x.url)+1:][:len(x.route)]
		} else {
			b, x.url = hold(b, x.url)
			b, x.route = hold(b, x.route)
		}
		if x.request.encoded != "" {
			b, x.request.encoded = hold(b, x.request.encoded)
			x.request.spare = x.room.pairs
		} else {
			x.request = clone(&x.request)
		}
	}
	if x.found == x.key {
		x.found = x.key
	} else {
		b, x.found = hold(b, x.found)
	}
	if x.meta.kind != 0 {
		b = x.meta.own(b)
	}
	x.held = b
}

// reset makes x the next exchange in its place, with what of c, host, told and room stays. The request
// is to be read. (An exchange is large: a new one would be made twice, elsewhere and here.)
func (x *exchange) reset() {
	if x.held = x.held[:0]; cap(x.held) > maxHeld {
		x.held = nil
	}
	x.owned, x.isGet, x.refresh, x.client = false, false, false, false
	x.url, x.route, x.key, x.found, x.why = "", "", "", "", ""
	x.variants, x.missed, x.waited, x.joined, x.validate = false, false, false, false, false
	x.meta = meta{}
	x.asked, x.mode, x.tries = 0, modeNone, 0
}

// release is for when nothing is done for x any more: its answer may go on for as long as the client
// likes, and the next exchange in its place may never come. What is too much to keep till then is
// given back, also of what was borrowed: memory is free when nobody has any part of it.
func (x *exchange) release() {
	m := &x.meta
	if cap(x.held) <= maxHeld && len(x.request.encoded)+len(x.url)+len(m.etag)+len(m.modified)+len(m.upstream) <= maxHeld && !x.refresh {
		return
	}
	x.held, x.request.pairs, x.request.encoded = nil, nil, ""
	x.reset()
}

// A mode is what the response callback has to do.
type mode uint8

const (
	modeNone       mode = iota
	modeStore           // a response to a GET that may be stored
	modeInvalidate      // a response to an unsafe method
)

// maxJoins is how often a request waits for others whose exchange comes to nothing, before it
// goes by itself.
const maxJoins = 2

// onRequest handles the request's head; end says that it has no body. It reports whether the
// request goes on.
func (x *exchange) onRequest(end bool) bool {
	r := &x.request
	if x.room == nil {
		x.room = &room{}
	}
	method := r.get(":method")
	x.isGet = method == "GET"
	if x.refresh {
		x.unbind()
	}
	switch {
	case method == "PURGE" && x.c.purges():
		return x.purge()
	case !x.isGet && method != "HEAD":
		if x.c.invalidates(method) {
			x.awaitUnsafe()
		}
		return x.pass("method")
	case !end || x.c.bypasses(r): // a body that is not in the key, or a field that may change the answer
		return x.pass("request")
	}
	x.held = x.c.appendKey(x.held, x.url, x.route, r)
	x.key = text(x.held)
	return x.decide()
}

// oneClients are fields by which a request is for a part of a message, or for nothing if its
// client has it already.
var oneClients = [...]string{"range", "if-range", "if-none-match", "if-modified-since", "if-match", "if-unmodified-since"}

// unbind makes of a request that is refreshed one for all of the message: it is a copy of that
// of a client, who may have asked for less.
func (x *exchange) unbind() {
	var edits []abi.FieldEdit
	for _, name := range oneClients {
		if x.request.has(name) {
			edits = addEdit(edits, abi.FieldRemove, name, "")
		}
	}
	if len(edits) == 0 {
		return
	}
	kept := make([]abi.Pair, 0, len(x.request.pairs))
	for _, p := range x.request.pairs {
		if !slices.Contains(oneClients[:], p.Name) {
			kept = append(kept, p)
		}
	}
	x.request.encoded, x.request.pairs = "", kept
	x.request.noteNames()
	x.host.edit(abi.MapRequestHeaders, edits...)
}

// pass lets the request by.
func (x *exchange) pass(why string) bool {
	x.why = why
	x.told.tell(bypass)
	return true
}

// awaitUnsafe has the response to an unsafe request invalidate what is stored.
//
//go:noinline
func (x *exchange) awaitUnsafe() {
	x.mode = modeInvalidate
	x.own()
}

// safeMethods are those, beside GET and HEAD, that change nothing (RFC 9110, 9.2.1), and PURGE, which is ours where anybody may
// purge, and comes first.
var safeMethods = [...]string{"PURGE", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "SEARCH", "REPORT"}

// invalidates reports whether all that counts of a request with this method is what it was for.
func (c *config) invalidates(method string) bool {
	if method == "" || method == "GET" || method == "HEAD" {
		return false
	}
	if method == safeMethods[0] {
		return !c.purges()
	}
	return !slices.Contains(safeMethods[1:], method)
}

// decide looks at what is stored and answers, waits, or sends the request on. It reports
// whether that goes on.
func (x *exchange) decide() bool {
	now := x.host.now()
	info, ok := x.find()
	want := newControl()
	if x.c.honour {
		want = x.request.control("cache-control")
		if !want.present && hasToken(&x.request, "pragma", "no-cache") {
			want.noCache = true
		}
	}
	if ok && !x.refresh {
		fits := x.meta.fresh(now) && !want.noCache && (want.maxAge < 0 || x.meta.currentAge(now) <= want.maxAge) &&
			(want.minFresh < 0 || -x.meta.staleFor(now) >= want.minFresh)
		switch {
		case fits:
			how := hit
			if x.waited || !info.Whole {
				how = collapsed
			}
			if x.serve(info, how, now) {
				return false
			}
		case !want.noCache && want.maxAge < 0 && want.minFresh < 0 && x.meta.mayBeStale(now, max(x.meta.stale, want.maxStale)):
			if x.serve(info, stale, now) {
				if !info.Flying && x.request.get(":method") == "GET" { // what comes of a HEAD is not stored
					x.host.refresh()
				}
				return false
			}
		}
	}
	if want.onlyIfCached {
		x.told.tell(miss)
		x.host.reply(504, "only_if_cached", "")
		return false
	}
	return x.send(now)
}

// find looks for what is stored for the request, among variants too.
func (x *exchange) find() (info abi.ObjectInfo, ok bool) {
	if x.tries > 0 { // it was looked for before
		x.found, x.meta, x.variants = "", meta{}, false
	}
	x.chosen = ""
	info, ok = x.look(x.key)
	if !ok || x.meta.kind != kindIndex {
		if x.meta.kind == kindMessage {
			x.chosen = noNames
			return info, ok
		}
		x.found = ""
		return info, false
	}
	x.variants = true
	room := x.room
	lists := append(room.index, x.meta.lists...) // what is looked up now takes their place
	room.index = keep(lists)
	first, r := true, metaReader{b: lists}
	for {
		names, more := r.list()
		if !more {
			break
		}
		key := appendVariant(append(room.variant, x.key...), names, &x.request)
		room.variant = keep(key)
		if info, ok = x.look(text(key)); ok && x.meta.kind == kindMessage {
			if first {
				x.chosen = text(lists[:len(lists)-len(r.b)])
			}
			return info, true
		}
		first = false // what is found now is for as long as nothing comes to be under the keys before it
	}
	x.found, x.meta = "", meta{}
	return info, false
}

// noNames is none as chosen has it.
const noNames = "\x00\x00\x00\x00"

// look looks a key up.
func (x *exchange) look(key string) (abi.ObjectInfo, bool) {
	info, ok := x.host.lookup(key)
	if !ok {
		return info, false
	}
	m, ok := parseMeta(info.Meta)
	if !ok {
		return info, false
	}
	x.found, x.meta = key, m
	return info, true
}

// send has the request go to the upstream, unless another is on its way that will do.
func (x *exchange) send(now int64) bool {
	r := &x.request
	if !x.isGet {
		x.mode = modeNone
		x.told.tell(miss)
		return true
	}
	x.mode, x.asked = modeStore, now
	x.own()
	lone := x.meta.kind == kindRefused || x.tries > maxJoins || !x.c.collapse
	if r.mayHave(loneMarks) {
		lone = lone || r.has("authorization") || r.has("range")
		if x.meta.kind != kindMessage {
			lone = lone || conditional(r) // it may be answered with a 304, which is of no use to others
		}
	}
	if !lone || x.refresh {
		key := x.key
		if x.found != "" {
			key = x.found
		}
		leads, ok := x.host.join(key)
		switch {
		case ok && !leads && x.refresh: // it is being done
			x.mode = modeNone
			x.told.tell(bypass)
			x.host.reply(504, "refreshing", "")
			return false
		case ok && !leads:
			x.waited, x.joined = true, true
			return false
		}
	}
	if x.meta.kind == kindMessage && !r.has("range") {
		x.makeConditional()
	}
	return true
}

// loneMarks are of the fields with which a request goes by itself.
var loneMarks = marks("authorization", "range", "if-none-match", "if-modified-since", "if-match", "if-unmodified-since")

// conditional reports whether the request is.
func conditional(r *head) bool {
	return r.has("if-none-match") || r.has("if-modified-since") || r.has("if-match") || r.has("if-unmodified-since")
}

// makeConditional asks the upstream whether what is stored is still what it would answer
// with (RFC 9111, 4.3.1), instead of what the client asks, which is answered afterwards.
func (x *exchange) makeConditional() {
	if x.meta.etag == "" && x.meta.modified == "" || x.request.has("if-match") || x.request.has("if-unmodified-since") {
		return
	}
	x.validate = true
	set := func(name, value string) abi.FieldEdit {
		if value == "" {
			return abi.FieldEdit{Op: abi.FieldRemove, Name: name}
		}
		return abi.FieldEdit{Op: abi.FieldSet, Name: name, Value: value}
	}
	x.host.edit(abi.MapRequestHeaders, set("if-none-match", x.meta.etag), set("if-modified-since", x.meta.modified))
}

// onJoined goes on after another exchange has ended that this one has waited for.
func (x *exchange) onJoined(outcome uint32) {
	x.joined, x.mode = false, modeNone // until it is sent
	switch outcome {
	case abi.ObjectUnstored:
		x.tries = maxJoins + 1
	case abi.ObjectFailed:
		x.tries++
	default:
		x.tries++ // what is stored may be another variant
	}
	if x.decide() {
		x.host.resume()
	}
}

// purge answers a PURGE.
func (x *exchange) purge() bool {
	x.told.tell(bypass)
	if !x.client {
		x.host.reply(403, "purge_denied", "This client may not purge.\n")
		return false
	}
	if tags := x.request.get("surrogate-key"); tags != "" {
		for _, t := range settings.Words(nil, tags, false) {
			x.host.remove(abi.ObjectTag, t)
		}
	} else {
		x.host.remove(abi.ObjectPrefix, x.url+"\n")
	}
	x.host.reply(200, "purged", "Purged.\n")
	return false
}
