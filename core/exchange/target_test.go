package exchange_test

import (
	"errors"
	"strings"
	"testing"

	"wproxy/core/exchange"
)

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		path     string
		slash    bool
	}{
		{in: "/", want: "/", path: "/"},
		{in: "/a/b?c=d", want: "/a/b?c=d", path: "/a/b"},
		{in: "/?", want: "/?", path: "/"},
		{in: "/a?/../b", want: "/a?/../b", path: "/a"},
		{in: "/a?%zz%", want: "/a?%zz%", path: "/a"}, // the query is nobody's business
		{in: `/a?b\c"<>|{}`, want: `/a?b\c"<>|{}`, path: "/a"},
		{in: "//a//b/", want: "//a//b/", path: "//a//b/"},
		{in: "/.", want: "/", path: "/"},
		{in: "/..", want: "/", path: "/"},
		{in: "/./", want: "/", path: "/"},
		{in: "/../", want: "/", path: "/"},
		{in: "/a/.", want: "/a/", path: "/a/"},
		{in: "/a/..", want: "/", path: "/"},
		{in: "/a/../", want: "/", path: "/"},
		{in: "/a/b/../c", want: "/a/c", path: "/a/c"},
		{in: "/a/b/../../../c", want: "/c", path: "/c"},
		{in: "/a/./b/./c", want: "/a/b/c", path: "/a/b/c"},
		{in: "/a//../b", want: "/a/b", path: "/a/b"},
		{in: "//..", want: "/", path: "/"},
		{in: "/..?x", want: "/?x", path: "/"},
		{in: "/...", want: "/...", path: "/..."},
		{in: "/.a/..b/c./d..", want: "/.a/..b/c./d..", path: "/.a/..b/c./d.."},
		{in: "/..;/a", want: "/..;/a", path: "/..;/a"},
		{in: "/%2e%2E/a", want: "/a", path: "/a"},
		{in: "/a/.%2e/b", want: "/b", path: "/b"},
		{in: "/%41%5a%61%7A%30%2d%2e%5f%7e", want: "/AZaz0-._~", path: "/AZaz0-._~"},
		{in: "/%c3%a4", want: "/%C3%A4", path: "/%C3%A4"},
		{in: "/%2525", want: "/%2525", path: "/%2525"}, // decoded once, never twice
		{in: "/%252e%252e/", want: "/%252e%252e/", path: "/%252e%252e/"},
		{in: "/a%20b%21", want: "/a%20b%21", path: "/a%20b%21"},
		{in: "/%0d%0a", want: "/%0D%0A", path: "/%0D%0A"},
		{in: "/%2f", want: "/%2F", path: "/%2F", slash: true},
		{in: "/%2F..%2F", want: "/%2F..%2F", path: "/%2F..%2F", slash: true},
		{in: "/%5c", want: "/%5C", path: "/%5C", slash: true},
		{in: "/%00", want: "/%00", path: "/%00", slash: true},
		{in: "/?%2f%5c%00", want: "/?%2f%5c%00", path: "/"},
		{in: "/a[1]{b}|^`\"<>", want: "/a%5B1%5D%7Bb%7D%7C%5E%60%22%3C%3E", path: "/a%5B1%5D%7Bb%7D%7C%5E%60%22%3C%3E"},
		{in: "/!$&'()*+,;=:@-._~", want: "/!$&'()*+,;=:@-._~", path: "/!$&'()*+,;=:@-._~"},
		{in: "/" + strings.Repeat("a/../", 500), want: "/", path: "/"},
	} {
		var r exchange.Request
		if err := r.ParseTarget(tt.in); err != nil {
			t.Errorf("ParseTarget(%q): %v", tt.in, err)
			continue
		}
		if r.Target != tt.want || r.Path() != tt.path || r.EncodedSlash != tt.slash {
			t.Errorf("ParseTarget(%q): got %q, path %q, slash %v; want %q, path %q, slash %v",
				tt.in, r.Target, r.Path(), r.EncodedSlash, tt.want, tt.path, tt.slash)
		}
	}
}

func TestParseTargetRefuses(t *testing.T) {
	for _, tt := range []struct{ in, reason string }{
		{"", "bad_target"},
		{"a", "bad_target"},
		{"*", "bad_target"},
		{"http://a/", "bad_target"},
		{"?a", "bad_target"},
		{"/a b", "bad_target"},
		{"/a#b", "bad_target"},
		{"/a?b#c", "bad_target"},
		{"/a?b c", "bad_target"},
		{"/a\\b", "bad_target"},
		{"/\x00", "bad_target"},
		{"/\r\n", "bad_target"},
		{"/?\r\n", "bad_target"},
		{"/\x7f", "bad_target"},
		{"/\x80", "bad_target"},
		{"/?\x80", "bad_target"},
		{"/%", "bad_escape"},
		{"/%1", "bad_escape"},
		{"/%1?", "bad_escape"},
		{"/%g0", "bad_escape"},
		{"/%0g", "bad_escape"},
		{"/%%41", "bad_escape"},
	} {
		r := exchange.Request{Target: "kept", Method: "GET"}
		err := r.ParseTarget(tt.in)
		var e *exchange.Error
		if !errors.As(err, &e) || e.Status != 400 || e.Reason != tt.reason {
			t.Errorf("ParseTarget(%q): got %v, want reason %s", tt.in, err, tt.reason)
		}
		if r.Target != "kept" {
			t.Errorf("ParseTarget(%q) has changed the request: %q", tt.in, r.Target)
		}
	}
}

