package config

import (
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// A ListenerTLS makes a listener speak TLS.
type ListenerTLS struct {
	// Certs are the certificates; which one a client sees is decided by the names in them.
	// The first is for clients that ask for a name that none has. Required unless there is ACME.
	Certs []Certificate `toml:"certs"`
	// Min is the oldest version of TLS: "1.2", the default, or "1.3".
	Min string `toml:"min" default:"1.2" oneof:"1.2|1.3"`
	// Curves of the key exchange that are allowed. Default: those of Go, X25519MLKEM768 first.
	Curves []string `toml:"curves" oneof:"X25519MLKEM768|X25519|P-256|P-384|P-521"`
	// Tickets lets clients resume sessions, which saves most of a handshake. Default true.
	Tickets bool `toml:"tickets" default:"true"`
	// ClientCertHeaders tells upstreams who a client is by its certificate: client-cert (RFC
	// 9440) and x-client-cert-*. What clients send by these names is dropped, on every listener.
	ClientCertHeaders bool `toml:"client_cert_headers"`
	// ACME, if set, gets certificates from an ACME server, for hosts that none of Certs is for.
	ACME *ACME `toml:"acme"`
}

// A Certificate is one certificate and what goes with it. Paths are relative to the file
// that names them.
type Certificate struct {
	// Cert is a PEM file: the certificate, then the intermediate ones. Required.
	Cert string `toml:"cert"`
	// Key is a PEM file with its private key. Required.
	Key string `toml:"key"`
	// ClientCA is a PEM file of CAs. Clients of the names in Cert have to show a certificate
	// that one of them has signed. Default: none is asked for.
	ClientCA string `toml:"client_ca"`
	// ClientAuth with ClientCA: "require", the default, or "optional": clients without a
	// certificate come in too.
	ClientAuth string `toml:"client_auth" default:"require" oneof:"require|optional"`
	// OCSP is a file with an OCSP response in DER form, which is stapled while it is valid.
	OCSP string `toml:"ocsp"`
}

// certificates reads { cert, key, ... } or a list of them.
func (b *binder) certificates(sc scope, n *node) []Certificate {
	elems := n.list
	if !n.array {
		elems = []*node{n}
	}
	list := make([]Certificate, len(elems))
	for i, e := range elems {
		v := reflect.ValueOf(&list[i]).Elem()
		setDefaults(v)
		b.bindStruct(sc, e, v)
		if e.table == nil {
			continue // reported
		}
		dir := filepath.Dir(e.pos.File)
		for _, path := range []*string{&list[i].Cert, &list[i].Key, &list[i].ClientCA, &list[i].OCSP} {
			if *path != "" && !filepath.IsAbs(*path) {
				*path = filepath.Join(dir, *path)
			}
		}
	}
	return list
}

// listenerTLS checks the TLS of a listener.
func (v *validator) listenerTLS(key, label string, t *ListenerTLS) {
	key += ".tls"
	bound := !v.reported(key)
	if t.ACME != nil {
		v.acme(key+".acme", label, t.ACME)
	}
	if !bound {
		return
	}
	if len(t.Certs) == 0 && t.ACME == nil {
		v.addf(key, "%s: tls: needs certs, e.g. certs = [{ cert = \"a.pem\", key = \"a.key\" }], or acme", label)
	}
	if _, ok := v.f.index[key+".curves"]; ok && len(t.Curves) == 0 {
		v.addf(key+".curves", "%s: tls.curves: is empty; leave it out for the usual ones", label)
	}
	seen := map[string]bool{}
	for i := range t.Certs {
		c := &t.Certs[i]
		at := key + ".certs[" + strconv.Itoa(i) + "]"
		if _, list := v.f.index[at]; !list {
			at = key + ".certs" // the short form
		}
		name := strings.TrimPrefix(at, strings.TrimSuffix(key, "tls"))
		switch {
		case c.Cert == "":
			v.addf(at, "%s: %s: needs cert; a PEM file", label, name)
		case c.Key == "":
			v.addf(at, "%s: %s: needs key; the PEM file with the private key of %s", label, name, c.Cert)
		case seen[c.Cert]:
			v.addf(at, "%s: %s: %s is listed twice; leave one out", label, name, c.Cert)
		}
		seen[c.Cert] = true
		if _, ok := v.f.index[at+".client_auth"]; ok && c.ClientCA == "" {
			v.addf(at+".client_auth", "%s: %s.client_auth: there is no client_ca to verify by; set client_ca", label, name)
		}
	}
}

// listenerRedirect checks `redirect = "https"`.
func (v *validator) listenerRedirect(key, label string, l *Listener) {
	at := key + ".redirect"
	if l.Redirect == "" || v.reported(at) {
		return
	}
	if l.TLS != nil {
		v.addf(at, "%s: redirect: this listener speaks TLS itself; it is for one without", label)
		return
	}
	if _, n := v.f.SecureListener(); n == 0 {
		v.addf(at, "%s: redirect: there is no listener with tls to redirect to; make one, or leave this out", label)
	} else if n > 1 {
		v.addf(at, "%s: redirect: there are several listeners with tls, and none of them has port 443, so that it is not clear which one is meant; give one of them port 443", label)
	}
}

// SecureListener returns the listener that `redirect = "https"` leads to: the only one with
// TLS, or the one of several with port 443. count is 1 if there is one, and otherwise how
// many it could be.
func (f *File) SecureListener() (l *Listener, count int) {
	var all, usual []*Listener
	for _, l := range f.Listeners {
		if l.TLS == nil || l.TCP() {
			continue
		}
		all = append(all, l)
		if strings.HasSuffix(l.Address, ":443") {
			usual = append(usual, l)
		}
	}
	for _, ls := range [][]*Listener{usual, all} {
		if len(ls) == 1 {
			return ls[0], 1
		}
	}
	return nil, len(all)
}
