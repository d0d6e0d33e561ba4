package certs_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/certs"
	"wproxy/core/certs/certstest"
)

// config returns what a listener would use.
func config(s *certs.Store) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		c, _, err := s.Choose(h)
		return c, err
	}}
}

// shake does a handshake.
func shake(t *testing.T, s *certs.Store, cc *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	server := tls.Server(b, config(s))
	done := make(chan error, 1)
	go func() { // ends with the connection
		err := server.Handshake()
		if err == nil {
			_, _ = server.Write([]byte("x")) // tickets come first
		}
		b.Close()
		done <- err
	}()
	c := tls.Client(a, cc)
	err = c.Handshake()
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	state := c.ConnectionState()
	a.Close()
	return state, errors.Join(err, <-done)
}

func open(t *testing.T, o certs.Options) *certs.Store {
	t.Helper()
	if o.Failed == nil {
		o.Failed = func(err error) { t.Errorf("the files cannot be used: %v", err) }
	}
	s, err := certs.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestChoice: which certificate a client sees.
func TestChoice(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "ca")
	var pairs []certs.Pair
	add := func(name string, r certstest.Request) {
		p := ca.Sign(r)
		cert, key := p.Write(t, dir, name)
		pairs = append(pairs, certs.Pair{Cert: cert, Key: key})
	}
	add("default", certstest.Request{Subject: "default", Names: []string{"default.example"}})
	add("wild", certstest.Request{Subject: "wild", Names: []string{"*.a.example", "a.example"}})
	add("exact", certstest.Request{Subject: "exact", Names: []string{"www.a.example"}})
	add("rsa", certstest.Request{Subject: "rsa", Names: []string{"both.example"}, Kind: "rsa"})
	add("ecdsa", certstest.Request{Subject: "ecdsa", Names: []string{"both.example"}})
	add("cn", certstest.Request{Subject: "old.example"})
	add("upper", certstest.Request{Subject: "upper", Names: []string{"UPPER.example"}})
	s := open(t, certs.Options{Pairs: pairs})
	for _, tt := range []struct {
		name, want string
		rsa        bool // the client can verify RSA only
	}{
		{"a.example", "wild", false},
		{"www.a.example", "exact", false},
		{"WWW.A.example", "exact", false},
		{"other.a.example", "wild", false},
		{"x.y.a.example", "default", false}, // "*" is one label
		{"both.example", "ecdsa", false},
		{"both.example", "rsa", true},
		{"old.example", "old.example", false},
		{"upper.example", "upper", false},
		{"unknown.example", "default", false},
		{"", "default", false},
	} {
		cc := &tls.Config{InsecureSkipVerify: true, ServerName: tt.name} //nolint:gosec // the test looks itself
		if tt.rsa {
			cc.MaxVersion = tls.VersionTLS12
			cc.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}
		state, err := shake(t, s, cc)
		if err != nil {
			t.Errorf("%q: %v", tt.name, err)
			continue
		}
		if got := state.PeerCertificates[0].Subject.CommonName; got != tt.want {
			t.Errorf("%q (RSA only: %v): got %s, want %s", tt.name, tt.rsa, got, tt.want)
		}
	}
}

