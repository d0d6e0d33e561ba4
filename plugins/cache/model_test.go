package main

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/objectkey"
)

// An alike is an answer that the host takes for one like another, and what it knows of it.
type alike struct {
	now, age, date, lifetime int64
}

// likeModel reports whether the host would take an answer for one that a model is about, which was said
// about another in a store (abi.ObjectModel).
func likeModel(s *abi.ObjectStore, about, other *head, asked, now int64) (a alike, ok bool) {
	m := s.Model
	lines := func(h *head) (out []abi.Pair) {
		for _, l := range h.pairs {
			if slices.Contains(m.Same, l.Name) {
				out = append(out, l)
			}
		}
		return out
	}
	if about.status() != other.status() || !slices.Equal(lines(about), lines(other)) {
		return a, false
	}
	for _, name := range m.Filled {
		if (about.get(name) == "") != (other.get(name) == "") {
			return a, false
		}
	}
	a = alike{now: now, date: now, age: now - asked, lifetime: s.Promise.Lifetime}
	if i := slices.IndexFunc(other.pairs, func(p abi.Pair) bool { return p.Name == "age" }); i >= 0 {
		value := strings.Trim(strings.Split(other.pairs[i].Value, ",")[0], " \t")
		if strings.Trim(value, "0123456789") == "" && value != "" {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				n = abi.MaxPromise
			}
			a.age += min(n, abi.MaxPromise)
		}
	}
	if value := other.get("date"); value != "" {
		t, err := time.Parse(http.TimeFormat, value)
		if err != nil {
			return a, false
		}
		a.date = t.Unix()
		a.age = max(a.age, now-a.date)
	}
	if n, err := strconv.ParseInt(other.get("content-length"), 10, 64); err == nil && s.MaxObject > 0 && n > s.MaxObject {
		return a, false
	}
	if m.Tenth > 0 {
		t, err := time.Parse(http.TimeFormat, other.get("last-modified"))
		if err != nil || other.get("date") == "" {
			return a, false
		}
		a.lifetime = min((a.date-t.Unix())/10, m.Tenth)
	}
	return a, a.age < a.lifetime
}

// metaOf makes the metadata of an answer, as a model has them.
func (a *alike) metaOf(m *abi.ObjectModel, h *head) (b []byte) {
	for _, p := range m.Meta {
		switch p.Kind {
		case abi.ModelText:
			b = append(b, p.Text...)
		case abi.ModelNow:
			b = binary.LittleEndian.AppendUint64(b, uint64(a.now))
		case abi.ModelAge:
			b = binary.LittleEndian.AppendUint64(b, uint64(a.age))
		case abi.ModelDate:
			b = binary.LittleEndian.AppendUint64(b, uint64(a.date))
		case abi.ModelLifetime:
			b = binary.LittleEndian.AppendUint64(b, uint64(a.lifetime))
		case abi.ModelField:
			value := h.get(p.Text)
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(value))), value...)
		}
	}
	return b
}

var modelSettings = []string{
	`{}`,
	`{"cache_status":false,"default_ttl":"20s"}`,
	`{"max_object":10,"name":"edge","tag_headers":["x-a"]}`,
	`{"default_ttl":"9s","max_ttl":"6s","negative_ttl":"5s"}`,
	`{"stale_if_error":"5s","heuristic":false,"default_ttl":"7s"}`,
	`{"stale_while_revalidate":"5s","cdn_cache_control":false,"collapse":false}`,
	`{"store_set_cookie":true,"client_cache_control":"honour","bypass_headers":["cookie"],"negative_ttl":"1m"}`,
}

