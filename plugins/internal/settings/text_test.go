package settings

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// FuzzText: for what is ASCII, the functions are those of the standard library.
func FuzzText(f *testing.F) {
	f.Add("a, B\tc", "x")
	f.Add("9223372036854775807", "")
	f.Add("-9223372036854775808", "")
	f.Add("\x1b[31m\u009b\"\\", "ß")
	f.Fuzz(func(t *testing.T, a, b string) {
		ascii := !slices.ContainsFunc([]byte(a), func(c byte) bool { return c >= 0x80 })
		if got := Lower(a); ascii && got != strings.ToLower(a) || len(got) != len(a) {
			t.Errorf("Lower(%q): got %q", a, got)
		}
		if want := strings.FieldsFunc(a, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' }); !slices.Equal(Words(nil, a, true), want) {
			t.Errorf("Words(%q): got %q", a, Words(nil, a, true))
		}
		list := strings.Split(a, b)
		if want := slices.Sorted(slices.Values(list)); !slices.Equal(Sort(list), want) {
			t.Errorf("Sort: got %q, want %q", list, want)
		}
		want, err := strconv.ParseInt(a, 10, 64)
		if strings.HasPrefix(a, "+") {
			err = strconv.ErrSyntax
		}
		if n, ok := Int(a); ok != (err == nil) && want != math.MinInt64 || ok && n != want {
			t.Errorf("Int(%q): got %d, %t, want %d, %v", a, n, ok, want, err)
		}
		q := Quote(a)
		if strings.ContainsFunc(q, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) || len(q) < len(a)+2 {
			t.Errorf("Quote(%q): got %q", a, q)
		}
	})
}