// TestFileErrors: errors name the file and the key that is to blame.
func TestFileErrors(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "ca")
	a, b := ca.Server("a.example"), ca.Server("b.example")
	certA, keyA := a.Write(t, dir, "a")
	_, keyB := b.Write(t, dir, "b")
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		certstest.WriteFile(t, path, []byte(content))
		return path
	}
	encrypted := file("enc.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	for _, tt := range []struct {
		name string
		pair certs.Pair
		key  string
		text string
	}{
		{"no certificate", certs.Pair{Cert: dir + "/none.pem", Key: keyA}, "cert", "file not found"},
		{"no key", certs.Pair{Cert: certA, Key: dir + "/none.key"}, "key", "file not found"},
		{"a directory", certs.Pair{Cert: dir, Key: keyA}, "cert", "is not a regular file"},
		{"another key", certs.Pair{Cert: certA, Key: keyB}, "key", "is not the key of the certificate in " + certA},
		{"not PEM", certs.Pair{Cert: file("x.pem", "hello"), Key: keyA}, "cert", "has no certificate in PEM form"},
		{"half", certs.Pair{Cert: file("half.pem", string(a.Cert[:len(a.Cert)/2])), Key: keyA}, "cert", "has no certificate in PEM form"},
		{"key not PEM", certs.Pair{Cert: certA, Key: file("x.key", "hello")}, "key", "has no private key in PEM form"},
		{"exchanged", certs.Pair{Cert: keyA, Key: certA}, "cert", "has no certificate"},
		{"encrypted", certs.Pair{Cert: certA, Key: encrypted}, "key", "is encrypted"},
		{"no CA", certs.Pair{Cert: certA, Key: keyA, ClientCA: keyB}, "client_ca", "has no certificate"},
		{"not OCSP", certs.Pair{Cert: certA, Key: keyA, OCSP: keyB}, "ocsp", "is not an OCSP response"},
		{"too large", certs.Pair{Cert: file("big.pem", strings.Repeat("x", 2<<20)), Key: keyA}, "cert", "is larger than"},
	} {
		_, err := certs.Open(certs.Options{Pairs: []certs.Pair{tt.pair}})
		var fe *certs.FileError
		if !errors.As(err, &fe) || fe.Key != tt.key || !strings.Contains(fe.Err.Error(), tt.text) {
			t.Errorf("%s: got %v, want %s ... %s", tt.name, err, tt.key, tt.text)
		}
	}
	_, err := certs.Open(certs.Options{Pairs: []certs.Pair{{Cert: dir + "/1", Key: keyA}, {Cert: dir + "/2", Key: keyA}}})
	if err == nil || !strings.Contains(err.Error(), dir+"/1") || !strings.Contains(err.Error(), dir+"/2") {
		t.Errorf("not both files are named: %v", err)
	}
	caPath := file("ca.pem", string(ca.Cert))
	rsa := ca.Sign(certstest.Request{Names: []string{"a.example"}, Kind: "rsa"})
	certR, keyR := rsa.Write(t, dir, "rsa")
	_, err = certs.Open(certs.Options{Pairs: []certs.Pair{{Cert: certA, Key: keyA, ClientCA: caPath}, {Cert: certR, Key: keyR}}})
	if err == nil || !strings.Contains(err.Error(), "differ in client_ca") {
		t.Errorf("two rules for one name: %v", err)
	}
}

// TestWatch: renewed files are live; a pair that does not fit, or is half written, is not, is
// told once, and is when it is whole, whatever is written first.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "ca")
	first := ca.Sign(certstest.Request{Subject: "first", Names: []string{"a.example"}})
	cert, key := first.Write(t, dir, "a")
	second := ca.Sign(certstest.Request{Subject: "second", Names: []string{"a.example", "b.example"}})
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var failed []string
		changed := 0
		s, err := certs.Open(certs.Options{
			Pairs: []certs.Pair{{Cert: cert, Key: key}},
			Failed: func(err error) {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err.Error())
			},
			Changed: func(*certs.Pair, time.Time) {
				mu.Lock()
				defer mu.Unlock()
				changed++
			},
			Now: func() time.Time { return first.TLS.Leaf.NotBefore.Add(time.Hour) },
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Watch()
		defer s.Close()
		subject := func() string {
			t.Helper()
			time.Sleep(2*certs.WatchInterval + time.Millisecond)
			synctest.Wait()
			c, choice, err := s.Choose(&tls.ClientHelloInfo{ServerName: "a.example"})
			if err != nil || c == nil {
				t.Fatal(err)
			}
			return choice.Leaf.Subject.CommonName
		}
		want := func(name string, failures, changes int) {
			t.Helper()
			got := subject()
			mu.Lock()
			defer mu.Unlock()
			if got != name || len(failed) != failures || changed != changes {
				t.Errorf("got %s, %d changes, failures %q; want %s, %d, %d", got, changed, failed, name, changes, failures)
			}
		}
		want("first", 0, 0)
		certstest.WriteFile(t, cert, second.Cert[:100])
		want("first", 1, 0)
		certstest.WriteFile(t, cert, second.Cert) // the key is still the old one
		want("first", 2, 0)
		want("first", 2, 0)
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		want("first", 3, 0)
		certstest.WriteFile(t, key, second.Key)
		want("second", 3, 1)
		if !s.Has("b.example") {
			t.Error("the new name is not known")
		}
	})
}