func TestParseTargetAsterisk(t *testing.T) {
	r := exchange.Request{Method: "OPTIONS"}
	if err := r.ParseTarget("*"); err != nil || r.Target != "*" || r.Path() != "*" {
		t.Errorf("OPTIONS *: got %q, %v", r.Target, err)
	}
}

func TestParseAuthority(t *testing.T) {
	for _, tt := range []struct{ in, want, host string }{
		{"a", "a", "a"},
		{"example.com", "example.com", "example.com"},
		{"EXAMPLE.com:8080", "example.com:8080", "example.com"},
		{"example.com.", "example.com", "example.com"},
		{"example.com.:80", "example.com:80", "example.com"},
		{"example.com:", "example.com", "example.com"},
		{"a_b-c~d.e", "a_b-c~d.e", "a_b-c~d.e"},
		{"127.0.0.1:1", "127.0.0.1:1", "127.0.0.1"},
		{"[::1]", "[::1]", "::1"},
		{"[::1]:443", "[::1]:443", "::1"},
		{"[::1]:", "[::1]", "::1"},
		{"[0:0:0:0:0:0:0:1]:443", "[::1]:443", "::1"},
		{"[FE80::A]", "[fe80::a]", "fe80::a"},
		{"[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", "::ffff:1.2.3.4"},
		{"a:65535", "a:65535", "a"},
	} {
		var r exchange.Request
		if err := r.ParseAuthority(tt.in); err != nil {
			t.Errorf("ParseAuthority(%q): %v", tt.in, err)
			continue
		}
		if r.Authority != tt.want || r.Hostname() != tt.host {
			t.Errorf("ParseAuthority(%q): got %q, host %q; want %q, host %q", tt.in, r.Authority, r.Hostname(), tt.want, tt.host)
		}
		r.StripPort()
		want := tt.host
		if tt.want[0] == '[' {
			want = "[" + tt.host + "]"
		}
		if r.Authority != want {
			t.Errorf("%q without its port: got %q, want %q", tt.in, r.Authority, want)
		}
	}
	for _, in := range []string{
		"", ":80", ".", ".a", "a..b", "a..", "a b", "a,b", "a@b", "a/b", "a?b", "a#b", "a\\b", "a%41", "a;b", "ä", "a\x00",
		"a:0", "a:080", "a:65536", "a:123456", "a:x", "a:-1", "a:8 ", "a:80:80", "::1", "[::1", "[]", "[::1]x", "[::1]:x", "[1.2.3.4]",
		"[fe80::1%25eth0]", "[fe80::1%eth0]", "[v1.x]", "[a]", "]", "[", strings.Repeat("a", 256), "http://a",
	} {
		r := exchange.Request{Authority: "kept"}
		err := r.ParseAuthority(in)
		var e *exchange.Error
		if !errors.As(err, &e) || e.Status != 400 || e.Reason != "bad_host" || r.Authority != "kept" {
			t.Errorf("ParseAuthority(%q): got %v, authority %q", in, err, r.Authority)
		}
	}
	var empty exchange.Request
	if got := empty.Hostname(); got != "" {
		t.Errorf("Hostname of no authority: got %q", got)
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2e/%2F", "//x/./", "/a?b", "/[", "/%c3", "/..;/", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var r exchange.Request
		if r.ParseTarget(s) != nil {
			return
		}
		again := exchange.Request{}
		if err := again.ParseTarget(r.Target); err != nil {
			t.Fatalf("%q became %q, which is refused: %v", s, r.Target, err)
		}
		if again.Target != r.Target || again.Path() != r.Path() || again.EncodedSlash != r.EncodedSlash {
			t.Fatalf("not idempotent: %q, %q, %q", s, r.Target, again.Target)
		}
		p := r.Path()
		for _, bad := range []string{"/./", "/../", " ", "\r", "\n", "\x00", "\\", "#"} {
			if strings.Contains(p, bad) {
				t.Fatalf("%q: path %q contains %q", s, p, bad)
			}
		}
		if strings.HasSuffix(p, "/..") || strings.HasSuffix(p, "/.") || p[0] != '/' {
			t.Fatalf("%q: path %q", s, p)
		}
		if q, ok := r.Query(); ok && !strings.HasSuffix(s, "?"+q) {
			t.Fatalf("%q: the query became %q", s, q)
		}
	})
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"a", "A.b:80", "[::1]:80", "a.", "[::ffff:1.2.3.4]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var r, again exchange.Request
		if r.ParseAuthority(s) != nil {
			return
		}
		if err := again.ParseAuthority(r.Authority); err != nil || again.Authority != r.Authority {
			t.Fatalf("not idempotent: %q, %q, %q, %v", s, r.Authority, again.Authority, err)
		}
		if h := r.Hostname(); h == "" || strings.ContainsAny(h, " \t\r\n\x00/\\@,%[]?#") {
			t.Fatalf("%q: host %q", s, h)
		}
	})
}
