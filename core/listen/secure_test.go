package listen_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wproxy/core/certs"
	"wproxy/core/certs/certstest"
	"wproxy/core/exchange"
	"wproxy/core/listen"
)

// newTLS returns the TLS of a.example, and of m.example, which asks for certificates.
func newTLS(t *testing.T, timeout time.Duration) (*listen.TLS, *certstest.CA, *certstest.CA) {
	t.Helper()
	dir := t.TempDir()
	ca, clients := certstest.New(t, "ca"), certstest.New(t, "clients")
	a, m := ca.Server("a.example"), ca.Server("m.example")
	certA, keyA := a.Write(t, dir, "a")
	certM, keyM := m.Write(t, dir, "m")
	file := filepath.Join(dir, "clients.pem")
	certstest.WriteFile(t, file, clients.Cert)
	s, err := certs.Open(certs.Options{
		Pairs:     []certs.Pair{{Cert: certA, Key: keyA}, {Cert: certM, Key: keyM, ClientCA: file}},
		Protocols: []string{"http/1.1"}, Failed: func(error) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &listen.TLS{Store: s, Timeout: timeout}, ca, clients
}

// connect returns both ends of a connection.
func connect(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	return client, server
}

// TestHandshakeFailures: why each one failed.
func TestHandshakeFailures(t *testing.T) {
	tl, ca, _ := newTLS(t, 200*time.Millisecond)
	stranger := ca.Client("stranger")
	client := func(c *tls.Config) func(net.Conn) {
		c.RootCAs = ca.Pool()
		if c.ServerName == "" {
			c.ServerName = "a.example"
		}
		return func(nc net.Conn) { _ = tls.Client(nc, c).Handshake(); _, _ = nc.Read(make([]byte, 1)) }
	}
	for _, tt := range []struct {
		name, want string
		do         func(net.Conn)
	}{
		{"silence", listen.HandshakeTimeout, func(nc net.Conn) { _, _ = nc.Read(make([]byte, 1)) }},
		{"drip", listen.HandshakeTimeout, func(nc net.Conn) {
			for _, b := range []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16} {
				if _, err := nc.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond) // each byte well within the time, all of them not
			}
		}},
		{"gone", listen.HandshakeClosed, func(nc net.Conn) { _, _ = nc.Write([]byte{22, 3, 1}); nc.Close() }},
		{"garbage", listen.HandshakeNotTLS, func(nc net.Conn) { _, _ = nc.Write([]byte("hello, hello, hello")); _, _ = nc.Read(make([]byte, 1)) }},
		{"TLS 1.1", listen.HandshakeVersion, client(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})},
		{"CBC", listen.HandshakeParameters, client(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}})},
		{"ALPN", listen.HandshakeProtocol, client(&tls.Config{NextProtos: []string{"spdy/3"}})},
		{"no certificate", listen.HandshakeClientCert, client(&tls.Config{ServerName: "m.example"})},
		{"no certificate, 1.2", listen.HandshakeClientCert, client(&tls.Config{ServerName: "m.example", MaxVersion: tls.VersionTLS12})},
		{"a stranger's", listen.HandshakeClientCert, client(&tls.Config{ServerName: "m.example", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &stranger.TLS, nil
		}})},
		{"does not trust us", listen.HandshakeRejected, client(&tls.Config{ServerName: "other.example"})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := connect(t)
			var wg sync.WaitGroup
			wg.Go(func() { tt.do(c) }) // ends with the connection
			_, err := tl.Handshake(context.Background(), s, new(exchange.Conn))
			var he *listen.HandshakeError
			if !errors.As(err, &he) || he.Reason != tt.want {
				t.Errorf("got %v (%q), want %q", err, reasonOf(he), tt.want)
			}
			c.Close()
			wg.Wait()
		})
	}
}

func reasonOf(e *listen.HandshakeError) string {
	if e == nil {
		return ""
	}
	return e.Reason
}

// TestHandshakeFacts: what is known of a connection, however its first bytes came.
func TestHandshakeFacts(t *testing.T) {
	tl, ca, clients := newTLS(t, 5*time.Second)
	me := clients.Client("me", "spiffe://example.com/me")
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"at once":          func(c net.Conn) net.Conn { return c },
		"a byte at a time": func(c net.Conn) net.Conn { return dribble{c} },
	} {
		t.Run(name, func(t *testing.T) {
			c, s := connect(t)
			done := make(chan error, 1)
			go func() { // ends with the handshake
				done <- tls.Client(wrap(c), &tls.Config{
					RootCAs: ca.Pool(), ServerName: "m.example", Certificates: []tls.Certificate{me.TLS}, NextProtos: []string{"h2", "http/1.1"},
				}).Handshake()
			}()
			var facts exchange.Conn
			sc, err := tl.Handshake(context.Background(), s, &facts)
			if err != nil {
				t.Fatal(err)
			}
			defer sc.Drop()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if facts.TLS.ServerName != "m.example" || facts.TLS.NegotiatedProtocol != "http/1.1" || facts.Certificate.DNSNames[0] != "m.example" ||
				facts.ClientPolicy != tl.Store.Policy("m.example") || facts.Identity.Name() != "CN=me" {
				t.Errorf("got %+v", facts)
			}
		})
	}
}

