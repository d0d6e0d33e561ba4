package wasmfilter_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/wasmfilter"

	wt "wproxy/host/wasmtest"
)

// orderGuest gives the order that its configuration is, and traps at the head of a request.
const orderGuest = `(module
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 512) "wproxy.objects.v2.standing")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param $n i32) (result i32) (i32.const 65536))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 1000) (i32.const 600) (i32.const 604)))
    (i32.eqz (call $foreign (i32.const 512) (i32.const 26)
      (i32.load (i32.const 600)) (i32.load (i32.const 604)) (i32.const 608) (i32.const 612))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (unreachable)))`

// orderRoot starts an orderGuest with an order.
func orderRoot(tb testing.TB, now func() time.Time, o abi.ObjectStanding) (*host.Plugin, *host.Root) {
	tb.Helper()
	wasm, err := wt.WAT(orderGuest)
	if err != nil {
		tb.Fatal(err)
	}
	h, err := host.NewHost(host.HostOptions{Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { h.Close() })
	p, err := h.Load(context.Background(), wasm, host.PluginOptions{Name: "p", Instances: 1, Grants: []string{host.GrantObjects, host.GrantMetrics}})
	if err != nil {
		tb.Fatal(err)
	}
	root, err := p.NewRoot(context.Background(), o.Append(nil))
	if err != nil {
		tb.Fatal(err)
	}
	return p, root
}

// standingOrder returns an order as a host has it.
func standingOrder(tb testing.TB, now func() time.Time, o abi.ObjectStanding) *host.StandingLookup {
	tb.Helper()
	_, root := orderRoot(tb, now, o)
	return root.StandingLookup()
}

// A repeater is a plugin that answers with what is stored. What is under the key of a request is a message, or says
// by the metadata "variants" that there is one for each x. It answers if-none-match with 304, and range with the
// bytes 1 and 2.
type repeater struct {
	*plugin
	order *host.StandingLookup
	space *objects.Space
	now   atomic.Int64

	entered atomic.Int64             // how often the guest was
	edit    func(c *call)            // before it answers; nil: nothing
	change  func(s *abi.ObjectServe) // of what it answers; nil: nothing
	between func()                   // between its look-up and its answer; nil: nothing
	pool    sync.Pool                // of *repeatClient
}

const repeaterKey = "http://example.com/a\nr"

func newRepeater(tb testing.TB) *repeater {
	tb.Helper()
	r := &repeater{}
	r.now.Store(1000)
	now := func() time.Time { return time.Unix(r.now.Load(), 0) }
	r.order = standingOrder(tb, now, abi.ObjectStanding{
		Absent: []string{"cookie"}, Repeats: []string{"Range", "if-none-match"}, AgeField: "age", TTLField: "ttl", TTLPrefix: "left ",
		LogField: "l", LogValue: "hit", CounterHead: "n;route=",
	})
	r.space = objects.New(objects.Options{Now: now}).Space("a")
	r.plugin = newPlugin("p", script{onReqHeaders: r.answer}, fakeOptions{})
	r.Order(r.order, r.space)
	r.pool.New = func() any { return &repeatClient{} }
	return r
}

// put stores a message, good for 100 seconds.
func (r *repeater) put(key, etag string) {
	r.space.PutWhole(key, &objects.Whole{Body: []byte("body " + etag), Record: objects.Record{
		Status: 200, Fields: objects.Pack(objects.Field{Name: "etag", Value: etag}), Meta: []byte(etag),
		Promise: objects.Promise{Since: r.now.Load(), Lifetime: 100},
	}})
}

func (r *repeater) putVariants() {
	r.space.Put(repeaterKey, objects.Record{Meta: []byte("variants")}, nil)
}

// record returns that of a key.
func (r *repeater) record(key string) *objects.Record {
	o := r.space.Find(key)
	if o == nil {
		return &objects.Record{}
	}
	defer o.Release()
	return o.Record()
}

// answer is the guest's callback.
func (r *repeater) answer(c *call, _ int, _ bool) abi.Action {
	r.entered.Add(1)
	h, ok := c.Stream.(host.ObjectStream)
	if !ok {
		return abi.Continue
	}
	head := c.Map(abi.MapRequestHeaders)
	path, _ := head.Get(":path")
	key, names := "http://example.com"+path+"\nr", []string(nil)
	look := func() (meta string, ok bool) {
		b, status := h.Object(host.ObjectLookup, nil, []byte(key))
		if status != abi.StatusOK {
			return "", false
		}
		info, err := abi.ParseObjectInfo(b)
		return string(info.Meta), err == nil && info.Whole
	}
	meta, ok := look()
	if ok && meta == "variants" {
		x, _ := head.Get("x")
		key, names = key+"\nvary"+x, []string{"X"}
		meta, ok = look()
	}
	if !ok {
		return abi.Continue
	}
	s := abi.ObjectServe{Key: key, Length: -1, Repeat: string(abi.AppendNames(nil, names)), Edits: []abi.FieldEdit{
		{Op: abi.FieldSet, Name: "age", Value: "guest"}, {Op: abi.FieldSet, Name: "Ttl", Value: "guest"}, {Op: abi.FieldSet, Name: "by", Value: "guest"},
	}}
	if tag, ok := head.Get("if-none-match"); ok && tag == meta {
		s.Status, s.HeadOnly = 304, true
	} else if _, ok := head.Get("range"); ok {
		s.Status, s.Offset, s.Length = 206, 1, 2
	}
	if r.edit != nil {
		r.edit(c)
	}
	if r.change != nil {
		r.change(&s)
	}
	if r.between != nil {
		r.between()
	}
	if _, status := h.Object(host.ObjectServe, nil, s.Append(nil)); status != abi.StatusOK {
		return abi.Continue
	}
	return abi.Pause
}

// A repeatClient makes exchanges, one after the other.
type repeatClient struct {
	noEngine
	x       filter.Exchange
	request exchange.Request
	route   filter.Route

	status             int
	etag, age, ttl, by string
	body               []byte
}

func (c *repeatClient) Stream(_ filter.Filter, _ *exchange.Response, _ string, p filter.Pusher) error {
	return p.Push(c)
}
func (*repeatClient) MayFill(filter.Filling) bool { return false }
func (*repeatClient) Fill(filter.Filling) bool    { return false }
func (*repeatClient) Filled()                     {}
func (*repeatClient) Refresh(filter.Filter) bool  { return false }

func (c *repeatClient) Head(h *exchange.Response, _ bool) error {
	c.status, c.etag = h.Status, h.Fields.Value("etag")
	c.age, c.ttl, c.by = h.Fields.Value("age"), h.Fields.Value("ttl"), h.Fields.Value("by")
	return nil
}
func (c *repeatClient) Data(p []byte, _ bool) error  { c.body = append(c.body, p...); return nil }
func (*repeatClient) Trailer(*exchange.Fields) error { return nil }

// ask makes an exchange with c, and reports whether it was answered.
func (r *repeater) ask(c *repeatClient, method, target string, fields ...exchange.Field) bool {
	c.request.Reset()
	c.request.Method, c.request.Scheme, c.request.Authority = method, "http", "example.com"
	if err := c.request.ParseTarget(target); err != nil {
		panic(err)
	}
	for _, f := range fields {
		c.request.Fields.Add(f.Name, f.Value)
	}
	c.route.Name = "r"
	c.x.Reset()
	c.x.Context, c.x.Request, c.x.Route, c.x.Engine = context.Background(), &c.request, &c.route, c
	c.status, c.etag, c.age, c.ttl, c.by, c.body = 0, "", "", "", "", c.body[:0]
	f, err := r.New(&c.x)
	if err != nil {
		panic(err)
	}
	f.Response(c)
	err = f.Request(requestEnd{}).Head(&c.request, true)
	f.Close(nil)
	return errors.Is(err, exchange.ErrAnswered)
}

// get is ask by a client of its own, whose answer it returns, and how often the guest was entered.
func (r *repeater) get(method, target string, fields ...exchange.Field) (got string, entered int64) {
	before := r.entered.Load()
	c := &repeatClient{}
	if !r.ask(c, method, target, fields...) {
		return "none", r.entered.Load() - before
	}
	return fmt.Sprintf("%d %s %s", c.status, c.etag, c.body), r.entered.Load() - before
}

func field(nameAndValue ...string) (out []exchange.Field) {
	for i := 0; i < len(nameAndValue); i += 2 {
		out = append(out, exchange.Field{Name: nameAndValue[i], Value: nameAndValue[i+1]})
	}
	return out
}

// TestRepeat: what a guest has answered is answered without it from the third time on; to nobody whose request
// differs in what counts, and until something about it is not as it was.
func TestRepeat(t *testing.T) {
	t.Parallel()
	variant := repeaterKey + "\nvary1"
	ask := field("if-none-match", "1", "x", "1")
	for name, tc := range map[string]struct {
		method string           // ""; GET
		fields []exchange.Field // of the request after the change; nil: the same
		target string           // likewise
		change func(r *repeater)
		want   string
		alone  bool
	}{
		"nothing is different":         {alone: true, want: "304 1 "},
		"what does not count":          {fields: field("x-b", "1", "if-none-match", "1", "x-a", "2", "x", "1"), alone: true, want: "304 1 "},
		"another method":               {method: "HEAD", want: "304 1 "},
		"another value":                {fields: field("if-none-match", "2", "x", "1"), want: "200 1 body 1"},
		"a part of it":                 {fields: field("if-none-match", "1", "range", "x", "x", "1"), want: "304 1 "},
		"a value in another case":      {fields: field("if-none-match", "1 ", "x", "1"), want: "200 1 body 1"},
		"another order":                {fields: field("x", "1", "if-none-match", "1"), want: "304 1 "},
		"a line more":                  {fields: field("if-none-match", "1", "if-none-match", "1", "x", "1"), want: "304 1 "},
		"a line less":                  {fields: field("x", "1"), want: "200 1 body 1"},
		"another variant":              {fields: field("if-none-match", "1", "x", "2"), want: "none"},
		"lines that share their bytes": {fields: field("if-none-match", "1x", "x", "1"), want: "200 1 body 1"},
		"another target":               {target: "/b", want: "none"},
		"what the order is not about":  {fields: field("if-none-match", "1", "x", "1", "cookie", "1"), want: "304 1 "},
		"the message stored anew":      {change: func(r *repeater) { r.put(variant, "1") }, want: "304 1 "},
		"a newer message":              {change: func(r *repeater) { r.put(variant, "2") }, want: "200 2 body 2"},
		"the message gone":             {change: func(r *repeater) { r.space.Delete(variant) }, want: "none"},
		"all of it gone":               {change: func(r *repeater) { r.space.DeletePrefix("http://example.com/a\n") }, want: "none"},
		"what leads to it gone":        {change: func(r *repeater) { r.space.Delete(repeaterKey) }, want: "none"},
		"what leads to it stored anew": {change: func(r *repeater) { r.putVariants() }, want: "304 1 "},
		"a message in its place":       {change: func(r *repeater) { r.put(repeaterKey, "3") }, want: "200 3 body 3"},
		"the promise over":             {change: func(r *repeater) { r.now.Add(100) }, want: "304 1 "},
		"the promise not quite over":   {change: func(r *repeater) { r.now.Add(99) }, alone: true, want: "304 1 "},
		"the message updated": {change: func(r *repeater) {
			o := r.space.Get(variant)
			defer o.Release()
			r.space.Update(o, objects.Record{Status: 200, Meta: []byte("4"), Promise: o.Record().Promise})
		}, want: "200  body 1"},
		"what leads to it updated": {change: func(r *repeater) {
			o := r.space.Get(repeaterKey)
			defer o.Release()
			r.space.Update(o, objects.Record{Meta: []byte("variants")})
		}, want: "304 1 "},
		"another order of the plugin": {change: func(r *repeater) {
			r.Order(standingOrder(t, func() time.Time { return time.Unix(1000, 0) }, r.order.ObjectStanding), r.space)
		}, want: "304 1 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRepeater(t)
			r.putVariants()
			r.put(variant, "1")
			for i, want := range []int64{1, 1, 0, 0} {
				if got, entered := r.get("GET", "/a", ask...); got != "304 1 " || entered != want {
					t.Fatalf("the answer %d: %q, the guest entered %d times", i, got, entered)
				}
			}
			if tc.change != nil {
				tc.change(r)
			}
			fields, method, target := tc.fields, tc.method, tc.target
			if fields == nil {
				fields = ask
			}
			if method == "" {
				method = "GET"
			}
			if target == "" {
				target = "/a"
			}
			got, entered := r.get(method, target, fields...)
			if got != tc.want || (entered == 0) != tc.alone {
				t.Errorf("got %q, the guest entered %d times, want %q", got, entered, tc.want)
			}
		})
	}
}

