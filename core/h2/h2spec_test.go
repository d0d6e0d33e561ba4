package h2_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// TestH2Spec runs all cases of h2spec, the strict ones too. What it skips has to be
// in testdata/skip/h2spec.json with a reason; nothing may fail.
func TestH2Spec(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			addr := listen(t, scheme, h2.NewServer(h2.ServerOptions{Scheme: scheme}, hello))
			c := &config.Config{
				Host: "127.0.0.1", Port: addr.Port, Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000,
				Strict: true, TLS: scheme == "https", Insecure: true,
			}
			skips := readSkips(t)
			total := 0
			for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
				g.Test(c)
				total += g.PassedCount + g.FailedCount + g.SkippedCount
				judge(t, g, skips)
			}
			if total < 140 {
				t.Errorf("only %d cases were run", total)
			}
		})
	}
}

// A skip is a case that h2spec cannot run, and why.
type skip struct{ Case, Reason string }

func readSkips(t *testing.T) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("../../testdata/skip/h2spec.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []skip
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	m := map[string]bool{}
	for _, s := range list {
		if s.Reason == "" {
			t.Errorf("%s is skipped without a reason", s.Case)
		}
		m[s.Case] = true
	}
	return m
}

// judge reports the cases of g, and of the groups in it, that have not passed.
func judge(t *testing.T, g *spec.TestGroup, skips map[string]bool) {
	t.Helper()
	i := 0
	for _, list := range [][]*spec.TestCase{g.Tests, g.StrictTests} {
		for _, c := range list {
			i++
			id := fmt.Sprintf("%s/%d", g.ID(), i)
			switch r := c.Result; {
			case r == nil:
				t.Errorf("%s was not run: %s", id, c.Desc)
			case r.Failed:
				t.Errorf("%s: %s: %v", id, c.Desc, r.Error)
			case r.Skipped && !skips[id]:
				t.Errorf("%s was skipped: %s", id, c.Desc)
			}
		}
	}
	for _, sub := range g.Groups {
		judge(t, sub, skips)
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
