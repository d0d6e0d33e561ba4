package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"wproxy/core/config"
	"wproxy/core/handover"
	"wproxy/core/health"
	"wproxy/core/metrics"
	"wproxy/core/server"
	"wproxy/host"
)

const (
	// upgradeTime is how long the new process may take to serve, unless somebody says
	// otherwise: plugins that it compiles anew take about a second each.
	upgradeTime = 60 * time.Second

	// upgradeMost bounds what may be asked for: the command does not wait for longer.
	upgradeMost = 10 * time.Minute
)

// Why there is no upgrade.
var (
	errUpgrading   = errors.New("an upgrade is under way")
	errUpgradeInit = errors.New("wproxy is process 1 here, and the container ends with it: replace the container instead")
	errUpgradeStop = errors.New("wproxy was told to stop")
)

// carried is what goes to the next process, in two parts (host.State). It is plugin-agnostic
// and encoded by field name; see handover.StateVersion.
type carried struct {
	Host   *host.State
	Sticky []byte // of the first part: parts.stickySecret

	// Of the second part.
	Health map[string]map[string]health.Carried // by upstream and server
	Guests []metrics.GuestValue
}

// upgradeStatus is how the last upgrade from this process went, or that one is under way.
type upgradeStatus struct {
	At      time.Time `json:"at"`
	Binary  string    `json:"binary"`
	PID     int       `json:"pid,omitempty"` // of the new process
	Running bool      `json:"running,omitempty"`
	OK      bool      `json:"ok,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// upgrade starts binary, "" for the file that this process was started from, hands the
// sockets and the state over, and returns what to tell when the new process serves; this one
// drains then. After an error nothing has changed. limit is how long that may take, 0:
// upgradeTime.
func (a *app) upgrade(ctx context.Context, binary string, limit time.Duration) ([]string, error) {
	if err := mayUpgrade(os.Getpid()); err != nil {
		return nil, a.refuseUpgrade(err)
	}
	if !a.upgrading.CompareAndSwap(false, true) {
		return nil, a.refuseUpgrade(errUpgrading)
	}
	defer a.upgrading.Store(false)
	a.reloading.Lock() // one that is under way is waited for
	defer a.reloading.Unlock()
	if a.ended || a.server.Draining() {
		return nil, a.refuseUpgrade(server.ErrDraining)
	}
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return nil, a.refuseUpgrade(err)
		}
	}
	if limit <= 0 {
		limit = upgradeTime
	}
	ctx, give := context.WithCancelCause(ctx)
	defer give(nil)
	ctx, cancel := context.WithTimeoutCause(ctx, min(limit, upgradeMost),
		fmt.Errorf("the new process does not serve after %s", config.FormatDuration(limit)))
	defer cancel()
	a.setUpgrade(&upgradeStatus{At: time.Now(), Binary: binary, Running: true}, give)
	a.log.Info("upgrade: starting the new process", zap.String("binary", binary))
	a.supervisor.reloading()

	s, pid, err := a.handOver(ctx, binary)
	if err != nil {
		a.setUpgrade(&upgradeStatus{At: time.Now(), Binary: binary, PID: pid, Error: err.Error()}, nil)
		a.supervisor.ready()
		return nil, a.refuseUpgrade(err)
	}
	a.ended = true // no more reloads: the new process does them
	a.setUpgrade(&upgradeStatus{At: time.Now(), Binary: binary, PID: pid, OK: true}, nil)
	a.supervisor.handedTo(s.PID)
	a.mu.Lock()
	drain := a.current.file.Server.Drain
	a.mu.Unlock()
	told := []string{
		fmt.Sprintf("process %d (%s) serves", s.PID, s.Version),
		fmt.Sprintf("process %d (%s) drains for at most %s", os.Getpid(), versionString(), config.FormatDuration(drain)),
	}
	for _, n := range s.Notes {
		told = append(told, "left behind: "+n)
	}
	a.log.Info("upgrade: the new process serves", zap.Int("pid", s.PID), zap.String("version", s.Version), zap.Strings("left_behind", s.Notes))
	a.handed <- struct{}{} // has room: it happens once
	return told, nil
}

// mayUpgrade says why a process with that number can have no successor.
func mayUpgrade(pid int) error {
	if pid == 1 {
		return errUpgradeInit
	}
	return nil
}

// refuseUpgrade tells of an upgrade that did not come about, and returns why.
func (a *app) refuseUpgrade(err error) error {
	a.log.Error("upgrade failed, nothing has changed", zap.Error(err))
	a.parts.metrics.Upgrade(false)
	a.parts.view.mark("refused", "upgrade failed: "+firstLine(err.Error()))
	return err
}

// setUpgrade notes how an upgrade does. give, if set, gives it up, which is done at once if the
// process was told to stop meanwhile.
func (a *app) setUpgrade(st *upgradeStatus, give context.CancelCauseFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastUpgrade, a.giveUpgrade = st, give
	if give != nil && a.told {
		give(errUpgradeStop)
	}
}

// abortUpgrade gives up an upgrade that is under way, and every later one: the process was told
// to stop. It reports that it is too late for that, since another process serves.
func (a *app) abortUpgrade() (gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone {
		return true
	}
	a.told = true
	if a.giveUpgrade != nil {
		a.giveUpgrade(errUpgradeStop)
	}
	return false
}

// goneTo notes that another process serves; false: this one was told to stop, and so is that.
func (a *app) goneTo() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone = !a.told
	return a.gone
}

// handOver does the work of upgrade. reloading is held.
func (a *app) handOver(ctx context.Context, binary string) (s *handover.Serving, pid int, err error) {
	sockets, err := a.sockets()
	if err != nil {
		return nil, 0, err
	}
	spare := a.inherited.Spare(sockets) // whose files are not ours to close
	defer func() {
		for _, g := range sockets {
			_ = g.File.Close() // a copy
		}
	}()
	first, mark := a.parts.host.FirstState(stateBytes)
	state, err := handover.Seal(&carried{Host: first, Sticky: a.parts.stickySecret})
	if err != nil {
		return nil, 0, fmt.Errorf("the state of plugins: %w", err)
	}
	var second *host.State
	frozen := false
	c, err := handover.Start(handover.Options{
		Binary: binary, Args: os.Args[1:], Sockets: append(slices.Clip(sockets), spare...),
		Version: versionString(), State: state,
		Rest: func() ([]byte, error) {
			frozen = true
			second = a.parts.host.SecondState(mark, stateBytes)
			rest := &carried{Host: second, Health: a.parts.servers.carry(), Guests: a.parts.metrics.GuestValues()}
			return handover.Seal(rest)
		},
	})
	if err != nil {
		return nil, 0, fmt.Errorf("%s cannot be started: %w", binary, err)
	}
	a.mu.Lock()
	a.lastUpgrade.PID = c.PID
	a.mu.Unlock()
	if s, err = c.Serving(ctx); err == nil {
		if a.goneTo() {
			go a.watchSuccessor(c)
			return s, c.PID, nil
		}
		err = errUpgradeStop
	}
	c.Stop()
	if frozen {
		a.parts.host.ResumeState(second)
	}
	a.restorePidFile()
	return nil, c.PID, err
}

// watchSuccessor tells of the end of the new process. It ends with that, or with this process,
// which has given all away and only drains.
func (a *app) watchSuccessor(c *handover.Child) {
	state := c.Wait()
	a.log.Warn("the new process has ended; this one has no sockets any more, and goes on draining", zap.Int("pid", c.PID), zap.String("how", state))
}

// stateBytes bounds each part of the host's state: what it is encoded as, with all else, fits
// into handover.MaxState.
const stateBytes = handover.MaxState * 3 / 4

// sockets returns copies of all sockets that clients or operators connect to.
func (a *app) sockets() ([]handover.Given, error) {
	listeners, err := a.server.Sockets()
	if err != nil {
		return nil, err
	}
	all := make([]handover.Given, 0, len(listeners))
	for _, l := range listeners {
		all = append(all, handover.Given{Socket: handover.Socket{Name: l.Name, Address: l.Address, Manager: l.Foreign}, File: l.File})
	}
	doors, err := a.doors.sockets()
	if err != nil {
		for _, g := range all {
			_ = g.File.Close() // a copy
		}
		return nil, err
	}
	return append(all, doors...), nil
}

// restorePidFile writes the pid file again if a new process had written its own.
func (a *app) restorePidFile() {
	if a.pidFile == "" {
		return
	}
	if b, err := os.ReadFile(a.pidFile); err == nil && string(b) == pidText() {
		return
	}
	if _, err := writePidFile(a.pidFile); err != nil {
		a.log.Error("the pid file", zap.Error(err))
	}
}

// beginLeave is beginStop for a process whose sockets another one has.
func (a *app) beginLeave(drained chan<- struct{}) context.CancelFunc {
	a.supervisor.stop() // the other one says that it lives
	a.doors.leave()
	a.left.Go(func() { // close waits for it
		ctx, cancel := context.WithTimeout(context.Background(), adminCloseTime)
		defer cancel()
		a.admin.Close(ctx) // commands come to the other one
	})
	return a.beginStop(drained, true)
}

// runUpgrade is `wproxy upgrade`.
func runUpgrade(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("upgrade", `Usage: wproxy upgrade [-c FILE | --to ADDRESS | --socket PATH] [--binary PATH] [--timeout TIME]

Makes the running wproxy start its program anew, as SIGUSR2 does, from the file that
it was started from or another one, and hand sockets, shared data, counters and the
health of servers over to it; waits until the new process serves and prints who does.
The old one then finishes what it has, for at most server.drain. If the new one does
not come to serve (its file, its configuration, its plugins, the time), the old one
goes on: the reason is printed and the exit code is 1.`, stderr)
	find := clientFlags(fs)
	binary := fs.String("binary", "", "the program `PATH`, instead of the one that runs")
	limit := fs.Duration("timeout", upgradeTime, "how long (a `TIME` such as 30s) the new process may take to serve; 1m if it is left out")
	if code, done := parseFlags(fs, args, 0, stdout); done {
		return code
	}
	if *limit <= 0 || *limit > upgradeMost {
		fmt.Fprintf(stderr, "wproxy upgrade: --timeout %s: want more than 0 and at most %s\n", *limit, upgradeMost)
		return exitFailed
	}
	socket, err := find()
	if err != nil {
		return fail(stderr, "upgrade", err)
	}
	q := url.Values{"timeout": {strconv.FormatInt(limit.Milliseconds(), 10)}}
	if *binary != "" {
		path, err := filepath.Abs(*binary)
		if err != nil {
			return fail(stderr, "upgrade", err)
		}
		q.Set("binary", path)
	}
	rep, code, done := orderWithin(ctx, "upgrade", socket, "/upgrade?"+q.Encode(), *limit+orderTime, stderr)
	if done {
		return code
	}
	for _, c := range rep.Changes {
		fmt.Fprintln(stdout, c)
	}
	return exitOK
}
