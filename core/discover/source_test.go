package discover_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/discover"
)

// A script is a Finder that finds what the test says.
type script struct {
	mu    sync.Mutex
	found []string
	ttl   time.Duration
	err   error
	looks []time.Time
}

func (s *script) Find(context.Context) (discover.Answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = append(s.looks, time.Now())
	return discover.Answer{Servers: servers(s.found), TTL: s.ttl}, s.err
}

func (s *script) set(err error, found ...string) {
	s.mu.Lock()
	s.found, s.err = found, err
	s.mu.Unlock()
}

func servers(addresses []string) (all []discover.Server) {
	for _, a := range addresses {
		all = append(all, discover.Server{Address: a, Weight: 1})
	}
	return all
}

// A watch is what a subscriber has heard.
type watch struct {
	mu     sync.Mutex
	sets   []string
	events []string
	looked map[string]int
}

func start(s *script, keep time.Duration, forever bool) (*discover.Source, *watch) {
	w := &watch{looked: map[string]int{}}
	src := discover.Start(discover.Options{
		Finder: s, Every: 10 * time.Second, Keep: keep, Forever: forever,
		Looked: func(result string, used int) { w.mu.Lock(); w.looked[result]++; w.mu.Unlock() },
		Changed: func(e discover.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, fmt.Sprintf("+%v -%v %d %s", e.Added, e.Removed, e.Used, e.Failing))
		},
	})
	src.Wait(context.Background())
	src.Subscribe(func(found []discover.Server) {
		var names []string
		for _, f := range found {
			names = append(names, f.Address)
		}
		w.mu.Lock()
		w.sets = append(w.sets, strings.Join(names, " "))
		w.mu.Unlock()
	})
	return src, w
}

func (w *watch) expect(t *testing.T, sets, events []string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.sets, sets) {
		t.Errorf("sets\n got %q\nwant %q", w.sets, sets)
	}
	if !slices.Equal(w.events, events) {
		t.Errorf("events\n got %q\nwant %q", w.events, events)
	}
	w.sets, w.events = nil, nil
}

func TestSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{found: []string{"b:1", "a:1", "b:1"}}
		src, w := start(s, time.Minute, false)
		defer src.Close()
		w.expect(t, []string{"a:1 b:1"}, []string{"+[a:1 b:1] -[] 2 "})
		s.set(nil, "b:1", "a:1") // another order is no change
		time.Sleep(12 * time.Second)
		w.expect(t, nil, nil)
		s.set(nil, "b:1", "c:1")
		time.Sleep(12 * time.Second)
		w.expect(t, []string{"b:1 c:1"}, []string{"+[c:1] -[a:1] 2 "})

		s.set(nil) // empty
		time.Sleep(50 * time.Second)
		w.expect(t, nil, []string{"+[] -[] 2 no servers"})
		time.Sleep(25 * time.Second)
		w.expect(t, []string{""}, []string{"+[] -[b:1 c:1] 0 no servers"})
		s.set(nil, "c:1")
		time.Sleep(12 * time.Second)
		w.expect(t, []string{"c:1"}, []string{"+[c:1] -[] 1 "})

		s.set(errors.New("SERVFAIL"))
		time.Sleep(30 * time.Second)
		w.expect(t, nil, []string{"+[] -[] 1 SERVFAIL"})
		s.set(nil, "c:1")
		time.Sleep(12 * time.Second)
		w.expect(t, nil, []string{"+[] -[] 1 "})
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.looked["ok"] == 0 || w.looked["empty"] == 0 || w.looked["failed"] == 0 {
			t.Errorf("looked %v", w.looked)
		}
	})
}

func TestSourceKeepsForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{found: []string{"a:1"}}
		src, w := start(s, time.Minute, true)
		defer src.Close()
		s.set(errors.New("line 3: no comma"))
		time.Sleep(time.Hour)
		w.expect(t, []string{"a:1"}, []string{"+[a:1] -[] 1 ", "+[] -[] 1 line 3: no comma"})
	})
}

// TestPauses checks when looks happen.
func TestPauses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		ttl        time.Duration
		err        error
		least, max time.Duration // of the second pause
	}{
		{"no TTL", 0, nil, 10 * time.Second, 11 * time.Second},
		{"a short TTL", 3 * time.Second, nil, 3 * time.Second, 3300 * time.Millisecond},
		{"a TTL too short", time.Millisecond, nil, time.Second, 1100 * time.Millisecond},
		{"a long TTL", time.Hour, nil, 10 * time.Second, 11 * time.Second},
		{"the second failure", 0, errors.New("x"), 2 * time.Second, 2200 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{found: []string{"a:1"}, ttl: tt.ttl, err: tt.err}
				src, _ := start(s, time.Minute, false)
				time.Sleep(25 * time.Second)
				src.Close()
				synctest.Wait()
				s.mu.Lock()
				defer s.mu.Unlock()
				if gap := s.looks[2].Sub(s.looks[1]); gap < tt.least || gap > tt.max {
					t.Errorf("the second pause is %v, want %v to %v", gap, tt.least, tt.max)
				}
			})
		})
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "servers")
	parses := 0
	f := &discover.File{Path: path, Parse: func(b []byte) ([]discover.Server, error) {
		parses++
		if strings.Contains(string(b), "bad") {
			return nil, errors.New("bad line")
		}
		return servers(strings.Fields(string(b))), nil
	}}
	find := func(want string, wantErr string) {
		t.Helper()
		a, err := f.Find(t.Context())
		var names []string
		for _, s := range a.Servers {
			names = append(names, s.Address)
		}
		if got := strings.Join(names, " "); got != want || (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("got %q, %v; want %q, %q", got, err, want, wantErr)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	find("", "no such file")
	write("a:1 b:1")
	find("a:1 b:1", "")
	find("a:1 b:1", "")
	if parses != 1 {
		t.Errorf("parsed %d times", parses)
	}
	write("a:1 c:1") // as long, and as old as the clock of the file system can tell
	find("a:1 c:1", "")
	write("bad")
	find("", "bad line")
	find("", "bad line")
	write("")
	find("", "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	find("", "no such file")
	write("d:1")
	find("d:1", "")
	// A link that is moved, as mounted configurations are.
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("e:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, path); err != nil {
		t.Fatal(err)
	}
	find("e:1", "")
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, discover.MaxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&discover.File{Path: big}).Find(t.Context()); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("got %v", err)
	}
}

// A crowd counts how many looks are under way.
type crowd struct {
	mu        sync.Mutex
	now, most int
	looks     int
}

func (c *crowd) Find(context.Context) (discover.Answer, error) {
	c.mu.Lock()
	c.now++
	c.looks++
	c.most = max(c.most, c.now)
	c.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
	c.mu.Lock()
	c.now--
	c.mu.Unlock()
	return discover.Answer{}, nil
}

// TestLooksTakeTurns: many sources that start together do not ask all at once, one that is
// closed waits for nobody, and all have their turn.
func TestLooksTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const sources, most = 500, 20
		c, slots := &crowd{}, make(chan struct{}, most)
		var all []*discover.Source
		for range sources {
			all = append(all, discover.Start(discover.Options{Finder: c, Every: time.Hour, Slots: slots}))
		}
		time.Sleep(15 * time.Millisecond)
		for _, s := range all[:50] {
			s.Close()
		}
		time.Sleep(time.Second)
		for _, s := range all {
			s.Close()
		}
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.most != most || c.looks < sources-50 {
			t.Errorf("%d at a time, want %d; %d looks of %d", c.most, most, c.looks, sources)
		}
		if len(slots) != 0 {
			t.Errorf("%d slots are held", len(slots))
		}
	})
}
