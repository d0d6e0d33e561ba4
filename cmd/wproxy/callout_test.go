package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/core/proxy"
	"wproxy/host"
)

func TestCallHead(t *testing.T) {
	t.Parallel()
	good := func() host.CallRequest { return host.CallRequest{Method: "GET", Path: "/a", Authority: "h"} }
	for _, tt := range []struct {
		name string
		edit func(r *host.CallRequest)
		want string // "": refused
	}{
		{"plain", func(*host.CallRequest) {}, "GET http://h/a"},
		{"canonical", func(r *host.CallRequest) { r.Path, r.Authority, r.Scheme = "/b/../%61?x=%20", "H.Example.:80", "https" }, "GET https://h.example:80/a?x=%20"},
		{"no authority", func(r *host.CallRequest) { r.Authority = "" }, "GET http:///a"},
		{"options", func(r *host.CallRequest) { r.Method, r.Path = "OPTIONS", "*" }, "OPTIONS http://h*"},
		{"own method", func(r *host.CallRequest) { r.Method = "PURGE" }, "PURGE http://h/a"},
		{"fields", func(r *host.CallRequest) {
			for _, f := range [][2]string{
				{"x-a", "1"},
				{"connection", "close, X-Hop"},
				{"x-hop", "1"},
				{"connection", "x-hop2"},
				{"x-hop2", "1"},
				{"te", "trailers"},
				{"te", "gzip"},
				{"expect", "100-continue"},
				{"transfer-encoding", "chunked"},
				{"content-length", "3"},
				{"upgrade", "h2c"},
				{"keep-alive", "1"},
				{"trailer", "x"},
				{"x-a", "2"},
			} {
				r.Fields = append(r.Fields, abi.Pair{Name: f[0], Value: f[1]})
			}
		}, "GET http://h/a x-a=1 te=trailers x-a=2"},
		{"method with a space", func(r *host.CallRequest) { r.Method = "GET /x" }, ""},
		{"no method", func(r *host.CallRequest) { r.Method = "" }, ""},
		{"connect", func(r *host.CallRequest) { r.Method = "CONNECT" }, ""},
		{"scheme", func(r *host.CallRequest) { r.Scheme = "ftp" }, ""},
		{"line break in the path", func(r *host.CallRequest) { r.Path = "/a\r\nx: y" }, ""},
		{"no path", func(r *host.CallRequest) { r.Path = "" }, ""},
		{"path without a slash", func(r *host.CallRequest) { r.Path = "a" }, ""},
		{"authority", func(r *host.CallRequest) { r.Authority = "a b" }, ""},
		{"authority with a user", func(r *host.CallRequest) { r.Authority = "u@h" }, ""},
	} {
		r := good()
		tt.edit(&r)
		got := ""
		h, err := callHead(&r)
		if err == nil {
			got = h.Method + " " + h.Scheme + "://" + h.Authority + h.Target
			for _, f := range h.Fields.List() {
				got += " " + f.Name + "=" + f.Value
			}
		}
		if got != tt.want {
			t.Errorf("%s: got %q (%v), want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestCallFailure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want host.CallOutcome
	}{
		{&proxy.CallError{Status: 504, Reason: "timeout"}, host.CallTimeout},
		{&proxy.CallError{Status: 502, Reason: "upstream_refused"}, host.CallUnavailable},
		{&proxy.CallError{Status: 503, Reason: "queue_full"}, host.CallUnavailable},
		{&proxy.CallError{Begun: true, Reason: "upstream_truncated"}, host.CallReset},
		{context.Canceled, host.CallCanceled},
		{errors.New("other"), host.CallCanceled},
	} {
		if got := callFailure(tt.err); got.Outcome != tt.want || got.Reason == "" {
			t.Errorf("%v: got %+v, want %v", tt.err, got, tt.want)
		}
	}
}

// writeGuest puts a guest of a test into a file and returns its name.
func writeGuest(t *testing.T, wasm []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "guest.wasm")
	if err := os.WriteFile(name, wasm, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// outcomesOf reads how the calls of a plugin went.
func (in *instance) outcomesOf(t *testing.T, plugin string) map[host.CallOutcome]int {
	t.Helper()
	values, err := in.scrape()
	if err != nil {
		t.Fatal(err)
	}
	got := map[host.CallOutcome]int{}
	for _, o := range []host.CallOutcome{
		host.CallAnswered, host.CallUnavailable, host.CallTimeout, host.CallReset, host.CallCanceled, host.CallRefused,
	} {
		if n := values[fmt.Sprintf(`wproxy_plugin_callouts_total{outcome=%q,plugin=%q,upstream="api"}`, o, plugin)]; n > 0 {
			got[o] = int(n)
		}
	}
	return got
}

// A service that calls all the time does not notice that the upstream it calls, and the
// connections, are replaced again and again.
func TestCalloutsOverReloads(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(2 * time.Millisecond) // so that some are under way at each reload
		_, _ = io.WriteString(w, "ok")
	}))
	defer origin.Close()
	guest := writeGuest(t, pollGuest("api", 1).Bytes())
	toml := func(n int) string {
		return fmt.Sprintf(`
[listeners.http]
address = "@ADDR"
[admin]
address = "@ADMIN"
[routes.all]
respond = { body = "hello" }
[plugins.poll]
wasm = %q
kind = "service"
grant = ["call:api"]
[upstreams.api]
servers = [%q]
pool = { idle = %d }
`, guest, origin.Listener.Addr().String(), n+1)
	}
	in := startInstance(t, toml(0))
	for n := 1; n <= 20; n++ {
		in.write(t, toml(n))
		var out bytes.Buffer
		if code := run(t.Context(), []string{"reload", "-c", in.file}, &out, &out); code != exitOK {
			t.Fatalf("reload %d: %s", n, out.String())
		}
	}
	before := in.outcomesOf(t, "poll")[host.CallAnswered]
	strict.Eventually(t, "calls go on after the last reload", func() bool { return in.outcomesOf(t, "poll")[host.CallAnswered] > before })
	if got := in.outcomesOf(t, "poll"); len(got) != 1 {
		t.Errorf("outcomes %v, want answers only", got)
	}
}

