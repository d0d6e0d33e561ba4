package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
)

// TestStandingDifferential: what the host does alone is what the guest would have done, byte for
// byte: answers, what the upstream is asked, log fields, refreshes, metrics and what is stored.
func TestStandingDifferential(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for name, settings := range map[string]string{
		"defaults":      `{"default_ttl":"20s"}`,
		"no status":     `{"cache_status":false,"negative_ttl":"5s"}`,
		"honour":        `{"client_cache_control":"honour","default_ttl":"9s"}`,
		"other bypass":  `{"bypass_headers":["x","Cookie"],"stale_while_revalidate":"5s","name":"edge"}`,
		"stale, tags":   `{"stale_if_error":"9s","stale_while_revalidate":"9s","store_set_cookie":true,"purge_clients":["192.0.2.0/24"],"bypass_headers":[]}`,
		"small objects": `{"max_object":8,"collapse":false}`,
		"key":           `{"key":["header:x","cookie:c","header:x-original-url"],"default_ttl":"20s"}`,
		"key of a set":  `{"key":["header:Accept-Language","header:accept"],"stale_while_revalidate":"5s","cache_status":false}`,
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				guest, alone := differ(t, wasm, settings, func(p *plugintest.Plugin) []string {
					d := driver{p: p, rand: rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // the same each time
					for range 400 {
						d.step()
					}
					return d.end()
				})
				all, some := guest[0], alone[0]
				if some >= all-20 {
					t.Errorf("seed %d: the guest was called %d times, and %d without a standing order", seed, some, all)
				}
			}
		})
	}
}

// TestPassDifferential: the same where upstreams answer for most with what is refused, and nearly the
// same each time.
func TestPassDifferential(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for name, settings := range map[string][2]string{
		"defaults":     {`{"default_ttl":"20s"}`, `{"default_ttl":"20s","name":"other"}`},
		"no status":    {`{"cache_status":false,"max_object":8}`, `{"max_object":100}`},
		"honour":       {`{"client_cache_control":"honour","bypass_headers":["x"]}`, `{}`},
		"tags, purges": {`{"stale_if_error":"9s","purge_clients":["192.0.2.0/24"],"cdn_cache_control":false}`, `{"store_set_cookie":true}`},
		"key":          {`{"key":["header:x"]}`, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				guest, alone := differ(t, wasm, settings[0], func(p *plugintest.Plugin) []string {
					d := driver{p: p, rand: rand.New(rand.NewPCG(seed, 3)), steady: true, last: map[string]plugintest.Response{}} //nolint:gosec // the same each time
					d.other = p.With("test", settings[1])
					for range 300 {
						d.step()
					}
					return d.end()
				})
				// Some answers go by as well, and some do not.
				byRequest, byResponse := guest[0]-alone[0], guest[1]-alone[1]
				t.Logf("of %d requests %d did not enter the guest, of %d answers %d", guest[0], byRequest, guest[1], byResponse)
				if passes := byResponse > 15 && byResponse+10 < byRequest; !passes {
					t.Errorf("seed %d: of %d requests %d did not enter the guest, of %d answers %d", seed, guest[0], byRequest, guest[1], byResponse)
				}
			}
		})
	}
}

// TestModelDifferential: the same where most is asked for once, and upstreams answer with what is stored, and is
// like what was stored before but for its times and validators.
func TestModelDifferential(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for name, settings := range map[string][2]string{
		"defaults":    {`{"default_ttl":"20s"}`, `{"default_ttl":"5s","name":"other"}`},
		"no status":   {`{"cache_status":false,"max_object":9,"heuristic":false,"default_ttl":"9s"}`, `{"max_object":100}`},
		"honour":      {`{"client_cache_control":"honour","bypass_headers":["x"],"max_ttl":"8s"}`, `{}`},
		"stale, tags": {`{"stale_if_error":"9s","stale_while_revalidate":"5s","cdn_cache_control":false,"tag_headers":["x-tag"]}`, `{"store_set_cookie":true}`},
		"each alone":  {`{"collapse":false,"store_set_cookie":true,"negative_ttl":"4s"}`, `{"collapse":true}`},
		"key":         {`{"key":["header:x"]}`, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, credentials := range []int{0, 7} {
				var allOf, someOf uint64
				for seed := range uint64(2 - credentials/7) {
					guest, alone := differ(t, wasm, settings[0], func(p *plugintest.Plugin) []string {
						d := driver{p: p, rand: rand.New(rand.NewPCG(seed, 5)), steady: true, kinds: 3, last: map[string]plugintest.Response{}} //nolint:gosec // the same each time
						d.credentials, d.other = credentials, p.With("test", settings[1])
						for range 300 {
							d.step()
						}
						return d.end()
					})
					allOf, someOf = allOf+guest[1], someOf+alone[1]
				}
				// Because of passes alone it is 15 with a seed.
				t.Logf("%d of %d answers did not enter the guest, with credentials in %d of 10 requests", allOf-someOf, allOf, credentials)
				if someOf >= allOf-60 { // with credentials more go by
					t.Errorf("%d of %d answers did not enter the guest, with credentials in %d of 10 requests", allOf-someOf, allOf, credentials)
				}
			}
		})
	}
}

