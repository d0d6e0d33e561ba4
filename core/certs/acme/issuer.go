package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// An issuer orders certificates at one CA with one account. Certmagic's own
// opens ports 80 and 443 for challenges when it can, before our listeners do, and has
// a rate limiter for the process that never ends; this one only puts answers where
// our listeners find them.
type issuer struct {
	// Immutable.
	m      *Manager
	email  string
	client *acmez.Client
	http   *http.Client
}

var _ certmagic.Issuer = (*issuer)(nil)

func newIssuer(m *Manager, o Options, roots *x509.CertPool) *issuer {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   requestTime,
		ResponseHeaderTimeout: requestTime,
		ForceAttemptHTTP2:     true,
	}
	i := &issuer{m: m, email: o.Email, http: &http.Client{Transport: t, Timeout: requestTime}}
	i.client = &acmez.Client{
		Client: &acme.Client{
			Directory: o.CA, HTTPClient: i.http, UserAgent: "wproxy", // RFC 8555 6.1 asks for one
			PollTimeout: pollTime,
		},
		ChallengeSolvers: o.Pending.solvers(o.Challenges),
	}
	return i
}

// close lets go of idle connections.
func (i *issuer) close() { i.http.CloseIdleConnections() }

// IssuerKey implements certmagic.Issuer: a directory in the storage, as
// certmagic names it for the same CA.
func (i *issuer) IssuerKey() string {
	u, err := url.Parse(i.client.Directory)
	if err != nil {
		return i.client.Directory // New has parsed it
	}
	key := u.Host
	if p := strings.Trim(strings.ReplaceAll(u.Path, "/", "-"), "-"); p != "" {
		key += "-" + p
	}
	return key
}

// Issue implements certmagic.Issuer: it orders a certificate for the one host of csr.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	if err := i.reach(ctx); err != nil {
		return nil, err
	}
	account, err := i.account(ctx)
	if err != nil {
		return nil, err
	}
	chains, err := i.obtain(ctx, account, csr)
	if p, ok := errors.AsType[acme.Problem](err); ok && p.Type == acme.ProblemTypeAccountDoesNotExist {
		// The CA has lost it, as private ones and test servers do.
		if account, err = i.register(ctx); err != nil {
			return nil, err
		}
		chains, err = i.obtain(ctx, account, csr)
	}
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("the CA has sent no certificate")
	}
	c := chains[0] // the CA's default
	if len(c.ChainPEM) > maxPEM {
		return nil, fmt.Errorf("the CA has sent a chain of %d bytes, more than %d", len(c.ChainPEM), maxPEM)
	}
	if c.RenewalInfo != nil && !c.RenewalInfo.HasWindow() {
		c.RenewalInfo = nil // could not be had
	}
	return &certmagic.IssuedCertificate{Certificate: c.ChainPEM, Metadata: c}, nil
}

// reach returns an error if the CA does not answer. acmez fetches the directory of a CA with a
// lock held that all CAs of the process share and that heeds no context: a CA
// that is a black hole would stop the orders at others for minutes, and their managers' Close.
func (i *issuer) reach(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.client.Directory, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", i.client.UserAgent)
	resp, err := i.http.Do(req)
	if err != nil {
		return fmt.Errorf("the CA does not answer: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxPEM)) // for the connection's next request; acmez judges it
	return nil
}

func (i *issuer) obtain(ctx context.Context, account acme.Account, csr *x509.CertificateRequest) ([]acme.Certificate, error) {
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	params.Replaces = i.replaced(account, csr)
	return i.client.ObtainCertificate(ctx, params)
}

// replaced returns the certificate that csr renews, which CAs exempt from rate limits
// (RFC 9773 5), or nil. Not after a failure, of which naming it may have been the
// cause, and only with the account that has ordered it.
func (i *issuer) replaced(account acme.Account, csr *x509.CertificateRequest) *x509.Certificate {
	if len(csr.DNSNames) != 1 {
		return nil
	}
	s := i.m.sites[hostKey(csr.DNSNames[0])]
	if s == nil || s.tries > 0 { // Issue runs on the site's own goroutine
		return nil
	}
	h := s.held.Load()
	if h == nil || h.issued.RenewalInfo == nil || h.issued.Account != account.Location || h.issued.CA != i.client.Directory {
		return nil
	}
	return h.Leaf
}
