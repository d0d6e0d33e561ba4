package gaterule_test

import (
	"net/netip"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host/gaterule"
)

type head map[string]string

func (h head) Get(name string) (string, bool) { v, ok := h[name]; return v, ok }

func newKey(t *testing.T, parts ...abi.GatePart) *gaterule.Key {
	t.Helper()
	k, ok := gaterule.NewKey(parts)
	if !ok {
		t.Fatalf("%+v is no key", parts)
	}
	return &k
}

func TestClientKey(t *testing.T) {
	t.Parallel()
	k := newKey(t, abi.GatePart{Text: "<"}, abi.GatePart{Kind: abi.GateRoute}, abi.GatePart{Text: ">"}, abi.GatePart{Kind: abi.GateClient, Bits: 61})
	for client, want := range map[string]string{
		"192.0.2.1":                        "<\x03\x00\x00\x00api>\x04\x00\x00\x00\xc0\x00\x02\x01",
		"::ffff:192.0.2.1":                 "<\x03\x00\x00\x00api>\x04\x00\x00\x00\xc0\x00\x02\x01",
		"2001:db8:ffff:ffff:ffff::1%eth0":  "<\x03\x00\x00\x00api>\x10\x00\x00\x00\x20\x01\x0d\xb8\xff\xff\xff\xf8\x00\x00\x00\x00\x00\x00\x00\x00",
		"2001:db8:ffff:fff8:1234:5678::42": "<\x03\x00\x00\x00api>\x10\x00\x00\x00\x20\x01\x0d\xb8\xff\xff\xff\xf8\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		if got, ok := k.Append(nil, &gaterule.Request{Route: "api", Client: netip.MustParseAddr(client)}); ok != gaterule.Known || string(got) != want {
			t.Errorf("%s: got %q, %d, want %q", client, got, ok, want)
		}
	}
	if _, ok := k.Append(nil, &gaterule.Request{Route: "api"}); ok != gaterule.Missing {
		t.Error("a key is made without an address")
	}
	for bits := 1; bits <= 128; bits++ {
		all := netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
		got, _ := newKey(t, abi.GatePart{Kind: abi.GateClient, Bits: uint32(bits)}).Append(nil, &gaterule.Request{Client: all})
		if want, _ := all.Prefix(bits); netip.AddrFrom16([16]byte(got[4:])) != want.Addr() {
			t.Errorf("%d bits: got %q, want %v", bits, got, want.Addr())
		}
	}
}

func TestHeadKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", abi.MaxGateValues)
	for _, tt := range []struct {
		part        abi.GatePart
		from, value string
		want        string // "": no key
		long        bool
	}{
		{abi.GatePart{Kind: abi.GateHeader, Text: "x-key"}, "x-key", "Value", "Value", false},
		{abi.GatePart{Kind: abi.GateHeader, Text: "x-key"}, "x-key", "", "", false},
		{abi.GatePart{Kind: abi.GateHeader, Text: "x-key"}, "x-other", "v", "", false},
		{abi.GatePart{Kind: abi.GateHeader, Text: "x-key"}, "x-key", long, long, false},
		{abi.GatePart{Kind: abi.GateHeader, Text: "x-key"}, "x-key", long + "x", "", true},
		{abi.GatePart{Kind: abi.GateHeader, Text: "host"}, "host", "A.test", "A.test", false},
		{abi.GatePart{Kind: abi.GateCookie, Text: "s"}, "cookie", "S=1; s = 3; \ts=2; s=4", "2", false}, // "s " is another name
		{abi.GatePart{Kind: abi.GateCookie, Text: "s"}, "cookie", "t; s=a=b", "a=b", false},
		{abi.GatePart{Kind: abi.GateCookie, Text: "s"}, "cookie", "s=;s=2", "", false},
		{abi.GatePart{Kind: abi.GateCookie, Text: "s"}, "cookie", strings.Repeat("t=1;", abi.MaxGateSource/4) + "s=1", "", true},
		{abi.GatePart{Kind: abi.GateQuery, Text: "k y"}, ":path", "/?a&k%20y=%61+%4&k+y=2", "a %4", false},
		{abi.GatePart{Kind: abi.GateQuery, Text: "k"}, ":path", "/k=1", "", false},
		{abi.GatePart{Kind: abi.GateQuery, Text: "k"}, ":path", "/?k=1?k=2", "1?k=2", false},
		{abi.GatePart{Kind: abi.GateQuery, Text: "k"}, ":path", "/?%6=1&kk=1&k", "", false},
		{abi.GatePart{Kind: abi.GateQuery, Text: "k"}, ":path", "/?" + strings.Repeat("x", abi.MaxGateSource) + "&k=1", "", true},
		{abi.GatePart{Kind: abi.GatePath}, ":path", "/a/%62?c?d", "/a/%62", false},
		{abi.GatePart{Kind: abi.GatePath}, ":path", "?c", "", false},
		{abi.GatePart{Kind: abi.GateMethod}, ":method", "get", "get", false},
		{abi.GatePart{Kind: abi.GateHost}, ":authority", "A.\xc3\x84.Test:80", "a.\xc3\x84.test:80", false},
		{abi.GatePart{Kind: abi.GateHost}, ":method", "GET", "", false},
	} {
		got, ok := newKey(t, tt.part).Append([]byte("+"), &gaterule.Request{Head: head{tt.from: tt.value}})
		want := "+" + string([]byte{byte(len(tt.want)), byte(len(tt.want) >> 8), 0, 0}) + tt.want
		found := gaterule.Known
		switch {
		case tt.long:
			found = gaterule.TooLong
		case tt.want == "":
			found = gaterule.Missing
		}
		if ok != found || ok == gaterule.Known && string(got) != want {
			t.Errorf("%+v of %.40q: got %.40q, %d, want %.40q, %d", tt.part, tt.value, got, ok, tt.want, found)
		}
	}
}

