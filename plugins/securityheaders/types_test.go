package main

import (
	"strings"
	"testing"

	"wproxy/host/plugintest"
)

func TestChoose(t *testing.T) {
	p, err := parseConfig([]byte(`{"types":{"image/*":{},"image/svg+xml":{},"Text/HTML":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for contentType, want := range map[string]string{
		"": "", "text/html": "text/html", "Text/Html; charset=utf-8": "text/html", " text/html\t;x": "text/html", "text/htmlx": "", "text/plain": "",
		"image/png": "image/*", "IMAGE/PNG": "image/*", "image/svg+xml": "image/svg+xml", "image/svg+xml;a=b": "image/svg+xml",
		"image/": "", "image": "", "imagex/png": "", "text/html, image/png": "text/html", ";": "",
	} {
		got := ""
		if i := p.choose([]byte(contentType)); i >= 0 {
			got = p.types[i].name
		}
		if got != want {
			t.Errorf("%q: %q, want %q", contentType, got, want)
		}
	}
}

// TestWasmTypes: each answer has the headers of its type, and a nonce where its own has one.
func TestWasmTypes(t *testing.T) {
	for _, fast := range []string{"", `"content-security-policy-report-only":"script-src 'nonce-{nonce}'",`} {
		config := `{"preset":"basic","remove":"server",` + fast + `"content-security-policy":"default-src 'none'","types":{
			"text/html":{"content-security-policy":"script-src 'nonce-{nonce}'"},
			"image/*":{"content-security-policy":false,"cross-origin-resource-policy":"cross-origin","x-frame-options":"off"}}}`
		everyWay(t, config, func(t *testing.T, p *plugintest.Plugin) {
			for contentType, want := range map[string][3]string{
				"text/html; charset=utf-8": {"nonce", "", "SAMEORIGIN"},
				"image/png":                {"", "cross-origin", ""},
				"application/json":         {"default-src 'none'", "", "SAMEORIGIN"},
				"":                         {"default-src 'none'", "", "SAMEORIGIN"},
			} {
				resp := plugintest.Response{Fields: plugintest.Fields("server", "x")}
				if contentType != "" {
					resp.Fields = plugintest.Fields("server", "x", "content-type", contentType)
				}
				s := p.Do(plugintest.Request{}, resp)
				c := s.Client()
				policy := c.Get(csp)
				if n := s.Upstream().Get(nonceHeader); want[0] == "nonce" && policy == "script-src 'nonce-"+n+"'" && n != "" {
					policy = "nonce"
				}
				if got := [3]string{policy, c.Get(crossOriginResource), c.Get(frameOptions)}; got != want || c.Get("server") != "" {
					t.Errorf("%q: got %q, want %q", contentType, got, want)
				}
				if fast != "" && contentType != "" && !strings.Contains(c.Get(cspReportOnly), "nonce-") {
					t.Errorf("%q: report-only %q", contentType, c.Get(cspReportOnly))
				}
			}
		})
	}
}

func TestAnyNonce(t *testing.T) {
	const nonce = `{"content-security-policy":"script-src 'nonce-{nonce}'"}`
	for doc, want := range map[string]bool{
		`{}`: false, nonce: true, `{"types":{"text/html":` + nonce + `}}`: true, `{"types":{"text/html":{}}}`: false,
	} {
		p, err := parseConfig([]byte(doc))
		if err != nil || p.anyNonce() != want {
			t.Errorf("%s: %v, want %t", doc, err, want)
		}
	}
}
