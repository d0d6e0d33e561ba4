package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// blackHole returns an address of which connections are neither accepted nor refused:
// that of a socket whose queue of connections to accept is full, where the kernel drops
// every SYN.
func blackHole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}).String()
	for range 8 { // one has room, as a rule
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Skip("the kernel takes connections although nobody accepts them")
	return ""
}

// TestBlackHole: an upstream that does not answer at all is given up after its connect
// timeout, not after the route's.
func TestBlackHole(t *testing.T) {
	address := blackHole(t)
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", address)
	toml = strings.Replace(toml, "\n[admin]", "connect = { timeout = \"300ms\" }\n\n[admin]", 1)
	in := startInstance(t, toml)
	begin := time.Now()
	resp := in.get(t, "a.test", "/")
	took := time.Since(begin)
	if resp.Status != 504 || !strings.Contains(string(resp.Body), "reason: upstream_connect_timeout\n") {
		t.Errorf("got %d %q, want 504 upstream_connect_timeout", resp.Status, resp.Body)
	}
	if took < 300*time.Millisecond || took > prompt {
		t.Errorf("it took %v", took)
	}
	if n := in.sum(t, "wproxy_upstream_failures_total"); n != 1 {
		t.Errorf("%v tries failed, want one: another one would take as long again", n)
	}
	in.stop(t)
	line, err := os.ReadFile(in.access)
	if err != nil {
		t.Fatal(err)
	}
	var entry struct {
		Status int
		Reason string
		Tries  int
	}
	if err := json.Unmarshal(line, &entry); err != nil || entry.Status != 504 || entry.Reason != "upstream_connect_timeout" || entry.Tries != 1 {
		t.Errorf("access log: %+v, %v", entry, err)
	}
}
