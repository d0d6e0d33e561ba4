package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"wproxy/core/config"
	"wproxy/core/discover"
	"wproxy/core/upstream"
)

const (
	// firstLookTime is how long a start, or a reload, waits for the servers of an
	// upstream to be found. Then it serves without, and answers 503 no_server until
	// they are.
	firstLookTime = 5 * time.Second

	// everyDNS and everyFile are the times between two looks where the
	// configuration says nothing.
	everyDNS  = 30 * time.Second
	everyFile = time.Second

	// logServers is how many addresses a line of the log names.
	logServers = 20
)

// A sourceKey names what looks for the servers of an upstream by all that shapes it: it
// goes on over reloads that do not change it.
type sourceKey struct {
	upstream string
	hash     config.Hash
}

// newSource starts to look for the servers of u.
func (p *parts) newSource(u *config.Upstream) *discover.Source {
	d := u.Discover
	o := discover.Options{Every: d.Every, Keep: d.Keep}
	what := d.DNS
	if d.File != "" {
		what = d.File
		o.Forever = true
		o.Finder = &discover.File{Path: d.File, Parse: func(b []byte) ([]discover.Server, error) { return parseServers(u, b) }}
		if o.Every == 0 {
			o.Every = everyFile
		}
	} else {
		o.Finder, o.Slots = newFinder(d), p.servers.looks
		if o.Every == 0 {
			o.Every = everyDNS
		}
	}
	o.Looked = func(result string, used int) { p.metrics.Discovered(u.Name, result, used) }
	o.Changed = func(e discover.Event) {
		logDiscovery(p.log.With(zap.String("upstream", u.Name), zap.String("from", what)), e)
	}
	return discover.Start(o)
}

// newFinder makes the Finder of a validated discover.dns.
func newFinder(d *config.Discover) discover.Finder {
	r := &discover.Resolver{}
	for _, s := range d.Resolver {
		if a, err := config.ResolverAddress(s); err == nil {
			r.Servers = append(r.Servers, a)
		}
	}
	if name, ok := strings.CutPrefix(d.DNS, "srv:"); ok {
		return &discover.Service{Resolver: r, Name: name, Keep: d.Keep}
	}
	host, port, _ := net.SplitHostPort(d.DNS)
	return &discover.Name{Resolver: r, Name: host, Port: port, Keep: d.Keep}
}

// parseServers reads a file of servers of u.
func parseServers(u *config.Upstream, content []byte) ([]discover.Server, error) {
	entries, err := config.ParseServers(u.Discover.File, content)
	if err == nil {
		err = checkSchemes(u, entries)
	}
	if err != nil {
		return nil, err
	}
	var all []discover.Server
	for _, e := range entries {
		all = append(all, discover.Server{Address: e.Address, Weight: e.Weight, Tier: tierOf(e)})
	}
	return all, nil
}

// loadServers looks whether the file of u can be used.
func loadServers(u *config.Upstream) error {
	entries, err := config.LoadServers(u.Discover.File)
	if err != nil {
		return err
	}
	return checkSchemes(u, entries)
}

// checkSchemes returns what is wrong with how servers of u that were found say they are
// spoken to: certificates are verified as its tls says, so that decides for all of them.
func checkSchemes(u *config.Upstream, entries []config.ServerEntry) error {
	for _, e := range entries {
		switch {
		case e.Scheme == "https" && u.TLS == nil:
			return fmt.Errorf("%q says https, and the upstream has no tls", e.Address)
		case e.Scheme == "http" && u.TLS != nil:
			return fmt.Errorf("%q says http, and the upstream has tls", e.Address)
		}
	}
	return nil
}

// source returns what looks for the servers of u.
func (p *parts) source(u *config.Upstream) (*discover.Source, func(), error) {
	key := sourceKey{u.Name, config.HashOf(*u.Discover)}
	return p.servers.sources.get(key, func() (*discover.Source, error) { return p.newSource(u), nil })
}

// startSources has all upstreams look for their servers at the same time.
func (b *builder) startSources() error {
	b.lookUntil = time.Now().Add(firstLookTime)
	for _, u := range b.file.Upstreams {
		if u.Discover == nil || b.servers.dry {
			continue
		}
		_, letGo, err := b.source(u)
		if err != nil {
			return err
		}
		b.hold(letGo)
	}
	return nil
}

// discover has the servers of s found, and waits for the first look. A file that is
// wrong when nothing is known yet is a problem of the configuration.
func (s *serverSet) discover(ctx context.Context, file *config.File, until time.Time) error {
	p, u := s.parts, s.config
	if p.servers.dry {
		if u.Discover.File == "" {
			return nil
		}
		return asProblem(file, u, loadServers(u))
	}
	src, letGo, err := p.source(u)
	if err != nil {
		return err
	}
	s.letGo = append(s.letGo, letGo)
	wait, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	src.Wait(wait)
	if why := src.Err(); why != "" && u.Discover.File != "" && !src.Found() {
		if err := loadServers(u); err != nil {
			return asProblem(file, u, err)
		}
	}
	stop := src.Subscribe(func(found []discover.Server) {
		if err := s.change(s.wanted(found)); err != nil {
			p.log.Error("the servers that were found cannot be used", zap.String("upstream", u.Name), zap.Error(err))
		}
	})
	s.letGo = append(s.letGo, stop)
	return nil
}

// asProblem makes of err a problem of u.
func asProblem(file *config.File, u *config.Upstream, err error) error {
	if err == nil {
		return nil
	}
	return file.Problemf("upstreams."+u.Name+".discover.file", "upstream %q: discover.file: %v", u.Name, err)
}

// wanted returns what servers that were found are to become.
func (s *serverSet) wanted(found []discover.Server) (all []wantedServer) {
	secure := s.config.TLS != nil
	for _, f := range found {
		key := endpointKey{
			upstream: s.config.Name, host: f.Host, tier: f.Tier,
			entry: config.ServerEntry{Address: f.Address, Weight: f.Weight},
		}
		all = append(all, wantedServer{key, func() (*upstream.Endpoint, error) {
			e, err := upstream.NewEndpoint(f.Address, f.Weight)
			if err != nil {
				return nil, err
			}
			if secure {
				e.UseTLS()
			}
			if f.Host != "" {
				e.SetHost(f.Host)
			}
			e.Tier = f.Tier
			return e, nil
		}})
	}
	return all
}

// logDiscovery writes the one line of a change.
func logDiscovery(log *zap.Logger, e discover.Event) {
	fields := []zap.Field{zap.Int("servers", e.Used)}
	for _, l := range []struct {
		name string
		list []string
	}{{"added", e.Added}, {"removed", e.Removed}} {
		if n := len(l.list); n > 0 {
			fields = append(fields, zap.Strings(l.name, l.list[:min(n, logServers)]))
			if n > logServers {
				fields = append(fields, zap.Int(l.name+"_count", n))
			}
		}
	}
	switch {
	case e.Failing == "" && len(e.Added)+len(e.Removed) == 0:
		log.Info("servers are found again", fields...)
	case e.Failing == "":
		log.Info("servers have changed", fields...)
	case e.Used > 0:
		log.Warn("no servers are found any more: those there were are kept", append(fields, zap.String("reason", e.Failing))...)
	default:
		log.Error("no servers are found: requests are answered with 503", append(fields, zap.String("reason", e.Failing))...)
	}
}
