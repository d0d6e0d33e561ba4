package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A snapshot is what a store chooses from. It is immutable, but for the ticket keys
// of its configs, which crypto/tls guards.
type snapshot struct {
	entries  []*entry           // in the order of the pairs; the first is the default
	exact    map[string][]*host // by name
	wildcard map[string][]*host // by what follows "*"
	fallback []*host
	all      []*host
	stapled  []bool // per entry
}

// A host is an entry with what a connection needs that is to see it.
type host struct {
	*entry
	config *tls.Config
	old    *tls.Config // the same for clients without TLS 1.3
	choice Choice
}

// newSnapshot builds a snapshot. It fails when one name has certificates with
// different rules for clients: which of them holds would be the client's choice of a key.
func newSnapshot(o *Options, entries []*entry, now time.Time) (*snapshot, error) {
	s := &snapshot{entries: entries, exact: map[string][]*host{}, wildcard: map[string][]*host{}}
	for _, e := range entries {
		h := &host{entry: e, config: o.config(e, now)}
		h.old = withoutTickets(h.config)
		h.choice = Choice{Leaf: e.cert.Leaf, Policy: e.policy}
		s.all = append(s.all, h)
		s.stapled = append(s.stapled, e.stapled(now))
		for _, name := range e.names {
			m := s.exact
			if rest, ok := strings.CutPrefix(name, "*"); ok {
				m, name = s.wildcard, rest
			}
			if slices.Contains(m[name], h) {
				continue
			}
			for _, other := range m[name] {
				if other.policy != e.policy {
					return nil, fmt.Errorf("%s and %s are both for %s, but differ in client_ca or client_auth: a client could choose",
						other.pair.Cert, e.pair.Cert, strings.TrimPrefix(name, "."))
				}
			}
			m[name] = append(m[name], h)
		}
	}
	for _, m := range []map[string][]*host{s.exact, s.wildcard} {
		for _, hs := range m {
			sortHosts(hs)
		}
	}
	s.fallback = s.defaults()
	return s, nil
}

// sortHosts puts the best key first; of equals, the one that is valid for longer.
func sortHosts(hs []*host) {
	slices.SortStableFunc(hs, func(a, b *host) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		return b.cert.Leaf.NotAfter.Compare(a.cert.Leaf.NotAfter)
	})
}

// defaults returns the first pair, and those that have the same names with another kind
// of key, so that the default has several kinds too.
func (s *snapshot) defaults() []*host {
	if len(s.all) == 0 {
		return nil
	}
	first := s.all[0]
	hs := []*host{first}
	for _, h := range s.all[1:] {
		if h.rank != first.rank && h.policy == first.policy && len(h.names) > 0 && sameNames(h.names, first.names) {
			hs = append(hs, h)
		}
	}
	sortHosts(hs)
	return hs
}

func sameNames(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// lookup returns what is there for a canonical name, best first, and whether the name
// is one of a certificate's. There is always something, unless there are no pairs.
func (s *snapshot) lookup(name string) ([]*host, bool) {
	if hs := s.exact[name]; hs != nil {
		return hs, true
	}
	if i := strings.IndexByte(name, '.'); i > 0 { // "*" is one label (RFC 6125 6.4.3)
		if hs := s.wildcard[name[i:]]; hs != nil {
			return hs, true
		}
	}
	return s.fallback, false
}

// above returns the rules of the longest wildcard with rules that name is below of.
func (s *snapshot) above(name string) string {
	for i := strings.IndexByte(name, '.'); i >= 0; {
		if hs := s.wildcard[name[i:]]; hs != nil && hs[0].policy != "" {
			return hs[0].policy
		}
		next := strings.IndexByte(name[i+1:], '.')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return ""
}

// choose returns the first of hs that the client can use.
func choose(hs []*host, hello *tls.ClientHelloInfo) *host {
	if len(hs) == 1 {
		return hs[0]
	}
	for _, h := range hs {
		if hello.SupportsCertificate(&h.cert) == nil {
			return h
		}
	}
	return hs[0] // the handshake says why not
}

// config returns the settings of connections that see e.
func (o *Options) config(e *entry, now time.Time) *tls.Config {
	c := o.base()
	cert := e.certificate(now)
	c.GetCertificate = beforeSigning(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil })
	if e.clients != nil {
		c.ClientCAs = e.clients
		c.ClientAuth = tls.RequireAndVerifyClientCert
		if e.pair.Optional {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	return c
}

// A Signer is a ClientHelloInfo.Conn that wants to be asked before its handshake
// makes a signature, by which time the client may have been asked to say hello a second
// time. An error ends the handshake.
type Signer interface {
	BeforeSigning(ctx context.Context) error
}

// beforeSigning makes get ask the connection first.
func beforeSigning(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if get == nil {
		return nil
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if s, ok := hello.Conn.(Signer); ok {
			if err := s.BeforeSigning(hello.Context()); err != nil {
				return nil, err
			}
		}
		return get(hello)
	}
}

// base returns the settings that all connections have in common.
func (o *Options) base() *tls.Config {
	c := &tls.Config{
		MinVersion:             max(o.MinVersion, tls.VersionTLS12),
		CurvePreferences:       o.Curves,
		NextProtos:             o.Protocols,
		CipherSuites:           cipherSuites(),
		SessionTicketsDisabled: o.Tickets == nil,
		Time:                   o.Now,
	}
	return c
}

// withoutTickets returns c for clients that speak no TLS 1.3. Who gets hold of a key of tickets
// reads every session of TLS 1.2 that was resumed with one (RFC 9325 3.6), and in TLS 1.3 no
// more than early data, of which there is none.
func withoutTickets(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.SessionTicketsDisabled = true
	return c
}

// speaks13 reports whether a client that has said hello speaks TLS 1.3.
func speaks13(hello *tls.ClientHelloInfo) bool {
	return slices.Contains(hello.SupportedVersions, tls.VersionTLS13)
}

// cipherSuites are those of TLS 1.2 that are authenticated and have forward secrecy
// (RFC 9325 4.2): crypto/tls has four more by default, with CBC, whose padding has
// been attacked again and again (Lucky 13). TLS 1.3 has no others.
func cipherSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// A Choice is what a connection got.
type Choice struct {
	Leaf   *x509.Certificate // that the client was shown; nil: not one of the pairs
	Policy string            // see Store.Policy
	Over   bool              // nothing is said on the connection: its handshake was all that was wanted
}

// canonical returns a name as it is compared: in lower case, without the dot of the root.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
