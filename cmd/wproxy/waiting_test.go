package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestWaitingInTheMiddle: a client that has sent a part of its request and waits for the
// answer has it from a healthy server, also when the first one it came to has ended the
// connection, and long before its time is over.
func TestWaitingInTheMiddle(t *testing.T) {
	const part = "half of it"
	serve := func(do func(w http.ResponseWriter, part string)) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex() // else it reads the whole request first
			b := make([]byte, len(part))
			n, _ := io.ReadFull(r.Body, b)
			do(w, string(b[:n]))
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	bad := func(w http.ResponseWriter, _ string) {
		time.Sleep(20 * time.Millisecond) // the client waits
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = c.Close()
		}
	}
	good := func(w http.ResponseWriter, part string) {
		w.Header().Set("content-length", "14")
		_, _ = io.WriteString(w, "got "+part)
		_ = http.NewResponseController(w).Flush()
	}
	servers := []string{serve(bad), serve(bad), serve(good)}
	toml := strings.NewReplacer("@ORIGIN", servers[0], `protocols = ["h1"]`, `protocols = ["h1", "h2c"]`).Replace(hostileConfig)
	in := startInstance(t, toml+fmt.Sprintf(`
[routes.wait]
host     = "a.test"
path     = "/wait"
upstream = "wait"
timeout  = "20s"
retry    = { attempts = 2, on = ["reset"], budget_min = "100/s" }
[upstreams.wait]
servers  = [%q, %q, %q]
`, servers[0], servers[1], servers[2]))
	for _, overH2 := range []bool{false, true} {
		for range 3 { // each server is the first once
			tr := &http.Transport{Protocols: new(http.Protocols)}
			tr.Protocols.SetHTTP1(!overH2)
			tr.Protocols.SetUnencryptedHTTP2(overH2)
			ctx, cancel := context.WithTimeout(t.Context(), wireTimeout)
			pr, pw := io.Pipe()
			go func() { _, _ = io.WriteString(pw, part) }() // ends when it is read, or pr is closed
			context.AfterFunc(ctx, func() { _ = pr.Close() })
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+in.addr+"/wait", pr)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "a.test"
			begin := time.Now()
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatalf("over HTTP/2 %v: after %v: %v", overH2, time.Since(begin), err)
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != 200 || string(body) != "got "+part || err != nil {
				t.Errorf("over HTTP/2 %v: after %v: got %d %q, %v", overH2, time.Since(begin), resp.StatusCode, body, err)
			}
			_ = resp.Body.Close()
			_ = pr.Close()
			cancel()
			tr.CloseIdleConnections()
		}
	}
}
