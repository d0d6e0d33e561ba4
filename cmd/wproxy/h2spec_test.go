package main

import (
	"path/filepath"
	"strings"
	"testing"

	"wproxy/core/h2/h2spectest"
)

const h2specConfig = `
[listeners.http]
address = "@ADDR"
protocols = ["h2c"]

[listeners.https]
address = "@SECURE"
protocols = ["h2"]
tls.certs = [{ cert = "@CERT", key = "@KEY" }]

[admin]
address = "@ADMIN"

[log]
access = { to = "@ACCESS" }

[routes.all]
path = "/*"
upstream = "origin"

[upstreams.origin]
servers = ["builtin:httpbin"]
`

// TestH2Spec: every case of h2spec, the strict ones too, passes through the whole of wproxy,
// with a route and an upstream behind the listener, over TLS and without. What is skipped has to
// be in testdata/skip/h2spec.json with a reason. Package core/h2 runs them on the codec alone.
func TestH2Spec(t *testing.T) {
	certs := newPairCerts(t)
	secure := freeAddress(t)
	in := startInstance(t, strings.NewReplacer("@SECURE", secure, "@CERT", certs.cert, "@KEY", certs.key).Replace(h2specConfig))
	for _, tt := range []struct {
		name, addr string
		tls        bool
	}{{"h2c", in.addr, false}, {"h2", secure, true}} {
		t.Run(tt.name, func(t *testing.T) {
			h2spectest.Run(t, h2spectest.Target{
				Addr: tt.addr, Path: "/anything", TLS: tt.tls, Skips: filepath.Join(root, "testdata/skip/h2spec.json"),
			})
		})
	}
	if s := in.stderr.String(); strings.Contains(s, "panic") {
		t.Errorf("the log: %s", s)
	}
}
