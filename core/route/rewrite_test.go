package route_test

import (
	"errors"
	"strings"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/route"
)

func TestRewrite(t *testing.T) {
	type spec = route.RewriteSpec
	for _, c := range []struct {
		spec       spec
		from, want string
	}{
		{spec{}, "/a?x", "/a?x"},
		{spec{Strip: "/v1"}, "/v1/users?x=1", "/users?x=1"},
		{spec{Strip: "/v1"}, "/v1", "/"},
		{spec{Strip: "/v1"}, "/v1?x", "/?x"},
		{spec{Strip: "/v1"}, "/v1/", "/"},
		{spec{Strip: "/v1"}, "/v1//", "//"},
		{spec{Strip: "/v1"}, "/v1x/users", "/v1x/users"},
		{spec{Strip: "/v1"}, "/v2/users", "/v2/users"},
		{spec{Strip: "/v1"}, "/", "/"},
		{spec{Path: "/x"}, "/a/b?y=/z", "/x?y=/z"},
		{spec{Path: "/x"}, "/", "/x"},
		{spec{Strip: "/a", Path: "/x"}, "/a/b", "/x"},
		{spec{Regex: `^/v(\d+)/(.*)`, To: "/api/$1/$2"}, "/v2/users/1?q=/v3/", "/api/2/users/1?q=/v3/"},
		{spec{Regex: `^/v(?P<n>\d+)`, To: "/api${n}x"}, "/v2/users", "/api2x/users"},
		{spec{Regex: `^/v(\d+)/`, To: "/"}, "/w/", "/w/"},
		{spec{Regex: `/b`, To: "/c"}, "/a/b/b", "/a/c/b"},
		{spec{Strip: "/s", Regex: `^/a`, To: "/b"}, "/s/a?x", "/b?x"},
		// Halves of segments that join to a dot segment do not climb out.
		{spec{Regex: `^/a(.*)`, To: "/files/$1"}, "/a../secret", "/secret"},
		{spec{Strip: "/v1"}, "*", "*"},
	} {
		w, err := route.NewRewrite(c.spec)
		if err != nil {
			t.Fatalf("%+v: %v", c.spec, err)
		}
		r := &exchange.Request{Method: "OPTIONS"}
		if err := r.ParseTarget(c.from); err != nil {
			t.Fatal(err)
		}
		if err := w.Apply(r); err != nil || r.Target != c.want {
			t.Errorf("%+v: %s became %s, want %s (%v)", c.spec, c.from, r.Target, c.want, err)
		}
		if p, _, _ := strings.Cut(c.want, "?"); r.Path() != p {
			t.Errorf("%+v: path of %s is %q", c.spec, r.Target, r.Path())
		}
	}
}

func TestRewriteErrors(t *testing.T) {
	for _, s := range []route.RewriteSpec{
		{Strip: "v1"},
		{Strip: "/v1/"},
		{Strip: "/v1/*"},
		{Strip: "/"},
		{Path: "x"},
		{Path: "/a/../b"},
		{Path: "/x?y"},
		{Regex: "(", To: "/"},
		{Path: "/x", Regex: "^/", To: "/"},
	} {
		if _, err := route.NewRewrite(s); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
	w, err := route.NewRewrite(route.RewriteSpec{Regex: "^/(.*)", To: "$1"})
	if err != nil {
		t.Fatal(err)
	}
	r := new(exchange.Request)
	r.SetTarget("/a", 2)
	var e *exchange.Error
	if err := w.Apply(r); !errors.As(err, &e) || e.Status != 400 || r.Target != "/a" {
		t.Errorf("got %v and %s, want an *exchange.Error with 400 and an unchanged target", err, r.Target)
	}
}

func TestRedirect(t *testing.T) {
	for _, c := range []struct {
		to        string
		port      int
		authority string
		target    string
		want      string
	}{
		{"https", 0, "a.example", "/x?y", "https://a.example/x?y"},
		{"https", 443, "a.example:80", "/", "https://a.example/"},
		{"https", 8443, "a.example:8080", "//evil.example", "https://a.example:8443//evil.example"},
		{"https", 0, "[::1]:8080", "/", "https://[::1]/"},
		{"https", 0, "[::1]", "*", "https://[::1]/"},
		{"https", 0, "", "/", ""},
		{"/new", 0, "a", "/old", "/new"},
		{"/new", 0, "a", "/old?x=1", "/new?x=1"},
		{"/new?y", 0, "a", "/old?x=1", "/new?y"},
		{"https://b.example", 0, "a", "/old?x=1", "https://b.example/old?x=1"},
		{"https://b.example/", 0, "a", "/old?x=1", "https://b.example/?x=1"},
		{"https://b.example/#f", 0, "a", "/old?x=1", "https://b.example/#f"},
	} {
		d, err := route.NewRedirect(c.to, 308, c.port)
		if err != nil {
			t.Fatal(err)
		}
		r := &exchange.Request{Method: "OPTIONS", Authority: c.authority}
		if err := r.ParseTarget(c.target); err != nil {
			t.Fatal(err)
		}
		if got := d.Location(r); got != c.want || d.Status() != 308 {
			t.Errorf("%s from %s%s: got %q, want %q", c.to, c.authority, c.target, got, c.want)
		}
	}
	for _, to := range []string{"", "new", "//evil.example", "ftp://a", "/a b", "/a\r\nx: y", "http://", "javascript:alert(1)"} {
		if _, err := route.NewRedirect(to, 308, 0); err == nil {
			t.Errorf("%q was accepted", to)
		}
	}
	if _, err := route.NewRedirect("/", 304, 0); err == nil {
		t.Error("304 was accepted")
	}
}

func TestView(t *testing.T) {
	r := &exchange.Request{Method: "GET", Conn: &exchange.Conn{Listener: "http"}}
	if err := errors.Join(r.ParseAuthority("A.Example.:8080"), r.ParseTarget("/a/./b?x=1")); err != nil {
		t.Fatal(err)
	}
	r.Fields.Add("x-a", "1")
	v := route.View(r)
	if v.Host != "a.example" || v.Path != "/a/b" || v.Query != "x=1" || v.Method != "GET" || v.Listener != "http" || v.Fields.Value("x-a") != "1" {
		t.Errorf("got %+v", v)
	}
}
