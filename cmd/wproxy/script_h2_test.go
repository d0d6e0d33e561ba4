package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdH2C is cmdHTTP with HTTP/2 without TLS, by prior knowledge.
func cmdH2C(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	method, target, rest := args[0], args[1], args[2:]
	var body io.Reader
	if n := len(rest); n > 0 && strings.HasPrefix(rest[n-1], "@") {
		body = bytes.NewReader([]byte(ts.ReadFile(rest[n-1][1:])))
		rest = rest[:n-1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		ts.Fatalf("%v", err)
	}
	for _, f := range rest {
		name, value, _ := strings.Cut(f, ":")
		if value = strings.TrimSpace(value); strings.EqualFold(name, "host") {
			r.Host = value
		} else {
			r.Header.Add(name, value)
		}
	}
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(r)
	if err != nil {
		put(ts, "error: "+err.Error()+"\n")
		return
	}
	put(ts, answerText(resp))
}