// TestTickets: sessions are resumed, also by a store that replaces another, but never under
// another policy, and not with keys that are too old. Clients of TLS 1.2 get no tickets.
func TestTickets(t *testing.T) {
	dir := t.TempDir()
	ca, clients, others := certstest.New(t, "ca"), certstest.New(t, "clients"), certstest.New(t, "others")
	pair := ca.Server("a.example", "b.example")
	cert, key := pair.Write(t, dir, "a")
	caFile, otherFile := filepath.Join(dir, "clients.pem"), filepath.Join(dir, "others.pem")
	certstest.WriteFile(t, caFile, clients.Cert)
	certstest.WriteFile(t, otherFile, append(append([]byte(nil), others.Cert...), clients.Cert...))
	me := clients.Client("me")
	now := time.Now()
	tickets := certs.NewTicketKeys()
	store := func(clientCA string) *certs.Store {
		return open(t, certs.Options{
			Pairs: []certs.Pair{{Cert: cert, Key: key, ClientCA: clientCA}}, Tickets: tickets, Now: func() time.Time { return now },
		})
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cc := &tls.Config{
			RootCAs: ca.Pool(), ServerName: "a.example", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1),
			Certificates: []tls.Certificate{me.TLS},
		}
		resumed := func(s *certs.Store) bool {
			t.Helper()
			state, err := shake(t, s, cc)
			if err != nil {
				t.Fatal(err)
			}
			return state.DidResume
		}
		s := store(caFile)
		if resumed(s) {
			t.Error("resumed from nothing")
		}
		if version == tls.VersionTLS12 {
			if resumed(s) {
				t.Error("a client of TLS 1.2 got a ticket")
			}
			continue
		}
		if !resumed(s) || !resumed(store(caFile)) {
			t.Errorf("%x: not resumed", version)
		}
		cc.Certificates = nil // the session knows who it was
		if !resumed(s) {
			t.Errorf("%x: not resumed without the certificate at hand", version)
		}
		cc.Certificates = []tls.Certificate{me.TLS}
		if resumed(store(otherFile)) {
			t.Errorf("%x: resumed under another policy", version)
		}
		if resumed(store("")) {
			t.Errorf("%x: resumed without a policy", version)
		}
		s = store("")
		if resumed(s); !resumed(s) {
			t.Errorf("%x: not resumed", version)
		}
		now = now.Add(13 * time.Hour)
		if err := s.Refresh(); err != nil || !resumed(s) {
			t.Errorf("%x: not resumed after one rotation", version)
		}
		now = now.Add(80 * time.Hour)
		if err := s.Refresh(); err != nil || resumed(s) {
			t.Errorf("%x: resumed with a key that is too old", version)
		}
	}
	plain := open(t, certs.Options{Pairs: []certs.Pair{{Cert: cert, Key: key}}})
	cc := &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for range 2 {
		if state, err := shake(t, plain, cc); err != nil || state.DidResume {
			t.Errorf("without tickets: %v, resumed: %v", err, state.DidResume)
		}
	}
}

// TestClients: who is let in.
func TestClients(t *testing.T) {
	dir := t.TempDir()
	ca, clients, others := certstest.New(t, "ca"), certstest.New(t, "clients"), certstest.New(t, "others")
	caFile := filepath.Join(dir, "clients.pem")
	certstest.WriteFile(t, caFile, clients.Cert)
	var pairs []certs.Pair
	for name, p := range map[string]certs.Pair{"open": {}, "must": {ClientCA: caFile}, "may": {ClientCA: caFile, Optional: true}} {
		pair := ca.Server(name + ".example")
		p.Cert, p.Key = pair.Write(t, dir, name)
		pairs = append(pairs, p)
	}
	s := open(t, certs.Options{Pairs: pairs})
	good, bad := clients.Client("me"), others.Client("me")
	server, old := clients.Server("me.example"), clients.Sign(certstest.Request{Client: true, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(0, -1, 0)})
	for _, tt := range []struct {
		host   string
		cert   *tls.Certificate
		in     bool
		proven bool
	}{
		{"open.example", nil, true, false},
		{"open.example", &good.TLS, true, false}, // nobody asks
		{"must.example", nil, false, false},
		{"must.example", &good.TLS, true, true},
		{"must.example", &bad.TLS, false, false},
		{"must.example", &server.TLS, false, false}, // not for clients
		{"must.example", &old.TLS, false, false},
		{"may.example", nil, true, false},
		{"may.example", &good.TLS, true, true},
		{"may.example", &bad.TLS, false, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			asked := false
			_, err := shake(t, s, &tls.Config{
				RootCAs: ca.Pool(), ServerName: tt.host, MaxVersion: version,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					asked = true
					if tt.cert == nil {
						return new(tls.Certificate), nil
					}
					return tt.cert, nil
				},
			})
			if (err == nil) != tt.in {
				t.Errorf("%s with %v: %v", tt.host, tt.cert != nil, err)
			}
			if asked != strings.HasPrefix(tt.host, "m") {
				t.Errorf("%s: asked: %v", tt.host, asked)
			}
		}
	}
	if s.Policy("open.example") != "" || s.Policy("must.example") == s.Policy("may.example") {
		t.Errorf("policies %q, %q, %q", s.Policy("open.example"), s.Policy("must.example"), s.Policy("may.example"))
	}
}

