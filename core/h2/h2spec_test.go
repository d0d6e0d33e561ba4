package h2_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/h2"
	"wproxy/core/h2/h2spectest"
)

// TestH2Spec runs all cases of h2spec, the strict ones too. What it skips has to be
// in testdata/skip/h2spec.json with a reason; nothing may fail.
func TestH2Spec(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			addr := listen(t, scheme, h2.NewServer(h2.ServerOptions{Scheme: scheme}, hello))
			h2spectest.Run(t, h2spectest.Target{
				Addr: addr.String(), Path: "/", TLS: scheme == "https", Skips: "../../testdata/skip/h2spec.json",
			})
		})
	}
}

// hello answers every request with a few bytes, after having read it.
func hello(_ context.Context, c exchange.Client) {
	var r request
	if c.Feed(&r) != nil {
		return
	}
	if c.Head(&exchange.Response{Status: 200, Length: 6}, false) == nil {
		_ = c.Data([]byte("hello\n"), true)
	}
}

// listen serves s on a loopback port until the test ends.
func listen(t *testing.T, scheme string, s *h2.Server) *net.TCPAddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	serving.Go(func() { // ends when the listener is closed
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { // ends with the connection, which the test's end closes
				defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
				if scheme == "https" {
					tc := tls.Server(nc, tlsConfig(t))
					if tc.HandshakeContext(ctx) != nil {
						_ = nc.Close()
						return
					}
					s.ServeConn(ctx, tc, nil, nil)
					return
				}
				s.ServeConn(ctx, nc, nil, nil)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		serving.Wait()
	})
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP address")
	}
	return addr
}

// tlsConfig has a certificate of its own making.
var tlsConfig = func() func(t *testing.T) *tls.Config {
	once := sync.OnceValues(func() (*tls.Config, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		x := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
			NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
		if err != nil {
			return nil, err
		}
		return &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
			NextProtos:   []string{"h2"}, MinVersion: tls.VersionTLS12,
		}, nil
	})
	return func(t *testing.T) *tls.Config {
		t.Helper()
		c, err := once()
		if err != nil {
			t.Error(err)
		}
		return c
	}
}()
