package main

import (
	"maps"
	"regexp"
	"slices"
	"time"

	"wproxy/core/config"
	"wproxy/core/exchange"
	"wproxy/core/health"
	"wproxy/core/pool"
)

// newMonitor makes what looks after the servers of an upstream.
func (p *parts) newMonitor(name string) *health.Monitor {
	m := p.metrics.Servers(name)
	return health.New(health.Options{Upstream: name, Slots: p.servers.slots, Hooks: health.Hooks{
		Changed: func(e health.Event) {
			switch e.Kind {
			case health.Panic, health.PanicOver:
				m.SetPanic(e.Kind == health.Panic)
			default: // of one server
			}
			p.view.markHealth(e)
			logHealth(p.log, e)
		},
		Available: m.SetUp,
		Gone:      m.Gone,
		Checked:   func(_ string, r health.Result, _ time.Duration) { m.Checked(r.OK) },
		Ejections: func(_ string, out bool) { m.Ejected(out) },
	}})
}

// healthSettings returns how to look after the servers of u. Checks connect as requests
// do, beside the pool.
func healthSettings(u *config.Upstream, connections *pool.Pool) health.Settings {
	s := health.Settings{Panic: float64(u.Panic), Connect: connections.Connect, Found: u.Discover != nil}
	if u.Health != nil {
		s.Check = newCheck(u)
		s.Key = config.HashOf(struct {
			Health config.Health
			Host   string
		}{*u.Health, u.Host}).String()
	}
	if o := u.Outlier; o != nil {
		s.Outlier = &health.Outlier{
			Errors: o.Errors, Ratio: float64(o.Ratio), Min: o.MinRequests, Window: o.Window, On: o.On,
			Base: o.Eject, Longest: o.MaxEject, Share: float64(o.MaxEjected),
		}
	}
	return s
}

// newCheck makes the check of u.health, which has been validated.
func newCheck(u *config.Upstream) *health.Check {
	h := u.Health
	c := &health.Check{
		Method: h.Method, Path: h.Path, Host: h.Host, Contains: h.Body,
		Every: h.Every, EveryDown: h.EveryDown, Timeout: h.Timeout,
		Thresholds: health.Thresholds{Up: h.Up, Down: h.Down},
	}
	switch h.Protocol {
	case "tcp":
		c.Protocol = health.TCP
	case "grpc":
		c.Protocol, c.Service = health.GRPC, h.Service
	}
	if c.Host == "" && u.Host != "server" {
		c.Host = u.Host
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		c.Fields = append(c.Fields, exchange.Field{Name: name, Value: h.Headers[name].Reveal()})
	}
	for _, s := range h.Expect {
		first, last, err := config.ParseStatuses(s)
		if err == nil {
			c.Expect = append(c.Expect, health.StatusRange{First: first, Last: last})
		}
	}
	if h.BodyRegex != "" {
		c.Match = regexp.MustCompile(h.BodyRegex)
	}
	return c
}
