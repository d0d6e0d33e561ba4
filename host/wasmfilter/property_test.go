package wasmfilter_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

// sinks end a chain of filters and forget what they get.
type (
	requestEnd  struct{}
	responseEnd struct{}
)

func (requestEnd) Head(*exchange.Request, bool) error   { return nil }
func (requestEnd) Data([]byte, bool) error              { return nil }
func (requestEnd) Trailer(*exchange.Fields) error       { return nil }
func (responseEnd) Head(*exchange.Response, bool) error { return nil }
func (responseEnd) Data([]byte, bool) error             { return nil }
func (responseEnd) Trailer(*exchange.Fields) error      { return nil }

type noEngine struct{}

func (noEngine) Answer(filter.Filter, *filter.Answer) error { return exchange.ErrAnswered }
func (noEngine) Abort(string)                               {}
func (noEngine) Fail(*exchange.Error)                       {}
func (noEngine) Reroute(bool)                               {}

// newExchange returns an exchange as an engine would make it.
func newExchange(tb testing.TB) *filter.Exchange {
	tb.Helper()
	remote := netip.MustParseAddrPort("192.0.2.7:5555")
	r := &exchange.Request{Method: "PUT", Scheme: "https", Length: 12, Conn: &exchange.Conn{
		ID: 9, Listener: "main", Remote: remote, RemoteAddr: remote.String(),
		Local: netip.MustParseAddrPort("[2001:db8::1]:443"), LocalAddr: "[2001:db8::1]:443",
	}}
	if err := r.ParseAuthority("api.example:8443"); err != nil {
		tb.Fatal(err)
	}
	if err := r.ParseTarget("/v1/x?a=b&c"); err != nil {
		tb.Fatal(err)
	}
	for _, f := range []exchange.Field{{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}, {Name: "user-agent", Value: "ua"}} {
		r.Fields.Add(f.Name, f.Value)
	}
	start := time.Unix(1700000000, 5).UTC()
	return &filter.Exchange{
		Context: context.Background(), Start: start, Finished: start.Add(3 * time.Second), RequestID: "rid",
		Request: r, ClientAddr: remote.Addr(), ClientIP: "192.0.2.7", Engine: noEngine{},
		Route: &filter.Route{Name: "api", Cluster: "only", Metadata: map[string]any{
			"auth": map[string]any{"issuer": "idp", "level": int64(2), "roles": []any{"a", "b"}, "on": true},
		}},
		Upstream: filter.Outcome{Cluster: "backend", Address: "10.0.0.1:9000", Attempts: 2, ConnectTime: time.Millisecond, FirstByteTime: 2 * time.Millisecond},
		BytesIn:  12, BytesOut: 34,
	}
}

// path returns the path that s writes with dots, unless it has separators already.
func path(s string) string {
	if strings.Contains(strings.TrimSuffix(s, "\x00"), "\x00") {
		return s
	}
	return strings.ReplaceAll(s, ".", "\x00")
}

// read renders a property for comparison.
func read(s host.Stream, p string) string {
	b, ok := s.Property([]byte("<"), path(p))
	if !ok {
		return "none"
	}
	b = b[1:]
	if n, is := abi.ParseInt(b); is && strings.ContainsRune(string(b), 0) {
		return fmt.Sprint(n)
	}
	return string(b)
}

// What a plugin sets does not read back as what the host knows.
func TestWellKnownPropertiesAreNotForged(t *testing.T) {
	x := newExchange(t)
	x.Request.Conn.TLS, x.Route, x.Upstream = nil, nil, filter.Outcome{}
	p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
		for _, name := range []string{
			"connection.uri_san_peer_certificate", "connection.requested_server_name", "request.auth.user", "source.principal",
			"response.code", "upstream.address", "cluster_name", "xds.cluster_name", "route_name", "xds.route_name",
			"route_metadata.filter_metadata.auth.issuer", "destination.labels", "xds.own",
		} {
			c.SetProperty(path(name), []byte("forged"))
			if got := read(c, name); got != "none" {
				t.Errorf("%s: got %q, want none", name, got)
			}
		}
		for _, name := range []string{"own", "own.name", "requests.own", "metadata.filter_metadata.auth.user"} {
			c.SetProperty(path(name), []byte("value"))
			if got := read(c, name); got != "value" {
				t.Errorf("%s: got %q, want what was set", name, got)
			}
		}
		return abi.Continue
	}}, fakeOptions{})
	f, err := p.New(x)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Request(requestEnd{}).Head(x.Request, true); err != nil {
		t.Error(err)
	}
	f.Close(nil)
}

