package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const filesConfig = `
[listeners.http]
address = "127.0.0.1:0"
[listeners.local]
address = "unix:@DIR/local.sock"
[listeners.proxied]
address        = "127.0.0.1:0"
reuse_port     = true
backlog        = 16
proxy_protocol = true
trust_proxy    = ["127.0.0.0/8"]
[listeners.raw]
address   = "127.0.0.1:0"
protocols = ["tcp"]
[admin]
address = "127.0.0.1:0"
[server]
pid_file = "@DIR/pid"
[log]
access = { to = "@DIR/access.log" }
[tracing]
otlp = "http://127.0.0.1:9"
[routes.all]
path = "/*"
to   = "@ORIGIN"
[routes.raw]
listener = "raw"
to       = "@ORIGIN"
`

// TestUpgradeFiles: however often processes hand over to each other, one has no more
// descriptors than the first of them, and none that a program which it starts would have.
// Listeners of every kind go along, and a TCP connection ends where it is.
func TestUpgradeFiles(t *testing.T) {
	f := startFleet(t, strings.ReplaceAll(filesConfig, "@ORIGIN", newGoOrigin(t).Listener.Addr().String()))
	n := upgrades
	if long() {
		n = 20
	}
	st, err := f.status()
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{}
	for _, l := range st.Listeners {
		addresses[l.Name] = l.Address
	}
	raw := &strictClient{addr: addresses["raw"]}
	defer raw.close()
	ask := func(what string) {
		t.Helper()
		if status, more, err := raw.do("GET", "/ok", ""); err != nil || status != 200 || !more {
			t.Fatalf("%s: %d, %v, more: %v", what, status, err, more)
		}
	}
	ask("a TCP connection")
	var first []string
	for i := range n {
		f.upgrade()
		if i == 0 {
			ask("a TCP connection of before the upgrade")
			raw.close()
		}
		pid := f.pids[len(f.pids)-1]
		if i == 0 {
			time.Sleep(100 * time.Millisecond) // what is open for a moment at the start is closed
			first = descriptors(t, pid)
		}
		var got []string
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // as above
			if got = descriptors(t, pid); len(got) <= len(first) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("after %d upgrades there are %d descriptors, %d after the first:\n%s", i+1, len(got), len(first), strings.Join(got, "\n"))
			}
		}
	}
	now, err := f.status()
	if err != nil || len(now.Listeners) != len(addresses) {
		t.Fatalf("%+v, %v", now, err)
	}
	for _, l := range now.Listeners {
		if l.Address != addresses[l.Name] {
			t.Errorf("listener %s was at %s, and is at %s", l.Name, addresses[l.Name], l.Address)
		}
	}
	ask("a TCP connection to the last")
	if _, err := os.Stat(filepath.Join(f.dir, "local.sock")); err != nil {
		t.Error(err)
	}
}

// descriptors lists what a process has open, beside its standard ones.
func descriptors(t *testing.T, pid int) (all []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", pid)
	files, err := os.ReadDir(dir + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range files {
		n, _ := strconv.Atoi(e.Name())
		to, err := os.Readlink(filepath.Join(dir, "fd", e.Name()))
		info, err2 := os.ReadFile(filepath.Join(dir, "fdinfo", e.Name()))
		if n <= 2 || err != nil || err2 != nil {
			continue // or closed just now
		}
		_, text, _ := strings.Cut(string(info), "flags:\t")
		flags, err := strconv.ParseUint(strings.TrimSpace(text[:strings.IndexByte(text, '\n')]), 8, 64)
		if err != nil {
			t.Fatal(err)
		}
		// What the tests were started with is nobody's doing.
		if ours, _ := os.Readlink("/proc/self/fd/" + e.Name()); flags&syscall.O_CLOEXEC == 0 && ours != to {
			t.Errorf("descriptor %d (%s) goes to programs that the process starts", n, to)
		}
		all = append(all, fmt.Sprintf("%d %s", n, to))
	}
	slices.Sort(all)
	return all
}
