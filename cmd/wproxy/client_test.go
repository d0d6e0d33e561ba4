package main

import (
	"bytes"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSilentServer: a process that is stopped takes connections and says nothing.
func TestSilentServer(t *testing.T) {
	t.Parallel() // it waits
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = call(t.Context(), socket, http.MethodGet, "/status", 20*time.Millisecond)
	if want := "the wproxy on " + socket + " has not answered within 20ms: its process may be stopped or overloaded"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	begun := time.Now()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"status", "--socket", socket}, &stdout, &stderr); code != exitFailed {
		t.Errorf("status: code %d, %s", code, stderr.String())
	}
	if took := time.Since(begun); took > 4*questionTime || !strings.Contains(stderr.String(), "has not answered within 5s") {
		t.Errorf("status gave up after %v: %s", took, stderr.String())
	}
}