// Clients that leave while their request waits for the answer to a call, and others that
// do not: each call is accounted for once, and the plugin survives.
func TestCalloutsUnderLoad(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Host == "auth.test" {
			time.Sleep(5 * time.Millisecond)
		}
		_, _ = io.WriteString(w, r.Header.Get("x-asked"))
	}))
	defer origin.Close()
	in := startInstance(t, fmt.Sprintf(`
[listeners.http]
address = "@ADDR"
[admin]
address = "@ADMIN"
[log.access]
to = "none"
[routes.all]
upstream = "api"
use = ["ask"]
[plugins.ask]
wasm = %q
grant = ["call:api"]
[upstreams.api]
servers = [%q]
`, writeGuest(t, askGuest("api", 30_000).Bytes()), origin.Listener.Addr().String()))
	const workers, each = 8, 25 // 200 calls: askGuest has room for 255
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
			defer client.CloseIdleConnections()
			for range each {
				patience := wireTimeout
				if i >= workers/2 {
					patience = 2 * time.Millisecond // leaves
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.addr+"/", http.NoBody)
				if err != nil {
					t.Error(err)
				}
				resp, err := client.Do(req)
				if err == nil {
					body, _ := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if i < workers/2 && (resp.StatusCode != 200 || string(body) != "200") {
						t.Errorf("got %d %q", resp.StatusCode, body)
					}
				} else if i < workers/2 {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	calls := func() int {
		n := 0
		for _, k := range in.outcomesOf(t, "ask") {
			n += k
		}
		return n
	}
	// Who left early enough has not even asked.
	strict.Eventually(t, "all calls have ended", func() bool {
		n := calls()
		time.Sleep(50 * time.Millisecond)
		return n >= workers/2*each && n == calls()
	})
	if got := in.outcomesOf(t, "ask"); len(got) != 1 {
		t.Errorf("outcomes %v, want answers only", got)
	}
	if traps := in.sum(t, "wproxy_plugin_traps_total"); traps != 0 {
		t.Errorf("%v traps: %s", traps, in.stderr)
	}
}
