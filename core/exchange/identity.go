package exchange

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"sync"
)

// An Identity is who a client is, as its certificate says, which has been verified. What
// it says is put into words when somebody first asks, once per connection. It is safe for
// concurrent use.
type Identity struct {
	// Immutable.
	cert *x509.Certificate

	once   sync.Once
	name   string  // guarded by once
	fields []Field // guarded by once
}

// NewIdentity returns what c says.
func NewIdentity(c *x509.Certificate) *Identity { return &Identity{cert: c} }

// Name returns the subject (RFC 2253), or, if there is none, the first URI or DNS name.
func (i *Identity) Name() string {
	i.once.Do(i.make)
	return i.name
}

// Fields returns header fields for an upstream: client-cert (RFC 9440: the certificate), and
// x-client-cert-subject, -issuer, -serial, -sha256, -uri and -dns, those of which there is
// nothing to say left out. The slice is shared.
func (i *Identity) Fields() []Field {
	i.once.Do(i.make)
	return i.fields
}

func (i *Identity) make() {
	c := i.cert
	uris := make([]string, len(c.URIs))
	for n, u := range c.URIs {
		uris[n] = u.String()
	}
	i.name = c.Subject.String()
	for _, other := range [][]string{uris, c.DNSNames} {
		if i.name == "" && len(other) > 0 {
			i.name = other[0]
		}
	}
	sum := sha256.Sum256(c.Raw)
	for _, f := range []Field{
		{"client-cert", ":" + base64.StdEncoding.EncodeToString(c.Raw) + ":"},
		{"x-client-cert-subject", c.Subject.String()},
		{"x-client-cert-issuer", c.Issuer.String()},
		{"x-client-cert-serial", strings.ToLower(c.SerialNumber.Text(16))},
		{"x-client-cert-sha256", hex.EncodeToString(sum[:])},
		{"x-client-cert-uri", strings.Join(uris, ", ")},
		{"x-client-cert-dns", strings.Join(c.DNSNames, ", ")},
	} {
		if f.Value = visible(f.Value); f.Value != "" {
			i.fields = append(i.fields, f)
		}
	}
}

// visible returns s with what cannot stand in a header field as "?": a CA signs what it
// was asked for.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// SpeaksForCertificate reports whether name, in lower case, is one of the fields that
// Identity.Fields may return, or becomes one when "_" is read as "-", as many
// upstreams (CGI, WSGI) do.
func SpeaksForCertificate(name string) bool {
	if len(name) < len("client-cert") || name[0] != 'c' && name[0] != 'x' {
		return false
	}
	name = strings.ReplaceAll(name, "_", "-") // does not allocate without one
	return strings.HasPrefix(name, "x-client-cert-") || name == "client-cert" || name == "client-cert-chain"
}
