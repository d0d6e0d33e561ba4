package wasmfilter_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/wasmfilter"
)

// A fillEngine is an engine whose answers may be stored.
type fillEngine struct {
	noEngine
	refuse, refuseFill bool
	began, filled      atomic.Int32 // fills, and those whose client is done
	filling            filter.Filling
}

func (*fillEngine) Stream(filter.Filter, *exchange.Response, string, filter.Pusher) error {
	return exchange.ErrAnswered
}
func (*fillEngine) Refresh(filter.Filter) bool { return false }

func (e *fillEngine) MayFill(f filter.Filling) bool {
	if e.refuse {
		return false
	}
	e.filling = f
	return true
}

func (e *fillEngine) Fill(f filter.Filling) bool {
	if e.refuseFill {
		return false
	}
	e.filling = f
	e.began.Add(1)
	return true
}

func (e *fillEngine) Filled() { e.filled.Add(1) }

// landing is how the flight ended that it waits for.
type landing struct {
	mu  sync.Mutex
	how string
}

func (l *landing) Landed(_ *objects.Flight, o objects.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.how += [...]string{objects.Stored: "stored", objects.Unstored: "unstored", objects.Failed: "failed"}[o]
}

func (l *landing) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.how
}

// storer returns a plugin that leads a flight for each request, for the path as key, and stores the answer as o says.
func storer(s *objects.Space, o abi.ObjectStore) *plugin {
	p := newPlugin("p", script{
		onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
			path, _ := c.Map(abi.MapRequestHeaders).Get(":path")
			if _, status := c.Stream.(host.ObjectStream).Object(host.ObjectJoin, nil, append(make([]byte, 4), path...)); status != abi.StatusOK {
				panic(status)
			}
			return abi.Continue
		},
		onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
			o := o
			o.Key, _ = c.Map(abi.MapRequestHeaders).Get(":path")
			if _, status := c.Stream.(host.ObjectStream).Object(host.ObjectStore, nil, o.Append(nil)); status != abi.StatusOK {
				panic(status)
			}
			return abi.Continue
		},
	}, fakeOptions{})
	p.StoreIn(s)
	return p
}

// storedUnder returns what is found under key, with its trailers; "-" if there is nothing.
func storedUnder(s *objects.Space, key string) string {
	o := s.Get(key)
	if o == nil {
		return "-"
	}
	defer o.Release()
	body, err := readObject(o)
	if err != nil {
		return err.Error()
	}
	r := o.Record()
	return fmt.Sprintf("%d %v %s %s %v", r.Status, unpacked(r.Fields), r.Meta, body, unpacked(o.Trailers()))
}

// unpacked returns the lines of f.
func unpacked(f objects.Fields) (list []objects.Field) {
	for name, value := range f.All() {
		list = append(list, objects.Field{Name: name, Value: value})
	}
	return list
}

func readObject(o *objects.Object) (string, error) {
	var r objects.Reader
	if err := o.Read(&r, 0, -1); err != nil {
		return "", err
	}
	defer r.Close()
	var b bytes.Buffer
	for {
		p, wait, err := r.Next()
		b.Write(p)
		switch {
		case err != nil:
			return b.String(), err
		case wait != nil:
			<-wait
		case len(p) == 0:
			return b.String(), nil
		}
	}
}

