package main

import (
	"context"
	"errors"
	"net"

	"wproxy/core/admin"
	"wproxy/core/config"
)

// makeAdmin makes the admin server, without its sockets.
func (a *app) makeAdmin(from *takeover) {
	a.admin = admin.New(admin.Options{
		Metrics: a.metricsHandler(), Ready: a.notReady, Status: func() any { return a.status() },
		Reload: a.reload, Drain: a.drain, Stop: func(now bool) { a.askStop(now) },
		Purge: a.purge, Upgrade: a.upgrade, Diff: a.diff,
		Live: func(all bool) any { return a.live(all) },
	})
	a.parts.view.changed = a.admin.Changed
	a.doors = &adminDoors{
		server: a.admin, source: a.source, open: map[string]net.Listener{}, inherited: from.inherited, foreign: map[net.Listener]bool{},
	}
}

// completion is what is left to be done before g serves, when every socket is bound: to
// give up privileges, and to take over from another process.
func (a *app) completion(f *config.File, from *takeover, id *identity, doors *doorChange, g *generation, undo *cleanup) func(context.Context) error {
	complete := g.Complete
	pid := func() (err error) {
		a.pidFile = f.Server.PidFile
		if a.removePid, err = writePidFile(a.pidFile); err == nil {
			undo.add(a.removePid)
		}
		return err
	}
	return func(ctx context.Context) error {
		if from.parent == nil {
			if err := pid(); err != nil {
				return err
			}
		}
		if id != nil {
			if err := errors.Join(id.own(madeAsRoot(f, doors)...), id.drop()); err != nil {
				return err
			}
		}
		if err := complete(ctx); err != nil {
			return err
		}
		if from.parent == nil {
			return nil
		}
		if err := from.finish(a, g); err != nil {
			return err
		}
		return pid() // the old process's, until the last moment
	}
}
