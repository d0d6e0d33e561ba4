package spelling_test

import (
	"strings"
	"testing"

	"wproxy/core/spelling"
)

func TestSuggest(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 65)
	for _, tt := range []struct {
		word, known, want string
	}{
		{"upstreem", "upstream to", "upstream"},
		{"UpStream", "upstream to", "upstream"},
		{"idel", "idle", "idle"}, // two letters swapped are one mistake
		{"atempts", "attempts", "attempts"},
		{"attemptss", "attempts", "attempts"},
		{"on", "no to in", "no"},
		{"on", "off", ""},
		{"x", "y", ""}, // one letter of one is all of it
		{"path", "host", ""},
		{"rate", "burst exempt", ""},
		{"ab", "abcd", ""}, // one letter of two
		{"", "a", ""},
		{"a", "", ""},
		{long, long + "x", ""}, // no misspelling
		{"b\x1b", "a\x1b", `a\x1b`},
	} {
		got := spelling.Suggest(tt.word, strings.Fields(tt.known))
		want := ""
		if tt.want != "" {
			want = ` (did you mean "` + tt.want + `"?)`
		}
		if got != want {
			t.Errorf("%q of %q: got %q, want %q", tt.word, tt.known, got, want)
		}
	}
	if got := spelling.Suggest("rout", []string{"routs", "route"}); got != ` (did you mean "routs"?)` {
		t.Errorf("the first of two: %q", got)
	}
}
