package wasmfilter_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

// missOrder lets misses by.
func missOrder() abi.ObjectStanding {
	return abi.ObjectStanding{
		Absent: []string{"range"}, AgeField: "age", LogField: "l", LogValue: "hit", CounterHead: "n;route=", CounterTail: ";hit",
		PassValue: "passed", PassTail: ";passed", Misses: true, Joins: true, MissAlone: []string{"Cookie", "authorization"},
	}
}

// missStore is what a missGuest stores at answers, each time under the same key.
func missStore() abi.ObjectStore {
	return abi.ObjectStore{
		Key: passKey, Meta: "by the guest", MaxObject: 1000, Gone: 90, Promise: abi.ObjectPromise{Since: passTime, Lifetime: 60},
		Model: &abi.ObjectModel{
			Extra: 30, Same: []string{"Cache-Control", "x-none", "age"}, Filled: []string{"ETag", "x-empty"},
			Edits: []abi.FieldEdit{{Name: "X-Edit", Value: " host "}, {Op: abi.FieldAdd, Name: "connection", Value: "close"}, {Op: abi.FieldRemove, Name: "x-gone"}},
			Meta: []abi.ModelPart{
				{Text: "<"},
				{Kind: abi.ModelNow},
				{Kind: abi.ModelAge},
				{Kind: abi.ModelDate},
				{Kind: abi.ModelLifetime},
				{Kind: abi.ModelField, Text: "ETag"},
				{Kind: abi.ModelField, Text: "x-gone"},
				{Kind: abi.ModelField, Text: "x-none"},
				{Text: ">"},
			},
		},
	}
}

// missGuest has an order. A request that it sees and that has no x-plain it answers with what is stored under
// passKey, or has it wait for that. It stores an answer with x-store, saying x-refused if it may not, or with x-other and
// another model, or a record with a pass at x-record, and with a model too at x-refuse, or at x-by has such answers go by, and traps at x-trap, and says what it sees as a passGuest does.
func missGuest(order abi.ObjectStanding, store abi.ObjectStore) []byte {
	m := wt.NewGuest()
	foreign := m.Env(abi.ImportCallForeignFunction, "iiiiii>i")
	get := m.Env(abi.ImportGetHeaderMapValue, "iiiii>i")
	set := m.Env(abi.ImportReplaceHeaderMapValue, "iiiii>i")
	resume := m.Env(abi.ImportContinueStream, "i>i")
	ptr, size := wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	m.Func("proxy_on_configure", "ii>i", wt.Call(foreign, m.Str(abi.ForeignObjectStanding), m.Str(string(order.Append(nil))), ptr, size), wt.Raw(0x45))
	serve := abi.ObjectServe{Key: passKey, Length: -1}
	answered := func() wt.Instr { // 0 if it is
		return wt.Call(foreign, m.Str(abi.ForeignObjectServe), m.Str(string(serve.Append(nil))), ptr, size)
	}
	join := append(make([]byte, 4), passKey...)
	waits := m.Data(join)
	m.Headers(
		"request",
		wt.If(wt.Eq(wt.Call(get, wt.I32(0), m.Str("x-plain"), ptr, size), wt.I32(0)), wt.I32(0), wt.Return()),
		wt.If(wt.Eq(answered(), wt.I32(0)), wt.I32(1), wt.Return()),
		wt.If(
			wt.Eq(wt.Call(foreign, m.Str(abi.ForeignObjectJoin), wt.I32(waits), wt.I32(int32(len(join))), ptr, size), wt.I32(0)),
			wt.If(wt.Ne(wt.Load32(wt.I32(waits)), wt.I32(0)), wt.I32(1), wt.Return()),
			wt.If(wt.Eq(answered(), wt.I32(0)), wt.I32(1), wt.Return()), // it has come since the first look
		),
		wt.I32(0),
	)
	m.Func("proxy_on_foreign_function", "iii", wt.If(wt.Ne(answered(), wt.I32(0)), wt.Call(resume, wt.I32(0)), wt.Drop()))
	there := func(name string) wt.Instr { return wt.Eq(wt.Call(get, wt.I32(2), m.Str(name), ptr, size), wt.I32(0)) }
	other, otherModel := store, *store.Model
	otherModel.Extra, other.Model = otherModel.Extra+1, &otherModel
	refusal := passStore
	refusal.Model = &abi.ObjectModel{Extra: 30, Meta: []abi.ModelPart{{Text: "<"}, {Kind: abi.ModelNow}, {Kind: abi.ModelField, Text: "Set-Cookie"}}}
	by := passStore
	by.Model = &abi.ObjectModel{}
	refused := func(store *abi.ObjectStore) wt.Instr {
		return wt.Ne(wt.Call(foreign, m.Str(abi.ForeignObjectStore), m.Str(string(store.Append(nil))), ptr, size), wt.I32(0))
	}
	m.Headers(
		"response",
		wt.If(there("x-trap"), wt.Unreachable()),
		wt.If(there("x-store"), wt.If(refused(&store), wt.Call(set, wt.I32(2), m.Str("x-refused"), m.Str("1")), wt.Drop())),
		wt.If(there("x-other"), wt.If(refused(&other), wt.Unreachable())),
		wt.If(there("x-record"), wt.If(refused(&passStore), wt.Unreachable())),
		wt.If(there("x-refuse"), wt.If(refused(&refusal), wt.Unreachable())),
		wt.If(there("x-by"), wt.If(refused(&by), wt.Unreachable())),
		saysRequest(m, get, ptr, size),
		wt.I32(0),
	)
	m.Func("proxy_on_response_body", "iii>i", wt.I32(0))
	return m.Bytes()
}

