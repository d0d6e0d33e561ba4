package acme

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// A site is one host of a Manager and its certificate.
type site struct {
	// Immutable.
	m    *Manager
	host string

	held    atomic.Pointer[held]    // what is served; nil: nothing yet
	problem atomic.Pointer[problem] // of the last order; nil: none
	warned  atomic.Int64            // when missing last said so, in Unix nanoseconds

	// Owned by run.
	tries    int       // orders that failed, in a row
	obtained time.Time // when the last order succeeded
	askAgain time.Time // for renewal information, after it could not be had
}

// A held certificate is one that the storage has.
type held struct {
	certmagic.Certificate // immutable; Leaf is set
	issued                acme.Certificate
}

// A problem is why an order failed, and when the next one is made.
type problem struct {
	text string
	next time.Time
}

// open serves what the storage has. What it cannot read, run will tell of.
func (s *site) open(ctx context.Context) {
	if h, err := s.load(ctx); err == nil {
		s.held.Store(h)
	}
}

// run keeps the certificate until ctx is done.
func (s *site) run(ctx context.Context) {
	for {
		wait := s.m.check
		switch err := s.attend(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.tries++
			wait = retryWait(err, s.tries, s.m.retry)
			s.failed(err, wait)
		default:
			s.tries = 0
			s.problem.Store(nil)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// attend does what has to be done now.
func (s *site) attend(ctx context.Context) error {
	h := s.held.Load()
	if h == nil {
		return s.first(ctx)
	}
	h = s.refresh(ctx, h)
	if !h.NeedsRenewal(s.m.config) || tooSoon(time.Now(), s.obtained, h.Leaf.NotBefore, h.Leaf.NotAfter) {
		return nil
	}
	// Another process with the same storage may have been here.
	switch stored, err := s.load(ctx); {
	case err == nil && stored.Hash() != h.Hash():
		s.held.Store(stored)
		if !stored.NeedsRenewal(s.m.config) {
			return nil
		}
	case errors.Is(err, errUnusable):
		if err := s.discard(ctx, err); err != nil {
			return err
		}
	}
	return s.order(ctx, "certificate renewed", func(ctx context.Context) error {
		return s.m.config.RenewCertSync(ctx, s.host, false)
	})
}

// first gets the first certificate.
func (s *site) first(ctx context.Context) error {
	h, err := s.load(ctx)
	switch {
	case err == nil:
		s.held.Store(h)
		return nil
	case errors.Is(err, errUnusable):
		if err := s.discard(ctx, err); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return s.order(ctx, "certificate obtained", func(ctx context.Context) error {
		return s.m.config.ObtainCertSync(ctx, s.host)
	})
}

// discard makes the storage forget files that make no certificate, such as half of a
// pair after a crash between two files. Certmagic looks whether the files are
// there, and would order nothing.
func (s *site) discard(ctx context.Context, why error) error {
	s.m.log.Warn("a stored certificate is replaced", zap.String("host", s.host), zap.Error(why))
	return s.m.store.Delete(ctx, s.metaKey())
}

// order makes an order by way of obtain and serves what came of it.
func (s *site) order(ctx context.Context, done string, obtain func(context.Context) error) error {
	select {
	case s.m.slots <- struct{}{}:
		defer func() { <-s.m.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	if err := obtain(ctx); err != nil {
		return err
	}
	h, err := s.load(ctx)
	if err != nil {
		return err
	}
	s.held.Store(h)
	s.obtained = time.Now()
	s.m.log.Info(done, zap.String("host", s.host), zap.String("ca", s.m.issuer.client.Directory), zap.Time("expires", h.Leaf.NotAfter))
	return nil
}

// failed notes why there is no new certificate, and says so.
func (s *site) failed(err error, wait time.Duration) {
	text := why(err)
	s.problem.Store(&problem{text, time.Now().Add(wait)})
	fields := []zap.Field{
		zap.String("host", s.host), zap.String("ca", s.m.issuer.client.Directory), zap.String("error", text),
		zap.Int("tries", s.tries), zap.Duration("next_try_in", wait),
	}
	if h := s.held.Load(); h != nil {
		s.m.log.Error("cannot renew a certificate; the old one serves on", append(fields, zap.Time("expires", h.Leaf.NotAfter))...)
		return
	}
	s.m.log.Error("cannot get a certificate: TLS handshakes for its host fail until there is one", fields...)
}

// why returns the text of err without what certmagic puts in front, on one line
// and cut: most of it are words of the CA.
func why(err error) string {
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "[") {
		err = inner // "[HOST] Obtain: "
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > maxWhy {
		text = text[:maxWhy] + "..."
	}
	return text
}

// missing returns the error of a handshake for which there is no certificate, and
// tells the log of it now and then.
func (s *site) missing() error {
	err := fmt.Errorf("acme: %s: %w", s.host, ErrNoCertificate)
	if p := s.problem.Load(); p != nil {
		err = fmt.Errorf("acme: %s: %w: %s; next try at %s", s.host, ErrNoCertificate, p.text, p.next.Format(time.RFC3339))
	}
	now := time.Now().UnixNano()
	if last := s.warned.Load(); now-last >= int64(warnEvery) && s.warned.CompareAndSwap(last, now) {
		s.m.log.Warn("a TLS handshake failed for want of a certificate", zap.String("host", s.host), zap.Error(err))
	}
	return err
}

// errUnusable is wrapped by load's error for files that are there and make no
// certificate for the host.
var errUnusable = errors.New("the stored certificate is unusable")

// load reads the certificate from the storage. The error wraps fs.ErrNotExist
// or errUnusable.
func (s *site) load(ctx context.Context) (*held, error) {
	meta, err := s.metadata(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.m.config.CacheManagedCertificate(ctx, s.host)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, other := errors.AsType[*fs.PathError](err); other {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnusable, err)
	}
	// The cache's maintenance would renew it, on goroutines of certmagic's.
	s.m.cache.Remove([]string{c.Hash()})
	if c.Leaf == nil {
		return nil, errUnusable
	}
	if err := c.Leaf.VerifyHostname(s.host); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnusable, err)
	}
	return &held{Certificate: c, issued: meta}, nil
}

// metaKey is where the storage has what the CA said of the certificate.
func (s *site) metaKey() string {
	return certmagic.StorageKeys.SiteMeta(s.m.issuer.IssuerKey(), s.host)
}

// metadata reads what the CA said of the certificate.
func (s *site) metadata(ctx context.Context) (acme.Certificate, error) {
	var issued acme.Certificate
	b, err := s.m.store.Load(ctx, s.metaKey())
	if err != nil {
		return issued, err
	}
	var r certmagic.CertificateResource
	if err := json.Unmarshal(b, &r); err != nil {
		return issued, fmt.Errorf("%w: %w", errUnusable, err)
	}
	if len(r.IssuerData) > 0 {
		if err := json.Unmarshal(r.IssuerData, &issued); err != nil {
			return issued, fmt.Errorf("%w: %w", errUnusable, err)
		}
	}
	return issued, nil
}

// refresh asks the CA when h should be renewed, if it is time to (RFC 9773 4.2), and
// stores the answer, by which certmagic decides here and in other processes. It
// returns what is held then. A CA that does not answer changes nothing.
func (s *site) refresh(ctx context.Context, h *held) *held {
	info := h.issued.RenewalInfo
	if info == nil || !info.NeedsRefresh() || time.Now().Before(s.askAgain) {
		return h
	}
	s.askAgain = time.Now().Add(renewalInfoRetry)
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	if err := s.m.issuer.reach(ctx); err != nil {
		return h // renewing will tell
	}
	next, err := s.m.issuer.client.GetRenewalInfo(ctx, h.Leaf)
	if err != nil {
		s.m.log.Debug("cannot get renewal information", zap.String("host", s.host), zap.Error(err))
		return h
	}
	if next.SameWindow(*info) {
		next.SelectedTime = info.SelectedTime // drawn once: drawing again and again would favour the beginning
	} else {
		s.m.log.Info("the CA has moved the renewal of a certificate", zap.String("host", s.host),
			zap.Time("to", next.SelectedTime), zap.String("because", next.ExplanationURL))
	}
	issued := h.issued
	issued.RenewalInfo = &next
	if err := s.storeMetadata(ctx, h.Leaf, issued); err != nil {
		s.m.log.Debug("cannot store renewal information", zap.String("host", s.host), zap.Error(err))
		return h
	}
	s.askAgain = time.Time{}
	if stored, err := s.load(ctx); err == nil {
		h = stored
		s.held.Store(h)
	}
	return h
}

// storeMetadata replaces what the storage has of leaf.
func (s *site) storeMetadata(ctx context.Context, leaf *x509.Certificate, issued acme.Certificate) error {
	data, err := json.Marshal(issued)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(certmagic.CertificateResource{SANs: leaf.DNSNames, IssuerData: data}, "", "\t")
	if err != nil {
		return err
	}
	return s.m.store.Store(ctx, s.metaKey(), b)
}
