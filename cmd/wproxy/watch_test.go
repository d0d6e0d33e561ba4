package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestWatchFuture: a file from the future (another clock, a wrong time zone) is looked at
// once more after a load, as it may have changed since it was read, and then known: it
// does not have the configuration loaded again and again.
func TestWatchFuture(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "wproxy.toml")
	write := func(s string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	look := func() map[string]fileState {
		t.Helper()
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]fileState{path: statOf(fi)}
	}
	// reloads looks n times, as watch does, and counts loads.
	var w watched
	g := &generation{read: time.Now()}
	reloads := func(n int) (loads int) {
		for range n {
			if changed := w.look(g, look()); changed != nil {
				loads++
				g = &generation{read: time.Now()}
			}
		}
		return loads
	}
	write("a", time.Now().Add(-time.Minute))
	if n := reloads(5); n != 0 {
		t.Errorf("%d loads of a file that has not changed", n)
	}
	write("ab", time.Now().Add(-time.Minute))
	if n := reloads(10); n != 1 {
		t.Errorf("%d loads of a change", n)
	}
	write("abc", time.Now().Add(time.Hour))
	if n := reloads(20); n != 1 {
		t.Errorf("%d loads of a change from the future", n)
	}
	// It changes while somebody else has it loaded: nobody knows which was read.
	g = &generation{read: time.Now()}
	write("abcd", time.Now().Add(time.Hour))
	if n := reloads(20); n != 1 {
		t.Errorf("%d loads of a change during a load", n)
	}
}
