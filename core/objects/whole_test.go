package objects_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"wproxy/core/objects"
)

// filled stores what w says, with a fill.
func filled(s *objects.Space, key string, w objects.Whole, length int64) {
	f := s.Fill(key, objects.FillOptions{Record: w.Record, Tags: w.Tags, Max: w.Max, Length: length})
	if f == nil {
		return
	}
	if len(w.Body) > 0 && f.Write(w.Body) != nil {
		f.Fail(objects.ErrAbandoned)
		return
	}
	f.End(w.Trailers)
}

// TestPutWhole: what is stored in one go is found, deleted and counted as what was filled.
func TestPutWhole(t *testing.T) {
	var tags []string
	for i := range 70 {
		tags = append(tags, fmt.Sprint("tag", i))
	}
	trailers := objects.Pack(objects.Field{Name: "t", Value: "u"})
	for name, tc := range map[string]struct {
		size     int
		max      int64
		bytes    int64 // of the store; 0: enough
		tags     []string
		trailers objects.Fields
	}{
		"nothing":          {},
		"one byte":         {size: 1, max: 1},
		"a chunk":          {size: 512},
		"more":             {size: 513, tags: tags},
		"some":             {size: 3000, trailers: trailers},
		"the largest":      {size: 64 << 10},
		"one more":         {size: 64<<10 + 1},
		"two":              {size: 128 << 10, tags: tags[:1], trailers: trailers},
		"many":             {size: 300_000, max: 300_000},
		"more than max":    {size: 11, max: 10},
		"more than all":    {size: 11, bytes: 10},
		"no room for it":   {size: 3000, bytes: 4000},
		"no room at all":   {size: 0, bytes: 10},
		"just room for it": {size: 0, bytes: 600},
	} {
		t.Run(name, func(t *testing.T) {
			body := strings.Repeat("0123456789abcde", tc.size/15+1)[:tc.size]
			ready := func() (*objects.Store, *objects.Space, objects.Whole) {
				r := record("meta")
				store := objects.New(objects.Options{Bytes: tc.bytes})
				return store, store.Space("a"), objects.Whole{Record: r, Tags: tc.tags, Max: tc.max, Body: []byte(body), Trailers: tc.trailers}
			}
			for _, length := range []int64{int64(tc.size), objects.LengthUnknown} {
				store, s, w := ready()
				filled(s, "l\nk", w, length)
				_, n := s.Used()
				other, p, w := ready()
				if ok := p.PutWhole("l\nk", &w); ok != (n == 1) {
					t.Fatalf("stored %t; a fill stores %d", ok, n)
				}
				if got, want := other.Used(), store.Used(); got != want {
					t.Errorf("counts %d bytes, a fill %d", got, want)
				}
				if n == 0 {
					continue
				}
				clear(w.Body) // it is the caller's
				o := get(t, p, "l\nk")
				length, whole := o.Length()
				if got, err := readAll(o, 0, -1); err != nil || got != body || length != int64(tc.size) || !whole {
					t.Errorf("got %d bytes, %v, length %d, whole %t", len(got), err, length, whole)
				}
				if o.Trailers() != tc.trailers || string(o.Record().Meta) != "meta" {
					t.Errorf("got %v, %q", o.Trailers(), o.Record().Meta)
				}
			}
		})
	}
}

// TestPutWholeFound: it takes the place of what was there, which its readers go on with, and tags and lines lead to it.
func TestPutWholeFound(t *testing.T) {
	store := objects.New(objects.Options{})
	s := store.Space("a")
	whole := func(key, body string, tags ...string) *objects.Object {
		r := record(key)
		return s.KeepWhole(key, &objects.Whole{Record: r, Tags: tags, Body: []byte(body)})
	}
	old := whole("l\nk", "old", "t")
	if o := whole("l\nk", "new", "u"); o != nil {
		o.Release()
	}
	if got, err := readAll(old, 0, -1); got != "old" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	old.Release()
	if n := s.DeleteTag("t"); n != 0 {
		t.Errorf("the old tag leads to %d", n)
	}
	if got, _ := readAll(get(t, s, "l\nk"), 0, -1); got != "new" {
		t.Errorf("got %q", got)
	}
	f := s.Fill("l\nk", objects.FillOptions{Record: record(""), Length: 10})
	whole("l\nk", "newer").Release() // in the place of what is being filled
	_ = f.Write([]byte("0123456789"))
	f.End("")
	if got, _ := readAll(get(t, s, "l\nk"), 0, -1); got != "newer" {
		t.Errorf("after a fill that began before: %q", got)
	}
	whole("l\nj", "x").Release()
	if n := s.DeletePrefix("l\n"); n != 2 {
		t.Errorf("the line leads to %d", n)
	}
	if s.KeepWhole("k", &objects.Whole{Record: objects.Record{}, Max: 1, Body: []byte("ab")}) != nil {
		t.Error("more than max is kept")
	}
}