// TestSafe: what is not safe any more is not spoken.
func TestSafe(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "ca")
	pair := ca.Sign(certstest.Request{Names: []string{"a.example"}, Kind: "rsa"})
	cert, key := pair.Write(t, dir, "a")
	s := open(t, certs.Options{Pairs: []certs.Pair{{Cert: cert, Key: key}}, Protocols: []string{"http/1.1"}})
	only13 := open(t, certs.Options{Pairs: []certs.Pair{{Cert: cert, Key: key}}, MinVersion: tls.VersionTLS13})
	roots := ca.Pool()
	for _, tt := range []struct {
		name  string
		store *certs.Store
		cc    *tls.Config
		ok    bool
	}{
		{"defaults", s, &tls.Config{}, true},
		{"TLS 1.1", s, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		{"TLS 1.2", s, &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{"TLS 1.2 where 1.3 is asked for", only13, &tls.Config{MaxVersion: tls.VersionTLS12}, false},
		{"CBC", s, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}, false},
		{"no forward secrecy", s, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false},
		{"ALPN that we have", s, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, true},
		{"ALPN that we have not", s, &tls.Config{NextProtos: []string{"spdy/3"}}, false},
	} {
		cc := tt.cc.Clone()
		cc.RootCAs, cc.ServerName = roots, "a.example"
		state, err := shake(t, tt.store, cc)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.name == "defaults" && state.CurveID != tls.X25519MLKEM768 {
			t.Errorf("the key exchange is %v", state.CurveID)
		}
	}
}

// TestStaple: an OCSP response is stapled until it is too old.
func TestStaple(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "ca")
	pair, other := ca.Server("a.example"), ca.Server("a.example")
	cert, key := pair.Write(t, dir, "a")
	now := time.Now()
	file := filepath.Join(dir, "a.der")
	certstest.WriteFile(t, file, certstest.OCSP(t, pair.TLS.Leaf, now, now.Add(time.Hour)))
	s := open(t, certs.Options{Pairs: []certs.Pair{{Cert: cert, Key: key, OCSP: file}}, Now: func() time.Time { return now }})
	staple := func() []byte {
		t.Helper()
		state, err := shake(t, s, &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"})
		if err != nil {
			t.Fatal(err)
		}
		return state.OCSPResponse
	}
	if len(staple()) == 0 {
		t.Error("nothing is stapled")
	}
	now = now.Add(2 * time.Hour)
	if err := s.Refresh(); err != nil || len(staple()) != 0 {
		t.Error("an old response is stapled")
	}
	certstest.WriteFile(t, file, certstest.OCSP(t, pair.TLS.Leaf, now, now.Add(time.Hour)))
	if err := s.Refresh(); err != nil || len(staple()) == 0 {
		t.Error("the new response is not stapled")
	}
	certstest.WriteFile(t, file, certstest.OCSP(t, other.TLS.Leaf, now, now.Add(time.Hour)))
	_, err := certs.Open(certs.Options{Pairs: []certs.Pair{{Cert: cert, Key: key, OCSP: file}}})
	if err == nil || !strings.Contains(err.Error(), "is about another certificate") {
		t.Errorf("the response of another certificate: %v", err)
	}
}

// TestStatus: dates that are not good are told.
func TestStatus(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "ca")
	old := ca.Sign(certstest.Request{Names: []string{"a.example"}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(0, -1, 0)})
	early := ca.Sign(certstest.Request{Names: []string{"b.example"}, NotBefore: time.Now().AddDate(0, 1, 0)})
	fine := ca.Server("c.example")
	var pairs []certs.Pair
	for name, p := range map[string]*certstest.Pair{"a": &old, "b": &early, "c": &fine} {
		cert, key := p.Write(t, dir, name)
		pairs = append(pairs, certs.Pair{Cert: cert, Key: key})
	}
	for _, st := range open(t, certs.Options{Pairs: pairs}).Status() {
		want := map[string]string{"a.example": "has expired on", "b.example": "is not valid before", "c.example": ""}[st.Names[0]]
		if !strings.HasPrefix(st.Bad, want) || (want == "") != (st.Bad == "") {
			t.Errorf("%s: %q", st.Names[0], st.Bad)
		}
	}
}

