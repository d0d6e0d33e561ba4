// Package acme gets certificates from an ACME server (RFC 8555) and keeps them
// renewed.
//
// The nouns: a [Manager] has one account at one CA and one certificate for each of
// its hosts; [Pending] holds the challenges by which the CA is about to check that
// a host is ours, of all managers of a process. The one rule of use: a Manager
// has the hosts that it was made with, and asks for a certificate for no other,
// whatever names clients may think of.
//
// certmagic does what an order needs besides the protocol: keys, requests, storage,
// a lock between processes, and the decision when to renew. Everything that it
// does in the background (its queue of jobs, tables of retries and rate limiters, listeners for
// challenges) is one per process, cannot be waited for and is not used: a Manager has one
// goroutine for each host, which Close ends. acmez speaks the protocol.
//
// acme.go is the Manager, site.go looks after one host, schedule.go says when,
// issuer.go is an order at the CA, account.go who orders, pending.go answers
// challenges, storage.go and lock_*.go are the directory, log.go tames certmagic's log.
//
// acme opens no port, and talks to nobody but the CA. Certificates have no OCSP staple:
// Let's Encrypt ended OCSP in 2025, and asking would tell a third party who serves what.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Types of challenges.
const (
	HTTP01    = "http-01"     // RFC 8555 8.3: a file at port 80
	TLSALPN01 = "tls-alpn-01" // RFC 8737: a handshake at port 443
)

// ALPN is the protocol of a handshake that is a challenge of type TLSALPN01. A
// TLS listener in front of a Manager that uses that type has to offer it, and closes a
// connection that has negotiated it (RFC 8737 3).
const ALPN = "acme-tls/1"

// Options are the settings of a Manager.
type Options struct {
	// Email is told to the CA, for warnings. May be "".
	Email string
	// Hosts are the names to have certificates for: exact DNS names in ASCII
	// (punycode), without wildcards, in any case. Required.
	Hosts []string
	// Dir is where account, keys and certificates are kept: directories of mode 0700,
	// files of mode 0600. It is made if it is missing, and may be shared by
	// managers and processes. Required.
	Dir string
	// CA is the URL of the directory of the ACME server. "": [DefaultCA].
	CA string
	// CARoots are certificates in PEM that the ACME server's own is verified with,
	// instead of the system's. nil: the system's.
	CARoots []byte
	// Challenges are the types that may be used. nil: HTTP01 and TLSALPN01. Which
	// of them is tried first is up to the client library; if it fails so is the other.
	Challenges []string
	// Pending is where challenges wait for the CA. nil: the Manager's own.
	Pending *Pending
	// Log is told of each certificate, and of why there is none. nil: nobody.
	Log *zap.Logger

	// Check is how often each certificate is looked at. 0: DefaultCheck.
	Check time.Duration
	// Retry replaces the first wait after an order that failed, whatever the
	// reason; the longest is 360 times that. 0: minutes to hours. For tests.
	Retry time.Duration
}

// Agreement: a Manager agrees to the CA's terms of service, as its configuration
// says (docs/configuration.md).
const agreement = true

// A Manager keeps certificates for its hosts. Use [New]. Its methods are safe for
// concurrent use.
type Manager struct {
	// Immutable.
	log     *zap.Logger
	check   time.Duration
	retry   time.Duration
	alpn    bool
	pending *Pending
	store   *storage
	issuer  *issuer
	cache   *certmagic.Cache // holds nothing; certmagic's Config needs one
	config  *certmagic.Config
	sites   map[string]*site
	slots   chan struct{} // one for each order that is under way
	running sync.WaitGroup
	ctx     context.Context // of the goroutines; done when Close is called
	cancel  context.CancelFunc
	start   func() error
	close   func()
}

// A Status says how the certificate of a host stands.
type Status struct {
	Host string
	// NotAfter is when the certificate that is served expires; zero: there is none.
	NotAfter time.Time
	// Problem is why the last order failed; "": none has since the last success.
	Problem string
}

// New returns a Manager that serves what Dir has, and goes after the rest from Start
// on. It reads files and changes none, so that it may be called before a process
// gives up its privileges.
func New(o Options) (*Manager, error) {
	hosts, err := o.check()
	if err != nil {
		return nil, err
	}
	roots, err := parseRoots(o.CARoots)
	if err != nil {
		return nil, err
	}
	store, err := openStorage(o.Dir)
	if err != nil {
		return nil, err
	}
	m := &Manager{
		log: o.Log, check: o.Check, retry: o.Retry, pending: o.Pending, store: store,
		alpn: slices.Contains(o.Challenges, TLSALPN01), sites: make(map[string]*site, len(hosts)),
		slots: make(chan struct{}, maxIssuing),
	}
	quiet := quietLog(o.Log)
	m.issuer = newIssuer(m, o, roots)
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		// Asked for by the cache's maintenance only, which is to leave alone what it finds.
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return nil, errNotMaintained },
		RenewCheckInterval: o.Check,
		Logger:             quiet,
	})
	m.config = certmagic.New(m.cache, certmagic.Config{
		Issuers: []certmagic.Issuer{m.issuer},
		Storage: store,
		OCSP:    certmagic.OCSPConfig{DisableStapling: true},
		Logger:  quiet,
	})
	m.ctx, m.cancel = context.WithCancel(context.Background()) // ends with Close
	m.start, m.close = sync.OnceValue(m.begin), sync.OnceFunc(m.end)
	for _, host := range hosts {
		s := &site{m: m, host: host}
		s.open(m.ctx)
		m.sites[host] = s
	}
	return m, nil
}