// differ has f note what becomes of exchanges where the guest does all, and where the host has its standing order, and
// holds the one against the other. It returns how many request and response heads the guest was shown.
func differ(t *testing.T, wasm []byte, config string, f func(p *plugintest.Plugin) (log []string)) (guest, alone [2]uint64) {
	t.Helper()
	run := func(without ...string) (log []string, shown [2]uint64) {
		o := plugintest.Options{
			Config: config, Instances: 2, Without: without,
			Grants: []string{host.GrantLog, host.GrantMetrics, host.GrantObjects},
		}
		plugintest.Run(t, wasm, o, func(_ *testing.T, p *plugintest.Plugin) {
			log = f(p)
			shown = calls(p)
		})
		return log, shown
	}
	want, guest := run(abi.ForeignObjectStanding)
	got, alone := run()
	for i := range max(len(want), len(got)) {
		if w, g := lineOf(want, i), lineOf(got, i); w != g {
			t.Fatalf("step %d: got\n%s\nthe guest does\n%s", i, g, w)
		}
	}
	return guest, alone
}

func lineOf(log []string, i int) string {
	if i >= len(log) {
		return "nothing more"
	}
	return log[i]
}

// calls returns how many request and response heads the guest has been shown.
func calls(p *plugintest.Plugin) [2]uint64 {
	w := p.Stats().Work
	return [2]uint64{w[host.CallRequestHeaders].Calls, w[host.CallResponseHeaders].Calls}
}

// A driver makes exchanges by chance, and notes what comes of them.
type driver struct {
	p    *plugintest.Plugin
	rand *rand.Rand
	log  []string
	left *plugintest.Stream // how much a client gets that has left is chance

	steady bool                           // most answers are the last one
	last   map[string]plugintest.Response // by path
	kinds  int                            // of answers that are stored mostly, each for many paths; 0: there is nothing of that
	other  *plugintest.Plugin             // with other settings, as before a reload or after it; nil: none

	credentials int // in how many of ten requests

	versions map[string]int // of what is asked for in many ways, by path; nil: nothing is. See repeat_test.go
}

// plugin returns that which the next request comes to.
func (d *driver) plugin() *plugintest.Plugin {
	if d.other != nil && d.rand.IntN(12) == 0 {
		return d.other
	}
	return d.p
}

func (d *driver) one(list []string) string { return list[d.rand.IntN(len(list))] }

// fields are what a message may have: at most a few of a list of name and value.
func (d *driver) fields(list [][2]string, most int) (out []abi.Pair) {
	for range d.rand.IntN(most + 1) {
		f := list[d.rand.IntN(len(list))]
		out = append(out, abi.Pair{Name: f[0], Value: f[1]})
	}
	return out
}

var requestFields = [][2]string{
	{"accept", "*/*"},
	{"accept-language", "en,De;q=0.5"},
	{"accept-language", "de; q=0.5, en"},
	{"user-agent", "x"},
	{"cookie", "c=1"},
	{"cookie", "c=2; d=1"},
	{"authorization", "Basic eA=="},
	{"x", "1"},
	{"x", "2"},
	{"cache-control", "no-cache"},
	{"cache-control", "max-age=2"},
	{"cache-control", "only-if-cached"},
	{"pragma", "no-cache"},
	{"range", "bytes=1-2"},
	{"range", "bytes=9-"},
	{"if-range", `"1"`},
	{"if-none-match", `"1"`},
	{"if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT"},
	{"if-match", `"1"`},
	{"if-unmodified-since", "Sat, 01 Jan 2000 00:00:00 GMT"},
	{"x-original-url", "/b"},
	{"x-http-method-override", "PUT"},
	{"upgrade", "x"},
}

var responseFields = [][2]string{
	{"cache-control", "max-age=6"},
	{"cache-control", "max-age=30"},
	{"cache-control", "max-age=9, stale-while-revalidate=9"},
	{"cache-control", "no-cache"},
	{"cache-control", `max-age=9, no-cache="set-cookie"`},
	{"cache-control", "private"},
	{"cache-control", "s-maxage=9, public"},
	{"cdn-cache-control", "max-age=7"},
	{"age", "3"},
	{"age", "x"},
	{"etag", `"1"`},
	{"etag", `W/"2"`},
	{"last-modified", "Fri, 31 Dec 1999 00:00:00 GMT"},
	{"vary", "x"},
	{"vary", "*"},
	{"cache-status", "behind; hit"},
	{"set-cookie", "a=b"},
	{"expires", "Sat, 01 Jan 2000 00:01:00 GMT"},
	{"date", "Sat, 01 Jan 2000 00:00:00 GMT"},
	{"cache-tag", "t"},
	{"content-type", "text/plain"},
	{"connection", "close"},
}

