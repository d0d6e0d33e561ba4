package proxy

import (
	"testing"

	"wproxy/core/exchange"
)

// TestSetLength: a head that says how long it is already is left alone, which costs nothing.
func TestSetLength(t *testing.T) {
	for _, tt := range []struct {
		has  string // "": nothing
		size int
		want string
	}{{"", 0, "0"}, {"", 1234, "1234"}, {"1234", 1234, "1234"}, {"12", 1234, "1234"}, {"01234", 1234, "1234"}, {"1234", 123, "123"}} {
		var f exchange.Fields
		f.Add("a", "b")
		if tt.has != "" {
			f.Add("content-length", tt.has)
		}
		f.Add("c", "d")
		setLength(&f, tt.size)
		if f.Value("content-length") != tt.want || f.Len() != 3 {
			t.Errorf("%q, %d bytes: %q, %d lines", tt.has, tt.size, f.Value("content-length"), f.Len())
		}
		if n := testing.AllocsPerRun(10, func() { setLength(&f, tt.size) }); n != 0 {
			t.Errorf("%d bytes: %v allocations", tt.size, n)
		}
	}
}
