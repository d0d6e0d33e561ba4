package acme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/certmagic"
)

// A storage is certmagic's directory of files (mode 0600, in directories of mode 0700, each
// written aside and renamed), with other locks. Certmagic's are files with a
// time in them, kept fresh by a goroutine that nobody can end; ours the kernel lets
// go of when a process dies, however it does.
type storage struct {
	certmagic.FileStorage

	mu   sync.Mutex
	held map[string]*os.File // guarded by mu
}

// The interfaces that certmagic looks for.
var (
	_ certmagic.Storage   = (*storage)(nil)
	_ certmagic.TryLocker = (*storage)(nil)
)

// openStorage returns the storage in dir, which need not be there.
func openStorage(dir string) (*storage, error) {
	if dir == "" {
		return nil, errors.New("acme: no directory to keep certificates in")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("acme: storage: %w", err)
	}
	return &storage{FileStorage: certmagic.FileStorage{Path: dir}, held: map[string]*os.File{}}, nil
}

// prepare makes the directory if it is missing, and finds out whether it can be used.
func (s *storage) prepare() error {
	locks := filepath.Join(s.Path, "locks")
	if err := os.MkdirAll(locks, 0o700); err != nil {
		return fmt.Errorf("acme: storage: %w", err)
	}
	probe, err := os.CreateTemp(locks, "probe-")
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil // what is stored can be served; orders will tell
	}
	if err != nil {
		return fmt.Errorf("acme: storage: %w", err)
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return fmt.Errorf("acme: storage: %w", err)
	}
	return nil
}

// Load implements certmagic.Storage. What is too large was not written by us.
func (s *storage) Load(ctx context.Context, key string) ([]byte, error) {
	fi, err := os.Stat(s.Filename(key))
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxPEM {
		return nil, &fs.PathError{Op: "read", Path: s.Filename(key), Err: errors.New("file is too large")}
	}
	return s.FileStorage.Load(ctx, key)
}

// Lock implements certmagic.Locker: between processes, and between managers in
// this one. The file of a lock is left where it is, since removing it would let two in.
func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		ok, err := s.TryLock(ctx, name)
		if ok || err != nil {
			return err
		}
		t := time.NewTimer(lockPoll)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// TryLock implements certmagic.TryLocker.
func (s *storage) TryLock(_ context.Context, name string) (bool, error) {
	path := filepath.Join(s.Path, "locks", certmagic.StorageKeys.Safe(name)+".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil { // somebody may have cleaned up
		return false, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	ok, err := lockFile(f)
	if !ok || err != nil {
		_ = f.Close() // it was not locked
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[name] = f
	return true, nil
}

// Unlock implements certmagic.Locker.
func (s *storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	f := s.held[name]
	delete(s.held, name)
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f.Close() // which unlocks
}