const missDate = "Sat, 01 Jan 2000 00:00:00 GMT" // passTime

// missRequest and missAnswer are what goes by, and is stored.
func missRequest(path string) plugintest.Request {
	return plugintest.Request{Path: path, Fields: plugintest.Fields("x-auth", "mine")}
}

func missAnswer(more ...string) plugintest.Response {
	return plugintest.Response{
		Fields: append(plugintest.Fields("date", missDate, "cache-control", "a", "etag", `"1"`, "cache-control", "c", "x-gone", "1"), plugintest.Fields(more...)...),
		Body:   []byte("answer"), Trailers: plugintest.Fields("t", "u"),
	}
}

// toldMiss is what the guest is told of a request that has gone by for a path.
func toldMiss(path string) string {
	return string(abi.AppendPassed(nil, passTime, "http://example.com"+path+"\nr", nil))
}

// TestMiss: a request for what is not stored is none of the guest's, nor is an answer that is like one that
// it has stored; that is stored as well, and served. Any other answer is the guest's, with the request as it was.
func TestMiss(t *testing.T) {
	plugintest.Run(t, missGuest(missOrder(), missStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		chain := plugintest.Chain{p, p.Load(withoutAuth(), plugintest.Options{Name: "q"})}
		before := calls(p)
		s := chain.Do(missRequest("/a"), missAnswer("x-store", "1"))
		told, _ := s.Property("mine")
		if after := calls(p); after.req != before.req || after.resp != before.resp+1 || string(told) != toldMiss("/a") || line(s.Client(), "x-guest") != "mine" || s.LogField("l") != "" {
			t.Fatalf("the first: %+v, told %q", s.Client(), told)
		}
		if line(s.Client(), "x-refused") != "" || string(s.Client().Body) != "answer" {
			t.Fatalf("the first: %+v", s.Client())
		}
		for name, tc := range map[string]struct {
			change func(r *plugintest.Response)
			goesBy bool
		}{
			"the same":                    {func(*plugintest.Response) {}, true},
			"another etag, more fields":   {func(r *plugintest.Response) { r.Fields[2].Value, r.Fields[4].Value = `"2"`, "2" }, true},
			"a second etag":               {func(r *plugintest.Response) { r.Fields = append(r.Fields, plugintest.Fields("etag", "", "y", "z")...) }, true},
			"no body":                     {func(r *plugintest.Response) { r.Body, r.Trailers = nil, nil }, true},
			"no trailers":                 {func(r *plugintest.Response) { r.Trailers = nil }, true},
			"as much as may be":           {func(r *plugintest.Response) { r.Body, r.Trailers = make([]byte, 1000), nil }, true},
			"a field that is empty":       {func(r *plugintest.Response) { r.Fields = append(r.Fields, plugintest.Fields("x-empty", "")...) }, true},
			"no date":                     {func(r *plugintest.Response) { r.Fields = r.Fields[1:] }, true},
			"a date to come":              {func(r *plugintest.Response) { r.Fields[0].Value = "Sat, 01 Jan 2022 00:00:00 GMT" }, true},
			"nearly old":                  {func(r *plugintest.Response) { r.Fields[0].Value = "Fri, 31 Dec 1999 23:59:01 GMT" }, true},
			"old":                         {func(r *plugintest.Response) { r.Fields[0].Value = "Fri, 31 Dec 1999 23:59:00 GMT" }, false},
			"a date in another form":      {func(r *plugintest.Response) { r.Fields[0].Value = "Sat Jan  1 00:00:00 2000" }, false},
			"two dates":                   {func(r *plugintest.Response) { r.Fields = append(r.Fields, r.Fields[0]) }, false},
			"an empty date":               {func(r *plugintest.Response) { r.Fields[0].Value = "" }, false},
			"too large":                   {func(r *plugintest.Response) { r.Body, r.Trailers = make([]byte, 1001), nil }, false},
			"another status":              {func(r *plugintest.Response) { r.Status = 201 }, false},
			"a line changed":              {func(r *plugintest.Response) { r.Fields[1].Value = "other" }, false},
			"a line more":                 {func(r *plugintest.Response) { r.Fields = append(r.Fields, plugintest.Fields("cache-control", "d")...) }, false},
			"a line less":                 {func(r *plugintest.Response) { r.Fields = r.Fields[:3] }, false},
			"lines in another order":      {func(r *plugintest.Response) { r.Fields[1], r.Fields[3] = r.Fields[3], r.Fields[1] }, false},
			"one that was not there":      {func(r *plugintest.Response) { r.Fields = append(r.Fields, plugintest.Fields("x-none", "")...) }, false},
			"an age":                      {func(r *plugintest.Response) { r.Fields = append(r.Fields, plugintest.Fields("age", "0")...) }, false},
			"no etag":                     {func(r *plugintest.Response) { r.Fields = without(r.Fields, "etag") }, false},
			"an empty etag":               {func(r *plugintest.Response) { r.Fields[2].Value = "" }, false},
			"an etag after an empty one":  {func(r *plugintest.Response) { r.Fields = slices.Insert(r.Fields, 2, plugintest.Fields("etag", "")...) }, false},
			"a field that is not empty":   {func(r *plugintest.Response) { r.Fields = append(r.Fields, plugintest.Fields("x-empty", "1")...) }, false},
			"an upstream that is down":    {func(r *plugintest.Response) { *r = plugintest.Response{Status: 502, Failure: "connect"} }, false},
			"an answer without upstreams": {func(r *plugintest.Response) { *r = plugintest.Response{Status: 503, Untried: true} }, false},
			"a change of protocol":        {func(r *plugintest.Response) { *r = plugintest.Response{Status: 101, Fields: r.Fields} }, false},
		} {
			path := "/" + strings.ReplaceAll(name, " ", "-")
			before, found, count := calls(p), storedOf(p), metric(p, "n;route=r;passed")
			resp := missAnswer()
			tc.change(&resp)
			s := chain.Open(missRequest(path))
			s.RespondInformational(103, "link", "</x>")
			s.Respond(resp)
			s.Finish()
			c, after := s.Client(), calls(p)
			told, _ := s.Property("mine")
			if after.req != before.req || after.resp-before.resp != map[bool]uint64{false: 1}[tc.goesBy] {
				t.Errorf("%s: calls %+v, before %+v", name, after, before)
			}
			if string(c.Body) != string(resp.Body) || len(c.Trailers) != len(resp.Trailers) || len(s.Informational()) != 1 || !c.Ended || s.Upstream().Get("x-auth") != "" {
				t.Errorf("%s: a message is not whole: %+v", name, c)
			}
			if !tc.goesBy {
				if line(c, "x-guest") != "mine" || line(c, "x-edit") != "" || s.LogField("l") != "" || string(told) != toldMiss(path) || metric(p, "n;route=r;passed") != count || found != storedOf(p) {
					t.Errorf("%s: the guest saw %q of %+v", name, told, c)
				}
				continue
			}
			if line(c, "x-edit") != "host" || line(c, "x-gone") != "" || line(c, "connection") != "" || line(c, "x-guest") != "" || s.LogField("l") != "passed" || metric(p, "n;route=r;passed") != count+1 {
				t.Errorf("%s: got %+v, log %q", name, c, s.LogField("l"))
			}
			hit := chain.Do(missRequest(path), plugintest.Response{Status: 500})
			if h := hit.Client(); h.Status != 200 || string(h.Body) != string(resp.Body) || line(h, "x-edit") != "host" || line(h, "etag") != line(c, "etag") || hit.LogField("l") != "hit" || calls(p) != after {
				t.Errorf("%s: the next client gets %+v", name, h)
			}
			if want := map[string]string{"nearly old": "59"}[name]; line(hit.Client(), "age") != want && (want != "" || line(hit.Client(), "age") != "0") {
				t.Errorf("%s: it is %q seconds old", name, line(hit.Client(), "age"))
			}
		}
		p.Purge("")
		if n, bytes := p.Stored(); n != 0 || bytes != 0 {
			t.Errorf("%d messages are left, %d bytes", n, bytes)
		}
	})
}

