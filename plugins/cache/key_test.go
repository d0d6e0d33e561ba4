package main

import (
	"math/rand/v2"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/objectkey"
	"wproxy/host/plugintest"
)

// keySettings have all kinds of parts of a key.
var keySettings = []string{
	`{"key":["header:X"]}`,
	`{"key":["cookie:Sid"]}`,
	`{"key":["header:accept-language"]}`,
	`{"key":["header:Cookie","cookie:a","cookie:b","header:accept-encoding","header:x"]}`,
}

// A keyHead is the head of a request as the host reads it.
type keyHead []abi.Pair

func (h keyHead) Len() int                        { return len(h) }
func (h keyHead) Line(i int) (name, value string) { return h[i].Name, h[i].Value }

// sameKey fails if the host makes another key of a request than the plugin, or none though it could.
func sameKey(t *testing.T, settings string, fields []abi.Pair) (n int) {
	t.Helper()
	c, err := parseConfig([]byte(settings))
	if err != nil {
		t.Fatal(err)
	}
	said, ok := c.standing()
	var o abi.ObjectStanding
	if !ok || o.Parse(string(said.Append(nil))) != nil {
		t.Fatalf("%s: there is no order", settings)
	}
	parts, ok := objectkey.New(o.Key, host.IsToken)
	if !ok || len(parts) != len(c.key) {
		t.Fatalf("%s: %q makes no key", settings, o.Key)
	}
	h := head{pairs: append([]abi.Pair{{Name: ":path", Value: "/"}}, fields...)}
	h.noteNames()
	want := string(c.appendKey(nil, "http://h/", "route", &h))
	got, ok := parts.Append([]byte("http://h/\nroute"), keyHead(fields), 4096)
	n = len(want)
	for i := range fields {
		n += len(fields[i].Value) // with white space
	}
	if !ok && n <= 4096 || ok && string(got) != want {
		t.Fatalf("%s: %+v: got %q, %t, want %q", settings, fields, got, ok, want)
	}
	x := &exchange{}
	if x.unkey(want); x.url != "http://h/" || x.route != "route" {
		t.Errorf("%q is of %q and %q", want, x.url, x.route)
	}
	return strings.Count(want, ":") - 1 - len(c.key) // that of the URL, and those of the kinds
}

// TestKey: what the host makes of a request is to the byte what the plugin makes.
func TestKey(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // the same each time
	names := []string{"x", "cookie", "cookie", "accept-language", "accept-encoding", "x-y"}
	values := []string{
		"a", "B", "de", "EN", "*", ";q=0.5", "; q=1", ",", ",", ", ", "\t", " ", ";", "; ", "Sid=", "sid=1", "a=", "b=2; a", "=", "\"", "\xc3\x84",
		strings.Repeat("z,", 20), strings.Repeat("y", 300),
	}
	there := 0
	for range 20_000 {
		var fields []abi.Pair
		for range r.IntN(6) {
			var b strings.Builder
			for range r.IntN(9) {
				b.WriteString(values[r.IntN(len(values))])
			}
			fields = append(fields, abi.Pair{Name: names[r.IntN(len(names))], Value: b.String()})
		}
		there += min(sameKey(t, keySettings[r.IntN(len(keySettings))], fields), 1)
	}
	if there < 5_000 || there > 16_000 {
		t.Errorf("%d of 20000 requests have a part of the key", there)
	}
}

func FuzzKey(f *testing.F) {
	f.Add(uint8(0), "x", " a ,\tB", "x", "")
	f.Add(uint8(1), "cookie", "a=1; Sid=2", "cookie", "Sid=3")
	f.Add(uint8(2), "accept-language", "en, DE ; q=1", "accept-language", strings.Repeat("a,", 70))
	f.Add(uint8(3), "cookie", "b;b=c", "accept-encoding", "gzip,br")
	f.Fuzz(func(t *testing.T, settings uint8, name1, value1, name2, value2 string) {
		for _, s := range []string{name1, value1, name2, value2} {
			if strings.ContainsAny(s, "\x00\r\n") { // which no head has
				return
			}
		}
		sameKey(t, keySettings[int(settings)%len(keySettings)], []abi.Pair{{Name: name1, Value: value1}, {Name: name2, Value: value2}})
	})
}

// TestKeyBypass: a header in the key does not make a request go by, one beside it does.
func TestKeyBypass(t *testing.T) {
	c, err := parseConfig([]byte(`{"key":["header:X-Host","cookie:x-http-method"]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"x-host": false, "x-http-method": true, "x-original-url": true, "x": false} {
		h := head{pairs: []abi.Pair{{Name: name, Value: "v"}}}
		if h.noteNames(); c.bypasses(&h) != want {
			t.Errorf("%s goes by: %t", name, !want)
		}
	}
}

// TestKeyChanged: what was stored with other parts in the key, before a reload say, is not taken for what a request asks for.
func TestKeyChanged(t *testing.T) {
	wasm, err := build()
	if err != nil {
		t.Fatal(err)
	}
	o := plugintest.Options{Config: `{"key":"header:a","default_ttl":"60s"}`, Grants: []string{host.GrantObjects}}
	plugintest.Run(t, wasm, o, func(t *testing.T, p *plugintest.Plugin) {
		get := func(p *plugintest.Plugin, name string) (asked bool) {
			s := p.Do(plugintest.Request{Path: "/", Fields: plugintest.Fields(name, "1")}, plugintest.Response{Body: []byte("for " + name)})
			return s.Upstream().Method != ""
		}
		if !get(p, "a") || get(p, "a") {
			t.Error("it is not stored")
		}
		for _, key := range []string{`"key":"header:b",`, `"key":"cookie:a",`, ``} {
			if !get(p.With("test", `{`+key+`"default_ttl":"60s"}`), "b") {
				t.Errorf("by %q what was stored for another header is found", key)
			}
		}
		if get(p, "a") {
			t.Error("it is not stored any more")
		}
	})
}
