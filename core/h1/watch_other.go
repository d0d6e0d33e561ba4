//go:build !linux

package h1

import "syscall"

// A Watcher notices connections whose other end has gone, with one goroutine
// for all of them. One per process is enough. A nil Watcher notices nothing.
type Watcher struct{}

type watched interface {
	otherEndGone(dead bool)
	readable()
}

type watchID uint64

// NewWatcher starts a Watcher. On systems without epoll it returns one that
// notices nothing.
func NewWatcher() (*Watcher, error) { return new(Watcher), nil }

// Close ends the goroutine and waits for it.
func (w *Watcher) Close() error { return nil }

func (w *Watcher) add(syscall.RawConn, watched, *watchID) {}

func (w *Watcher) remove(watchID) {}

func (w *Watcher) wakeOnBytes(syscall.RawConn, watchID, bool) bool { return false }
