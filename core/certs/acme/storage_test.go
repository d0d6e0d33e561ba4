package acme

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestLocks: a lock is held by one at a time, whichever storage of a directory asks; who
// waits can give up; and a directory that was removed comes back.
func TestLocks(t *testing.T) {
	dir := t.TempDir()
	one, err := openStorage(dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := openStorage(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := one.Lock(ctx, "a.example.test"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*storage{one, two} {
		if ok, err := s.TryLock(ctx, "a.example.test"); ok || err != nil {
			t.Errorf("a lock that is held: %v, %v", ok, err)
		}
	}
	if ok, err := two.TryLock(ctx, "b.example.test"); !ok || err != nil {
		t.Errorf("another lock: %v, %v", ok, err)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := two.Lock(short, "a.example.test"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who gives up waiting gets %v", err)
	}
	if err := errors.Join(one.Unlock(ctx, "a.example.test"), one.Unlock(ctx, "a.example.test"), two.Unlock(ctx, "b.example.test")); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	inside, most, done := 0, 0, 0
	var wg sync.WaitGroup
	for i := range 8 {
		s := []*storage{one, two}[i%2]
		wg.Go(func() {
			if err := s.Lock(ctx, "../../a b"); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			inside--
			done++
			mu.Unlock()
			if err := s.Unlock(ctx, "../../a b"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most != 1 || done != 8 {
		t.Errorf("%d at a time, %d in all", most, done)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "locks", "*")); err != nil || len(names) != 1 {
		t.Errorf("locks: %q, %v", names, err)
	}
}

// TestLoadLarge: a file that is no certificate is not read into memory.
func TestLoadLarge(t *testing.T) {
	s, err := openStorage(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Store(t.Context(), "large", make([]byte, maxPEM+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "large"); err == nil {
		t.Error("read")
	}
	if _, err := s.Load(t.Context(), "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}