// An answer that is all at hand is stored as a whole and passed on by who brings it, and nobody hears of it
// before; any other is filled.
func TestGather(t *testing.T) {
	const half, none = exchange.LengthUnknown, "-"
	long := strings.Repeat("x", wasmfilter.MaxGather/2+1)
	type world struct {
		e     *fillEngine
		store *objects.Store
		x     *filter.Exchange
		back  *exchangetest.Recorder[*exchange.Response]
	}
	errClient := errors.New("the client has gone")
	abc := "200 [{y z}] m abc []"
	for name, tc := range map[string]struct {
		length  int64
		max     int64
		steps   string // d: data, e: data and end, f: flush, t: trailer, h: the head ends, c: the feeder fails, L: long data, E: twice that, and end
		ready   func(w *world)
		client  string
		stored  string
		landed  string
		fills   int32
		err     bool // of the last step
		running bool // the flight has landed before the last step
	}{
		"one piece":                   {length: 3, steps: "e:abc", client: "Head(200, false) Data(3, true)", stored: abc, landed: "stored"},
		"one piece, unknown length":   {length: half, steps: "e:abc", client: "Head(200, false) Data(3, true)", stored: abc, landed: "stored"},
		"pieces":                      {length: 3, steps: "d:a d:b e:c", client: "Head(200, false) Data(3, true)", stored: abc, landed: "stored"},
		"pieces and an end":           {length: half, steps: "d:ab d:c e:", client: "Head(200, false) Data(3, true)", stored: abc, landed: "stored"},
		"nothing, unknown length":     {length: half, steps: "e:", client: "Head(200, false) Data(0, true)", stored: "200 [{y z}] m  []", landed: "stored"},
		"a head":                      {length: 0, steps: "h", client: "Head(200, true)", stored: "200 [{y z}] m  []", landed: "stored"},
		"trailers":                    {length: half, steps: "d:ab d:c t", client: "Head(200, false) Data(3, false) Trailer", stored: "200 [{y z}] m abc [{t u}]", landed: "stored"},
		"trailers, known length":      {length: 3, steps: "d:abc t", client: "Head(200, false) Data(3, false) Trailer", stored: "200 [{y z}] m abc [{t u}]", landed: "stored"},
		"trailers alone":              {length: half, steps: "t", client: "Head(200, false) Trailer", stored: "200 [{y z}] m  [{t u}]", landed: "stored"},
		"one large piece":             {length: half, steps: "E", client: "Head(200, false) Data(65538, true)", stored: "200 [{y z}] m " + long + long + " []", landed: "stored"},
		"a wait before the body":      {length: 3, steps: "f e:abc", client: "Head(200, false) Data(3, true)", stored: abc, landed: "stored", fills: 1, running: true},
		"a wait within":               {length: half, steps: "d:a d:b f d:c e:", client: "Head(200, false) Data(3, true)", stored: abc, landed: "stored", fills: 1, running: true},
		"a wait before the trailers":  {length: half, steps: "d:abc f t", client: "Head(200, false) Data(3, false) Trailer", stored: "200 [{y z}] m abc [{t u}]", landed: "stored", fills: 1, running: true},
		"more than is gathered":       {length: half, steps: "L L e:", client: "Head(200, false) Data(65538, true)", stored: "200 [{y z}] m " + long + long + " []", landed: "stored", fills: 1, running: true},
		"more with the end":           {length: half, steps: "L e:abc" + long, client: "Head(200, false) Data(65541, true)", stored: "200 [{y z}] m " + long + "abc" + long + " []", landed: "stored", fills: 1},
		"known to be long":            {length: 65538, steps: "E", client: "Head(200, false) Data(65538, true)", stored: "200 [{y z}] m " + long + long + " []", landed: "stored", fills: 1, running: true},
		"too short":                   {length: 5, steps: "d:a e:bc", client: "", stored: none, landed: "failed", err: true},
		"too long":                    {length: 2, steps: "e:abc", client: "", stored: none, landed: "failed", err: true},
		"cut":                         {length: 5, steps: "d:a c", client: "", stored: none, landed: "failed", err: true},
		"cut after a wait":            {length: 5, steps: "d:a f c", client: "Head(200, false) Data(1, false)", stored: none, landed: "stored", fills: 1, err: true, running: true},
		"short after a wait":          {length: 5, steps: "d:a f e:b", client: "Head(200, false) Data(2, false)", stored: none, landed: "stored", fills: 1, running: true},
		"larger than max":             {length: half, max: 2, steps: "d:ab e:c", client: "Head(200, false) Data(3, true)", stored: none, landed: "unstored"},
		"known to be larger than max": {length: 3, max: 2, steps: "d:ab e:c", client: "Head(200, false) Data(2, false) Data(1, true)", stored: none, landed: "unstored", running: true},
		"larger than max, with waits": {length: half, max: 2, steps: "d:abc f e:d", client: "Head(200, false) Data(4, true)", stored: none, landed: "stored", fills: 1, running: true},
		"no memory":                   {length: half, ready: func(w *world) { w.store.Limit(100) }, steps: "d:ab e:c", client: "Head(200, false) Data(3, true)", stored: none, landed: "unstored"},
		"no memory for one piece":     {length: half, ready: func(w *world) { w.store.Limit(100) }, steps: "e:abc", client: "Head(200, false) Data(3, true)", stored: none, landed: "unstored"},
		"no memory for a head":        {length: 0, ready: func(w *world) { w.store.Limit(100) }, steps: "h", client: "Head(200, true)", stored: none, landed: "unstored"},
		"no memory for a fill":        {length: half, ready: func(w *world) { w.store.Limit(100) }, steps: "d:ab f d:c f e:", client: "Head(200, false) Data(2, false) Flush Data(1, false) Flush Data(0, true)", stored: none, landed: "unstored", running: true},
		"no memory, trailers":         {length: half, ready: func(w *world) { w.store.Limit(100) }, steps: "d:ab f d:c t", client: "Head(200, false) Data(2, false) Flush Data(1, false) Trailer", stored: none, landed: "unstored", running: true},
		"a request that is sent":      {length: half, ready: func(w *world) { w.e.refuse = true }, steps: "d:ab f e:c", client: "Head(200, false) Data(2, false) Flush Data(1, true)", stored: none, landed: "unstored", running: true},
		"a fill that is refused":      {length: half, ready: func(w *world) { w.e.refuseFill = true }, steps: "d:ab f e:c", client: "Head(200, false) Data(2, false) Flush Data(1, true)", stored: none, landed: "unstored", running: true},
		"filters are closed":          {length: half, ready: func(w *world) { w.x.Quiesce() }, steps: "d:ab f e:c", client: "Head(200, false) Data(3, true)", stored: none, landed: "unstored", fills: 1, running: true},
		"the client has gone": {length: half, steps: "d:ab e:c", client: "Head(200, false)", stored: abc, landed: "stored", err: true, ready: func(w *world) {
			w.back.OnHead = func(*exchange.Response, bool) error { return errClient }
		}},
		"the client goes": {length: 3, steps: "d:ab e:c", client: "Head(200, false) Data(3, true)", stored: abc, landed: "stored", err: true, ready: func(w *world) {
			w.back.OnData = func([]byte, bool) error { return errClient }
		}},
		"the client goes, one piece": {length: 3, steps: "e:abc", client: "Head(200, false) Data(3, true)", stored: abc, landed: "stored", err: true, ready: func(w *world) {
			w.back.OnData = func([]byte, bool) error { return errClient }
		}},
		"the client goes while it is filled": {length: 3, steps: "d:ab f e:c", client: "Head(200, false) Data(2, false)", stored: abc, landed: "stored", fills: 1, running: true, ready: func(w *world) {
			w.back.OnData = func([]byte, bool) error { return errClient }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{e: &fillEngine{}, store: objects.New(objects.Options{}), x: newExchange(t), back: &exchangetest.Recorder[*exchange.Response]{}}
				space := w.store.Space("a")
				p := storer(space, abi.ObjectStore{Meta: "m", MaxObject: tc.max})
				w.x.Engine, w.x.Request.Method = w.e, "GET"
				g, err := p.New(w.x)
				if err != nil {
					t.Fatal(err)
				}
				in := g.Response(w.back)
				if err := g.Request(requestEnd{}).Head(w.x.Request, true); err != nil {
					t.Fatal(err)
				}
				if tc.ready != nil {
					tc.ready(w)
				}
				key := w.x.Request.Target
				var l landing
				if _, leads := space.Join(key, &l); leads {
					t.Fatal("the exchange does not lead")
				}
				resp := &exchange.Response{Status: 200, Length: tc.length}
				resp.Fields.Add("y", "z")
				steps := strings.Fields(tc.steps)
				if err = in.Head(resp, steps[0] == "h"); err != nil && !tc.err {
					t.Fatal(err)
				}
				var trailer exchange.Fields
				trailer.Add("t", "u")
				for i, step := range steps {
					synctest.Wait()
					if i == len(steps)-1 && step != "h" && (l.String() != "") != tc.running {
						t.Errorf("before the end it has landed as %q", l.String())
					}
					if d, ok := in.(exchange.Detacher); ok && step[0] != 'h' && d.Detached() && tc.fills > 0 && !strings.HasPrefix(name, "filters") {
						t.Error("it is not in the way")
					}
					_, data, _ := strings.Cut(step, ":")
					switch step[0] {
					case 'd':
						err = in.Data([]byte(data), false)
					case 'e':
						err = in.Data([]byte(data), true)
					case 'f':
						err = in.Data(nil, false)
					case 'L':
						err = in.Data([]byte(long), false)
					case 'E':
						err = in.Data([]byte(long+long), true)
					case 't':
						err = in.Trailer(&trailer)
					case 'c':
						err = exchange.ErrReset
						if w.e.filling != nil {
							w.e.filling.Cut(err)
						}
					}
					if (err != nil) != (tc.err && i == len(steps)-1) {
						t.Fatalf("step %d: %v", i, err)
					}
				}
				synctest.Wait()
				if got := l.String(); got != tc.landed && (steps[len(steps)-1] != "c" || tc.running) {
					t.Errorf("before it is closed it has landed as %q, want %q", got, tc.landed)
				}
				g.Close(err)
				if v := w.back.Violation(); v != "" {
					t.Error(v)
				}
				got := w.back.Calls()
				if tc.fills > 0 { // how the client's goroutine and the upstream's meet is chance
					got = merged(got)
				}
				if got != tc.client {
					t.Errorf("the client got %s, want %s", got, tc.client)
				}
				if got := storedUnder(space, key); got != tc.stored {
					t.Errorf("stored is %.60q, want %.60q", got, tc.stored)
				}
				if got := l.String(); got != tc.landed {
					t.Errorf("landed as %q, want %q", got, tc.landed)
				}
				if n, m := w.e.began.Load(), w.e.filled.Load(); n != tc.fills || m != n {
					t.Errorf("%d fills, %d of them done, want %d", n, m, tc.fills)
				}
				if space.DeletePrefix(""); w.store.Used() != 0 {
					t.Errorf("%d bytes are held in the end", w.store.Used())
				}
				passesUnstored(t, p)
			})
		})
	}
}

