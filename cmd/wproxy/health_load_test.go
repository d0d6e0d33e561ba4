package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wproxy/cmd/wproxy/internal/strict"
)

// serverMark is a field that says which server has answered.
const serverMark = "x-server"

// A switchable is a server that can be stopped and started again at its address.
type switchable struct {
	name, addr string
	server     *http.Server
}

func newSwitchable(t *testing.T, name string) *switchable {
	t.Helper()
	s := &switchable{name: name, addr: freeAddress(t)}
	s.start(t)
	t.Cleanup(func() { _ = s.server.Close() })
	return s
}

func (s *switchable) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // loopback
		w.Header().Set(serverMark, s.name)
		_, _ = io.WriteString(w, "ok")
	})}
	go func() { _ = s.server.Serve(l) }() // ended by stop, or the end of the test
}

// stop finishes what is in flight and closes everything.
func (s *switchable) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wireTimeout)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

// changesOf returns the lines of wproxy's log about a server, by their messages.
func changesOf(in *instance, server string) (all []string) {
	for line := range strings.Lines(in.stderr.String()) {
		if m := regexp.MustCompile(`server is (up|down|ejected|back)`).FindStringSubmatch(line); m != nil && strings.Contains(line, server) {
			all = append(all, m[1])
		}
	}
	return all
}

// TestFlappingServer: one of three servers goes and comes all the time, checks see it, and
// nobody's request is lost.
func TestFlappingServer(t *testing.T) {
	a, b, c := newSwitchable(t, "a"), newSwitchable(t, "b"), newSwitchable(t, "c")
	in := startInstance(t, fmt.Sprintf(`
[listeners.http]
address = "@ADDR"
[admin]
address = "@ADMIN"
[log]
access = { to = "@ACCESS" }
[routes.all]
upstream = "u"
# It begins to flap at once, when there is no history that would pay for so many retries.
retry    = { budget = "100%%" }
[upstreams.u]
servers = [%q, %q, %q]
health  = { path = "/", every = "1s", up = 1, down = 2 }
`, a.addr, b.addr, c.addr))
	load := startLoad(t, in, func(h http.Header) error {
		if h.Get(serverMark) == "" {
			return fmt.Errorf("no server's answer: %v", h)
		}
		return nil
	})
	const flaps = 3
	seen := func(n int) {
		t.Helper()
		strict.Eventually(t, fmt.Sprintf("%d changes of the flapping server", n), func() bool { return len(changesOf(in, c.addr)) >= n })
	}
	for i := range flaps {
		load.wait(t, 200)
		c.stop(t)
		seen(2*i + 1)
		load.wait(t, 200)
		c.start(t)
		seen(2*i + 2)
	}
	load.wait(t, 200)
	load.stop()
	if got, want := strings.Join(changesOf(in, c.addr), " "), strings.TrimSpace(strings.Repeat("down up ", flaps)); got != want {
		t.Errorf("changes %q, want %q: one line each", got, want)
	}
	for _, s := range []*switchable{a, b} {
		if got := changesOf(in, s.addr); len(got) > 0 {
			t.Errorf("server %s never changed, and the log says %v", s.name, got)
		}
	}
	t.Logf("%d requests, %d failed", load.requests.Load(), load.failures.Load())
}

// TestDiscoverUnderLoad: the servers of an upstream change all the time, and no request
// is lost; what is gone leaves nothing behind.
func TestDiscoverUnderLoad(t *testing.T) {
	a, b, c := newSwitchable(t, "a"), newSwitchable(t, "b"), newSwitchable(t, "c")
	file := filepath.Join(t.TempDir(), "servers.json")
	put := func(servers ...*switchable) {
		t.Helper()
		list := []string{}
		for _, s := range servers {
			list = append(list, s.addr)
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	put(a)
	in := startInstance(t, fmt.Sprintf(`
[listeners.http]
address = "@ADDR"
[admin]
address = "@ADMIN"
[log]
access = { to = "@ACCESS" }
[routes.all]
upstream = "u"
[upstreams.u]
discover = { file = %q, every = "10ms" }
`, file))
	load := startLoad(t, in, func(http.Header) error { return nil })
	sets := [][]*switchable{{b}, {b, c}, {a, c}, {c}, {a, b, c}, {a}}
	rounds := 5
	if long() {
		rounds = 200
	}
	for i := range rounds * len(sets) {
		set := sets[i%len(sets)]
		put(set...)
		strict.Eventually(t, "the new servers", func() bool { return in.sum(t, "wproxy_upstream_server_up") == float64(len(set)) })
		load.wait(t, 20)
	}
	// A request that begins now goes to the one server that is left.
	for range 10 {
		if got := in.get(t, "a.test", "/ok").Fields.Get(serverMark); got != "a" {
			t.Errorf("%s answers", got)
		}
	}
	load.stop()
	t.Logf("%d requests, %d failed", load.requests.Load(), load.failures.Load())
}
