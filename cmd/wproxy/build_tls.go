package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"wproxy/core/certs"
	"wproxy/core/certs/acme"
	"wproxy/core/config"
	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/h2"
	"wproxy/core/listen"
	"wproxy/core/proxy"
	"wproxy/core/server"
)

// A storeKey names the certificates of a listener by all that shapes them.
type storeKey struct {
	listener  string
	tls       config.Hash
	protocols string
	acme      *acme.Manager // nil: none
}

// buildListeners makes what the server must know of the listeners.
func (b *builder) buildListeners(context.Context) error {
	b.gen.secure = map[string]*certs.Store{}
	target, _ := b.file.SecureListener()
	for _, name := range b.listeners {
		l := b.file.Listeners[name]
		s := server.Listener{
			Name: name, Address: l.Address, Connections: l.Limits.Connections,
			PerClient: l.Limits.ConnectionsPerClient, Exempt: l.TrustProxy, Settings: socketSettings(l),
			HTTP1: h1.ServerOptions{
				MaxHead:    int(l.Limits.Header),
				MaxFields:  l.Limits.Fields,
				MaxBody:    int64(l.Limits.Body),
				HeaderTime: l.Limits.HeaderTime,
				Idle:       l.Limits.Idle,
				Watcher:    b.watcher,
			},
			HTTP2: h2.ServerOptions{
				MaxHead:    int(l.Limits.Header),
				MaxFields:  l.Limits.Fields,
				MaxBody:    int64(l.Limits.Body),
				MaxStreams: l.Limits.Streams,
				Budget:     b.budget,
				HeaderTime: l.Limits.HeaderTime,
				Idle:       l.Limits.Idle,
			},
			Speaks: server.Protocols{
				H1:  slices.Contains(l.Protocols, "h1"),
				H2C: slices.Contains(l.Protocols, "h2c"),
			},
			TCP: l.TCP(),
		}
		if l.TLS != nil {
			store, err := b.buildStore(l)
			if err := b.note(err); err != nil {
				return err
			}
			if store == nil {
				continue // a problem
			}
			s.TLS, b.gen.secure[name] = store, store
		}
		if l == target {
			port := new(atomic.Int32)
			port.Store(int32(portOf(l.Address))) //nolint:gosec // 16 bits
			b.gen.securePort = port
			s.Bound = func(a net.Addr) {
				if ta, ok := a.(*net.TCPAddr); ok {
					port.Store(int32(ta.Port)) //nolint:gosec // 16 bits
				}
			}
		}
		b.gen.Listeners = append(b.gen.Listeners, s)
	}
	return nil
}

// buildStore returns the certificates of l. A store that is carried over looks at its
// files at once: a reload may be how somebody says that they have changed.
func (b *builder) buildStore(l *config.Listener) (*certs.Store, error) {
	tickets, letGo, err := b.tickets.get(l.Name, func() (*certs.TicketKeys, error) { return certs.NewTicketKeys(), nil })
	if err != nil {
		return nil, err
	}
	b.hold(letGo)
	carried := true
	manager := b.gen.acme[l.Name]
	key := storeKey{l.Name, config.HashOf(*l.TLS), strings.Join(l.Protocols, " "), manager}
	s, letGo, err := b.stores.get(key, func() (*certs.Store, error) {
		carried = false
		o := storeOptions(l)
		if manager != nil {
			o.Other, o.OtherNames = manager.Certificate, manager.Hosts()
			if manager.ALPN() {
				o.OtherProtocols = []string{acme.ALPN}
			}
		}
		if l.TLS.Tickets {
			o.Tickets = tickets
		}
		log := b.log.With(zap.String("listener", l.Name))
		o.Failed = func(err error) {
			log.Error("certificate files have changed and cannot be used; those that were read before go on", zap.Error(err))
		}
		o.Changed = func(p *certs.Pair, notAfter time.Time) {
			log.Info("certificate renewed", zap.String("cert", p.Cert), zap.Time("not_after", notAfter))
		}
		s, err := certs.Open(o)
		if err == nil && !b.dry {
			s.Watch()
		}
		return s, err
	})
	if err != nil {
		return nil, certProblems(b.file, l, err)
	}
	b.hold(letGo)
	if carried {
		if err := s.Refresh(); err != nil {
			return nil, certProblems(b.file, l, err)
		}
	}
	return s, nil
}

// storeOptions converts what l says about certificates.
func storeOptions(l *config.Listener) certs.Options {
	o := certs.Options{MinVersion: tls.VersionTLS12, Protocols: alpn(l.Protocols)}
	if l.TLS.Min == "1.3" {
		o.MinVersion = tls.VersionTLS13
	}
	for _, c := range l.TLS.Curves {
		o.Curves = append(o.Curves, map[string]tls.CurveID{
			"X25519MLKEM768": tls.X25519MLKEM768, "X25519": tls.X25519,
			"P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521,
		}[c])
	}
	for i := range l.TLS.Certs {
		c := &l.TLS.Certs[i]
		o.Pairs = append(o.Pairs, certs.Pair{
			Cert: c.Cert, Key: c.Key, ClientCA: c.ClientCA, Optional: c.ClientAuth == "optional", OCSP: c.OCSP,
		})
	}
	return o
}

