package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
)

// A hostileCase is one malformed or dangerous input, sent on a connection of
// its own, and what may come of it on both sides.
type hostileCase struct {
	name   string
	in     string // the bytes the client sends
	fin    bool   // and then it half-closes
	method string // of the first request, if it matters for its answer

	// want is the status of each answer in order, separated by blanks, with
	// alternatives as "200|400". "none" is an answer that need not come,
	// "closed" a connection that is closed without one.
	want string

	// seen are the complete requests that the origin has seen, one for each
	// answer that is the origin's.
	seen    []string
	partial bool // the origin may have seen a request that breaks off
	local   bool // the last answer is wproxy's own to a request whose end is not in question: it may keep the connection
	keeps   bool // the connection is as good as new afterwards

	check func(t *testing.T, first *strict.Request) // of the first request the origin sees
}

// hostileConfig has one route to the origin, and routes that never get there.
const hostileConfig = `version = 1
[listeners.http]
address = "@ADDR"
protocols = ["h1"] # the preface of HTTP/2 is one of the inputs

[routes.all]
host = "a.test"
upstream = "origin"

[routes.denied]
host = "a.test"
path = "/denied"
upstream = "origin"
deny = ["0.0.0.0/0", "::/0"]

[routes.respond]
host = "a.test"
path = "/respond"
respond = { status = 418, body = "no" }

[upstreams.origin]
servers = ["@ORIGIN"]

[admin]
address = "@ADMIN"

[log]
to = "stderr"
access = { to = "@ACCESS" }
`

// originMark is a field that only the origin's answers have.
const originMark = "x-origin"

// echo answers with what the origin has understood.
func echo(r *strict.Request) strict.Answer {
	body := r.String()
	a := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Origin: 1\r\nContent-Length: %d\r\n\r\n", len(body))
	if r.Method != "HEAD" {
		a += body
	}
	return strict.Answer{Raw: []byte(a)}
}

func TestHostileRequests(t *testing.T) {
	origin := strict.NewOrigin(t, echo)
	in := startInstance(t, strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr()))
	h := &hostile{in: in, origin: origin}
	h.healthy(t, false)
	for _, g := range []struct {
		name  string
		cases []hostileCase
	}{
		{"framing", framingCases},
		{"chunks", chunkCases},
		{"request line", lineCases},
		{"target", targetCases},
		{"host", hostCases},
		{"fields", fieldCases},
		{"hop by hop", hopCases},
		{"trust", trustCases},
	} {
		for _, c := range g.cases {
			for _, way := range []string{"at once", "byte by byte"} {
				t.Run(g.name+"/"+c.name+"/"+way, func(t *testing.T) { h.run(t, c, way == "byte by byte") })
			}
		}
	}
	strict.Eventually(t, "without client connections", func() bool { return in.sum(t, "wproxy_connections") == 0 })
	if strings.Contains(in.stderr.String(), "panic") {
		t.Errorf("panic: %s", in.stderr)
	}
}

// hostile runs cases against one instance.
type hostile struct {
	in     *instance
	origin *strict.Origin
	n      atomic.Int64 // of healthy requests
}

// run sends one case and judges both ends.
func (h *hostile) run(t *testing.T, c hostileCase, slowly bool) {
	refused := h.in.sum(t, "wproxy_refused_total")
	w := h.in.dial(t)
	go w.send(c.in, c.fin, slowly) // ends with the connection, which this test closes
	answers := h.answers(t, w, c)
	mine := 0 // answers that the origin gave
	for _, a := range answers {
		if a.Fields.Get(originMark) != "" {
			mine++
		}
	}
	// Refused is what wproxy answered itself or closed without an answer.
	isRefused := mine < len(answers) || len(answers) == 0
	switch {
	case isRefused && !c.local:
		w.wantClosed(t, "after the refusal")
	case c.keeps:
		h.sentinel(t, w)
	}
	_ = w.Close()
	h.judge(t, c, mine)
	if counted := h.in.sum(t, "wproxy_refused_total") > refused; counted != isRefused && !c.fin && !c.local {
		t.Errorf("counted as refused: %v, want %v", counted, isRefused)
	}
	h.healthy(t, c.partial)
	if t.Failed() {
		t.Logf("sent %q", shorten(c.in))
	}
}

// judge compares what the origin has seen with what it may have.
func (h *hostile) judge(t *testing.T, c hostileCase, mine int) {
	t.Helper()
	strict.Eventually(t, "at the end of all requests to the origin", h.origin.Idle)
	complete, partial, violations := h.origin.Take()
	for _, v := range violations {
		t.Errorf("the origin: %s", v)
	}
	if !c.partial && len(partial) > 0 {
		t.Errorf("the origin has seen a part of %v", partial)
	}
	var got []string
	for _, r := range complete {
		got = append(got, r.String())
	}
	if want := c.seen[:min(mine, len(c.seen))]; !slices.Equal(got, want) {
		t.Errorf("the origin has seen %q, want %q", got, want)
	}
	if c.check != nil && len(complete) > 0 {
		c.check(t, complete[0])
	}
}

