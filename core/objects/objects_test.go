package objects_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/objects"
)

func record(meta string) objects.Record {
	return objects.Record{Status: 200, Meta: []byte(meta), Fields: objects.Pack(objects.Field{Name: "a", Value: "b"})}
}

// put stores body under key.
func put(tb testing.TB, s *objects.Space, key, body string, tags ...string) {
	tb.Helper()
	f := s.Fill(key, objects.FillOptions{Record: record(key), Tags: tags, Length: int64(len(body))})
	if f == nil {
		tb.Fatalf("Fill(%q): no room", key)
	}
	if err := f.Write([]byte(body)); err != nil {
		tb.Fatalf("Write: %v", err)
	}
	f.End("")
}

// readAll reads a part of o, waiting for a fill.
func readAll(o *objects.Object, off, n int64) (string, error) {
	var r objects.Reader
	if err := o.Read(&r, off, n); err != nil {
		return "", err
	}
	defer r.Close()
	var b bytes.Buffer
	for {
		p, wait, err := r.Next()
		switch {
		case err != nil:
			return b.String(), err
		case len(p) > 0:
			b.Write(p)
		case wait == nil:
			return b.String(), nil
		default:
			<-wait
		}
	}
}

func get(t *testing.T, s *objects.Space, key string) *objects.Object {
	t.Helper()
	o := s.Get(key)
	if o == nil {
		t.Fatalf("Get(%q): nothing", key)
	}
	t.Cleanup(o.Release)
	return o
}

func TestStoreAndRead(t *testing.T) {
	s := objects.New(objects.Options{}).Space("a")
	body := strings.Repeat("0123456789", 20_000) // several chunks
	put(t, s, "k", body)
	o := get(t, s, "k")
	for _, tc := range []struct{ off, n int64 }{
		{0, -1}, {0, 1}, {0, 0}, {5, 10}, {65535, 2}, {65536, 1}, {131_000, 69_000}, {199_999, 1}, {200_000, -1},
	} {
		got, err := readAll(o, tc.off, tc.n)
		want := body[tc.off:]
		if tc.n >= 0 {
			want = want[:tc.n]
		}
		if err != nil || got != want {
			t.Errorf("Read(%d, %d): got %d bytes, %v, want %d", tc.off, tc.n, len(got), err, len(want))
		}
	}
	if n, whole := o.Length(); n != int64(len(body)) || !whole {
		t.Errorf("Length: got %d, %v", n, whole)
	}
}

func TestSpacesDoNotMeet(t *testing.T) {
	s := objects.New(objects.Options{})
	put(t, s.Space("a"), "k", "secret")
	if s.Space("b").Get("k") != nil {
		t.Error("another space finds the object")
	}
}

// TestMemoryIsGivenBack stores, replaces, deletes and reads, and ends with nothing held.
func TestMemoryIsGivenBack(t *testing.T) {
	store := objects.New(objects.Options{Bytes: 1 << 20})
	s := store.Space("a")
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 5000 {
		key := fmt.Sprintf("k%d", rnd.IntN(300))
		switch rnd.IntN(4) {
		case 0:
			s.Delete(key)
		case 1:
			if o := s.Get(key); o != nil {
				s.Update(o, record(strings.Repeat("m", rnd.IntN(2000))))
				o.Release()
			}
		default:
			f := s.Fill(key, objects.FillOptions{Record: record(key), Length: objects.LengthUnknown, Tags: []string{"t"}})
			if f == nil {
				continue
			}
			err := f.Write(make([]byte, rnd.IntN(100_000)))
			if i%7 == 0 || err != nil {
				f.Fail(errors.New("cut"))
			} else {
				f.End("")
			}
		}
		if used := store.Used(); used > 1<<20 || used < 0 {
			t.Fatalf("step %d: %d bytes are held", i, used)
		}
	}
	s.DeletePrefix("")
	if used, n := s.Used(); used != 0 || n != 0 || store.Used() != 0 {
		t.Errorf("in the end %d bytes are held, by %d objects", used, n)
	}
}

