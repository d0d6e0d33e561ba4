package h1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// corpus runs f for each case of the files that match pattern.
func corpus(t *testing.T, pattern string, f func(t *testing.T, c *exchangetest.Case)) {
	t.Helper()
	files, err := filepath.Glob("../../testdata/h1/" + pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	for _, file := range files {
		cases, err := exchangetest.ReadCorpus(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			t.Run(fmt.Sprintf("%s/%s", strings.TrimSuffix(filepath.Base(file), ".txt"), c.Name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { f(t, &c) })
			})
		}
	}
}

// An origin is a Handler that answers as the engine does and remembers what it saw.
type origin struct {
	mu       sync.Mutex
	requests []*exchangetest.Recorder[*exchange.Request]
	reasons  []string
}

func (o *origin) serve(_ context.Context, c exchange.Client) {
	r := new(exchangetest.Recorder[*exchange.Request])
	o.mu.Lock()
	o.requests = append(o.requests, r)
	o.mu.Unlock()
	err := c.Feed(r)
	status, body := 200, "ok"
	if e, ok := errors.AsType[*exchange.Error](err); ok {
		o.reasons = append(o.reasons, e.Reason)
		status, body = e.Status, e.Reason
	}
	res := &exchange.Response{Status: status, Length: int64(len(body))}
	if c.Head(res, false) == nil {
		_ = c.Data([]byte(body), true)
	}
}

func TestRequestCorpus(t *testing.T) {
	for _, slices := range []struct {
		name string
		size int
	}{{"whole", 1 << 30}, {"byte by byte", 1}} {
		t.Run(slices.name, func(t *testing.T) {
			corpus(t, "request-*.txt", func(t *testing.T, c *exchangetest.Case) {
				if slices.size == 1 && len(c.Send) > 5000 {
					t.Skip("too long")
				}
				runRequest(t, c, slices.size)
			})
		})
	}
}

func runRequest(t *testing.T, c *exchangetest.Case, size int) {
	var o origin
	var refused []string
	s := h1.NewServer(h1.ServerOptions{
		Refused: func(r *h1.Refusal) { refused = append(refused, r.Reason) },
	}, o.serve)
	client, server := exchangetest.Pipe()
	defer client.Close()
	served := make(chan struct{})
	go func() { // ends with the connection, which the server or the defer above closes
		defer close(served)
		s.ServeConn(context.Background(), server, nil)
	}()
	go func() { // ends with the writes; the server reads or closes
		for b := c.Send; b != ""; {
			n := min(size, len(b))
			if _, err := io.WriteString(client, b[:n]); err != nil {
				return
			}
			b = b[n:]
			if size == 1 {
				synctest.Wait()
			}
		}
		if c.FIN {
			_ = client.(interface{ CloseWrite() error }).CloseWrite()
		}
	}()
	br := bufio.NewReader(client)
	for i, want := range c.Status {
		_ = client.SetReadDeadline(time.Now().Add(time.Hour))
		res, err := readFinal(br)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if res.StatusCode != want {
			t.Errorf("answer %d: got %d, want %d", i, res.StatusCode, want)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Errorf("answer %d: %v", i, err)
		}
		res.Body.Close()
	}
	checkAfter(t, c, client, br)
	client.Close()
	<-served
	compareSeen(t, c, &o, append(refused, o.reasons...))
}

// readFinal reads an answer, past 1xx.
func readFinal(br *bufio.Reader) (*http.Response, error) {
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode >= 200 {
			return res, err
		}
	}
}

// checkAfter checks what has become of the connection.
func checkAfter(t *testing.T, c *exchangetest.Case, client net.Conn, br *bufio.Reader) {
	t.Helper()
	if !c.Open {
		_ = client.SetReadDeadline(time.Now().Add(20 * time.Second)) // less than the idle timeout
		if b, err := br.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last answer: got byte %q, error %v; want EOF", b, err)
		}
		return
	}
	_ = client.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(client, "GET /healthy HTTP/1.1\r\nHost: healthy\r\n\r\n"); err != nil {
		t.Fatalf("the connection was closed: %v", err)
	}
	res, err := readFinal(br)
	if err != nil {
		t.Fatalf("a healthy request afterwards: %v", err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("a healthy request afterwards: got %d", res.StatusCode)
	}
}

