package acme_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"wproxy/core/certs/acme"
	"wproxy/core/certs/acme/acmetest"
)

// TestMain fails when goroutines of a Manager are left after all tests. Those of
// Pebble it does not look at.
func TestMain(m *testing.M) {
	code := m.Run()
	var left string
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(10 * time.Millisecond) {
		if left = goroutines(); left == "" {
			break
		}
	}
	if left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines are left:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// goroutines returns the stacks of a Manager's goroutines, and certmagic's.
func goroutines() string {
	b := make([]byte, 1<<20)
	b = b[:runtime.Stack(b, true)]
	var left []string
	for g := range strings.SplitSeq(string(b), "\n\n") {
		if strings.Contains(g, "core/certs/acme.(") || strings.Contains(g, "certmagic") || strings.Contains(g, "acmez") {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

// A front is the listeners that a Manager stands behind.
type front struct {
	pending   *acme.Pending
	http, tls net.Listener
	refuse    atomic.Bool // no HTTP01 challenge is answered
}

func newFront(t *testing.T) *front {
	t.Helper()
	f := &front{pending: acme.NewPending()}
	f.http, f.tls = listen(t), listen(t)
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := f.pending.HTTPChallenge(r.Host, r.URL.Path)
		if !ok || f.refuse.Load() {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, body)
	})}
	go func() { _ = s.Serve(f.http) }()
	t.Cleanup(func() { _ = s.Close() })
	return f
}

// use serves m's certificates: what is sent over a connection comes back.
func (f *front) use(t *testing.T, m *acme.Manager) {
	t.Helper()
	c := &tls.Config{GetCertificate: m.Certificate, MinVersion: tls.VersionTLS12}
	if m.ALPN() {
		c.NextProtos = []string{"echo", acme.ALPN}
	}
	l := tls.NewListener(f.tls, c)
	go func() { // ends with the listener
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				tc, ok := nc.(*tls.Conn)
				if !ok || tc.HandshakeContext(t.Context()) != nil || tc.ConnectionState().NegotiatedProtocol == acme.ALPN {
					return
				}
				_, _ = io.Copy(tc, tc)
			}()
		}
	}()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func port(l net.Listener) int {
	a, _ := l.Addr().(*net.TCPAddr)
	return a.Port
}

// dial makes a handshake for a host.
func (f *front) dial(t *testing.T, host string, roots *x509.CertPool) (*tls.Conn, error) {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{ServerName: host, RootCAs: roots, NextProtos: []string{"echo"}, MinVersion: tls.VersionTLS12}}
	nc, err := d.DialContext(t.Context(), "tcp", f.tls.Addr().String())
	if err != nil {
		return nil, err
	}
	c, _ := nc.(*tls.Conn)
	t.Cleanup(func() { _ = c.Close() })
	return c, nil
}

// leaf returns the certificate that a handshake for a host gets.
func (f *front) leaf(t *testing.T, host string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	c, err := f.dial(t, host, roots)
	if err != nil {
		t.Fatalf("%s: %v", host, err)
	}
	return c.ConnectionState().PeerCertificates[0]
}

func echo(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("echo: %q, %v", b, err)
	}
}

// eventually waits for something that takes a CA moments.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for start := time.Now(); time.Since(start) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

// options are those of a Manager in a hurry.
func options(t *testing.T, f *front, ca *acmetest.Server, hosts ...string) (acme.Options, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	return acme.Options{
		Email: "ops@example.test", Hosts: hosts, Dir: filepath.Join(t.TempDir(), "acme"), CA: ca.URL, CARoots: ca.Roots,
		Pending: f.pending, Log: zap.New(core), Check: 50 * time.Millisecond, Retry: 50 * time.Millisecond,
	}, logs
}

func start(t *testing.T, o acme.Options) *acme.Manager {
	t.Helper()
	m, err := acme.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	return m
}

// ready reports whether every host of m has a certificate.
func ready(m *acme.Manager) bool {
	for _, s := range m.Status() {
		if s.NotAfter.IsZero() {
			return false
		}
	}
	return true
}
