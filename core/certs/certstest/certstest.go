// Package certstest makes certificates for tests: a CA, and what it signs.
package certstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// A Failer ends a test: a testing.TB, or a script.
type Failer interface {
	Fatalf(format string, args ...any)
}

// A CA signs certificates.
type CA struct {
	Pair
	f Failer
}

// A Pair is a certificate and its key.
type Pair struct {
	Cert, Key []byte // PEM
	TLS       tls.Certificate
}

// A Request says what to sign.
type Request struct {
	Subject string   // common name; "": none
	Names   []string // DNS names, addresses, and URIs, which have a colon and slashes
	Kind    string   // of the key: "ecdsa" (default), "rsa", "ed25519"
	Client  bool     // for clients, not for servers

	NotBefore, NotAfter time.Time // zero: an hour ago, in 90 days
}

// New makes a CA with a name.
func New(f Failer, name string) *CA {
	ca := &CA{f: f}
	key := newKey(f, "ecdsa")
	template := &x509.Certificate{
		SerialNumber: serial(f), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca.Pair = sign(f, template, template, key, key)
	return ca
}

// Pool returns a pool with the CA in it.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.TLS.Leaf)
	return p
}

// Sign makes a certificate.
func (ca *CA) Sign(r Request) Pair {
	t := &x509.Certificate{
		SerialNumber: serial(ca.f), Subject: pkix.Name{CommonName: r.Subject},
		NotBefore: r.NotBefore, NotAfter: r.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if r.Client {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = time.Now().AddDate(0, 0, 90)
	}
	for _, n := range r.Names {
		if u, err := url.Parse(n); err == nil && u.Scheme != "" && u.Host != "" {
			t.URIs = append(t.URIs, u)
		} else if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	return sign(ca.f, t, ca.TLS.Leaf, newKey(ca.f, r.Kind), ca.TLS.PrivateKey)
}

// Server makes a certificate for names.
func (ca *CA) Server(names ...string) Pair { return ca.Sign(Request{Names: names}) }

// Client makes a certificate for a client.
func (ca *CA) Client(subject string, names ...string) Pair {
	return ca.Sign(Request{Subject: subject, Names: names, Client: true})
}

// Write writes the pair to NAME.pem and NAME.key in dir, as a client of ACME would: each file
// appears at once. It returns the two paths.
func (p *Pair) Write(f Failer, dir, name string) (cert, key string) {
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	WriteFile(f, cert, p.Cert)
	WriteFile(f, key, p.Key)
	return cert, key
}

// WriteFile replaces a file at once.
func WriteFile(f Failer, path string, content []byte) {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, content, 0o600); err != nil {
		f.Fatalf("%v", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		f.Fatalf("%v", err)
	}
}

func newKey(f Failer, kind string) crypto.Signer {
	var key crypto.Signer
	var err error
	switch kind {
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		f.Fatalf("making a key: %v", err)
	}
	return key
}

func serial(f Failer) *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		f.Fatalf("%v", err)
	}
	return n
}

func sign(f Failer, template, parent *x509.Certificate, key crypto.Signer, by crypto.PrivateKey) Pair {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		f.Fatalf("signing: %v", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatalf("%v", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		f.Fatalf("%v", err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		TLS:  tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
	}
}
