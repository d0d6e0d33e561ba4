package main

import (
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
)

// fakeHost is a backend with objects that have no bytes.
type fakeHost struct {
	clock   int64
	objects map[string]abi.ObjectInfo
	flying  map[string]bool
	served  *abi.ObjectServe
	sent    []abi.FieldEdit // edits of the request
	updated []abi.FieldEdit // of a stored head
	did     []string
	stores  int
}

func (f *fakeHost) lookup(key string) (abi.ObjectInfo, bool) { o, ok := f.objects[key]; return o, ok }

func (f *fakeHost) serve(s *abi.ObjectServe) bool {
	_, ok := f.objects[s.Key]
	f.served = s
	return ok
}

func (f *fakeHost) store(s *abi.ObjectStore) bool {
	if s.Model != nil && s.Model.Extra == 0 {
		return true // nothing is
	}
	f.stores++
	f.objects[s.Key] = abi.ObjectInfo{Status: 200, Whole: true, Length: 10, Meta: []byte(s.Meta)}
	return true
}

func (f *fakeHost) update(u *abi.ObjectUpdate) bool {
	f.did, f.updated = append(f.did, "update"), u.Edits
	return f.store(&abi.ObjectStore{Key: u.Key, Meta: u.Meta})
}

func (f *fakeHost) remove(how abi.ObjectDelete, what string) {
	for key := range f.objects {
		if how == abi.ObjectPrefix && strings.HasPrefix(key, what) || how == abi.ObjectKey && key == what {
			delete(f.objects, key)
		}
	}
}

func (f *fakeHost) join(key string) (leads, ok bool) {
	leads = !f.flying[key]
	f.flying[key] = true
	return leads, true
}

func (f *fakeHost) refresh()   { f.did = append(f.did, "refresh") }
func (f *fakeHost) now() int64 { return f.clock }
func (f *fakeHost) resume()    { f.did = append(f.did, "resume") }

func (f *fakeHost) edit(kind abi.MapType, edits ...abi.FieldEdit) {
	if kind == abi.MapRequestHeaders {
		f.sent = append(f.sent, edits...)
	}
}

func (f *fakeHost) editAs(args []byte) {
	kind, edits, err := abi.ParseFieldEdits(nil, string(args))
	if err != nil {
		panic(err)
	}
	f.edit(kind, edits...)
}

func (f *fakeHost) reply(_ uint32, details, _ string) { f.did = append(f.did, "reply "+details) }

// onResponse handles the head of the response as the guest does.
func onResponse(x *exchange, resp *head) (goesOn bool) {
	switch x.mode {
	case modeInvalidate:
		x.endUnsafe(resp)
	case modeStore:
		return x.onFetched(resp)
	case modeNone:
	}
	return true
}

type tellFunc func(result)

func (f tellFunc) tell(r result) { f(r) }

// refreshed makes an exchange without a client.
func (f *fakeHost) refreshed(t *testing.T, c *config, req, resp *head) (x *exchange, said string) {
	t.Helper()
	return f.make(t, c, req, resp, true)
}

// ask makes an exchange; resp is what the upstream would answer, and the result what the log says.
func (f *fakeHost) ask(t *testing.T, c *config, req, resp *head) (x *exchange, said string) {
	t.Helper()
	return f.make(t, c, req, resp, false)
}

func (f *fakeHost) make(t *testing.T, c *config, req, resp *head, refresh bool) (x *exchange, said string) {
	t.Helper()
	f.served, f.sent, f.did = nil, nil, nil
	req.noteNames() // as a guest does
	x = &exchange{c: c, host: f, request: *req, url: "http://h" + req.get(":path"), route: "r", refresh: refresh}
	x.told = tellFunc(func(r result) {
		if said == "" {
			said = r.String()
		}
	})
	if x.onRequest(true) {
		if resp == nil {
			resp = headOf(":status", "599")
		}
		resp.noteNames()
		onResponse(x, resp)
		f.flying = map[string]bool{}
	}
	return x, said
}

