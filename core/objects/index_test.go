package objects_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"wproxy/core/objects"
)

// TestIndex: whatever comes and goes, in whatever order, what is there is found under its key, and under its
// line, and nothing else is; if there are many of a line, too.
func TestIndex(t *testing.T) {
	store := objects.New(objects.Options{})
	s := store.Space("a")
	rnd := rand.New(rand.NewPCG(1, 4))
	there := map[string]string{} // what is stored, by key
	line := func() string { return []string{"", "l\n", "m\n"}[rnd.IntN(3)] }
	for i := range 20_000 {
		prefix := line()
		key := prefix + fmt.Sprint(rnd.IntN(12))
		switch rnd.IntN(40) {
		case 0:
			n := 0
			maps.DeleteFunc(there, func(key, _ string) bool {
				if strings.HasPrefix(key, prefix) {
					n++
					return true
				}
				return false
			})
			if got := s.DeletePrefix(prefix); got != n {
				t.Fatalf("%d: of %q %d are deleted, want %d", i, prefix, got, n)
			}
		case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12:
			_, want := there[key]
			delete(there, key)
			if got := s.Delete(key); got != want {
				t.Fatalf("%d: %q is deleted %t, want %t", i, key, got, want)
			}
		case 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25:
			there[key] = fmt.Sprint(i)
			s.Put(key, objects.Record{Meta: []byte(there[key])}, nil)
		default:
			o := s.Get(key)
			got := ""
			if o != nil {
				got = string(o.Record().Meta)
				o.Release()
			}
			if want := there[key]; got != want {
				t.Fatalf("%d: under %q %q is found, want %q", i, key, got, want)
			}
		}
		if _, n := s.Used(); n != len(there) {
			t.Fatalf("%d: there are %d, want %d", i, n, len(there))
		}
	}
	if s.DeletePrefix(""); store.Used() != 0 {
		t.Errorf("%d bytes are held in the end", store.Used())
	}
}

// TestDeleteLongLine: a line with more than is deleted in one go is deleted, all of it and nothing else.
func TestDeleteLongLine(t *testing.T) {
	t.Parallel()
	const n = 5000
	store := objects.New(objects.Options{})
	s := store.Space("a")
	for i := range n {
		s.Put(fmt.Sprintf("l\n%d", i), objects.Record{}, nil)
		s.Put(fmt.Sprintf("m\n%d", i), objects.Record{}, nil)
	}
	if got := s.DeletePrefix("l\n"); got != n {
		t.Errorf("%d are deleted, want %d", got, n)
	}
	if got := s.DeletePrefix("l\n"); got != 0 {
		t.Errorf("%d more are", got)
	}
	if _, got := s.Used(); got != n {
		t.Errorf("%d are left, want %d", got, n)
	}
}

// TestFields: what is packed comes out as it was.
func TestFields(t *testing.T) {
	t.Parallel()
	for _, list := range [][]objects.Field{
		nil,
		{{}},
		{{Name: "a", Value: "b"}, {Name: "c"}, {Value: "d"}, {}, {Name: "a", Value: "\x80\xff\x00"}},
		{{Name: strings.Repeat("n", 127), Value: strings.Repeat("v", 128)}, {Name: strings.Repeat("n", 300), Value: strings.Repeat("v", 70_000)}, {Name: "z"}},
	} {
		var got []objects.Field
		for name, value := range objects.Pack(list...).All() {
			got = append(got, objects.Field{Name: name, Value: value})
		}
		if !slices.Equal(got, list) {
			t.Errorf("got %q, want %q", got, list)
		}
	}
	n := 0
	for range objects.Pack(objects.Field{Name: "a"}, objects.Field{Name: "b"}).All() {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d after the loop has ended", n)
	}
}
