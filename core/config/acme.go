package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// ACME says how a listener gets certificates from an ACME server (RFC 8555).
type ACME struct {
	// Email is told to the CA, which may warn of certificates that expire. Default "".
	Email string `toml:"email"`
	// Hosts are the names to have a certificate for, one each. Required. In lower
	// case, without a dot at the end.
	Hosts []string `toml:"hosts"`
	// Storage as written: the directory that keeps account, keys and certificates,
	// relative to the file that names it. Required.
	Storage string `toml:"storage"`
	// Dir is the directory of Storage, resolved.
	Dir string `toml:"-"`
	// CA is the URL of the directory of the ACME server. Default: Let's Encrypt.
	CA string `toml:"ca" default:"https://acme-v02.api.letsencrypt.org/directory"`
	// CARoots as written: a PEM file of the certificates that the ACME server's own is
	// verified with, relative to the file that names it. Default: the system's.
	CARoots string `toml:"ca_roots"`
	// RootsPath is the file of CARoots, resolved; "" for the system's.
	RootsPath string `toml:"-"`
	// Challenges by which the CA may check that a host is ours. Default: both.
	Challenges []string `toml:"challenges" default:"http-01,tls-alpn-01" oneof:"http-01|tls-alpn-01" later:"dns-01"`
}

// resolve fills Dir and RootsPath, and brings hosts into one form. n is the table.
func (a *ACME) resolve(n *node) {
	relative := func(key, path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		dir := filepath.Dir(n.pos.File)
		if at := n.table[key]; at != nil {
			dir = filepath.Dir(at.pos.File)
		}
		return filepath.Join(dir, path)
	}
	a.Dir, a.RootsPath = relative("storage", a.Storage), relative("ca_roots", a.CARoots)
	for i, h := range a.Hosts {
		a.Hosts[i] = strings.ToLower(strings.TrimSuffix(h, "."))
	}
}

// maxACMEHosts is the most hosts of one table: beyond, CAs that issue three
// hundred certificates in three hours take days for a first start.
const maxACMEHosts = 1000

// acme checks the table at key of the object called lb.
func (v *validator) acme(key, lb string, a *ACME) {
	if slices.ContainsFunc(v.problems, func(p Problem) bool { return p.Key == key }) {
		return // no table
	}
	at := func(name string) string { return key + "." + name }
	if len(a.Hosts) == 0 && !v.reported(at("hosts")) {
		v.addf(key, "%s: tls.acme: needs hosts, e.g. hosts = [\"www.example.com\"]", lb)
	}
	if len(a.Hosts) > maxACMEHosts {
		v.addf(at("hosts"), "%s: tls.acme.hosts: %d are more than %d", lb, len(a.Hosts), maxACMEHosts)
	}
	seen := map[string]bool{}
	for i, h := range a.Hosts {
		if v.reported(at("hosts")) && h == "" {
			continue // no text
		}
		if text := badACMEHost(h); text != "" {
			v.addf(fmt.Sprintf("%s.hosts[%d]", key, i), "%s: tls.acme.hosts: %q %s", lb, h, text)
		} else if seen[h] {
			v.addf(fmt.Sprintf("%s.hosts[%d]", key, i), "%s: tls.acme.hosts: %q is listed twice; leave one out", lb, h)
		}
		seen[h] = true
	}
	switch {
	case v.reported(at("storage")):
	case a.Storage == "":
		v.addf(key, "%s: tls.acme: needs storage, a directory for keys and certificates, e.g. storage = \"/var/lib/wproxy/acme\"", lb)
	case !strings.ContainsRune(a.Storage, filepath.Separator):
		v.addf(at("storage"), "%s: tls.acme.storage: %q is the name of a store, which this version does not support yet; write the path of a directory, e.g. \"./%s\"",
			lb, a.Storage, a.Storage)
	}
	if u, err := url.Parse(a.CA); (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil) && !v.reported(at("ca")) {
		v.addf(at("ca"), "%s: tls.acme.ca: is not the https:// URL of an ACME directory; leave it out for Let's Encrypt", lb)
	}
	if user, domain, ok := strings.Cut(a.Email, "@"); a.Email != "" && !v.reported(at("email")) &&
		(!ok || user == "" || !isName(domain) || strings.ContainsAny(user, " ,;:?&<>\"")) {
		v.addf(at("email"), "%s: tls.acme.email: is not an address such as ops@example.com", lb)
	}
	if len(a.Challenges) == 0 && !v.reported(at("challenges")) {
		v.addf(at("challenges"), "%s: tls.acme.challenges: is empty; leave it out for both", lb)
	}
}

// badACMEHost says what is wrong with a host, "" for nothing.
func badACMEHost(h string) string {
	switch _, err := netip.ParseAddr(h); {
	case err == nil:
		return "is an address; write a name"
	case strings.HasPrefix(h, "*."):
		return "is a wildcard, which takes the challenge dns-01; this version does not support that yet. Write each name"
	case !isName(h) || strings.Contains(h, "_"):
		return "is not a DNS name; write one without port, and one that is not ASCII in punycode (xn--...)"
	}
	return ""
}
