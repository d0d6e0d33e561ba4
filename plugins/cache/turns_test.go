package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"wproxy/abi"
)

// A notary is a backend that writes down what it is asked for. What it returns is good until the
// next call, as a guest has it, or, with own, for ever.
type notary struct {
	own     bool
	clock   int64
	objects map[string]string // metadata by key
	flying  map[string]bool
	answer  []byte
	log     []string
}

func (r *notary) say(format string, args ...any) {
	r.log = append(r.log, strings.Clone(fmt.Sprintf(format, args...)))
}

func (r *notary) lookup(key string) (abi.ObjectInfo, bool) {
	m, ok := r.objects[key]
	r.say("lookup %q", key)
	if r.own {
		return abi.ObjectInfo{Status: 200, Whole: true, Length: 10, Meta: []byte(m)}, ok
	}
	poison(r.answer)
	r.answer = append(r.answer[:0], m...)
	return abi.ObjectInfo{Status: 200, Whole: true, Length: 10, Meta: r.answer}, ok
}

func (r *notary) serve(s *abi.ObjectServe) bool {
	_, ok := r.objects[s.Key]
	r.say("serve %+v", *s)
	return ok
}

func (r *notary) store(s *abi.ObjectStore) bool {
	pass := s.Pass
	c := *s
	c.Pass, c.Variant = nil, nil
	r.say("store %+v, pass %+v, variant %+v", c, pass, s.Variant)
	r.objects[strings.Clone(s.Key)] = strings.Clone(s.Meta)
	return true
}

func (r *notary) update(u *abi.ObjectUpdate) bool {
	r.say("update %+v", *u)
	r.objects[strings.Clone(u.Key)] = strings.Clone(u.Meta)
	return true
}

func (r *notary) remove(how abi.ObjectDelete, what string) {
	r.say("remove %d %q", how, what)
	for key := range r.objects {
		if how == abi.ObjectPrefix && strings.HasPrefix(key, what) || how == abi.ObjectKey && key == what {
			delete(r.objects, key)
		}
	}
}

func (r *notary) join(key string) (leads, ok bool) {
	leads = !r.flying[key]
	r.say("join %q", key)
	r.flying[strings.Clone(key)] = true
	return leads, true
}

func (r *notary) refresh()   { r.say("refresh") }
func (r *notary) now() int64 { return r.clock }
func (r *notary) resume()    { r.say("resume") }

func (r *notary) edit(kind abi.MapType, edits ...abi.FieldEdit) { r.say("edit %v %+v", kind, edits) }

func (r *notary) editAs(args []byte) {
	kind, edits, err := abi.ParseFieldEdits(nil, string(args))
	if err != nil {
		panic(err)
	}
	r.edit(kind, edits...)
}

func (r *notary) reply(status uint32, details, _ string) { r.say("reply %d %s", status, details) }

// poison overwrites all of b, to its capacity.
func poison(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = '#'
	}
}

// A place is where exchanges are, one after the other.
type place struct {
	x      exchange
	awaits bool
}

func (p *place) tell(r result) { p.x.host.(*notary).say("%s %q %q", r, p.x.url, p.x.route) }

// A guest makes exchanges as main.go does: with memory that is used again, and overwritten in between. A
// guest with own has all of its own.
type guest struct {
	notary
	c      *config
	places [3]place
	room   room
	pairs  []abi.Pair
	bytes  []byte
	url    []byte
	route  []byte
}

func (g *guest) read(h *head, fields []string) {
	list := headOf(fields...).pairs
	if g.own {
		*h = head{pairs: list}
		h.noteNames()
		return
	}
	g.bytes = abi.AppendPairs(g.bytes[:0], list)
	list, err := abi.ParsePairs(g.pairs[:0], text(g.bytes))
	if err != nil {
		panic(err)
	}
	h.pairs, h.encoded = list, text(g.bytes)
	g.pairs = list[:0]
	h.noteNames()
}

func (g *guest) request(i int, fields []string, refresh bool) {
	p := &g.places[i]
	x := &p.x
	if g.own {
		*x = exchange{}
		x.room = &room{}
	} else {
		x.room = &g.room
	}
	x.c, x.host, x.told = g.c, &g.notary, p
	x.reset()
	g.read(&x.request, fields)
	path := x.request.get(":path")
	if g.own {
		x.url, x.route = "http://h"+path, "route"
	} else {
		g.url = append(append(g.url[:0], "http://h"...), path...)
		g.route = append(g.route[:0], "route"...)
		x.url, x.route = text(g.url), text(g.route)
	}
	x.refresh, x.client = refresh, true
	g.say("goes on: %t", x.onRequest(true))
	g.rest(p)
}

func (g *guest) rest(p *place) {
	x := &p.x
	p.awaits = x.mode != modeNone || x.joined
	if !g.own {
		if x.request.encoded != "" {
			x.request.pairs = nil
		}
		if !p.awaits {
			x.release()
		}
	}
	g.overwrite()
}

func (g *guest) joined(i int, outcome uint32) {
	p := &g.places[i]
	p.x.onJoined(outcome)
	g.rest(p)
}

func (g *guest) response(i int, fields []string) {
	p := &g.places[i]
	if p.awaits && p.x.mode != modeNone {
		var h head
		g.read(&h, fields)
		g.say("goes on: %t", onResponse(&p.x, &h))
		g.rest(p)
	}
}