func TestProperties(t *testing.T) {
	pairs := func(kv ...string) string {
		var p []abi.Pair
		for i := 0; i < len(kv); i += 2 {
			p = append(p, abi.Pair{Name: kv[i], Value: kv[i+1]})
		}
		return string(abi.AppendPairs(nil, p))
	}
	// {1: {1: "auth", 2: Struct{issuer, level, on, roles}}}, as protoc encodes it.
	metadata := "\x0aN\x0a\x04auth\x12F" +
		"\x0a\x0f\x0a\x06issuer\x12\x05\x1a\x03idp" + "\x0a\x12\x0a\x05level\x12\x09\x11" + string(abi.AppendDouble(nil, 2)) +
		"\x0a\x08\x0a\x02on\x12\x02\x20\x01" + "\x0a\x15\x0a\x05roles\x12\x0c\x32\x0a\x0a\x03\x1a\x01a\x0a\x03\x1a\x01b"
	tests := []struct{ path, request, response, log string }{
		{"request.path", "/v1/x?a=b&c", "", ""},
		{"request.url_path", "/v1/x", "", ""},
		{"request.query", "a=b&c", "", ""},
		{"request.host", "api.example:8443", "", ""},
		{"request.scheme", "https", "", ""},
		{"request.method", "PUT", "", ""},
		{"request.protocol", "HTTP/1.1", "", ""},
		{"request.headers.x-a", "1,2", "", ""},
		{"request.headers.X-A", "1,2", "", ""},
		{"request.headers.none", "none", "", ""},
		{"request.headers", pairs("x-a", "1", "x-a", "2", "user-agent", "ua"), "", ""},
		{"request.useragent", "ua", "", ""},
		{"request.referer", "none", "", ""},
		{"request.id", "rid", "", ""},
		{"request.time", fmt.Sprint(time.Unix(1700000000, 5).UnixNano()), "", ""},
		{"request.size", "12", "", ""},
		{"request.headers_bytes", fmt.Sprint(3 + 1 + 3 + 1 + 10 + 2 + 11 + 16 + 3 + 5), "", ""},
		{"request.total_size", "none", "none", fmt.Sprint(55 + 12)},
		{"request.duration", "none", "none", fmt.Sprint(int64(3 * time.Second))},
		{"request.nothing", "none", "", ""},
		{"request", "none", "", ""},
		{"response.code", "none", "404", "404"},
		{"response.code_details", "none", "none", "via_upstream"},
		{"response.headers.y", "none", "z", "z"},
		{"response.grpc_status", "none", "7", "7"},
		{"response.size", "none", "none", "34"},
		{"response.backend_latency", "none", fmt.Sprint(int64(2 * time.Millisecond)), "2000000"},
		{"response.flags", "none", "0", "0"},
		{"source.address", "192.0.2.7:5555", "", ""},
		{"source.port", "5555", "", ""},
		{"wproxy.client_address", "\xc0\x00\x02\x07", "", ""},
		{"destination.address", "[2001:db8::1]:443", "", ""},
		{"destination.port", "443", "", ""},
		{"connection.id", "9", "", ""},
		{"connection.mtls", "\x00", "", ""},
		{"connection.tls_version", "none", "", ""},
		{"connection_id", "9", "", ""},
		{"listener_direction", "1", "", ""},
		{"listener_name", "main", "", ""},
		{"route_name", "api", "", ""},
		{"xds.route_name", "api", "", ""},
		{"cluster_name", "only", "backend", "backend"},
		{"xds.cluster_name", "only", "backend", "backend"},
		{"upstream.address", "none", "10.0.0.1:9000", ""},
		{"upstream.port", "none", "9000", ""},
		{"upstream.cluster", "only", "backend", ""},
		{"upstream.attempts", "none", "2", ""},
		{"upstream.failure", "none", "", ""},
		{"upstream.connect_time", "none", "1000000", ""},
		{"route_metadata.filter_metadata.auth.issuer", "idp", "", ""},
		{"route_metadata.filter_metadata.auth.level", string(abi.AppendDouble(nil, 2)), "", ""},
		{"route_metadata.filter_metadata.auth.on", "\x01", "", ""},
		{"route_metadata.filter_metadata.auth.roles.1", "b", "", ""},
		{"route_metadata.filter_metadata.auth.roles.2", "none", "", ""},
		{"route_metadata.filter_metadata.auth.roles", pairs("a", "", "b", ""), "", ""},
		{"xds.route_metadata.filter_metadata.auth.issuer", "idp", "", ""},
		{"route_metadata.filter_metadata.auth.issuer.x", "none", "", ""},
		{"route_metadata", metadata, "", ""},
		{"xds.route_metadata", metadata, "", ""},
		{"route_metadata.filter_metadata", pairs("auth", pairs("issuer", "idp", "level", string(abi.AppendDouble(nil, 2)),
			"on", "\x01", "roles", pairs("a", "", "b", ""))), "", ""},
		{"route_metadata.other", "none", "", ""},
		{"xds.listener_direction", "1", "", ""},
		{"xds.node", "none", "", ""},
		{"xds.request.path", "none", "", ""},
		{"xds.mine", "none", "", ""},
		{"xds", "none", "", ""},
		{"node", "none", "", ""},
		{"node.metadata.NAMESPACE", "none", "", ""},
		{"upstream_host_metadata", "none", "", ""},
		{"connection.subject_peer_certificate", "none", "", ""},
		{"connection.requested_server_name", "none", "", ""},
		{"connection", "none", "", ""},
		{"filter_state.my.key", "none", "", ""},
		{"filter_state\x00my.key", "state", "", ""},
		{"filter_state\x00wasm.mine", "value", "", ""},
		{"filter_state", pairs("wasm.mine", "value", "wasm.mine\x00deep", "", "wasm.request\x00path", "not this", "my.key", "state"), "", ""},
		{"mine", "value", "", ""},
		{"mine.deep\x00", "", "", ""},
		{"", "none", "", ""},
	}
	check := func(phase string, s host.Stream) {
		for _, tt := range tests {
			want := tt.request
			if phase == "response" && tt.response != "" {
				want = tt.response
			}
			if phase == "log" && (tt.log != "" || tt.response != "") {
				if want = tt.log; want == "" {
					want = tt.response
				}
			}
			if tt.path == "upstream.failure" && phase != "request" {
				want = ""
			}
			// Doubles are 8 bytes, like integers.
			if len(want) == 8 {
				if n, ok := abi.ParseInt([]byte(want)); ok && strings.ContainsAny(want, "\x00") {
					want = fmt.Sprint(n)
				}
			}
			if got := read(s, tt.path); got != want {
				t.Errorf("%s: %q: got %q, want %q", phase, tt.path, got, want)
			}
		}
	}
	p := newPlugin("p", script{
		onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
			c.SetProperty("mine", []byte("value"))
			c.SetProperty("mine\x00deep", nil)
			c.SetProperty("request\x00path", []byte("not this"))
			c.SetProperty("filter_state\x00my.key", []byte("state"))
			check("request", c)
			return abi.Continue
		},
		onRespHeaders: func(c *call, _ int, _ bool) abi.Action { check("response", c); return abi.Continue },
		onLog:         func(c *call) { check("log", c) },
	}, fakeOptions{})
	x := newExchange(t)
	resp := &exchange.Response{Status: 404, Length: -1}
	resp.Fields.Add("y", "z")
	resp.Fields.Add("grpc-status", "7")
	run(t, p.Factory, x, resp)
}

