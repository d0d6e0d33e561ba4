package strict_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"wproxy/cmd/wproxy/internal/strict"
)

func isViolation(err error) bool {
	var v *strict.Violation
	return errors.As(err, &v)
}

const host = "Host: a.test\r\n"

func TestReadRequestAccepts(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"no body", "GET /a HTTP/1.1\r\n" + host + "\r\n", "GET /a"},
		{"length", "POST /a?b=/%zz HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello", "POST /a?b=/%zz hello"},
		{"chunks", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "POST / hello"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "OPTIONS *"},
		{"upgrade", "GET / HTTP/1.1\r\n" + host + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET /"},
		{"escapes", "GET /%2F%0D%7B HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET /%2F%0D%7B"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := strict.NewReader(strings.NewReader(c.in + c.in))
			for range 2 { // the second starts where the first has ended
				req, err := r.ReadRequest()
				if err != nil {
					t.Fatal(err)
				}
				if got := req.String(); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			}
			if _, err := r.ReadRequest(); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: got %v, want EOF", err)
			}
			for n := 1; n < len(c.in); n++ {
				_, err := strict.NewReader(strings.NewReader(c.in[:n])).ReadRequest()
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("cut after %d bytes: got %v, want an unexpected EOF", n, err)
				}
			}
		})
	}
}

// get makes a GET with more header lines.
func get(lines string) string { return "GET / HTTP/1.1\r\n" + host + lines + "\r\n" }

func TestReadRequestRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"two blanks":           "GET  / HTTP/1.1\r\n" + host + "\r\n",
		"1.0":                  "GET / HTTP/1.0\r\n" + host + "\r\n",
		"bare LF":              "GET / HTTP/1.1\n" + host + "\r\n",
		"bare CR":              "GET / HTTP/1.1\r\n" + host + "a: b\rc: d\r\n\r\n",
		"leading CRLF":         "\r\nGET / HTTP/1.1\r\n" + host + "\r\n",
		"method":               "G@T / HTTP/1.1\r\n" + host + "\r\n",
		"absolute":             "GET http://a.test/ HTTP/1.1\r\n" + host + "\r\n",
		"asterisk":             "GET * HTTP/1.1\r\n" + host + "\r\n",
		"dot segment":          "GET /a/../b HTTP/1.1\r\n" + host + "\r\n",
		"dot segment at end":   "GET /a/.. HTTP/1.1\r\n" + host + "\r\n",
		"encoded dot":          "GET /%2E%2E/b HTTP/1.1\r\n" + host + "\r\n",
		"encoded NUL":          "GET /%00 HTTP/1.1\r\n" + host + "\r\n",
		"lower-case escape":    "GET /%2f HTTP/1.1\r\n" + host + "\r\n",
		"bad escape":           "GET /%2 HTTP/1.1\r\n" + host + "\r\n",
		"backslash":            "GET /a\\b HTTP/1.1\r\n" + host + "\r\n",
		"fragment":             "GET /a?b#c HTTP/1.1\r\n" + host + "\r\n",
		"no host":              "GET / HTTP/1.1\r\n\r\n",
		"two hosts":            get(host),
		"host in upper case":   "GET / HTTP/1.1\r\nHost: A.test\r\n\r\n",
		"host list":            "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
		"host port":            "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
		"blank before colon":   get("a : b\r\n"),
		"no name":              get(": b\r\n"),
		"no colon":             get("a\r\n"),
		"folding":              get("a: b\r\n c\r\n"),
		"NUL":                  get("a: b\x00\r\n"),
		"both framings":        get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
		"two lengths":          get("Content-Length: 5\r\nContent-Length: 5\r\n"),
		"length list":          get("Content-Length: 5, 5\r\n"),
		"signed length":        get("Content-Length: +5\r\n"),
		"empty length":         get("Content-Length:\r\n"),
		"overflow":             get("Content-Length: 18446744073709551621\r\n"),
		"coding":               get("Transfer-Encoding: gzip, chunked\r\n"),
		"hop by hop":           get("Keep-Alive: 5\r\n"),
		"nominated":            get("Connection: x-a\r\n"),
		"upgrade alone":        get("Upgrade: websocket\r\n"),
		"upgrade h2c":          get("Connection: upgrade\r\nUpgrade: h2c\r\n"),
		"te":                   get("TE: gzip\r\n"),
		"chunk extension":      get("Transfer-Encoding: chunked\r\n") + "1;a\r\nx\r\n0\r\n\r\n",
		"chunk size":           get("Transfer-Encoding: chunked\r\n") + "0x1\r\nx\r\n0\r\n\r\n",
		"chunk too long":       get("Transfer-Encoding: chunked\r\n") + "1\r\nxy\r\n0\r\n\r\n",
		"chunk LF":             get("Transfer-Encoding: chunked\r\n") + "1\nx\r\n0\r\n\r\n",
		"framing in a trailer": get("Transfer-Encoding: chunked\r\n") + "0\r\nContent-Length: 5\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := strict.NewReader(strings.NewReader(in)).ReadRequest(); !isViolation(err) {
				t.Errorf("got %v, want a violation", err)
			}
		})
	}
}

