package main

import (
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/plugins/internal/settings"
)

// fakeResponse is a response whose fields are "name: value" lines.
type fakeResponse struct{ lines []string }

func (r *fakeResponse) index(name string) int {
	return slices.IndexFunc(r.lines, func(l string) bool { return strings.HasPrefix(l, name+": ") })
}

func (r *fakeResponse) Has(name string) bool { return r.index(name) >= 0 }

func (r *fakeResponse) Set(name, value string) {
	r.Remove(name)
	r.lines = append(r.lines, name+": "+value)
}

func (r *fakeResponse) Remove(name string) {
	for i := r.index(name); i >= 0; i = r.index(name) {
		r.lines = slices.Delete(r.lines, i, i+1)
	}
}

const (
	strictCSP = "content-security-policy: default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
	nosniff   = "x-content-type-options: nosniff"
)

func TestApply(t *testing.T) {
	for _, tc := range []struct {
		name     string
		settings string
		plain    bool // not over TLS
		response []string
		want     []string
	}{
		{
			name: "basic is the default", settings: ``,
			want: []string{
				"strict-transport-security: max-age=15552000", nosniff, "x-frame-options: SAMEORIGIN",
				"referrer-policy: strict-origin-when-cross-origin", "x-xss-protection: 1; mode=block",
			},
		},
		{
			name: "strict", settings: `{"preset":"strict"}`,
			want: []string{
				"strict-transport-security: max-age=31536000; includeSubDomains", strictCSP, nosniff,
				"x-frame-options: DENY", "referrer-policy: no-referrer",
				"permissions-policy: camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
				"cross-origin-opener-policy: same-origin", "cross-origin-embedder-policy: require-corp",
				"cross-origin-resource-policy: same-origin",
			},
		},
		{
			name: "api", settings: `{"preset":"api"}`,
			want: []string{
				"strict-transport-security: max-age=31536000; includeSubDomains",
				"content-security-policy: default-src 'none'; frame-ancestors 'none'", nosniff,
				"x-frame-options: DENY", "referrer-policy: no-referrer", "cross-origin-resource-policy: same-origin",
			},
		},
		{name: "off", settings: `{"preset":"off"}`, response: []string{"server: x"}, want: []string{"server: x"}},
		{
			name: "no HSTS without TLS", settings: `{"preset":"off","hsts":"1y","x-content-type-options":"nosniff"}`, plain: true,
			want: []string{nosniff},
		},
		{
			name: "set replaces what the upstream sent", settings: `{"preset":"off","x-frame-options":"DENY"}`,
			response: []string{"x-frame-options: SAMEORIGIN", "x-frame-options: other", "a: b"},
			want:     []string{"a: b", "x-frame-options: DENY"},
		},
		{
			name:     "add-if-missing leaves it",
			settings: `{"preset":"off","mode":"add-if-missing","x-frame-options":"DENY","x-content-type-options":"nosniff"}`,
			response: []string{"x-frame-options: SAMEORIGIN"},
			want:     []string{"x-frame-options: SAMEORIGIN", nosniff},
		},
		{
			name: "a header off", settings: `{"preset":"basic","hsts":false,"x-xss-protection":"off","referrer-policy":false}`,
			want: []string{nosniff, "x-frame-options: SAMEORIGIN"},
		},
		{
			name: "remove", settings: `{"preset":"off","remove":["Server","x-powered-by"]}`,
			response: []string{"server: x", "x-powered-by: y", "x-powered-by: z", "a: b"},
			want:     []string{"a: b"},
		},
		{
			name: "remove, and set the same", settings: `{"preset":"off","mode":"add-if-missing","remove":"x-frame-options","x-frame-options":"DENY"}`,
			response: []string{"x-frame-options: SAMEORIGIN"},
			want:     []string{"x-frame-options: DENY"},
		},
		{
			name:     "nonce, more than once and in both policies",
			settings: `{"preset":"off","content-security-policy":"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'","content-security-policy-report-only":"default-src 'nonce-{nonce}'"}`,
			want: []string{
				"content-security-policy: script-src 'nonce-N0NCE'; style-src 'nonce-N0NCE'",
				"content-security-policy-report-only: default-src 'nonce-N0NCE'",
			},
		},
		{
			name: "HSTS in full", settings: `{"preset":"off","strict-transport-security":{"max-age":"2y","include-subdomains":true,"preload":true}}`,
			want: []string{"strict-transport-security: max-age=63072000; includeSubDomains; preload"},
		},
		{
			name: "HSTS age over a preset keeps its subdomains", settings: `{"preset":"api","hsts":"30d","content-security-policy":false,"x-frame-options":false,"referrer-policy":false,"cross-origin-resource-policy":false}`,
			want: []string{"strict-transport-security: max-age=2592000; includeSubDomains", nosniff},
		},
		{
			name: "every keyword header", settings: `{"preset":"off","referrer-policy":"no-referrer, strict-origin","cross-origin-opener-policy":"same-origin-allow-popups","cross-origin-embedder-policy":"credentialless; report-to=\"x\"","cross-origin-resource-policy":"cross-origin","x-xss-protection":"0","permissions-policy":"camera=(self)"}`,
			want: []string{
				"referrer-policy: no-referrer, strict-origin", "permissions-policy: camera=(self)",
				"cross-origin-opener-policy: same-origin-allow-popups", `cross-origin-embedder-policy: credentialless; report-to="x"`,
				"cross-origin-resource-policy: cross-origin", "x-xss-protection: 0",
			},
		},
	} {
		p, err := parseConfig([]byte(tc.settings))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		r := &fakeResponse{slices.Clone(tc.response)}
		p.apply(r, !tc.plain, "N0NCE")
		if !slices.Equal(r.lines, tc.want) {
			t.Errorf("%s:\n got %q\nwant %q", tc.name, r.lines, tc.want)
		}
		if p.needsNonce {
			continue
		}
		r = &fakeResponse{slices.Clone(tc.response)}
		if r.edit(p.edits(!tc.plain)); !slices.Equal(r.lines, tc.want) {
			t.Errorf("%s, as edits:\n got %q\nwant %q", tc.name, r.lines, tc.want)
		}
	}
}