// passesUnstored makes another exchange, with the same filter, whose answer may not be stored.
func passesUnstored(t *testing.T, p *plugin) {
	t.Helper()
	x, back := newExchange(t), &exchangetest.Recorder[*exchange.Response]{}
	x.Engine = &fillEngine{refuse: true}
	g, err := p.New(x)
	if err != nil {
		t.Fatal(err)
	}
	in := g.Response(back)
	if err := errors.Join(
		g.Request(requestEnd{}).Head(x.Request, true),
		in.Head(&exchange.Response{Status: 200, Length: 3}, false), in.Data([]byte("new"), true),
	); err != nil {
		t.Fatal(err)
	}
	g.Close(nil)
	if got := back.Calls(); got != "Head(200, false) Data(3, true)" {
		t.Errorf("the client of the next exchange got %s", got)
	}
}

// merged returns the calls that a sink got without flushes, and with all of the body in one.
func merged(calls string) string {
	n, end, data := 0, false, false
	var others []string
	for call := range strings.SplitSeq(strings.ReplaceAll(calls, ", ", ","), " ") {
		var k int
		var e bool
		switch _, err := fmt.Sscanf(call, "Data(%d,%t)", &k, &e); {
		case err == nil:
			n, end, data = n+k, e, true
		case call != "Flush":
			others = append(others, strings.ReplaceAll(call, ",", ", "))
		}
	}
	if data {
		others = slices.Insert(others, 1, fmt.Sprintf("Data(%d, %t)", n, end))
	}
	return strings.Join(others, " ")
}

