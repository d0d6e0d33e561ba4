package proxy_test

import (
	"net/netip"
	"testing"

	"wproxy/core/proxy"
)

// Whatever a trusted peer sends, the client is an address that stands in the
// list, and only trusted addresses are to the right of it.
func FuzzClientOf(f *testing.F) {
	for _, s := range []string{
		"", "1.1.1.1", "1.1.1.1, 10.0.0.1", "[2001:db8::1]:80, ::ffff:10.1.1.1", ",,,", "1.1.1.1:80,10.0.0.1:x",
		`for="[2001:db8::1]:1";proto=https, for=10.0.0.1`, "for=_x;by=y", `for="1.1.1.1`, "fe80::1%eth0",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	trust := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, list string, element bool) {
		a := proxy.ClientOf(list, trust, element)
		if !a.IsValid() {
			return
		}
		if a.Is4In6() || a.Zone() != "" {
			t.Errorf("%q: %v is not canonical, so that lists of addresses would miss it", list, a)
		}
		// What an untrusted party wrote to the left changes nothing.
		if b := proxy.ClientOf("6.6.6.6, "+list, trust, element); !trust[0].Contains(a) && b != a {
			t.Errorf("%q: got %v, with more in front %v", list, a, b)
		}
	})
}