// TestValues: the bound is for all values together.
func TestValues(t *testing.T) {
	t.Parallel()
	k := newKey(t, abi.GatePart{Kind: abi.GateHeader, Text: "a"}, abi.GatePart{Kind: abi.GateHeader, Text: "b"})
	for n, want := range map[int]gaterule.Found{
		0: gaterule.Missing, 1: gaterule.Known, abi.MaxGateValues - 1: gaterule.Known, abi.MaxGateValues: gaterule.TooLong,
	} {
		if _, got := k.Append(nil, &gaterule.Request{Head: head{"a": "1", "b": strings.Repeat("x", n)}}); got != want {
			t.Errorf("%d bytes beside one: %d, want %d", n, got, want)
		}
	}
	// What is missing behind it does not tell what is too long; what is too long behind it does not matter.
	long := strings.Repeat("x", abi.MaxGateValues+1)
	for _, tt := range []struct {
		h    head
		want gaterule.Found
	}{{head{"a": long}, gaterule.TooLong}, {head{"b": long}, gaterule.Missing}} {
		if _, got := k.Append(nil, &gaterule.Request{Head: tt.h}); got != tt.want {
			t.Errorf("%.20v: %d, want %d", tt.h, got, tt.want)
		}
	}
}

func TestNoRule(t *testing.T) {
	t.Parallel()
	for _, p := range []abi.GatePart{
		{Kind: abi.GateHeader},
		{Kind: abi.GateHeader, Text: "X"},
		{Kind: abi.GateHeader, Text: ":path"},
		{Kind: abi.GateHeader, Text: "a b"},
		{Kind: abi.GateCookie},
		{Kind: abi.GateQuery},
	} {
		if _, ok := gaterule.NewKey([]abi.GatePart{p}); ok {
			t.Errorf("%+v is a part of a key", p)
		}
	}
	for _, p := range []abi.GatePart{
		{Kind: abi.GateText, Text: "x"},
		{Kind: abi.GateHas},
		{Kind: abi.GateHas, Text: "X"},
		{Kind: abi.GateHas, Text: ":path"},
		{Kind: abi.GateIs, Text: "x"},
		{Kind: abi.GateIs, Text: "\x00v"},
		{Kind: abi.GateIs, Text: "\xff\x00v"},
		{Kind: abi.GateFrom},
		{Kind: abi.GateFrom, Text: "\x08"},
		abi.GateNetwork(make([]byte, 4), 33),
		abi.GateNetwork(make([]byte, 16), 129), abi.GateNetwork(make([]byte, 5), 1),
	} {
		if _, ok := gaterule.NewExempt([]abi.GatePart{p}); ok {
			t.Errorf("%+v is a condition", p)
		}
	}
}

// TestNetworks: at each length, who is in the network is in netip's.
func TestNetworks(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"10.170.85.1", "2001:db8:aaaa:5555:aaaa:5555:aaaa:5555"} {
		a := netip.MustParseAddr(addr)
		for bits := range a.BitLen() + 1 {
			e, ok := gaterule.NewExempt([]abi.GatePart{abi.GateNetwork(a.AsSlice(), bits)})
			if !ok {
				t.Fatalf("%v/%d is no network", a, bits)
			}
			for flip := range a.BitLen() {
				b := a.AsSlice()
				b[flip/8] ^= 0x80 >> (flip % 8)
				other, _ := netip.AddrFromSlice(b)
				if got, want := e.Has(&gaterule.Request{Client: other}), netip.PrefixFrom(a, bits).Contains(other); got != want {
					t.Fatalf("%v in %v/%d: %t, want %t", other, a, bits, got, want)
				}
			}
			if !e.Has(&gaterule.Request{Client: a}) || e.Has(&gaterule.Request{}) {
				t.Fatalf("%v/%d: not itself, or nobody is in it", a, bits)
			}
		}
	}
}

func TestExemptFields(t *testing.T) {
	t.Parallel()
	e, ok := gaterule.NewExempt([]abi.GatePart{abi.GateEqual("a", "1"), {Kind: abi.GateHas, Text: "b"}, abi.GateEqual("a", ""), abi.GateEqual("a", "x\x00y")})
	if !ok || e.Reads() != 2 {
		t.Fatalf("%t, %d fields are read", ok, e.Reads())
	}
	for _, tt := range []struct {
		h    head
		want bool
	}{
		{head{}, false}, {head{"a": "1"}, true}, {head{"a": "2"}, false}, {head{"a": ""}, true}, {head{"a": "x\x00y"}, true}, {head{"b": ""}, true}, {head{"c": "1"}, false},
	} {
		if got := e.Has(&gaterule.Request{Head: tt.h}); got != tt.want {
			t.Errorf("%v: %t, want %t", tt.h, got, tt.want)
		}
	}
}
