package main

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
)

// An upstreamCase is one thing an origin does wrong, and what the client may
// see of it.
type upstreamCase struct {
	name   string
	method string // GET if empty
	http10 bool   // the client speaks HTTP/1.0
	head   string // more field lines of the request

	raw   string // what the origin sends
	stays bool   // and then it keeps the connection open

	// want is the status, "200|502" are alternatives. "aborted" is an answer
	// that the client can tell is not complete, and nothing else.
	want string
	body string // of a complete 200

	// reused: the connection is good for another request afterwards. All
	// others must not be used again.
	reused bool
}

// ok is the start of a good answer; what makes it bad follows.
const ok = "HTTP/1.1 200 OK\r\nX-Origin: 1\r\n"

var upstreamCases = []upstreamCase{
	{name: "good", raw: ok + "Content-Length: 2\r\n\r\nok", stays: true, want: "200", body: "ok", reused: true},
	{name: "good and chunked", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", stays: true, want: "200", body: "ok", reused: true},
	{name: "good until it closes", raw: ok + "\r\nok", want: "200", body: "ok"},
	{name: "good HTTP/1.0", raw: "HTTP/1.0 200 OK\r\nX-Origin: 1\r\n\r\nok", want: "200", body: "ok"},
	{name: "says that it closes", raw: ok + "Connection: close\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "200", body: "ok"},
	{name: "HTTP/1.0 with a length", raw: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "200", body: "ok"},

	// Framing (RFC 9112 6).
	{name: "coding and length", raw: ok + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2\r\nok\r\n0\r\n\r\n", stays: true, want: "502|200", body: "ok"},
	{name: "two lengths", raw: ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!", stays: true, want: "502"},
	{name: "lengths in a list", raw: ok + "Content-Length: 2, 3\r\n\r\nok!", stays: true, want: "502"},
	{name: "negative length", raw: ok + "Content-Length: -1\r\n\r\nok", stays: true, want: "502"},
	{name: "length with a sign", raw: ok + "Content-Length: +2\r\n\r\nok", stays: true, want: "502"},
	{name: "length that overflows", raw: ok + "Content-Length: 18446744073709551618\r\n\r\nok", stays: true, want: "502"},
	{name: "empty length", raw: ok + "Content-Length:\r\n\r\nok", stays: true, want: "502"},
	{name: "chunked twice", raw: ok + "Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", stays: true, want: "502"},
	{name: "unknown coding", raw: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", stays: true, want: "502"},
	{name: "identity", raw: ok + "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "coding with a vertical tab", raw: ok + "Transfer-Encoding: \x0bchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", stays: true, want: "502"},
	{name: "chunked in HTTP/1.0", raw: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", stays: true, want: "502"},

	// A body that is cut or broken never looks complete.
	{name: "short", raw: ok + "Content-Length: 10\r\n\r\nok", want: "aborted|502"},
	{name: "short in HTTP/1.0", raw: "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nok", want: "aborted|502"},
	{name: "nothing of the body", raw: ok + "Content-Length: 10\r\n\r\n", want: "aborted|502"},
	{name: "chunks cut", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nok", want: "aborted|502"},
	{name: "no last chunk", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", want: "aborted|502"},
	{name: "last chunk cut", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", want: "aborted|502"},
	{name: "no chunk at all", raw: ok + "Transfer-Encoding: chunked\r\n\r\n", want: "aborted|502"},
	{name: "chunk size is no number", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nx\r\n\r\n", stays: true, want: "aborted|502"},
	{name: "chunk size overflows", raw: ok + "Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n", stays: true, want: "aborted|502"},
	{name: "chunk too long", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok!\r\n0\r\n\r\n", stays: true, want: "aborted|502"},
	{name: "LF after a chunk size", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", stays: true, want: "aborted|502"},
	{name: "huge chunk extension", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("a", 100_000) + "\r\nok\r\n0\r\n\r\n", stays: true, want: "aborted|502"},
	{name: "bad trailer", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX Y: 1\r\n\r\n", stays: true, want: "aborted|502"},
	{name: "huge trailer", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: " + strings.Repeat("a", 100_000) + "\r\n\r\n", stays: true, want: "aborted|502"},
	// HTTP/1.0 knows no chunks: only a reset says that the end is none.
	{name: "short chunks to HTTP/1.0", http10: true, raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", want: "aborted|502"},
	{name: "bad chunks to HTTP/1.0", http10: true, raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nx\r\n\r\n", stays: true, want: "aborted|502"},
	{name: "good chunks to HTTP/1.0", http10: true, raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", stays: true, want: "200", body: "ok", reused: true},

	// What comes after the end belongs to nobody.
	{name: "garbage after the end", raw: ok + "Content-Length: 2\r\n\r\nokGARBAGE", stays: true, want: "200|502|aborted", body: "ok"},
	{name: "garbage after the last chunk", raw: ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nGARBAGE", stays: true, want: "200|502|aborted", body: "ok"},
	{name: "an answer nobody asked for", raw: ok + "Content-Length: 2\r\n\r\nok" + ok + "Content-Length: 4\r\n\r\nevil", stays: true, want: "200|502|aborted", body: "ok"},
	{name: "body of an answer to HEAD", method: "HEAD", raw: ok + "Content-Length: 4\r\n\r\nevil", stays: true, want: "200|502"},
	{name: "chunks of an answer to HEAD", method: "HEAD", raw: ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", stays: true, want: "200|502"},
	{name: "body of 204", raw: "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", stays: true, want: "204|502"},
	{name: "chunks of 204", raw: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", stays: true, want: "204|502"},
	{name: "body of 304", raw: "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", stays: true, want: "304|502"},
	{name: "204 without one", raw: "HTTP/1.1 204 No Content\r\n\r\n", stays: true, want: "204", reused: true},
	{name: "304 with the length of another", raw: "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", stays: true, want: "304", reused: true},
	{name: "answer to HEAD", method: "HEAD", raw: ok + "Content-Length: 4\r\n\r\n", stays: true, want: "200", reused: true},

	// The head (RFC 9112 4, 5).
	{name: "nothing", raw: "", want: "502"},
	{name: "part of a status line", raw: "HTTP/1.1 20", want: "502"},
	{name: "part of a head", raw: ok + "Content-Len", want: "502"},
	{name: "garbage", raw: "garbage\r\n\r\n", stays: true, want: "502"},
	{name: "much garbage", raw: strings.Repeat("garbage ", 20_000), stays: true, want: "502"},
	{name: "NULs", raw: strings.Repeat("\x00", 100) + "\r\n\r\n", stays: true, want: "502"},
	{name: "another protocol", raw: "SSH-2.0-x\r\n\r\n", stays: true, want: "502"},
	{name: "HTTP/2 in the status line", raw: "HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "HTTP/1.1 in lower case", raw: "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "status of two digits", raw: "HTTP/1.1 99 Low\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "status of four digits", raw: "HTTP/1.1 2000 High\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "status is no number", raw: "HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "status 000", raw: "HTTP/1.1 000 None\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "CR in the reason", raw: "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "NUL in the reason", raw: "HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "LF ends lines", raw: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", stays: true, want: "502"},
	{name: "LF ends a field", raw: ok + "X-A: b\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "folded field", raw: ok + "X-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502|200", body: "ok"},
	{name: "blank before the colon", raw: ok + "Content-Length : 2\r\n\r\nok", stays: true, want: "502"},
	{name: "field without a colon", raw: ok + "Content-Length\r\n\r\nok", stays: true, want: "502"},
	{name: "field name is no token", raw: ok + "X A: 1\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "NUL in a value", raw: ok + "X-A: b\x00\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "CR in a value", raw: ok + "X-A: b\rSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "very long field", raw: ok + "X-A: " + strings.Repeat("a", 200_000) + "\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "very many fields", raw: ok + strings.Repeat("X: 1\r\n", 5_000) + "Content-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "hop by hop fields", raw: ok + "Connection: x-secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nContent-Length: 2\r\n\r\nok", stays: true, want: "200", body: "ok", reused: true},

	// Interim responses (RFC 9110 15.2).
	{name: "100 that nobody waits for", raw: "HTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nok", stays: true, want: "200", body: "ok", reused: true},
	{name: "103", raw: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nok", stays: true, want: "200", body: "ok", reused: true},
	{name: "103 to HTTP/1.0", http10: true, raw: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nok", stays: true, want: "200", body: "ok", reused: true},
	{name: "very many 103", raw: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 2_000) + ok + "Content-Length: 2\r\n\r\nok", stays: true, want: "502|aborted"},
	{name: "very many 100", raw: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 5_000) + ok + "Content-Length: 2\r\n\r\nok", stays: true, want: "502"},
	{name: "103 and then nothing", raw: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", want: "502|aborted"},
	{name: "103 with a length", raw: "HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\nevil" + ok + "Content-Length: 2\r\n\r\nok", stays: true, want: "502|aborted"},

	// Upgrades (RFC 9110 7.8).
	{name: "101 that nobody asked for", raw: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nevil", stays: true, want: "502"},
	{name: "101 to another protocol", head: "Connection: upgrade\r\nUpgrade: websocket\r\n", raw: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\nevil", stays: true, want: "502"},
	{name: "101 without a protocol", head: "Connection: upgrade\r\nUpgrade: websocket\r\n", raw: "HTTP/1.1 101 Switching Protocols\r\n\r\nevil", stays: true, want: "502"},
	{name: "101 to HTTP/1.0", http10: true, head: "Connection: upgrade\r\nUpgrade: websocket\r\n", raw: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nevil", stays: true, want: "502"},
}

func TestHostileUpstreams(t *testing.T) {
	var current atomic.Pointer[upstreamCase]
	var bad atomic.Int64 // connections that had a case and are still open
	origin := strict.NewOrigin(t, func(r *strict.Request) strict.Answer {
		if r.Target != "/bad" {
			return echo(r)
		}
		bad.Add(1)
		return strict.Answer{Raw: []byte(current.Load().raw), Then: func(c net.Conn, rest io.Reader) {
			defer bad.Add(-1)
			if current.Load().stays {
				// Whatever comes now was sent on a connection that must not be used again,
				// unless the case says that it may: then it is the next request.
				serveRest(c, rest)
			}
		}}
	})
	in := startInstance(t, strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr()))
	h := &hostile{in: in, origin: origin}
	h.healthy(t, false)
	for _, c := range upstreamCases {
		t.Run(c.name, func(t *testing.T) {
			current.Store(&c)
			h.runUpstream(t, c)
			if c.reused {
				origin.CloseConns()
			}
			// Closed, not forgotten: what must not be used again costs nothing.
			strict.Eventually(t, "without the connection of this case", func() bool { return bad.Load() == 0 })
		})
	}
	strict.Eventually(t, "without client connections", func() bool { return in.sum(t, "wproxy_connections") == 0 })
	if strings.Contains(in.stderr.String(), "panic") {
		t.Errorf("panic: %s", in.stderr)
	}
}

// reusedMark is what the origin answers to a request on a connection that had
// a case before it.
const reusedMark = "on the same connection"

// serveRest answers further requests on a connection with reusedMark.
func serveRest(c net.Conn, rest io.Reader) {
	r := strict.NewReader(rest)
	for {
		if _, err := r.ReadRequest(); err != nil {
			return
		}
		if _, err := c.Write(strict.Reply(200, reusedMark).Raw); err != nil {
			return
		}
	}
}

// runUpstream sends one request that the origin answers badly.
func (h *hostile) runUpstream(t *testing.T, c upstreamCase) {
	w := h.in.dial(t)
	defer w.Close()
	method, version := c.method, "HTTP/1.1"
	if method == "" {
		method = "GET"
	}
	if c.http10 {
		version = "HTTP/1.0"
	}
	if _, err := fmt.Fprintf(w, "%s /bad %s\r\nHost: a.test\r\n%s\r\n", method, version, c.head); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	resp, err := w.r.ReadResponse(method)
	got := fmt.Sprint(resp.Status)
	if err != nil {
		got = "aborted"
		if !isClosed(err) {
			t.Errorf("the client sees %v (status %d)", err, resp.Status)
		}
	}
	if !slices.Contains(strings.Split(c.want, "|"), got) {
		t.Errorf("got %s (status %d, %q, %v), want %s", got, resp.Status, shorten(string(resp.Body)), err, c.want)
	}
	if took := time.Since(begin); took > prompt {
		t.Errorf("it took %v", took)
	}
	if got == "200" && method != "HEAD" && string(resp.Body) != c.body {
		t.Errorf("got body %q, want %q", shorten(string(resp.Body)), c.body)
	}
	for _, name := range []string{"x-secret", "set-cookie"} {
		if v := resp.Fields.All(name); v != nil {
			t.Errorf("the client sees %s: %q", name, v)
		}
	}
	if c.http10 && len(resp.Interim) > 0 {
		t.Errorf("an HTTP/1.0 client sees %d", resp.Interim)
	}
	if slices.Contains(resp.Interim, 100) {
		t.Error("the client sees a 100 that it has not asked for")
	}
	// Nothing may follow on the client's connection but the answer to its next request.
	switch {
	case err != nil || resp.Close || c.http10:
		w.wantClosed(t, "after the answer")
	default:
		if _, err := io.WriteString(w, msg("GET /next HTTP/1.1", hostLine)); err != nil {
			t.Fatal(err)
		}
		next, err := w.r.ReadResponse("GET")
		h.wantNext(t, c, next, err, "GET /next")
	}
	_, _, _ = h.origin.Take() // what it has seen was never in question here
	h.healthyAfter(t, c)
}

// wantNext checks the answer to the request after a case.
func (h *hostile) wantNext(t *testing.T, c upstreamCase, resp *strict.Response, err error, want string) {
	t.Helper()
	reused := string(resp.Body) == reusedMark
	switch {
	case err != nil || resp.Status != 200:
		t.Errorf("the next request got %d %q, %v", resp.Status, shorten(string(resp.Body)), err)
	case reused && !c.reused:
		t.Error("the connection was used again")
	case !reused && string(resp.Body) != want:
		t.Errorf("the next request got %q, want %q", shorten(string(resp.Body)), want)
	}
}

// healthyAfter is healthy where the connection of the case may be used again.
func (h *hostile) healthyAfter(t *testing.T, c upstreamCase) {
	t.Helper()
	target := fmt.Sprintf("/healthy?%d", h.n.Add(1))
	resp := h.in.get(t, "a.test", target)
	h.wantNext(t, c, resp, nil, "GET "+target)
	_, _, violations := h.origin.Take()
	for _, v := range violations {
		t.Errorf("the origin: %s", v)
	}
}

// TestUnaskedAnswer: bytes that an origin sends on an idle connection are the
// answer to nobody's next request.
func TestUnaskedAnswer(t *testing.T) {
	answered, spoken := make(chan struct{}), make(chan struct{})
	origin := strict.NewOrigin(t, func(r *strict.Request) strict.Answer {
		if r.Target != "/poison" {
			return echo(r)
		}
		return strict.Answer{Raw: echo(r).Raw, Then: func(c net.Conn, rest io.Reader) {
			select {
			case <-answered: // the connection is on its way back to the pool
			case <-t.Context().Done():
				return
			}
			_, _ = c.Write(strict.Reply(200, "evil").Raw)
			select {
			case spoken <- struct{}{}:
			case <-t.Context().Done():
			}
			_, _ = io.Copy(io.Discard, rest)
		}}
	})
	in := startInstance(t, strings.ReplaceAll(hostileConfig, "@ORIGIN", origin.Addr()))
	for i := range 5 {
		if got := in.get(t, "a.test", "/poison"); string(got.Body) != "GET /poison" {
			t.Fatalf("got %d %q", got.Status, got.Body)
		}
		answered <- struct{}{}
		<-spoken // over loopback, what was written is there
		target := fmt.Sprintf("/next?%d", i)
		if got := in.get(t, "a.test", target); string(got.Body) != "GET "+target {
			t.Errorf("the next request got %d %q", got.Status, got.Body)
		}
	}
}
