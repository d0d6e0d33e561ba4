package wasmfilter_test

import (
	"context"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
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
)

// A missEngine has answers stored, as the proxy's engine does. It is that of one exchange.
type missEngine struct {
	noEngine
	unable  bool // the response is no upstream's
	out     exchange.Sink[*exchange.Response]
	filling filter.Filling
	fills   sync.WaitGroup
}

func (e *missEngine) Stream(_ filter.Filter, _ *exchange.Response, _ string, p filter.Pusher) error {
	return p.Push(e.out)
}

func (e *missEngine) Fill(f filter.Filling) bool {
	if e.unable {
		return false
	}
	e.filling = f
	e.fills.Add(1)
	return true
}

func (e *missEngine) MayFill(f filter.Filling) bool {
	if e.unable {
		return false
	}
	e.filling = f
	return true
}

func (e *missEngine) Filled()                  { e.fills.Done() }
func (*missEngine) Refresh(filter.Filter) bool { return false }

// cut says that no more of the response will come, and waits for the client.
func (e *missEngine) cut(err error) {
	if e.filling != nil {
		e.filling.Cut(err)
	}
	e.fills.Wait()
}

// A missRoom is a plugin and what it stores, without a proxy.
type missRoom struct {
	*wasmfilter.Factory
	root  *host.Root
	space *objects.Space
}