// modelLines are of answers that are mostly stored.
var modelLines = [][2]string{
	{"cache-control", "max-age=60"},
	{"cache-control", "max-age=9, must-revalidate"},
	{"cache-control", "s-maxage=30, public, stale-if-error=3"},
	{"cache-control", "public"},
	{"cdn-cache-control", "max-age=20"},
	{"cdn-cache-control", "public"},
	{"date", at(1)},
	{"date", at(-2)},
	{"date", ""},
	{"date", "Saturday, 28-Nov-26 12:00:01 GMT"},
	{"date", "Sat Nov 28 12:00:02 2026"},
	{"date", "Sat, 31 Feb 2026 12:00:00 GMT"},
	{"etag", `"2"`},
	{"etag", ""},
	{"last-modified", at(-900)},
	{"last-modified", at(-300)},
	{"last-modified", at(-40)},
	{"last-modified", at(10)},
	{"last-modified", at(-9_999_999)},
	{"last-modified", "Saturday, 28-Nov-26 11:00:01 GMT"},
	{"last-modified", ""},
	{"age", ""},
	{"age", "3"},
	{"age", "x"},
	{"age", " 5 , 7"},
	{"age", "99999999999999999999"},
	{"cache-tag", "a"},
	{"cache-tag", ""},
	{"vary", ""},
	{"vary", "accept"},
	{"vary", "accept-language, x"},
	{"vary", "a b"},
	{"content-length", "10"},
	{"cache-control", "private=x"},
	{"cache-control", "immutable"},
}

// modelHead returns an answer, which mostly has a Date.
func modelHead(r *rand.Rand) *head {
	list := modelLines
	if r.IntN(4) == 0 {
		list = passLines
	}
	status := []string{":status", "200"}
	switch r.IntN(8) {
	case 0:
		status[1] = randomStatus(r)
	case 1:
		status[1] = "404"
	}
	if r.IntN(8) > 0 {
		status = append(status, "date", at(0))
	}
	return randomLines(r, list, 4, status...)
}

// mutateModel returns an answer that is a few lines away from h, of those by which a cache judges or of others,
// or has a line in another place.
func mutateModel(r *rand.Rand, h *head) *head {
	out := mutate(r, h)
	if r.IntN(2) == 0 {
		out = &head{pairs: slices.Clone(h.pairs)}
	}
	for range r.IntN(3) {
		l := modelLines[r.IntN(len(modelLines))]
		at := 1 + r.IntN(len(out.pairs))
		same := slices.IndexFunc(out.pairs, func(p abi.Pair) bool { return p.Name == l[0] })
		if same > 0 && r.IntN(2) == 0 {
			out.pairs[same].Value = l[1]
			continue
		}
		out.pairs = slices.Insert(out.pairs, at, abi.Pair{Name: l[0], Value: l[1]})
	}
	out.noteNames()
	return out
}

// goesBy makes a request that the host may let by where nothing is found, alone or not.
func goesBy(t *testing.T, c *config, r *rand.Rand, alone bool) *head {
	t.Helper()
	o, ok := c.standing()
	if !ok || !o.Misses {
		t.Fatal("no request goes by")
	}
	h := randomLines(r, append(slices.Clone(passRequests), requestFields...), 3, ":method", "GET", ":path", "/")
	h.pairs = slices.DeleteFunc(h.pairs, func(p abi.Pair) bool {
		return slices.Contains(o.Absent, p.Name) || slices.Contains(o.MissAlone, p.Name)
	})
	if alone {
		h.pairs = append(h.pairs, abi.Pair{Name: o.MissAlone[r.IntN(len(o.MissAlone))], Value: "x"})
	}
	h.noteNames()
	return h
}

