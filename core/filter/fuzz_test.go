package filter_test

import (
	"strings"
	"testing"

	"wproxy/core/filter"
)

func FuzzPrefersJSON(f *testing.F) {
	for _, s := range []string{"", "*/*", "application/json", "text/*;q=0.5, application/json;q=0.4", "a/b;q=x;q=2", ";;,,//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		if filter.PrefersJSON(accept) && !strings.Contains(strings.ToLower(accept), "application/") {
			t.Errorf("%q prefers JSON without naming it", accept)
		}
	})
}
