package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/core/exchange/exchangetest"
)

// corpusConfig has one route that takes everything.
const corpusConfig = `version = 1
[listeners.http]
address = "@ADDR"
protocols = ["h1"] # the preface of HTTP/2 is one of the inputs

[routes.all]
upstream = "origin"

[upstreams.origin]
servers = ["@ORIGIN"]

[admin]
address = "@ADMIN"

[log]
to = "stderr"
access = { to = "@ACCESS" }
`

// eachCase runs f for each case of the files in testdata/h1 that match.
func eachCase(t *testing.T, pattern string, f func(t *testing.T, c *exchangetest.Case)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "testdata", "h1", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	for _, file := range files {
		cases, err := exchangetest.ReadCorpus(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+c.Name, func(t *testing.T) {
				f(t, &c)
			})
		}
	}
}

// TestRequestCorpus runs the codec's corpus of requests through the whole
// proxy: the same bytes, judged by the strict origin.
func TestRequestCorpus(t *testing.T) {
	origin := strict.NewOrigin(t, func(r *strict.Request) strict.Answer {
		a := strict.Reply(200, "ok")
		if r.Method == "HEAD" {
			a.Raw = a.Raw[:len(a.Raw)-len("ok")]
		}
		return a
	})
	in := startInstance(t, strings.ReplaceAll(corpusConfig, "@ORIGIN", origin.Addr()))
	eachCase(t, "request-*.txt", func(t *testing.T, c *exchangetest.Case) {
		if c.Slash { // the codec passes it on, the engine refuses it (README)
			c.Status, c.Reason, c.Sees = []int{400}, "encoded_slash", nil
		}
		counter := fmt.Sprintf("wproxy_refused_total{reason=%q}", c.Reason)
		before := in.sum(t, counter)
		w := in.dial(t)
		go w.send(c.Send, c.FIN, false) // ends with the connection, which this test closes
		for i, want := range c.Status {
			method := "GET"
			if i < len(c.Sees) {
				method = c.Sees[i].Method
			}
			resp, err := w.r.ReadResponse(method)
			if err != nil || resp.Status != want {
				t.Errorf("answer %d: got %d %q, %v; want %d", i+1, resp.Status, resp.Body, err, want)
				break
			}
		}
		if !c.Open && !c.Slash {
			w.wantClosed(t, "after the last answer")
		}
		if c.Open {
			if _, err := io.WriteString(w, "GET /after HTTP/1.1\r\nHost: after\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if resp, err := w.r.ReadResponse("GET"); err != nil || resp.Status != 200 {
				t.Errorf("the next request got %d, %v", resp.Status, err)
			}
			c.Sees = append(c.Sees, exchangetest.SeenRequest{Method: http.MethodGet, Target: "/after", Authority: "after"})
		}
		_ = w.Close()
		compareSeen(t, origin, c)
		if len(c.Status) > 0 && c.Reason != "" && in.sum(t, counter) <= before {
			t.Errorf("%s was not counted", counter)
		}
		if got := in.get(t, "healthy", "/healthy"); got.Status != 200 {
			t.Errorf("a healthy request got %d", got.Status)
		}
		complete, _, violations := origin.Take()
		if len(complete) != 1 || complete[0].Target != "/healthy" || len(violations) > 0 {
			t.Errorf("a healthy request: the origin has seen %v, %q", complete, violations)
		}
	})
}

// compareSeen compares what the origin has seen with what the case says.
func compareSeen(t *testing.T, origin *strict.Origin, c *exchangetest.Case) {
	t.Helper()
	strict.Eventually(t, "at the end of all requests to the origin", origin.Idle)
	complete, partial, violations := origin.Take()
	for _, v := range violations {
		t.Errorf("the origin: %s", v)
	}
	var got []exchangetest.SeenRequest
	for i, r := range complete {
		s := exchangetest.SeenRequest{Method: r.Method, Target: r.Target, Authority: r.Fields.Get("host"), Body: string(r.Body)}
		if i < len(c.Sees) && c.Sees[i].Authority == "" && s.Authority == origin.Addr() {
			s.Authority = "" // HTTP/1.0 without one: the upstream gets its own address, as from nginx
		}
		got = append(got, s)
	}
	if !slices.Equal(got, c.Sees) {
		t.Errorf("the origin has seen %q, want %q", got, c.Sees)
	}
	if c.Partly == nil && len(partial) > 0 {
		t.Errorf("the origin has seen a part of %v", partial)
	}
	if len(complete) == 0 {
		return
	}
	for _, f := range c.Fields {
		if v := complete[0].Fields.All(f[0]); !slices.Contains(v, f[1]) {
			t.Errorf("the origin sees %s: %q, want %q", f[0], v, f[1])
		}
	}
	for _, name := range c.Hidden {
		if v := complete[0].Fields.All(name); v != nil {
			t.Errorf("the origin sees %s: %q", name, v)
		}
	}
}

