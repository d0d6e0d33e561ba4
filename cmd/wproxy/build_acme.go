package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"wproxy/core/certs/acme"
	"wproxy/core/config"
	"wproxy/core/exchange"
)

// maxRoots is the most bytes of a ca_roots file: all public CAs are a quarter of that.
const maxRoots = 1 << 20

// An acmeKey names a manager by all that shapes it, so that a reload that changes
// nothing keeps its orders and waits, and equal tables of two listeners share one. The content of
// ca_roots is in it: a changed file is a changed setting.
type acmeKey struct {
	settings config.Hash
	roots    [sha256.Size]byte
}

// openACME opens the managers of the listeners' certificates, as listeners need
// them: they serve what is stored, and order nothing before startACME.
func (b *builder) openACME(context.Context) error {
	for _, name := range b.listeners {
		l := b.file.Listeners[name]
		if l.TLS == nil || l.TLS.ACME == nil {
			continue
		}
		if err := b.note(b.openManager(name, l.TLS.ACME)); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) openManager(listener string, a *config.ACME) error {
	key := "listeners." + listener + ".tls.acme"
	roots, err := readRoots(a.RootsPath)
	if err != nil {
		return b.file.Problemf(key+".ca_roots", "listener %q: tls.acme.ca_roots: %v", listener, err)
	}
	if b.dry { // no state is touched
		return nil
	}
	m, letGo, err := b.acme.get(acmeKey{config.HashOf(*a), sha256.Sum256(roots)}, func() (*acme.Manager, error) {
		return acme.New(acme.Options{
			Email: a.Email, Hosts: a.Hosts, Dir: a.Dir, CA: a.CA, CARoots: roots, Challenges: a.Challenges,
			Pending: b.challenges, Log: b.log.Named("acme"),
		})
	})
	if err != nil {
		return b.file.Problemf(key, "listener %q: tls.acme: %v", listener, err)
	}
	b.hold(letGo)
	if b.gen.acme == nil {
		b.gen.acme = map[string]*acme.Manager{}
	}
	b.gen.acme[listener] = m
	return nil
}

// readRoots reads a ca_roots file; nil without one.
func readRoots(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxRoots+1))
	if err != nil {
		return nil, err
	}
	if len(pem) > maxRoots {
		return nil, fmt.Errorf("%s: file is larger than %s", path, config.Size(maxRoots))
	}
	if err := acme.CheckRoots(pem); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return pem, nil
}

// startACME lets the managers make their directories and order certificates. It is the
// last step: the listeners are bound, and whose privileges had to be dropped has dropped them.
func (b *builder) startACME(context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(b.gen.acme)) {
		if err := b.gen.acme[name].Start(); err != nil {
			b.problems = append(b.problems, b.file.Problemf("listeners."+name+".tls.acme.storage", "listener %q: tls.acme.storage: %v", name, err))
		}
	}
	return nil
}

// certificates returns how the certificates of a generation stand: those in files, and
// each host of tls.acme.
func (g *generation) certificates() []CertificateStatus {
	list := []CertificateStatus{}
	for _, name := range slices.Sorted(maps.Keys(g.secure)) {
		for _, s := range g.secure[name].Status() {
			c := CertificateStatus{Listener: name, Host: strings.Join(s.Names, ", "), File: s.Pair.Cert, Expires: s.NotAfter}
			if s.Bad != "" {
				c.Problem = s.Pair.Cert + " " + s.Bad
			}
			list = append(list, c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.acme)) {
		for _, s := range g.acme[name].Status() {
			list = append(list, CertificateStatus{Listener: name, Host: s.Host, Expires: s.NotAfter, Problem: s.Problem})
		}
	}
	return list
}

// acmeWarnings are about listeners that no CA may find.
func acmeWarnings(f *config.File) config.Problems {
	var list config.Problems
	for name, l := range f.Listeners {
		if l.TLS == nil || l.TLS.ACME == nil || reachable(f, l) {
			continue
		}
		list = append(list, f.Problemf("listeners."+name+".tls.acme.challenges",
			"listener %q: tls.acme: the CA comes to port 80 of the hosts for http-01 and to 443 for tls-alpn-01; no listener has such a port, so something has to lead from there to here", name).WithCode(codeACME))
	}
	return list
}

// reachable reports whether the port of a challenge that l may use is one of ours.
func reachable(f *config.File, l *config.Listener) bool {
	if slices.Contains(l.TLS.ACME.Challenges, acme.TLSALPN01) && portOf(l.Address) == 443 {
		return true
	}
	if !slices.Contains(l.TLS.ACME.Challenges, acme.HTTP01) {
		return false
	}
	for _, other := range f.Listeners {
		if other.TLS == nil && portOf(other.Address) == 80 {
			return true
		}
	}
	return false
}

// mayBeChallenge reports whether a request is one that is answered before any route
// while a challenge is pending.
func mayBeChallenge(f *config.File, h *exchange.Request) bool {
	if !strings.HasPrefix(h.Path(), acme.HTTPPrefix) || h.Method != http.MethodGet && h.Method != http.MethodHead {
		return false
	}
	host, _, err := net.SplitHostPort(h.Authority)
	if err != nil {
		host = h.Authority
	}
	for _, l := range f.Listeners {
		if l.TLS != nil && l.TLS.ACME != nil && slices.Contains(l.TLS.ACME.Challenges, acme.HTTP01) && slices.Contains(l.TLS.ACME.Hosts, host) {
			return true
		}
	}
	return false
}
