package objects

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
)

type sized int64

func (n sized) Size() int64 { return int64(n) }

// TestAnnotate: a note replaces the one of the very record that it is about, which is the same by its identity and
// in all else; what it takes is counted.
func TestAnnotate(t *testing.T) {
	store := New(Options{})
	s := store.Space("a")
	put := func(key, meta string) *Object {
		s.Put(key, Record{Status: 200, Fields: Pack(Field{"a", "b"}), Meta: []byte(meta), Promise: Promise{1, 2, 3}}, []string{"tag"})
		return s.Get(key)
	}
	o := put("k", "m")
	old := o.Record()
	before, _ := s.Used()
	if !s.Annotate(o, old, sized(1000)) {
		t.Fatal("it is not there")
	}
	r := o.Record()
	if r.Note != Note(sized(1000)) || r.Identity() != old.Identity() || r.Identity() == 0 || old.Note != nil {
		t.Errorf("got %+v, it was %+v", r, old)
	}
	if r.Status != 200 || r.Fields != old.Fields || string(r.Meta) != "m" || r.Promise != old.Promise {
		t.Errorf("something else is %+v", r)
	}
	if now, _ := s.Used(); now != before+1000+recordOverhead || store.Used() != now {
		t.Errorf("%d bytes, %d before", now, before)
	}
	if s.Annotate(o, old, sized(1)) {
		t.Error("of two at once both are the first")
	}
	if !s.Annotate(o, r, nil) {
		t.Error("a note cannot be taken away")
	}
	if now, _ := s.Used(); now != before+recordOverhead {
		t.Errorf("%d bytes without it, %d before", now, before)
	}

	// Whatever else becomes of the record makes it another one.
	r = o.Record()
	if !s.Update(o, Record{Status: 200, Meta: []byte("m")}) || o.Record().Identity() == r.Identity() || s.Annotate(o, r, sized(1)) {
		t.Error("what was updated is taken for what it was")
	}
	r = o.Record()
	p := put("k", "m")
	if p.Record().Identity() == r.Identity() || s.Annotate(o, r, sized(1)) {
		t.Error("what was stored anew is taken for what it was")
	}
	q := put("l", "m")
	if q.Record().Identity() == p.Record().Identity() {
		t.Error("two objects have one identity")
	}
	s.Delete("l")
	if s.Annotate(q, q.Record(), sized(1)) {
		t.Error("what nobody finds gets notes")
	}
	if s.Annotate(p, p.Record(), sized(DefaultSpaceBytes+1)) {
		t.Error("a note is larger than the space")
	}
	for _, o := range []*Object{o, p, q} {
		o.Release()
	}
	s.Delete("k")
	if n, objects := s.Used(); n != 0 || objects != 0 {
		t.Errorf("%d bytes in %d objects are left", n, objects)
	}
}

// TestAnnotateHammer: notes that grow and shrink, updates and evictions at once leave the accounts as they
// should be: what the queues count is what is there, and nothing is left in the end.
func TestAnnotateHammer(t *testing.T) {
	store := New(Options{Bytes: 60 << 10})
	s := store.Space("a")
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // the same each time
			for range 3000 {
				key := "k" + strconv.Itoa(r.IntN(20))
				o := s.Get(key)
				if o == nil {
					s.PutWhole(key, &Whole{Record: Record{Status: 200}, Body: make([]byte, r.IntN(3000))})
					continue
				}
				old := o.Record()
				switch r.IntN(8) {
				case 0:
					s.Update(o, Record{Status: 200, Meta: make([]byte, r.IntN(2000))})
				case 1:
					s.Delete(key)
				default:
					var n Note
					if r.IntN(4) > 0 {
						n = sized(r.IntN(20_000))
					}
					s.Annotate(o, old, n)
				}
				o.Release()
			}
		})
	}
	wg.Wait()
	s.mu.Lock()
	for name, q := range map[string]*queue{"small": &s.small, "main": &s.main} {
		sum := int64(0)
		for o := q.head; o != nil; o = o.next {
			if o.weight != o.held+o.fixed() {
				t.Errorf("%s: %d bytes are counted as %d", o.key, o.held+o.fixed(), o.weight)
			}
			sum += o.weight
		}
		if sum != q.bytes {
			t.Errorf("%s: %d bytes are counted as %d", name, sum, q.bytes)
		}
	}
	if sum := s.small.bytes + s.main.bytes; sum != s.used.Load() {
		t.Errorf("%d bytes are in the queues, %d in use", sum, s.used.Load())
	}
	s.mu.Unlock()
	s.DeletePrefix("")
	if n, objects := s.Used(); n != 0 || objects != 0 || store.Used() != 0 {
		t.Errorf("%d bytes in %d objects are left", n, objects)
	}
}