// TestOther: who else has certificates is asked for names that no file has; its error ends
// the handshake, and where it has none either the default goes on.
func TestOther(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "ca")
	file := ca.Sign(certstest.Request{Subject: "file", Names: []string{"file.example"}})
	other := ca.Sign(certstest.Request{Subject: "other", Names: []string{"other.example"}})
	cert, key := file.Write(t, dir, "file")
	clients := filepath.Join(dir, "clients.pem")
	certstest.WriteFile(t, clients, ca.Cert)
	errMissing := errors.New("there is none yet")
	o := certs.Options{
		Pairs: []certs.Pair{{Cert: cert, Key: key}}, Protocols: []string{"h2"},
		OtherNames: []string{"other.example", "missing.example"}, OtherProtocols: []string{"acme-tls/1"},
		Other: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			switch hello.ServerName {
			case "other.example":
				return &other.TLS, nil
			case "missing.example", "file.example":
				return nil, errMissing
			}
			return nil, nil //nolint:nilnil // as documented
		},
	}
	both := open(t, o)
	o.Pairs = nil
	alone := open(t, o)
	for _, tt := range []struct {
		s              *certs.Store
		name, protocol string
		want           string // subject; "": the handshake fails
		over           bool
	}{
		{both, "file.example", "h2", "file", false}, // and Other is not asked
		{both, "other.example", "h2", "other", false},
		{both, "missing.example", "h2", "", false},
		{both, "unknown.example", "h2", "file", false},
		{both, "", "h2", "file", false},
		{both, "file.example", "", "", false}, // HTTP/1.1 is not spoken
		{both, "other.example", "acme-tls/1", "other", true},
		{both, "unknown.example", "acme-tls/1", "", false},
		{both, "file.example", "acme-tls/1", "", false},
		{alone, "other.example", "h2", "other", false},
		{alone, "missing.example", "h2", "", false},
		{alone, "unknown.example", "h2", "", false},
	} {
		cc := &tls.Config{InsecureSkipVerify: true, ServerName: tt.name} //nolint:gosec // the test looks itself
		hello := &tls.ClientHelloInfo{ServerName: tt.name}
		if tt.protocol != "" {
			cc.NextProtos = []string{tt.protocol}
			hello.SupportedProtos = cc.NextProtos
		}
		if _, choice, err := tt.s.Choose(hello); choice.Over != tt.over || (err == nil) != (tt.want != "") {
			t.Errorf("%q, %q: got %+v, %v", tt.name, tt.protocol, choice, err)
		}
		state, err := shake(t, tt.s, cc)
		got := ""
		if err == nil {
			got = state.PeerCertificates[0].Subject.CommonName
		}
		if got != tt.want || got != "" && state.NegotiatedProtocol != tt.protocol {
			t.Errorf("%q, %q: got %q, %q (%v), want %q", tt.name, tt.protocol, got, state.NegotiatedProtocol, err, tt.want)
		}
	}
	o.Pairs = []certs.Pair{{Cert: cert, Key: key, ClientCA: clients}}
	strict := open(t, o)
	for name, asks := range map[string]bool{"file.example": true, "unknown.example": true, "other.example": false} {
		if got := strict.Policy(name) != ""; got != asks {
			t.Errorf("%s: its clients are asked for certificates: %v, want %v", name, got, asks)
		}
	}
	if !strict.Has("other.example") || strict.Has("unknown.example") {
		t.Error("Has does not know what Other is for")
	}
}

