package acme

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// HTTPPrefix is what the path of every request of an HTTP01 challenge begins
// with (RFC 8555 8.3).
const HTTPPrefix = "/.well-known/acme-challenge/"

// Pending holds the challenges that a CA has been asked to check. Use
// [NewPending]. Managers that share one answer for each other, so that a challenge is met
// whichever generation of a configuration takes the connection. Its methods are safe for
// concurrent use.
type Pending struct {
	mu sync.RWMutex
	// Guarded by mu. By host and token; for TLS by host. There are as many as
	// orders are under way.
	http map[httpKey]string
	alpn map[string]alpnAnswer
}

type httpKey struct{ host, token string }

// An alpnAnswer is the certificate that answers a challenge, and whose it is.
type alpnAnswer struct {
	token string
	cert  *tls.Certificate
}

// NewPending returns an empty Pending.
func NewPending() *Pending {
	return &Pending{http: map[httpKey]string{}, alpn: map[string]alpnAnswer{}}
}

// HTTPChallenge returns the body that answers a GET of path, which begins with
// HTTPPrefix, at host, which may have a port. It is false for what is no pending challenge: somebody
// else may have an answer to that. The answer is public: it goes to whoever asks.
func (p *Pending) HTTPChallenge(host, path string) (body string, ok bool) {
	token, ok := strings.CutPrefix(path, HTTPPrefix)
	if !ok {
		return "", false
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	body, ok = p.http[httpKey{hostKey(host), token}]
	return body, ok
}

// certificate returns what answers a TLSALPN01 challenge, or nil.
func (p *Pending) certificate(host string) *tls.Certificate {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.alpn[host].cert
}

// solvers returns what puts challenges of the given types there and takes them away.
func (p *Pending) solvers(types []string) map[string]acmez.Solver {
	all := map[string]acmez.Solver{}
	for _, t := range types {
		switch t {
		case HTTP01:
			all[acme.ChallengeTypeHTTP01] = httpSolver{p}
		case TLSALPN01:
			all[acme.ChallengeTypeTLSALPN01] = alpnSolver{p}
		}
	}
	return all
}

// httpSolver implements acmez.Solver for HTTP01.
type httpSolver struct{ p *Pending }

func (s httpSolver) Present(_ context.Context, c acme.Challenge) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.http[httpKey{hostKey(c.Identifier.Value), c.Token}] = c.KeyAuthorization
	return nil
}

func (s httpSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	delete(s.p.http, httpKey{hostKey(c.Identifier.Value), c.Token})
	return nil
}

// alpnSolver implements acmez.Solver for TLSALPN01. A handshake carries no token: of two
// challenges for a host the later one is answered, and the lock in the storage
// keeps two orders for a host from being under way.
type alpnSolver struct{ p *Pending }

func (s alpnSolver) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.alpn[hostKey(c.Identifier.Value)] = alpnAnswer{c.Token, cert}
	return nil
}

func (s alpnSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	host := hostKey(c.Identifier.Value)
	if s.p.alpn[host].token == c.Token {
		delete(s.p.alpn, host)
	}
	return nil
}
