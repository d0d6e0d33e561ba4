package acme_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"wproxy/core/certs/acme"
	"wproxy/core/certs/acme/acmetest"
)

// TestIssue: each type of challenge gets certificates; keys are for the owner's
// eyes only; the next Manager finds them and asks the CA for nothing.
func TestIssue(t *testing.T) {
	for _, challenge := range []string{acme.HTTP01, acme.TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			f := newFront(t)
			ca := acmetest.Start(t, acmetest.Options{HTTPPort: port(f.http), TLSPort: port(f.tls), Validity: time.Hour})
			o, logs := options(t, f, ca, "a.example.test", "B.example.test.")
			o.Challenges, o.Check = []string{challenge}, time.Second
			m := start(t, o)
			f.use(t, m)
			eventually(t, "certificates", func() bool { return ready(m) })
			for _, host := range []string{"a.example.test", "b.example.test", "B.EXAMPLE.test"} {
				if err := f.leaf(t, host, ca.Issued).VerifyHostname(host); err != nil {
					t.Error(err)
				}
			}
			if _, err := f.dial(t, "c.example.test", ca.Issued); err == nil {
				t.Error("a handshake for a host that nobody configured")
			}
			if n := ca.Orders(); n != 2 {
				t.Errorf("%d orders, want one for each host", n)
			}
			if n := logs.FilterMessage("certificate obtained").Len(); n != 2 || logs.Len() != 2 {
				t.Errorf("the log has %d lines: %v", logs.Len(), logs.All())
			}
			checkModes(t, o.Dir)
			m.Close()
			m.Close() // only the first counts

			again, err := acme.New(o)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range again.Status() { // before Start
				if s.NotAfter.IsZero() || s.Problem != "" {
					t.Errorf("from the storage: %+v", s)
				}
			}
			if err := errors.Join(again.Start(), again.Start()); err != nil { // only the first counts
				t.Error(err)
			}
			again.Close()
			if n := ca.Orders(); n != 2 {
				t.Errorf("%d orders after a restart, want none", n-2)
			}
		})
	}
}

// checkModes checks that nobody else can read or enter what is in dir.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	keys := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		if filepath.Ext(path) == ".key" {
			keys++
		}
		return nil
	})
	if err != nil || keys != 3 { // the account's and each host's
		t.Errorf("%d keys, %v", keys, err)
	}
}

// TestRenew: a certificate is replaced before it expires; a connection that was
// made with the old one goes on.
func TestRenew(t *testing.T) {
	f := newFront(t)
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: port(f.http), TLSPort: port(f.tls), Validity: 9 * time.Second})
	o, logs := options(t, f, ca, "a.example.test")
	m := start(t, o)
	f.use(t, m)
	eventually(t, "a certificate", func() bool { return ready(m) })
	conn, err := f.dial(t, "a.example.test", ca.Issued)
	if err != nil {
		t.Fatal(err)
	}
	old := conn.ConnectionState().PeerCertificates[0]
	echo(t, conn, "before")
	eventually(t, "another certificate", func() bool { // every handshake until then is good
		return f.leaf(t, "a.example.test", ca.Issued).SerialNumber.Cmp(old.SerialNumber) != 0
	})
	if now := time.Now(); now.After(old.NotAfter) || now.Before(old.NotBefore.Add(2*time.Second)) {
		t.Errorf("renewed at %v, the old one was of %v to %v", now, old.NotBefore, old.NotAfter)
	}
	echo(t, conn, "after")
	if logs.FilterMessage("certificate renewed").Len() == 0 || logs.FilterLevelExact(zap.ErrorLevel).Len() > 0 {
		t.Errorf("log: %v", logs.All())
	}
	if n := ca.Orders(); n > 3 {
		t.Errorf("%d orders for two certificates", n)
	}
}