// TestResponseCorpus runs the codec's corpus of responses through the whole
// proxy.
func TestResponseCorpus(t *testing.T) {
	var current atomic.Pointer[exchangetest.Case]
	var bad atomic.Int64 // connections that had a case and are still open
	origin := strict.NewOrigin(t, func(r *strict.Request) strict.Answer {
		if r.Target != "/bad" {
			return echo(r)
		}
		bad.Add(1)
		return strict.Answer{Raw: []byte(current.Load().Send), Then: func(c net.Conn, rest io.Reader) {
			defer bad.Add(-1)
			if !current.Load().FIN {
				serveRest(c, rest)
			}
		}}
	})
	in := startInstance(t, strings.ReplaceAll(corpusConfig, "@ORIGIN", origin.Addr()))
	eachCase(t, "response-*.txt", func(t *testing.T, c *exchangetest.Case) {
		current.Store(c)
		w := in.dial(t)
		head := fmt.Sprintf("%s /bad HTTP/1.1\r\nHost: a\r\n", c.Method)
		if c.Upgrade != "" {
			head += fmt.Sprintf("Connection: upgrade\r\nUpgrade: %s\r\n", c.Upgrade)
		}
		if _, err := io.WriteString(w, head+"\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := w.r.ReadResponse(c.Method)
		checkResponse(t, c, w, resp, err)
		_ = w.Close()
		for range 2 {
			got := in.get(t, "a", "/next")
			if reused := string(got.Body) == reusedMark; got.Status != 200 || reused && !c.Open || !reused && string(got.Body) != "GET /next" {
				t.Errorf("the next request got %d %q", got.Status, got.Body)
			}
		}
		if c.Open {
			origin.CloseConns()
		}
		strict.Eventually(t, "without the connection of this case", func() bool { return bad.Load() == 0 })
		_, _, violations := origin.Take()
		for _, v := range violations {
			t.Errorf("the origin: %s", v)
		}
	})
}

// checkResponse compares what the client has got with what the case says.
func checkResponse(t *testing.T, c *exchangetest.Case, w *wire, resp *strict.Response, err error) {
	t.Helper()
	// A cut may come before the head was on the wire.
	cut := c.Cut && (resp.Status == 502 || resp.Status == 0 && isClosed(err))
	if len(c.Status) == 1 && resp.Status != c.Status[0] && !cut {
		t.Errorf("got %d %q, %v; want %d", resp.Status, shorten(string(resp.Body)), err, c.Status[0])
		return
	}
	if !isClosed(err) {
		t.Errorf("the client sees %v", err)
	}
	body := string(resp.Body)
	if resp.Status == 101 {
		tunnel := make([]byte, len(c.Body))
		_, _ = io.ReadFull(w.r.Buffered(), tunnel) // shorter: shows in the comparison
		body = string(tunnel)
	}
	switch {
	case resp.Status == 502:
	case c.Cut && err == nil:
		t.Errorf("the answer looks complete: %q", shorten(body))
	case !c.Cut && (err != nil || body != c.Body):
		t.Errorf("got body %q, %v; want %q", shorten(body), err, c.Body)
	}
	for _, f := range c.Fields {
		if v := resp.Fields.All(f[0]); !slices.Contains(v, f[1]) {
			t.Errorf("the client sees %s: %q, want %q", f[0], v, f[1])
		}
	}
	for _, name := range c.Hidden {
		if v := resp.Fields.All(name); v != nil {
			t.Errorf("the client sees %s: %q", name, v)
		}
	}
}
