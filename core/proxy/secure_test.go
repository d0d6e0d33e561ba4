package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"slices"
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

// TestRepickNeedsCertificate: a plugin that chooses another host is no way around what
// that host asks of clients; one that asks for nothing may be chosen, it may be the upstream's.
func TestRepickNeedsCertificate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		host   string
		status int
		reason string
	}{
		{"m.example", 421, "misdirected"},
		{"c.example", 200, ""},
		{"inner.local", 200, ""},
	} {
		_, filters := chain(func(a, _, _ *probe) {
			a.head = func(f *probeFilter, h *exchange.Request, end bool) error {
				h.Authority = tt.host
				return f.req.Head(h, end)
			}
		})
		e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Filters = filters }})
		e.snapshot.Listeners[0].Secure = policies{"default.example": "", "a.example.com": "", "c.example": "", "m.example": "require:1"}
		c := newClient("GET", "/")
		c.req.Conn.TLS = &tls.ConnectionState{ServerName: "a.example.com"}
		e.do(c)
		e.wantStatus(c, tt.status, tt.reason)
	}
}

// TestAtDoor: what is answered before a route is found, in this order.
func TestAtDoor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, target, location, body string
		status                       int
		reason                       string
		tls                          bool
	}{
		{name: "redirect", target: "/x?y", status: 308, location: "https://a.example.com:8443/x?y"},
		{name: "challenge", target: "/.well-known/acme-challenge/t", status: 200, body: "t.key", reason: "acme_challenge"},
		{name: "another token", target: "/.well-known/acme-challenge/u", status: 308, location: "https://a.example.com:8443/.well-known/acme-challenge/u"},
		{name: "challenge over TLS", target: "/.well-known/acme-challenge/t", status: 200, body: "t.key", reason: "acme_challenge", tls: true},
	} {
		e := newEngine(t, &origin{}, config{})
		l := e.snapshot.Listeners[0]
		l.Upgrade = func() int { return 8443 }
		e.Proxy = proxy.New(proxy.Options{Metrics: e.metrics, Challenge: func(host, path string) (string, bool) {
			return "t.key", host == "a.example.com" && path == "/.well-known/acme-challenge/t"
		}}, e.snapshot)
		c := newClient("GET", tt.target)
		if tt.tls {
			c.req.Conn.TLS = &tls.ConnectionState{}
		}
		e.do(c)
		e.wantStatus(c, tt.status, tt.reason)
		if got := c.fields.Value("location"); got != tt.location {
			t.Errorf("%s: location %q, want %q", tt.name, got, tt.location)
		}
		if tt.body != "" && c.got.String() != tt.body {
			t.Errorf("%s: body %q", tt.name, c.got.String())
		}
		if n := len(e.origin.streams); n != 0 {
			t.Errorf("%s: the upstream was asked", tt.name)
		}
	}
}

// TestCertFields: upstreams are told by us who a client is, and by nobody else.
func TestCertFields(t *testing.T) {
	t.Parallel()
	cert := &x509.Certificate{Raw: []byte("x"), SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "me"}}
	for _, tt := range []struct {
		name       string
		send, drop bool
		identity   *exchange.Identity
		want       string
	}{
		{"not asked for", false, false, nil, "CN=forged"},
		{"on another listener", false, true, exchange.NewIdentity(cert), ""},
		{"nobody", true, true, nil, ""},
		{"somebody", true, true, exchange.NewIdentity(cert), "CN=me"},
	} {
		e := newEngine(t, &origin{}, config{trust: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}) // trusted or not
		e.snapshot.Listeners[0].CertFields, e.snapshot.Listeners[0].DropCertFields = tt.send, tt.drop
		c := newClient("GET", "/").with("x-client-cert-subject", "CN=forged")
		c.req.Conn.Identity = tt.identity
		e.do(c)
		if got := e.origin.streams[0].head.Fields.Value("x-client-cert-subject"); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestForgedTrailer: what only we may say of a client cannot be said in a trailer either: there
// are upstreams that do not tell trailers from heads.
func TestForgedTrailer(t *testing.T) {
	t.Parallel()
	for _, drop := range []bool{false, true} {
		e := newEngine(t, &origin{}, config{trust: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
		e.snapshot.Listeners[0].DropCertFields = drop
		c := newClient("POST", "/").sending("hello")
		c.trailer = new(exchange.Fields)
		for _, name := range []string{"client-cert", "x-client-cert-subject", "x_client_cert_subject", "x-forwarded-for", "x_forwarded_for", "forwarded", "x-real-ip", "x-sum"} {
			c.trailer.Add(name, "forged")
		}
		e.do(c)
		var got []string
		for _, f := range e.origin.streams[0].trailed {
			got = append(got, f.Name)
		}
		want := []string{"x-sum"}
		if !drop {
			want = []string{"client-cert", "x-client-cert-subject", "x_client_cert_subject", "x-sum"}
		}
		if !slices.Equal(got, want) {
			t.Errorf("dropping %v: the upstream got %v, want %v", drop, got, want)
		}
	}
}
