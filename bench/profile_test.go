package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRecord: parts come from the unix socket below wproxy's directory, one for each recording, and
// a refusal is an error.
func TestRecord(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, adminSocket))
	if err != nil {
		t.Fatal(err)
	}
	refuse := false
	srv := http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write([]byte(r.URL.String())) // what is missing, the file shows
	})}
	go func() { _ = srv.Serve(l) }() // ends with the server
	defer srv.Close()
	p := &profiler{dir: dir}
	for range 2 {
		if err := p.record(t.Context(), dir, 3)(); err != nil {
			t.Fatal(err)
		}
	}
	refuse = true
	if err := p.record(t.Context(), dir, 3)(); err == nil {
		t.Error("a refusal is no error")
	}
	if len(p.parts) != 3 || p.parts[0] == p.parts[1] {
		t.Errorf("the parts are %q", p.parts)
	}
	if b, err := os.ReadFile(p.parts[1]); err != nil || string(b) != "/debug/pprof/profile?seconds=3" {
		t.Errorf("a part has %q, %v", b, err)
	}
}