// check fills in defaults and returns the hosts as they are looked up.
func (o *Options) check() (hosts []string, err error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.CA == "" {
		o.CA = DefaultCA
	}
	if o.Check <= 0 {
		o.Check = DefaultCheck
	}
	if o.Pending == nil {
		o.Pending = NewPending()
	}
	if o.Challenges == nil {
		o.Challenges = []string{HTTP01, TLSALPN01}
	}
	for _, c := range o.Challenges {
		if c != HTTP01 && c != TLSALPN01 {
			return nil, fmt.Errorf("acme: there is no challenge %q", c)
		}
	}
	if u, err := url.Parse(o.CA); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("acme: ca: %q is not an https URL", o.CA)
	}
	for _, h := range o.Hosts {
		h = hostKey(h)
		if h == "" || strings.ContainsAny(h, "*/: ") || !certmagic.SubjectQualifiesForCert(h) || certmagic.SubjectIsIP(h) {
			return nil, fmt.Errorf("acme: %q is not the exact name of a host", h)
		}
		if !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) == 0 || len(hosts) > MaxHosts || len(o.Challenges) == 0 {
		return nil, fmt.Errorf("acme: needs 1 to %d hosts and a challenge", MaxHosts)
	}
	return hosts, nil
}

var errNotMaintained = errors.New("acme: the cache maintains nothing")

// CheckRoots returns what is wrong with pem as Options.CARoots.
func CheckRoots(pem []byte) error {
	_, err := parseRoots(pem)
	if err == nil && len(pem) == 0 {
		err = errNoRoots
	}
	return err
}

var errNoRoots = errors.New("acme: no certificate in PEM")

// parseRoots returns nil for the system's.
func parseRoots(pem []byte) (*x509.CertPool, error) {
	if len(pem) == 0 {
		return nil, nil //nolint:nilnil // no pool is the system's, as in crypto/tls
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errNoRoots
	}
	return roots, nil
}

// hostKey brings a host into the form in which it is looked up.
func hostKey(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// Start makes Dir and begins to order and to renew. The error is that Dir cannot be used;
// nothing has begun then. Only the first call counts; none may come after Close.
func (m *Manager) Start() error { return m.start() }

func (m *Manager) begin() error {
	if err := m.store.prepare(); err != nil {
		return err
	}
	for _, s := range m.sites {
		m.running.Go(func() { s.run(m.ctx) }) // ends with ctx; Close waits
	}
	return nil
}

// Close ends what has begun, orders included, and waits for that: for the
// CA not at all, for files. Certificate serves on.
func (m *Manager) Close() { m.close() }

func (m *Manager) end() {
	m.cancel()
	m.running.Wait()
	m.cache.Stop()
	m.issuer.close()
}

// ErrNoCertificate is wrapped by the error of Certificate for a host whose
// certificate is not there yet.
var ErrNoCertificate = errors.New("no certificate yet")

// ErrNoChallenge is wrapped by the error of Certificate for a handshake that would
// be a challenge, if the CA had been asked for one.
var ErrNoChallenge = errors.New("no challenge is pending")

// Certificate returns the certificate for a handshake, as tls.Config.GetCertificate
// does: that of the host, or the one that answers the challenge of a handshake with
// [ALPN]. It never waits. Both results are nil if the host is none of the Manager's; with
// an error the handshake has to fail, which crypto/tls tells the client
// with the alert internal_error. The certificate is shared and not to be changed.
func (m *Manager) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := hostKey(hello.ServerName)
	if m.alpn && IsChallenge(hello) {
		// Of any host: the one that asked may be a manager of another generation.
		if c := m.pending.certificate(host); c != nil {
			return c, nil
		}
		if m.sites[host] == nil {
			return nil, nil //nolint:nilnil // as documented
		}
		return nil, fmt.Errorf("acme: %s: %w", host, ErrNoChallenge)
	}
	s := m.sites[host]
	if s == nil {
		return nil, nil //nolint:nilnil // as documented
	}
	if c := s.held.Load(); c != nil {
		return &c.Certificate.Certificate, nil
	}
	return nil, s.missing()
}

// IsChallenge reports whether a handshake is a challenge: a CA offers ALPN and
// nothing else (RFC 8737 3).
func IsChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ALPN
}

// ALPN reports whether the TLS listener has to offer [ALPN].
func (m *Manager) ALPN() bool { return m.alpn }

// HTTPChallenge is [Pending.HTTPChallenge] of the Manager's challenges.
func (m *Manager) HTTPChallenge(host, path string) (body string, ok bool) {
	return m.pending.HTTPChallenge(host, path)
}

// Hosts returns the hosts, sorted.
func (m *Manager) Hosts() []string {
	hosts := make([]string, 0, len(m.sites))
	for h := range m.sites {
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	return hosts
}

// Status returns how the certificates stand, by host.
func (m *Manager) Status() []Status {
	all := make([]Status, 0, len(m.sites))
	for _, host := range m.Hosts() {
		s := m.sites[host]
		st := Status{Host: host}
		if c := s.held.Load(); c != nil {
			st.NotAfter = c.Leaf.NotAfter
		}
		if p := s.problem.Load(); p != nil {
			st.Problem = p.text
		}
		all = append(all, st)
	}
	return all
}
