package main

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"wproxy/core/config"
)

// watchEvery is how often the files of a configuration are looked at, with server.watch.
// Looking costs a microsecond a file and sees what a notification of the kernel would not:
// network file systems, and links that are exchanged, as Kubernetes does.
const watchEvery = time.Second

// clockStep is how far the time of a change may be behind the clock: a tick of the kernel.
const clockStep = 20 * time.Millisecond

// A fileState tells a file from what it was.
type fileState struct {
	mod   time.Time
	size  int64
	inode uint64
}

// lookAt returns the states of all files of a configuration: those it was read from, what
// its includes find, and its .wasm files. Files that are not there have none.
func lookAt(f *config.File) map[string]fileState {
	names := slices.Clone(f.Files)
	for _, g := range f.Include {
		if !filepath.IsAbs(g) {
			g = filepath.Join(filepath.Dir(f.Path), g)
		}
		found, _ := filepath.Glob(g) // a bad pattern has been refused
		names = append(names, found...)
	}
	for _, p := range f.Plugins {
		if p.Path != "" {
			names = append(names, p.Path)
		}
	}
	states := make(map[string]fileState, len(names))
	for _, name := range names {
		if fi, err := os.Stat(name); err == nil {
			states[name] = statOf(fi)
		}
	}
	return states
}

func statOf(fi fs.FileInfo) fileState {
	return fileState{fi.ModTime(), fi.Size(), inodeOf(fi)}
}

// watch reloads when a file of the configuration has changed and has been at rest for one
// look: an editor, or scp, may be in the middle of it. It returns when ctx is done. Every
// generation is looked at anew, so what a refused file would have included is not seen, but
// the file itself is.
func (a *app) watch(ctx context.Context) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	var w watched
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		a.mu.Lock()
		g := a.current
		a.mu.Unlock()
		if !g.file.Server.Watch {
			w.of = nil
			continue
		}
		if a.upgrading.Load() {
			continue // a reload would be refused: what has changed is seen when it is over, by who serves then
		}
		if changed := w.look(g, lookAt(g.file)); changed != nil {
			a.log.Info("files of the configuration have changed", zap.Strings("files", changed))
			if _, err := a.reload(ctx); errors.Is(err, errUpgrading) { // one has just begun. All else is logged
				w.again()
			}
		}
	}
}

// watched is what is known of the files between two looks.
type watched struct {
	of      *generation          // that served at the last look; nil: there is none
	seen    map[string]fileState // what the last load, or attempt, was made from
	pending map[string]fileState // another one, seen once
}

// look takes in the files as they are, while g serves. It returns which have changed if
// it is time for another load, which it takes for begun.
func (w *watched) look(g *generation, now map[string]fileState) (changed []string) {
	switch {
	case w.of != g: // loaded, by whomever, since the last look
		known := w.seen
		w.of, w.seen, w.pending = g, maps.Clone(now), nil
		for name, s := range now {
			// It may have changed after it was read, unless it is what it was before
			// that: a file from the future would be loaded for ever.
			if s.mod.After(g.read.Add(-clockStep)) && !s.same(known[name]) {
				delete(w.seen, name)
			}
		}
	case sameFiles(w.seen, now):
		w.pending = nil
	case w.pending == nil || !sameFiles(w.pending, now):
		w.pending = now
	default:
		changed = changedFiles(w.seen, now)
		w.seen, w.pending = now, nil
	}
	return changed
}

// again has the load that look has taken for begun be begun once more.
func (w *watched) again() { w.seen, w.pending = nil, nil }

func (s fileState) same(t fileState) bool {
	return s.mod.Equal(t.mod) && s.size == t.size && s.inode == t.inode
}

func sameFiles(a, b map[string]fileState) bool { return len(changedFiles(a, b)) == 0 }

// changedFiles lists which files differ.
func changedFiles(a, b map[string]fileState) []string {
	var all []string
	for name, s := range a {
		if t, ok := b[name]; !ok || !s.same(t) {
			all = append(all, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}
