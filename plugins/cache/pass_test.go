package main

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"wproxy/abi"
)

// like reports whether the host would take an answer for one that a pass is about, which was said
// about another (abi.ObjectPass).
func like(p *abi.ObjectPass, about, other *head) bool {
	lines := func(h *head) (out []abi.Pair) {
		for _, l := range h.pairs {
			if slices.Contains(p.Same, l.Name) {
				out = append(out, l)
			}
		}
		return out
	}
	for _, name := range p.There {
		if !other.has(name) {
			return false
		}
	}
	return about.status() == other.status() && slices.Equal(lines(about), lines(other))
}

// recorder is a host that notes what an exchange does.
type recorder struct {
	fakeHost
	stored []abi.ObjectStore
	edits  []abi.FieldEdit
}

func (r *recorder) store(s *abi.ObjectStore) bool {
	said := *s // whose texts are borrowed
	said.Key, said.Meta = strings.Clone(s.Key), strings.Clone(s.Meta)
	if said.Variant != nil {
		v := *said.Variant
		said.Variant = &v
	}
	r.stored = append(r.stored, said)
	return r.fakeHost.store(s)
}

func (r *recorder) edit(_ abi.MapType, edits ...abi.FieldEdit) { r.edits = append(r.edits, edits...) }

func (r *recorder) editAs(args []byte) {
	kind, edits, err := abi.ParseFieldEdits(nil, string(args))
	if err != nil {
		panic(err)
	}
	r.edit(kind, edits...)
}

// fetched makes the exchange of a request that is answered with resp after a time, on a
// host that knows what was noted under its key before.
func fetched(c *config, req, resp *head, clock, took int64, noted string) (*recorder, []result) {
	r := &recorder{fakeHost: fakeHost{clock: clock, objects: map[string]abi.ObjectInfo{}, flying: map[string]bool{}}}
	if noted != "" {
		r.objects["http://h/\nr"] = abi.ObjectInfo{Whole: true, Meta: []byte(noted)}
	}
	var told []result
	x := &exchange{c: c, host: r, told: tellFunc(func(how result) { told = append(told, how) }), request: *req, url: "http://h/", route: "r"}
	if !x.onRequest(true) {
		panic("the request has not gone on")
	}
	r.clock += took
	onResponse(x, resp)
	return r, told
}

var passSettings = []string{
	`{}`,
	`{"cache_status":false}`,
	`{"max_object":10,"name":"edge"}`,
	`{"default_ttl":"5s","max_ttl":"4s","negative_ttl":"3s"}`,
	`{"stale_if_error":"5s","heuristic":false}`,
	`{"stale_while_revalidate":"5s","cdn_cache_control":false}`,
	`{"store_set_cookie":true,"client_cache_control":"honour"}`,
}

// passLines are what judge looks at, in all the forms that it tells apart, and what it does not.
var passLines = [][2]string{
	{"cache-control", "private"},
	{"cache-control", "no-store"},
	{"cache-control", "no-cache"},
	{"cache-control", `no-cache="a"`},
	{"cache-control", "max-age=0"},
	{"cache-control", "max-age=5"},
	{"cache-control", "s-maxage=0, max-age=9"},
	{"cache-control", "must-understand, no-store"},
	{"cache-control", "public"},
	{"cache-control", "max-age=0, stale-while-revalidate=3"},
	{"cache-control", "stale-if-error=3"},
	{"cdn-cache-control", "max-age=5"},
	{"cdn-cache-control", "no-store"},
	{"cdn-cache-control", "private"},
	{"cdn-cache-control", "=;"},
	{"pragma", "no-cache"},
	{"pragma", "x"},
	{"expires", "0"},
	{"expires", "-1"},
	{"expires", "x"},
	{"expires", "Sunday, 06-Nov-94 08:49:37 GMT"},
	{"expires", at(3)},
	{"expires", at(-3)},
	{"expires", at(30)},
	{"expires", at(300)},
	{"date", at(0)},
	{"date", at(4)},
	{"date", at(-20)},
	{"date", at(60)},
	{"age", "4"},
	{"age", "50"},
	{"etag", `"1"`},
	{"last-modified", at(-9)},
	{"last-modified", "x"},
	{"vary", "*"},
	{"vary", "x"},
	{"vary", "x, *"},
	{"set-cookie", "a=b"},
	{"set-cookie", "c=d"},
	{"content-length", "5"},
	{"content-length", "11"},
	{"content-length", "99999999999"},
	{"cache-status", "behind; hit"},
	{"cache-status", ""},
	{"cache-status", "other; fwd=miss"},
	{"x-a", "1"},
	{"x-a", "2"},
}

var passRequests = [][2]string{
	{"authorization", "Basic eA=="},
	{"cookie", "a=b"},
	{"x", "1"},
	{"accept", "*/*"},
}

