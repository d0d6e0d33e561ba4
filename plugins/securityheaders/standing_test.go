package main

import (
	"math/rand/v2"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/plugintest"
)

// nonces is what a nonce looks like in a head.
var nonces = regexp.MustCompile(`(^|nonce-)([A-Za-z0-9+/]{22})($|')`)

// heads returns the fields of a request's and an answer's head as text, with another text for the
// nonce, and all nonces that were there.
func heads(s *plugintest.Stream) (text string, found []string) {
	var b strings.Builder
	write := func(fields []abi.Pair) {
		for _, f := range fields {
			for _, m := range nonces.FindAllStringSubmatch(f.Value, -1) {
				found = append(found, m[2])
			}
			b.WriteString(f.Name + ": " + nonces.ReplaceAllString(f.Value, "${1}NONCE$3") + "\n")
		}
	}
	write(s.Upstream().Fields)
	b.WriteString("--\n" + strconv.Itoa(s.Client().Status) + "\n")
	write(s.Client().Fields)
	return b.String(), found
}

// TestStandingOrder: what a host is told, as it has it.
func TestStandingOrder(t *testing.T) {
	p, err := parseConfig([]byte(`{"preset":"off","hsts":"1y","remove":"server","x-frame-options":"DENY","content-security-policy":"a {nonce}",
		"permissions-policy":"{nonce}","types":{"image/*":{"x-frame-options":false},"image/png":{"content-security-policy":"b","permissions-policy":false}}}`))
	if err != nil {
		t.Fatal(err)
	}
	server := abi.FieldEdit{Op: abi.FieldRemove, Name: "server"}
	tls := []abi.FieldEdit{{Name: hsts, Value: "max-age=31536000"}}
	frame, permissions := abi.FieldEdit{Name: frameOptions, Value: "DENY"}, abi.FieldEdit{Name: permissionsPolicy, Value: "{nonce}"}
	policy := func(v string) abi.FieldEdit { return abi.FieldEdit{Name: csp, Value: v} }
	all, group, png := []string{"image/*", "image/png"}, []string{"image/*"}, []string{"image/png"}
	want := []abi.StandingEdits{
		{Request: true, Mark: "{nonce}", Edits: []abi.FieldEdit{{Name: nonceHeader, Value: "{nonce}"}}},
		{Except: all, Edits: []abi.FieldEdit{server}},
		{Except: all, When: abi.EditsTLS, Edits: tls},
		{Except: all, Mark: "{nonce}", Edits: []abi.FieldEdit{policy("a {nonce}")}},
		{Except: all, Edits: []abi.FieldEdit{frame, permissions}},
		{Types: group, Except: png, Edits: []abi.FieldEdit{server}},
		{Types: group, Except: png, When: abi.EditsTLS, Edits: tls},
		{Types: group, Except: png, Mark: "{nonce}", Edits: []abi.FieldEdit{policy("a {nonce}")}},
		{Types: group, Except: png, Edits: []abi.FieldEdit{permissions}},
		{Types: png, Edits: []abi.FieldEdit{server}},
		{Types: png, When: abi.EditsTLS, Edits: tls},
		{Types: png, Edits: []abi.FieldEdit{policy("b"), frame}},
	}
	got := p.standing()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("from list %d:\n got %+v\nwant %+v", i, got[min(i, len(got)):], want[min(i, len(want)):])
		}
	}
}