// TestPutWholeEvicts: in a full space it makes room for itself, and what comes back too late to be known goes where it
// is not given up first.
func TestPutWholeEvicts(t *testing.T) {
	const most = 1 << 20
	store := objects.New(objects.Options{Bytes: most})
	s := store.Space("a")
	put := func(key string) {
		r := record(key)
		if !s.PutWhole(key, &objects.Whole{Record: r, Body: make([]byte, 1000)}) {
			t.Fatalf("%s is not stored", key)
		}
		if used := store.Used(); used > most {
			t.Fatalf("%d bytes are held", used)
		}
	}
	for i := range 2000 {
		put(fmt.Sprint(i))
	}
	held, n := s.Used()
	if n < 500 || held < most*9/10 {
		t.Errorf("a full space has %d objects, %d bytes", n, held)
	}
	put("0") // was given up, and is remembered
	for i := range 2000 {
		put(fmt.Sprint("n", i))
	}
	if o := s.Get("0"); o == nil {
		t.Error("what came back is given up first")
	} else {
		o.Release()
	}
	s.DeletePrefix("")
	if store.Used() != 0 {
		t.Errorf("%d bytes are held in the end", store.Used())
	}
}

// TestLead: one leads, its key is its own, and others are neither told nor waited for.
func TestLead(t *testing.T) {
	s := objects.New(objects.Options{}).Space("a")
	key := []byte("k")
	f, leads, _ := s.Lead(string(key), 0)
	if !leads || f == nil || !s.Flying("k") {
		t.Fatal("the first does not lead")
	}
	if g, leads, _ := s.Lead("k", 0); leads || g != nil {
		t.Error("the second leads")
	}
	w := make(waiter, 2)
	if g, leads := s.Join("k", w); leads || g != f {
		t.Error("one who joins does not find the flight")
	}
	f.Land(objects.Unstored)
	if len(w) != 1 || <-w != objects.Unstored || s.Flying("k") {
		t.Error("who waits is not told")
	}
	if f, leads, _ = s.Lead("k", 0); !leads {
		t.Error("nobody leads after the end")
	}
	f.Land(objects.Stored)
	seen := s.Landings()
	f, _, landed := s.Lead("k", seen)
	if landed {
		t.Error("what has landed before it was looked for is told of")
	}
	f.Land(objects.Stored)
	f, leads, landed = s.Lead("j", seen)
	if !leads || !landed {
		t.Error("what has landed since is not told of")
	}
	f.Land(objects.Stored)
	const name = "http://example.com/a\nroute"
	long := []byte(name)
	if n := testing.AllocsPerRun(1000, func() {
		f, _, _ := s.Lead(unsafe.String(&long[0], len(long)), 0)
		clear(long) // it was borrowed
		if !s.Flying(name) {
			t.Fatal("its key is not its own")
		}
		copy(long, name)
		f.Land(objects.Stored)
	}); n != 0 {
		t.Errorf("%v allocations for a flight, want 0", n)
	}
}

// TestLeadHammer: a flight that was used before is not mistaken for another.
func TestLeadHammer(t *testing.T) {
	s := objects.New(objects.Options{}).Space("a")
	var wg sync.WaitGroup
	var led [8]atomic.Int32 // by key
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 3))
			for range 2000 {
				k := rnd.IntN(len(led))
				key := strings.Repeat("k", k+1)
				var f *objects.Flight
				var leads bool
				w := make(waiter, 1)
				if rnd.IntN(2) == 0 {
					f, leads, _ = s.Lead(key, 0)
				} else {
					f, leads = s.Join(key, w)
				}
				switch {
				case leads:
					if led[k].Add(1) != 1 {
						t.Error("two lead")
					}
					led[k].Add(-1)
					f.Land(objects.Stored)
				case f != nil && rnd.IntN(2) == 0:
					f.Leave(w)
				case f != nil:
					<-w
				}
			}
		})
	}
	wg.Wait()
	for k := range led {
		if s.Flying(strings.Repeat("k", k+1)) {
			t.Error("a flight goes on for ever")
		}
	}
}

// TestPutAllocs: an object in one go is an allocation, its record a part of it.
func TestPutAllocs(t *testing.T) {
	s := objects.New(objects.Options{Bytes: 1 << 20}).Space("a")
	body := make([]byte, 1000)
	keys := make([]string, 5000)
	for i := range keys {
		keys[i] = fmt.Sprint("http://example.com/", i, "\nroute")
	}
	i := 0
	put := func() {
		if !s.PutWhole(keys[i%len(keys)], &objects.Whole{Record: objects.Record{Status: 200}, Body: body}) {
			t.Fatal("no room")
		}
		i++
	}
	for range 2 * len(keys) {
		put()
	}
	if n := testing.AllocsPerRun(5000, put); n != 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}
