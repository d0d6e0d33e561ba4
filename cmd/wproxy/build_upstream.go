package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"unique"

	"go.uber.org/zap"

	"wproxy/core/config"
	"wproxy/core/dial"
	"wproxy/core/h1"
	"wproxy/core/h2"
	"wproxy/core/pool"
	"wproxy/core/proxy"
	"wproxy/core/upstream"
)

// A poolKey names the connections to an upstream by all that shapes them.
// Servers and weights are not in it: a pool outlives a change of those.
type poolKey struct {
	upstream string
	settings unique.Handle[poolSettings] // small: there may be 10,000 upstreams, most of them with the same
}

type poolSettings struct {
	pool    config.Pool
	connect config.Connect
	tls     config.UpstreamTLS // the zero value: no server is spoken to over TLS
	plain   bool               // for TCP routes
	proxy   string             // as in send_proxy
}

type upstreamKey struct {
	name string
	hash config.Hash
	pool poolKey
}

func poolKeyOf(u *config.Upstream) poolKey {
	s := poolSettings{pool: u.Pool, connect: u.Connect, proxy: u.SendProxy}
	if u.TLS != nil {
		s.tls = *u.TLS
		if s.tls.ServerName == "" && u.Host != "" && u.Host != "server" {
			s.tls.ServerName = hostOf(u.Host)
		}
	}
	return poolKey{u.Name, unique.Make(s)}
}

// hostOf returns an authority without its port.
func hostOf(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return authority
}