// TestStandingSame: the same exchanges have the same heads, line by line, whether the host does it
// by itself, calls the guest, or knows nothing; but for the nonce, which is one in an
// exchange and in no other.
func TestStandingSame(t *testing.T) {
	const nonce = `"content-security-policy":"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'"`
	const types = `"types":{"text/html":{` + nonce + `,"x-frame-options":false},"image/*":{"content-security-policy":false,"permissions-policy":"{nonce}"},"image/svg+xml":{"content-security-policy-report-only":"default-src 'nonce-{nonce}'"}}`
	configs := []string{
		`{"preset":"strict"}`,
		`{"preset":"api","permissions-policy":"{nonce}","remove":"content-security-policy",` + nonce + `}`,
		`{"preset":"strict",` + types + `}`,
		`{"mode":"add-if-missing","preset":"strict","remove":["Server","content-type"],` + types + `}`,
		`{"preset":"off","types":{"text/html":{}}}`,
		`{"preset":"off","remove":["x-csp-nonce"],"hsts":"1y","types":{"text/*":{` + nonce + `}}}`,
	}
	requests := []plugintest.Request{
		{},
		{Scheme: "https", Fields: plugintest.Fields("x-csp-nonce", "evil", "a", "b", "x-csp-nonce", "evil too")},
		{Scheme: "https", Method: "HEAD"},
		{Fields: plugintest.Fields("X-Csp-Nonce", "", "connection", "x-csp-nonce")},
	}
	var answers []plugintest.Response
	for _, contentType := range [][]string{nil, {"text/html"}, {"TEXT/HTML ;charset=utf-8"}, {"image/png"}, {"image/svg+xml"}, {"text/css", "text/html"}, {"text/html", "image/png"}} {
		r := plugintest.Response{Fields: plugintest.Fields("server", "x", "content-security-policy", "theirs", "x-csp-nonce", "?", "content-security-policy", "more", "permissions-policy", "theirs")}
		for _, v := range contentType {
			r.Fields = append(r.Fields, abi.Pair{Name: "content-type", Value: v})
		}
		answers = append(answers, r, plugintest.Response{Status: 304, Fields: r.Fields[len(r.Fields)-len(contentType):]})
	}
	for _, config := range configs {
		got := map[string][]string{}
		seen := map[string]bool{}
		for name, without := range hosts() {
			plugintest.Run(t, guest(t), plugintest.Options{Config: config, Without: without}, func(t *testing.T, p *plugintest.Plugin) {
				for _, req := range requests {
					for _, resp := range answers {
						s := p.Do(req, resp)
						text, found := heads(s)
						got[name] = append(got[name], text)
						for i, n := range found {
							if n != found[0] || i == 0 && seen[n] {
								t.Errorf("%s: nonces %q, seen before: %t", config, found, seen[n])
							}
							seen[n] = true
						}
					}
				}
				work := p.Stats().Work
				if n := work[host.CallRequestHeaders].Calls + work[host.CallResponseHeaders].Calls; (n > 0) != (name != "standing") {
					t.Errorf("%s, %s: the guest was called %d times", config, name, n)
				}
			})
		}
		for name, list := range got {
			for i := range list {
				if list[i] != got["plain"][i] {
					t.Errorf("%s, exchange %d: %s has\n%s\nplain\n%s", config, i, name, list[i], got["plain"][i])
				}
			}
		}
	}
}

// TestStandingChoose: the host chooses by the media type as the plugin does.
func TestStandingChoose(t *testing.T) {
	const config = `{"preset":"off","permissions-policy":"-1","types":{"image/*":{"permissions-policy":"0"},"text/html":{"permissions-policy":"1"},
		"image/png":{"permissions-policy":"2"},"text/*":{"permissions-policy":"3"},"text/html*":{"permissions-policy":"4"},"a*/b":{"permissions-policy":"5"},"image/p*":{"permissions-policy":"6"}}}`
	policy, err := parseConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	pieces := []string{
		"image", "text", "/", "/", "*", "html", "png", "a", "b", ";", ",", " ", "\t", "IMAGE/", "Text/", "HTML", "image/png", "text/html", "text/htmL*", "a*/B",
		"image/p*", "q=\"", "\x00", "\xff", "\u212a", "charset=utf-8", strings.Repeat("x", 70), "\v", "\u00a0",
	}
	rng := rand.New(rand.NewPCG(1, 2))
	plugintest.Run(t, guest(t), plugintest.Options{Config: config}, func(t *testing.T, p *plugintest.Plugin) {
		chosen := map[int]int{}
		for range 4000 {
			var b strings.Builder
			for range rng.IntN(6) {
				b.WriteString(pieces[rng.IntN(len(pieces))])
			}
			contentType := b.String()
			want := policy.choose([]byte(contentType))
			chosen[want]++
			s := p.Do(plugintest.Request{}, plugintest.Response{Fields: plugintest.Fields("content-type", contentType)})
			if got := s.Client().Get(permissionsPolicy); got != strconv.Itoa(want) {
				t.Fatalf("%q: the host chooses %s, the plugin %d", contentType, got, want)
			}
		}
		if len(chosen) != len(policy.types)+1 {
			t.Errorf("not all types came about: %v", chosen)
		}
		if n := p.Stats().Work[host.CallResponseHeaders].Calls; n > 0 {
			t.Errorf("the guest was called %d times", n)
		}
	})
}

// TestStandingTooMany: with more than a host takes, the callbacks do it all.
func TestStandingTooMany(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"preset":"strict","types":{`)
	for i := range abi.MaxStandingEdits {
		b.WriteString(`"a/b` + strconv.Itoa(i) + `":{"content-security-policy":"script-src 'nonce-{nonce}' ` + strconv.Itoa(i) + `"},`)
	}
	b.WriteString(`"a/b":{}}}`)
	plugintest.Run(t, guest(t), plugintest.Options{Config: b.String()}, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Do(plugintest.Request{}, plugintest.Response{Fields: plugintest.Fields("content-type", "a/b17")})
		nonce := s.Upstream().Get(nonceHeader)
		if got, want := s.Client().Get(csp), "script-src 'nonce-"+nonce+"' 17"; got != want || nonce == "" {
			t.Errorf("got %q, want %q", got, want)
		}
		if work := p.Stats().Work; work[host.CallRequestHeaders].Calls != 1 || work[host.CallResponseHeaders].Calls != 1 {
			t.Errorf("work %+v", work)
		}
		if !p.Logged("standing edits were not taken") {
			t.Errorf("logs %v", p.Logs())
		}
	})
}