// edit does what a host does that takes edits.
func (r *fakeResponse) edit(edits []abi.FieldEdit) {
	for _, e := range edits {
		switch e.Op {
		case abi.FieldRemove:
			r.Remove(e.Name)
		case abi.FieldSet:
			r.Set(e.Name, e.Value)
		case abi.FieldAddIfMissing:
			if !r.Has(e.Name) {
				r.Set(e.Name, e.Value)
			}
		default:
			panic(e.Op)
		}
	}
}

func TestNeeds(t *testing.T) {
	for _, tc := range []struct {
		settings   string
		nonce, tls bool
	}{
		{`{"preset":"off"}`, false, false},
		{`{"preset":"off","hsts":"1y"}`, false, true},
		{`{"preset":"off","content-security-policy":"script-src 'nonce-{nonce}'"}`, true, false},
		{`{"preset":"off","content-security-policy-report-only":"script-src 'nonce-{nonce}'"}`, true, false},
		{`{"preset":"strict"}`, false, true},
	} {
		p, err := parseConfig([]byte(tc.settings))
		if err != nil {
			t.Fatal(err)
		}
		if p.needsNonce != tc.nonce || p.needsTLS != tc.tls {
			t.Errorf("%s: got nonce %t, TLS %t, want %t, %t", tc.settings, p.needsNonce, p.needsTLS, tc.nonce, tc.tls)
		}
	}
}

