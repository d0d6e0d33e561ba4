package main

import (
	"fmt"
	"strings"

	"wproxy/core/balance"
	"wproxy/core/config"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/upstream"
)

// backupTier is the tier of backups: behind every priority.
const backupTier = 1000

// newUpstream makes what the engine needs of u.
func (p *parts) newUpstream(u *config.Upstream, c *upstream.Cluster, connections *pool.Pool) (*proxy.Upstream, error) {
	up := &proxy.Upstream{
		Cluster: c, Picker: noServer{}, Key: newKey(u.HashKey), Pool: connections, Metrics: p.metrics.Upstream(u.Name),
		Timed:          balance.Algorithm(u.Balance) == balance.LeastTime,
		DeadlineHeader: u.DeadlineHeader,
	}
	if len(c.Endpoints) > 0 {
		var err error
		up.Picker, err = balance.New(c, balance.Options{
			Algorithm: balance.Algorithm(u.Balance),
			SlowStart: u.SlowStart,
			Bound:     float64(u.HashBound),
		})
		if err != nil {
			return nil, fmt.Errorf("balance: %w", err)
		}
	}
	if s := u.Sticky; s != nil {
		secret := []byte(s.Secret.Reveal())
		if len(secret) == 0 {
			secret = p.stickySecret
		}
		up.Sticky = proxy.NewSticky(c, stickyCookie(s), secret)
	}
	return up, nil
}

// tierOf returns the tier of a server.
func tierOf(s config.ServerEntry) int {
	if s.Backup {
		return backupTier
	}
	return s.Priority
}

// newKey converts a `hash`, which has been validated; "": none.
func newKey(s string) proxy.Key {
	kind, name, err := config.ParseKey(s)
	if err != nil {
		return proxy.Key{}
	}
	from := map[string]proxy.KeySource{
		"client-ip": proxy.KeyClientIP, "header": proxy.KeyHeader, "cookie": proxy.KeyCookie,
		"query": proxy.KeyQuery, "path": proxy.KeyPath,
	}[kind]
	return proxy.Key{From: from, Name: name}
}

func stickyCookie(s *config.Sticky) proxy.Cookie {
	return proxy.Cookie{
		Name: s.Cookie, Path: s.Path, MaxAge: s.MaxAge, HTTPOnly: s.HTTPOnly,
		Secure:   map[string]proxy.Secure{"always": proxy.SecureAlways, "never": proxy.SecureNever}[s.Secure], // else auto
		SameSite: map[string]string{"lax": "Lax", "strict": "Strict", "none": "None"}[s.SameSite],
	}
}

// shape adds to p what r says beside where its requests go.
func (b *builder) shape(p *proxy.Route, r *config.Route) error {
	if s := r.Split; s != nil {
		p.SplitKey = newKey(s.Hash)
		if s.Cookie != "" {
			p.SplitCookie = proxy.NewSplitCookie(proxy.Cookie{Name: s.Cookie, MaxAge: s.MaxAge, HTTPOnly: true, SameSite: "Lax"})
		}
	}
	if m := r.Mirror; m != nil {
		to, ok := b.gen.upstreams[m.Upstream]
		if !ok {
			return b.file.Problemf("routes."+r.Name+".mirror", "route %q: mirror: there is no upstream %q", r.Name, m.Upstream)
		}
		p.Mirror = proxy.NewMirror(to, float64(m.Share), int(m.Body), b.metrics.Mirror(r.Name, m.Upstream))
	}
	if f := r.Fault; f != nil {
		p.Fault = &proxy.Fault{
			Delay: f.Delay, DelayShare: float64(f.DelayShare), Abort: f.Abort, AbortShare: float64(f.AbortShare),
			Header: strings.ToLower(f.Header), Metrics: b.metrics.Fault(r.Name),
		}
	}
	return nil
}