// TestRenewalInformation: the CA can have a certificate renewed long before its
// time, and one whose windows lie in the past is not asked without end.
func TestRenewalInformation(t *testing.T) {
	f := newFront(t)
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: port(f.http), TLSPort: port(f.tls), Validity: 90 * 24 * time.Hour})
	o, logs := options(t, f, ca, "a.example.test")
	m := start(t, o)
	f.use(t, m)
	eventually(t, "a certificate", func() bool { return ready(m) })
	old := f.leaf(t, "a.example.test", ca.Issued)
	ca.RenewAt(t, old, time.Now().Add(-time.Hour), time.Now().Add(-time.Minute))
	m.Close()
	forgetRetryAfter(t, o.Dir) // hours
	m = start(t, o)            // which has obtained nothing itself
	eventually(t, "the renewal that the CA asks for", func() bool { return ca.Orders() == 2 && m.Status()[0].Problem == "" })
	eventually(t, "the new certificate", func() bool { return logs.FilterMessage("certificate renewed").Len() == 1 })
	if n := logs.FilterMessage("the CA has moved the renewal of a certificate").Len(); n != 1 {
		t.Errorf("log: %v", logs.All())
	}
	c, err := m.Certificate(&tls.ClientHelloInfo{ServerName: "a.example.test"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Leaf.SerialNumber.Cmp(old.SerialNumber) == 0 {
		t.Fatal("still the old one")
	}
	ca.RenewAt(t, c.Leaf, time.Now().Add(-time.Hour), time.Now().Add(-time.Minute))
	time.Sleep(500 * time.Millisecond) // ten looks at it
	if n := ca.Orders(); n != 2 {
		t.Errorf("%d orders, want 2", n)
	}
}

// forgetRetryAfter makes renewal information in dir due to be asked for again.
func forgetRetryAfter(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "certificates", "*", "*", "*.json"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if now := strings.Replace(string(b), `"_retryAfter"`, `"_forgotten"`, 1); now == string(b) {
		t.Fatalf("no _retryAfter in %s", b)
	} else if err := os.WriteFile(names[0], []byte(now), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRefused: a host that the CA cannot validate has no certificate, and backs off, while the
// others are served; the log and the handshake say why. When the reason is gone
// it gets its certificate.
func TestRefused(t *testing.T) {
	f := newFront(t)
	f.refuse.Store(true)
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: port(f.http), TLSPort: port(f.tls), Validity: time.Hour})
	o, logs := options(t, f, ca, "bad.example.test")
	o.Challenges, o.Retry = []string{acme.HTTP01}, 200*time.Millisecond
	m := start(t, o)
	f.use(t, m)
	eventually(t, "a second failure", func() bool { return logs.FilterLevelExact(zap.ErrorLevel).Len() >= 2 })
	lines := logs.FilterMessage("cannot get a certificate: TLS handshakes for its host fail until there is one").All()
	for i, l := range lines {
		fields := l.ContextMap()
		if fields["host"] != "bad.example.test" || fields["tries"] != int64(i+1) ||
			fields["next_try_in"] != 200*time.Millisecond<<i || !strings.Contains(fields["error"].(string), "returned 404") {
			t.Errorf("line %d: %v", i, fields)
		}
	}
	if st := m.Status()[0]; !strings.Contains(st.Problem, "returned 404") || !st.NotAfter.IsZero() {
		t.Errorf("status: %+v", st)
	}
	for range 3 {
		if _, err := f.dial(t, "bad.example.test", ca.Issued); err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("handshake: %v", err)
		}
	}
	told := logs.FilterMessage("a TLS handshake failed for want of a certificate")
	if told.Len() != 1 || !strings.Contains(told.All()[0].ContextMap()["error"].(string), "returned 404") {
		t.Errorf("told of handshakes: %v", told.All())
	}
	_, err := m.Certificate(&tls.ClientHelloInfo{ServerName: "bad.example.test"})
	if !errors.Is(err, acme.ErrNoCertificate) || !strings.Contains(err.Error(), "returned 404") {
		t.Errorf("certificate: %v", err)
	}
	f.refuse.Store(false)
	eventually(t, "a certificate after all", func() bool { return ready(m) && m.Status()[0].Problem == "" })
	f.leaf(t, "bad.example.test", ca.Issued)
}

// TestFallBack: when one type of challenge fails the other is tried.
func TestFallBack(t *testing.T) {
	f := newFront(t)
	f.refuse.Store(true)
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: port(f.http), TLSPort: port(f.tls), Validity: time.Hour})
	o, _ := options(t, f, ca, "a.example.test")
	m := start(t, o)
	f.use(t, m)
	eventually(t, "a certificate", func() bool { return ready(m) })
	f.leaf(t, "a.example.test", ca.Issued)
}