// TestEvictedWhileRead: what is evicted stays readable, and counts, until its reader has
// ended.
func TestEvictedWhileRead(t *testing.T) {
	store := objects.New(objects.Options{Bytes: 300 << 10})
	s := store.Space("a")
	put(t, s, "k", strings.Repeat("x", 128<<10))
	o := s.Get("k")
	var r objects.Reader
	if err := o.Read(&r, 0, -1); err != nil {
		t.Fatal(err)
	}
	o.Release()
	first, _, _ := r.Next()
	for i := range 50 { // read twice each, so that they displace it
		key := fmt.Sprint(i)
		if f := s.Fill(key, objects.FillOptions{Record: record(""), Length: 64 << 10}); f != nil {
			_ = f.Write(make([]byte, 64<<10)) // a window has no reader and says so
			f.End("")
		}
		if store.Used() > 300<<10 {
			t.Fatalf("%d bytes are held", store.Used())
		}
	}
	n := len(first)
	if strings.Trim(string(first), "x") != "" {
		t.Error("the bytes that were read have changed")
	}
	for {
		p, _, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if len(p) == 0 {
			break
		}
		if strings.Trim(string(p), "x") != "" {
			t.Fatal("the bytes have changed")
		}
		n += len(p)
	}
	r.Close()
	if n != 128<<10 {
		t.Errorf("read %d bytes", n)
	}
}

// TestManyReadersOfAFill: a thousand readers of an unfinished object get all of it.
func TestManyReadersOfAFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := objects.New(objects.Options{}).Space("a")
		body := strings.Repeat("abcdefghij", 30_000)
		f := s.Fill("k", objects.FillOptions{Record: record(""), Length: objects.LengthUnknown})
		var wg sync.WaitGroup
		for range 1000 {
			o := s.Get("k")
			wg.Go(func() {
				defer o.Release()
				got, err := readAll(o, 0, -1)
				if err != nil || got != body {
					t.Errorf("got %d bytes, %v, want %d", len(got), err, len(body))
				}
			})
		}
		for rest := body; rest != ""; {
			n := min(len(rest), 10_007)
			if err := f.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			time.Sleep(time.Millisecond)
		}
		f.End("")
		wg.Wait()
	})
}

// TestFailedFill: readers get what there is and then the error; nobody finds it afterwards.
func TestFailedFill(t *testing.T) {
	s := objects.New(objects.Options{}).Space("a")
	f := s.Fill("k", objects.FillOptions{Record: record(""), Length: 100})
	o := get(t, s, "k")
	_ = f.Write([]byte("part"))
	cause := errors.New("reset")
	f.Fail(cause)
	got, err := readAll(o, 0, -1)
	if got != "part" || !errors.Is(err, objects.ErrCut) || !errors.Is(err, cause) {
		t.Errorf("got %q, %v", got, err)
	}
	if s.Get("k") != nil {
		t.Error("a failed object is found")
	}
}

// TestShortFill: an object that is shorter than was announced has failed.
func TestShortFill(t *testing.T) {
	s := objects.New(objects.Options{}).Space("a")
	f := s.Fill("k", objects.FillOptions{Record: record(""), Length: 100})
	_ = f.Write([]byte("part"))
	f.End("")
	if s.Get("k") != nil {
		t.Error("a short object is found")
	}
}

// TestWindow: an object that becomes too large goes on for its readers, at the speed of the
// slowest, in bounded memory, and nobody else finds it.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objects.New(objects.Options{})
		s := store.Space("a")
		const size = 8 << 20
		f := s.Fill("k", objects.FillOptions{Record: record(""), Length: objects.LengthUnknown, Max: 1 << 20})
		var wg sync.WaitGroup
		for i := range 3 {
			o := s.Get("k")
			var r objects.Reader
			if err := o.Read(&r, 0, -1); err != nil { // before the window can have moved on
				t.Fatal(err)
			}
			wg.Go(func() {
				defer o.Release()
				defer r.Close()
				n := 0
				for {
					p, wait, err := r.Next()
					if err != nil {
						t.Error(err)
						return
					}
					for j := range p {
						if p[j] != byte((n+j)>>10) {
							t.Errorf("reader %d: wrong byte at %d", i, n+j)
							return
						}
					}
					if n += len(p); len(p) > 0 {
						time.Sleep(time.Duration(i) * time.Millisecond)
						continue
					}
					if wait == nil {
						break
					}
					<-wait
				}
				if n != size {
					t.Errorf("reader %d got %d bytes", i, n)
				}
			})
		}
		buf := make([]byte, 16<<10)
		for at := 0; at < size; at += len(buf) {
			for j := range buf {
				buf[j] = byte((at + j) >> 10)
			}
			if err := f.Write(buf); err != nil {
				t.Fatal(err)
			}
			if at > 2<<20 && store.Used() > 512<<10 {
				t.Fatalf("at %d: %d bytes are held", at, store.Used())
			}
		}
		if s.Get("k") != nil {
			t.Error("a window is found")
		}
		f.End("")
		wg.Wait()
		if store.Used() != 0 {
			t.Errorf("%d bytes are held in the end", store.Used())
		}
	})
}