func TestExchange(t *testing.T) {
	c, err := parseConfig([]byte(`{"client_cache_control":"honour","stale_if_error":"5s"}`))
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeHost{clock: noon, objects: map[string]abi.ObjectInfo{}, flying: map[string]bool{}}
	ok := func(more ...string) *head {
		return headOf(append([]string{":status", "200"}, more...)...)
	}
	for i, step := range []struct {
		after int64 // seconds
		req   *head
		resp  *head
		want  string
		did   string
	}{
		{0, headOf(":method", "GET", ":path", "/a"), ok("cache-control", "max-age=10", "etag", `"1"`), "miss", ""},
		{1, headOf(":method", "GET", ":path", "/a"), nil, "hit", ""},
		{0, headOf(":method", "HEAD", ":path", "/a"), nil, "hit", ""},
		{0, headOf(":method", "GET", ":path", "/a", "cache-control", "no-cache"), headOf(":status", "304", "etag", `"1"`), "revalidated", "update"},
		{0, headOf(":method", "GET", ":path", "/b", "cache-control", "only-if-cached"), nil, "miss", "reply only_if_cached"},
		{11, headOf(":method", "GET", ":path", "/a"), headOf(":status", "503"), "stale", ""},
		{5, headOf(":method", "GET", ":path", "/a"), headOf(":status", "503"), "miss", ""},
		{0, headOf(":method", "GET", ":path", "/a"), headOf(":status", "304", "cache-control", "max-age=1, stale-while-revalidate=9"), "revalidated", "update"},
		{3, headOf(":method", "GET", ":path", "/a"), nil, "stale", "refresh"},
		{0, headOf(":method", "POST", ":path", "/a"), headOf(":status", "500"), "bypass", ""},
		{0, headOf(":method", "GET", ":path", "/a"), nil, "stale", "refresh"},
		{0, headOf(":method", "POST", ":path", "/a"), headOf(":status", "204"), "bypass", ""},
		{0, headOf(":method", "GET", ":path", "/a"), ok("cache-control", "private"), "miss", ""},
		{0, headOf(":method", "GET", ":path", "/v", "x", "1"), ok("cache-control", "max-age=9", "vary", "x"), "miss", ""},
		{0, headOf(":method", "GET", ":path", "/v", "x", "2"), ok("cache-control", "max-age=9", "vary", "x, y"), "miss", ""},
		{0, headOf(":method", "GET", ":path", "/v", "x", "1"), nil, "hit", ""},
		{0, headOf(":method", "GET", ":path", "/v", "x", "2"), nil, "hit", ""},
		{0, headOf(":method", "GET", ":path", "/v", "x", "2", "y", "1"), ok("cache-control", "max-age=9", "vary", "x, y"), "miss", ""},
	} {
		f.clock += step.after
		_, said := f.ask(t, c, step.req, step.resp)
		if did := strings.Join(f.did, " "); said != step.want || did != step.did {
			t.Errorf("step %d: got %q, did %q; want %q, %q", i, said, did, step.want, step.did)
		}
	}
	// Who joins waits, and decides anew when it is told.
	f.flying["http://h/j\nr"] = true
	x, said := f.ask(t, c, headOf(":method", "GET", ":path", "/j"), nil)
	if said != "" || !x.joined {
		t.Fatalf("got %q, joined %v", said, x.joined)
	}
	x.onJoined(abi.ObjectUnstored)
	if strings.Join(f.did, "") != "resume" || x.joined {
		t.Errorf("after an answer that was not stored: did %q", f.did)
	}
}

