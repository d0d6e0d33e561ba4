package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"go.uber.org/zap"

	"wproxy/core/handover"
	"wproxy/core/health"
	"wproxy/core/listen"
)

// A takeover is what a process was started with by another one: sockets, and, if that is a
// wproxy which hands over, its state.
type takeover struct {
	inherited *handover.Inherited
	parent    *handover.Parent // nil: nobody hands over
	notes     []string         // what was left behind
}

// begin takes in the first part of the state, before any plugin is loaded.
func (t *takeover) begin(a *app) {
	if t.parent == nil {
		return
	}
	var c carried
	if err := handover.Open(t.parent.State, &c); err != nil {
		t.leave(a, "the state of the old process", err)
		return
	}
	if len(c.Sticky) > 0 {
		a.parts.stickySecret = c.Sticky
	}
	if c.Host != nil {
		a.parts.host.AdoptFirst(c.Host)
		t.leftOut(a, c.Host.Left)
	}
}

// finish takes in the rest, when the plugins of g have started and nobody has been let in.
func (t *takeover) finish(a *app, g *generation) error {
	if t.parent == nil {
		return nil
	}
	rest, err := t.parent.Prepared()
	if err != nil {
		return err
	}
	var c carried
	if err := handover.Open(rest, &c); err != nil {
		t.leave(a, "counters and the health of servers", err)
		return nil
	}
	if c.Host != nil {
		a.parts.host.AdoptSecond(c.Host)
		t.leftOut(a, c.Host.Left)
	}
	a.parts.servers.adopt(g, c.Health)
	for _, v := range c.Guests {
		if g.plugins[v.Plugin] != nil {
			a.parts.metrics.AdoptGuest(v, a.parts.builtins.has(v.Plugin))
		}
	}
	return nil
}

// leave notes what begins anew.
func (t *takeover) leave(a *app, what string, err error) {
	a.log.Warn("upgrade: "+what+" cannot be taken over and begins anew", zap.Error(err))
	t.notes = append(t.notes, fmt.Sprintf("%s: %v", what, err))
}

func (t *takeover) leftOut(a *app, n int) {
	if n > 0 {
		t.leave(a, fmt.Sprintf("a part of what plugins share (%d entries, tables or queues)", n), handover.ErrStateSize)
	}
}

// done tells the old process that this one serves, and what nobody has taken.
func (t *takeover) done(a *app) error {
	a.parts.host.DropUnclaimed()
	unused := t.inherited.Unused()
	if len(unused) > 0 {
		a.log.Warn("inherited sockets are not used: no listener has their name or address", zap.Strings("sockets", unused))
	}
	if t.parent == nil {
		return nil
	}
	if closed := t.inherited.CloseUnused(); len(closed) > 0 {
		a.log.Info("upgrade: sockets that this configuration has no listener for are closed", zap.Strings("sockets", closed))
	}
	a.parts.metrics.Upgrade(true)
	a.parts.view.mark("reload", fmt.Sprintf("upgrade: took over from process %d (%s)", t.parent.PID, t.parent.Version))
	a.log.Info("upgrade: took over", zap.Int("from", t.parent.PID), zap.String("from_version", t.parent.Version), zap.Strings("left_behind", t.notes))
	return t.parent.Serve(handover.Serving{PID: os.Getpid(), Version: versionString(), Notes: t.notes})
}

// inherit is server.Options.Inherit.
func (a *app) inherit(ctx context.Context, name, address string) (socket net.Listener, foreign bool) {
	l, manager, ok := a.inherited.Take(ctx, listen.Same, name, address)
	if !ok {
		return nil, false
	}
	a.log.Info("using an inherited socket", zap.String("listener", name), zap.String("address", l.Addr().String()))
	return l, manager
}

// carry returns what is known of all servers, by upstream and name.
func (s *servers) carry() map[string]map[string]health.Carried {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]map[string]health.Carried, len(s.serving))
	for name, set := range s.serving {
		all[name] = set.monitor.Carry()
	}
	return all
}

// adopt makes what was carried what is known of g's servers, before it serves.
func (s *servers) adopt(g *generation, all map[string]map[string]health.Carried) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, u := range g.upstreams {
		if set := s.sets[u]; set != nil {
			set.monitor.Adopt(all[name])
		}
	}
}
