package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"wproxy/cmd/wproxy/internal/strict"
)

// A pairProtocol is a way to speak HTTP, and what makes wproxy speak it on either side.
type pairProtocol struct {
	name     string
	listener string // keys of the listener; @CERT and @KEY are files
	upstream string // keys of the upstream; @CA is a file
	tls      bool
	set      func(*http.Protocols)
	version  string // as net/http calls it
	logged   string // as the access log does
}

// The protocols of both sides. A line here is a row, or a column, of the table of pairs.
var (
	pairH1 = pairProtocol{
		name: "h1", version: "HTTP/1.1", logged: "HTTP/1.1",
		listener: `protocols = ["h1"]`,
		set:      func(p *http.Protocols) { p.SetHTTP1(true) },
	}
	pairH2C = pairProtocol{
		name: "h2c", version: "HTTP/2.0", logged: "HTTP/2",
		listener: `protocols = ["h2c"]`, upstream: `connect.protocol = "h2"`,
		set: func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	}
	pairClients = []pairProtocol{pairH1, pairH2C, pairH2}
	pairH2      = pairProtocol{
		name: "h2", version: "HTTP/2.0", logged: "HTTP/2", tls: true,
		listener: "protocols = [\"h2\"]\ntls.certs = [{ cert = \"@CERT\", key = \"@KEY\" }]",
		upstream: "connect.protocol = \"h2\"\ntls = { ca = \"@CA\", server_name = \"a.test\" }",
		set:      func(p *http.Protocols) { p.SetHTTP2(true) },
	}
	pairUpstreams = []pairProtocol{pairH1, pairH2C, pairH2}
)

// TestPairs: every case has the same outcome whatever the client speaks and whatever the
// upstream does, with the shipped plugins on the route.
func TestPairs(t *testing.T) {
	needBuiltins(t)
	certs := newPairCerts(t)
	for _, c := range pairClients {
		for _, u := range pairUpstreams {
			t.Run(c.name+" to "+u.name, func(t *testing.T) {
				p := newPair(t, c, u, certs)
				for _, tt := range pairCases {
					t.Run(tt.name, func(t *testing.T) {
						ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
						defer cancel()
						q := *p
						q.T, q.ctx = t, ctx
						tt.run(&q)
					})
				}
				p.close()
			})
		}
	}
}

// A pair is a client and an upstream with a wproxy in between.
type pair struct {
	*testing.T
	ctx      context.Context //nolint:containedctx // of the case that runs
	from, to pairProtocol
	in       *instance
	origin   *pairOrigin
	client   *http.Client
	base     string // of URLs
}

const pairConfig = `
[listeners.http]
address = "@ADDR"
@LISTENER

[admin]
address = "@ADMIN"

[log]
access = { to = "@ACCESS" }

[routes.all]
host = "a.test"
path = "/*"
upstream = "origin"
use = ["headers", "limit"]

[routes.limited]
host = "a.test"
path = "/limited"
upstream = "origin"
use = ["headers", "limit"]
with = { limit = { rate = "1/h", burst = 2 } }

[upstreams.origin]
servers = ["@ORIGIN"]
@UPSTREAM

[plugins.headers]
wasm = "builtin:securityheaders"
config = { preset = "basic" }

[plugins.limit]
wasm = "builtin:ratelimit"
config = { rate = "1000000/s", burst = 1000000, key = "client-ip" }
`

func newPair(t *testing.T, from, to pairProtocol, certs *pairCerts) *pair {
	t.Helper()
	p := &pair{T: t, from: from, to: to, origin: newPairOrigin(t, to, certs)}
	config := strings.NewReplacer(
		"@LISTENER", from.listener, "@UPSTREAM", to.upstream, "@ORIGIN", p.origin.addr,
	).Replace(pairConfig)
	config = strings.NewReplacer("@CERT", certs.cert, "@KEY", certs.key, "@CA", certs.cert).Replace(config)
	p.in = startInstance(t, config)
	p.base = "http://a.test"
	if from.tls {
		p.base = "https://a.test"
	}
	transport := &http.Transport{
		Protocols: new(http.Protocols), DisableCompression: true,
		ExpectContinueTimeout: 10 * time.Second, // an upload that waits for it is seen
		TLSClientConfig:       &tls.Config{RootCAs: certs.pool},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", p.in.addr)
		},
	}
	from.set(transport.Protocols)
	p.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return p
}