// checkModel makes an answer, and if it is stored with a model another one, to another request at
// another time, that the host would take for one like it: for that the plugin must do what the
// model says, and nothing else. It reports what the time of the first came from, if there was one to look at.
func checkModel(t *testing.T, c *config, r *rand.Rand) (how string) {
	t.Helper()
	resp := modelHead(r)
	clock, took := noon+int64(r.IntN(12)), int64(r.IntN(9))
	alone := r.IntN(3) == 0
	first, _ := wentBy(t, c, goesBy(t, c, r, alone), resp, clock, took)
	i := slices.IndexFunc(first.stored, func(s abi.ObjectStore) bool { return s.Model != nil })
	if i < 0 {
		return ""
	}
	s := first.stored[i]
	if s.Record {
		return checkRefusal(t, c, r, &s, resp, alone)
	}
	if s.Tags != "" || !slices.EqualFunc(first.stored[:i], indexed(&s), sameStore) || len(first.stored) != i+1 || !slices.Equal(first.edits, s.Model.Edits) {
		t.Fatalf("%v: stored %+v, edits %v", resp.pairs, first.stored, first.edits)
	}
	other := mutateModel(r, resp)
	began, took := noon+int64(r.IntN(20)), int64(r.IntN(9))
	a, ok := likeModel(&s, resp, other, began, began+took)
	if !ok {
		return ""
	}
	later := goesBy(t, c, r, alone)
	second, told := fetched(c, later, other, began, took, "")
	want := s
	want.Key, want.Variant = placeOf(t, &s, later), nil
	want.Meta = string(a.metaOf(s.Model, other))
	want.Promise = abi.ObjectPromise{Since: a.now, Age: a.age, Lifetime: a.lifetime}
	want.Gone = a.lifetime - a.age + s.Model.Extra
	want.Model = nil
	if !slices.EqualFunc(second.stored, append(indexed(&s), want), sameStore) || !slices.Equal(second.edits, s.Model.Edits) || !slices.Equal(told, []result{miss}) || len(second.did) > 0 {
		t.Fatalf("after %v, %d seconds on, to %v\n%v\nstored %+v\nwant %+v\nedits %v, told %v; the model is %+v",
			resp.pairs, began-clock, later.pairs, other.pairs, second.stored, want, second.edits, told, s.Model)
	}
	cc := resp.control("cache-control")
	switch {
	case alone:
		return "alone"
	case s.Variant != nil:
		return "variants"
	case c.isTargeted(resp):
		return "targeted"
	case cc.sMaxAge >= 0:
		return "s-maxage"
	case cc.maxAge >= 0:
		return "max-age"
	case s.Model.Tenth > 0:
		return "heuristic"
	case resp.status() == 404 || resp.status() == 410:
		return "negative"
	case !cc.present:
		return "nothing"
	}
	return "default"
}

// indexed is what a host stores under the key of a request beside a message, if that is one of variants as s has it.
func indexed(s *abi.ObjectStore) []abi.ObjectStore {
	if s.Variant == nil {
		return nil
	}
	v := *s.Variant
	v.Meta = ""
	return []abi.ObjectStore{{Key: "http://h/\nr", Record: true, Meta: s.Variant.Meta, MaxSize: s.MaxSize, Variant: &v}}
}

// placeOf is where a host stores the answer to a request that is like the one that s stores.
func placeOf(t *testing.T, s *abi.ObjectStore, req *head) string {
	t.Helper()
	key := "http://h/\nr"
	if s.Variant == nil {
		return key
	}
	parts, ok := objectkey.New(s.Variant.Key, host.IsToken)
	if !ok {
		t.Fatalf("%q is no key", s.Variant.Key)
	}
	b, ok := parts.Append([]byte(key+s.Variant.Mark), keyHead(req.pairs), 4096)
	if !ok {
		t.Fatalf("%v has no key", req.pairs)
	}
	return string(b)
}

