package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// pairCases are what every pair of protocols has to do.
var pairCases = []struct {
	name string
	run  func(p *pair)
}{
	{"GET", pairGet},
	{"target and fields", pairFields},
	{"HEAD", pairHead},
	{"POST with a length", func(p *pair) { pairEcho(p, false) }},
	{"POST without a length", func(p *pair) { pairEcho(p, true) }},
	{"POST without a body", pairEmptyPost},
	{"both ways at once", pairBothWays},
	{"trailers", pairTrailers},
	{"trailers without a body", pairTrailersOnly},
	{"103", pairInterim},
	{"100", pairContinue},
	{"early answer", pairEarly},
	{"204 and 304", pairBodiless},
	{"errors of the upstream", pairStatuses},
	{"large heads", pairLargeHead},
	{"set-cookie and cookie", pairCookies},
	{"first bytes at once", pairFlush},
	{"client leaves the answer", pairClientLeaves},
	{"client leaves its request", pairClientCuts},
	{"upstream cuts its answer", pairUpstreamCuts},
	{"upstream goes before its answer", pairUpstreamGoes},
	{"rate limit", pairLimit},
	{"many at once", pairMany},
	{"upgrade", pairUpgrade},
}

// pairHandler is what the upstream does.
func pairHandler(o *pairOrigin, w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/", "/limited":
		_, _ = io.WriteString(w, "hello")
	case "/fields":
		_, _ = fmt.Fprintf(w, "%s %s a=%q proto=%q te=%q", r.Method, r.RequestURI, r.Header.Values("X-A"), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("Te"))
	case "/head":
		w.Header().Set("Content-Length", "12345")
		w.Header().Set("Etag", `"x"`)
	case "/echo":
		pairEchoes(w, r)
	case "/count":
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, "%d %v %d", n, err, r.ContentLength)
	case "/trailers":
		body, _ := io.ReadAll(r.Body) // its trailers are there then
		w.Header().Set("X-Length", strconv.Itoa(len(body)))
		w.Header().Set(http.TrailerPrefix+"X-Got", strings.Join(r.Trailer.Values("X-Sent"), ","))
		w.Header().Set(http.TrailerPrefix+"X-Sum", "42")
		_, _ = w.Write(body)
		_ = http.NewResponseController(w).Flush()
	case "/interim":
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "final")
	case "/early":
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "too much")
	case "/status":
		status, _ := strconv.Atoi(r.URL.Query().Get("s"))
		w.WriteHeader(status)
		if status != 204 && status != 304 {
			_, _ = fmt.Fprint(w, status)
		}
	case "/large":
		w.Header().Set("X-Back", r.Header.Get("X-Large"))
	case "/cookies":
		w.Header()["Set-Cookie"] = []string{"a=1; Path=/", "b=2", "c=3"}
		_, _ = io.WriteString(w, strings.Join(r.Header.Values("Cookie"), "|"))
	default:
		pairOddHandler(o, w, r)
	}
}

// pairOddHandler are the parts that wait, or break off.
func pairOddHandler(o *pairOrigin, w http.ResponseWriter, r *http.Request) {
	flush := func() { _ = http.NewResponseController(w).Flush() }
	id := r.URL.Query().Get("id")
	switch r.URL.Path {
	case "/flush":
		_, _ = io.WriteString(w, "first")
		flush()
		select {
		case <-o.signal(id):
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "second")
	case "/endless":
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				break
			}
		}
		o.happened(id)
	case "/upload":
		_, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			o.mu.Lock()
			o.faults = append(o.faults, "a request that was cut looked whole")
			o.mu.Unlock()
		}
		o.happened(id)
	case "/cut":
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", "1000")
		}
		_, _ = io.WriteString(w, "a part")
		flush()
		<-o.signal(id)
		panic(http.ErrAbortHandler)
	case "/gone":
		panic(http.ErrAbortHandler)
	case "/switch":
		pairSwitch(w, r)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// pairEchoes sends back what it gets, as it comes.
