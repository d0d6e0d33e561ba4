package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
)

// mutants is how many random inputs are sent in CI; with WPROXY_LONG set there
// are fifty times as many.
const mutants = 1500

// TestMutatedRequests sends the hostile inputs again, each changed at random.
// Nobody knows what should come of one, but this holds for all: what the origin
// receives is beyond reproach, and the next request is served.
func TestMutatedRequests(t *testing.T) {
	origin := strict.NewOrigin(t, echo)
	in := startInstance(t, strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr()))
	h := &hostile{in: in, origin: origin}
	var inputs []string
	for _, cases := range [][]hostileCase{framingCases, chunkCases, lineCases, targetCases, hostCases, fieldCases, hopCases, trustCases} {
		for _, c := range cases {
			if len(c.in) <= slowLimit {
				inputs = append(inputs, c.in)
			}
		}
	}
	n, seed := mutants, uint64(1)
	if os.Getenv("WPROXY_LONG") != "" {
		n, seed = n*50, rand.Uint64()
		t.Logf("seed %d", seed)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		s := mutate(r, inputs[r.IntN(len(inputs))], inputs)
		w := in.dial(t)
		sendAndDrain(w, s)
		if i%50 != 0 && i != n-1 {
			continue
		}
		h.served(t)
		if t.Failed() {
			t.Fatalf("the last of them was %q", s)
		}
	}
	strict.Eventually(t, "without client connections", func() bool { return in.sum(t, "wproxy_connections") == 0 })
	if strings.Contains(in.stderr.String(), "panic") {
		t.Errorf("panic: %s", in.stderr)
	}
}

// served checks that a request gets its own answer and that the origin has no
// complaint. Other requests may still be under way.
func (h *hostile) served(t *testing.T) {
	t.Helper()
	target := fmt.Sprintf("/healthy?%d", h.n.Add(1))
	if resp := h.in.get(t, "a.test", target); resp.Status != 200 || string(resp.Body) != "GET "+target {
		t.Errorf("a healthy request got %d %q", resp.Status, resp.Body)
	}
	strict.Eventually(t, "at the end of all requests to the origin", h.origin.Idle)
	_, _, violations := h.origin.Take()
	for _, v := range violations {
		t.Errorf("the origin: %s", v)
	}
}

// sendAndDrain sends s, half-closes, and reads whatever comes back.
func sendAndDrain(w *wire, s string) {
	defer w.Close()
	_ = w.SetDeadline(time.Now().Add(wireTimeout))
	go w.send(s, true, false) // ends with the connection
	_, _ = io.Copy(io.Discard, w)
}

// mutate changes s in one to four places.
func mutate(r *rand.Rand, s string, others []string) string {
	pieces := []string{
		"\r\n", "\n", "\r", " ", "\t", "\x00", ":", ",", ";", "0", "5", "f", "%2e", "%00", "\x0b", "\xff", "\r\n ", "\r\n\r\n",
		"Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Host: b.test\r\n", "Connection: close\r\n", "HTTP/1.1", "HTTP/1.0", "0\r\n\r\n",
		"Expect: 100-continue\r\n", "Connection: upgrade\r\nUpgrade: x\r\n",
	}
	for range 1 + r.IntN(4) {
		if s == "" {
			return s
		}
		i := r.IntN(len(s))
		j := min(len(s), i+1+r.IntN(8))
		switch r.IntN(6) {
		case 0:
			s = s[:i] + s[j:]
		case 1:
			s = s[:i] + pieces[r.IntN(len(pieces))] + s[i:]
		case 2:
			s = s[:i] + pieces[r.IntN(len(pieces))] + s[j:]
		case 3:
			s = s[:i] + string([]byte{byte(r.IntN(256))}) + s[i+1:]
		case 4: // a line twice
			lines := strings.SplitAfter(s, "\r\n")
			k := r.IntN(len(lines))
			s = strings.Join(lines[:k+1], "") + strings.Join(lines[k:], "")
		case 5: // the end of another
			o := others[r.IntN(len(others))]
			s = s[:i] + o[r.IntN(len(o)):]
		}
	}
	return s
}

// TestMutatedResponses does the same to what origins send: the client never
// sees anything but a good answer or a cut one, and the next request is served.
func TestMutatedResponses(t *testing.T) {
	var current atomic.Pointer[string]
	origin := strict.NewOrigin(t, func(r *strict.Request) strict.Answer {
		if r.Target != "/bad" {
			return echo(r)
		}
		return strict.Answer{Raw: []byte(*current.Load()), Then: func(c net.Conn, _ io.Reader) {
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		}}
	})
	in := startInstance(t, strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr()))
	h := &hostile{in: in, origin: origin}
	var inputs []string
	for _, c := range upstreamCases {
		if len(c.raw) <= slowLimit && c.raw != "" {
			inputs = append(inputs, c.raw)
		}
	}
	n, seed := mutants, uint64(2)
	if os.Getenv("WPROXY_LONG") != "" {
		n, seed = n*50, rand.Uint64()
		t.Logf("seed %d", seed)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		raw := mutate(r, inputs[r.IntN(len(inputs))], inputs)
		current.Store(&raw)
		w := in.dial(t)
		if _, err := io.WriteString(w, msg("GET /bad HTTP/1.1", hostLine)); err != nil {
			t.Fatal(err)
		}
		resp, err := w.r.ReadResponse("GET")
		if err != nil && !isClosed(err) {
			t.Errorf("the client sees %v (status %d)", err, resp.Status)
		}
		if resp.Status == 101 {
			t.Error("the client sees 101")
		}
		_ = w.Close()
		if i%50 == 0 || i == n-1 || t.Failed() {
			h.served(t)
		}
		if t.Failed() {
			t.Fatalf("the origin sent %q", raw)
		}
	}
	if strings.Contains(in.stderr.String(), "panic") {
		t.Errorf("panic: %s", in.stderr)
	}
}
