package main

import (
	"slices"
	"strings"
	"testing"

	"wproxy/cmd/wproxy/internal/strict"
)

// with makes a GET /x with these field lines.
func with(lines ...string) string {
	return msg(append([]string{"GET /x HTTP/1.1", hostLine}, lines...)...)
}

// lineCases: the request line and what precedes it (RFC 9112 2.2, 3).
var lineCases = []hostileCase{
	{name: "two blanks", in: msg("GET  /x HTTP/1.1", hostLine), want: "400"},
	{name: "two blanks before the version", in: msg("GET /x  HTTP/1.1", hostLine), want: "400"},
	{name: "tab", in: msg("GET\t/x HTTP/1.1", hostLine), want: "400"},
	{name: "leading blank", in: msg(" GET /x HTTP/1.1", hostLine), want: "400"},
	{name: "blank at the end", in: msg("GET /x HTTP/1.1 ", hostLine), want: "400"},
	{name: "a fourth part", in: msg("GET /x HTTP/1.1 HTTP/1.1", hostLine), want: "400"},
	{name: "no method", in: msg(" /x HTTP/1.1", hostLine), want: "400"},
	{name: "method is no token", in: msg("G(ET /x HTTP/1.1", hostLine), want: "400"},
	{name: "NUL in the method", in: msg("G\x00ET /x HTTP/1.1", hostLine), want: "400"},
	{name: "long method", in: msg(strings.Repeat("A", 9000)+" /x HTTP/1.1", hostLine), want: "400|414|501"},
	{name: "no version", in: "GET /x\r\n\r\n", want: "400|505"},
	{name: "HTTP/0.9", in: msg("GET /x HTTP/0.9", hostLine), want: "400|505"},
	{name: "HTTP/2.0", in: msg("GET /x HTTP/2.0", hostLine), want: "505"},
	{name: "HTTP/1.10", in: msg("GET /x HTTP/1.10", hostLine), want: "400|505"},
	{name: "HTTP/01.1", in: msg("GET /x HTTP/01.1", hostLine), want: "400|505"},
	{name: "version in lower case", in: msg("GET /x http/1.1", hostLine), want: "400|505"},
	{name: "another protocol", in: msg("GET /x RTSP/1.1", hostLine), want: "400|505"},
	{name: "preface of HTTP/2", in: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", want: "400|505"},
	{name: "LF ends the request line", in: "GET /x HTTP/1.1\nHost: a.test\r\n\r\n", want: "400"},
	{name: "LF ends all lines", in: "GET /x HTTP/1.1\nHost: a.test\n\n", want: "400"},
	{name: "CR ends the request line", in: "GET /x HTTP/1.1\rHost: a.test\r\n\r\n", want: "400"},
	{name: "CR CR LF", in: "GET /x HTTP/1.1\r\r\nHost: a.test\r\n\r\n", want: "400"},
	{name: "CR in the target", in: "GET /x\r/y HTTP/1.1\r\nHost: a.test\r\n\r\n", want: "400"},
	{name: "one leading CRLF", in: "\r\n" + with() + second, want: "200 200", seen: []string{"GET /x", "GET /second"}, keeps: true},
	{name: "a leading CRLF before the second", in: with() + "\r\n" + second, want: "200 200", seen: []string{"GET /x", "GET /second"}, keeps: true},
	{name: "many leading CRLFs", in: strings.Repeat("\r\n", 20) + with(), want: "400"},
	{name: "leading LF", in: "\n" + with(), want: "400"},
	{name: "leading CR", in: "\r" + with(), want: "400"},
	{name: "a ClientHello", in: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x7f", 32) + "\r\n\r\n", want: "400"},
	{name: "bytes only", in: "\x00\x00\x00\x00\r\n\r\n", want: "400"},
	{name: "long target", in: msg("GET /"+strings.Repeat("a", 100_000)+" HTTP/1.1", hostLine), want: "414|431"},
}

// targetCases: the target and its path (RFC 9112 3.2, RFC 3986 6.2.2).
var targetCases = []hostileCase{
	{name: "absolute form", in: msg("GET http://a.test/x?y HTTP/1.1", hostLine), want: "200", seen: []string{"GET /x?y"}, keeps: true},
	{name: "absolute form replaces Host", in: msg("GET http://a.test/x HTTP/1.1", "Host: evil.test"), want: "200|400", seen: []string{"GET /x"}, check: hostIs("a.test")},
	{name: "absolute form without a path", in: msg("GET http://a.test HTTP/1.1", hostLine), want: "200", seen: []string{"GET /"}, keeps: true},
	{name: "absolute form with a query and no path", in: msg("GET http://a.test?q HTTP/1.1", hostLine), want: "200|400", seen: []string{"GET /?q"}},
	{name: "absolute form with userinfo", in: msg("GET http://u:p@a.test/x HTTP/1.1", hostLine), want: "400"},
	{name: "absolute form without a host", in: msg("GET http:///x HTTP/1.1", hostLine), want: "400"},
	{name: "absolute form without slashes", in: msg("GET http:a.test/x HTTP/1.1", hostLine), want: "400"},
	{name: "another scheme", in: msg("GET ftp://a.test/x HTTP/1.1", hostLine), want: "400"},
	{name: "asterisk with GET", in: msg("GET * HTTP/1.1", hostLine), want: "400"},
	{name: "asterisk and more", in: msg("OPTIONS *x HTTP/1.1", hostLine), want: "400"},
	{name: "asterisk with OPTIONS", in: msg("OPTIONS * HTTP/1.1", hostLine), want: "200", seen: []string{"OPTIONS *"}, keeps: true},
	{name: "CONNECT", in: msg("CONNECT a.test:443 HTTP/1.1", "Host: a.test:443") + smuggled, want: "400|405|501"},
	{name: "CONNECT with a path", in: msg("CONNECT /x HTTP/1.1", hostLine), want: "400|405|501"},
	{name: "authority form with GET", in: msg("GET a.test:80 HTTP/1.1", hostLine), want: "400"},
	{name: "relative", in: msg("GET x HTTP/1.1", hostLine), want: "400"},
	{name: "fragment", in: msg("GET /x#y HTTP/1.1", hostLine), want: "400"},
	{name: "control byte", in: msg("GET /x\x01 HTTP/1.1", hostLine), want: "400"},
	{name: "NUL", in: msg("GET /x\x00 HTTP/1.1", hostLine), want: "400"},
	{name: "DEL", in: msg("GET /x\x7f HTTP/1.1", hostLine), want: "400"},
	{name: "raw UTF-8", in: msg("GET /\xc3\xa4 HTTP/1.1", hostLine), want: "400"},
	{name: "raw UTF-8 in the query", in: msg("GET /x?\xc3\xa4 HTTP/1.1", hostLine), want: "400"},
	{name: "dot segments", in: msg("GET /a/./b/../c HTTP/1.1", hostLine), want: "200", seen: []string{"GET /a/c"}, keeps: true},
	{name: "dot segments above the root", in: msg("GET /../../etc HTTP/1.1", hostLine), want: "200|400", seen: []string{"GET /etc"}},
	{name: "encoded dot segments", in: msg("GET /a/%2e%2E/b HTTP/1.1", hostLine), want: "200", seen: []string{"GET /b"}, keeps: true},
	// The door that is denied stays closed, however it is spelt.
	{name: "dot segments to what is denied", in: msg("GET /x/../denied HTTP/1.1", hostLine), want: "403", local: true},
	{name: "escapes of what is denied", in: msg("GET /%64enie%64 HTTP/1.1", hostLine), want: "403", local: true},
	{name: "encoded dot segments to what is denied", in: msg("GET /x/%2e%2e/denied HTTP/1.1", hostLine), want: "403", local: true},
	{name: "absolute form of what is denied", in: msg("GET http://A.TEST/denied HTTP/1.1", "Host: b.test"), want: "403|400", local: true},
	{name: "encoded twice", in: msg("GET /%252e%252e/b HTTP/1.1", hostLine), want: "200", seen: []string{"GET /%252e%252e/b"}, keeps: true},
	{name: "encoded slash", in: msg("GET /a%2fb HTTP/1.1", hostLine), want: "400", local: true},
	{name: "encoded backslash", in: msg("GET /a%5cb HTTP/1.1", hostLine), want: "400", local: true},
	{name: "encoded NUL", in: msg("GET /a%00b HTTP/1.1", hostLine), want: "400", local: true},
	{name: "backslash", in: msg("GET /a\\..\\b HTTP/1.1", hostLine), want: "400"},
	{name: "encoded CRLF", in: msg("GET /a%0d%0aX:%20y HTTP/1.1", hostLine), want: "200|400", seen: []string{"GET /a%0D%0AX:%20y"}},
	{name: "bad escape", in: msg("GET /%zz HTTP/1.1", hostLine), want: "400"},
	{name: "cut escape", in: msg("GET /%4 HTTP/1.1", hostLine), want: "400"},
	{name: "empty segments are kept", in: msg("GET //evil.test//x HTTP/1.1", hostLine), want: "200", seen: []string{"GET //evil.test//x"}, keeps: true},
}

// hostCases: the Host field (RFC 9110 7.2, RFC 9112 3.2).
var hostCases = func() []hostileCase {
	cases := []hostileCase{
		{name: "no host", in: "GET /x HTTP/1.1\r\n\r\n", want: "400"},
		{name: "two hosts", in: msg("GET /x HTTP/1.1", hostLine, "Host: b.test"), want: "400"},
		{name: "the same host twice", in: msg("GET /x HTTP/1.1", hostLine, hostLine), want: "400"},
		{name: "blank before the colon of Host", in: msg("GET /x HTTP/1.1", "Host : a.test"), want: "400"},
		{name: "folded host", in: msg("GET /x HTTP/1.1", "Host: a\r\n .test"), want: "400"},
		{name: "host in upper case", in: msg("GET /x HTTP/1.1", "Host: A.TEST"), want: "200", seen: []string{"GET /x"}, keeps: true, check: hostIs("a.test")},
		{name: "HTTP/1.0 without a host", in: "GET /x HTTP/1.0\r\n\r\n", want: "400|404", local: true},
		{name: "two hosts in HTTP/1.0", in: "GET /x HTTP/1.0\r\nHost: a.test\r\nHost: b.test\r\n\r\n", want: "400"},
		{name: "no host, but an absolute target", in: "GET http://a.test/x HTTP/1.1\r\n\r\n", want: "400"},
	}
	for name, value := range map[string]string{
		"empty": "", "blank": "a b", "path": "a.test/x", "list": "a.test, b.test", "userinfo": "u@a.test", "query": "a.test?x",
		"fragment": "a.test#x", "port is a word": "a.test:http", "port out of range": "a.test:65536", "negative port": "a.test:-1",
		"two ports": "a.test:80:80", "open bracket": "[::1", "bracket and more": "[::1]x", "no address in brackets": "[a.test]",
		"NUL": "a\x00.test", "control byte": "a\x01.test", "raw UTF-8": "\xc3\xa4.test", "scheme": "http://a.test", "backslash": "a.test\\x",
		"only a port": ":80", "quote": "\"a.test\"", "two dots": "a..test", "percent": "a%2etest", "zone": "[fe80::1%25eth0]",
	} {
		cases = append(cases, hostileCase{name: name, in: msg("GET /x HTTP/1.1", "Host: "+value), want: "400"})
	}
	slices.SortFunc(cases, func(a, b hostileCase) int { return strings.Compare(a.name, b.name) })
	return cases
}()

// fieldCases: field lines (RFC 9110 5, RFC 9112 5).
var fieldCases = []hostileCase{
	{name: "blank before the colon", in: with("X-A : b"), want: "400"},
	{name: "tab before the colon", in: with("X-A\t: b"), want: "400"},
	{name: "folded with a blank", in: with("X-A: b\r\n c"), want: "400"},
	{name: "folded with a tab", in: with("X-A: b\r\n\tc"), want: "400"},
	{name: "blank before the first field", in: msg("GET /x HTTP/1.1", " X-A: b", hostLine), want: "400"},
	{name: "empty name", in: with(": b"), want: "400"},
	{name: "no colon", in: with("X-A"), want: "400"},
	{name: "name is no token", in: with("X(A): b"), want: "400"},
	{name: "name with a quote", in: with("X\"A: b"), want: "400"},
	{name: "name with UTF-8", in: with("X-\xc3\xa4: b"), want: "400"},
	{name: "name with NUL", in: with("X-\x00A: b"), want: "400"},
	{name: "NUL in the value", in: with("X-A: b\x00c"), want: "400"},
	{name: "CR in the value", in: with("X-A: b\rc"), want: "400"},
	{name: "LF in the value", in: with("X-A: b\nX-C: d"), want: "400"},
	{name: "LF before the last line", in: "GET /x HTTP/1.1\r\nHost: a.test\n\r\n", want: "400"},
	{name: "CR CR LF after a field", in: "GET /x HTTP/1.1\r\nHost: a.test\r\r\n\r\n", want: "400"},
	{name: "LF ends the head", in: "GET /x HTTP/1.1\r\nHost: a.test\r\n\n" + smuggled, want: "400"},
	{name: "control byte", in: with("X-A: b\x01c"), want: "400"},
	{name: "DEL", in: with("X-A: b\x7fc"), want: "400"},
	{name: "obs-text is passed on", in: with("X-A: \xe4\xf6"), want: "200|400", seen: []string{"GET /x"}},
	{name: "one field above the limit of bytes", in: with("X-A: " + strings.Repeat("a", 70_000)), want: "431"},
	{name: "many fields above the limit of bytes", in: with(slices.Repeat([]string{"X-A: " + strings.Repeat("a", 1000)}, 100)...), want: "431"},
	{name: "too many fields", in: with(slices.Repeat([]string{"X: 1"}, 300)...), want: "431"},
	{name: "a name without an end", in: "GET /x HTTP/1.1\r\nHost: a.test\r\n" + strings.Repeat("a", 70_000), want: "431|400"},
}

// hopCases: what belongs to one connection ends with it (RFC 9110 7.6.1, 7.8).
var hopCases = []hostileCase{
	{name: "nominated field", in: with("Connection: x-secret, close", "X-Secret: 1", "X-Kept: 1"), want: "200", seen: []string{"GET /x"}, check: fields("x-secret", absent, "x-kept", "1")},
	{name: "nominated in a second line", in: with("Connection: keep-alive", "Connection: X-SECRET", "X-Secret: 1"), want: "200", seen: []string{"GET /x"}, keeps: true, check: fields("x-secret", absent)},
	{name: "nominated framing", in: post(smuggled+second, "Connection: content-length", "Content-Length: 40"), want: "200 200", seen: []string{"POST /x " + smuggled, "GET /second"}, keeps: true},
	{name: "nominated coding", in: post("28\r\n"+smuggled+"\r\n0\r\n\r\n"+second, "Connection: transfer-encoding", "Transfer-Encoding: chunked"), want: "200 200", seen: []string{"POST /x " + smuggled, "GET /second"}, keeps: true},
	{name: "nominated host", in: with("Connection: host"), want: "200|400", seen: []string{"GET /x"}, check: hostIs("a.test")},
	{name: "nominated x-forwarded-for", in: with("Connection: x-forwarded-for, x-forwarded-proto, x-request-id"), want: "200", seen: []string{"GET /x"}, keeps: true, check: fields("x-forwarded-for", "127.0.0.1", "x-forwarded-proto", "http", "x-request-id", present)},
	{name: "keep-alive and proxy-connection", in: with("Keep-Alive: timeout=5", "Proxy-Connection: keep-alive"), want: "200", seen: []string{"GET /x"}, keeps: true},
	{name: "proxy-authorization", in: with("Proxy-Authorization: Basic eA=="), want: "200", seen: []string{"GET /x"}, keeps: true, check: fields("proxy-authorization", absent)},
	{name: "te", in: with("TE: gzip;q=1, trailers", "Connection: TE"), want: "200", seen: []string{"GET /x"}, keeps: true},
	{name: "upgrade to h2c", in: with("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), want: "200", seen: []string{"GET /x"}, check: fields("upgrade", absent, "http2-settings", absent)},
	{name: "upgrade to h2c and another", in: with("Connection: upgrade", "Upgrade: h2c, websocket"), want: "200|400", seen: []string{"GET /x"}},
	{name: "http2-settings alone", in: with("HTTP2-Settings: AAMAAABkAAQAAP__"), want: "200", seen: []string{"GET /x"}, keeps: true},
	{name: "upgrade that is not nominated", in: with("Upgrade: websocket"), want: "200", seen: []string{"GET /x"}, keeps: true, check: fields("upgrade", absent)},
	// The origin answers 200: the upgrade is refused and the next bytes are the next request.
	{name: "refused upgrade", in: with("Connection: upgrade", "Upgrade: websocket") + second, want: "200 200", seen: []string{"GET /x", "GET /second"}},
	{name: "refused upgrade with a body", in: post("hello"+second, "Connection: upgrade", "Upgrade: websocket", "Content-Length: 5"), want: "200|400 200|none", seen: []string{"POST /x hello", "GET /second"}},
	{name: "upgrade in HTTP/1.0", in: "GET /x HTTP/1.0\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", want: "200", seen: []string{"GET /x"}, check: fields("upgrade", absent)},
	{name: "expectation", in: post("hello", "Expect: 100-continue", "Content-Length: 5"), want: "200", seen: []string{"POST /x hello"}, keeps: true},
	{name: "expectation without a body", in: with("Expect: 100-continue"), want: "200", seen: []string{"GET /x"}, keeps: true},
	{name: "unknown expectation", in: with("Expect: 200-ok"), want: "417|200|400", seen: []string{"GET /x"}, check: fields("expect", absent)},
	{name: "connection is no list", in: with("Connection: a b(c"), want: "200|400", seen: []string{"GET /x"}},
	{name: "very many nominations", in: with("Connection: "+strings.Repeat("a,", 20_000)+"x-secret", "X-Secret: 1"), want: "200|400|431", seen: []string{"GET /x"}, check: fields("x-secret", absent)},
}

// trustCases: what an untrusted client says about others (RFC 7239).
var trustCases = []hostileCase{
	{name: "x-forwarded", in: with("X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test"), want: "200", seen: []string{"GET /x"}, keeps: true, check: fields("x-forwarded-for", "127.0.0.1", "x-forwarded-proto", "http", "x-forwarded-host", not("evil.test"))},
	{name: "several x-forwarded-for", in: with("X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 10.0.0.2"), want: "200", seen: []string{"GET /x"}, keeps: true, check: fields("x-forwarded-for", "127.0.0.1")},
	{name: "underscore twins", in: with("X_Forwarded_For: 10.0.0.1", "X-Forwarded_Proto: https", "X_Real_IP: 10.0.0.1", "x_forwarded-host: evil.test"), want: "200|400", seen: []string{"GET /x"}, check: fields("x_forwarded_for", absent, "x-forwarded_proto", absent, "x_real_ip", absent, "x_forwarded-host", absent)},
	{name: "forwarded", in: with("Forwarded: for=10.0.0.1;host=evil.test"), want: "200", seen: []string{"GET /x"}, keeps: true, check: fields("forwarded", not("evil.test"))},
	{name: "x-real-ip", in: with("X-Real-IP: 10.0.0.1"), want: "200", seen: []string{"GET /x"}, keeps: true, check: fields("x-real-ip", not("10.0.0.1"))},
	{name: "x-forwarded-port and others", in: with("X-Forwarded-Port: 443", "X-Forwarded-Server: evil.test", "X-Forwarded-Prefix: /evil"), want: "200", seen: []string{"GET /x"}, keeps: true, check: fields("x-forwarded-port", not("443"), "x-forwarded-server", not("evil.test"), "x-forwarded-prefix", not("/evil"))},
}

// What fields may expect of a value besides the value itself.
const (
	absent  = "\x00absent"
	present = "\x00present"
)

// not expects any value, or none, that does not contain s.
func not(s string) string { return "\x00not" + s }

// fields returns a check of the first request's fields: name, expectation,
// name, expectation...
func fields(pairs ...string) func(t *testing.T, r *strict.Request) {
	return func(t *testing.T, r *strict.Request) {
		t.Helper()
		for p := range slices.Chunk(pairs, 2) {
			name, want, got := p[0], p[1], strings.Join(r.Fields.All(p[0]), ", ")
			has := len(r.Fields.All(name)) > 0
			unwanted, isNot := strings.CutPrefix(want, "\x00not")
			ok := got == want
			switch {
			case want == absent:
				ok = !has
			case want == present:
				ok = has
			case isNot:
				ok = !strings.Contains(got, unwanted)
			}
			if !ok {
				t.Errorf("the origin sees %s: %q, want %q", name, got, want)
			}
		}
	}
}

// hostIs returns a check of the host that the origin sees.
func hostIs(want string) func(t *testing.T, r *strict.Request) { return fields("host", want) }
