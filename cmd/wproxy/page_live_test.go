package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// limits is the section about limits and caches against what the plugins have decided.
func (p *pageRig) limits(t *testing.T, b *browser) {
	t.Helper()
	b.until("the doors are there", `[...document.querySelectorAll("#doors tbody tr")].some(r => r.innerText.includes("20.0k"))`, 3*time.Second)
	if got := b.text(`[...document.querySelectorAll("#refusals tbody tr")].find(r => r.cells[0].textContent === "denied")?.cells[2].textContent`); got != "3" {
		t.Errorf("refused as denied: got %s, want 3", got)
	}
	if raceDetector {
		return
	}
	for _, r := range []struct {
		target string
		status int
	}{{"/limited", 200}, {"/limited", 429}, {"/cached", 200}, {"/cached", 200}, {"/cached", 200}} {
		if got := p.ask(t, "GET", r.target); got != r.status {
			t.Errorf("%s: got %d, want %d", r.target, got, r.status)
		}
	}
	row := func(route string) string {
		return fmt.Sprintf(`([...document.querySelectorAll("#decisions tbody tr")].find(r => r.cells[1].textContent === %q)?.cells[4].innerText ?? "")`, route)
	}
	b.until("the limit has decided", row("limited")+`.includes("1 allowed, 1 limited")`, 3*time.Second)
	b.until("the cache has decided", row("cached")+`.includes("2 hit, 1 miss") && `+row("cached")+`.includes("66.7% without the upstream")`, 3*time.Second)
	if got := b.text(`document.querySelector("#stores tbody tr").innerText`); !strings.Contains(got, "256 MiB") {
		t.Errorf("the memory of the cache is %q", got)
	}
}

// silence is what happens when the way to wproxy stops to carry anything, without an end
// of the connection: the page says so, and comes back on another connection.
func (p *pageRig) silence(t *testing.T, b *browser) {
	t.Helper()
	way := newFreezer(t, p.admin)
	p.way = way.addr
	b.open("http://"+way.addr+"/", 1440, "light")
	b.until("it is live", `document.body.className === "" && state.live !== null`, 5*time.Second)
	b.eval(nil, `void Object.assign(patience, {silence: 1200, again: 1500})`)
	way.freeze()
	b.until("it says that it is old", `document.body.className === "stale"`, 5*time.Second)
	b.until("it has come back", `document.body.className === ""`, 8*time.Second)
	b.open("http://"+p.admin+"/", 1440, "light")
	b.until("all servers of shop are up", serverCell(p.one.Listener.Addr().String(), 2)+`.includes("● up")`, 5*time.Second)
}

// A freezer passes bytes on to an address, until the connections for events are frozen;
// later ones work.
type freezer struct {
	addr string

	mu    sync.Mutex
	conns []*frozen // guarded by mu
}

type frozen struct {
	net.Conn
	events atomic.Bool // it carries them
	stuck  atomic.Bool
}

// Read looks for what is asked for.
func (f *frozen) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if bytes.Contains(b[:n], []byte("GET /events")) {
		f.events.Store(true)
	}
	return n, err
}

// Write drops what is written to a frozen connection.
func (f *frozen) Write(b []byte) (int, error) {
	if f.stuck.Load() {
		return len(b), nil
	}
	return f.Conn.Write(b)
}

func newFreezer(t *testing.T, to string) *freezer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{addr: l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			client := &frozen{Conn: c}
			f.mu.Lock()
			f.conns = append(f.conns, client)
			f.mu.Unlock()
			all.Go(func() { _, _ = io.Copy(up, client); _ = up.Close() }) // ends with the client's side
			all.Go(func() { _, _ = io.Copy(client, up); _ = c.Close() })  // ends with wproxy's
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			_ = c.Close()
		}
		f.mu.Unlock()
		all.Wait()
	})
	return f
}

// freeze lets nothing through to the clients that get events, and ends the others: the
// browser would use them again, one after the other.
func (f *freezer) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.stuck.Store(true)
		if !c.events.Load() {
			_ = c.Close()
		}
	}
}
