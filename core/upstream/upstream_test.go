package upstream_test

import (
	"testing"

	"wproxy/core/upstream"
)

func TestNewEndpoint(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, network, address, host string // network "": refused
	}{
		{"10.0.0.1:8080", "tcp", "10.0.0.1:8080", "10.0.0.1:8080"},
		{"a.internal:80", "tcp", "a.internal:80", "a.internal"},
		{"[::1]:80", "tcp", "[::1]:80", "[::1]"},
		{"http://a.internal", "tcp", "a.internal:80", "a.internal"},
		{"http://[2001:db8::1]/", "tcp", "[2001:db8::1]:80", "[2001:db8::1]"},
		{"http://a:81", "tcp", "a:81", "a:81"},
		{"unix:/run/app.sock", "unix", "/run/app.sock", "localhost"},
		{"https://a", "tcp", "a:443", "a"},
		{"https://[::1]:8443/", "tcp", "[::1]:8443", "[::1]:8443"},
		{"https://a:80", "tcp", "a:80", "a:80"},
		{"ftp://a", "", "", ""},
		{"a.internal", "", "", ""},
		{":80", "", "", ""},
		{"a:0", "", "", ""},
		{"a:99999", "", "", ""},
		{"a:http", "", "", ""},
		{"http://a/path:80", "", "", ""},
		{"user@a:80", "", "", ""},
		{"unix:", "", "", ""},
		{"", "", "", ""},
	}
	for _, tt := range tests {
		e, err := upstream.NewEndpoint(tt.in, 0)
		if (err == nil) != (tt.network != "") {
			t.Errorf("%q: error %v", tt.in, err)
		}
		if err != nil {
			continue
		}
		if e.Network != tt.network || e.Address != tt.address || e.Host != tt.host || e.Weight != 1 || e.Name != tt.in {
			t.Errorf("%q: got %s %s %s weight %d", tt.in, e.Network, e.Address, e.Host, e.Weight)
		}
	}
}

func TestUseTLS(t *testing.T) {
	t.Parallel()
	for in, host := range map[string]string{
		"a:443": "a", "a:80": "a:80", "https://a": "a", "[::1]:443": "[::1]", "unix:/run/app.sock": "localhost",
	} {
		e, err := upstream.NewEndpoint(in, 1)
		if err != nil {
			t.Fatal(err)
		}
		e.UseTLS()
		if e.Scheme != "https" || e.Host != host || e.Name != in {
			t.Errorf("%q: got scheme %s, host %s, name %s; want https, %s", in, e.Scheme, e.Host, e.Name, host)
		}
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	e, err := upstream.NewEndpoint("10.0.0.1:81", 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ host, client, want string }{
		{"", "a.example", "a.example"},
		{"", "", "10.0.0.1:81"},
		{"server", "a.example", "10.0.0.1:81"},
		{"b.example", "a.example", "b.example"},
	} {
		c, err := upstream.NewCluster("u", []*upstream.Endpoint{e}, tt.host)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Authority(e, tt.client); got != tt.want {
			t.Errorf("host %q, client %q: got %q, want %q", tt.host, tt.client, got, tt.want)
		}
	}
	if _, err := upstream.NewCluster("u", nil, ""); err == nil {
		t.Error("a cluster without servers was made")
	}
	if _, err := upstream.NewCluster("u", []*upstream.Endpoint{e, e}, ""); err == nil {
		t.Error("a server may be named only once")
	}
}