func pairEchoes(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	_ = c.EnableFullDuplex() // only HTTP/1 needs it
	w.WriteHeader(http.StatusOK)
	_ = c.Flush()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			_ = c.Flush()
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// pairSwitch accepts an upgrade and echoes.
func pairSwitch(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "test" {
		w.WriteHeader(http.StatusUpgradeRequired)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n")
	_, _ = io.Copy(c, rw.Reader)
}

func pairGet(p *pair) {
	for range 3 {
		p.want(p.do(p.request("GET", "/", nil)), 200, "hello")
	}
}

func pairFields(p *pair) {
	r := p.request("GET", "/fields?q=a%20b&&c=%2F", nil)
	r.Header["X-A"] = []string{"1", "2, 3", ""}
	r.Header.Set("Te", "trailers")
	proto := "http"
	if p.from.tls {
		proto = "https"
	}
	p.want(p.do(r), 200, fmt.Sprintf(`GET /fields?q=a%%20b&&c=%%2F a=["1" "2, 3" ""] proto=%q te="trailers"`, proto))
}

func pairHead(p *pair) {
	resp := p.do(p.request("HEAD", "/head", nil))
	p.want(resp, 200, "")
	if resp.ContentLength != 12345 || resp.Header.Get("Etag") != `"x"` {
		p.Errorf("got length %d, etag %q", resp.ContentLength, resp.Header.Get("Etag"))
	}
	p.want(p.do(p.request("GET", "/", nil)), 200, "hello") // nothing is left over
}

func pairEcho(p *pair, open bool) {
	for _, n := range []int{1, 1000, 64 << 10, 3 << 20} {
		body := strings.Repeat("0123456789", n/10+1)[:n]
		r := p.request("POST", "/echo", strings.NewReader(body))
		if open {
			r.ContentLength = -1
		}
		p.want(p.do(r), 200, body)
		r = p.request("POST", "/count", strings.NewReader(body))
		length := n
		if open {
			r.ContentLength, length = -1, -1
		}
		p.want(p.do(r), 200, fmt.Sprintf("%d <nil> %d", n, length))
	}
}

func pairEmptyPost(p *pair) { p.want(p.do(p.request("POST", "/count", nil)), 200, "0 <nil> 0") }

// pairBothWays: each piece of the request is answered before the next is sent.
func pairBothWays(p *pair) {
	body, w := io.Pipe()
	resp := p.do(p.request("POST", "/echo", body))
	for i := range 20 {
		s := strings.Repeat(strconv.Itoa(i%10), 1+i*1000)
		if _, err := io.WriteString(w, s); err != nil {
			p.Fatal(err)
		}
		buf := make([]byte, len(s))
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != s {
			p.Fatalf("piece %d: got %.20q, %v", i, buf, err)
		}
	}
	_ = w.Close()
	p.want(resp, 200, "")
}

func pairTrailers(p *pair) {
	for _, n := range []int{1, 100_000} {
		r := p.request("POST", "/trailers", strings.NewReader(strings.Repeat("x", n)))
		r.ContentLength = -1
		r.Trailer = http.Header{"X-Sent": {"one"}}
		resp := p.do(r)
		p.want(resp, 200, strings.Repeat("x", n))
		// net/http's server shows no trailers in HTTP/2 that a Trailer field has not announced.
		if resp.Trailer.Get("X-Sum") != "42" || resp.Trailer.Get("X-Got") != "one" {
			p.Errorf("trailers: got %v", resp.Trailer)
		}
	}
}

func pairTrailersOnly(p *pair) {
	resp := p.do(p.request("GET", "/trailers", nil))
	p.want(resp, 200, "")
	if resp.Trailer.Get("X-Sum") != "42" {
		p.Errorf("trailers: got %v", resp.Trailer)
	}
}

func pairInterim(p *pair) {
	r := p.request("GET", "/interim", nil)
	var got []string
	resp := p.do(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			got = append(got, fmt.Sprint(code, h["Link"]))
			return nil
		},
	})))
	p.want(resp, 200, "final")
	if !slices.Equal(got, []string{"103 [</style.css>; rel=preload]"}) || resp.Header.Get("Link") != "" {
		p.Errorf("got %q before the answer, and link %q in it", got, resp.Header.Get("Link"))
	}
}

// pairContinue: a client that waits for 100 gets it.
func pairContinue(p *pair) {
	r := p.request("POST", "/count", strings.NewReader("hello"))
	r.Header.Set("Expect", "100-continue")
	begun := time.Now()
	p.want(p.do(r), 200, "5 <nil> 5")
	if took := time.Since(begun); took > prompt {
		p.Errorf("it took %v: the client was not told to go on", took)
	}
}

// pairEarly: an answer that does not wait for the request reaches a client that is
// still sending, and the next request is none of it. The request is one that is read to its
// end behind the answer: net/http's client may miss an answer when it cannot send the rest.
func pairEarly(p *pair) {
	for range 3 {
		resp, err := p.client.Do(p.request("POST", "/early", &blockReader{n: 4 << 20}))
		if err != nil {
			p.Fatal(err)
		}
		p.want(pairAnswer{resp}, 413, "too much")
		_ = resp.Body.Close()
		p.want(p.do(p.request("GET", "/", nil)), 200, "hello")
	}
}

func pairBodiless(p *pair) {
	for _, status := range []int{204, 304} {
		p.want(p.do(p.request("GET", fmt.Sprint("/status?s=", status), nil)), status, "")
	}
	p.want(p.do(p.request("GET", "/", nil)), 200, "hello")
}

func pairStatuses(p *pair) {
	for _, status := range []int{201, 302, 400, 404, 418, 501, 503, 599} {
		p.want(p.do(p.request("GET", fmt.Sprint("/status?s=", status), nil)), status, fmt.Sprint(status))
	}
}

