package proxy_test

import (
	"strings"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

// FuzzCookieValue: what is found is in the line, behind the name and up to a semicolon; and
// a cookie is found behind whatever others there are, unless one of them has its name.
func FuzzCookieValue(f *testing.F) {
	for _, line := range []string{"a=b", "a=b; c=d", "a", "a=", ` a = "b" ;c=d`, "xa=1; a=2", "a=1; a=2", ";;a=b;", "a=b=c", `a="`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var fields exchange.Fields
		fields.Add("cookie", line)
		got := proxy.CookieValue(&fields, "a")
		if got != "" && (strings.Contains(got, ";") || !strings.Contains(line, "a")) {
			t.Fatalf("a of %q is %q", line, got)
		}
		fields.Reset()
		fields.Add("cookie", line+"; mine=v-1_2")
		if got := proxy.CookieValue(&fields, "mine"); got != "v-1_2" && !strings.Contains(line, "mine") {
			t.Fatalf("mine behind %q is %q", line, got)
		}
		fields.Reset()
		fields.Add("cookie", line)
		fields.Add("cookie", "mine=v-1_2")
		if got := proxy.CookieValue(&fields, "mine"); got != "v-1_2" && !strings.Contains(line, "mine") {
			t.Fatalf("mine in the line behind %q is %q", line, got)
		}
	})
}
