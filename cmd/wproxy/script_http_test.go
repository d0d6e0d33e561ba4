package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdHTTP sends one request on a connection of its own and prints the answer:
// the status line, the fields in lower case sorted by name, and the body. $COOKIE becomes
// the last cookie that the answer sets.
func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	s := stateOf(ts)
	background := args[0] == "-bg"
	if background {
		args = args[1:]
	}
	r := parseRequest(ts, args)
	if background {
		if s.answers == nil {
			s.answers = make(chan string, 100)
		}
		s.waited++
		go func() { s.answers <- r.roundTrip() }() // ends with its deadline
		return
	}
	answer := r.roundTrip()
	for line := range strings.Lines(answer) {
		if set, ok := strings.CutPrefix(line, "set-cookie: "); ok {
			cookie, _, _ := strings.Cut(strings.TrimSpace(set), ";")
			ts.Setenv("COOKIE", cookie)
		}
	}
	put(ts, answer)
}

// A scriptRequest is what http sends.
type scriptRequest struct {
	method, target string
	fields         []string
	body           []byte
	tls            *tls.Config
}

// parseRequest reads the arguments of http behind -bg.
func parseRequest(ts *testscript.TestScript, args []string) *scriptRequest {
	r := &scriptRequest{tls: &tls.Config{}}
	for len(args) > 1 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-cert":
			c, err := tls.LoadX509KeyPair(ts.MkAbs(args[1]+".pem"), ts.MkAbs(args[1]+".key"))
			ts.Check(err)
			// Whatever CAs the other side names: a test may show the wrong one.
			r.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
		case "-sni":
			r.tls.ServerName = args[1]
		default:
			ts.Fatalf("http %s?", args[0])
		}
		args = args[2:]
	}
	noNeg(ts, false, args, 2)
	r.method, r.target, r.fields = args[0], args[1], args[2:]
	if n := len(r.fields); n > 0 && strings.HasPrefix(r.fields[n-1], "@") {
		r.body = []byte(ts.ReadFile(r.fields[n-1][1:]))
		r.fields = r.fields[:n-1]
	}
	r.tls.RootCAs = x509.NewCertPool()
	if ca := stateOf(ts).cas["ca"]; ca != nil {
		r.tls.RootCAs = ca.Pool()
	}
	return r
}

// roundTrip is parseRequest, and then sends it.
func roundTrip(ts *testscript.TestScript, args []string) string {
	return parseRequest(ts, args).roundTrip()
}

// cmdAnswer waits for the answers to http -bg.
func cmdAnswer(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 0)
	s := stateOf(ts)
	if s.waited == 0 {
		ts.Fatalf("no request is under way")
	}
	all := ""
	for ; s.waited > 0; s.waited-- {
		all += <-s.answers
	}
	put(ts, all)
}

// dial connects to host. With TLS, it asks for the host of the request's own field.
func (r *scriptRequest) dial(u *url.URL) (net.Conn, error) {
	nc, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(patience))
	if u.Scheme != "https" {
		return nc, nil
	}
	if r.tls.ServerName == "" {
		r.tls.ServerName = u.Hostname()
		for _, f := range r.fields {
			if name, value, _ := strings.Cut(f, ":"); strings.EqualFold(name, "host") {
				r.tls.ServerName = strings.TrimSpace(value)
			}
		}
	}
	c := tls.Client(nc, r.tls)
	if err := c.Handshake(); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// roundTrip returns the answer as text, or "error: ...".
func (r *scriptRequest) roundTrip() string {
	method, target, fields, body := r.method, r.target, r.fields, r.body
	u, err := url.Parse(target)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	c, err := r.dial(u)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	defer c.Close()

	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, u.RequestURI())
	host := false
	for _, f := range fields {
		host = host || strings.HasPrefix(strings.ToLower(f), "host:")
		b.WriteString(f + "\r\n")
	}
	if !host {
		fmt.Fprintf(&b, "host: %s\r\n", u.Host)
	}
	if body != nil {
		fmt.Fprintf(&b, "content-length: %d\r\n", len(body))
	}
	b.WriteString("connection: close\r\n\r\n")
	b.Write(body)
	if _, err := c.Write(b.Bytes()); err != nil {
		return "error: " + err.Error() + "\n"
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return "error: no answer: " + err.Error() + "\n"
	}
	return answerText(resp)
}

// answerText is an answer as text.
func answerText(resp *http.Response) string {
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	var out strings.Builder
	fmt.Fprintf(&out, "%d %s\n", resp.StatusCode, http.StatusText(resp.StatusCode))
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		for _, v := range resp.Header[name] {
			fmt.Fprintf(&out, "%s: %s\n", strings.ToLower(name), v)
		}
	}
	out.WriteString("\n")
	out.Write(answer)
	if len(answer) > 0 && answer[len(answer)-1] != '\n' {
		out.WriteString("\n")
	}
	for _, name := range slices.Sorted(maps.Keys(resp.Trailer)) {
		fmt.Fprintf(&out, "trailer %s: %s\n", strings.ToLower(name), resp.Trailer.Get(name))
	}
	if err != nil {
		fmt.Fprintf(&out, "error: the answer is cut: %v\n", err)
	}
	return out.String()
}