func metric(p *plugintest.Plugin, name string) int64 {
	n, _ := p.Metric(name)
	return n
}

func storedOf(p *plugintest.Plugin) int {
	n, _ := p.Stored()
	return n
}

// TestMissEnds: what is stored is found for as long as its promise and the model say, by its own age.
func TestMissEnds(t *testing.T) {
	plugintest.Run(t, missGuest(missOrder(), missStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(missRequest("/a"), missAnswer("x-store", "1"))
		p.Purge("")
		p.Advance(20 * time.Second)
		s := p.Open(missRequest("/b"))
		p.Advance(10 * time.Second) // it is as old as it took, if its Date says less
		s.Respond(missAnswer("date-none", "1"))
		s.Finish()
		young := p.Open(missRequest("/c"))
		p.Advance(5 * time.Second)
		resp := missAnswer()
		resp.Fields = without(resp.Fields, "date")
		young.Respond(resp)
		young.Finish()
		want := map[string]int{"/b": 35, "/c": 5}
		for range 100 {
			for path, age := range want {
				if age >= 60 {
					continue
				}
				hit := p.Do(missRequest(path), plugintest.Response{Status: 500})
				if got := line(hit.Client(), "age"); got != strconv.Itoa(age) {
					t.Fatalf("%s: %q seconds old, want %d", path, got, age)
				}
				want[path]++
			}
			n := 0
			for _, age := range want {
				if age < 60 {
					n++
				}
			}
			if n == 0 {
				break
			}
			p.Advance(time.Second)
		}
		// /b is 60 s old for 25 seconds, and is gone with the 90th.
		p.Advance(4 * time.Second)
		if n := storedOf(p); n != 2 {
			t.Errorf("%d are stored", n)
		}
		p.Advance(30 * time.Second)
		for path := range want {
			before := calls(p)
			if s := p.Do(missRequest(path), missAnswer()); calls(p).req != before.req || s.Client().Status != 200 {
				t.Errorf("%s is found", path)
			}
		}
	})
}

