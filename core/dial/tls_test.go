package dial_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/core/certs/certstest"
	"wproxy/core/dial"
	"wproxy/core/exchange"
	"wproxy/core/internal/tlsconn"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

func newCA(t *testing.T) *certstest.CA {
	t.Helper()
	return certstest.New(t, "test CA")
}

func server(ca *certstest.CA, names ...string) tls.Certificate { return ca.Server(names...).TLS }

func caFile(t *testing.T, ca *certstest.CA) string {
	t.Helper()
	cert, _ := ca.Write(t, t.TempDir(), "ca")
	return cert
}

// serveTLS accepts connections and hands each to f after its handshake.
func serveTLS(t *testing.T, cfg *tls.Config, f func(c *tls.Conn)) (address string) {
	t.Helper()
	return serve(t, func(nc net.Conn) {
		c := tls.Server(nc, cfg)
		if c.HandshakeContext(t.Context()) == nil {
			f(c)
		}
	})
}

// serve accepts connections until the test ends, and hands each to f.
func serve(t *testing.T, f func(nc net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				stop := context.AfterFunc(t.Context(), func() { _ = nc.Close() })
				defer stop()
				f(nc)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// A dialed is what a dial made: a connection and whether it is to speak HTTP/2.
type dialed struct {
	pool.Conn
	nc net.Conn
	h2 bool
}

func (d dialed) state(t *testing.T) tls.ConnectionState {
	t.Helper()
	c, ok := d.nc.(*tlsconn.Conn)
	if !ok {
		t.Fatalf("got a %T, want TLS", d.nc)
	}
	return c.State()
}

func newTLS(t *testing.T, o dial.TLSOptions) *dial.TLS {
	t.Helper()
	s, err := dial.NewTLS(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dialTLS(t *testing.T, o dial.Options, address string) (dialed, error) {
	t.Helper()
	o.NewConn = func(nc net.Conn) pool.Conn { return dialed{nc: nc} }
	o.NewHTTP2 = func(nc net.Conn) pool.Conn { return dialed{nc: nc, h2: true} }
	e, err := upstream.NewEndpoint(address, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial.New(o).Dial(t.Context(), e)
	if err != nil {
		return dialed{}, err
	}
	d, ok := c.(dialed)
	if !ok {
		t.Fatalf("got %T", c)
	}
	t.Cleanup(func() { _ = d.nc.Close() })
	return d, nil
}

func TestTLSVerification(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	file := caFile(t, ca)
	past := time.Now().Add(-time.Minute)
	local := []string{"127.0.0.1"}
	tests := []struct {
		name   string
		cert   tls.Certificate
		o      dial.TLSOptions
		reason string
	}{
		{"address", server(ca, "127.0.0.1"), dial.TLSOptions{CA: file}, ""},
		{"server_name", server(ca, "a.internal"), dial.TLSOptions{CA: file, ServerName: "a.internal"}, ""},
		{"wildcard", server(ca, "*.internal"), dial.TLSOptions{CA: file, ServerName: "a.internal"}, ""},
		{"another name", server(ca, "b.internal"), dial.TLSOptions{CA: file, ServerName: "a.internal"}, "upstream_tls_verify"},
		{"another address", server(ca, "127.0.0.2"), dial.TLSOptions{CA: file}, "upstream_tls_verify"},
		{"another authority", server(other, "127.0.0.1"), dial.TLSOptions{CA: file}, "upstream_tls_verify"},
		{"system's authorities", server(ca, "127.0.0.1"), dial.TLSOptions{}, "upstream_tls_verify"},
		{"expired", ca.Sign(certstest.Request{Names: local, NotAfter: past}).TLS, dial.TLSOptions{CA: file}, "upstream_tls_verify"},
		{"for clients", ca.Sign(certstest.Request{Names: local, Client: true}).TLS, dial.TLSOptions{CA: file}, "upstream_tls_verify"},
		{"not verified", other.Sign(certstest.Request{Names: []string{"b.internal"}, NotAfter: past}).TLS, dial.TLSOptions{CA: file, InsecureSkipVerify: true}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			names := make(chan string, 10)
			address := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{tt.cert}}, func(c *tls.Conn) {
				names <- c.ConnectionState().ServerName
				_, _ = c.Read(make([]byte, 1))
			})
			_, err := dialTLS(t, dial.Options{TLS: newTLS(t, tt.o)}, "https://"+address)
			wantTLSError(t, err, 502, tt.reason)
			if tt.reason == "" {
				if got := <-names; got != tt.o.ServerName {
					t.Errorf("SNI: got %q, want %q", got, tt.o.ServerName)
				}
			}
		})
	}
}

func wantTLSError(t *testing.T, err error, status int, reason string) {
	t.Helper()
	if reason == "" {
		if err != nil {
			t.Errorf("got %v", err)
		}
		return
	}
	var e *exchange.Error
	if !errors.As(err, &e) || e.Reason != reason || e.Status != status || e.Retry != exchange.RetryAlways || e.Side != exchange.UpstreamSide {
		t.Errorf("got %v, want %d %s", err, status, reason)
	}
}

func TestTLSProtocols(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	file, cert := caFile(t, ca), server(ca, "127.0.0.1")
	h1, h2 := "http/1.1", "h2"
	tests := []struct {
		name     string
		protocol dial.Protocol
		offers   []string // nil: the server knows no ALPN
		h2       bool
		reason   string
	}{
		{"auto, both", dial.Auto, []string{h2, h1}, true, ""},
		{"auto, the server likes h1", dial.Auto, []string{h1, h2}, false, ""},
		{"auto, h1", dial.Auto, []string{h1}, false, ""},
		{"auto, h2", dial.Auto, []string{h2}, true, ""},
		{"auto, none", dial.Auto, nil, false, ""},
		{"h1, both", dial.HTTP1, []string{h2, h1}, false, ""},
		{"h1, neither", dial.HTTP1, []string{"spdy/3"}, false, "upstream_alpn"},
		{"h2, both", dial.HTTP2, []string{h1, h2}, true, ""},
		{"h2, none", dial.HTTP2, nil, false, "upstream_alpn"},
		{"h2, h1 only", dial.HTTP2, []string{"http/1.0"}, false, "upstream_alpn"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: tt.offers}, func(c *tls.Conn) {
				_, _ = c.Read(make([]byte, 1))
			})
			d, err := dialTLS(t, dial.Options{Protocol: tt.protocol, TLS: newTLS(t, dial.TLSOptions{CA: file})}, "https://"+address)
			wantTLSError(t, err, 502, tt.reason)
			if err == nil && d.h2 != tt.h2 {
				t.Errorf("HTTP/2: got %v, want %v", d.h2, tt.h2)
			}
		})
	}
	address := serve(t, func(nc net.Conn) { _, _ = nc.Read(make([]byte, 1)) })
	for p, want := range map[dial.Protocol]bool{dial.Auto: false, dial.HTTP1: false, dial.HTTP2: true} {
		if d, err := dialTLS(t, dial.Options{Protocol: p}, address); err != nil || d.h2 != want {
			t.Errorf("in clear, protocol %d: got HTTP/2 %v, %v", p, d.h2, err)
		}
	}
}

