package main

import (
	"maps"
	"slices"
	"sync"

	"wproxy/core/config"
	"wproxy/core/metrics"
)

// liveNames are the configurations whose parts hold handles of metrics: those
// that are being built, that serve, or that still have exchanges. A name is
// forgotten when none of them has it, and not while something counts under it.
//
// They are also those whose secrets guests may know and log.
type liveNames struct {
	secrets guestSecrets

	mu    sync.Mutex
	files map[*config.File]bool // guarded by mu
	last  *config.File          // guarded by mu; the one removed last: a guest may still say goodbye
}

// add comes before the first handle for f is taken.
func (l *liveNames) add(f *config.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.files == nil {
		l.files = map[*config.File]bool{}
	}
	l.files[f] = true
	l.setSecretsLocked()
}

func (l *liveNames) setSecretsLocked() {
	files := slices.Collect(maps.Keys(l.files))
	if l.last != nil {
		files = append(files, l.last)
	}
	l.secrets.set(files)
}

// remove comes after the last use of a handle for f. It holds the lock all the
// time: a configuration that is added meanwhile takes its handles afterwards.
func (l *liveNames) remove(f *config.File, m *metrics.Metrics) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.files, f)
	l.last = f
	l.setSecretsLocked()
	if len(l.files) == 0 {
		return // the end of the process, or of a check: the last numbers stay
	}
	m.Retain(func(label, name string) bool {
		for f := range l.files {
			if hasName(f, label, name) {
				return true
			}
		}
		return false
	})
}

// hasName tells whether f has what a metric's label names.
func hasName(f *config.File, label, name string) (ok bool) {
	switch label {
	case "route":
		_, ok = f.Routes[name]
		return ok || name == ""
	case "listener":
		_, ok = f.Listeners[name]
	case "upstream":
		_, ok = f.Upstreams[name]
	case "plugin":
		_, ok = f.Plugins[name]
	default:
		return true
	}
	return ok
}
