package ipaddr

import (
	"net/netip"
	"strings"
	"testing"
)

// same reports whether an address is what net/netip reads.
func same(a Addr, want netip.Addr) bool {
	want = want.Unmap()
	switch {
	case !want.IsValid():
		return !a.IsValid()
	case want.Is4():
		return a.Is4() && a.As4() == want.As4()
	}
	return a.IsValid() && !a.Is4() && a.As16() == want.As16()
}

var texts = []string{
	"192.0.2.1", "0.0.0.0", "255.255.255.255", "256.0.0.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.", ".1.2.3", "", "1", "a.b.c.d",
	"::", "::1", "1::", "2001:db8::1", "2001:DB8::a:1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9",
	"1:2:3:4::5:6:7:8", "1::2::3", ":::", ":1", "1:", "12345::", "::ffff:1.2.3.4", "::1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4",
	"::1.2.3", "::1.2.3.4:5", "fe80::1%eth0", "::g", "1:2:3:4:5:6:7:8::", "::ffff:c000:201",
}

func TestParse(t *testing.T) {
	for _, text := range texts {
		want, err := netip.ParseAddr(text)
		if strings.Contains(text, "%") {
			want, err = netip.Addr{}, errZone
		}
		if a, ok := Parse(text); ok != (err == nil) || ok && !same(a, want) {
			t.Errorf("%q: got %+v, %t, want %v", text, a, ok, want)
		}
	}
}

type zoneError struct{}

func (zoneError) Error() string { return "a zone" }

var errZone error = zoneError{}

func TestPrefix(t *testing.T) {
	for _, tc := range []struct {
		prefix string
		in     []string
		out    []string
	}{
		{"10.0.0.0/8", []string{"10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"}, []string{"11.0.0.0", "9.255.255.255", "::a00:0"}},
		{"10.1.2.3/12", []string{"10.0.0.1", "10.15.0.1"}, []string{"10.16.0.0"}},
		{"192.0.2.1", []string{"192.0.2.1"}, []string{"192.0.2.2", "::1"}},
		{"0.0.0.0/0", []string{"1.2.3.4"}, []string{"::1"}},
		{"2001:db8::/33", []string{"2001:db8::1", "2001:db8:7fff::"}, []string{"2001:db8:8000::", "1.2.3.4"}},
		{"::/0", []string{"::", "ff::1"}, []string{"1.2.3.4"}},
		{"::ffff:10.0.0.1", []string{"10.0.0.1"}, nil},
	} {
		p, ok := ParsePrefix(tc.prefix)
		if !ok {
			t.Errorf("%q is refused", tc.prefix)
		}
		for i, list := range [][]string{tc.in, tc.out} {
			for _, text := range list {
				if a, ok := Parse(text); !ok || p.Contains(a) != (i == 0) {
					t.Errorf("%s contains %s: %t", tc.prefix, text, i != 0)
				}
			}
		}
	}
	for _, text := range []string{"", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "::/129", "::ffff:10.0.0.0/104", "10/8", "10.0.0.0/8/8"} {
		if p, ok := ParsePrefix(text); ok {
			t.Errorf("%q is taken for %+v", text, p)
		}
	}
	if (Prefix{}).Contains(Addr{}) {
		t.Error("nothing contains nothing")
	}
}

// FuzzParse: what net/netip reads is read, and nothing else.
func FuzzParse(f *testing.F) {
	for _, text := range texts {
		f.Add(text, uint8(9))
	}
	f.Fuzz(func(t *testing.T, text string, bits uint8) {
		want, err := netip.ParseAddr(text)
		a, ok := Parse(text)
		if ok != (err == nil && want.Zone() == "") || ok && !same(a, want) {
			t.Errorf("%q: got %+v, %t, want %v, %v", text, a, ok, want, err)
		}
		port, err := netip.ParseAddrPort(text)
		a, ok = ParseWithPort(text)
		if ok != (err == nil && port.Addr().Zone() == "") || ok && !same(a, port.Addr()) {
			t.Errorf("%q with a port: got %+v, %t, want %v, %v", text, a, ok, port, err)
		}
		net, err := netip.ParsePrefix(text)
		p, ok := ParsePrefix(text)
		if strings.Contains(text, "/") && ok != (err == nil && !net.Addr().Is4In6()) {
			t.Errorf("%q: got %+v, %t, want %v, %v", text, p, ok, net, err)
		}
		if !ok || err != nil {
			return
		}
		other := net.Masked().Addr().AsSlice()
		other[int(bits)/8%len(other)] ^= 1 << (bits % 8)
		addr, _ := netip.AddrFromSlice(other)
		if got, _ := FromBytes(other); p.Contains(got) != net.Contains(addr) && !addr.Is4In6() {
			t.Errorf("%s contains %s: got %t", text, addr, p.Contains(got))
		}
	})
}