func (b *builder) buildUpstreams(ctx context.Context) error {
	if err := b.startSources(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(b.file.Upstreams)) {
		if err := b.note(b.buildUpstream(ctx, b.file.Upstreams[name])); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) buildUpstream(ctx context.Context, u *config.Upstream) error {
	pk := poolKeyOf(u)
	connections, letGo, err := b.pools.get(pk, func() (*pool.Pool, error) { return b.newPool(u, pk.settings.Value().tls) })
	if err != nil {
		return err
	}
	b.hold(letGo)
	up, letGo, err := b.upstreams.get(upstreamKey{u.Name, u.Hash, pk}, func() (*proxy.Upstream, error) {
		return b.newServerSet(ctx, u, connections)
	})
	if err != nil {
		return err
	}
	b.hold(letGo)
	b.gen.upstreams[u.Name], b.gen.callable[u.Name] = up, upstreamKey{u.Name, u.Hash, pk}
	return nil
}

// newPool makes the connections of u. Zero means "none" in the file, and "the
// default" in options.
func (b *builder) newPool(u *config.Upstream, t config.UpstreamTLS) (*pool.Pool, error) {
	client := &h1.ClientOptions{
		ReadTimeout:  orNone(u.Connect.ReadTimeout),
		WriteTimeout: orNone(u.Connect.WriteTimeout),
		Watcher:      b.watcher,
	}
	o := dial.Options{
		ConnectTimeout: u.Connect.Timeout,
		Total:          u.Connect.Total,
		Protocol:       protocols[u.Connect.Protocol],
		SendProxy:      proxyVersions[u.SendProxy],
		NewConn:        func(nc net.Conn) pool.Conn { return h1.NewClientConn(nc, client) },
	}
	if u.TLS != nil || o.Protocol == dial.HTTP2 { // nobody else makes one
		o.NewHTTP2 = b.newHTTP2(u)
	}
	if u.TLS != nil {
		var err error
		if o.TLS, err = b.newUpstreamTLS(u, &t); err != nil {
			return nil, err
		}
	}
	po := pool.Options{
		Idle:      orNone(u.Pool.Idle),
		IdleTime:  u.Pool.IdleTime,
		PerServer: u.Pool.PerServer,
		Requests:  u.Pool.MaxRequests,
		Queue:     orNone(u.Pool.Queue),
		QueueTime: u.Pool.QueueTime,
		Dial:      dial.New(o).Dial,
		Streams:   u.Pool.Streams,
	}
	forAll, forUpgrades := dial.New(o), dial.New(o)
	switch {
	case o.Protocol == dial.HTTP2:
		po.Multiplex = pool.Always
	case o.Protocol == dial.Auto && u.TLS != nil:
		po.Multiplex = pool.Maybe
		o.Protocol = dial.HTTP1 // HTTP/2 has no upgrades
		forUpgrades = dial.New(o)
		po.DialUpgrade = forUpgrades.Dial
	}
	if o.SendProxy != dial.NoProxy {
		po.DialFor = func(ctx context.Context, e *upstream.Endpoint, from pool.Source, upgrade bool) (pool.Conn, error) {
			if upgrade {
				return forUpgrades.DialFor(ctx, e, from)
			}
			return forAll.DialFor(ctx, e, from)
		}
	}
	return pool.New(po), nil
}

// newHTTP2 returns how a connection to u becomes one of HTTP/2.
func (b *builder) newHTTP2(u *config.Upstream) func(net.Conn) pool.Conn {
	o := &h2.ClientOptions{
		MaxStreams:   u.Pool.Streams,
		ReadTimeout:  orNone(u.Connect.ReadTimeout),
		WriteTimeout: orNone(u.Connect.WriteTimeout),
	}
	return func(nc net.Conn) pool.Conn { return h2.NewClientConn(nc, o) }
}

// protocols are the values of connect.protocol.
var protocols = map[string]dial.Protocol{"auto": dial.Auto, "h1": dial.HTTP1, "h2": dial.HTTP2}

// proxyVersions are the values of send_proxy.
var proxyVersions = map[string]int{"v1": dial.ProxyV1, "v2": dial.ProxyV2} // else none

// tlsVersions are the versions that a file can name.
var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func (b *builder) newUpstreamTLS(u *config.Upstream, t *config.UpstreamTLS) (*dial.TLS, error) {
	log, name := b.log, u.Name
	s, err := dial.NewTLS(dial.TLSOptions{
		ServerName: t.ServerName, CA: t.CA, Cert: t.Cert, Key: t.Key,
		InsecureSkipVerify: t.InsecureSkipVerify, MinVersion: tlsVersions[t.Min],
		Reloaded: func(err error) {
			if err != nil {
				log.Error("a certificate file of an upstream has changed and is no good; what was read before stays in use",
					zap.String("upstream", name), zap.Error(err))
				return
			}
			log.Info("certificate files of an upstream were read again", zap.String("upstream", name))
		},
	})
	if fe, ok := errors.AsType[*dial.FileError](err); ok {
		return nil, b.file.Problemf("upstreams."+u.Name+".tls."+fe.Key, "upstream %q: tls.%v", u.Name, fe)
	}
	return s, err
}

// newEndpoint makes one server of u, and starts it if it is inside the process.
func (b *builder) newEndpoint(ctx context.Context, u *config.Upstream, s config.ServerEntry) (*upstream.Endpoint, error) {
	if s.Network != "builtin" {
		e, err := upstream.NewEndpoint(s.Address, s.Weight)
		if err != nil {
			return nil, b.file.Problemf("upstreams."+u.Name+".servers", "upstream %q: %v", u.Name, err)
		}
		if s.Scheme == "https" {
			e.UseTLS()
		}
		return e, nil
	}
	if s.Dial != httpbinName {
		return nil, b.file.Problemf("upstreams."+u.Name+".servers", "upstream %q: server %q: %v", u.Name, s.Address, errNoBuiltin)
	}
	if b.httpbin == nil {
		bin, err := startHTTPBin(ctx)
		if err != nil {
			return nil, fmt.Errorf("upstream %q: cannot start %s: %w", u.Name, s.Address, err)
		}
		b.httpbin = bin
	}
	return upstream.NewLocal(s.Address, s.Weight, b.httpbin.dial), nil
}