// TestMissNot: what the order is not about is the guest's from the beginning.
func TestMissNot(t *testing.T) {
	none := missOrder()
	none.Misses, none.Joins, none.MissAlone = false, false, nil
	for _, order := range []abi.ObjectStanding{missOrder(), none} {
		plugintest.Run(t, missGuest(order, missStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
			p.Do(missRequest("/a"), missAnswer("x-store", "1"))
			for name, change := range map[string]func(r *plugintest.Request){
				"POST":    func(r *plugintest.Request) { r.Method = "POST" },
				"a body":  func(r *plugintest.Request) { r.Body = []byte("x") },
				"a field": func(r *plugintest.Request) { r.Fields = plugintest.Fields("range", "bytes=0-1", "x-plain", "1") },
				"a field of both": func(r *plugintest.Request) {
					r.Fields = plugintest.Fields("range", "1", "cookie", "a=b", "x-plain", "1")
				},
				"a long target": func(r *plugintest.Request) { r.Path = "/" + strings.Repeat("a", 5000) },
				"nothing":       func(*plugintest.Request) {},
			} {
				req := missRequest("/b")
				req.Fields = append(req.Fields, plugintest.Fields("x-plain", "1")...)
				change(&req)
				p.Purge("")
				before := calls(p)
				resp := missAnswer()
				p.Do(req, resp)
				want := uint64(1)
				if name == "nothing" && order.Misses {
					want = 0
				}
				if after := calls(p); after.req != before.req+want || after.resp != before.resp+want {
					t.Errorf("%s, order %t: calls %+v, before %+v", name, order.Misses, after, before)
				}
			}
		})
	}
}