// checkRefusal is checkModel for an answer that is not stored, of which s is noted.
func checkRefusal(t *testing.T, c *config, r *rand.Rand, s *abi.ObjectStore, resp *head, alone bool) string {
	t.Helper()
	other := mutate(r, resp)
	if !like(s.Pass, resp, other) {
		return ""
	}
	began, took := noon+int64(r.IntN(20)), int64(r.IntN(9))
	second, told := wentBy(t, c, goesBy(t, c, r, alone), other, began, took)
	if len(second.stored) != 1 || !slices.Equal(second.edits, s.Pass.Edits) || !slices.Equal(told, []result{miss}) || len(second.did) > 0 {
		t.Fatalf("%v is refused, %v: stored %+v, edits %v, told %v", resp.pairs, other.pairs, second.stored, second.edits, told)
	}
	got := &second.stored[0]
	if s.Model.Extra == 0 { // nothing is noted
		if !alone || got.Model == nil || got.Model.Extra != 0 {
			t.Fatalf("%v goes by, %v: stored %+v", resp.pairs, other.pairs, got)
		}
		return "by"
	}
	a := alike{now: began + took}
	if !got.Record || got.Meta != string(a.metaOf(s.Model, other)) || got.Gone != s.Model.Extra || got.Tags != "" {
		t.Fatalf("%v is refused, %v: stored %+v, want what %+v says", resp.pairs, other.pairs, got, s.Model)
	}
	if alone {
		return "refused alone"
	}
	return "refused"
}

// wentBy is fetched for a request that the host has let by as nothing was there.
func wentBy(t *testing.T, c *config, req, resp *head, clock, took int64) (*recorder, []result) {
	t.Helper()
	r := &recorder{fakeHost: fakeHost{clock: clock + took, objects: map[string]abi.ObjectInfo{}, flying: map[string]bool{}}}
	var told []result
	x := &exchange{c: c, host: r, told: tellFunc(func(how result) { told = append(told, how) }), room: &room{}}
	x.reset()
	x.request = *req
	x.goneBy("http://h/\nr", nil, clock)
	if !onResponse(x, resp) {
		t.Fatal("the answer is held")
	}
	return r, told
}

// TestModelIsWhatThePluginDoes: what the host does because of a model is what the plugin would have done, for
// all answers that the model is about.
func TestModelIsWhatThePluginDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	seen := map[string]int{}
	for _, settings := range modelSettings {
		c := configOf(t, settings)
		for range 15_000 {
			if how := checkModel(t, c, r); how != "" {
				seen[how]++
			}
		}
	}
	t.Log(seen)
	for _, how := range []string{"refused", "refused alone", "by", "alone", "variants", "targeted", "s-maxage", "max-age", "negative", "heuristic", "nothing", "default"} {
		if seen[how] < 30 {
			t.Errorf("%s: %d pairs were looked at: too few to tell", how, seen[how])
		}
	}
}

// FuzzModel is TestModelIsWhatThePluginDoes for longer.
func FuzzModel(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint8(0))
	f.Fuzz(func(t *testing.T, a, b uint64, n uint8) {
		c := configOf(t, modelSettings[int(n)%len(modelSettings)])
		r := rand.New(rand.NewPCG(a, b)) //nolint:gosec // the fuzzer's
		for range 20 {
			checkModel(t, c, r)
		}
	})
}