// alpn returns the names that protocols have in a handshake (RFC 7301 6), best first.
func alpn(protocols []string) []string {
	var names []string
	for _, p := range [][2]string{{"h2", "h2"}, {"h1", "http/1.1"}} {
		if slices.Contains(protocols, p[0]) {
			names = append(names, p[1])
		}
	}
	return names
}

// certProblems gives errors about files their places.
func certProblems(f *config.File, l *config.Listener, err error) error {
	var ps config.Problems
	for _, e := range flatten(err) {
		key, text := "listeners."+l.Name+".tls.certs", e.Error()
		if fe, ok := asType[*certs.FileError](e); ok {
			i := slices.IndexFunc(l.TLS.Certs, func(c config.Certificate) bool { return c.Cert == fe.Pair.Cert })
			name := fmt.Sprintf("tls.certs[%d].%s", i, fe.Key)
			key, text = "listeners."+l.Name+"."+name, fmt.Sprintf("%s: %s %v", name, fe.Path, fe.Err)
		}
		ps = append(ps, f.Problemf(key, "listener %q: %s", l.Name, text).WithCode(codeCertificate))
	}
	return ps
}

// certWarnings returns what of the certificates is read, and not good.
func certWarnings(g *generation) []config.Problem {
	var list config.Problems
	for name, s := range g.secure {
		for i, st := range s.Status() {
			warn := func(code, text string) {
				list = append(list, g.file.Problemf(fmt.Sprintf("listeners.%s.tls.certs[%d].cert", name, i),
					"listener %q: tls.certs[%d].cert: %s %s; renew it", name, i, st.Pair.Cert, text).WithCode(code))
			}
			if st.Bad != "" {
				warn(codeCertInvalid, st.Bad)
			} else if text := expiresSoon(st.NotBefore, st.NotAfter, time.Now()); text != "" {
				warn(codeCertExpires, text)
			}
		}
	}
	list = append(list, upstreamCertWarnings(g.file, time.Now())...)
	list = append(list, unprotected(g)...)
	list.Sort()
	return list
}

// unprotected returns the routes for hosts that ask clients for certificates on one
// listener, and can be reached on another that has no TLS and asks for nothing.
func unprotected(g *generation) config.Problems {
	var list config.Problems
	for _, r := range g.file.Routes {
		for door, l := range g.file.Listeners {
			if l.TLS != nil || l.Redirect != "" || len(r.Listener) > 0 && !slices.Contains(r.Listener, door) {
				continue
			}
			for _, host := range r.Host {
				for name, s := range g.secure {
					if s.Has(host) && s.Policy(host) != "" {
						list = append(list, g.file.Problemf("routes."+r.Name+".host",
							"route %q: %s needs a client's certificate on listener %q, and nothing on listener %q; restrict the route with `listener`, or redirect",
							r.Name, host, name, door).WithCode(codeCertBypass))
					}
				}
			}
		}
	}
	return list
}

// secureListeners fills in what the engine must know of TLS.
func (b *builder) secureListeners(ls []*proxy.Listener) {
	for _, l := range ls {
		if s := b.gen.secure[l.Name]; s != nil {
			l.Secure = s
		}
		if port := b.gen.securePort; l.Upgrade != nil && port != nil {
			l.Upgrade = func() int { return int(port.Load()) }
		}
	}
}

// handshakeFailed is told about handshakes.
func (a *app) handshakeFailed(c *exchange.Conn, err *listen.HandshakeError) {
	a.parts.metrics.HandshakeFailed(c.Listener, err.Reason)
	if log := a.log.Check(zap.DebugLevel, "TLS handshake failed"); log != nil {
		log.Write(zap.String("listener", c.Listener), zap.String("client", c.RemoteIP), zap.String("reason", err.Reason), zap.Error(errors.Unwrap(err)))
	}
}

// countCertificates tells metrics how long certificates are still valid.
func (a *app) countCertificates() {
	left := map[string]float64{}
	a.parts.stores.each(func(_ storeKey, s *certs.Store) {
		for _, st := range s.Status() {
			left[st.Pair.Cert] = time.Until(st.NotAfter).Seconds()
		}
	})
	a.parts.acme.each(func(_ acmeKey, m *acme.Manager) {
		for _, st := range m.Status() {
			if !st.NotAfter.IsZero() {
				left["acme:"+st.Host] = time.Until(st.NotAfter).Seconds()
			}
		}
	})
	a.parts.metrics.SetCertificates(left)
}

// portOf returns the port of an address; 0: none.
func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}