func pairLargeHead(p *pair) {
	large := strings.Repeat("x", 30<<10)
	r := p.request("GET", "/large", nil)
	r.Header.Set("X-Large", large)
	resp := p.do(r)
	p.want(resp, 200, "")
	if resp.Header.Get("X-Back") != large {
		p.Errorf("%d bytes came back", len(resp.Header.Get("X-Back")))
	}
}

// pairCookies: HTTP/2 may split a cookie field (RFC 9113 8.2.3), and no other may be joined.
func pairCookies(p *pair) {
	r := p.request("GET", "/cookies", nil)
	r.Header.Set("Cookie", "a=1; b=2; c=3")
	resp := p.do(r)
	p.want(resp, 200, "a=1; b=2; c=3")
	if got := resp.Header["Set-Cookie"]; !slices.Equal(got, []string{"a=1; Path=/", "b=2", "c=3"}) {
		p.Errorf("set-cookie: got %q", got)
	}
}

func pairFlush(p *pair) {
	resp := p.do(p.request("GET", "/flush?id=flush", nil))
	buf := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "first" {
		p.Fatalf("got %q, %v", buf, err)
	}
	p.origin.happened("flush")
	p.want(resp, 200, "second")
}

func pairClientLeaves(p *pair) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	resp := p.do(p.request("GET", "/endless?id=left", nil).WithContext(ctx))
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		p.Fatal(err)
	}
	cancel()
	wait(p.T, "told the upstream", p.origin.signal("left"))
	p.want(p.do(p.request("GET", "/", nil)), 200, "hello")
}

// errCut is why a client does not go on with its request.
var errCut = errors.New("the client has had enough")

func pairClientCuts(p *pair) {
	body := io.MultiReader(bytes.NewReader(make([]byte, 200_000)), failingReader{})
	resp, err := p.client.Do(p.request("POST", "/upload?id=cut", body))
	if !errors.Is(err, errCut) {
		p.Errorf("got %v", err)
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	wait(p.T, "told the upstream", p.origin.signal("cut"))
	p.want(p.do(p.request("GET", "/", nil)), 200, "hello")
}

type failingReader struct{}

// Read implements io.Reader.
func (failingReader) Read([]byte) (int, error) { return 0, errCut }

// pairUpstreamCuts: an answer that breaks off does not look whole.
func pairUpstreamCuts(p *pair) {
	for i, query := range []string{"", "&length"} {
		id := fmt.Sprint("cuts", i)
		resp := p.do(p.request("GET", "/cut?id="+id+query, nil))
		buf := make([]byte, 6)
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "a part" {
			p.Fatalf("got %q, %v", buf, err)
		}
		p.origin.happened(id)
		if rest, err := io.ReadAll(resp.Body); err == nil {
			p.Errorf("%q: the rest is %q, and the end looks like one", query, rest)
		}
	}
	p.want(p.do(p.request("GET", "/", nil)), 200, "hello")
}

func pairUpstreamGoes(p *pair) {
	resp := p.do(p.request("POST", "/gone", strings.NewReader("x")))
	if body, err := io.ReadAll(resp.Body); resp.StatusCode != 502 || err != nil || !strings.Contains(string(body), "reason: upstream_") {
		p.Errorf("got %d %q, %v; want 502", resp.StatusCode, body, err)
	}
	p.want(p.do(p.request("GET", "/", nil)), 200, "hello")
}

func pairLimit(p *pair) {
	for i := range 4 {
		resp := p.do(p.request("GET", "/limited", nil))
		if i < 2 {
			p.want(resp, 200, "hello")
			continue
		}
		if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
			p.Errorf("got %d, retry-after %q; want 429", resp.StatusCode, resp.Header.Get("Retry-After"))
		}
	}
}

func pairMany(p *pair) {
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() { // ends with its requests
			for n := range 10 {
				body := fmt.Sprint(i, " ", n, " ", strings.Repeat("x", i*n*50))
				resp, err := p.client.Do(p.request("POST", "/echo", strings.NewReader(body)))
				if err != nil {
					p.Error(err)
					return
				}
				p.want(pairAnswer{resp}, 200, body)
				_ = resp.Body.Close()
			}
		})
	}
	wg.Wait()
}

// pairUpgrade: HTTP/1.1 alone has upgrades.
func pairUpgrade(p *pair) {
	if p.from.version != "HTTP/1.1" || p.to.version != "HTTP/1.1" {
		p.Skip("there are no upgrades in HTTP/2")
	}
	r := p.request("GET", "/switch", nil)
	r.Header.Set("Connection", "upgrade")
	r.Header.Set("Upgrade", "test")
	resp := p.do(r)
	rw, ok := resp.Body.(io.ReadWriter)
	if resp.StatusCode != 101 || !ok {
		p.Fatalf("got %d", resp.StatusCode)
	}
	if _, err := io.WriteString(rw, "hello"); err != nil {
		p.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(rw, buf); err != nil || string(buf) != "hello" {
		p.Errorf("got %q, %v", buf, err)
	}
	_ = resp.Body.Close()
	p.want(p.do(p.request("GET", "/switch", nil)), 426, "")
}
