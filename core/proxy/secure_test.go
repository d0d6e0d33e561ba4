package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/proxy"
)

// policies are those of a listener: by name, without wildcards.
type policies map[string]string

func (p policies) Policy(name string) string {
	if v, ok := p[name]; ok {
		return v
	}
	return p["default.example"]
}

func (p policies) Has(name string) bool { _, ok := p[name]; return ok }

// TestMisdirected: which hosts may be asked for on which connection.
func TestMisdirected(t *testing.T) {
	p := policies{
		"default.example": "", "a.example": "", "b.example": "", "c.example": "",
		"m.example": "require:1", "n.example": "require:1", "o.example": "require:2",
	}
	l := &proxy.Listener{Secure: p}
	both := &x509.Certificate{DNSNames: []string{"a.example", "b.example"}}
	ms := &x509.Certificate{DNSNames: []string{"m.example", "n.example"}}
	def := &x509.Certificate{DNSNames: []string{"default.example"}}
	for _, tt := range []struct {
		sni    string
		leaf   *x509.Certificate
		policy string
		host   string
		want   bool
	}{
		{"a.example", both, "", "a.example", false},
		{"a.example", both, "", "a.example:8443", false},
		{"A.example.", both, "", "a.example", false},
		{"a.example", both, "", "b.example", false}, // coalesced
		{"a.example", both, "", "c.example", true},
		{"a.example", both, "", "m.example", true},
		{"a.example", both, "", "other.example", true},
		{"m.example", ms, "require:1", "m.example", false},
		{"m.example", ms, "require:1", "n.example", false},
		{"m.example", ms, "require:1", "o.example", true},
		{"m.example", ms, "require:1", "a.example", true},
		{"m.example", ms, "", "m.example", true}, // asked for since a reload
		{"", def, "", "a.example", false},        // no name, nothing that disagrees
		{"", def, "", "127.0.0.1:443", false},
		{"", def, "", "[::1]:443", false},
		{"", def, "", "m.example", true},
		{"x.example", def, "", "x.example", false},
		{"x.example", def, "", "y.example", false}, // both get the default
		{"x.example", def, "", "a.example", true},
		{"a.example", both, "", "", false}, // HTTP/1.0 without Host
		{"m.example", ms, "require:1", "", true},
	} {
		h := &exchange.Request{Authority: tt.host, Conn: &exchange.Conn{
			TLS: &tls.ConnectionState{ServerName: tt.sni}, Certificate: tt.leaf, ClientPolicy: tt.policy,
		}}
		if got := l.Misdirected(h); got != tt.want {
			t.Errorf("SNI %q with %q, host %q: got %v", tt.sni, tt.policy, tt.host, got)
		}
	}
	if l.Misdirected(&exchange.Request{Authority: "m.example", Conn: &exchange.Conn{}}) {
		t.Error("a connection without TLS has no certificate to disagree with")
	}
}

// TestUpgradeLocation: where requests without TLS are sent.
func TestUpgradeLocation(t *testing.T) {
	for _, tt := range []struct {
		scheme, host, target string
		port                 int
		want                 string
		ok                   bool
	}{
		{"http", "a.example", "/x?y", 443, "https://a.example/x?y", true},
		{"http", "a.example:80", "/", 443, "https://a.example/", true},
		{"http", "a.example:8080", "/", 8443, "https://a.example:8443/", true},
		{"http", "[::1]:80", "/", 8443, "https://[::1]:8443/", true},
		{"http", "a.example", "*", 443, "https://a.example", true},
		{"https", "a.example", "/", 443, "", true}, // a trusted proxy says so
		{"http", "", "/", 443, "", false},
	} {
		l := &proxy.Listener{Upgrade: func() int { return tt.port }}
		h := &exchange.Request{Scheme: tt.scheme, Authority: tt.host}
		h.SetTarget(tt.target, len(tt.target))
		if got, ok := l.UpgradeLocation(h); got != tt.want || ok != tt.ok {
			t.Errorf("%s://%s%s: got %q, %v; want %q", tt.scheme, tt.host, tt.target, got, ok, tt.want)
		}
	}
}
