package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/cmd/wproxy/internal/strict"
)

// The times of the matrix: of a request, of a try, of connecting, and how much longer
// than a request may take it is until a test has seen that. With the race detector, the cells of a
// protocol, which are all sent at once, take that much of a busy machine.
var (
	matrixTimeout = slowly(5 * time.Second) // three tries, and what is between them
	matrixTry     = slowly(time.Second)
	matrixConnect = slowly(600 * time.Millisecond)
	matrixMargin  = slowly(1500 * time.Millisecond)
)

// slowly is d, or three times that with the race detector.
func slowly(d time.Duration) time.Duration {
	if raceDetector {
		d *= 3
	}
	return d
}

// matrixProtocols are what is spoken: by the client, and to the servers, with how a server's
// speaker is made, and the upstream's key that asks for it.
var matrixProtocols = []struct {
	name, config string
	speak        func(*net.TCPConn) speaker
	client, up   bool // HTTP/2
}{
	{"h1", "", newH1Speaker, false, false},
	{"h1 to h2c", `connect.protocol = "h2"`, newH2Speaker, false, true},
	{"h2c to h1", "", newH1Speaker, true, false},
	{"h2c", `connect.protocol = "h2"`, newH2Speaker, true, true},
}

// A matrixFault is one way for a server to go wrong.
type matrixFault struct {
	name string
	do   func(s speaker) // nil: there is no such server at all

	// address returns the server's if do is nil.
	address func(t *testing.T) string

	// What a client gets when there is no other server: "STATUS reason" of wproxy's own
	// answer, "500" for the server's, "cut" for an answer that is not complete, and
	// several of them with "|" between.
	want string

	maybe     bool // it is a matter of a moment whether the connection counts as made
	untouched bool // the server has not seen the request, so that every method is tried again
	committed bool // the head of the answer has gone out, so that nothing is

	overH2 func(f *matrixFault) // what is different to servers of HTTP/2; nil: nothing
}

// unspoken is a server of HTTP/2 that ends before it has said that it is one: no request
// was sent.
func unspoken(f *matrixFault) { f.untouched, f.maybe = true, false }

// overtaken is an answer whose end may be seen before its head is passed on, since frames
// are read by another goroutine: then it can be tried again.
func overtaken(f *matrixFault) { f.maybe = true }

var matrixFaults = []matrixFault{
	{name: "connection refused", address: func(t *testing.T) string { return quietAddress(t) }, want: "502 upstream_refused", untouched: true},
	{name: "blackholed SYN", address: blackHole, want: "504 upstream_connect_timeout", untouched: true},
	// maybe: a close that is seen before the request is written leaves it untouched
	{name: "accept and close", do: func(speaker) {}, want: "502 upstream_closed", maybe: true, overH2: unspoken},
	{name: "accept and reset", do: speaker.reset, want: "502 upstream_closed|502 upstream_unreachable", maybe: true, overH2: func(f *matrixFault) {
		f.untouched = true
	}},
	{name: "reset before head", do: func(s speaker) { s.request(); s.reset() }, want: "502 upstream_closed"},
	{name: "reset after head", do: func(s speaker) {
		s.request()
		s.head(200, 10)
		s.reset()
	}, want: "cut|502 upstream_truncated", committed: true, overH2: overtaken},
	{name: "reset in body", do: func(s speaker) {
		s.request()
		s.head(200, 100)
		s.body("half of it")
		time.Sleep(slowly(400 * time.Millisecond)) // on its way to the client; if it is not, another server is asked
		s.reset()
	}, want: "cut|502 upstream_truncated", committed: true, maybe: raceDetector},
	{name: "hang before head", do: func(s speaker) { s.request(); s.hang() }, want: "504 upstream_per_try_timeout"},
	{name: "hang in body", do: func(s speaker) {
		s.request()
		s.head(200, 100)
		s.body("half of it")
		s.hang()
	}, want: "cut", committed: true},
	{name: "garbage", do: func(s speaker) { s.request(); s.raw("220 mail.example.com ESMTP\r\n\r\n") }, want: "502 upstream_bad_status_line", overH2: func(f *matrixFault) {
		f.want = "502 upstream_h2_frame_size"
	}},
	{name: "wrong length", do: func(s speaker) {
		s.request()
		s.head(200, 100)
		s.body("half of it")
	}, want: "cut|502 upstream_truncated", committed: true, overH2: overtaken},
	{name: "slow drip", do: func(s speaker) { s.request(); s.drip(slowly(5 * time.Millisecond)) }, want: "504 upstream_per_try_timeout"},
	{name: "500s", do: func(s speaker) {
		for {
			s.request()
			s.head(500, 5)
			s.body("wrong")
		}
	}, want: "500"},
}

// A matrixRequest is a kind of request.
type matrixRequest struct {
	name, method string
	pieces       []string // of the body, with a pause in front of each
	repeatable   bool
}

