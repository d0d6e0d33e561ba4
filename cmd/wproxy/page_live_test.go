package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// limits is the section about limits and caches against what the plugins have decided.
func (p *pageRig) limits(t *testing.T, b *browser) {
	t.Helper()
	b.until("the doors are there", `[...document.querySelectorAll("#doors tbody tr")].some(r => r.innerText.includes("20.0k"))`, browserTime)
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
	b.until("the limit has decided", row("limited")+`.includes("1 allowed, 1 limited")`, browserTime)
	b.until("the cache has decided", row("cached")+`.includes("2 hit, 1 miss") && `+row("cached")+`.includes("66.7% without the upstream")`, browserTime)
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
	b.until("it is live", `document.body.className === "" && state.live !== null`, browserTime)
	b.eval(nil, `void Object.assign(patience, {silence: 1200, again: 1500})`)
	way.freeze()
	b.until("it says that it is old", `document.body.className === "stale"`, browserTime)
	b.until("it has come back", `document.body.className === ""`, browserTime)
	b.open("http://"+p.admin+"/", 1440, "light")
	b.until("all servers of shop are up", serverCell(p.one.Listener.Addr().String(), 2)+`.includes("● up")`, browserTime)
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

// restart is about another process, which counts from 1 again.
func restart(t *testing.T, b *browser) {
	t.Helper()
	// Another process counts from 1 again: what has the same number is not the same.
	b.eval(nil, `(state.marks = [], take({...state.live, points: [], requests: [], marks: [{seq: 1, time: "2020-01-01T00:00:00Z", kind: "up", text: "first"}]}))`)
	b.eval(nil, `(state.marks = [], take({...state.live, points: [], requests: [], marks: [{seq: 1, time: "2020-01-01T00:01:00Z", kind: "up", text: "sec\u202Eond"}]}))`)
	if got := b.text(`document.getElementById("marks").innerText`); strings.Contains(got, "first") || !strings.Contains(got, `sec\u{202e}ond`) {
		t.Errorf("got %q", got)
	}
}

// hours is what a page keeps that is open for long: no more than it shows.
func hours(t *testing.T, b *browser) {
	t.Helper()
	b.eval(nil, `(live => {
		for (let i = 1; i <= 40; i++) {
			const five = make => [0, 1, 2, 3, 4].map(j => make(5 * i + j)), when = n => new Date(1e12 + 5000 * n).toISOString();
			take({...live, points: five(n => ({t: 1e9 + 5 * n, s: 5, requests: 9, client: 1, upstream: 1, proxy: 1, p50: 1, p99: 1})),
				marks: five(n => ({seq: 1e6 + n, time: when(n), kind: "up", text: "x"})),
				requests: five(n => ({seq: 1e6 + n, kind: "slow", curl: "", log: {ts: when(n), method: "GET", host: "h", path: "/"}}))});
		}
	})(state.live)`)
	var n []int
	b.eval(&n, `[state.points.length, state.marks.length, document.querySelectorAll("#marks li").length, state.requests.filter(r => r.kind === "slow").length, document.querySelectorAll("#request-rows tbody tr").length <= 200 ? 1 : 0]`)
	if want := []int{181, 128, 128, 40, 1}; !slices.Equal(n, want) {
		t.Errorf("after hours the page has %v points, marks, of them shown, slow requests, and few rows; want %v", n, want)
	}
	b.eval(nil, `(state.points = [], state.marks = [], state.requests = [], null)`)
}