// TestMissFlight: a request that goes by leads, and whatever becomes of it ends what others wait for.
func TestMissFlight(t *testing.T) {
	body := func(n int) plugintest.Response {
		r := missAnswer()
		r.Body, r.Trailers, r.More = make([]byte, n), nil, true
		return r
	}
	for name, tc := range map[string]struct {
		end    func(s *plugintest.Stream)
		served bool // the other client gets what the first does
		asks   bool // the other one goes on to the upstream; neither: it was the same instance's
	}{
		"like a model": {func(s *plugintest.Stream) { s.Respond(missAnswer()) }, true, false},
		"no body": {func(s *plugintest.Stream) {
			r := missAnswer()
			r.Body, r.Trailers = nil, nil
			s.Respond(r)
		}, true, false},
		"the guest stores it": {func(s *plugintest.Stream) { s.Respond(missAnswer("x-store", "1", "age", "1")) }, true, false},
		"the guest does not":  {func(s *plugintest.Stream) { s.Respond(missAnswer("age", "1")) }, false, true},
		"the guest notes it":  {func(s *plugintest.Stream) { s.Respond(missAnswer("age", "1", "x-record", "1")) }, false, true},
		"the guest traps":     {func(s *plugintest.Stream) { s.Respond(missAnswer("x-trap", "1", "age", "1")) }, false, false},
		"the client leaves":   {func(s *plugintest.Stream) { s.Leave() }, false, true},
		"it leaves later": {func(s *plugintest.Stream) {
			s.Respond(body(10))
			s.RespondData(nil, false)
			s.Leave()
			s.RespondData(make([]byte, 10), true)
		}, true, false},
		"the upstream is down": {func(s *plugintest.Stream) { s.Respond(plugintest.Response{Status: 502, Failure: "connect"}) }, false, true},
	} {
		o := passOptions
		o.Instances = 2
		plugintest.Run(t, missGuest(missOrder(), missStore()), o, func(t *testing.T, p *plugintest.Plugin) {
			p.Do(missRequest("/a"), missAnswer("x-store", "1"))
			p.Purge("")
			before := calls(p)
			s := p.Open(missRequest("/a"))
			if calls(p).req != before.req || s.Upstream().Method != "GET" {
				t.Fatal("it does not go by")
			}
			other := p.Open(missRequest("/a"))
			if after := calls(p); after.req != before.req+1 || other.Upstream().Method != "" || !other.Paused() {
				t.Fatalf("%s: the other one does not wait: calls %+v, before %+v", name, after, before)
			}
			tc.end(s)
			s.Finish()
			if got := other.Upstream().Method != ""; got != tc.asks {
				t.Errorf("%s: the other one goes on: %t", name, got)
			}
			if tc.asks {
				other.Respond(missAnswer("age", "1"))
			}
			want := 200
			if !tc.asks && !tc.served {
				want = 503
			}
			if c := other.Client(); other.Paused() || c.Status != want || !c.Ended || tc.served && line(c, "x-edit")+line(c, "x-store") == "" {
				t.Errorf("%s: the other one got %+v", name, c)
			}
			other.Finish()
			p.Purge("")
			if n, bytes := p.Stored(); n != 0 || bytes != 0 {
				t.Errorf("%s: %d messages are left, %d bytes", name, n, bytes)
			}
			p.Advance(time.Minute) // instances are there again
			before = calls(p)
			if s := p.Do(missRequest("/a"), missAnswer("x-store", "1")); calls(p).req != before.req || s.Client().Status != 200 {
				t.Errorf("%s: the next does not lead: %+v", name, s.Client())
			}
		})
	}
}