// TestRepeatAnswers: status, range, head and body are as the guest had them, but for the two fields that are
// numbers; log and metrics are as for every answer by order.
func TestRepeatAnswers(t *testing.T) {
	t.Parallel()
	r := newRepeater(t)
	r.put(repeaterKey, "1")
	for _, tc := range []struct {
		method string
		fields []exchange.Field
		want   string
	}{
		{"GET", field("range", "x"), "206 1 od"},
		{"HEAD", field("range", "x"), "206 1 "},
		{"GET", field("if-none-match", "1"), "304 1 "},
		{"GET", field("if-none-match", "0"), "200 1 body 1"},
		{"HEAD", field("if-none-match", "0"), "200 1 "},
	} {
		var c repeatClient
		for i := range 5 {
			before := r.entered.Load()
			r.now.Store(1000 + int64(i))
			if !r.ask(&c, tc.method, "/a", tc.fields...) {
				t.Fatal("no answer")
			}
			alone := r.entered.Load() == before
			if got := fmt.Sprintf("%d %s %s", c.status, c.etag, c.body); got != tc.want || alone != (i > 1) || c.by != "guest" {
				t.Errorf("%v: the answer %d: %q, alone %t, want %q", tc, i, got, alone, tc.want)
			}
			if age, ttl := strconv.Itoa(i), "left "+strconv.Itoa(100-i); alone && (c.age != age || c.ttl != ttl) {
				t.Errorf("age %q, ttl %q after %d seconds", c.age, c.ttl, i)
			}
			if alone && (len(c.x.LogFields) != 1 || c.x.LogFields[0] != (exchange.Field{Name: "l", Value: "hit"}) || len(c.x.Verdicts) != 1) {
				t.Errorf("the log would say %+v, %+v", c.x.LogFields, c.x.Verdicts)
			}
		}
	}
	if n := wasmfilter.Repeats(r.record(repeaterKey)); n != 5 {
		t.Errorf("%d answers are repeated", n)
	}
	if got, entered := r.get("GET", "/a"); entered != 0 || got != "200 1 body 1" {
		t.Errorf("a plain hit: %q, the guest entered %d times", got, entered)
	}
}