// TestGatherHammer stores, in all ways, under a few keys, with readers beside it: for the race detector, and nobody
// gets what was not stored there.
func TestGatherHammer(t *testing.T) {
	store := objects.New(objects.Options{Bytes: 1 << 20})
	space := store.Space("a")
	p := storer(space, abi.ObjectStore{Meta: "m", MaxObject: 300 << 10})
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 7))
			for range 120 {
				name := string(rune('a' + rnd.IntN(6)))
				if g < 2 {
					if o := space.Get("/" + name); o != nil {
						if got, _ := readObject(o); strings.Trim(got, name) != "" {
							t.Errorf("under %s are bytes of another", name)
						}
						o.Release()
					}
					continue
				}
				if err := storeAtRandom(t, p, rnd, name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if space.DeletePrefix(""); store.Used() != 0 {
		t.Errorf("%d bytes are held in the end", store.Used())
	}
}

// storeAtRandom makes an exchange for /name whose answer is of the letter name. The error says what is wrong with what
// the client got.
func storeAtRandom(t *testing.T, p *plugin, rnd *rand.Rand, name string) error {
	x := newExchange(t)
	x.Request.Method, x.Request.Target = "GET", "/"+name
	e, back := &fillEngine{}, &exchangetest.Recorder[*exchange.Response]{}
	x.Engine = e
	g, err := p.New(x)
	if err != nil {
		return err
	}
	in := g.Response(back)
	if err := g.Request(requestEnd{}).Head(x.Request, true); err != nil {
		return err
	}
	if err := in.Head(&exchange.Response{Status: 200, Length: exchange.LengthUnknown}, false); err != nil {
		return err
	}
	sent, cut := 0, rnd.IntN(6) == 0
	for range rnd.IntN(5) {
		n := rnd.IntN(40_000)
		if n < 10_000 {
			n = 0
		}
		if err := in.Data(bytes.Repeat([]byte(name), n), false); err != nil {
			return err
		}
		sent += n
	}
	if !cut {
		if err := in.Data([]byte(name), true); err != nil {
			return err
		}
		sent++
	} else if e.filling != nil {
		e.filling.Cut(exchange.ErrReset)
	}
	g.Close(nil)
	_, data, _, ended := back.Message()
	if strings.Trim(data, name) != "" || len(data) > sent || !cut && (len(data) != sent || !ended) || cut && ended {
		return fmt.Errorf("cut %t: the client got %d bytes of %d, ended %t", cut, len(data), sent, ended)
	}
	if v := back.Violation(); v != "" {
		return errors.New(v)
	}
	return nil
}