func TestReadResponse(t *testing.T) {
	const date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	for _, c := range []struct {
		name, method, in string
		status           int
		body             string
		violation, cut   bool
	}{
		{name: "length", in: "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		{name: "interim", in: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 \r\n" + date + "Content-Length: 0\r\n\r\n", status: 200},
		{name: "HEAD", method: "HEAD", in: "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 2\r\n\r\n", status: 200},
		{name: "304", in: "HTTP/1.1 304 Not Modified\r\n" + date + "Content-Length: 2\r\n\r\n", status: 304},
		{name: "close", in: "HTTP/1.1 200 OK\r\n" + date + "Connection: close\r\n\r\nok", status: 200, body: "ok"},
		{name: "short", in: "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 3\r\n\r\nok", status: 200, body: "ok", cut: true},
		{name: "short chunk", in: "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", status: 200, body: "ok", cut: true},
		{name: "no end", in: "HTTP/1.1 200 OK\r\n" + date + "\r\nok", status: 200, violation: true},
		{name: "no date", in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", status: 200, violation: true},
		{name: "204 with length", in: "HTTP/1.1 204 No Content\r\n" + date + "Content-Length: 0\r\n\r\n", status: 204, violation: true},
		{name: "status", in: "HTTP/1.1 2000 OK\r\n\r\n", violation: true},
		{name: "no reason's blank", in: "HTTP/1.1 200\r\n\r\n", violation: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, err := strict.NewReader(strings.NewReader(c.in)).ReadResponse(c.method)
			if isViolation(err) != c.violation || errors.Is(err, io.ErrUnexpectedEOF) != c.cut {
				t.Errorf("got error %v, want violation %v, cut %v", err, c.violation, c.cut)
			}
			if resp.Status != c.status || string(resp.Body) != c.body || resp.Complete != (err == nil) {
				t.Errorf("got %d %q complete=%v, want %d %q", resp.Status, resp.Body, resp.Complete, c.status, c.body)
			}
		})
	}
}

// TestOriginRecords: complete requests, one that breaks off and one that is
// wrong each end up in their own list.
func TestOriginRecords(t *testing.T) {
	o := strict.NewOrigin(t, nil)
	send := func(in string) {
		t.Helper()
		c, err := net.Dial("tcp", o.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprint(c, in); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Fatal(err)
		}
	}
	ok := "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"
	send(ok + ok)
	send(ok + "POST /cut HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
	send("GET  /bad HTTP/1.1\r\n\r\n")
	strict.Eventually(t, "all closed", func() bool { return o.Open() == 0 && o.Idle() })
	complete, partial, violations := o.Take()
	if len(complete) != 3 || len(partial) != 1 || len(violations) != 1 {
		t.Fatalf("got %v, %v, %q; want 3 complete, 1 partial, 1 violation", complete, partial, violations)
	}
	if partial[0].Target != "/cut" || !strings.Contains(violations[0], "GET  /bad") {
		t.Errorf("got %v and %q", partial[0], violations[0])
	}
	if o.Accepted() != 3 {
		t.Errorf("got %d connections, want 3", o.Accepted())
	}
}
