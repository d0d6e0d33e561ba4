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
	"os"
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
	names  *dns.Server
	manage http.Handler
	orders atomic.Int64
}

// Start is Run for a test, at whose end the server is closed.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	s, err := Run(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// Run runs a server. It sets environment variables of Pebble's, which knows no
// other way, and whose validation has a goroutine that never ends.
func Run(o Options) (*Server, error) {
	for k, v := range map[string]string{
		"PEBBLE_VA_NOSLEEP": "1",
		"PEBBLE_AUTHZREUSE": "0", // renewals are validated too
	} {
		if err := os.Setenv(k, v); err != nil {
			return nil, err
		}
	}
	names, resolver, err := startDNS()
	if err != nil {
		return nil, err
	}
	log := zap.NewStdLog(zap.NewNop())
	store := db.NewMemoryStore()
	authority := ca.New(log, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "of the test", ValidityPeriod: uint64(o.Validity / time.Second)}, //nolint:gosec // positive
	})
	validation := va.New(log, o.HTTPPort, o.TLSPort, true, resolver, store)
	front := wfe.New(log, store, validation, authority, []string{"pebble.test"}, true, false, 0, 0)

	s := &Server{Issued: x509.NewCertPool(), manage: front.ManagementHandler(), names: names}
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
			_ = names.Shutdown()
			return nil, err
		}
		_ = s.server.Listener.Close() // replaced
		s.server.Listener = l
	}
	s.server.StartTLS()
	s.URL = s.server.URL + wfe.DirectoryPath
	s.Roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	return s, nil
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

// Close stops the server. It may be called again.
func (s *Server) Close() {
	s.server.Close()
	_ = s.names.Shutdown() // it may have been stopped
}

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
func startDNS() (*dns.Server, string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	started := make(chan struct{})
	s := &dns.Server{Listener: l, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(answer)}
	go func() { _ = s.ActivateAndServe() }() // ends with Close
	<-started                                // Shutdown before would do nothing
	return s, l.Addr().String(), nil
}

// answer answers one question.
func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
			A:   net.IPv4(127, 0, 0, 1),
		})
	}
	_ = w.WriteMsg(m) // the client has gone
}