// TestRepeatNot: what a guest says of an answer counts only where it has judged what is there, and within bounds.
func TestRepeatNot(t *testing.T) {
	t.Parallel()
	many := func(n int) (out []exchange.Field) {
		for i := range n {
			out = append(out, exchange.Field{Name: "if-none-match", Value: strconv.Itoa(i)})
		}
		return out
	}
	edits := func(n int, value string) func(s *abi.ObjectServe) {
		return func(s *abi.ObjectServe) {
			for i := range n - len(s.Edits) {
				s.Edits = append(s.Edits, abi.FieldEdit{Name: "e" + strconv.Itoa(i), Value: value})
			}
		}
	}
	names := func(list ...string) func(s *abi.ObjectServe) {
		return func(s *abi.ObjectServe) { s.Repeat = string(abi.AppendNames(nil, list)) }
	}
	for name, tc := range map[string]struct {
		fields []exchange.Field
		set    func(r *repeater)
		alone  bool
	}{
		"as many lines as may be": {fields: many(wasmfilter.MaxRepeatLines), alone: true},
		"a line more":             {fields: many(wasmfilter.MaxRepeatLines + 1)},
		"a long line":             {fields: field("range", strings.Repeat("x", abi.MaxRepeatText-100)), alone: true},
		"a longer line":           {fields: field("range", strings.Repeat("x", abi.MaxRepeatText))},
		"a large head":            {fields: append(make([]exchange.Field, wasmfilter.MaxRepeatHead-1), field("range", "x")...), alone: true},
		"a larger head":           {fields: append(make([]exchange.Field, wasmfilter.MaxRepeatHead), field("range", "x")...)},
		"as many edits as may be": {set: func(r *repeater) { r.change = edits(wasmfilter.MaxRepeatEdits, "") }, alone: true},
		"an edit more":            {set: func(r *repeater) { r.change = edits(wasmfilter.MaxRepeatEdits+1, "") }},
		"a long edit":             {set: func(r *repeater) { r.change = edits(4, strings.Repeat("x", abi.MaxRepeatText)) }},
		"names":                   {set: func(r *repeater) { r.change = names("accept", "Accept-Language") }, alone: true},
		"long names":              {set: func(r *repeater) { r.change = names(strings.Repeat("x", abi.MaxRepeatText)) }},
		"no name of a field":      {set: func(r *repeater) { r.change = names("accept", ":scheme") }},
		"nothing said":            {set: func(r *repeater) { r.change = func(s *abi.ObjectServe) { s.Repeat = "" } }},
		"no promise": {set: func(r *repeater) {
			r.space.Put(repeaterKey, objects.Record{Status: 200, Meta: []byte("1")}, nil)
		}},
		"not whole": {set: func(r *repeater) {
			r.space.Fill(repeaterKey, objects.FillOptions{Record: objects.Record{Status: 200, Meta: []byte("1"), Promise: objects.Promise{Lifetime: 10_000}}, Length: -1})
		}},
		"a request that it has edited":    {set: func(r *repeater) { r.edit = func(c *call) { c.Map(abi.MapRequestHeaders).Set("range", "y") } }},
		"what was stored after it looked": {set: func(r *repeater) { r.between = func() { r.put(repeaterKey, "1") } }},
		"what was updated after it looked": {set: func(r *repeater) {
			r.between = func() {
				o := r.space.Get(repeaterKey)
				defer o.Release()
				u := *o.Record()
				u.Note = nil
				r.space.Update(o, u)
			}
		}},
		"what it has not looked up": {set: func(r *repeater) {
			r.put("other", "1")
			r.change = func(s *abi.ObjectServe) { s.Key = "other" }
		}},
		"a note of another kind": {set: func(r *repeater) {
			r.space.Put(repeaterKey, objects.Record{Status: 200, Meta: []byte("1"), Promise: objects.Promise{Lifetime: 10_000}, Note: note{}}, nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRepeater(t)
			r.put(repeaterKey, "1")
			if tc.set != nil {
				tc.set(r)
			}
			fields := tc.fields
			if fields == nil {
				fields = field("range", "x")
			}
			alone := false
			for range 5 {
				_, entered := r.get("GET", "/a", fields...)
				alone = entered == 0
			}
			if n := wasmfilter.Repeats(r.record(repeaterKey)); alone != tc.alone || (n > 0) != tc.alone {
				t.Errorf("answered alone: %t, %d answers are kept", alone, n)
			}
		})
	}
}

type note struct{}

func (note) Size() int64 { return 1 }

// TestRepeatNames: of a guest that chooses by other names than before, only what it says now is repeated.
func TestRepeatNames(t *testing.T) {
	t.Parallel()
	r := newRepeater(t)
	r.put(repeaterKey, "1")
	ask := func(fields ...exchange.Field) int64 {
		_, entered := r.get("GET", "/a", append(fields, field("range", "x")...)...)
		return entered
	}
	a, b := field("a", "1")[0], field("b", "1")[0]
	r.change = func(s *abi.ObjectServe) { s.Repeat = string(abi.AppendNames(nil, []string{"a"})) }
	ask(a)
	ask(a)
	if ask(a) != 0 || ask(a, b) != 0 || ask(b) == 0 {
		t.Error("it is not by a alone")
	}
	r.change = func(s *abi.ObjectServe) { s.Repeat = string(abi.AppendNames(nil, []string{"b"})) }
	ask(b)
	ask(b)
	if ask(b) != 0 || ask(a, b) != 0 || ask(a) == 0 {
		t.Error("it is not by b alone")
	}
	ask(a)                                                      // that it was asked for before may be forgotten for another of the same hash
	if n := wasmfilter.Repeats(r.record(repeaterKey)); n != 2 { // with b, and without
		t.Errorf("%d answers are kept", n)
	}
}

// TestRepeatFlood: who asks for something else each time, once or twice, takes a bounded part of the memory, and
// none of it from those who ask for the same all the while.
func TestRepeatFlood(t *testing.T) {
	t.Parallel()
	r := newRepeater(t)
	r.put(repeaterKey, "1")
	popular := field("if-none-match", "1")
	for range 3 {
		r.get("GET", "/a", popular...)
	}
	record := r.record(repeaterKey)
	for i := range 5000 {
		r.get("GET", "/a", field("if-none-match", "u"+strconv.Itoa(i))...)
	}
	if now := r.record(repeaterKey); now != record {
		t.Errorf("%d answers are kept for requests that were made once", wasmfilter.Repeats(now))
	}
	for i := range 2000 {
		for range 2 {
			r.get("GET", "/a", field("if-none-match", "t"+strconv.Itoa(i))...)
		}
		if _, entered := r.get("GET", "/a", popular...); entered != 0 {
			t.Fatalf("%d others have had the guest entered for what is asked for all the while", i)
		}
	}
	now := r.record(repeaterKey)
	if n := wasmfilter.Repeats(now); n != wasmfilter.MaxRepeats {
		t.Errorf("%d answers are kept", n)
	}
	if n := now.Note.Size(); n > wasmfilter.MaxRepeats*1024 {
		t.Errorf("they take %d bytes", n)
	}
	r.space.DeletePrefix("")
	if n, _ := r.space.Used(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// TestRepeatHammer: of clients that ask all the while for a message that is replaced, updated and removed all the while,
// none is told of one that was there before the last, nor that what it has is the last when it is not.
func TestRepeatHammer(t *testing.T) {
	t.Parallel()
	r := newRepeater(t)
	var current atomic.Int64 // the version that was there, at least
	variant := func(x int) string { return repeaterKey + "\nvary" + strconv.Itoa(x) }
	set := func(version int64, stored func()) {
		stored()
		current.Store(version)
	}
	r.putVariants()
	done := make(chan struct{})
	var clients sync.WaitGroup
	var alone, answers atomic.Int64
	for seed := range uint64(4) {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // the same each time
			var c repeatClient
			for {
				select {
				case <-done:
					return
				default:
				}
				at := current.Load()
				tag := strconv.FormatInt(at-int64(random.IntN(2)), 10)
				list := field("x", strconv.Itoa(random.IntN(2)))
				if random.IntN(2) == 0 {
					list = append(list, field("if-none-match", tag)...)
				}
				before := r.entered.Load()
				if !r.ask(&c, "GET", "/a", list...) {
					continue
				}
				answers.Add(1)
				if r.entered.Load() == before {
					alone.Add(1)
				}
				got, err := strconv.ParseInt(c.etag, 10, 64)
				switch {
				case err != nil || got < at:
					t.Errorf("got version %q, %d was there before", c.etag, at)
				case c.status == 304 && (len(list) < 2 || tag != c.etag || len(c.body) > 0):
					t.Errorf("got %d, %q for version %s, which asks for %v", c.status, c.body, c.etag, list)
				case c.status == 200 && !strings.HasPrefix(string(c.body), "body "):
					t.Errorf("got %q for version %s", c.body, c.etag)
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 4)) //nolint:gosec // the same each time
	for version := int64(1); version < 100; version++ {
		tag := strconv.FormatInt(version, 10)
		set(version, func() {
			if random.IntN(4) == 0 {
				r.space.DeletePrefix("http://example.com/a\n")
				r.putVariants()
			}
			for x := range 2 {
				o := r.space.Get(variant(x))
				if o == nil || random.IntN(3) > 0 {
					r.put(variant(x), tag)
				} else {
					r.space.Update(o, objects.Record{
						Status: 200, Fields: objects.Pack(objects.Field{Name: "etag", Value: tag}), Meta: []byte(tag), Promise: o.Record().Promise,
					})
				}
				if o != nil {
					o.Release()
				}
			}
		})
		for n := answers.Load() + 20; answers.Load() < n && !t.Failed(); { // each version is asked for
			runtime.Gosched()
		}
	}
	close(done)
	clients.Wait()
	if alone.Load() == 0 {
		t.Error("nothing was answered without the guest")
	}
	t.Logf("%d of %d answers without the guest", alone.Load(), answers.Load())
	r.space.DeletePrefix("")
	if n, _ := r.space.Used(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}
