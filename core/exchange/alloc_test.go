//go:build !race

package exchange_test

import (
	"testing"

	"wproxy/core/exchange"
)

func TestParseAllocs(t *testing.T) {
	var r exchange.Request
	for _, tt := range []struct {
		name string
		max  float64
		f    func() error
	}{
		{"canonical target", 0, func() error { return r.ParseTarget("/a/b.html/%C3%A4?x=y") }},
		{"other target", 1, func() error { return r.ParseTarget("/a/../b/%7e?x=y") }},
		{"canonical authority", 0, func() error { return r.ParseAuthority("www.example.com:8080") }},
		{"canonical address", 0, func() error { return r.ParseAuthority("[2001:db8::1]:8080") }},
		{"hostname", 0, func() error { _ = r.Hostname(); return nil }},
	} {
		if n := testing.AllocsPerRun(200, func() {
			if err := tt.f(); err != nil {
				t.Fatal(err)
			}
		}); n > tt.max {
			t.Errorf("%s: got %v allocations, want %v", tt.name, n, tt.max)
		}
	}
}