// TestRefusedIsNotWaitedFor: after an answer that will not be stored, because it is private or
// too large, nobody waits for the next, and the note is written once.
func TestRefusedIsNotWaitedFor(t *testing.T) {
	for _, field := range [][]string{{"cache-control", "private"}, {"cache-control", "max-age=9", "content-length", "11"}} {
		c, f := newCache(t, `{"max_object":10}`)
		f.ask(t, c, getOf("/a"), answerOf("200", field...))
		if len(f.objects) != 1 {
			t.Fatalf("%v: %d objects, want the note", field, len(f.objects))
		}
		stores := f.stores
		for range 3 {
			f.flying["http://h/a\nr"] = true
			if x, said := f.ask(t, c, getOf("/a"), answerOf("200", field...)); said != "miss" || x.joined {
				t.Errorf("%v: got %q, joined %t", field, said, x.joined)
			}
		}
		if f.stores != stores {
			t.Errorf("%v: the note was written %d times more", field, f.stores-stores)
		}
		if f.ask(t, c, getOf("/a"), answerOf("200", "cache-control", "max-age=9")); f.stores == stores {
			t.Errorf("%v: an answer that may be stored was not", field)
		}
	}
}

// edited tells whether one of edits is of a field.
func edited(edits []abi.FieldEdit, name string) bool {
	return slices.ContainsFunc(edits, func(e abi.FieldEdit) bool { return e.Name == name })
}

// newCache returns a plugin with settings, a host and a clock.
func newCache(t *testing.T, settings string) (*config, *fakeHost) {
	t.Helper()
	c, err := parseConfig([]byte(settings))
	if err != nil {
		t.Fatal(err)
	}
	return c, &fakeHost{clock: noon, objects: map[string]abi.ObjectInfo{}, flying: map[string]bool{}}
}

func getOf(path string, more ...string) *head {
	return headOf(append([]string{":method", "GET", ":path", path}, more...)...)
}

func answerOf(status string, more ...string) *head {
	return headOf(append([]string{":status", status}, more...)...)
}

// TestValidatedForOne: what a 304 has for the client that has asked does not go to others.
func TestValidatedForOne(t *testing.T) {
	for _, tc := range []struct {
		name     string
		settings string
		resp     []string
		cookie   bool // is stored
		kept     bool // the message is
	}{
		{"a cookie", "", []string{"set-cookie", "session=mine", "x-a", "1"}, false, true},
		{"a cookie that may be stored", `{"store_set_cookie":true}`, []string{"set-cookie", "a=b"}, true, true},
		{"private", "", []string{"cache-control", "private, max-age=60", "set-cookie", "session=mine"}, false, false},
		{"no-store", "", []string{"cache-control", "no-store"}, false, false},
	} {
		c, f := newCache(t, tc.settings)
		f.ask(t, c, getOf("/a"), answerOf("200", "cache-control", "max-age=1", "etag", `"1"`))
		f.clock += 2
		if _, said := f.ask(t, c, getOf("/a"), answerOf("304", tc.resp...)); said != "revalidated" || f.served == nil {
			t.Fatalf("%s: %q", tc.name, said)
		}
		if len(tc.resp) > 1 && tc.name != "no-store" && !edited(f.served.Edits, "set-cookie") && !tc.cookie {
			t.Errorf("%s: the client that has asked does not get its cookie", tc.name)
		}
		if edited(f.updated, "set-cookie") != tc.cookie {
			t.Errorf("%s: stored are %v", tc.name, f.updated)
		}
		if len(f.objects) > 0 != tc.kept {
			t.Errorf("%s: %d messages are left", tc.name, len(f.objects))
		}
	}
}