// storingFields are those of answers that are stored, mostly.
var storingFields = [][]abi.Pair{
	plugintest.Fields("cache-control", "max-age=6"),
	plugintest.Fields("cache-control", "max-age=9, stale-while-revalidate=9"),
	plugintest.Fields("cache-control", "s-maxage=9, public", "expires", "0"),
	plugintest.Fields("cache-control", "private", "cdn-cache-control", "max-age=7"),
	plugintest.Fields("last-modified", ""),
	plugintest.Fields("cache-control", "public", "last-modified", ""),
	plugintest.Fields("cache-control", "max-age=7", "set-cookie", "a=b"),
	plugintest.Fields("cache-control", "max-age=9", "vary", "x"),
	plugintest.Fields("cache-control", "public, max-age=9", "vary", "Accept-Language, X", "etag", ""),
	nil,
}

// request makes a request. Most are plain ones for few URLs, as hits are what it is about.
func (d *driver) request() plugintest.Request {
	if d.versions != nil {
		return d.narrow()
	}
	r := plugintest.Request{Path: d.one([]string{"/a", "/a", "/b", "/c?d", "/a?"}), Method: d.one([]string{"", "", "", "", "", "HEAD"})}
	if d.kinds > 0 {
		r.Path = fmt.Sprintf("/%c/%d", 'a'+d.rand.IntN(d.kinds), d.rand.IntN(40))
	}
	switch d.rand.IntN(20) {
	case 0:
		r.Method = d.one([]string{"POST", "PURGE", "OPTIONS", "DELETE", "get"})
	case 1:
		r.Body = []byte("body")
	case 2:
		r.Authority, r.Scheme = "example.org", "https"
	}
	if d.rand.IntN(3+3*min(d.kinds, 1)) == 0 {
		r.Fields = d.fields(requestFields, 3)
	}
	if d.credentials > 0 && d.rand.IntN(10) < d.credentials {
		r.Fields = append(r.Fields, plugintest.Fields("authorization", "Basic eA==")...)
	}
	return r
}

// answer makes the answer to a request for a path.
func (d *driver) answer(path string) plugintest.Response {
	if !d.steady {
		return d.response()
	}
	if d.kinds > 0 {
		path = path[:2]
	}
	r, ok := d.last[path]
	if (!ok || d.rand.IntN(40) == 0) && d.kinds > 0 {
		f := storingFields[d.rand.IntN(len(storingFields))]
		r = plugintest.Response{Fields: append(plugintest.Fields("content-type", "text/plain"), f...), Body: []byte("12345678")}
		d.last[path] = r
	} else if !ok || d.rand.IntN(25) == 0 {
		r = d.response()
		if d.rand.IntN(3) > 0 {
			refusing := [][2]string{{"cache-control", "private"}, {"cache-control", "no-store"}, {"set-cookie", "a=b"}, {"vary", "*"}, {"cache-control", "no-cache"}, {"expires", "0"}}
			f := refusing[d.rand.IntN(len(refusing))]
			r.Fields = append(r.Fields, abi.Pair{Name: f[0], Value: f[1]})
		}
		d.last[path] = r
	}
	r.Fields = slices.Clone(r.Fields)
	odd := 12
	if d.kinds > 0 {
		odd = 40
		now := d.p.Now().UTC()
		if d.rand.IntN(12) > 0 {
			r.Fields = append(r.Fields, plugintest.Fields("date", now.Add(-time.Duration(d.rand.IntN(4))*time.Second).Format(http.TimeFormat))...)
		}
		if d.rand.IntN(2) == 0 {
			r.Fields = append(r.Fields, plugintest.Fields("etag", fmt.Sprintf(`"%d"`, d.rand.IntN(100)))...)
		}
		if i := slices.IndexFunc(r.Fields, func(p abi.Pair) bool { return p.Name == "last-modified" }); i >= 0 {
			r.Fields[i].Value = now.Add(-time.Duration(d.rand.IntN(200)) * time.Second).Format(http.TimeFormat)
		}
	}
	switch d.rand.IntN(odd) {
	case 0: // something is different this time
		r.Fields = append(r.Fields, d.fields(responseFields, 2)...)
	case 1:
		if len(r.Fields) > 0 {
			i := d.rand.IntN(len(r.Fields))
			r.Fields = slices.Delete(r.Fields, i, i+1)
		}
	case 2:
		r = plugintest.Response{Status: 502, Failure: "connect", Body: []byte("none")}
	case 3:
		r.Status = 404
	}
	return r
}