func TestTLSFailures(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	file, cert := caFile(t, ca), server(ca, "127.0.0.1")
	o := dial.Options{TLS: newTLS(t, dial.TLSOptions{CA: file, MinVersion: tls.VersionTLS13}), Total: 200 * time.Millisecond}

	plain := serve(t, func(nc net.Conn) {
		_, _ = nc.Read(make([]byte, 100))
		_, _ = nc.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	})
	_, err := dialTLS(t, o, "https://"+plain)
	wantTLSError(t, err, 502, "upstream_tls_handshake")

	closes := serve(t, func(nc net.Conn) { _, _ = nc.Read(make([]byte, 100)) })
	_, err = dialTLS(t, o, "https://"+closes)
	wantTLSError(t, err, 502, "upstream_tls_handshake")

	old := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}, func(*tls.Conn) {})
	_, err = dialTLS(t, o, "https://"+old)
	wantTLSError(t, err, 502, "upstream_tls_handshake")

	silent := serve(t, func(nc net.Conn) {
		for b := make([]byte, 4096); ; {
			if _, err := nc.Read(b); err != nil {
				return
			}
		}
	})
	start := time.Now()
	_, err = dialTLS(t, o, "https://"+silent)
	wantTLSError(t, err, 504, "upstream_tls_timeout")
	if d := time.Since(start); d < 200*time.Millisecond || d > 15*time.Second {
		t.Errorf("connect.total of 200ms was kept to in %v", d)
	}

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	e, err := upstream.NewEndpoint("https://"+silent, 1)
	if err != nil {
		t.Fatal(err)
	}
	o.Total = 0
	if _, err := dial.New(o).Dial(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("client gone during the handshake: got %v", err)
	}
}

