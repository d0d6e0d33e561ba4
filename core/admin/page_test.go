package admin_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wproxy/core/admin"
)

// TestPage is which files there are, for whom, and what a browser may do with them.
func TestPage(t *testing.T) {
	r := newRig(t)
	with, without := "http://"+r.open(t, admin.Door{Page: true}), "http://"+r.open(t, admin.Door{})
	private := "http://" + r.open(t, admin.Door{Private: true})
	c := client(t)
	get := func(url, accept, host, tag string) (int, http.Header) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		req.Header.Set("If-None-Match", tag)
		req.Host = host
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header
	}
	const html, js = "text/html; charset=utf-8", "text/javascript; charset=utf-8"
	const list = "text/plain; charset=utf-8"
	for _, tt := range []struct {
		url, accept, host string
		status            int
		kind              string
	}{
		{with + "/", "text/html,*/*", "", 200, html},
		{with + "/", "*/*", "", 200, list},
		{with + "/", "text/html", "evil.example", 421, list},
		{with + "/page/page.js", "*/*", "", 200, js},
		{with + "/page/page.js", "*/*", "evil.example", 421, list},
		{with + "/page/page.css", "*/*", "", 200, "text/css; charset=utf-8"},
		{with + "/page/..%2Fadmin.go", "*/*", "", 404, list},
		{with + "/page/", "*/*", "", 404, list},
		{with + "/events", "*/*", "evil.example", 421, list},
		{with + "/live", "*/*", "", 200, "application/json"},
		{without + "/", "text/html", "", 200, list},
		{without + "/page/page.js", "*/*", "", 404, list},
		{without + "/events", "*/*", "", 404, list},
		{without + "/live", "*/*", "", 404, list},
		{private + "/", "text/html", "", 200, html},
	} {
		status, head := get(tt.url, tt.accept, tt.host, "")
		if status != tt.status || head.Get("Content-Type") != tt.kind {
			t.Errorf("%s as %s: got %d %s, want %d %s", tt.url, tt.accept, status, head.Get("Content-Type"), tt.status, tt.kind)
		}
		if tt.kind != html && tt.kind != js {
			continue
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
		} {
			if got := head.Get(name); !strings.Contains(got, want) {
				t.Errorf("%s: %s is %q, want %q", tt.url, name, got, want)
			}
		}
		if got := head.Get("Content-Security-Policy"); strings.Contains(got, "unsafe") {
			t.Errorf("%s: the policy %q allows what is unsafe", tt.url, got)
		}
		if tt.kind == js {
			continue
		}
		if head.Get("Vary") != "Accept" {
			t.Errorf("%s: there is no vary", tt.url)
		}
	}
	_, first := get(with+"/page/page.css", "*/*", "", "")
	if status, _ := get(with+"/page/page.css", "*/*", "", first.Get("ETag")); status != http.StatusNotModified {
		t.Errorf("the same file again: got %d, want 304", status)
	}
}

// TestEventsEnd: those who watch do not hold up the end.
func TestEventsEnd(t *testing.T) {
	r := newRig(t)
	base := "http://" + r.open(t, admin.Door{Page: true})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	for _, want := range []string{"retry: 1000\n", "\n", "event: all\n"} {
		if got, err := lines.ReadString('\n'); got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	if got, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(got, "data: {\"all\":true") || strings.Contains(got, "</script>") {
		t.Fatalf("got %q, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begin := time.Now()
	r.Close(ctx)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("the end took %v with somebody watching", took)
	}
	for {
		if _, err := lines.ReadString('\n'); err != nil {
			break // the stream has ended
		}
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(base, "http://")); err == nil {
		t.Error("the door is still open")
	}
}
