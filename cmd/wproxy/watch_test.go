package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"wproxy/core/config"
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

// TestWatchUpgrade: what changes while an upgrade is under way is loaded when that has failed: a
// reload is refused meanwhile, and the change must not count as seen.
func TestWatchUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wproxy.toml")
	write := func(s string) {
		t.Helper()
		at := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) // the clock of the test begins in 2000
		if err := errors.Join(os.WriteFile(path, []byte(s), 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		f := &config.File{Files: []string{path}}
		f.Server.Watch = true
		// It was told to stop: its reloads have no effect.
		a := &app{log: zap.New(core), current: &generation{file: f, read: time.Now()}, ended: true}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { // ends with ctx
			defer close(done)
			a.watch(ctx)
		}()
		reloads := func(after time.Duration) int {
			time.Sleep(after)
			synctest.Wait()
			return logs.FilterMessage("files of the configuration have changed").Len()
		}
		if n := reloads(5 * time.Second); n != 0 {
			t.Errorf("%d reloads of a file that has not changed", n)
		}
		a.upgrading.Store(true)
		write("ab")
		if n := reloads(10 * time.Second); n != 0 {
			t.Errorf("%d reloads during an upgrade", n)
		}
		a.upgrading.Store(false)
		if n := reloads(5 * time.Second); n != 1 {
			t.Errorf("%d reloads after it, want 1", n)
		}
		cancel()
		<-done
	})
	var w watched
	g := &generation{read: time.Now()}
	state := func(size int64) map[string]fileState { return map[string]fileState{path: {size: size}} }
	loads := 0
	for i := range 8 {
		if w.look(g, state(min(int64(i), 1))) == nil {
			continue
		}
		if loads++; loads == 1 {
			w.again() // it was refused
		}
	}
	if loads != 2 {
		t.Errorf("%d loads of a change whose first was refused, want 2", loads)
	}
}
