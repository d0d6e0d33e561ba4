package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/plugins/guestbuild"
)

// build compiles the plugin once for all tests.
var build = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "securityheaders-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "plugin.wasm")
	if _, err := guestbuild.Build(context.Background(), guestbuild.Options{Out: out, Stderr: os.Stderr}); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

func guest(t *testing.T) []byte {
	t.Helper()
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// values returns the values of a field.
func values(r plugintest.Response, name string) []string {
	var v []string
	for _, p := range r.Fields {
		if p.Name == name {
			v = append(v, p.Value)
		}
	}
	return v
}

// hosts are a host that does by itself all that there is to do, one that has the guest called, and one
// without any extension: the names of those that they do not have.
func hosts() map[string][]string {
	return map[string][]string{
		"standing": nil,
		"called":   {abi.ForeignStandingEdits, abi.ForeignStandingList},
		"plain":    {abi.ForeignStandingEdits, abi.ForeignStandingList, abi.ForeignEditFields, abi.ForeignReadValues, abi.ForeignSkipCallbacks},
	}
}

// everyWay runs a test with each of the hosts.
func everyWay(t *testing.T, config string, f func(t *testing.T, p *plugintest.Plugin)) {
	t.Helper()
	for name, without := range hosts() {
		t.Run(name, func(t *testing.T) {
			called := without != nil
			o := plugintest.Options{Config: config, Without: without}
			plugintest.Run(t, guest(t), o, func(t *testing.T, p *plugintest.Plugin) {
				f(t, p)
				if made := p.Stats().Work[host.CallResponseHeaders].Calls > 0; made != called {
					t.Errorf("the guest was called: %t, want %t", made, called)
				}
			})
		})
	}
}

func TestWasmHeaders(t *testing.T) {
	everyWay(t, `{"preset":"strict","remove":["server"]}`, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Do(plugintest.Request{Scheme: "https"}, plugintest.Response{
			Fields: plugintest.Fields("server", "x", "x-frame-options", "SAMEORIGIN", "set-cookie", "a=1", "set-cookie", "b=2"),
			Body:   []byte("hello"),
		})
		c := s.Client()
		for name, want := range preset("strict") {
			if got := values(c, name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		if got := values(c, "server"); got != nil {
			t.Errorf("server: got %q, want none", got)
		}
		if got := values(c, "set-cookie"); len(got) != 2 {
			t.Errorf("set-cookie: got %q, want both", got)
		}
		if string(c.Body) != "hello" {
			t.Errorf("body: got %q", c.Body)
		}

		s = p.Do(plugintest.Request{Scheme: "http"}, plugintest.Response{})
		if got := values(s.Client(), hsts); got != nil {
			t.Errorf("%s without TLS: got %q, want none", hsts, got)
		}
		if got := values(s.Client(), contentTypeOptions); len(got) != 1 {
			t.Errorf("%s without TLS: got %q, want one", contentTypeOptions, got)
		}
	})
}

func TestWasmAddIfMissing(t *testing.T) {
	everyWay(t, `{"mode":"add-if-missing"}`, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Do(plugintest.Request{}, plugintest.Response{Fields: plugintest.Fields("x-frame-options", "DENY")})
		if got := values(s.Client(), frameOptions); len(got) != 1 || got[0] != "DENY" {
			t.Errorf("%s: got %q, want the upstream's", frameOptions, got)
		}
		if got := values(s.Client(), contentTypeOptions); len(got) != 1 {
			t.Errorf("%s: got %q, want one", contentTypeOptions, got)
		}
	})
}

func TestWasmNonce(t *testing.T) {
	everyWay(t, `{"preset":"off","content-security-policy":"script-src 'nonce-{nonce}'"}`, func(t *testing.T, p *plugintest.Plugin) {
		seen := map[string]bool{}
		for range 3 {
			s := p.Do(plugintest.Request{Fields: plugintest.Fields("x-csp-nonce", "evil")}, plugintest.Response{})
			var up []string
			for _, f := range s.Upstream().Fields {
				if f.Name == nonceHeader {
					up = append(up, f.Value)
				}
			}
			if len(up) != 1 || !regexp.MustCompile(`^[A-Za-z0-9+/]{22}$`).MatchString(up[0]) {
				t.Fatalf("%s at the upstream: got %q, want one nonce", nonceHeader, up)
			}
			if got, want := values(s.Client(), csp), "script-src 'nonce-"+up[0]+"'"; len(got) != 1 || got[0] != want {
				t.Errorf("%s: got %q, want %q", csp, got, want)
			}
			if seen[up[0]] {
				t.Errorf("nonce %s came twice", up[0])
			}
			seen[up[0]] = true
		}
	})
}

// TestWasmRefusesSettings: the message of the plugin reaches whoever loads it.
func TestWasmRefusesSettings(t *testing.T) {
	err := plugintest.Start(t, guest(t), plugintest.Options{Config: `{"preset":"stict"}`})
	var start *host.StartError
	if !errors.As(err, &start) || !strings.Contains(err.Error(), `setting "preset": "stict" is not one of`) {
		t.Errorf("got %v, want a StartError with the plugin's message", err)
	}
}
