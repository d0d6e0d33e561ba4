package main

import (
	"bytes"
	"testing"

	"wproxy/plugins/manifest/manifesttest"
)

// TestSchemaKeys: what README.md documents is what the schema has.
func TestSchemaKeys(t *testing.T) { manifesttest.Documented(t) }

// pluginOnly are parts of the refusals that a schema cannot express.
var pluginOnly = []string{"is the same setting as", "needs max-age", "is there twice"}

// TestSchemaRefuses: what the plugin refuses, the schema refuses, where it can tell.
func TestSchemaRefuses(t *testing.T) {
	all := make([]manifesttest.Refusal, 0, len(refused))
	for _, tc := range refused {
		all = append(all, manifesttest.Refusal{Settings: tc.settings, Says: tc.want})
	}
	manifesttest.Refuses(t, all, pluginOnly)
}

// FuzzSchemaAgrees: the schema takes whatever the plugin takes. (TOML has no null.)
func FuzzSchemaAgrees(f *testing.F) {
	for _, doc := range []string{
		`{"types":{"text/html":{"content-security-policy":"a","x-frame-options":false},"image/*":{}}}`,
		``, `{"preset":"strict","mode":"add-if-missing"}`,
		`{"hsts":{"max-age":"2y","include-subdomains":true,"preload":true},"remove":["server","X-Powered-By"]}`,
		`{"hsts":"1y6d","remove":"server"}`, `{"strict-transport-security":false}`, `{"strict-transport-security":{}}`, `{"hsts":"off"}`,
		`{"referrer-policy":" no-referrer ,Origin","x-frame-options":"deny","x-xss-protection":"1; Mode=block"}`,
		`{"cross-origin-opener-policy":"same-origin; report-to=\"a\"","cross-origin-embedder-policy":"require-corp;x","cross-origin-resource-policy":"same-site"}`,
		`{"content-security-policy":"script-src 'nonce-{nonce}'","content-security-policy-report-only":"off","permissions-policy":false,"x-content-type-options":"nosniff"}`,
	} {
		if _, err := parseConfig([]byte(doc)); err != nil {
			f.Errorf("%s: %v", doc, err)
		}
		f.Add([]byte(doc))
	}
	for _, tc := range refused {
		f.Add([]byte(tc.settings))
	}
	s := manifesttest.Schema(f)
	f.Fuzz(func(t *testing.T, doc []byte) {
		if _, err := parseConfig(doc); err != nil || bytes.Contains(doc, []byte("null")) {
			return
		}
		if problems := s.Check(doc); len(problems) > 0 {
			t.Errorf("%s: the plugin takes it; the schema says %v", doc, problems)
		}
	})
}