// TestCADown: without a CA what is there serves on, past renewal, and what is not
// there is asked for again when it is back.
func TestCADown(t *testing.T) {
	f := newFront(t)
	ports := acmetest.Options{HTTPPort: port(f.http), TLSPort: port(f.tls), Validity: 6 * time.Second}
	ca := acmetest.Start(t, ports)
	o, logs := options(t, f, ca, "a.example.test")
	m := start(t, o)
	f.use(t, m)
	eventually(t, "a certificate", func() bool { return ready(m) })
	c, err := f.dial(t, "a.example.test", ca.Issued)
	if err != nil {
		t.Fatal(err)
	}
	old := c.ConnectionState().PeerCertificates[0]
	ca.Close()
	failed := logs.FilterMessage("cannot renew a certificate; the old one serves on")
	eventually(t, "failures", func() bool {
		failed = logs.FilterMessage("cannot renew a certificate; the old one serves on")
		return failed.Len() >= 3
	})
	var waits []time.Duration
	for _, l := range failed.All()[:3] {
		waits = append(waits, l.ContextMap()["next_try_in"].(time.Duration))
		if text, _ := l.ContextMap()["error"].(string); !strings.Contains(text, "connection refused") {
			t.Errorf("it does not say why: %s", text)
		}
	}
	if waits[1] != 2*waits[0] || waits[2] != 2*waits[1] {
		t.Errorf("it waits %v", waits)
	}
	unverified, err := (&tls.Dialer{Config: &tls.Config{ServerName: "a.example.test", InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}). //nolint:gosec // it may have expired
																			DialContext(t.Context(), "tcp", f.tls.Addr().String())
	if err != nil {
		t.Fatalf("the old one does not serve on: %v", err)
	}
	defer unverified.Close()
	echo(t, c, "still here")

	// A new one, which knows neither the account nor the certificate.
	ports.Address = strings.TrimSuffix(strings.TrimPrefix(ca.URL, "https://"), "/dir")
	next := acmetest.Start(t, ports)
	eventually(t, "a certificate of the new CA", func() bool {
		c, err := m.Certificate(&tls.ClientHelloInfo{ServerName: "a.example.test"})
		if err != nil {
			return false
		}
		_, err = c.Leaf.Verify(x509.VerifyOptions{Roots: next.Issued, Intermediates: chain(c)})
		return c.Leaf.SerialNumber.Cmp(old.SerialNumber) != 0 && err == nil
	})
}

func chain(c *tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		if x, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(x)
		}
	}
	return pool
}

// TestWrongRoots: a CA that cannot be verified is told nothing.
func TestWrongRoots(t *testing.T) {
	f := newFront(t)
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: port(f.http), TLSPort: port(f.tls), Validity: time.Hour})
	o, logs := options(t, f, ca, "a.example.test")
	o.CARoots = nil // the system's
	m := start(t, o)
	eventually(t, "a failure", func() bool { return m.Status()[0].Problem != "" })
	if p := m.Status()[0].Problem; !strings.Contains(p, "certificate") || ca.Orders() != 0 {
		t.Errorf("problem: %s, %d orders", p, ca.Orders())
	}
	if logs.FilterLevelExact(zap.ErrorLevel).Len() == 0 {
		t.Error("the log says nothing")
	}
}

// TestTornStorage: half a pair of key and certificate, as a crash may leave it, and
// files that somebody has spoilt are not served, and replaced.
func TestTornStorage(t *testing.T) {
	f := newFront(t)
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: port(f.http), TLSPort: port(f.tls), Validity: time.Hour})
	o, logs := options(t, f, ca, "a.example.test", "b.example.test", "c.example.test", "d.example.test")
	m := start(t, o)
	f.use(t, m)
	eventually(t, "certificates", func() bool { return ready(m) })
	m.Close()
	file := func(host, ext string) string {
		names, err := filepath.Glob(filepath.Join(o.Dir, "certificates", "*", host, host+ext))
		if err != nil || len(names) != 1 {
			t.Fatal(names, err)
		}
		return names[0]
	}
	other, err := os.ReadFile(file("a.example.test", ".key"))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(file("a.example.test", ".crt"))
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{
		file("b.example.test", ".key"):  other,
		file("c.example.test", ".json"): []byte("{"),
		file("d.example.test", ".crt"):  foreign,
		file("d.example.test", ".key"):  other, // a good pair, of another host
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m = start(t, o)
	for _, host := range []string{"b.example.test", "c.example.test", "d.example.test"} {
		if c, err := m.Certificate(&tls.ClientHelloInfo{ServerName: host}); c != nil && c.Leaf.VerifyHostname(host) != nil {
			t.Errorf("%s: another's is served: %v", host, err)
		}
	}
	eventually(t, "new certificates", func() bool { return logs.FilterMessage("certificate obtained").Len() == 7 && ready(m) })
	if n := logs.FilterMessage("a stored certificate is replaced").Len(); n != 3 {
		t.Errorf("%d are told of, want 3", n)
	}
}

// TestTwo: two managers with one storage, as two generations or processes have it,
// make one order for a host between them.
func TestTwo(t *testing.T) {
	f := newFront(t)
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: port(f.http), TLSPort: port(f.tls), Validity: time.Hour})
	o, _ := options(t, f, ca, "a.example.test")
	m, other := start(t, o), start(t, o)
	f.use(t, m)
	eventually(t, "certificates", func() bool { return ready(m) && ready(other) })
	if n := ca.Orders(); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