// overwrite is what the next callback does to what this one has borrowed.
func (g *guest) overwrite() {
	for _, b := range [][]byte{g.bytes, g.url, g.route, g.answer, g.room.variant, g.room.index, g.room.text, g.room.meta} {
		poison(b)
	}
	if list := g.pairs[:cap(g.pairs)]; !g.own {
		for i := range list {
			list[i] = abi.Pair{Name: "#", Value: "#"}
		}
		for i := range g.room.pairs[:cap(g.room.pairs)] {
			g.room.pairs[:cap(g.room.pairs)][i] = abi.Pair{Name: "#", Value: "#"}
		}
	}
}

// choose appends each field with its probability of 1 in n, with one of its values.
func choose(rng *rand.Rand, dst []string, n int, fields ...[]string) []string {
	for _, f := range fields {
		for rng.IntN(n) == 0 {
			dst = append(dst, f[0], f[1+rng.IntN(len(f)-1)])
		}
	}
	return dst
}

func randomRequest(rng *rand.Rand) []string {
	method := [...]string{"GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "PURGE", "OPTIONS"}[rng.IntN(10)]
	r := []string{":method", method, ":path", [...]string{"/a", "/b", "/c?" + strings.Repeat("q", 3000)}[rng.IntN(3)]}
	if rng.IntN(6) == 0 {
		for i := range rng.IntN(400) {
			r = append(r, "x-"+strconv.Itoa(i), "value")
		}
	}
	return choose(rng, r, 6, []string{"accept-encoding", "gzip", "br, gzip", ""}, []string{"accept-language", "de", "en"},
		[]string{"cookie", "a=1", "k=" + strings.Repeat("c", 5000), "k=2; a=3"}, []string{"authorization", "x"},
		[]string{"range", "bytes=0-3"}, []string{"if-none-match", `"1"`, `"2"`}, []string{"if-modified-since", at(0)},
		[]string{"cache-control", "no-store", "no-cache", "max-age=1", "only-if-cached", "max-stale"}, []string{"x-host", "h"},
		[]string{"surrogate-key", "t1 t2"}, []string{"", "no name"})
}

func randomResponse(rng *rand.Rand) []string {
	status := [...]string{"200", "200", "200", "200", "304", "304", "404", "403", "500", "302"}[rng.IntN(10)]
	return choose(rng, []string{":status", status}, 3,
		[]string{"cache-control", "max-age=3", "max-age=30, stale-while-revalidate=5", "no-store", "private", "public", `no-cache="set-cookie", max-age=9`, "stale-if-error=50, max-age=2", "no-cache"},
		[]string{"date", at(0), at(-9), "Saturday, 28-Nov-26 12:00:00 GMT"}, []string{"etag", `"1"`, `"2"`}, []string{"last-modified", at(-5000)},
		[]string{"vary", "accept-encoding", "accept-language, accept-encoding", "cookie", "*"}, []string{"expires", at(9), "0"}, []string{"age", "1"},
		[]string{"cdn-cache-control", "max-age=4"}, []string{"cache-status", "far; hit"}, []string{"set-cookie", "a=1"},
		[]string{"cache-tag", "t1", "t2"}, []string{"location", "/b"}, []string{"pragma", "no-cache"})
}

// TestTurns: exchanges that take turns in memory that is used again come to the same as those that
// have all of their own: nothing of one is seen by another, and nothing borrowed is used once its
// owner has overwritten it.
func TestTurns(t *testing.T) {
	for seed := range uint64(20) {
		for _, settings := range []string{
			``, `{"client_cache_control":"honour","stale_if_error":"20s","stale_while_revalidate":"5s","purge_clients":["192.0.2.1"]}`,
			`{"key":["header:accept-language","cookie:k"],"default_ttl":"5s","store_set_cookie":true}`,
		} {
			c1, err := parseConfig([]byte(settings))
			if err != nil {
				t.Fatal(err)
			}
			c2, _ := parseConfig([]byte(settings))
			plain := &guest{c: c1, notary: notary{own: true}}
			tight := &guest{c: c2, pairs: make([]abi.Pair, 0, 64), bytes: make([]byte, 0, 64<<10), url: make([]byte, 0, 4<<10), route: make([]byte, 0, 64), room: room{pairs: make([]abi.Pair, 0, 64)}}
			both := [...]*guest{plain, tight}
			for _, g := range both {
				g.clock, g.objects, g.flying = noon, map[string]string{}, map[string]bool{}
			}
			rng := rand.New(rand.NewPCG(seed, 1))
			for step := range 300 {
				i, what := rng.IntN(len(plain.places)), rng.IntN(8)
				req, resp, refresh, outcome := randomRequest(rng), randomResponse(rng), rng.IntN(8) == 0, uint32(rng.IntN(3))
				after, land := rng.Int64N(2), rng.IntN(4) == 0
				for _, g := range both {
					g.log = g.log[:0]
					g.clock += after
					p := &g.places[i]
					switch {
					case !p.awaits || what == 0: // also in the place of one that nothing has come of
						g.request(i, req, refresh)
					case p.x.joined:
						g.joined(i, outcome)
					default:
						g.response(i, resp)
						if land {
							g.flying = map[string]bool{}
						}
					}
				}
				if !slices.Equal(plain.log, tight.log) {
					t.Fatalf("seed %d, %s, step %d: got\n%s\nwant\n%s\nrequest %q\nresponse %q", seed, settings, step, strings.Join(tight.log, "\n"), strings.Join(plain.log, "\n"), req, resp)
				}
			}
		}
	}
}
