package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"wproxy/core/server"
)

// reloadStatus is how the last attempt to load a configuration went.
type reloadStatus struct {
	At    time.Time `json:"at,omitzero"`
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"`
}

// reload loads the configuration anew, builds all of it aside and swaps it in.
// It returns what changed, one change a line, or why nothing did. Two reloads
// take turns.
func (a *app) reload(ctx context.Context) ([]string, error) {
	if a.upgrading.Load() {
		err := fmt.Errorf("%w: the new process has read the configuration already, reload it when it serves", errUpgrading)
		a.log.Error("reload refused, nothing has changed", zap.Error(err))
		return nil, err
	}
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.ended {
		return nil, server.ErrDraining
	}
	a.supervisor.reloading()
	defer a.supervisor.ready()
	a.reopenLogs()
	changes, err := a.tryReload(ctx)
	st := reloadStatus{At: time.Now(), OK: err == nil}
	if err != nil {
		st.Error = err.Error()
		a.log.Error("reload refused, nothing has changed", zap.Error(err))
	} else {
		a.log.Info("reloaded", zap.Strings("changes", changes))
	}
	a.parts.metrics.SetReload(err == nil)
	a.parts.view.markReload(changes, err)
	a.mu.Lock()
	a.lastReload = st
	a.mu.Unlock()
	return changes, err
}

// tryReload does the work of reload. Everything that can fail comes before the
// first change.
func (a *app) tryReload(ctx context.Context) (changes []string, err error) {
	read := time.Now()
	f, err := a.source.load()
	if err != nil {
		return nil, err
	}
	var undo cleanup
	defer func() {
		if err != nil {
			undo.run()
		}
	}()
	useLog, keepLog, err := a.logFile.open(f.Log)
	if err != nil {
		return nil, err
	}
	undo.add(keepLog)
	doors, err := a.doors.prepare(ctx, f.Admin)
	if err != nil {
		return nil, err
	}
	undo.add(doors.giveUp)
	g, err := a.parts.build(ctx, f, false)
	if err != nil {
		return nil, err
	}
	undo.add(g.Release)
	g.read = read
	undo.add(func() { a.parts.callouts.prepare(nil) })
	if err := a.server.Reload(ctx, g.Generation); err != nil {
		return nil, err
	}

	a.parts.callouts.serve(g.callable)
	a.parts.servers.serve(g)
	useLog()
	a.parts.host.SetLogLevel(guestLevel(f.Log.Level))
	a.parts.metrics.SetGuestLimit(f.Metrics.Limit)
	setThreads(f)
	a.parts.objects.Limit(int64(f.Server.Objects))
	a.parts.budget.Limit(int64(f.Server.H2Memory))
	a.mu.Lock()
	old := a.current
	a.current, a.loaded = g, time.Now()
	doors.commit()
	a.mu.Unlock()
	a.parts.metrics.SetGeneration(g.Snapshot.Generation)
	a.parts.view.forget(g)
	a.logWarnings(g)
	return whatChanged(old, g), nil
}

// reopenLogs opens the files of the configuration that serves again: rotation is
// what logrotate sends SIGHUP for, whatever has become of the configuration.
func (a *app) reopenLogs() {
	if err := a.logFile.reopen(); err != nil {
		a.log.Error("log", zap.Error(err))
	}
	a.mu.Lock()
	l := a.current.Snapshot.Access
	a.mu.Unlock()
	if err := l.Reopen(); err != nil {
		a.log.Error("access log", zap.Error(err))
	}
}

// whatChanged describes the difference of two generations, as `wproxy diff` does.
func whatChanged(old, next *generation) []string {
	all := lines(changes(sideOf(old), sideOf(next)))
	for _, b := range old.broken {
		if next.plugins[b.Plugin] == nil {
			continue // gone
		}
		all = append(all, fmt.Sprintf("%s starts now", b))
	}
	return all
}

// isPluginChange tells whether a line of whatChanged is about what a plugin runs.
func isPluginChange(line string) bool { return strings.HasPrefix(line, "plugin ") }