func compareSeen(t *testing.T, c *exchangetest.Case, o *origin, reasons []string) {
	t.Helper()
	if got := strings.Join(reasons, " "); got != c.Reason {
		t.Errorf("reason: got %q, want %q", got, c.Reason)
	}
	want := c.Sees
	if c.Partly != nil {
		want = append(want, *c.Partly)
	}
	seen := o.requests
	if c.Open && len(seen) > 0 {
		seen = seen[:len(seen)-1] // the healthy one
	}
	if len(seen) != len(want) {
		t.Fatalf("the upstream has seen %d requests, want %d", len(seen), len(want))
	}
	for i, r := range seen {
		req, body, _, ended := r.Message()
		partly := c.Partly != nil && i == len(seen)-1
		got := exchangetest.SeenRequest{Method: req.Method, Target: req.Target, Authority: req.Authority, Body: body}
		if partly {
			got.Body = ""
		}
		if got != want[i] {
			t.Errorf("request %d: got %+v, want %+v", i, got, want[i])
		}
		if ended == partly {
			t.Errorf("request %d: complete %v, want %v", i, ended, !partly)
		}
		if req.EncodedSlash != c.Slash {
			t.Errorf("EncodedSlash: got %v, want %v", req.EncodedSlash, c.Slash)
		}
		for _, f := range c.Fields {
			if v, _ := req.Fields.Get(f[0]); v != f[1] {
				t.Errorf("field %s: got %q, want %q", f[0], v, f[1])
			}
		}
		for _, name := range c.Hidden {
			if req.Fields.Has(name) {
				t.Errorf("field %s has gone through", name)
			}
		}
		if v := r.Violation(); v != "" {
			t.Errorf("request %d: contract of Sink broken: %s", i, v)
		}
	}
}

func TestResponseCorpus(t *testing.T) {
	for _, size := range []int{1 << 30, 1} {
		t.Run(fmt.Sprintf("slices of %d", size), func(t *testing.T) {
			corpus(t, "response-*.txt", func(t *testing.T, c *exchangetest.Case) {
				if size == 1 && len(c.Send) > 5000 {
					t.Skip("too long")
				}
				runResponse(t, c, size)
			})
		})
	}
}

func runResponse(t *testing.T, c *exchangetest.Case, size int) {
	client, upstream := exchangetest.Pipe()
	defer upstream.Close()
	cc := h1.NewClientConn(client, nil)
	defer cc.Close()
	cc.Reserve()
	s, err := cc.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer s.(exchange.Releaser).Release()
	req := &exchange.Request{Method: c.Method, Authority: "a", Upgrade: c.Upgrade}
	req.SetTarget("/", 1)
	if err := s.Head(req, c.Upgrade == ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Data(nil, false); c.Upgrade != "" && err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(upstream))
	if err != nil {
		t.Fatalf("the request is malformed: %v", err)
	}
	if got.Method != c.Method || got.Host != "a" || got.RequestURI != "/" {
		t.Errorf("request: got %v", got)
	}
	go func() { // ends with the writes; the codec reads or closes
		for b := c.Send; b != ""; {
			n := min(size, len(b))
			if _, err := io.WriteString(upstream, b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
		if c.FIN {
			_ = upstream.(interface{ CloseWrite() error }).CloseWrite()
		}
	}()
	var r exchangetest.Recorder[*exchange.Response]
	err = s.Feed(&r)
	compareResponse(t, c, &r, err)
	// Byte by byte, garbage may arrive after the answer was given back.
	if size > 1 && cc.Idle() != c.Open {
		t.Errorf("reusable: got %v, want %v", cc.Idle(), c.Open)
	}
}

func compareResponse(t *testing.T, c *exchangetest.Case, r *exchangetest.Recorder[*exchange.Response], err error) {
	t.Helper()
	var e *exchange.Error
	errors.As(err, &e)
	res, body, _, ended := r.Message()
	if c.Reason == "" && (err != nil || !ended) || c.Reason != "" && (e == nil || e.Reason != c.Reason || ended) {
		t.Errorf("got error %v, complete %v; want reason %q", err, ended, c.Reason)
	}
	if v := r.Violation(); v != "" {
		t.Errorf("contract of Sink broken: %s", v)
	}
	switch {
	case c.Status[0] == 502:
		if e == nil || e.Status != 502 || res != nil {
			t.Errorf("got error %v and head %v, want status 502 and none", e, res)
		}
		return
	case res == nil:
		t.Fatal("no head")
	case res.Status != c.Status[0]:
		t.Errorf("status: got %d, want %d", res.Status, c.Status[0])
	}
	if !c.Cut && body != c.Body {
		t.Errorf("body: got %q, want %q", body, c.Body)
	}
	for _, f := range c.Fields {
		found := false
		for n, v := range res.Fields.All() {
			found = found || n == f[0] && v == f[1]
		}
		if !found {
			t.Errorf("no field %v", f)
		}
	}
	for _, name := range c.Hidden {
		if res.Fields.Has(name) {
			t.Errorf("field %s has gone through", name)
		}
	}
}