func TestNonceText(t *testing.T) {
	// CSP level 3: base64-value is characters of either alphabet, then padding.
	b := [nonceSize]byte{0xff, 0xef}
	if got, want := nonceText(b), "/+8AAAAAAAAAAAAAAAAAAA"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// refused are settings that the plugin does not take, with a part of what it says.
var refused = []struct{ settings, want string }{
	{`{"preset":"stict"}`, `setting "preset": "stict" is not one of strict, basic, api, off (did you mean "strict"?)`},
	{`{"hst":"1y"}`, `setting "hst": unknown (did you mean "hsts"?)`},
	{`{"hsts":"1y","strict-transport-security":"2y"}`, `setting "hsts": is the same setting as "strict-transport-security"; give one of them`},
	{`{"hsts":"one year"}`, `setting "hsts": "one year" is not a length of time`},
	{`{"hsts":"max-age=31536000"}`, `is not a length of time such as "1y" or "180d"; directives go in a table`},
	{`{"strict-transport-security":true}`, `setting "strict-transport-security": must be a length of time, a table, or false`},
	{`{"hsts":{"max-age":"x"}}`, `setting "hsts.max-age": "x" is not a length of time`},
	{`{"hsts":{"max_age":"1y"}}`, `setting "hsts.max_age": unknown (did you mean "max-age"?)`},
	{`{"hsts":{"preload":true}}`, `setting "hsts.preload": needs max-age of at least 1y and include-subdomains = true`},
	{`{"hsts":{"max-age":"30d","preload":true,"include-subdomains":true}}`, `setting "hsts.preload": needs max-age`},
	{`{"x-frame-options":"ALLOWALL"}`, `setting "x-frame-options": "ALLOWALL" is not one of DENY, SAMEORIGIN`},
	{`{"x-frame-options":true}`, `setting "x-frame-options": must be a string, or false to leave the header out`},
	{`{"x-content-type-options":""}`, `setting "x-content-type-options": must not be empty`},
	{`{"referrer-policy":"no-referrer, never"}`, `setting "referrer-policy": "never" is not one of`},
	{`{"cross-origin-opener-policy":"same-site"}`, `setting "cross-origin-opener-policy": "same-site" is not one of`},
	{`{"cross-origin-embedder-policy":"same-origin"}`, `setting "cross-origin-embedder-policy": "same-origin" is not one of`},
	{`{"cross-origin-resource-policy":"none"}`, `setting "cross-origin-resource-policy": "none" is not one of`},
	{`{"x-xss-protection":"2"}`, `setting "x-xss-protection": "2" is not one of`},
	{`{"content-security-policy":"default-src 'self'\r\nset-cookie: a=b"}`, `setting "content-security-policy": has a byte that is not printable ASCII`},
	{`{"permissions-policy":"camera=(é)"}`, `setting "permissions-policy": has a byte that is not printable ASCII`},
	{`{"remove":["content-length"]}`, `setting "remove": "content-length" says how the message is framed`},
	{`{"remove":["Transfer-Encoding"]}`, `setting "remove": "transfer-encoding" says how the message is framed`},
	{`{"remove":[":status"]}`, `setting "remove": ":status" is not the name of a header`},
	{`{"remove":[""]}`, `setting "remove": "" is not the name of a header`},
	{`{"remove":[1]}`, `setting "remove": must be a string or a list of strings`},
	{`{"types":{"html":{}}}`, `setting "types.html": is not a media type`},
	{`{"types":{"*/*":{}}}`, `setting "types.*/*": is not a media type`},
	{`{"types":{"*a/b":{}}}`, `setting "types.*a/b": is not a media type`},
	{`{"types":{"text/html":true}}`, `setting "types.text/html": must be a table`},
	{`{"types":{"text/html":{},"Text/HTML":{}}}`, `setting "types.Text/HTML": is there twice`},
	{`{"types":{"text/html":{"hsts":"1y"}}}`, `setting "types.text/html.hsts": unknown`},
	{`{"types":{"text/html":{"x-frame-options":"maybe"}}}`, `setting "types.text/html.x-frame-options": "maybe" is not one of`},
	{`{"mode":"append"}`, `setting "mode": "append" is not one of set, add-if-missing`},
	{`"strict"`, `settings must be a table, not a string`},
	{`{`, `settings are not valid JSON`},
}

func TestParseConfigRefuses(t *testing.T) {
	for _, tc := range refused {
		_, err := parseConfig([]byte(tc.settings))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s:\n got %v\nwant %s", tc.settings, err, tc.want)
		}
	}
}

// FuzzParseConfig: settings that are taken never make a field that could break a message.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"preset":"strict","hsts":{"max-age":"2y"},"content-security-policy":"script-src 'nonce-{nonce}'","remove":["server"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseConfig(data)
		if err != nil {
			return
		}
		r := &fakeResponse{}
		p.apply(r, true, "nonce")
		for _, l := range r.lines {
			if strings.ContainsAny(l, "\r\n\x00") {
				t.Errorf("%s makes %q", data, l)
			}
		}
		for _, name := range p.remove {
			if !settings.IsToken(name) {
				t.Errorf("%s removes %q", data, name)
			}
		}
	})
}