var matrixRequests = []matrixRequest{
	{"GET", "GET", nil, true},
	{"POST", "POST", []string{"4\r\nbody\r\n0\r\n\r\n"}, false},
	{"streaming", "PUT", []string{"2\r\nbo\r\n", "2\r\ndy\r\n", "0\r\n\r\n"}, true},
}

// send sends the request and returns what came of it, as in matrixFault.want; "200" is
// a healthy server's answer.
func (r matrixRequest) send(in *instance, path string, overH2 bool) (got string, took time.Duration) {
	if overH2 {
		return r.sendH2(in, path)
	}
	begin := time.Now()
	c, err := net.Dial("tcp", in.addr)
	if err != nil {
		return err.Error(), 0
	}
	defer c.Close()
	w := &wire{Conn: c, r: strict.NewReader(c)}
	if err := c.SetDeadline(begin.Add(wireTimeout)); err != nil {
		return err.Error(), 0
	}
	head, want := "", "ok:"
	if r.pieces != nil {
		head, want = "Transfer-Encoding: chunked\r\n", "ok:body"
	}
	if _, err := fmt.Fprintf(w, "%s %s HTTP/1.1\r\nHost: a.test\r\n%s\r\n", r.method, path, head); err != nil {
		return err.Error(), 0
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { // ends with the pieces
		for i, p := range r.pieces {
			if i > 0 {
				time.Sleep(20 * time.Millisecond) // the pause of a stream
			}
			_, _ = io.WriteString(w, p) // an early answer closes the connection
		}
	})
	resp, err := w.r.ReadResponse(r.method)
	took = time.Since(begin)
	switch {
	case resp != nil && resp.Status == 200 && (err != nil || !resp.Complete):
		return "cut", took
	case err != nil:
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return "no answer", took
		}
		return err.Error(), took
	case resp.Status == 200 && string(resp.Body) != want:
		return fmt.Sprintf("200 %q", resp.Body), took
	case resp.Status == 200, string(resp.Body) == "wrong":
		return fmt.Sprint(resp.Status), took
	}
	_, reason, _ := strings.Cut(string(resp.Body), "reason: ")
	reason, _, _ = strings.Cut(reason, "\n")
	return fmt.Sprint(resp.Status, " ", reason), took
}

// sendH2 is send over HTTP/2.
func (r matrixRequest) sendH2(in *instance, path string) (got string, took time.Duration) {
	begin := time.Now()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	var body io.Reader
	want := "ok:"
	var wg sync.WaitGroup
	defer wg.Wait()
	if r.pieces != nil {
		pr, pw := io.Pipe()
		body, want = io.NopCloser(httputil.NewChunkedReader(pr)), "ok:body"
		defer pr.Close()
		wg.Go(func() { // ends with the pieces, or with pr
			for i, p := range r.pieces {
				if i > 0 {
					time.Sleep(20 * time.Millisecond) // the pause of a stream
				}
				_, _ = io.WriteString(pw, p)
			}
			_ = pw.Close()
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), wireTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, "http://"+in.addr+path, body)
	if err != nil {
		return err.Error(), 0
	}
	req.Host = "a.test"
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err.Error(), time.Since(begin)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	took = time.Since(begin)
	switch {
	case err != nil && resp.StatusCode == 200:
		return "cut", took
	case err != nil:
		return err.Error(), took
	case resp.StatusCode == 200 && string(text) != want:
		return fmt.Sprintf("200 %q", text), took
	case resp.StatusCode == 200, string(text) == "wrong":
		return fmt.Sprint(resp.StatusCode), took
	}
	_, reason, _ := strings.Cut(string(text), "reason: ")
	reason, _, _ = strings.Cut(reason, "\n")
	return fmt.Sprint(resp.StatusCode, " ", reason), took
}

// A matrixCell is a route of the matrix.
type matrixCell struct {
	overH2     bool // the client
	name, path string
	fault      matrixFault
	request    matrixRequest
	servers    int
	faulty     *faultServer // nil: there is none
}

// check sends requests until the server that goes wrong has had its turn. Each must
// end in time: well if it could be tried again elsewhere, and otherwise as the fault has
// it. It returns what is not so.
func (c *matrixCell) check(in *instance) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	elsewhere := c.servers > 1 && !c.fault.committed && (c.fault.untouched || c.request.repeatable)
	failed := 0
	for range c.servers {
		got, took := c.request.send(in, c.path, c.overH2)
		switch {
		case took > matrixTimeout+matrixMargin:
			bad("it took %v", took)
		case c.servers > 1 && got == "200":
			continue
		case elsewhere, !strings.Contains("|"+c.fault.want+"|", "|"+got+"|"):
			bad("got %s after %v, want %s", got, took, map[bool]string{true: "200", false: c.fault.want}[elsewhere])
		}
		failed++
	}
	if !elsewhere && failed != 1 && (failed > 1 || !c.fault.maybe) {
		bad("%d requests went wrong, want that of one server", failed)
	}
	if c.faulty != nil && c.faulty.hits.Load() == 0 {
		bad("the server that goes wrong was not asked")
	}
	return wrong
}

