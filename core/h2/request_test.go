package h2_test

import (
	"slices"
	"strings"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// get is what a good request begins with.
var get = []string{":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", "/"}

// list makes fields of pairs.
func list(pairs ...string) []exchange.Field {
	var l []exchange.Field
	for i := 0; i+1 < len(pairs); i += 2 {
		l = append(l, exchange.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return l
}

func with(more ...string) []string { return append(slices.Clip(get), more...) }

func TestRequest(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields []string
		body   bool
		status int
		reason string
		want   string // method, target, authority, length, fields
	}{
		{name: "plain", fields: get, want: "GET / a.example 0"},
		{name: "fields in order", fields: with("b", "1", "a", "2", "b", "3"), want: "GET / a.example 0 b=1 a=2 b=3"},
		{name: "any order of pseudo-fields", fields: []string{":path", "/x?y", ":method", "PUT", ":authority", "A.Example:80", ":scheme", "http"}, want: "PUT /x?y a.example:80 0"},
		{name: "scheme in any case", fields: []string{":method", "GET", ":scheme", "HTTP", ":authority", "a", ":path", "/"}, want: "GET / a 0"},
		{name: "canonical path", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/b/../%7e"}, want: "GET /~ a 0"},
		{name: "asterisk", fields: []string{":method", "OPTIONS", ":scheme", "http", ":authority", "a", ":path", "*"}, want: "OPTIONS * a 0"},
		{name: "host alone", fields: []string{":method", "GET", ":scheme", "http", ":path", "/", "host", "B.example"}, want: "GET / b.example 0"},
		{name: "host that agrees", fields: with("host", "A.EXAMPLE"), want: "GET / a.example 0"},
		{name: "host that agrees but for the dot", fields: with("host", "a.example."), want: "GET / a.example 0"},
		{name: "host that disagrees", fields: with("host", "b.example"), status: 400, reason: h2.ReasonHosts},
		{name: "host with another port", fields: with("host", "a.example:81"), status: 400, reason: h2.ReasonHosts},
		{name: "two hosts", fields: with("host", "a.example", "host", "a.example"), status: 400, reason: h2.ReasonRepeatedHost},
		{name: "empty host", fields: with("host", ""), status: 400, reason: h2.ReasonBadHost},
		{name: "no host", fields: []string{":method", "GET", ":scheme", "http", ":path", "/"}, status: 400, reason: h2.ReasonNoHost},
		{name: "empty authority", fields: []string{":method", "GET", ":scheme", "http", ":authority", "", ":path", "/"}, status: 400, reason: h2.ReasonNoHost},
		{name: "userinfo", fields: []string{":method", "GET", ":scheme", "http", ":authority", "u@a", ":path", "/"}, status: 400, reason: h2.ReasonBadHost},

		{name: "nothing", status: 400, reason: h2.ReasonPseudo},
		{name: "no method", fields: []string{":scheme", "http", ":authority", "a", ":path", "/"}, status: 400, reason: h2.ReasonPseudo},
		{name: "no scheme", fields: []string{":method", "GET", ":authority", "a", ":path", "/"}, status: 400, reason: h2.ReasonPseudo},
		{name: "no path", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a"}, status: 400, reason: h2.ReasonPseudo},
		{name: "empty path", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", ""}, status: 400, reason: h2.ReasonPseudo},
		{name: "repeated", fields: with(":path", "/"), status: 400, reason: h2.ReasonPseudo},
		{name: "unknown", fields: with(":foo", "x"), status: 400, reason: h2.ReasonPseudo},
		{name: "of a response", fields: with(":status", "200"), status: 400, reason: h2.ReasonPseudo},
		{name: "of extended CONNECT", fields: []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a", ":path", "/"}, status: 400, reason: h2.ReasonPseudo},
		{name: "behind a field", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", "x", "y", ":path", "/"}, status: 400, reason: h2.ReasonPseudo},
		{name: "all there, and one behind", fields: with("x", "y", ":path", "/z"), status: 400, reason: h2.ReasonPseudo},
		{name: "upper case pseudo-field", fields: []string{":Method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}, status: 400, reason: h2.ReasonPseudo},

		{name: "CONNECT", fields: []string{":method", "CONNECT", ":authority", "a:1"}, status: 501, reason: h2.ReasonConnect},
		{name: "method with a space", fields: []string{":method", "GET /evil", ":scheme", "http", ":authority", "a", ":path", "/"}, status: 400, reason: h2.ReasonBadMethod},
		{name: "method with CRLF", fields: []string{":method", "GET\r\n", ":scheme", "http", ":authority", "a", ":path", "/"}, status: 400, reason: h2.ReasonBadMethod},
		{name: "empty method", fields: []string{":method", "", ":scheme", "http", ":authority", "a", ":path", "/"}, status: 400, reason: h2.ReasonBadMethod},
		{name: "long method", fields: []string{":method", strings.Repeat("A", 33), ":scheme", "http", ":authority", "a", ":path", "/"}, status: 501, reason: h2.ReasonBadMethod},
		{name: "another scheme", fields: []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/"}, status: 400, reason: h2.ReasonScheme},
		{name: "scheme with CRLF", fields: []string{":method", "GET", ":scheme", "http\r\n", ":authority", "a", ":path", "/"}, status: 400, reason: h2.ReasonScheme},
		{name: "path with a space", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/ HTTP/1.1"}, status: 400, reason: h2.ReasonBadTarget},
		{name: "path with CRLF", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/\r\nx: y"}, status: 400, reason: h2.ReasonBadTarget},
		{name: "absolute path", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "http://b/"}, status: 400, reason: h2.ReasonBadTarget},
		{name: "long path", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/" + strings.Repeat("a", 32<<10)}, status: 414, reason: h2.ReasonTargetTooLong},

		{name: "upper case", fields: with("X-One", "1"), status: 400, reason: h2.ReasonBadField},
		{name: "empty name", fields: with("", "1"), status: 400, reason: h2.ReasonBadField},
		{name: "space in a name", fields: with("x one", "1"), status: 400, reason: h2.ReasonBadField},
		{name: "colon in a name", fields: with("x:one", "1"), status: 400, reason: h2.ReasonBadField},
		{name: "CRLF in a name", fields: with("x\r\ny", "1"), status: 400, reason: h2.ReasonBadField},
		{name: "high byte in a name", fields: with("x\xe9", "1"), status: 400, reason: h2.ReasonBadField},
		{name: "CRLF in a value", fields: with("x", "1\r\ny: 2"), status: 400, reason: h2.ReasonBadValue},
		{name: "NUL in a value", fields: with("x", "12345678\x00"), status: 400, reason: h2.ReasonBadValue},
		{name: "space before a value", fields: with("x", " 1"), status: 400, reason: h2.ReasonBadValue},
		{name: "tab behind a value", fields: with("x", "1\t"), status: 400, reason: h2.ReasonBadValue},
		{name: "other values", fields: with("x", "caf\xe9 \t y", "y", ""), want: "GET / a.example 0 x=caf\xe9 \t y y="},

		{name: "connection", fields: with("connection", "close"), status: 400, reason: h2.ReasonConnSpecific},
		{name: "transfer-encoding", fields: with("transfer-encoding", "chunked"), body: true, status: 400, reason: h2.ReasonConnSpecific},
		{name: "upgrade", fields: with("upgrade", "websocket"), status: 400, reason: h2.ReasonConnSpecific},
		{name: "keep-alive", fields: with("keep-alive", "1"), status: 400, reason: h2.ReasonConnSpecific},
		{name: "proxy-connection", fields: with("proxy-connection", "close"), status: 400, reason: h2.ReasonConnSpecific},
		{name: "te", fields: with("te", "trailers", "te", "trailers"), want: "GET / a.example 0 te=trailers"},
		{name: "other te", fields: with("te", "trailers, gzip"), status: 400, reason: h2.ReasonConnSpecific},
		{name: "hop by hop", fields: with("http2-settings", "x", "proxy-authorization", "x"), want: "GET / a.example 0"},
		{name: "trailer", fields: with("trailer", "x"), want: "GET / a.example 0 trailer=x"},

		{name: "cookies", fields: with("cookie", "a=1", "x", "y", "cookie", "b=2", "cookie", "c=3"), want: "GET / a.example 0 cookie=a=1; b=2; c=3 x=y"},
		{name: "length", fields: with("content-length", "5"), body: true, want: "GET / a.example 5 content-length=5"},
		{name: "no length", fields: get, body: true, want: "GET / a.example -1"},
		{name: "length of nothing", fields: with("content-length", "0"), want: "GET / a.example 0 content-length=0"},
		{name: "length without a body", fields: with("content-length", "5"), status: 400, reason: h2.ReasonWrongLength},
		{name: "two lengths", fields: with("content-length", "5", "content-length", "5"), body: true, status: 400, reason: h2.ReasonManyLengths},
		{name: "sign", fields: with("content-length", "+5"), body: true, status: 400, reason: h2.ReasonBadLength},
		{name: "list of lengths", fields: with("content-length", "5, 5"), body: true, status: 400, reason: h2.ReasonBadLength},
		{name: "empty length", fields: with("content-length", ""), body: true, status: 400, reason: h2.ReasonBadLength},
		{name: "huge length", fields: with("content-length", "9223372036854775808"), body: true, status: 400, reason: h2.ReasonBadLength},
		{name: "expect", fields: with("expect", "100-Continue"), body: true, want: "GET / a.example -1 expect"},
		{name: "expect without a body", fields: with("expect", "100-continue"), want: "GET / a.example 0"},
		{name: "other expectation", fields: with("expect", "x"), status: 417, reason: h2.ReasonBadExpect},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, status, reason := h2.ParseRequest(list(tt.fields...), "http", !tt.body)
			if status != tt.status || reason != tt.reason {
				t.Fatalf("got %d %s, want %d %s", status, reason, tt.status, tt.reason)
			}
			if got := describe(r); status == 0 && got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}
