package exchange_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"strings"
	"testing"

	"wproxy/core/exchange"
)

// TestIdentity: what a certificate says, in words that are valid in a header field
// whatever somebody had signed.
func TestIdentity(t *testing.T) {
	c := &x509.Certificate{
		Raw: []byte("der"), SerialNumber: big.NewInt(0xABC), Subject: pkix.Name{CommonName: "me\r\nx-evil: 1"},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "e.com", Path: "/me"}}, DNSNames: []string{"a.e.com", "b.e.com"},
	}
	i := exchange.NewIdentity(c)
	got := map[string]string{}
	for _, f := range i.Fields() {
		got[f.Name] = f.Value
		if strings.ContainsAny(f.Value, "\r\n\x00") {
			t.Errorf("%s: %q", f.Name, f.Value)
		}
		if !exchange.SpeaksForCertificate(f.Name) {
			t.Errorf("clients may send %s", f.Name)
		}
	}
	for name, want := range map[string]string{
		"client-cert": ":ZGVy:", "x-client-cert-serial": "abc", "x-client-cert-uri": "spiffe://e.com/me",
		"x-client-cert-dns": "a.e.com, b.e.com",
	} {
		if got[name] != want || len(got["x-client-cert-sha256"]) != 64 {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	if _, ok := got["x-client-cert-issuer"]; ok {
		t.Error("there is no issuer")
	}
	nameless := exchange.NewIdentity(&x509.Certificate{SerialNumber: big.NewInt(1), URIs: c.URIs})
	if n := nameless.Name(); n != "spiffe://e.com/me" {
		t.Errorf("got %q", n)
	}
	for name, want := range map[string]bool{
		"x-client-cert-subject": true, "x_client_cert_subject": true, "x-client_cert-x": true, "client-cert": true,
		"client_cert_chain": true, "client-cert-chain": true, "x-client": false, "client-certificate": false, "cookie": false, "x-client-certs": false,
	} {
		if exchange.SpeaksForCertificate(name) != want {
			t.Errorf("%s: not %v", name, want)
		}
	}
}