// run takes x through a filter of f.
func run(t *testing.T, f filter.Factory, x *filter.Exchange, resp *exchange.Response) {
	t.Helper()
	g, err := f.New(x)
	if err != nil {
		t.Fatal(err)
	}
	req, back := g.Request(requestEnd{}), g.Response(responseEnd{})
	if err := req.Head(x.Request, true); err != nil {
		t.Fatal(err)
	}
	x.Response = resp
	if err := back.Head(resp, true); err != nil {
		t.Fatal(err)
	}
	g.Close(nil)
}

// The client behind a trusted proxy has an address but no port.
func TestSourceBehindProxy(t *testing.T) {
	var got string
	p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
		got = read(c, "source.address") + " " + read(c, "source.port")
		return abi.Continue
	}}, fakeOptions{})
	x := newExchange(t)
	x.ClientAddr = netip.MustParseAddr("2001:db8::7")
	run(t, p.Factory, x, &exchange.Response{Status: 200})
	if want := "[2001:db8::7]:0 0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The bag of properties is bounded, and later plugins see it.
func TestPropertyBag(t *testing.T) {
	p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
		for i := range 1000 {
			c.SetProperty(fmt.Sprintf("p%d", i), []byte("x"))
		}
		c.SetProperty("big", make([]byte, 1<<20))
		c.SetProperty("p0", []byte("again"))
		return abi.Continue
	}}, fakeOptions{})
	x := newExchange(t)
	run(t, p.Factory, x, &exchange.Response{Status: 200})
	if n := len(x.Props()); n != 64 {
		t.Errorf("properties: got %d, want 64", n)
	}
	if v, _ := x.Prop("p0"); string(v) != "again" {
		t.Errorf("p0: got %q", v)
	}
	if _, ok := x.Prop("big"); ok {
		t.Error("a property beyond the bound was kept")
	}
}