func randomLines(r *rand.Rand, list [][2]string, most int, first ...string) *head {
	h := headOf(first...)
	for range r.IntN(most + 1) {
		l := list[r.IntN(len(list))]
		h.pairs = append(h.pairs, abi.Pair{Name: l[0], Value: l[1]})
	}
	h.noteNames()
	return h
}

func randomStatus(r *rand.Rand) string {
	if r.IntN(3) > 0 {
		return "200"
	}
	return strconv.Itoa([]int{203, 204, 206, 301, 302, 304, 404, 410, 418, 403, 500, 503}[r.IntN(12)])
}

// mutate returns an answer that is one or two lines, and perhaps a status, away from h.
func mutate(r *rand.Rand, h *head) *head {
	out := &head{pairs: slices.Clone(h.pairs)}
	for range 1 + r.IntN(2) {
		l := passLines[r.IntN(len(passLines))]
		switch i := 1 + r.IntN(len(out.pairs)); {
		case i == len(out.pairs) || r.IntN(2) == 0:
			out.pairs = slices.Insert(out.pairs, i, abi.Pair{Name: l[0], Value: l[1]})
		case r.IntN(2) == 0:
			out.pairs = slices.Delete(out.pairs, i, i+1)
		default:
			out.pairs[i] = abi.Pair{Name: l[0], Value: l[1]}
		}
	}
	if r.IntN(8) == 0 {
		out.pairs[0].Value = randomStatus(r)
	}
	out.noteNames()
	return out
}

// checkPass makes an answer, and if it has the plugin say a pass, another one, to another request at
// another time, that the host would take for one like it: for that the plugin must do
// what the pass says, and nothing else. It reports whether there was one to look at.
func checkPass(t *testing.T, c *config, r *rand.Rand) (why string) {
	t.Helper()
	req := randomLines(r, passRequests, 2, ":method", "GET", ":path", "/")
	resp := randomLines(r, passLines, 5, ":status", randomStatus(r))
	clock, took := noon+int64(r.IntN(12)), int64(r.IntN(9))
	first, _ := fetched(c, req, resp, clock, took, "")
	i := slices.IndexFunc(first.stored, func(s abi.ObjectStore) bool { return s.Pass != nil })
	if i < 0 {
		return ""
	}
	noted := first.stored[i]
	if !noted.Record || len(first.stored) != 1 {
		t.Fatalf("%v: stored %+v", resp.pairs, first.stored)
	}
	why = c.judge(req, resp, clock, clock+took).why
	if why == "" {
		why = "vary"
	}
	other := mutate(r, resp)
	if !like(noted.Pass, resp, other) {
		return ""
	}
	// The request goes by while the pass is good, and the answer comes while it is.
	began := noted.Pass.Since - 3 + int64(r.IntN(int(noted.Pass.Seconds)+3))
	left := noted.Pass.Since + noted.Pass.Seconds - 1 - began
	later := randomLines(r, passRequests, 3, ":method", "GET", ":path", "/")
	second, told := fetched(c, later, other, began, int64(r.IntN(int(left)+1)), noted.Meta)
	if len(second.stored) > 0 || !slices.Equal(second.edits, noted.Pass.Edits) || !slices.Equal(told, []result{miss}) || len(second.objects) != 1 || len(second.did) > 0 {
		t.Fatalf("%s: after %v, %d seconds on, to %v\n%v\nstored %+v, edits %v, told %v; the pass is %+v",
			why, resp.pairs, began-clock-took, later.pairs, other.pairs, second.stored, second.edits, told, noted.Pass)
	}
	return why
}

// TestPassIsWhatThePluginDoes: what the host does because of a pass is what the plugin would have done, for
// all answers that the pass is about. Each reason to refuse an answer comes up often enough.
func TestPassIsWhatThePluginDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	seen := map[string]int{}
	for _, settings := range passSettings {
		c, err := parseConfig([]byte(settings))
		if err != nil {
			t.Fatal(err)
		}
		for range 15_000 {
			if why := checkPass(t, c, r); why != "" {
				seen[why]++
			}
		}
	}
	for _, why := range []string{"must-understand", "no-store", "private", "set-cookie", "too-large", "not-fresh", "vary"} {
		if seen[why] < 30 {
			t.Errorf("%s: %d pairs were looked at: too few to tell", why, seen[why])
		}
	}
}

// FuzzPass is TestPassIsWhatThePluginDoes for longer.
func FuzzPass(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint8(0))
	f.Fuzz(func(t *testing.T, a, b uint64, n uint8) {
		c, err := parseConfig([]byte(passSettings[int(n)%len(passSettings)]))
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(a, b)) //nolint:gosec // the fuzzer's
		for range 20 {
			checkPass(t, c, r)
		}
	})
}