// TestMissCut: an answer that breaks off is nobody's.
func TestMissCut(t *testing.T) {
	for _, begun := range []string{"", "0123456789"} {
		plugintest.Run(t, missGuest(missOrder(), missStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
			p.Do(missRequest("/a"), missAnswer("x-store", "1"))
			s := p.Open(missRequest("/b"))
			resp := missAnswer()
			resp.Body, resp.Trailers, resp.More = []byte(begun), nil, true
			s.Respond(resp)
			s.RespondData(nil, false)
			if c := s.Client(); string(c.Body) != begun || c.Status != 200 {
				t.Errorf("got %+v", c)
			}
			if n := storedOf(p); n != 2 {
				t.Errorf("%d are found", n)
			}
			s.Finish()
			if n := storedOf(p); n != 1 || s.Client().Ended {
				t.Errorf("%d are found when it has failed", n)
			}
			p.Purge("")
			if n, bytes := p.Stored(); n != 0 || bytes != 0 {
				t.Errorf("%d messages are left, %d bytes", n, bytes)
			}
			if s := p.Do(missRequest("/b"), missAnswer()); s.LogField("l") != "passed" || !s.Client().Ended {
				t.Errorf("the next: %+v", s.Client())
			}
		})
	}
}

// TestMissThenPass: nothing of a miss is left in the next exchange, which goes by because of a pass.
func TestMissThenPass(t *testing.T) {
	plugintest.Run(t, missGuest(missOrder(), missStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(missRequest("/a"), missAnswer("x-store", "1"))
		p.Purge("")
		p.Do(missRequest("/a"), passAnswer("x-record", "1"))
		for _, path := range []string{"/b", "/c"} {
			p.Do(missRequest(path), missAnswer("age", "1"))
			p.Do(missRequest(path), missAnswer())
			before := calls(p)
			s := p.Do(missRequest("/a"), passAnswer())
			if c, after := s.Client(), calls(p); after != before || line(c, "x-edit") != "host" || line(c, "x-gone") != "" || s.LogField("l") != "passed" || storedOf(p) > 3 {
				t.Errorf("after %s: got %+v, calls %+v, before %+v", path, c, after, before)
			}
		}
	})
}

// TestMissTraps: a guest that fails at an answer that it is shown fails the exchange as on_error has it, and one that
// is not there lets nothing by.
func TestMissTraps(t *testing.T) {
	for onError, want := range map[wasmfilter.OnError]int{wasmfilter.OnErrorClose: 503, wasmfilter.OnErrorOpen: 201} {
		o := passOptions
		o.OnError = onError
		plugintest.Run(t, missGuest(missOrder(), missStore()), o, func(t *testing.T, p *plugintest.Plugin) {
			p.Do(missRequest("/a"), missAnswer("x-store", "1"))
			trap := missAnswer("x-trap", "1")
			trap.Status = 201
			for range 20 { // until it is not replaced at once
				if c := p.Do(missRequest("/b"), trap).Client(); c.Status != want {
					t.Errorf("got %d, want %d", c.Status, want)
				}
			}
			answer := missAnswer()
			answer.Status = 201
			s := p.Do(missRequest("/c"), answer) // without an instance
			if c := s.Client(); c.Status != want || s.LogField("l") != "" || line(c, "x-guest") != "" || onError == wasmfilter.OnErrorClose && s.Upstream().Method != "" {
				t.Errorf("without an instance: got %+v, want %d", c, want)
			}
			p.Advance(5 * time.Second)
			before := calls(p)
			if s := p.Do(missRequest("/d"), missAnswer()); s.Client().Status != 200 || s.LogField("l") != "passed" || calls(p) != before {
				t.Errorf("the next: %+v", s.Client())
			}
		})
	}
}