// dribble writes single bytes.
type dribble struct{ net.Conn }

func (d dribble) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// TestPlainHTTP: somebody who forgot the s is told.
func TestPlainHTTP(t *testing.T) {
	tl, _, _ := newTLS(t, 5*time.Second)
	c, s := connect(t)
	go func() { _, _ = tl.Handshake(context.Background(), s, new(exchange.Conn)) }() // ends with what was sent
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// TestGate: handshakes that wait for their clients have no place in the gate, those that
// find none wait, no longer than they may, and all places come back.
func TestGate(t *testing.T) {
	tl, ca, _ := newTLS(t, 300*time.Millisecond)
	tl.Gate = listen.NewGate(1)
	shake := func() error {
		c, s := connect(t)
		go func() { // ends with the handshake
			_ = tls.Client(c, &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"}).Handshake()
		}()
		sc, err := tl.Handshake(context.Background(), s, new(exchange.Conn))
		if err == nil {
			sc.Drop()
		}
		return err
	}
	var silent sync.WaitGroup
	for range 5 {
		_, s := connect(t)
		silent.Go(func() { _, _ = tl.Handshake(context.Background(), s, new(exchange.Conn)) }) // ends with its time
	}
	for range 20 {
		if err := shake(); err != nil {
			t.Fatal(err)
		}
	}
	silent.Wait()
	tl.Gate <- struct{}{} // somebody computes for ever
	var he *listen.HandshakeError
	if err := shake(); !errors.As(err, &he) || he.Reason != listen.HandshakeTimeout {
		t.Errorf("got %v", err)
	}
	<-tl.Gate
	if err := shake(); err != nil {
		t.Error(err)
	}
	if len(tl.Gate) != 0 {
		t.Errorf("%d places did not come back", len(tl.Gate))
	}
}

// TestGateAfterRetry: a client that is asked for another key share (RFC 8446 4.1.4) has
// given its place back, and needs one again for the signature.
func TestGateAfterRetry(t *testing.T) {
	ca := certstest.New(t, "ca")
	a := ca.Server("a.example")
	cert, key := a.Write(t, t.TempDir(), "a")
	s, err := certs.Open(certs.Options{
		Pairs: []certs.Pair{{Cert: cert, Key: key}}, Curves: []tls.CurveID{tls.CurveP256}, Failed: func(error) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for _, name := range []string{"a.example", ""} { // with and without SNI
		for _, full := range []bool{true, false} {
			tl := &listen.TLS{Store: s, Timeout: 300 * time.Millisecond, Gate: listen.NewGate(1)}
			client, server := connect(t)
			go func() { // ends with the handshake
				_ = tls.Client(client, &tls.Config{
					InsecureSkipVerify: true, ServerName: name, //nolint:gosec // it is about the server
					CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
				}).Handshake()
			}()
			wrote := func() {}
			if full {
				wrote = sync.OnceFunc(func() { tl.Gate <- struct{}{} }) // somebody computes for ever
			}
			sc, err := tl.Handshake(context.Background(), told{server, wrote}, new(exchange.Conn))
			var he *listen.HandshakeError
			switch {
			case !full && (err != nil || len(tl.Gate) != 0):
				t.Errorf("%q: %v, %d places did not come back", name, err, len(tl.Gate))
			case full && (!errors.As(err, &he) || he.Reason != listen.HandshakeTimeout):
				t.Errorf("%q, without a place: %v", name, err)
			}
			if err == nil {
				sc.Drop()
			}
		}
	}
}

// told tells of writes.
type told struct {
	net.Conn
	wrote func()
}

func (c told) Write(p []byte) (int, error) {
	c.wrote()
	return c.Conn.Write(p)
}

// TestHandshakeAlone: a connection that was there for its handshake is closed, in order, and
// is no failure.
func TestHandshakeAlone(t *testing.T) {
	ca := certstest.New(t, "ca")
	answer := ca.Server("a.example")
	store, err := certs.Open(certs.Options{
		Protocols: []string{"h2", "http/1.1"}, OtherProtocols: []string{"acme-tls/1"}, Failed: func(error) {},
		Other: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &answer.TLS, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	tl := &listen.TLS{Store: store, Timeout: 5 * time.Second}
	c, s := connect(t)
	done := make(chan error, 1)
	go func() { // ends with the connection
		tc := tls.Client(c, &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example", NextProtos: []string{"acme-tls/1"}})
		err := tc.Handshake()
		if err == nil && tc.ConnectionState().NegotiatedProtocol != "acme-tls/1" {
			err = errors.New("another protocol")
		}
		if err == nil {
			if _, err = tc.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
				err = nil
			}
		}
		done <- err
	}()
	if sc, err := tl.Handshake(context.Background(), s, new(exchange.Conn)); sc != nil || !errors.Is(err, listen.ErrOver) {
		t.Errorf("got %v, %v", sc, err)
	}
	if err := <-done; err != nil {
		t.Errorf("the client: %v", err)
	}
}