// answers reads the answers of a case, as many as there must be.
func (h *hostile) answers(t *testing.T, w *wire, c hostileCase) []*strict.Response {
	t.Helper()
	var all []*strict.Response
	for i, want := range strings.Fields(c.want) {
		method := "GET"
		if i == 0 && c.method != "" {
			method = c.method
		}
		resp, err := w.r.ReadResponse(method)
		alternatives := strings.Split(want, "|")
		if resp.Status == 0 && isClosed(err) {
			if !slices.Contains(alternatives, "closed") && !slices.Contains(alternatives, "none") {
				t.Errorf("answer %d: closed (%v), want %s", i+1, err, want)
			}
			return all
		}
		if err != nil {
			t.Errorf("answer %d: %v (status %d), want %s", i+1, err, resp.Status, want)
			return all
		}
		all = append(all, resp)
		if !slices.Contains(alternatives, strconv.Itoa(resp.Status)) {
			t.Errorf("answer %d: got %d %q, want %s", i+1, resp.Status, shorten(string(resp.Body)), want)
			return all
		}
		if resp.Fields.Get(originMark) == "" {
			return all // wproxy has answered itself: nothing after that counts
		}
		if i < len(c.seen) && method != "HEAD" && string(resp.Body) != c.seen[i] {
			t.Errorf("answer %d is to %q, want that to %q", i+1, resp.Body, c.seen[i])
		}
	}
	return all
}

// sentinel checks that w is at the start of a new request.
func (h *hostile) sentinel(t *testing.T, w *wire) {
	t.Helper()
	if _, err := io.WriteString(w, msg("GET /sentinel HTTP/1.1", hostLine)); err != nil {
		t.Errorf("the connection is not kept: %v", err)
		return
	}
	resp, err := w.r.ReadResponse("GET")
	if err != nil || string(resp.Body) != "GET /sentinel" {
		t.Errorf("the next request on the connection got %d %q, %v", resp.Status, resp.Body, err)
		return
	}
	complete, partial, violations := h.origin.Take()
	last := len(complete) - 1
	if last < 0 || complete[last].Target != "/sentinel" {
		t.Fatalf("the origin has seen %v, want /sentinel last", complete)
	}
	h.origin.Return(complete[:last], partial, violations)
}

// healthy sends a request that nothing is wrong with on a connection of its
// own; whatever was sent before must not show in it, but for a request that
// has broken off, where the origin may take note of it only now.
func (h *hostile) healthy(t *testing.T, partialBefore bool) {
	t.Helper()
	target := fmt.Sprintf("/healthy?%d", h.n.Add(1))
	resp := h.in.get(t, "a.test", target)
	if resp.Status != 200 || string(resp.Body) != "GET "+target {
		t.Errorf("a healthy request got %d %q", resp.Status, resp.Body)
	}
	complete, partial, violations := h.origin.Take()
	if len(complete) != 1 || complete[0].Target != target || len(violations) > 0 || len(partial) > 0 && !partialBefore {
		t.Errorf("a healthy request: the origin has seen %v, %v, %q", complete, partial, violations)
	}
}

// slowLimit is the length in bytes up to which an input is sent byte by byte;
// longer ones go in pieces.
const slowLimit = 4 << 10

// send writes in, as far as the other side lets it.
func (w *wire) send(in string, fin, slowly bool) {
	size := max(len(in), 1)
	if slowly {
		size = 1
		if len(in) > slowLimit {
			size = 1000
		}
	}
	for p := range slices.Chunk([]byte(in), size) {
		if _, err := w.Write(p); err != nil {
			return // it has closed: the answer says why
		}
	}
	if c, ok := w.Conn.(*net.TCPConn); ok && fin {
		_ = c.CloseWrite() // or closed by the other side already
	}
}

// wantClosed checks that nothing more comes and the connection ends.
func (w *wire) wantClosed(t *testing.T, when string) {
	t.Helper()
	rest, err := io.ReadAll(io.LimitReader(w.r.Buffered(), 1<<16))
	if len(rest) > 0 {
		t.Errorf("%s there comes %q", when, rest)
	}
	if err != nil && !isClosed(err) {
		t.Errorf("%s the connection stays open: %v", when, err)
	}
}

// isClosed reports whether err says that the other side has closed the
// connection, in order or not.
func isClosed(err error) bool {
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// shorten cuts long inputs for messages.
func shorten(s string) string {
	if len(s) > 400 {
		return s[:300] + fmt.Sprintf("... (%d bytes) ...", len(s)) + s[len(s)-100:]
	}
	return s
}

// TestSlowHead: a head that does not come to its end is cut off after
// limits.header_time, also when every byte of it comes in time.
func TestSlowHead(t *testing.T) {
	origin := strict.NewOrigin(t, echo)
	toml := strings.Replace(strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr()),
		`address = "@ADDR"`, "address = \"@ADDR\"\nlimits = { header_time = \"500ms\" }", 1)
	in := startInstance(t, toml)
	w := in.dial(t)
	begin := time.Now()
	go func() { // ends when the connection is closed
		for {
			if _, err := io.WriteString(w, "X"); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	resp, err := w.r.ReadResponse("GET")
	if resp.Status != 408 && (resp.Status != 0 || !isClosed(err)) {
		t.Errorf("got %d, %v; want 408 or a closed connection", resp.Status, err)
	}
	if took := time.Since(begin); took < 300*time.Millisecond || took > prompt {
		t.Errorf("it took %v, want about 500ms", took)
	}
	if resp.Status == 408 {
		w.wantClosed(t, "after 408")
	}
}
