// Package acmetest runs Pebble, the ACME server that Let's Encrypt tests clients
// with, inside of a test. It validates challenges for real, at ports of the
// loopback interface, which is where every name leads.
package acmetest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// Options are the settings of a Server.
type Options struct {
	HTTPPort, TLSPort int           // where challenges are looked for, on 127.0.0.1
	Validity          time.Duration // of certificates, in whole seconds
	Address           string        // to listen on; "": any port
}

// A Server is an ACME server that runs until its test ends, or Close.
type Server struct {
	// URL is that of the directory.
	URL string
	// Roots verify the server's own certificate; PEM.
	Roots []byte
	// Issued verifies the certificates that it issues.
	Issued *x509.CertPool

	server *httptest.Server
	manage http.Handler
	orders atomic.Int64
}

// Start runs a server. It sets environment variables, and so cannot be used
// in parallel tests. Its validation has a goroutine that Pebble never ends.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	tb.Setenv("PEBBLE_VA_NOSLEEP", "1")
	tb.Setenv("PEBBLE_AUTHZREUSE", "0") // renewals are validated too
	log := zap.NewStdLog(zap.NewNop())
	store := db.NewMemoryStore()
	authority := ca.New(log, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "of the test", ValidityPeriod: uint64(o.Validity / time.Second)}, //nolint:gosec // positive
	})
	validation := va.New(log, o.HTTPPort, o.TLSPort, true, startDNS(tb), store)
	front := wfe.New(log, store, validation, authority, []string{"pebble.test"}, true, false, 0, 0)

	s := &Server{Issued: x509.NewCertPool(), manage: front.ManagementHandler()}
	s.Issued.AddCert(authority.GetRootCert(0).Cert)
	handler := front.Handler()
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/order-plz" {
			w = orderCounter{w, &s.orders}
		}
		handler.ServeHTTP(w, r)
	}))
	s.server.Config.ErrorLog = log
	if o.Address != "" {
		var lc net.ListenConfig
		l, err := lc.Listen(context.Background(), "tcp", o.Address)
		if err != nil {
			tb.Fatal(err)
		}
		_ = s.server.Listener.Close() // replaced
		s.server.Listener = l
	}
	s.server.StartTLS()
	tb.Cleanup(s.server.Close)
	s.URL = s.server.URL + wfe.DirectoryPath
	s.Roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	return s
}

// An orderCounter counts the orders that are made, and not those whose nonce Pebble
// refuses, one in twenty, to see whether clients can take it.
type orderCounter struct {
	http.ResponseWriter
	n *atomic.Int64
}

// WriteHeader implements http.ResponseWriter.
func (c orderCounter) WriteHeader(status int) {
	if status == http.StatusCreated {
		c.n.Add(1)
	}
	c.ResponseWriter.WriteHeader(status)
}

// Orders returns how many orders were made.
func (s *Server) Orders() int { return int(s.orders.Load()) }

// Close stops the server.
func (s *Server) Close() { s.server.Close() }

// RenewAt makes the server say that cert is to be renewed within a window.
func (s *Server) RenewAt(tb testing.TB, cert *x509.Certificate, start, end time.Time) {
	tb.Helper()
	info, err := json.Marshal(map[string]any{"suggestedWindow": map[string]time.Time{"start": start, "end": end}})
	if err != nil {
		tb.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{
		"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})),
		"ARIResponse": string(info),
	})
	if err != nil {
		tb.Fatal(err)
	}
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/set-renewal-info/", bytes.NewReader(body))
	r.Header.Set("User-Agent", "acmetest")
	s.manage.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		tb.Fatalf("renewal info: %d %s", w.Code, w.Body)
	}
}

// startDNS runs a server for which every name is 127.0.0.1, and returns its address.
func startDNS(tb testing.TB) string {
	tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
				A:   net.IPv4(127, 0, 0, 1),
			})
		}
		_ = w.WriteMsg(m) // the client has gone
	})}
	go func() { _ = s.ActivateAndServe() }() // ends with the cleanup
	tb.Cleanup(func() { _ = s.Shutdown() })
	return l.Addr().String()
}