func newMissRoom(tb testing.TB, order abi.ObjectStanding, store abi.ObjectStore, now func() time.Time) *missRoom {
	tb.Helper()
	h, err := host.NewHost(host.HostOptions{Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { h.Close() })
	p, err := h.Load(context.Background(), missGuest(order, store), host.PluginOptions{Name: "p", Instances: 2, Grants: passOptions.Grants})
	if err != nil {
		tb.Fatal(err)
	}
	root, err := p.NewRoot(context.Background(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	objs := objects.New(objects.Options{Now: now})
	f := wasmfilter.New(root, wasmfilter.Options{Objects: objs})
	f.SetNow(now)
	return &missRoom{f, root, objs.Space(p.VMID())}
}

// A missClient is where answers arrive that are passed on by whatever goroutine; it leaves after some calls.
type missClient struct {
	leaves int // 0: never
	status int
	edit   string
	body   []byte
	ended  bool
}

func (c *missClient) gone() error {
	if c.leaves--; c.leaves == 0 {
		return exchange.ErrReset
	}
	return nil
}

func (c *missClient) Head(h *exchange.Response, end bool) error {
	c.status, c.edit, c.ended = h.Status, h.Fields.Value("x-edit"), end
	return c.gone()
}

func (c *missClient) Data(p []byte, end bool) error {
	c.body, c.ended = append(c.body, p...), end
	return c.gone()
}

func (c *missClient) Trailer(*exchange.Fields) error {
	c.ended = true
	return c.gone()
}

// A missExchange is one of a missRoom's.
type missExchange struct {
	x      filter.Exchange
	engine missEngine
	client missClient
	f      filter.Filter
	resp   exchange.Response
}

var missRoute = &filter.Route{Name: "r"}

// open sends a request for a path; answered: the upstream does not get it.
func (e *missExchange) open(ctx context.Context, tb testing.TB, r *missRoom, path string, more ...exchange.Field) (answered bool) {
	tb.Helper()
	e.engine, e.client = missEngine{unable: e.engine.unable}, missClient{leaves: e.client.leaves}
	req := &exchange.Request{Method: "GET", Scheme: "http"}
	if req.ParseAuthority("example.com") != nil || req.ParseTarget(path) != nil {
		tb.Fatal(path)
	}
	for _, l := range more {
		req.Fields.Add(l.Name, l.Value)
	}
	e.x.Reset()
	e.x.Context, e.x.Request, e.x.Route, e.x.Engine = ctx, req, missRoute, &e.engine //nolint:fatcontext // replaced for each exchange, never nested
	e.x.SetRequestRun()
	f, err := r.New(&e.x)
	if err != nil {
		tb.Fatal(err)
	}
	e.f = f
	in := f.Request(requestEnd{})
	e.engine.out = f.Response(&e.client)
	err = in.Head(req, true)
	if err != nil && !errors.Is(err, exchange.ErrAnswered) && !errors.Is(err, exchange.ErrReset) {
		tb.Errorf("the request failed: %v", err) // and the client, or what it has got, is not gone
	}
	return err != nil
}

// head sends the head of the answer.
func (e *missExchange) head(length int64, end bool, lines ...exchange.Field) error {
	e.resp.Reset()
	e.resp.Status, e.resp.Length = 200, length
	for _, l := range lines {
		e.resp.Fields.Add(l.Name, l.Value)
	}
	e.x.Response = &e.resp
	return e.engine.out.Head(&e.resp, end)
}

// close ends the exchange, whose answer has ended or has failed.
func (e *missExchange) close(err error) {
	e.engine.cut(err)
	e.f.Close(err)
}

// modelMeta is the metadata that missStore's model makes.
func modelMeta(now, age, date int64, etag, gone string) string {
	b := []byte("<")
	for _, n := range []int64{now, age, date, 60} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, s := range []string{etag, gone, ""} {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return string(append(b, '>'))
}

// teach has the guest store an answer with a model.
func (r *missRoom) teach(tb testing.TB, e *missExchange) {
	tb.Helper()
	e.open(context.Background(), tb, r, "/a")
	if err := e.head(0, true, exchange.Field{Name: "etag", Value: "1"}, exchange.Field{Name: "x-store", Value: "1"}); err != nil {
		tb.Fatal(err)
	}
	e.close(nil)
	if r.space.DeletePrefix("") != 1 {
		tb.Fatal("nothing was stored")
	}
}

// teachRefusal has the guest refuse an answer with a model.
func (r *missRoom) teachRefusal(tb testing.TB, e *missExchange) {
	tb.Helper()
	e.open(context.Background(), tb, r, "/a")
	if err := e.head(0, true, exchange.Field{Name: "set-cookie", Value: "1"}, exchange.Field{Name: "x-refuse", Value: "1"}); err != nil {
		tb.Fatal(err)
	}
	e.close(nil)
	if r.space.DeletePrefix("") != 1 {
		tb.Fatal("nothing was refused")
	}
}

// TestModelRecord: what is stored by a model, byte for byte.
func TestModelRecord(t *testing.T) {
	now := time.Unix(passTime, 0)
	for _, joins := range []bool{false, true} {
		order := missOrder()
		order.Joins = joins
		r := newMissRoom(t, order, missStore(), func() time.Time { return now })
		var e missExchange
		r.teach(t, &e)
		for name, tc := range map[string]struct {
			unable, end, stored bool
			date                string
			age, at             int64
		}{
			"with a body":      {false, false, true, "Sat, 01 Jan 2000 00:00:00 GMT", 7, passTime},
			"without":          {false, true, true, "Fri, 31 Dec 1999 23:59:59 GMT", 8, passTime - 1},
			"without a date":   {false, false, true, "", 4, passTime + 7},
			"no upstream's":    {true, false, false, "", 0, 0},
			"nor has it bytes": {true, true, true, "Sat, 01 Jan 2000 00:00:05 GMT", 4, passTime + 5},
		} {
			now = time.Unix(passTime+3, 0)
			e.engine.unable = tc.unable
			path := "/b?" + strings.ReplaceAll(name, " ", "-")
			if e.open(t.Context(), t, r, path) {
				t.Fatal("it does not go by")
			}
			now = time.Unix(passTime+7, 0)
			lines := []exchange.Field{{Name: "x-gone", Value: "1"}, {Name: "content-length", Value: "5"}, {Name: "etag", Value: `"2"`}, {Name: "etag", Value: "3"}}
			want := []objects.Field{{Name: "etag", Value: `"2"`}, {Name: "etag", Value: "3"}}
			if tc.date != "" {
				lines = append(lines, exchange.Field{Name: "date", Value: tc.date})
				want = append(want, objects.Field{Name: "date", Value: tc.date})
			}
			want = append(want, objects.Field{Name: "x-edit", Value: "host"})
			length := int64(5)
			if tc.end {
				length = 0
			}
			if err := e.head(length, tc.end, lines...); err != nil {
				t.Fatal(err)
			}
			if tc.unable && !tc.end && r.space.Flying("http://example.com"+path+"\nr") {
				t.Errorf("%s: others wait for what is not stored", name)
			}
			if !tc.end {
				if detached := e.engine.out.(exchange.Detacher).Detached(); detached == tc.stored {
					t.Errorf("%s: out of the way: %t", name, detached)
				}
				if err := e.engine.out.Data([]byte("12345"), true); err != nil {
					t.Fatal(err)
				}
			}
			e.close(nil)
			if c := e.client; c.status != 200 || c.edit != "host" || !c.ended || len(c.body) != int(length) {
				t.Errorf("%s: the client got %+v", name, c)
			}
			o := r.space.Get("http://example.com" + path + "\nr")
			if (o != nil) != tc.stored {
				t.Errorf("%s: stored %t", name, o != nil)
			}
			if o == nil {
				continue
			}
			record := objects.Record{
				Status: 200, Fields: objects.Pack(want...), Meta: []byte(modelMeta(passTime+7, tc.age, tc.at, `"2"`, "1")),
				Gone:    time.Unix(passTime+7+60-tc.age+30, 0),
				Promise: objects.Promise{Since: passTime + 7, Age: tc.age, Lifetime: 60},
			}
			r := o.Record()
			got := objects.Record{Status: r.Status, Fields: r.Fields, Meta: r.Meta, Gone: r.Gone, Promise: r.Promise, Note: r.Note}
			if !reflect.DeepEqual(got, record) {
				t.Errorf("%s: stored %+v, want %+v", name, got, record)
			}
			if n, whole := o.Length(); n != length || !whole {
				t.Errorf("%s: %d bytes, whole %t", name, n, whole)
			}
			o.Release()
		}
	}
}

// TestMissHammer: of many that want the same at once one asks the upstream, and all get what there is. However
// exchanges end, nobody waits for ever, and nothing is held on to.
func TestMissHammer(t *testing.T) {
	r := newMissRoom(t, missOrder(), missStore(), time.Now)
	const rounds, workers = 60, 8
	var exchanges [workers]missExchange
	r.teach(t, &exchanges[0])
	body := []byte("0123456789")
	for round := range rounds {
		r.space.DeletePrefix("")
		how := round % 5 // what becomes of those that ask the upstream
		var asked, whole, cut atomic.Int32
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for w := range workers {
			e := &exchanges[w]
			e.client.leaves = 0
			if how == 4 && w%2 == 0 {
				e.client.leaves = 1 + round%3
			}
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				<-begin
				if e.open(ctx, t, r, "/a") {
					e.close(nil)
					if e.client.ended && string(e.client.body) == string(body) {
						whole.Add(1)
					}
					return
				}
				n := asked.Add(1)
				for range round % 7 * 50 { // others come before, while or after it is answered
					runtime.Gosched()
				}
				if how == 1 && n < 3 { // nothing comes
					e.close(exchange.ErrReset)
					cut.Add(1)
					return
				}
				lines := []exchange.Field{{Name: "etag", Value: "1"}}
				if how == 2 { // none of them is like it
					lines = append(lines, exchange.Field{Name: "age", Value: "1"})
				}
				failed := func(err error) bool {
					if err != nil {
						if how != 4 || !errors.Is(err, exchange.ErrReset) { // the client has left
							t.Error(err)
						}
						e.close(err)
					}
					return err != nil
				}
				if failed(e.head(int64(len(body)), false, lines...)) {
					return
				}
				for i := range body {
					if how == 3 && i == 5 && n < 3 { // it breaks off
						e.close(exchange.ErrReset)
						cut.Add(1)
						return
					}
					if failed(e.engine.out.Data(body[i:i+1], i == len(body)-1)) {
						return
					}
				}
				e.close(nil)
				if e.client.ended && string(e.client.body) == string(body) {
					whole.Add(1)
				}
			})
		}
		close(begin)
		wg.Wait()
		if how == 0 && asked.Load() != 1 {
			t.Errorf("round %d: the upstream was asked %d times", round, asked.Load())
		}
		if how < 3 && whole.Load()+cut.Load() != workers {
			t.Errorf("round %d: %d have got all, %d nothing", round, whole.Load(), cut.Load())
		}
		if r.space.Flying(passKey) {
			t.Fatalf("round %d: a flight is left", round)
		}
	}
	r.space.DeletePrefix("")
	if bytes, n := r.space.Used(); bytes != 0 || n != 0 {
		t.Errorf("%d objects are left, %d bytes", n, bytes)
	}
}

// TestMissAnsweredBefore: an answer that comes before its request, as another plugin holds that, is not the plugin's,
// and the flight that the request leads nevertheless ends with it.
func TestMissAnsweredBefore(t *testing.T) {
	r := newMissRoom(t, missOrder(), missStore(), time.Now)
	var e missExchange
	r.teach(t, &e)
	for range 3 {
		var client missClient
		req := &exchange.Request{Method: "GET", Scheme: "http"}
		if req.ParseAuthority("example.com") != nil || req.ParseTarget("/a") != nil {
			t.Fatal()
		}
		e.x.Reset()
		e.x.Context, e.x.Request, e.x.Route, e.x.Engine = t.Context(), req, missRoute, &e.engine
		e.x.SetRequestRun()
		f, err := r.New(&e.x)
		if err != nil {
			t.Fatal(err)
		}
		in := f.Request(requestEnd{})
		e.engine.out = f.Response(&client)
		if err := e.head(0, true, exchange.Field{Name: "etag", Value: "1"}); err != nil || client.edit != "" {
			t.Errorf("%v, the client got %+v", err, client)
		}
		if err := in.Head(req, true); err != nil || !r.space.Flying(passKey) {
			t.Errorf("%v, the request does not lead", err)
		}
		f.Close(nil)
		if _, n := r.space.Used(); n != 0 || r.space.Flying(passKey) {
			t.Errorf("%d are stored, or a flight is left", n)
		}
		if e.open(t.Context(), t, r, "/a") || e.head(0, true, exchange.Field{Name: "etag", Value: "1"}) != nil || e.client.edit != "host" {
			t.Errorf("the next got %+v", e.client)
		}
		e.close(nil)
		r.space.Delete(passKey)
	}
}

// TestMissOnce: who finds nothing, and leads because what was on its way has come meanwhile, does not ask
// for it again.
func TestMissOnce(t *testing.T) {
	r := newMissRoom(t, missOrder(), missStore(), time.Now)
	var exchanges [4]missExchange
	r.teach(t, &exchanges[0])
	var asked atomic.Int32
	deadline := time.Now().Add(150 * time.Millisecond)
	for round := 0; time.Now().Before(deadline); round++ {
		r.space.DeletePrefix("")
		asked.Store(0)
		var wg sync.WaitGroup
		for i := range exchanges {
			e := &exchanges[i]
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if !e.open(ctx, t, r, "/a") {
					asked.Add(1)
					if err := e.head(0, true, exchange.Field{Name: "etag", Value: "1"}); err != nil {
						t.Error(err)
					}
				}
				e.close(nil)
			})
		}
		wg.Wait()
		if n := asked.Load(); n != 1 {
			t.Fatalf("round %d: the upstream was asked %d times", round, n)
		}
	}
}