// TestChallengeProtocols: a handshake is a challenge if it offers the protocol of
// challenges and nothing else (RFC 8737 3): who offers more wants to speak, and is
// under the rules of the host.
func TestChallengeProtocols(t *testing.T) {
	dir := t.TempDir()
	ca, clients := certstest.New(t, "ca"), certstest.New(t, "clients")
	a := ca.Sign(certstest.Request{Subject: "a.example", Names: []string{"a.example"}})
	cert, key := a.Write(t, dir, "a")
	file := filepath.Join(dir, "clients.pem")
	certstest.WriteFile(t, file, clients.Cert)
	answer := ca.Sign(certstest.Request{Subject: "challenge", Names: []string{"a.example"}})
	s := open(t, certs.Options{
		Pairs: []certs.Pair{{Cert: cert, Key: key, ClientCA: file}}, Protocols: []string{"http/1.1"},
		Other:          func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &answer.TLS, nil },
		OtherProtocols: []string{"acme-tls/1"},
	})
	for _, tt := range []struct {
		offers []string
		want   string
		asked  bool
	}{
		{[]string{"acme-tls/1"}, "challenge", false},
		{[]string{"http/1.1", "acme-tls/1"}, "a.example", true},
		{[]string{"acme-tls/1", "http/1.1"}, "a.example", true},
		{[]string{"http/1.1"}, "a.example", true},
	} {
		asked := false
		var shown string
		_, _ = shake(t, s, &tls.Config{ //nolint:gosec // the test looks itself
			InsecureSkipVerify: true, ServerName: "a.example", NextProtos: tt.offers,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked = true
				return new(tls.Certificate), nil
			},
			VerifyConnection: func(state tls.ConnectionState) error {
				shown = state.PeerCertificates[0].Subject.CommonName
				return nil
			},
		})
		if shown != tt.want || asked != tt.asked {
			t.Errorf("%v: was shown %s, asked for a certificate: %v", tt.offers, shown, asked)
		}
	}
}

// TestPolicyBelowWildcard: a route for "*.m.example" takes names of any depth, and a
// certificate for it names of one label. Those that are deeper are shown the default,
// and must not get by the rules that way.
func TestPolicyBelowWildcard(t *testing.T) {
	dir := t.TempDir()
	ca, clients := certstest.New(t, "ca"), certstest.New(t, "clients")
	file := filepath.Join(dir, "clients.pem")
	certstest.WriteFile(t, file, clients.Cert)
	pair := func(name, host, clientCA string) certs.Pair {
		p := ca.Server(host)
		cert, key := p.Write(t, dir, name)
		return certs.Pair{Cert: cert, Key: key, ClientCA: clientCA}
	}
	s := open(t, certs.Options{Pairs: []certs.Pair{
		pair("default", "default.example", ""), pair("m", "*.m.example", file),
		pair("open", "*.open.m.example", ""), pair("free", "*.free.example", ""),
	}})
	for _, tt := range []struct {
		name  string
		asked bool
	}{
		{"a.m.example", true},
		{"a.b.m.example", true},
		{"a.b.c.m.example", true},
		{"a.open.m.example", false},  // has a certificate of its own
		{"a.b.open.m.example", true}, // has none
		{"m.example", false},         // is not below
		{"xm.example", false},
		{"a.xm.example", false},
		{"a.b.free.example", false},
		{"unknown.example", false},
		{"", false},
	} {
		if got := s.Policy(tt.name) != ""; got != tt.asked {
			t.Errorf("%q: a certificate is asked for: %v", tt.name, got)
		}
	}
}

// TestOtherNames: what Other has is asked for nothing, whatever the default asks for.
func TestOtherNames(t *testing.T) {
	dir := t.TempDir()
	ca, clients := certstest.New(t, "ca"), certstest.New(t, "clients")
	file := filepath.Join(dir, "clients.pem")
	certstest.WriteFile(t, file, clients.Cert)
	a, wild, other := ca.Server("a.example"), ca.Server("*.m.example"), ca.Server("other.example")
	cert, key := a.Write(t, dir, "a")
	certM, keyM := wild.Write(t, dir, "m")
	s := open(t, certs.Options{
		Pairs: []certs.Pair{{Cert: cert, Key: key, ClientCA: file}, {Cert: certM, Key: keyM, ClientCA: file}},
		Other: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if h.ServerName == "unknown.example" {
				return nil, nil //nolint:nilnil // as documented
			}
			return &other.TLS, nil
		},
		OtherNames: []string{"Other.example", "a.b.m.example"},
	})
	for _, name := range []string{"other.example", "a.b.m.example", "a.example", "x.m.example", "unknown.example"} {
		_, choice, err := s.Choose(&tls.ClientHelloInfo{ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Policy(name); got != choice.Policy {
			t.Errorf("%s: connections have the rules %q, requests need %q", name, choice.Policy, got)
		}
		if got := s.Has(name); got != (name != "unknown.example") {
			t.Errorf("%s: there is a certificate: %v", name, got)
		}
	}
}
