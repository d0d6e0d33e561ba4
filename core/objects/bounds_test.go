package objects_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"wproxy/core/objects"
)

// heldBytes returns how much more of the heap is in use after f, whose result is kept.
func heldBytes(f func() any) (n int64, kept any) {
	heap := func() int64 {
		for range 3 { // pools give up what they have at the second
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	kept = f()
	return heap() - before, kept
}

// TestMemoryIsCounted: what objects of many shapes take of the heap is what a store says that it
// holds, or less.
func TestMemoryIsCounted(t *testing.T) {
	const n = 1000
	for name, put := range map[string]func(s *objects.Space, i int){
		"records": func(s *objects.Space, i int) {
			s.Put(fmt.Sprintf("http://example.com/%d\nroute", i), objects.Record{Meta: make([]byte, 40)}, nil)
		},
		"variants": func(s *objects.Space, i int) {
			s.Put(fmt.Sprintf("http://example.com/\nroute\n%d", i), objects.Record{Meta: make([]byte, 40)}, nil)
		},
		"updates": func(s *objects.Space, i int) {
			key := fmt.Sprintf("k%d", i)
			s.Put(key, objects.Record{Meta: make([]byte, 40)}, nil)
			o := s.Get(key)
			for range 3 {
				s.Update(o, objects.Record{Meta: make([]byte, 50), Fields: objects.Pack(objects.Field{Name: "a", Value: strings.Repeat("b", 300)})})
			}
			o.Release()
		},
		"tags": func(s *objects.Space, i int) {
			tags := make([]string, 40)
			for j := range tags {
				tags[j] = fmt.Sprintf("tag-%d-%d", i, j)
			}
			s.Put(fmt.Sprintf("k%d", i), objects.Record{}, tags)
		},
		"trailers": func(s *objects.Space, i int) {
			f := s.Fill(fmt.Sprintf("k%d", i), objects.FillOptions{Record: record("m"), Length: objects.LengthUnknown})
			f.End(objects.Pack(objects.Field{Name: "x", Value: strings.Repeat("v", 4000) + fmt.Sprint(i)}))
		},
		"in one go": func(s *objects.Space, i int) {
			r := record("m")
			s.PutWhole(fmt.Sprintf("k%d", i), &objects.Whole{Record: r, Body: make([]byte, 3000), Trailers: objects.Pack(objects.Field{Name: "x", Value: fmt.Sprint(i)})})
		},
		"bytes": func(s *objects.Space, i int) {
			f := s.Fill(fmt.Sprintf("k%d", i), objects.FillOptions{Record: record("m"), Length: objects.LengthUnknown})
			_ = f.Write(make([]byte, 3000))
			f.End("")
		},
	} {
		store := objects.New(objects.Options{})
		took, kept := heldBytes(func() any {
			s := store.Space("a")
			for i := range n {
				put(s, i)
			}
			return store
		})
		if used := store.Used(); used < took || used > 3*took {
			t.Errorf("%s: the store says %d bytes, of the heap it takes %d", name, used, took)
		}
		store.Space("a").DeletePrefix("")
		if used := store.Used(); used != 0 || kept != store {
			t.Errorf("%s: %d bytes are held in the end", name, used)
		}
	}
}

// TestEvictionIsBounded: where everything is read again and again one call for room does not look
// at everything.
func TestEvictionIsBounded(t *testing.T) {
	const n = 10_000
	looks := 0
	far := time.Unix(1<<40, 0)
	store := objects.New(objects.Options{Bytes: 1 << 30, Now: func() time.Time { looks++; return time.Unix(1000, 0) }})
	s := store.Space("a")
	s.Limit(1 << 30)
	for i := range n {
		if !s.Put(fmt.Sprint(i), objects.Record{Gone: far}, nil) {
			t.Fatal("no room")
		}
	}
	for i := range n {
		for range 3 {
			s.Get(fmt.Sprint(i)).Release()
		}
	}
	s.Limit(store.Used()) // full, and nothing over
	looks = 0
	if !s.Put("another", objects.Record{}, nil) {
		t.Error("no room is made")
	}
	if looks > 200 {
		t.Errorf("for one object, %d are looked at", looks)
	}
	// A bound that is less goes into effect by and by, in steps that are bounded, too.
	looks = 0
	s.Limit(1 << 20)
	if _, left := s.Used(); left < n/2 || looks > 3000 {
		t.Errorf("at once %d of %d are left, after %d looks", left, n, looks)
	}
	for range 200 {
		s.Put("one", objects.Record{}, nil)
	}
	if used, _ := s.Used(); used > 1<<20 {
		t.Errorf("%d bytes are held, more than the bound", used)
	}
}

// TestLargerThanAll: what can never fit has nothing else give way.
func TestLargerThanAll(t *testing.T) {
	s := objects.New(objects.Options{Bytes: 1 << 20}).Space("a")
	put(t, s, "k", "body")
	if f := s.Fill("large", objects.FillOptions{Record: record(""), Length: 2 << 20}); f != nil {
		t.Error("an object that is larger than the store is begun")
	}
	get(t, s, "k").Key()
}

// TestPrepare: nobody finds what is prepared before it is shown, and what was there stays.
func TestPrepare(t *testing.T) {
	store := objects.New(objects.Options{})
	s := store.Space("a")
	put(t, s, "k", "old")
	f := s.Prepare("k", objects.FillOptions{Record: record("new"), Length: objects.LengthUnknown})
	f.Fail(errors.New("it came to nothing"))
	o := s.Get("k")
	if got, _ := readAll(o, 0, -1); got != "old" {
		t.Errorf("got %q", got)
	}
	o.Release()
	f = s.Prepare("k", objects.FillOptions{Record: record("new"), Length: objects.LengthUnknown})
	f.Show()
	_ = f.Write([]byte("new"))
	f.End("")
	o = s.Get("k")
	if got, _ := readAll(o, 0, -1); got != "new" {
		t.Errorf("got %q", got)
	}
	o.Release()
	if s.DeletePrefix(""); store.Used() != 0 {
		t.Errorf("%d bytes are held in the end", store.Used())
	}
}

// TestStoreLimit: less for all holds for each.
func TestStoreLimit(t *testing.T) {
	store := objects.New(objects.Options{})
	s := store.Space("a")
	for i := range 1000 {
		put(t, s, fmt.Sprint(i), strings.Repeat("x", 1000))
	}
	store.Limit(100 << 10)
	for i := range 100 {
		if f := s.Fill(fmt.Sprint("n", i), objects.FillOptions{Record: record(""), Length: 10}); f != nil {
			f.Fail(errors.New("cut"))
		}
	}
	if used := store.Used(); used > 100<<10 {
		t.Errorf("%d bytes are held, more than the bound", used)
	}
}