// TestPass: what is said of an answer, which says as little as it may.
func TestPass(t *testing.T) {
	for _, tc := range []struct {
		name, settings string
		resp           *head
		want           *abi.ObjectPass
		body           bool // of the request: then nothing is noted
	}{
		{"private", "", answerOf("200", "cache-control", "private"), &abi.ObjectPass{Same: []string{"cache-control", "cdn-cache-control", "cache-status"}}, false},
		{"no status", `{"cache_status":false,"cdn_cache_control":false}`, answerOf("200", "cache-control", "private"), &abi.ObjectPass{Same: []string{"cache-control"}}, false},
		{"a cookie", "", answerOf("200", "set-cookie", "a=b", "cache-control", "max-age=9"), &abi.ObjectPass{Same: []string{"cache-control", "cdn-cache-control", "cache-status"}, There: []string{"set-cookie"}}, false},
		{"too large", `{"max_object":4}`, answerOf("200", "content-length", "5", "cache-control", "max-age=9"), &abi.ObjectPass{Same: []string{"cache-control", "cdn-cache-control", "content-length", "cache-status"}}, false},
		{"vary", "", answerOf("200", "vary", "*", "cache-control", "max-age=9"), &abi.ObjectPass{Same: []string{"cache-control", "cdn-cache-control", "vary", "cache-status"}}, false},
		{"a day that is over", "", answerOf("200", "expires", at(-9), "date", at(0)), nil, false},
		{"a day that never is", "", answerOf("200", "expires", "0", "date", at(0)), &abi.ObjectPass{Same: []string{"cache-control", "cdn-cache-control", "pragma", "expires", "etag", "last-modified", "cache-status"}}, false},
		{"old", "", answerOf("200", "cache-control", "max-age=9", "age", "10"), nil, false},
		{"a part of a key", `{"key":["header:x"]}`, answerOf("200", "cache-control", "private"), &abi.ObjectPass{Same: []string{"cache-control", "cdn-cache-control", "cache-status"}}, false},
		{"a body", "", answerOf("200", "cache-control", "private"), nil, true},
	} {
		c, f := newCache(t, tc.settings)
		r := &recorder{fakeHost: *f}
		x := &exchange{c: c, host: r, told: tellFunc(func(result) {}), request: *getOf("/a"), url: "http://h/a", route: "r"}
		tc.resp.noteNames()
		if !x.onRequest(!tc.body) || !onResponse(x, tc.resp) || len(r.stored) != map[bool]int{false: 1}[tc.body] {
			t.Fatalf("%s: stored %+v", tc.name, r.stored)
		}
		if tc.body {
			continue
		}
		switch got := r.stored[0].Pass; {
		case (got == nil) != (tc.want == nil):
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		case got != nil && (!slices.Equal(got.Same, tc.want.Same) || !slices.Equal(got.There, tc.want.There) || got.Since != noon || got.Seconds != 10):
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// TestPassRefused: a host that takes no pass gets the note without one.
func TestPassRefused(t *testing.T) {
	c, f := newCache(t, "")
	r := &refuser{fakeHost: f}
	x := &exchange{c: c, host: r, told: tellFunc(func(result) {}), request: *getOf("/a"), url: "http://h/a", route: "r"}
	resp := answerOf("200", "cache-control", "private")
	resp.noteNames()
	x.onRequest(true)
	onResponse(x, resp)
	if m, ok := parseMeta(f.objects["http://h/a\nr"].Meta); !ok || m.kind != kindRefused || r.refused != 1 {
		t.Errorf("noted %+v, refused %d", m, r.refused)
	}
}

// A refuser knows no passes.
type refuser struct {
	*fakeHost
	refused int
}

func (r *refuser) store(s *abi.ObjectStore) bool {
	if s.Pass != nil {
		r.refused++
		return false
	}
	return r.fakeHost.store(s)
}

// TestGoneBy: an answer that the host shows is stored as if the request had been asked about, and not if
// nothing is known of the request: it may be one whose answer is for one client.
func TestGoneBy(t *testing.T) {
	refused := string((&meta{kind: kindRefused, stored: noon}).encode())
	for name, tc := range map[string]struct {
		req  *head
		note string
		want int
	}{
		"as any":            {getOf("/a"), refused, 1},
		"for one":           {headOf(":method", "GET", ":path", "/a", "authorization", "Basic eA=="), refused, 0},
		"nothing known":     {&head{}, refused, 0},
		"nothing there":     {getOf("/a"), "", 1},
		"another version's": {getOf("/a"), "\xff" + refused[1:], 1},
	} {
		c, f := newCache(t, "")
		r := &recorder{fakeHost: *f}
		x := &exchange{c: c, host: r, told: tellFunc(func(result) {}), room: &room{}}
		x.reset()
		x.request = *tc.req
		x.goneBy("http://h/a\nr", []byte(tc.note), noon)
		resp := answerOf("200", "cache-control", "max-age=9")
		resp.noteNames()
		if !onResponse(x, resp) || len(r.stored) != tc.want {
			t.Errorf("%s: stored %+v", name, r.stored)
		}
	}
}