func TestTLSResumption(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	file, cert := caFile(t, ca), server(ca, "a.internal", "127.0.0.1")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := newTLS(t, dial.TLSOptions{CA: file, ServerName: "a.internal"})
		var addresses []string
		for range 2 { // two servers with one name: a session of one is not offered to the other
			addresses = append(addresses, serveTLS(t, &tls.Config{
				Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"},
			}, func(c *tls.Conn) {
				_, _ = c.Write([]byte("x"))
				_, _ = c.Read(make([]byte, 1))
			}))
		}
		for i, want := range []bool{false, true, true} {
			for _, a := range addresses {
				d, err := dialTLS(t, dial.Options{TLS: s}, "https://"+a)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.nc.Read(make([]byte, 1)); err != nil { // the ticket comes before
					t.Fatal(err)
				}
				if st := d.state(t); st.DidResume != want || st.Version != version || st.NegotiatedProtocol != "h2" {
					t.Errorf("%s, handshake %d: resumed %v, version %x, protocol %q", tls.VersionName(version), i, st.DidResume, st.Version, st.NegotiatedProtocol)
				}
			}
		}
	}
}

// TestTLSClientCertificate: the certificate is shown, read again when its files change,
// and kept when what they change to is no good.
func TestTLSClientCertificate(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	dir := t.TempDir()
	file := caFile(t, ca)
	write := func(name string) (cert, key string) {
		c := ca.Client(name)
		return c.Write(t, dir, "client")
	}
	seen := make(chan string, 10)
	address := serveTLS(t, &tls.Config{
		Certificates: []tls.Certificate{server(ca, "127.0.0.1")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	}, func(c *tls.Conn) {
		seen <- c.ConnectionState().PeerCertificates[0].Subject.CommonName
		_, _ = c.Write([]byte("x"))
		_, _ = c.Read(make([]byte, 1))
	})
	cert, key := write("one")
	reloads := make(chan error, 10)
	s := newTLS(t, dial.TLSOptions{CA: file, Cert: cert, Key: key, Reloaded: func(err error) { reloads <- err }})
	shows := func(want string) {
		t.Helper()
		d, err := dialTLS(t, dial.Options{TLS: s}, "https://"+address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = d.nc.Read(make([]byte, 1)) // so that there is a session to resume
		if got := <-seen; got != want {
			t.Errorf("the server was shown %q, want %q", got, want)
		}
	}
	shows("one")
	write("two")
	dial.Expire(s)
	shows("two") // and not a session of one
	if err := <-reloads; err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	dial.Expire(s)
	shows("two")
	var fe *dial.FileError
	if err := <-reloads; !errors.As(err, &fe) || !strings.Contains(err.Error(), cert) {
		t.Errorf("bad file: told %v", err)
	}
	dial.Expire(s)
	shows("two")
	if len(reloads) > 0 {
		t.Errorf("told again although nothing has changed: %v", <-reloads)
	}
	write("three")
	dial.Expire(s)
	shows("three")

	_, err := dialTLS(t, dial.Options{TLS: newTLS(t, dial.TLSOptions{CA: file, MinVersion: tls.VersionTLS12})}, "https://"+address)
	if err != nil { // TLS 1.3: the server's refusal comes after the handshake
		wantTLSError(t, err, 502, "upstream_tls_handshake")
	}
}

func TestTLSFiles(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	dir := t.TempDir()
	one, two := ca.Client("one"), ca.Client("two")
	cert, _ := one.Write(t, dir, "one")
	_, other := two.Write(t, dir, "two")
	for _, tt := range []struct {
		o   dial.TLSOptions
		key string
	}{
		{dial.TLSOptions{CA: dir + "/none.pem"}, "ca"},
		{dial.TLSOptions{CA: dir}, "ca"},
		{dial.TLSOptions{CA: other}, "ca"},
		{dial.TLSOptions{Cert: dir + "/none.pem", Key: other}, "cert"},
		{dial.TLSOptions{Cert: cert, Key: dir + "/none.key"}, "key"},
		{dial.TLSOptions{Cert: cert, Key: other}, "key"},
	} {
		_, err := dial.NewTLS(tt.o)
		var fe *dial.FileError
		if !errors.As(err, &fe) || fe.Key != tt.key || !strings.Contains(err.Error(), dir) {
			t.Errorf("%+v: got %v, want an error of %s that names the file", tt.o, err, tt.key)
		}
	}
}