// TestBlackHole: a CA that takes connections and says nothing is nobody else's
// trouble.
func TestBlackHole(t *testing.T) {
	deaf := listen(t)
	stuck := start(t, acme.Options{Hosts: []string{"a.example.test"}, Dir: t.TempDir(), CA: "https://" + deaf.Addr().String() + "/dir"})
	time.Sleep(100 * time.Millisecond) // it has begun
	f := newFront(t)
	ca := acmetest.Start(t, acmetest.Options{HTTPPort: port(f.http), TLSPort: port(f.tls), Validity: time.Hour})
	o, _ := options(t, f, ca, "b.example.test")
	m := start(t, o)
	f.use(t, m)
	begun := time.Now()
	eventually(t, "a certificate", func() bool { return ready(m) })
	m.Close()
	stuck.Close()
	if took := time.Since(begun); took > 60*time.Second { // acmez gives the other CA 90
		t.Errorf("took %v", took)
	}
}

// TestClose: an order that is under way does not keep Close.
func TestClose(t *testing.T) {
	deaf := listen(t) // accepts nothing
	m := start(t, acme.Options{Hosts: []string{"a.example.test"}, Dir: t.TempDir(), CA: "https://" + deaf.Addr().String() + "/dir"})
	time.Sleep(50 * time.Millisecond)
	begun := time.Now()
	m.Close()
	if took := time.Since(begun); took > 20*time.Second { // as above
		t.Errorf("took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for goroutines() != "" && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if left := goroutines(); left != "" {
		t.Errorf("goroutines are left:\n%s", left)
	}
}

// TestNames: the Manager answers for its own hosts, and only for them.
func TestNames(t *testing.T) {
	deaf := listen(t)
	m := start(t, acme.Options{Hosts: []string{"a.example.test"}, Dir: t.TempDir(), CA: "https://" + deaf.Addr().String() + "/dir"})
	for _, tt := range []struct {
		name   string
		protos []string
		want   error
	}{
		{"a.example.test", nil, acme.ErrNoCertificate},
		{"A.example.TEST.", []string{"h2", "http/1.1"}, acme.ErrNoCertificate},
		{"a.example.test", []string{acme.ALPN}, acme.ErrNoChallenge},
		{"a.example.test", []string{"h2", acme.ALPN}, acme.ErrNoCertificate}, // no challenge: RFC 8737 3
		{"b.example.test", nil, nil},
		{"b.example.test", []string{acme.ALPN}, nil},
		{"", nil, nil},
	} {
		c, err := m.Certificate(&tls.ClientHelloInfo{ServerName: tt.name, SupportedProtos: tt.protos})
		if c != nil || !errors.Is(err, tt.want) {
			t.Errorf("%q %q: %v, %v, want %v", tt.name, tt.protos, c, err, tt.want)
		}
	}
	if body, ok := m.HTTPChallenge("a.example.test:80", acme.HTTPPrefix+"token"); ok {
		t.Errorf("a challenge that nobody made: %q", body)
	}
}

func TestBadOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := acme.Options{Hosts: []string{"a.example.test"}, Dir: t.TempDir()}
	for _, tt := range []struct {
		name string
		edit func(*acme.Options)
		want string
	}{
		{"no host", func(o *acme.Options) { o.Hosts = nil }, "needs 1 to"},
		{"wildcard", func(o *acme.Options) { o.Hosts = []string{"*.example.test"} }, `"*.example.test" is not the exact name`},
		{"address", func(o *acme.Options) { o.Hosts = []string{"192.0.2.1"} }, `"192.0.2.1" is not the exact name`},
		{"a missing directory", func(o *acme.Options) { o.Dir = file + "/x/y" }, "not a directory"},
		{"no directory", func(o *acme.Options) { o.Dir = "" }, "no directory"},
		{"a file", func(o *acme.Options) { o.Dir = file }, "not a directory"},
		{"clear text", func(o *acme.Options) { o.CA = "http://127.0.0.1/dir" }, "is not an https URL"},
		{"roots", func(o *acme.Options) { o.CARoots = []byte("x") }, "no certificate in PEM"},
		{"challenge", func(o *acme.Options) { o.Challenges = []string{"dns-01"} }, `no challenge "dns-01"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := good
			tt.edit(&o)
			m, err := acme.New(o)
			if err == nil {
				err = m.Start()
				m.Close()
			}
			if err == nil {
				t.Fatal("taken")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