// TestWindowAbandoned: without readers there is nobody to fill a window for.
func TestWindowAbandoned(t *testing.T) {
	store := objects.New(objects.Options{})
	s := store.Space("a")
	f := s.Fill("k", objects.FillOptions{Record: record(""), Length: objects.LengthUnknown, Max: 1000})
	err := f.Write(make([]byte, 100_000))
	if !errors.Is(err, objects.ErrAbandoned) {
		t.Errorf("got %v", err)
	}
	f.Fail(err)
	if store.Used() != 0 {
		t.Errorf("%d bytes are held", store.Used())
	}
}

// TestNoMemory: a fill that finds no memory streams through for the reader that it has.
func TestNoMemory(t *testing.T) {
	store := objects.New(objects.Options{Bytes: 4096})
	s := store.Space("a")
	f := s.Fill("k", objects.FillOptions{Record: record(""), Length: objects.LengthUnknown})
	if f == nil {
		t.Fatal("no room for an empty object")
	}
	o := s.Get("k")
	done := make(chan string)
	var r objects.Reader
	if err := o.Read(&r, 0, -1); err != nil {
		t.Fatal(err)
	}
	o.Release()
	go func() {
		n := 0
		for {
			p, wait, err := r.Next()
			switch n += len(p); {
			case err != nil:
				done <- err.Error()
				return
			case len(p) > 0:
			case wait == nil:
				r.Close()
				done <- fmt.Sprint(n)
				return
			default:
				<-wait
			}
		}
	}()
	for range 100 {
		if err := f.Write(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
		if store.Used() > 4096+64<<10 {
			t.Fatalf("%d bytes are held", store.Used())
		}
	}
	f.End("")
	if got := <-done; got != "1000000" {
		t.Errorf("the reader got %s", got)
	}
	if store.Used() != 0 {
		t.Errorf("%d bytes are held in the end", store.Used())
	}
}

func TestDelete(t *testing.T) {
	s := objects.New(objects.Options{}).Space("a")
	keys := []string{"http://a/x\nr", "http://a/x\nr\nvary1", "http://a/x\nr\nvary2", "http://a/xy\nr", "http://b/x\nr"}
	fill := func() {
		for i, k := range keys {
			put(t, s, k, "body", fmt.Sprintf("tag%d", i%2), "all")
		}
	}
	for _, tc := range []struct {
		name string
		do   func() int
		want string // keys that are left
		n    int
	}{
		{"a key", func() int { s.Delete(keys[0]); return 1 }, "1234", 1},
		{"a line", func() int { return s.DeletePrefix("http://a/x\n") }, "34", 3},
		{"a prefix", func() int { return s.DeletePrefix("http://a/") }, "4", 4},
		{"nothing", func() int { return s.DeletePrefix("http://a/y\n") }, "01234", 0},
		{"a tag", func() int { return s.DeleteTag("tag0") }, "13", 3},
		{"the tag of all", func() int { return s.DeleteTag("all") }, "", 5},
	} {
		fill()
		if n := tc.do(); n != tc.n {
			t.Errorf("%s: got %d, want %d", tc.name, n, tc.n)
		}
		left := ""
		for i, k := range keys {
			if o := s.Get(k); o != nil {
				left += fmt.Sprint(i)
				o.Release()
			}
		}
		if left != tc.want {
			t.Errorf("%s: left are %q, want %q", tc.name, left, tc.want)
		}
		s.DeletePrefix("")
	}
}

func TestGone(t *testing.T) {
	now := time.Unix(1000, 0)
	store := objects.New(objects.Options{Now: func() time.Time { return now }})
	s := store.Space("a")
	if !s.Put("k", objects.Record{Meta: []byte("m"), Gone: now.Add(time.Minute)}, nil) {
		t.Fatal("no room")
	}
	get(t, s, "k").Key()
	now = now.Add(time.Minute)
	if s.Get("k") != nil {
		t.Error("an object is found that should be gone")
	}
}

// TestEvictionKeepsWhatIsRead: one scan of many does not displace what is read again and again.
func TestEvictionKeepsWhatIsRead(t *testing.T) {
	s := objects.New(objects.Options{Bytes: 1 << 20}).Space("a")
	body := strings.Repeat("x", 8000)
	hot := func(i int) string { return fmt.Sprintf("hot%d", i) }
	for i := range 20 {
		put(t, s, hot(i), body)
	}
	for range 3 {
		for i := range 20 {
			get(t, s, hot(i)).Key()
		}
	}
	kept := 0
	for i := range 2000 {
		put(t, s, fmt.Sprintf("scan%d", i), body)
	}
	for i := range 20 {
		if o := s.Get(hot(i)); o != nil {
			kept++
			o.Release()
		}
	}
	if kept < 18 {
		t.Errorf("of 20 objects that were read often, %d are left after a scan", kept)
	}
}

type waiter chan objects.Outcome

func (w waiter) Landed(_ *objects.Flight, o objects.Outcome) { w <- o }

func TestFlights(t *testing.T) {
	s := objects.New(objects.Options{}).Space("a")
	f, leads := s.Join("k", nil)
	if !leads || !s.Flying("k") || s.Flying("j") {
		t.Fatalf("the first does not lead")
	}
	a, b := make(waiter, 2), make(waiter, 2)
	if _, leads := s.Join("k", a); leads {
		t.Fatal("the second leads")
	}
	g, _ := s.Join("k", b)
	g.Leave(b)
	f.Land(objects.Failed)
	f.Land(objects.Stored) // has no effect
	if len(a) != 1 || <-a != objects.Failed || len(b) != 0 {
		t.Error("who waits is not told once, or who left is told")
	}
	if _, leads := s.Join("k", a); !leads {
		t.Error("nobody leads after the end")
	}
}

// TestHammer reads, fills, evicts and deletes at the same time; it is for the race detector.
func TestHammer(t *testing.T) {
	store := objects.New(objects.Options{Bytes: 512 << 10})
	s := store.Space("a")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			for range 400 {
				key := fmt.Sprintf("k%d\nx", rnd.IntN(20))
				switch rnd.IntN(7) {
				case 0:
					s.DeletePrefix(key[:len(key)-1])
				case 6:
					r := record(key)
					s.PutWhole(key, &objects.Whole{Record: r, Tags: []string{key}, Body: bytes.Repeat([]byte{key[1]}, rnd.IntN(10_000))})
				case 1, 2:
					if f := s.Fill(key, objects.FillOptions{Record: record(key), Length: objects.LengthUnknown, Max: 40_000}); f != nil {
						var err error
						for i := 0; i < rnd.IntN(6) && err == nil; i++ {
							err = f.Write(bytes.Repeat([]byte{key[1]}, rnd.IntN(10_000)))
						}
						if err != nil || rnd.IntN(5) == 0 {
							f.Fail(errors.New("cut"))
						} else {
							f.End("")
						}
					}
				default:
					o := s.Get(key)
					if o == nil {
						continue
					}
					got, _ := readAll(o, 0, -1)
					if strings.Trim(got, key[1:2]) != "" {
						t.Error("bytes of another object")
					}
					o.Release()
				}
			}
		})
	}
	wg.Wait()
	s.DeletePrefix("")
	if store.Used() != 0 {
		t.Errorf("%d bytes are held in the end", store.Used())
	}
}
