package adapter

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	for _, tc := range []struct {
		want, format string
		args         []any
	}{
		{"plain, 100%", "plain, 100%", nil},
		{"define metric of name a: no", "define metric of name %s: %v", []any{"a", errors.New("no")}},
		{"increment 7 by 18446744073709551615: no", "increment %d by %d: %v", []any{uint32(7), uint64(math.MaxUint64), errors.New("no")}},
		{"error adding 0 by -9223372036854775808: ", "error adding %d by %d: %v", []any{uint32(0), int64(math.MinInt64), ""}},
		{"?", "%v", []any{1.5}},
		{"1 %d", "%d %d", []any{uint32(1)}},
	} {
		if got := sprintf(tc.format, tc.args); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.format, got, tc.want)
		}
	}
}

// TestFormatImportsNothing: it takes the place of a package that others may import.
func TestFormatImportsNothing(t *testing.T) {
	src, err := Files.ReadFile(Format)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(src), "\nimport") || !strings.HasPrefix(string(src), FormatClause) {
		t.Errorf("%s has imports, or does not begin with %q", Format, FormatClause)
	}
}
