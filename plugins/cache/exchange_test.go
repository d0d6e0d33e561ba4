package main

import (
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
	did     []string
}

func (f *fakeHost) lookup(key string) (abi.ObjectInfo, bool) { o, ok := f.objects[key]; return o, ok }

func (f *fakeHost) serve(s *abi.ObjectServe) bool {
	_, ok := f.objects[s.Key]
	f.served = s
	return ok
}

func (f *fakeHost) store(s *abi.ObjectStore) bool {
	f.objects[s.Key] = abi.ObjectInfo{Status: 200, Whole: true, Length: 10, Meta: []byte(s.Meta)}
	return true
}

func (f *fakeHost) update(u *abi.ObjectUpdate) bool {
	f.did = append(f.did, "update")
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
		f.sent = edits
	}
}

func (f *fakeHost) reply(_ uint32, details, _ string) { f.did = append(f.did, "reply "+details) }

// ask makes an exchange; resp is what the upstream would answer, and the result what the log says.
func (f *fakeHost) ask(t *testing.T, c *config, req, resp *head) (x *exchange, said string) {
	t.Helper()
	f.served, f.sent, f.did = nil, nil, nil
	x = &exchange{c: c, host: f, request: *req, url: "http://h" + req.get(":path"), route: "r"}
	x.told = func(r result) {
		if said == "" {
			said = r.String()
		}
	}
	if x.onRequest(true) {
		if resp == nil {
			resp = headOf(":status", "599")
		}
		x.onResponse(resp)
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