// TestOthersDoNotLose: an answer that is about who has asked has nobody lose what is stored,
// neither a message nor its variants; one that is about the resource does.
func TestOthersDoNotLose(t *testing.T) {
	for _, tc := range []struct {
		resp *head
		lost bool
	}{
		{answerOf("400", "cache-control", "no-store"), false},
		{answerOf("403", "cache-control", "private"), false},
		{answerOf("429"), false},
		{answerOf("406", "set-cookie", "a=b"), false},
		{answerOf("500", "cache-control", "no-store"), false},
		{answerOf("404", "cache-control", "no-store"), true},
		{answerOf("200", "cache-control", "private"), true},
		{answerOf("301", "cache-control", "no-store"), true},
	} {
		c, f := newCache(t, "")
		f.ask(t, c, getOf("/a"), answerOf("200", "cache-control", "max-age=1", "etag", `"1"`))
		f.clock += 2
		f.ask(t, c, getOf("/a"), tc.resp)
		if m, ok := parseMeta(f.objects["http://h/a\nr"].Meta); (!ok || m.kind != kindMessage) != tc.lost {
			t.Errorf("%v: lost %t, want %t", tc.resp.pairs, !tc.lost, tc.lost)
		}
		c, f = newCache(t, "")
		f.ask(t, c, getOf("/v", "x", "1"), answerOf("200", "cache-control", "max-age=60", "vary", "x"))
		f.ask(t, c, getOf("/v", "x", "2"), tc.resp)
		if _, said := f.ask(t, c, getOf("/v", "x", "1"), nil); said != "hit" {
			t.Errorf("%v to one variant: the other is a %s", tc.resp.pairs, said)
		}
	}
}

// TestRefreshOfAll: a refresh asks for the whole message, whatever the client has asked for, and a
// HEAD begins none.
func TestRefreshOfAll(t *testing.T) {
	c, f := newCache(t, "")
	f.ask(t, c, getOf("/a"), answerOf("200", "cache-control", "max-age=1, stale-while-revalidate=60", "last-modified", at(-9)))
	f.clock += 2
	if _, said := f.ask(t, c, headOf(":method", "HEAD", ":path", "/a"), nil); said != "stale" || len(f.did) > 0 {
		t.Errorf("HEAD: %q, did %v", said, f.did)
	}
	part := getOf("/a", "range", "bytes=0-1", "if-range", at(0), "if-none-match", `"x"`, "if-modified-since", at(0))
	if _, said := f.ask(t, c, part, nil); said != "stale" || strings.Join(f.did, "") != "refresh" {
		t.Errorf("GET: %q, did %v", said, f.did)
	}
	_, said := f.refreshed(t, c, part, answerOf("200", "cache-control", "max-age=60"))
	if said != "miss" || !edited(f.sent, "range") || !edited(f.sent, "if-none-match") || !edited(f.sent, "if-range") {
		t.Errorf("refresh: %q, sent %v", said, f.sent)
	}
	for _, e := range f.sent {
		if e.Name == "range" && e.Op != abi.FieldRemove {
			t.Errorf("sent %v", f.sent)
		}
	}
	if part.get("range") == "" {
		t.Error("the request of the client has changed")
	}
	if _, said := f.ask(t, c, getOf("/a"), nil); said != "hit" {
		t.Errorf("after the refresh: %q", said)
	}
	f.clock += 61
	if _, said := f.refreshed(t, c, getOf("/a"), answerOf("502")); said != "failed" {
		t.Errorf("a refresh that fails: %q", said)
	}
}

// TestRefusedIsNoted: that nothing is stored of what comes is noted again before it is forgotten, and not with
// each answer.
func TestRefusedIsNoted(t *testing.T) {
	c, f := newCache(t, `{"max_object":4}`)
	for name, resp := range map[string]*head{
		"private": answerOf("200", "cache-control", "private"), "too large": answerOf("200", "cache-control", "max-age=9", "content-length", "5"),
	} {
		began := f.clock
		for _, step := range []struct{ after, noted int64 }{{0, 0}, {1, 0}, {8, 0}, {1, 10}, {9, 10}, {1, 20}} {
			f.clock += step.after
			_, said := f.ask(t, c, getOf("/"+name), resp)
			m, ok := parseMeta(f.objects["http://h/"+name+"\nr"].Meta)
			if said != "miss" || !ok || m.kind != kindRefused || m.stored != began+step.noted {
				t.Errorf("%s, after %d seconds: %q, %+v, want it noted after %d", name, f.clock-began, said, m, step.noted)
			}
		}
	}
}