// TestModel: what is said of an answer, which says as little as it may.
func TestModel(t *testing.T) {
	plain := []string{"vary", "cache-status", "set-cookie", "cdn-cache-control", "cache-tag", "surrogate-key"}
	with := func(more ...string) []string { return append(slices.Clone(plain), more...) }
	many := answerOf("200", "date", at(0), "cache-control", "max-age=9")
	for range maxModelLines {
		many.pairs = append(many.pairs, abi.Pair{Name: "cache-control", Value: "x"})
	}
	for name, tc := range map[string]struct {
		settings string
		resp     *head
		want     []string // Same; nil: there is no model
		extra    int64
	}{
		"max-age":          {"", answerOf("200", "date", at(0), "cache-control", "max-age=9", "expires", at(5)), with("cache-control"), 1},
		"a validator":      {`{"stale_if_error":"5s"}`, answerOf("200", "date", at(0), "cache-control", "max-age=9", "etag", "1"), with("cache-control"), 6 + 7*86400},
		"targeted":         {"", answerOf("200", "date", at(0), "cdn-cache-control", "max-age=9", "expires", at(5)), plain, 1},
		"not targeted":     {`{"cdn_cache_control":false,"tag_headers":[]}`, answerOf("200", "date", at(0), "cache-control", "s-maxage=9"), []string{"vary", "cache-status", "set-cookie", "cache-control"}, 1},
		"by default":       {`{"default_ttl":"9s"}`, answerOf("200", "date", at(0)), with("cache-control", "pragma", "expires"), 1},
		"public":           {`{"default_ttl":"9s"}`, answerOf("200", "date", at(0), "cache-control", "public"), with("cache-control", "expires"), 1},
		"negative":         {`{"negative_ttl":"9s"}`, answerOf("404", "date", at(0), "last-modified", at(-9)), with("cache-control", "pragma", "expires"), 1 + 7*86400},
		"cookies":          {`{"store_set_cookie":true,"tag_headers":[]}`, answerOf("200", "date", at(0), "cache-control", "max-age=9", "set-cookie", "a=b"), []string{"vary", "cache-status", "cdn-cache-control", "cache-control"}, 1},
		"until a day":      {"", answerOf("200", "date", at(0), "expires", at(9)), nil, 0},
		"a guess":          {"", answerOf("200", "date", at(0), "last-modified", at(-900)), with("cache-control", "pragma", "expires"), 1 + 7*86400},
		"an age":           {"", answerOf("200", "date", at(0), "cache-control", "max-age=9", "age", "1"), with("cache-control"), 1},
		"no date":          {"", answerOf("200", "cache-control", "max-age=9"), nil, 0},
		"variants":         {"", answerOf("200", "date", at(0), "cache-control", "max-age=9", "vary", "x"), with("cache-control"), 1},
		"no name":          {"", answerOf("200", "date", at(0), "cache-control", "max-age=9", "vary", "a b"), []string{}, refusedFor},
		"many names":       {"", answerOf("200", "date", at(0), "cache-control", "max-age=9", "vary", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"), nil, 0},
		"a long name":      {"", answerOf("200", "date", at(0), "cache-control", "max-age=9", "vary", strings.Repeat("x", maxVariantText)), nil, 0},
		"tags":             {"", answerOf("200", "date", at(0), "cache-control", "max-age=9", "cache-tag", "a"), nil, 0},
		"others behind":    {"", answerOf("200", "date", at(0), "cache-control", "max-age=9", "cache-status", "a; hit"), nil, 0},
		"not fresh":        {"", answerOf("200", "date", at(-9), "cache-control", "max-age=9", "etag", "1"), nil, 0},
		"to be validated":  {"", answerOf("200", "date", at(0), "cache-control", `max-age=9, no-cache="a"`), nil, 0},
		"for ever":         {"", answerOf("200", "date", at(0), "cache-control", "max-age=9, stale-if-error=2147483648"), nil, 0},
		"many lines":       {"", many, nil, 0},
		"a long line":      {"", answerOf("200", "date", at(0), "cache-control", "max-age=9, x="+strings.Repeat("x", maxModelText)), nil, 0},
		"a lot of tags":    {`{"tag_headers":[` + strings.Repeat(`"t",`, 30) + `"t"]}`, answerOf("200", "date", at(0), "cache-control", "max-age=9"), nil, 0},
		"a validator only": {"", answerOf("200", "date", at(0), "cache-control", "max-age=0", "etag", "1"), nil, 0},
	} {
		first, _ := wentBy(t, configOf(t, tc.settings), getOf("/a"), tc.resp, noon, 0)
		if len(first.stored) == 0 {
			t.Fatalf("%s: nothing is stored", name)
		}
		m := first.stored[len(first.stored)-1].Model
		switch {
		case (m == nil) != (tc.want == nil):
			t.Errorf("%s: got %+v, want %v", name, m, tc.want)
		case m != nil && (!slices.Equal(m.Same, tc.want) || m.Extra != tc.extra):
			t.Errorf("%s: got %+v, want %v, %d", name, m, tc.want, tc.extra)
		case m == nil:
			continue
		}
		args := first.stored[0].Append(nil)
		if got := (abi.ObjectStore{}); got.Parse(string(args)) != nil {
			t.Errorf("%s: the host refuses %q", name, args)
		}
	}
}

// A modelRefuser knows no models, or takes nothing at all.
type modelRefuser struct {
	*fakeHost
	all     bool
	refused int
}

func (r *modelRefuser) store(s *abi.ObjectStore) bool {
	if s.Model != nil || r.all {
		r.refused++
		return false
	}
	return r.fakeHost.store(s)
}

// TestModelRefused: a host that takes no model gets the message without one, and is not asked again; one
// that does not take the message is.
func TestModelRefused(t *testing.T) {
	for _, all := range []bool{false, true} {
		c, f := newCache(t, "")
		r := &modelRefuser{fakeHost: f, all: all}
		for i := range 3 {
			x := &exchange{c: c, host: r, told: tellFunc(func(result) {}), request: *getOf("/a"), room: &room{}}
			x.goneBy("http://h/"+strconv.Itoa(i)+"\nr", nil, noon)
			resp := answerOf("200", "date", at(0), "cache-control", "max-age=9")
			resp.noteNames()
			onResponse(x, resp)
		}
		stored, refused := 3, 1
		if all {
			stored, refused = 0, 6
		}
		if len(f.objects) != stored || r.refused != refused || c.noModels == all {
			t.Errorf("all %t: stored %d, refused %d, and more: %t", all, len(f.objects), r.refused, !c.noModels)
		}
	}
}

func sameStore(a, b abi.ObjectStore) bool { return reflect.DeepEqual(a, b) }

// TestGoneByMiss: an answer to a request that went by as nothing was there has the plugin do what it
// would have done if it had been asked.
func TestGoneByMiss(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same each time
	kinds := map[string]int{}
	for _, settings := range modelSettings {
		c := configOf(t, settings)
		for range 3_000 {
			req, resp := goesBy(t, c, r, r.IntN(3) == 0), modelHead(r)
			began, took := noon+int64(r.IntN(12)), int64(r.IntN(9))
			want, wantTold := fetched(c, req, resp, began, took, "")

			got, told := wentBy(t, c, req, resp, began, took)
			got.stored = slices.DeleteFunc(got.stored, func(s abi.ObjectStore) bool { return s.Model != nil && s.Model.Extra == 0 }) // nothing
			for i := range got.stored {
				if got.stored[i].Model = nil; !got.stored[i].Record { // the others do not tell whether the host needs one
					got.stored[i].Variant = nil
				}
			}
			if !slices.EqualFunc(got.stored, want.stored, sameStore) || !slices.Equal(got.edits, want.edits) || !slices.Equal(told, wantTold) || !maps.EqualFunc(got.objects, want.objects, sameObject) {
				t.Fatalf("to %v\n%v\nstored %+v, edits %v, told %v\nwant %+v, %v, %v",
					req.pairs, resp.pairs, got.stored, got.edits, told, want.stored, want.edits, wantTold)
			}
			for _, s := range got.stored {
				kinds[fmt.Sprint(s.Record, len(got.stored))]++
			}
		}
	}
	for _, kind := range []string{"false 1", "true 1", "true 2"} { // a message, a note, and a variant with an index
		if kinds[kind] < 100 {
			t.Errorf("%s: %v", kind, kinds)
		}
	}
}

func sameObject(a, b abi.ObjectInfo) bool { return string(a.Meta) == string(b.Meta) }

func configOf(t *testing.T, settings string) *config {
	t.Helper()
	c, err := parseConfig([]byte(settings))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