func (d *driver) response() plugintest.Response {
	r := plugintest.Response{Fields: d.fields(responseFields, 4), Body: []byte(d.one([]string{"", "1234", "1234567890"}))}
	switch d.rand.IntN(12) {
	case 0:
		r.Status = []int{301, 404, 503, 204, 206, 304}[d.rand.IntN(6)]
		if r.Status == 204 || r.Status == 304 {
			r.Body = nil
		}
	case 1:
		r.Trailers = plugintest.Fields("t", "1")
	}
	return r
}

// step does something, which may be several exchanges at once.
func (d *driver) step() {
	switch d.rand.IntN(12) {
	case 0:
		d.p.Advance(time.Duration(d.rand.IntN(12)) * 700 * time.Millisecond)
	case 1:
		d.note("purged", d.p.Purge("http://example.com/"+d.one([]string{"a\n", "", "b\n"})))
	case 2, 3: // another asks while an answer is on its way; of more, any might be the first to go on
		req, next := d.request(), d.request()
		next.Path = req.Path
		list := []*plugintest.Stream{d.plugin().Open(req), d.plugin().Open(next)}
		if d.rand.IntN(4) == 0 {
			d.left = list[0]
			d.left.Leave()
		}
		d.finish(list...)
	default:
		s := d.plugin().Open(d.request())
		if d.steady && d.rand.IntN(8) == 0 { // it takes its time, or meanwhile nothing is known of it any more
			if d.rand.IntN(2) == 0 {
				d.p.Advance(time.Duration(d.rand.IntN(6)) * time.Second)
			} else {
				d.note("purged", d.p.Purge(""))
			}
		}
		d.finish(s)
	}
	for _, s := range d.p.Refreshes() {
		d.finish(s)
	}
}

// finish answers what has arrived at the upstream until there is no more of it.
func (d *driver) finish(list ...*plugintest.Stream) {
	asked := map[*plugintest.Stream]bool{}
	for again := true; again; {
		again = false
		for _, s := range list {
			if up := s.Upstream(); up.Method != "" && !asked[s] {
				asked[s], again = true, true
				var resp plugintest.Response
				if d.versions != nil {
					resp = d.version(&up)
				} else {
					resp = d.answer(up.Path)
				}
				if d.steady && d.rand.IntN(8) == 0 {
					s.RespondInformational(103, "link", "</x>")
				}
				if len(list) > 1 { // whether who waits finds the end of it would be chance
					resp.Trailers = nil
				}
				more := len(list) > 1 || d.rand.IntN(3) == 0
				if len(list) > 1 && d.kinds > 0 { // a third would wait for either of two, which is chance
					more = false
				}
				if resp.Trailers == nil && len(resp.Body) > 0 && more {
					resp.More = true
					s.Respond(resp)
					d.finish(d.p.Open(plugintest.Request{Path: up.Path})) // while it is not whole
					s.RespondData([]byte("more"), true)
				} else {
					s.Respond(resp)
				}
			}
		}
	}
	for _, s := range list {
		s.Finish()
		got := s.Client()
		if s == d.left {
			got = plugintest.Response{}
		}
		d.note(fmt.Sprintf("%+v %+v", s.Upstream(), got), len(s.Informational()), s.LogField("cache"), s.Reason(), s.Aborted(), s.Verdict("plugin"))
	}
}

func (d *driver) note(what ...any) {
	d.log = append(d.log, d.p.Now().Format("04:05.0 ")+strings.TrimSuffix(fmt.Sprintln(what...), "\n"))
}

// end notes what is left, and returns all notes.
func (d *driver) end() []string {
	metrics := d.p.Metrics()
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		d.note(name, metrics[name])
	}
	// Not their bytes: of an answer that is refused for two reasons the host may note the one, and the guest
	// the other.
	messages, _ := d.p.Stored()
	d.note(messages)
	return d.log
}

// TestVariantTooLong: a variant whose key is too long for the host is the guest's, to store and to serve.
func TestVariantTooLong(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	differ(t, wasm, `{}`, func(p *plugintest.Plugin) []string {
		d := driver{p: p}
		for i, method := range []string{"GET", "GET", "HEAD", "GET", "HEAD"} {
			s := p.Open(plugintest.Request{Method: method, Path: "/v", Fields: plugintest.Fields("user-agent", strings.Repeat("x", 5000))})
			if asked := s.Upstream().Method != ""; asked {
				s.Respond(plugintest.Response{Fields: plugintest.Fields("cache-control", "max-age=60", "vary", "user-agent"), Body: []byte("1234")})
				if i > 0 {
					t.Errorf("%d: the upstream is asked for what is stored", i)
				}
			}
			s.Finish()
			d.note(s.Client(), s.LogField("cache"))
		}
		return d.end()
	})
}
