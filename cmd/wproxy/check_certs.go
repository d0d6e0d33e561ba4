package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"wproxy/core/config"
)

// certWarnTime is how long before its end check warns of a certificate: time for
// somebody to see it and to do something. Certificates that are made for less than four
// times that, and so renewed by a program, are warned of in the last quarter of their time.
const certWarnTime = 14 * 24 * time.Hour

// expiresSoon says when a certificate ends, if that is soon; else "".
func expiresSoon(from, to, now time.Time) string {
	left := to.Sub(now)
	if left >= min(certWarnTime, to.Sub(from)/4) {
		return ""
	}
	if left <= 0 {
		return "has expired on " + to.UTC().Format(time.DateTime) + " UTC"
	}
	in := count(int(left.Hours())/24, "day")
	if left < 24*time.Hour {
		in = count(int(left.Hours()), "hour")
	}
	return fmt.Sprintf("expires on %s UTC, in %s", to.UTC().Format(time.DateTime), in)
}

// upstreamCertWarnings are about the certificates that servers are shown, and the
// authorities that are believed. What cannot be read is an error elsewhere.
func upstreamCertWarnings(f *config.File, now time.Time) (list config.Problems) {
	for name, u := range f.Upstreams {
		if u.TLS == nil {
			continue
		}
		if certs := readCerts(u.TLS.Cert); len(certs) > 0 {
			code, text := codeCertExpires, expiresSoon(certs[0].NotBefore, certs[0].NotAfter, now)
			if now.After(certs[0].NotAfter) {
				code = codeCertInvalid
			}
			if text != "" {
				list = append(list, f.Problemf("upstreams."+name+".tls.cert", "upstream %q: tls.cert: %s %s; renew it", name, u.TLS.Cert, text).WithCode(code))
			}
		}
		cas := readCerts(u.TLS.CA)
		last := time.Time{}
		for _, c := range cas {
			if c.NotAfter.After(last) {
				last = c.NotAfter
			}
		}
		if len(cas) > 0 && now.After(last) {
			list = append(list, f.Problemf("upstreams."+name+".tls.ca",
				"upstream %q: tls.ca: every certificate in %s has expired, the last on %s, so that no server can be verified; renew them", name, u.TLS.CA, last.UTC().Format(time.DateOnly)).
				WithCode(codeCertInvalid))
		}
	}
	return list
}

// readCerts returns the certificates in a PEM file; nil if there are none.
func readCerts(path string) (list []*x509.Certificate) {
	if path == "" {
		return nil
	}
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return list
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			list = append(list, c)
		}
	}
}