// TestFaultMatrix: whatever goes wrong at one server, a request that may be tried
// again ends well if another server is healthy, and every other request with the right
// status and reason, in time.
func TestFaultMatrix(t *testing.T) {
	for _, p := range matrixProtocols {
		t.Run(p.name, func(t *testing.T) {
			good := []*faultServer{startFault(t, p.speak, healthy), startFault(t, p.speak, healthy)}
			toml := strings.NewReplacer("@ORIGIN", good[0].addr, `protocols = ["h1"]`, `protocols = ["h1", "h2c"]`).Replace(hostileConfig)
			var cells []*matrixCell
			for _, f := range matrixFaults {
				if p.up && f.overH2 != nil {
					f.overH2(&f)
				}
				address := ""
				if f.address != nil {
					address = f.address(t)
				}
				for _, r := range matrixRequests {
					for _, servers := range []int{1, 3} {
						c := &matrixCell{
							name: fmt.Sprintf("%s/%s/%d", f.name, r.name, servers), path: fmt.Sprint("/", len(cells)),
							fault: f, request: r, servers: servers, overH2: p.client,
						}
						first := address
						if f.do != nil {
							c.faulty = startFault(t, p.speak, f.do)
							first = c.faulty.addr
						}
						list := []string{first, good[0].addr, good[1].addr}[:servers]
						toml += matrixRoute(len(cells), list, p.config)
						cells = append(cells, c)
					}
				}
			}
			in := startInstance(t, toml)
			wrong := make([][]string, len(cells))
			var wg sync.WaitGroup // t.Parallel would run as many at once as there are processors
			for i, c := range cells {
				wg.Go(func() { wrong[i] = c.check(in) })
			}
			wg.Wait()
			for i, c := range cells {
				t.Run(c.name, func(t *testing.T) {
					for _, text := range wrong[i] {
						t.Error(text)
					}
				})
			}
			strict.Eventually(t, "without client connections", func() bool { return in.sum(t, "wproxy_connections") == 0 })
			if strings.Contains(in.stderr.String(), "panic") {
				t.Errorf("panic: %s", in.stderr)
			}
		})
	}
}

// matrixRoute is a route to servers, with everything that there is to try again after.
func matrixRoute(n int, servers []string, config string) string {
	return fmt.Sprintf(`
[routes.cell%[1]d]
host     = "a.test"
path     = "/%[1]d"
upstream = "cell%[1]d"
timeout  = "%[2]s"
[routes.cell%[1]d.retry]
attempts   = 2
on         = ["connect", "refused-stream", "reset", "timeout", "500", "503"]
per_try    = "%[3]s"
budget_min = "100/s"
[upstreams.cell%[1]d]
servers = ["%[4]s"]
connect.timeout = "%[5]s"
%[6]s
`, n, matrixTimeout, matrixTry, strings.Join(servers, `", "`), matrixConnect, config)
}

// TestFlappingMatrix: a server that comes and goes costs nobody a request while there
// are two others; alone it is there or it is not.
func TestFlappingMatrix(t *testing.T) {
	period, lasting := 300*time.Millisecond, 1800*time.Millisecond
	if long() {
		period, lasting = time.Second, 20*time.Second
	}
	for _, p := range matrixProtocols {
		t.Run(p.name, func(t *testing.T) {
			good := []*faultServer{startFault(t, p.speak, healthy), startFault(t, p.speak, healthy)}
			toml := strings.NewReplacer("@ORIGIN", good[0].addr, `protocols = ["h1"]`, `protocols = ["h1", "h2c"]`).Replace(hostileConfig)
			var flapping []*faultServer
			for i, servers := range []int{1, 3} {
				flapping = append(flapping, startFault(t, p.speak, healthy))
				toml += matrixRoute(i, []string{flapping[i].addr, good[0].addr, good[1].addr}[:servers], p.config)
			}
			in := startInstance(t, toml)
			for _, f := range flapping {
				defer f.flap(t, period)()
			}
			var wg sync.WaitGroup
			for _, r := range matrixRequests {
				for i := range flapping {
					wg.Go(func() {
						seen := map[string]int{}
						for begin := time.Now(); time.Since(begin) < lasting; {
							got, took := r.send(in, fmt.Sprint("/", i), p.client)
							seen[got]++
							if took > matrixTimeout+matrixMargin {
								t.Errorf("%s took %v", r.name, took)
							}
							time.Sleep(2 * time.Millisecond)
						}
						alone := i == 0
						for got, n := range seen {
							switch {
							case got == "200":
							case alone && (got == "502 upstream_refused" || got == "502 upstream_closed"):
							case !r.repeatable && got == "502 upstream_closed": // it was at the server that went down
							case got == "cut" && n <= 2: // the server went down between head and body
							default:
								t.Errorf("%s with %d servers: %d requests got %s", r.name, []int{1, 3}[i], n, got)
							}
						}
						if seen["200"] == 0 || alone && len(seen) == 1 {
							t.Errorf("%s, alone %v: %v", r.name, alone, seen)
						}
					})
				}
			}
			wg.Wait()
		})
	}
}