// Answers that core makes before the request side runs pass the response
// callbacks of all plugins.
func TestAnswersOfCore(t *testing.T) {
	p := newPlugin("p", script{onReqHeaders: pause, onRespHeaders: cont}, fakeOptions{})
	x := newExchange(t)
	g, err := p.New(x)
	if err != nil {
		t.Fatal(err)
	}
	g.Request(requestEnd{})
	if err := g.Response(responseEnd{}).Head(&exchange.Response{Status: 403}, true); err != nil {
		t.Fatal(err)
	}
	g.Close(nil)
	if got, want := p.log(), "response_headers log"; got != want {
		t.Errorf("callbacks: got %q, want %q", got, want)
	}
}

// A guest is in nobody's way where it has no callbacks.
func TestUnwrapped(t *testing.T) {
	tests := []struct {
		name              string
		script            script
		request, response bool // wrapped
		detached          bool
	}{
		{"none", script{}, false, false, false},
		{"response headers", script{onRespHeaders: cont}, false, true, true},
		{"request headers", script{onReqHeaders: cont}, true, true, true},
		{"response body", script{onRespBody: cont}, false, true, false},
		{"response trailers", script{onRespTrailers: contTrailers}, false, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlugin("p", tt.script, fakeOptions{})
			x := newExchange(t)
			g, err := p.New(x)
			if err != nil {
				t.Fatal(err)
			}
			req, resp := g.Request(requestEnd{}), g.Response(responseEnd{})
			if got := req != exchange.Sink[*exchange.Request](requestEnd{}); got != tt.request {
				t.Errorf("request wrapped: %v, want %v", got, tt.request)
			}
			if got := resp != exchange.Sink[*exchange.Response](responseEnd{}); got != tt.response {
				t.Errorf("response wrapped: %v, want %v", got, tt.response)
			}
			if tt.request {
				if err := req.Head(x.Request, false); err != nil || !req.(exchange.Detacher).Detached() {
					t.Errorf("request: %v, not detached", err)
				}
			}
			if tt.response {
				if err := resp.Head(&exchange.Response{Status: 200, Length: 5}, false); err != nil {
					t.Fatal(err)
				}
				if got := resp.(exchange.Detacher).Detached(); got != tt.detached {
					t.Errorf("detached: %v, want %v", got, tt.detached)
				}
			}
			g.Close(nil)
		})
	}
}

// What a connection with TLS tells of the client's certificate.
func TestPeerCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spiffe := &url.URL{Scheme: "spiffe", Host: "example.com", Path: "/a"}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client", Organization: []string{"Acme"}},
		DNSNames: []string{"c.example.com", "d.example.com"}, URIs: []*url.URL{spiffe},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	x := newExchange(t)
	x.Request.Conn.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, ServerName: "sni.example.com", PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	x.Request.Conn.Certificate = cert
	p := newPlugin("p", script{onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
		for name, want := range map[string]string{
			"mtls": "\x01", "requested_server_name": "sni.example.com", "tls_version": "TLSv1.3",
			"subject_peer_certificate": "CN=client,O=Acme", "dns_san_peer_certificate": "c.example.com",
			"uri_san_peer_certificate": spiffe.String(), "sha256_peer_certificate_digest": fmt.Sprintf("%x", sha256.Sum256(der)),
			"subject_local_certificate": "CN=client,O=Acme", "dns_san_local_certificate": "c.example.com", "uri_san_local_certificate": spiffe.String(),
		} {
			if got := read(c, "connection."+name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		escaped := read(c, "connection.peer_certificate")
		text, err := url.PathUnescape(escaped)
		block, _ := pem.Decode([]byte(text))
		if err != nil || block == nil || string(block.Bytes) != string(der) || strings.ContainsAny(escaped, "+/=\n ") {
			t.Errorf("peer_certificate: %v, %q", err, escaped)
		}
		if got := read(c, "upstream.tls_version"); got != "none" {
			t.Errorf("upstream.tls_version before there is an upstream: got %q", got)
		}
		return abi.Continue
	}, onRespHeaders: func(c *call, _ int, _ bool) abi.Action {
		for name, want := range map[string]string{
			"tls_version": "TLSv1.2", "subject_peer_certificate": "CN=client,O=Acme", "dns_san_peer_certificate": "c.example.com",
			"uri_san_peer_certificate": spiffe.String(), "sha256_peer_certificate_digest": fmt.Sprintf("%x", sha256.Sum256(der)),
			"subject_local_certificate": "none", "requested_server_name": "none",
		} {
			if got := read(c, "upstream."+name); got != want {
				t.Errorf("upstream.%s: got %q, want %q", name, got, want)
			}
		}
		return abi.Continue
	}}, fakeOptions{})
	x.Upstream.TLS = &tls.ConnectionState{Version: tls.VersionTLS12, PeerCertificates: []*x509.Certificate{cert}}
	run(t, p.Factory, x, &exchange.Response{Status: 200})
}
