package main

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host/gaterule"
	"wproxy/plugins/internal/ipaddr"
)

// A headOf is a request as the plugin reads it, and as a gate does.
type headOf struct {
	client netip.Addr
	lines  map[string]string
}

func (h *headOf) Header(name string) (string, bool) { v, ok := h.lines[name]; return v, ok }
func (h *headOf) Get(name string) (string, bool)    { return h.Header(name) }

func (h *headOf) Client() (ipaddr.Addr, bool) {
	if !h.client.IsValid() {
		return ipaddr.Addr{}, false
	}
	return ipaddr.FromBytes(h.client.AsSlice())
}

// keyConfigs are settings whose gates have all kinds of parts.
var keyConfigs = []string{
	`{"rate":"1/s","key":["header:x-key"]}`,
	`{"rate":"1/s","key":["client-ip/61","cookie:Sid"],"scope":"plugin"}`,
	`{"rate":"1/s","key":["query:k y","global","query:k=y&"]}`,
	`{"rate":"1/s","key":["host","path","method"],"algorithm":"sliding-window"}`,
	`{"rate":"1/s","key":["header:cookie","query:é","client-ip"],"algorithm":"leaky-bucket"}`,
}

// sameKey fails if a gate makes another key than the plugin, or none though it could. It reports whether
// it makes one, and the request lacks no part of it.
func sameKey(t *testing.T, doc, route string, h *headOf) bool {
	t.Helper()
	c, err := parseConfig([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	made, _ := newGate(c, &[outcomes]uint32{})
	g, err := abi.ParseGate(string(abi.AppendGate(nil, made)))
	if err != nil {
		t.Fatal(err)
	}
	r := &gaterule.Request{Route: route, Client: h.client, Head: h}
	got, found := appendKey(t, g.Key, r)
	k := newChecker(c, nil, nil)
	record, _, ok := k.key(h, route)
	want := record[k.head:]
	switch {
	case found == gaterule.TooLong:
		if len(h.lines[":path"]) <= abi.MaxGateSource && len(h.lines["cookie"]) <= abi.MaxGateSource && size(h) <= abi.MaxGateValues/3 {
			t.Fatalf("%s: %+v: not as long", doc, h)
		}
		return false
	case (found == gaterule.Known) != ok:
		t.Fatalf("%s: %+v: got %d, the plugin has a key: %t", doc, h, found, ok)
	case found == gaterule.Missing:
		got, found = appendKey(t, g.Missing, r)
	}
	if found != gaterule.Known || string(got) != string(want) {
		t.Fatalf("%s: %+v: got %q, %d, want %q", doc, h, got, found, want)
	}
	return ok
}

func appendKey(t *testing.T, parts []abi.GatePart, r *gaterule.Request) ([]byte, gaterule.Found) {
	t.Helper()
	k, ok := gaterule.NewKey(parts)
	if !ok || len(parts) == 0 {
		t.Fatalf("%+v: no key", parts)
	}
	return k.Append(nil, r)
}

func size(h *headOf) (n int) {
	for _, v := range h.lines {
		n += len(v)
	}
	return n
}

// TestGateKeys: what the host makes of a request is to the byte what the plugin makes.
func TestGateKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	of := func(tokens ...string) string {
		var b strings.Builder
		for range r.IntN(9) {
			b.WriteString(tokens[r.IntN(len(tokens))])
		}
		return b.String()
	}
	clients := []netip.Addr{
		{},
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.1"),
		netip.MustParseAddr("2001:db8:ffff:ffff:ffff::1"), netip.MustParseAddr("fe80::1%eth0"),
	}
	known := 0
	for range 6_000 {
		h := &headOf{client: clients[r.IntN(len(clients))], lines: map[string]string{
			":path":      "/" + of("a", "?", "k", "k+y=", "k%20y=1", "%6b y=", "&", "=", "k%3dy%26=", "%", "%4", "%zz", "+", "\xc3\xa9=", "%C3%a9=v", strings.Repeat("x", 200)),
			":authority": of("A", "b", ".", ":80", "\xc3\x84"),
			":method":    of("GET", "put", "\xff"),
		}}
		if r.IntN(4) > 0 {
			h.lines["x-key"] = of("v", " ", "\x80", ",", strings.Repeat("y", 400))
		}
		if r.IntN(4) > 0 {
			h.lines["cookie"] = of("Sid=", "sid=", "1", ";", " ", "\t", "=", "; Sid", "\"", strings.Repeat("z", 900))
		}
		doc := keyConfigs[r.IntN(len(keyConfigs))]
		if sameKey(t, doc, of("r", "oute"), h) {
			known++
		}
	}
	if known < 1000 || known > 5000 {
		t.Errorf("%d of 6000 have a key", known)
	}
}

func FuzzGateKeys(f *testing.F) {
	f.Add(uint8(0), "route", "", "value", "a=b; Sid=c", "/p?k+y=1&k%3Dy%26=2", "EXAMPLE.com:80", "GET")
	f.Add(uint8(1), "", "\xc0\x00\x02\x01", "", "Sid=;Sid=2", "*", "", "")
	f.Add(uint8(2), "r", "\x20\x01\x0d\xb8            ", "v", "", "/?%C3%A9=%zz%4", "h", "M")
	f.Fuzz(func(t *testing.T, config uint8, route, client, field, cookie, path, authority, method string) {
		addr, _ := netip.AddrFromSlice([]byte(client))
		h := &headOf{addr, map[string]string{
			"x-key": field, "cookie": cookie, ":path": path, ":authority": authority, ":method": method,
		}}
		sameKey(t, keyConfigs[int(config)%len(keyConfigs)], route, h)
	})
}

// TestGateExempt: whom the host exempts the plugin exempts.
func TestGateExempt(t *testing.T) {
	c, err := parseConfig([]byte(`{"rate":"1/s","exempt":{
		"clients":["10.0.0.0/8","192.0.2.128/25","::ffff:198.51.100.7","2001:db8::/33","2001:db8:ffff::1","fe80::/10","::/128"],
		"headers":{"x-any":true,"X-One":"a","x-many":["b","","c d"],"host":"h"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	made, _ := newGate(c, &[outcomes]uint32{})
	g, err := abi.ParseGate(string(abi.AppendGate(nil, made)))
	if err != nil {
		t.Fatal(err)
	}
	e, ok := gaterule.NewExempt(g.Exempt)
	if !ok {
		t.Fatal("no exemptions")
	}
	r := rand.New(rand.NewPCG(5, 6))
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	exempt := 0
	for range 20_000 {
		h := &headOf{lines: map[string]string{}}
		if r.IntN(5) > 0 {
			h.client = netip.MustParseAddr(pick("10.255.0.1", "11.0.0.1", "192.0.2.127", "192.0.2.128", "198.51.100.7", "198.51.100.6",
				"::ffff:10.0.0.1", "2001:db8:7fff::", "2001:db8:8000::", "2001:db8:ffff::1", "2001:db8:ffff::2", "febf::1%eth0", "fec0::", "::", "::1", "0.0.0.0"))
		}
		for name, values := range map[string][]string{"x-any": {"", "x"}, "x-one": {"a", "A", ""}, "x-many": {"", "b", "c", "c d"}, "host": {"h", "i"}} {
			if r.IntN(6) == 0 {
				h.lines[name] = pick(values...)
			}
		}
		got, want := e.Has(&gaterule.Request{Client: h.client, Head: h}), c.exempt.match(h)
		if got != want {
			t.Fatalf("%+v: exempt %t, want %t", h, got, want)
		}
		if want {
			exempt++
		}
	}
	if exempt < 2000 || exempt > 18_000 {
		t.Errorf("%d of 20000 are exempt", exempt)
	}
}
