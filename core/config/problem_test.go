package config_test

import (
	"testing"

	"wproxy/core/config"
)

func TestParts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, reason, suggestion string }{
		{`unknown key "a" (did you mean "b"?)`, `unknown key "a"`, `did you mean "b"?`},
		{`is an integer, want a string`, `is an integer`, `want a string`},
		{`"x" is no duration: write a number and a unit, e.g. "30s"`, `"x" is no duration`, `write a number and a unit, e.g. "30s"`},
		{`is out; leave it out; or not`, `is out`, `leave it out; or not`},
		{`"a; b, want \"c\"; d" is wrong; write e`, `"a; b, want \"c\"; d" is wrong`, `write e`},
		{"`a; b` is wrong; see c", "`a; b` is wrong", "see c"},
		{`5 is out of range, allowed is 1 to 3`, `5 is out of range`, `allowed is 1 to 3`},
		{`"c" is not one of "a", "b"`, `"c"`, `one of "a", "b"`},
		{`needs hosts, e.g. hosts = ["a"]`, `needs hosts`, `for example hosts = ["a"]`},
		{`is wrong`, `is wrong`, ``},
		{`"is never closed; write x`, `"is never closed; write x`, ``},
		{``, ``, ``},
	} {
		if reason, suggestion := (config.Problem{Text: tt.text}).Parts(); reason != tt.reason || suggestion != tt.suggestion {
			t.Errorf("%s:\ngot  %q and %q\nwant %q and %q", tt.text, reason, suggestion, tt.reason, tt.suggestion)
		}
	}
	p := config.Problem{}.WithCode("a").WithCode("b")
	if p.Code != "a" {
		t.Errorf("the second code counts: %q", p.Code)
	}
	f := load(t, "w.toml", "[routes.a]\nto = \"a:1\"\nretry.attempts = 2\n")
	for key, want := range map[string]bool{"routes.a": true, "routes.a.retry": true, "routes.a.retry.attempts": true, "routes.a.retry.on": false, "routes.a.timeout": false} {
		if f.Has(key) != want {
			t.Errorf("Has(%q) is %v", key, !want)
		}
	}
}
