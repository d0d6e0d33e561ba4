package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"wproxy/host/wasmtest"
)

// startGuest runs an instance whose one route leads to the upstream at address by way
// of the plugin "bad", which is m.
func startGuest(t *testing.T, address string, m *wasmtest.Module) *instance {
	t.Helper()
	in, _ := startGuestWith(t, address, m, "")
	return in
}

// startGuestWith is startGuest with more for the plugin's table. It returns the
// configuration too.
func startGuestWith(t *testing.T, address string, m *wasmtest.Module, more string) (in *instance, toml string) {
	t.Helper()
	guest := filepath.Join(t.TempDir(), "guest.wasm")
	if err := os.WriteFile(guest, m.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	toml = strings.ReplaceAll(hostileConfig, "@ORIGIN", address)
	toml = strings.Replace(toml, "[routes.denied]", "use = [\"bad\"]\n\n[routes.denied]", 1)
	toml += "\n[plugins.bad]\nwasm = \"" + guest + "\"\n" + more
	return startInstance(t, toml), toml
}

// TestTrapInTheLogs: an exchange whose plugin traps, in either direction, has the reason
// in the access log, and the line about the trap names the exchange.
func TestTrapInTheLogs(t *testing.T) {
	origin := newGoOrigin(t)
	for _, side := range []string{"request", "response"} {
		t.Run(side, func(t *testing.T) {
			m := wasmtest.NewGuest()
			m.Headers(side, wasmtest.Unreachable(), wasmtest.I32(0))
			in := startGuest(t, origin.Listener.Addr().String(), m)
			resp := in.get(t, "a.test", "/ok")
			if resp == nil || resp.Status != 503 {
				t.Fatalf("got %+v, want a 503", resp)
			}
			id := regexp.MustCompile(`request id: (\w+)`).FindSubmatch(resp.Body)
			if id == nil {
				t.Fatalf("no request id in %q", resp.Body)
			}
			in.stop(t)
			line, err := os.ReadFile(in.access)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{`"status":503`, `"reason":"plugin_failed:bad"`, `"request_id":"` + string(id[1]) + `"`} {
				if !strings.Contains(string(line), want) {
					t.Errorf("access log %s has no %s", line, want)
				}
			}
			said := strings.ReplaceAll(in.stderr.String(), `": "`, `":"`)
			for _, want := range []string{"unreachable", `"route":"all"`, `"request_id":"` + string(id[1]) + `"`} {
				if !strings.Contains(said, want) {
					t.Errorf("log %s has no %s", said, want)
				}
			}
		})
	}
}

// TestTrapInResponseBody: a plugin that traps at the body of an answer of which the
// client has seen nothing is answered for, and otherwise the answer is cut.
func TestTrapInResponseBody(t *testing.T) {
	const all = "the whole body"
	seen := make(chan struct{}) // the client has read the first bytes
	mux := http.NewServeMux()
	mux.HandleFunc("/whole", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, all) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, all)
		_ = http.NewResponseController(w).Flush() // what is written tells
		select {
		case <-seen:
		case <-r.Context().Done():
		}
	})
	// Answers before it has read the request, so that the answer is read by a
	// goroutine of its own while the client still has to send.
	mux.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // or net/http would read the request first
		_, _ = io.WriteString(w, all)
	})
	origin := httptest.NewServer(mux)
	t.Cleanup(origin.Close)

	everywhere, atEnd := wasmtest.NewGuest(), wasmtest.NewGuest()
	everywhere.Body("response", wasmtest.Unreachable(), wasmtest.I32(0))
	atEnd.Body("response", wasmtest.If(wasmtest.Local(2), wasmtest.Unreachable()), wasmtest.I32(0))

	t.Run("unseen", func(t *testing.T) {
		in := startGuest(t, origin.Listener.Addr().String(), everywhere)
		for _, request := range []string{
			"GET /whole HTTP/1.1\r\nHost: a.test\r\n\r\n",
			"POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50_000),
			"GET /whole HTTP/1.1\r\nHost: a.test\r\nAccept: application/json\r\n\r\n",
		} {
			w := in.dial(t)
			if _, err := io.WriteString(w, request); err != nil {
				t.Fatal(err)
			}
			resp, err := w.r.ReadResponse("GET")
			if err != nil || resp.Status != 503 {
				t.Fatalf("%.20q: got %+v, %v; want 503", request, resp, err)
			}
			want, kind := "503 Service Unavailable\nreason: plugin_failed:bad\n", "text/plain"
			if strings.Contains(request, "json") {
				want, kind = `{"status":503,"error":"Service Unavailable","reason":"plugin_failed:bad","request_id":"`, "application/json"
			}
			if got := string(resp.Body); !strings.HasPrefix(got, want) || !strings.HasPrefix(resp.Fields.Get("content-type"), kind) {
				t.Errorf("%.20q: got %q (%s), want %q...", request, got, resp.Fields.Get("content-type"), want)
			}
			_ = w.Close()
		}
	})
	t.Run("seen", func(t *testing.T) {
		in := startGuest(t, origin.Listener.Addr().String(), atEnd)
		w := in.dial(t)
		if _, err := fmt.Fprintf(w, "GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		b := make([]byte, 4096)
		for !strings.Contains(got.String(), all) {
			n, err := w.Read(b)
			got.Write(b[:n])
			if err != nil {
				t.Fatalf("after %q: %v", got.String(), err)
			}
		}
		close(seen)
		rest, err := io.ReadAll(w)
		if !errors.Is(err, syscall.ECONNRESET) || len(rest) > 0 {
			t.Errorf("after a part of the answer came %q, %v; want a reset", rest, err)
		}
	})
}
