package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"wproxy/core/certs/certstest"
)

// A security is what the flags of an origin say.
type security struct {
	tls *tls.Config // nil: in clear
	h2  bool        // HTTP/2: in clear with prior knowledge
	h1  bool        // HTTP/1.1 as well
}

// originFlags reads what stands in front of an origin's name:
//
//	-tls          over TLS, with a certificate for 127.0.0.1 and a.internal of the script's
//	              authority, which is in ca.pem
//	-tls=expired  with one that is no longer valid
//	-tls=other    with one of another authority
//	-tls=client   who asks for a certificate of the script's authority; there is one in
//	              client.pem and client.key
//	-h2           speaks HTTP/2 only; the kinds are echo and status
//	-h2=too       speaks HTTP/1.1 as well
func originFlags(ts *testscript.TestScript, args []string) (security, []string) {
	var s security
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		flag := args[0]
		args = args[1:]
		if flag == "-h2" || flag == "-h2=too" {
			s.h2, s.h1 = true, flag == "-h2=too"
			continue
		}
		variant, ok := strings.CutPrefix(flag, "-tls")
		if !ok {
			ts.Fatalf("origin: unknown flag %s", flag)
		}
		s.tls = tlsOf(ts, strings.TrimPrefix(variant, "="))
	}
	return s, args
}

// tlsOf makes the configuration of a TLS origin.
func tlsOf(ts *testscript.TestScript, variant string) *tls.Config {
	ca := scriptCA(ts)
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	r := certstest.Request{Names: []string{"127.0.0.1", "a.internal"}}
	switch variant {
	case "":
	case "expired":
		r.NotAfter = time.Now().Add(-time.Minute)
	case "other":
		ca = certstest.New(ts, "other")
	case "client":
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	default:
		ts.Fatalf("origin: -tls=%s?", variant)
	}
	cfg.Certificates = []tls.Certificate{ca.Sign(r).TLS}
	return cfg
}

// scriptCA returns the authority of the script, and writes its files at the first call.
func scriptCA(ts *testscript.TestScript) *certstest.CA {
	s := stateOf(ts)
	if s.ca == nil {
		s.ca = certstest.New(ts, "script CA")
		dir := ts.Getenv("WORK")
		s.ca.Write(ts, dir, "ca")
		client := s.ca.Client("client.internal")
		client.Write(ts, dir, "client")
	}
	return s.ca
}

// answerGRPCHealth answers grpc.health.v1.Health/Check for the service a.Service.
func (o *origin) answerGRPCHealth(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("content-type", "application/grpc")
	w.Header().Set("trailer", "grpc-status")
	body, _ := io.ReadAll(r.Body)
	switch {
	case r.URL.Path != "/grpc.health.v1.Health/Check" || string(body) != "\x00\x00\x00\x00\x0b\x0a\x09a.Service":
		w.Header().Set("grpc-status", "5") // NOT_FOUND
		return
	case o.status.Load() == 200:
		_, _ = w.Write([]byte{0, 0, 0, 0, 2, 1 << 3, 1}) // SERVING
	default:
		_, _ = w.Write([]byte{0, 0, 0, 0, 2, 1 << 3, 2}) // NOT_SERVING
	}
	w.Header().Set("grpc-status", "0")
}

// serveHTTP2 serves HTTP/2, and what else sec says, until the script ends.
func (o *origin) serveHTTP2(ts *testscript.TestScript, sec security, kind, name string) {
	cfg := sec.tls
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.requests.Add(1)
		switch {
		case kind == "echo":
			_, _ = io.WriteString(w, echoText(r)) // the test sees what is missing
		case kind == "switch" && r.UserAgent() == "wproxy-health" && r.Header.Get("content-type") == "application/grpc":
			o.requests.Add(-1)
			o.answerGRPCHealth(w, r)
		case kind == "switch":
			if r.UserAgent() == "wproxy-health" {
				o.requests.Add(-1)
			}
			w.WriteHeader(int(o.status.Load()))
			_, _ = io.WriteString(w, name+"\n")
		default:
			_, _ = io.WriteString(w, name+"\n")
		}
	})
	s := &http.Server{Handler: h, TLSConfig: cfg, ReadHeaderTimeout: patience, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(sec.h1)
	s.Protocols.SetHTTP2(cfg != nil)
	s.Protocols.SetUnencryptedHTTP2(cfg == nil)
	o.wg.Go(func() {
		var err error
		if cfg != nil {
			err = s.ServeTLS(o.listener, "", "")
		} else {
			err = s.Serve(o.listener)
		}
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			ts.Logf("origin %s: %v", name, err)
		}
	})
	ts.Defer(func() {
		_ = s.Close() // the process ends
		o.wg.Wait()
	})
}
