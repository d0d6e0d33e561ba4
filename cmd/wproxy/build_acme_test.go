package main

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"wproxy/core/certs/acme"
	"wproxy/core/config"
)

// TestACMEAcrossGenerations: the same settings keep the manager, for another
// listener too; other settings have another.
func TestACMEAcrossGenerations(t *testing.T) {
	a := &app{log: zap.NewNop()}
	var undo cleanup
	defer undo.run()
	if err := a.makeParts(&undo); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	roots := filepath.Join(dir, "roots.pem")
	writeRoots(t, roots)
	const base = `
[routes.all]
respond = { body = "ok" }
[listeners.a]
address = ":8443"
tls.acme = { hosts = ["a.example.test"], storage = "./acme", email = "ops@example.test", ca_roots = "roots.pem" }
[listeners.b]
address = ":9443"
tls.acme = { hosts = ["A.example.test."], storage = "./acme", email = "ops@example.test", ca_roots = "roots.pem" }
`
	build := func(text string) *generation {
		t.Helper()
		f, err := config.Parse(filepath.Join(dir, "wproxy.toml"), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		g, err := a.parts.build(t.Context(), f, false)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	first := build(base)
	was := first.acme["a"]
	if was == nil || first.acme["b"] != was {
		t.Errorf("listeners with equal tables have %p and %p", was, first.acme["b"])
	}
	for _, tt := range []struct {
		name, old, new string
		same           bool
	}{
		{"nothing", "", "", true},
		{"address", ":8443", ":8444", true},
		{"route", `"ok"`, `"OK"`, true},
		{"email", "ops@", "op@", false},
		{"host", `["a.example.test"]`, `["a.example.test", "b.example.test"]`, false},
		{"challenges", `email`, `challenges = ["http-01"], email`, false},
	} {
		g := build(strings.Replace(base, tt.old, tt.new, 1))
		if got := g.acme["a"]; (got == was) != tt.same {
			t.Errorf("%s: the same manager is %v, want %v", tt.name, got == was, tt.same)
		}
		g.Release()
	}
	writeRoots(t, roots)
	g := build(base)
	if g.acme["a"] == was {
		t.Error("other roots in the same file, and the same manager")
	}
	g.Release()
	first.Release()
	a.parts.acme.each(func(acmeKey, *acme.Manager) { t.Error("a manager is held by nobody") })
}

// writeRoots writes a certificate, with other words in front each time.
func writeRoots(t *testing.T, path string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(path, append([]byte("of "+s.URL+"\n"), block...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestACMEProblems: what only the builder can find out has its place.
func TestACMEProblems(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ settings, want string }{
		{`storage = "./acme", ca_roots = "missing.pem"`, `tls.acme.ca_roots: open ` + dir + `/missing.pem: no such file`},
		{`storage = "./acme", ca_roots = "file"`, `tls.acme.ca_roots: ` + dir + `/file: acme: no certificate in PEM`},
		{`storage = "./file"`, `tls.acme.storage: acme: storage: mkdir ` + dir + `/file: not a directory`},
	} {
		a := &app{log: zap.NewNop()}
		var undo cleanup
		if err := a.makeParts(&undo); err != nil {
			t.Fatal(err)
		}
		text := "[routes.all]\nrespond = {}\n[listeners.a]\naddress = \":1\"\ntls.acme = { hosts = [\"a.example.test\"], " + tt.settings + " }\n"
		f, err := config.Parse(filepath.Join(dir, "wproxy.toml"), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		g, err := a.parts.build(t.Context(), f, false)
		if err == nil {
			err = g.Complete(t.Context())
			g.Release()
		}
		ps, ok := asType[config.Problems](err)
		if !ok || len(ps) != 1 || !strings.Contains(ps[0].Text, tt.want) || ps[0].Pos.Line != 5 {
			t.Errorf("%s: got %v, want %s", tt.settings, err, tt.want)
		}
		undo.run()
	}
	if _, err := os.Stat(filepath.Join(dir, "acme")); err == nil {
		t.Error("a configuration that is refused has made a directory")
	}
}

func TestACMEWarnings(t *testing.T) {
	for _, tt := range []struct {
		name, http, tls, challenges string
		warns                       bool
	}{
		{"both", ":80", ":443", `"http-01", "tls-alpn-01"`, false},
		{"http", "0.0.0.0:80", ":8443", `"http-01", "tls-alpn-01"`, false},
		{"tls", ":8080", ":443", `"http-01", "tls-alpn-01"`, false},
		{"none", ":8080", ":8443", `"http-01", "tls-alpn-01"`, true},
		{"the other", ":8080", ":443", `"http-01"`, true},
		{"the other one", ":80", ":8443", `"tls-alpn-01"`, true},
		{"not in clear text", "unix:/run/x.sock", ":80", `"http-01"`, true},
	} {
		text := "[routes.all]\nrespond = {}\n[listeners.http]\naddress = \"" + tt.http + "\"\n[listeners.tls]\naddress = \"" + tt.tls +
			"\"\ntls.acme = { hosts = [\"a.example.test\"], storage = \"./acme\", challenges = [" + tt.challenges + "] }\n"
		f, err := config.Parse("wproxy.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if w := acmeWarnings(f); (len(w) == 1) != tt.warns {
			t.Errorf("%s: %v", tt.name, w)
		}
	}
}
