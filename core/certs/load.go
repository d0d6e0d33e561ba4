package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// An entry is a pair that was read.
type entry struct {
	pair    *Pair
	cert    tls.Certificate // with Leaf, and the staple while it is good
	names   []string        // in lower case
	policy  string          // see Store.Policy
	clients *x509.CertPool  // nil: no certificate is asked for
	staple  []byte          // the OCSP response; nil: none
	fresh   time.Time       // until when it may be stapled; zero: for ever
	rank    int             // of the kind of key: the lowest that a client can use is taken
}

// load reads the files of p.
func (p *Pair) load() (*entry, error) {
	e := &entry{pair: p}
	certPEM, err := readFile(p.Cert)
	if err != nil {
		return nil, &FileError{p, "cert", p.Cert, err}
	}
	keyPEM, err := readFile(p.Key)
	if err != nil {
		return nil, &FileError{p, "key", p.Key, err}
	}
	if bad := p.parse(e, certPEM, keyPEM); bad != nil {
		return nil, bad
	}
	e.names = namesOf(e.cert.Leaf)
	e.rank = rankOf(e.cert.Leaf.PublicKey)
	if p.ClientCA != "" {
		if err := p.loadClients(e); err != nil {
			return nil, &FileError{p, "client_ca", p.ClientCA, err}
		}
	}
	if p.OCSP != "" {
		if e.staple, err = readFile(p.OCSP); err == nil {
			e.fresh, err = parseOCSP(e.staple, e.cert.Leaf)
		}
		if err != nil {
			return nil, &FileError{p, "ocsp", p.OCSP, err}
		}
	}
	return e, nil
}

// parse makes e's certificate, and finds out which of the two files is to blame.
func (p *Pair) parse(e *entry, certPEM, keyPEM []byte) *FileError {
	var err error
	if e.cert, err = tls.X509KeyPair(certPEM, keyPEM); err == nil {
		return nil
	}
	leaf, bad := firstCertificate(certPEM)
	if bad != nil {
		return &FileError{p, "cert", p.Cert, bad}
	}
	signer, bad := firstKey(keyPEM)
	if bad != nil {
		return &FileError{p, "key", p.Key, bad}
	}
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && !pub.Equal(signer.Public()) {
		return &FileError{p, "key", p.Key, fmt.Errorf("is not the key of the certificate in %s", p.Cert)}
	}
	return &FileError{p, "cert", p.Cert, err}
}

// firstCertificate returns the certificate that a file begins with.
func firstCertificate(text []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("has a certificate that cannot be read: %w", err)
			}
			return c, nil
		}
	}
	return nil, errors.New("has no certificate in PEM form")
}

// firstKey returns the private key in a file.
func firstKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			return nil, errors.New("is encrypted: there is nobody to ask for its password")
		}
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if s, ok := k.(crypto.Signer); ok {
				return s, nil
			}
		}
		if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return k, nil
		}
		if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return k, nil
		}
		return nil, errors.New("has a private key that cannot be read")
	}
	return nil, errors.New("has no private key in PEM form")
}

// loadClients reads the CAs that clients' certificates are verified by, and names the
// policy: whoever has the same CAs and the same rule has the same policy.
func (p *Pair) loadClients(e *entry) error {
	text, err := readFile(p.ClientCA)
	if err != nil {
		return err
	}
	e.clients = x509.NewCertPool()
	h := sha256.New()
	n := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("has a certificate that cannot be read: %w", err)
		}
		e.clients.AddCert(c)
		h.Write(c.Raw) // DER says itself where it ends
		n++
	}
	if n == 0 {
		return errors.New("has no certificate in PEM form")
	}
	e.policy = "require:"
	if p.Optional {
		e.policy = "optional:"
	}
	e.policy += hex.EncodeToString(h.Sum(nil)[:16])
	return nil
}

// namesOf returns the names that a certificate is for. The common name counts if there
// are no others (RFC 6125 6.4.4): clients do not believe it any more, but old
// certificates of inner networks have nothing else, and it only chooses here.
func namesOf(c *x509.Certificate) []string {
	var names []string
	for _, n := range c.DNSNames {
		names = append(names, canonical(n))
	}
	if len(names) == 0 && len(c.IPAddresses) == 0 && strings.Contains(c.Subject.CommonName, ".") {
		names = append(names, canonical(c.Subject.CommonName))
	}
	return names
}

// rankOf orders kinds of keys: signing with ECDSA costs a tenth of what RSA does and the
// handshake is smaller; hardly any client can verify Ed25519, and if one says so it may have it.
func rankOf(key crypto.PublicKey) int {
	switch key.(type) {
	case *ecdsa.PublicKey:
		return 0
	case ed25519.PublicKey:
		return 1
	default:
		return 2
	}
}

// bad says what about the dates of a certificate is not good; "": nothing.
func (e *entry) bad(now time.Time) string {
	switch leaf := e.cert.Leaf; {
	case now.After(leaf.NotAfter):
		return "has expired on " + leaf.NotAfter.UTC().Format(time.DateOnly)
	case now.Before(leaf.NotBefore):
		return "is not valid before " + leaf.NotBefore.UTC().Format(time.DateTime) + " UTC"
	}
	return ""
}

// certificate returns what is shown to clients at a moment: with the staple, unless it
// is too old, which clients take for an attack.
func (e *entry) certificate(now time.Time) tls.Certificate {
	c := e.cert
	if e.stapled(now) {
		c.OCSPStaple = e.staple
	}
	return c
}

func (e *entry) stapled(now time.Time) bool {
	return e.staple != nil && (e.fresh.IsZero() || now.Before(e.fresh))
}

// readFile reads a regular file; a pipe or a device could block for ever.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe without a writer does not block
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil {
		return nil, bare(err)
	} else if !fi.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	var b bytes.Buffer
	if n, err := b.ReadFrom(io.LimitReader(f, maxFile+1)); err != nil {
		return nil, bare(err)
	} else if n > maxFile {
		return nil, fmt.Errorf("is larger than %d bytes", maxFile)
	}
	return b.Bytes(), nil
}

// bare takes operation and path off an error of package os.
func bare(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("file not found")
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("cannot be read: %w", pe.Err)
	}
	return err
}