// close ends the pair, and checks what has to hold in the end.
func (p *pair) close() {
	p.Helper()
	p.client.CloseIdleConnections()
	strict.Eventually(p.T, "without requests at the upstream", func() bool { return p.origin.active() == 0 })
	strict.Eventually(p.T, "without client connections", func() bool { return p.in.sum(p.T, "wproxy_connections") == 0 })
	for _, l := range p.in.accessLines(p.T) {
		if strings.Contains(l, `"reason":"internal"`) || strings.Contains(l, `"status":500`) {
			p.Errorf("a line of the access log: %s", l)
		}
	}
	if s := p.in.stderr.String(); strings.Contains(s, "panic") {
		p.Errorf("the log: %s", s)
	}
}

// request makes a request to the pair.
func (p *pair) request(method, path string, body io.Reader) *http.Request {
	p.Helper()
	r, err := http.NewRequestWithContext(p.ctx, method, p.base+path, body)
	if err != nil {
		p.Fatal(err)
	}
	return r
}

// A pairAnswer is an answer whose body is closed with the case.
type pairAnswer struct{ *http.Response }

// do sends a request and wants an answer in the right protocol, with the plugins' fields.
func (p *pair) do(r *http.Request) pairAnswer {
	p.Helper()
	resp, err := p.client.Do(r)
	if err != nil {
		p.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	p.Cleanup(func() { _ = resp.Body.Close() })
	if resp.Proto != p.from.version {
		p.Errorf("the answer came in %s", resp.Proto)
	}
	if got := resp.Header["X-Content-Type-Options"]; len(got) != 1 || got[0] != "nosniff" {
		p.Errorf("%s %s: x-content-type-options: got %q", r.Method, r.URL.Path, got)
	}
	return pairAnswer{resp}
}

// want reads the body of an answer and compares it.
func (p *pair) want(resp pairAnswer, status int, body string) {
	p.Helper()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || string(got) != body {
		p.Errorf("got %d, %d bytes %.100q, %v; want %d, %d bytes %.100q", resp.StatusCode, len(got), got, err, status, len(body), body)
	}
}

// A pairOrigin is the upstream of a pair.
type pairOrigin struct {
	addr    string
	server  *http.Server
	version string

	mu      sync.Mutex
	at      int                      // handlers at work
	faults  []string                 // what was wrong with requests
	signals map[string]chan struct{} // closed when something has happened
}

func newPairOrigin(t *testing.T, to pairProtocol, certs *pairCerts) *pairOrigin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &pairOrigin{addr: l.Addr().String(), version: to.version, signals: map[string]chan struct{}{}}
	o.server = &http.Server{Protocols: new(http.Protocols), Handler: o, ErrorLog: zap.NewStdLog(zap.NewNop())}
	to.set(o.server.Protocols)
	done := make(chan struct{})
	go func() { // ends when the server is closed
		defer close(done)
		if to.tls {
			_ = o.server.ServeTLS(l, certs.cert, certs.key)
		} else {
			_ = o.server.Serve(l)
		}
	}()
	t.Cleanup(func() {
		_ = o.server.Close()
		<-done
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.faults) > 0 {
			t.Errorf("the upstream: %q", o.faults)
		}
	})
	return o
}

// ServeHTTP implements http.Handler.
func (o *pairOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.at++
	switch {
	case r.Proto != o.version:
		o.faults = append(o.faults, "a request in "+r.Proto)
	case r.Host != "a.test":
		o.faults = append(o.faults, "a request for "+r.Host)
	case len(r.Header.Values("X-Forwarded-For")) != 1, r.Header.Get("X-Request-Id") == "":
		o.faults = append(o.faults, fmt.Sprintf("fields: %v", r.Header))
	}
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.at--
		o.mu.Unlock()
	}()
	pairHandler(o, w, r)
}

func (o *pairOrigin) active() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.at
}

// signal returns the channel that happened closes.
func (o *pairOrigin) signal(name string) chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.signals[name] == nil {
		o.signals[name] = make(chan struct{})
	}
	return o.signals[name]
}

func (o *pairOrigin) happened(name string) { close(o.signal(name)) }

// pairCerts is a certificate for a.test and 127.0.0.1 that vouches for itself, in files.
type pairCerts struct {
	cert, key string
	pool      *x509.CertPool
}

func newPairCerts(t *testing.T) *pairCerts {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "wproxy test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:        true, BasicConstraintsValid: true,
		DNSNames: []string{"a.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &pairCerts{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), pool: x509.NewCertPool()}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(c.cert, certPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	c.pool.AppendCertsFromPEM(certPEM)
	return c
}
