package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"wproxy/core/config"
)

// Connections on both sides, and what the process has open beside them.
const (
	filesPerConnection = 2
	filesBeside        = 64
)

// writePidFile writes the process id, in one step, so that nobody reads half of it. remove
// takes the file away if it is still this process's.
func writePidFile(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	text := pidText()
	if err := replaceFile(path, text); err != nil {
		// After an upgrade the process is server.user, to whom the file belongs and perhaps
		// not its directory.
		if errors.Is(err, os.ErrPermission) {
			err = overwriteFile(path, text)
		}
		if err != nil {
			return nil, fmt.Errorf("server.pid_file: %w", err)
		}
	}
	return func() {
		if b, err := os.ReadFile(path); err == nil && string(b) == text {
			_ = os.Remove(path) // of no use
		}
	}, nil
}

// pidText is what a pid file has in it.
func pidText() string { return strconv.Itoa(os.Getpid()) + "\n" }

// replaceFile exchanges the file for one with that text.
func replaceFile(path, text string) error {
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close()) //nolint:gosec // for everybody to read
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // of no use
	}
	return err
}

// overwriteFile writes into a file that is there.
func overwriteFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// warnOpenFiles says when the limit of open files is below what the listeners may need. (The
// Go runtime has raised the soft limit to the hard one already.)
func (a *app) warnOpenFiles(f *config.File) {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return // nothing to say
	}
	need := uint64(filesBeside)
	for _, ln := range f.Listeners {
		need += filesPerConnection * uint64(ln.Limits.Connections)
	}
	limit := max(int64(l.Cur), 0) // it is signed on FreeBSD, and infinite is negative or beyond this
	if limit > 0 && uint64(limit) < need {
		a.log.Warn("the limit of open files is below what limits.connections may need: connections can fail before they reach it",
			zap.Int64("limit", limit), zap.Uint64("needed", need))
	}
}

// setThreads applies server.threads; 0 leaves what the runtime found.
func setThreads(f *config.File) {
	if n := f.Server.Threads; n > 0 && n != runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(n)
	}
}

// A supervisor is told about the state of the process: systemd, by way of the socket in
// NOTIFY_SOCKET (sd_notify(3)). Without one nothing happens.
type supervisor struct {
	log      *zap.Logger
	watchdog *time.Ticker // nil: it does not want to be told that we live
}

func newSupervisor(log *zap.Logger) *supervisor {
	s := &supervisor{log: log}
	if every, err := daemon.SdWatchdogEnabled(false); err != nil {
		log.Warn("the watchdog of the service manager", zap.Error(err))
	} else if every > 0 {
		s.watchdog = time.NewTicker(every / 2) // as sd_watchdog_enabled(3) recommends
	}
	return s
}

// beat returns when it is time for alive; nil: never.
func (s *supervisor) beat() <-chan time.Time {
	if s.watchdog == nil {
		return nil
	}
	return s.watchdog.C
}

// stop ends the beats. The caller is who waits for them.
func (s *supervisor) stop() {
	if s.watchdog != nil {
		s.watchdog.Stop()
		s.watchdog = nil
	}
}

func (s *supervisor) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("cannot tell the service manager", zap.String("state", state), zap.Error(err))
	}
}

func (s *supervisor) ready()    { s.tell(daemon.SdNotifyReady + "\nMAINPID=" + strconv.Itoa(os.Getpid())) }
func (s *supervisor) stopping() { s.tell(daemon.SdNotifyStopping) }
func (s *supervisor) alive()    { s.tell(daemon.SdNotifyWatchdog) }

// handedTo says that another process, which says so itself as well, is the service now. With
// NotifyAccess=main only who was the main process before is heard.
func (s *supervisor) handedTo(pid int) {
	s.tell(daemon.SdNotifyReady + "\nMAINPID=" + strconv.Itoa(pid))
}

// reloading is followed by ready, whatever has become of the reload.
func (s *supervisor) reloading() {
	s.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// reopenOnly is what SIGUSR1 asks for.
func (a *app) reopenOnly() {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if !a.ended {
		a.reopenLogs()
		a.log.Info("logs are open anew")
	}
}
