package h2_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h2"
)

type message = exchangetest.Message[*exchange.Request]

// goServer serves HTTP/2 in clear with net/http, and returns a connection to it.
func goServer(t *testing.T, o *h2.ClientOptions, h http.HandlerFunc) *h2.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := h2.NewClientConn(nc, o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newRequest(method, target string, length int64) *exchange.Request {
	r := &exchange.Request{Method: method, Scheme: "http", Authority: "a.example", Length: length}
	path, _, _ := strings.Cut(target, "?")
	r.SetTarget(target, len(path))
	return r
}

// open reserves a slot and opens a stream.
func open(t *testing.T, c *h2.ClientConn) exchange.Upstream {
	t.Helper()
	if !c.Reserve() {
		t.Fatal("no slot")
	}
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// do sends m and returns the answer.
func do(t *testing.T, c *h2.ClientConn, m message) (*response, error) {
	t.Helper()
	s := open(t, c)
	defer release(s)
	pushed := make(chan error, 1)
	go func() { pushed <- m.Push(s) }()
	var r response
	err := s.Feed(&r)
	if pe := <-pushed; pe != nil && !errors.Is(pe, exchange.ErrAnswered) && err == nil {
		t.Errorf("push: %v", pe)
	}
	if v := r.Violation(); v != "" {
		t.Errorf("contract of Sink broken: %s: %s", v, r.Calls())
	}
	return &r, err
}

func release(s exchange.Upstream) {
	if r, ok := s.(exchange.Releaser); ok {
		r.Release()
	}
}

// TestClientAgainstNetHTTP: a server that is not ours understands us.
func TestClientAgainstNetHTTP(t *testing.T) {
	t.Parallel()
	c := goServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-echo", fmt.Sprint(r.Method, " ", r.Host, " ", r.URL.RequestURI(), " ", r.ContentLength, " a", r.Header.Get("x-a")))
		w.Header().Set("trailer", "x-sum")
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusEarlyHints)
		}
		n, err := io.Copy(w, r.Body)
		w.Header().Set("x-sum", fmt.Sprint(n, err, r.Trailer.Get("x-t")))
	})
	body := strings.Repeat("0123456789abcdef", 1<<16)
	var trailer exchange.Fields
	trailer.Add("x-t", "end")
	get := newRequest("GET", "/a?b=c", 0)
	get.Fields.Add("x-a", "1")
	announced := newRequest("POST", "/", exchange.LengthUnknown)
	announced.Fields.Add("trailer", "x-t")
	for _, tt := range []struct {
		m         message
		echo, sum string
	}{
		{message{Head: get}, "GET a.example /a?b=c 0 a1", "0 <nil>"},
		{message{Head: newRequest("POST", "/", int64(len(body))), Data: []string{body[:100], "", body[100:]}}, fmt.Sprintf("POST a.example / %d a", len(body)), fmt.Sprintf("%d <nil>", len(body))},
		{message{Head: newRequest("POST", "/", exchange.LengthUnknown), Data: []string{body}}, "POST a.example / -1 a", fmt.Sprintf("%d <nil>", len(body))},
		{message{Head: newRequest("POST", "/", exchange.LengthUnknown), Data: []string{"x"}, Trailer: &trailer}, "POST a.example / -1 a", "1 <nil>"},
		{message{Head: announced, Data: []string{"x"}, Trailer: &trailer}, "POST a.example / -1 a", "1 <nil>end"},
		{message{Head: newRequest("PUT", "/", 0)}, "PUT a.example / 0 a", "0 <nil>"},
	} {
		r, err := do(t, c, tt.m)
		if err != nil {
			t.Fatal(err)
		}
		head, data, tr, ended := r.Message()
		if head == nil || head.Status != 200 || head.Version != exchange.HTTP2 || head.Fields.Value("x-echo") != tt.echo || !ended {
			t.Errorf("got %+v, want echo %q", head, tt.echo)
		}
		if want := strings.Join(tt.m.Data, ""); data != want {
			t.Errorf("body: %d bytes, want %d", len(data), len(want))
		}
		if tr == nil || tr.Value("x-sum") != tt.sum {
			t.Errorf("trailer: got %v, want %s", tr, tt.sum)
		}
		if in := r.Interim(); tt.m.Head.Method == "GET" && (len(in) != 1 || in[0].Status != 103) {
			t.Errorf("1xx: got %v", in)
		}
	}
	if !c.Reused() || !c.Idle() {
		t.Errorf("reused %v, idle %v", c.Reused(), c.Idle())
	}
}

// TestClientManyAtOnce: exchanges share a connection, and none stops the others.
func TestClientManyAtOnce(t *testing.T) {
	t.Parallel()
	c := goServer(t, &h2.ClientOptions{MaxStreams: 50}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	body := strings.Repeat("x", 200_000)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			m := message{Head: newRequest("POST", fmt.Sprint("/", i), exchange.LengthUnknown), Data: []string{body, body}}
			r, err := do(t, c, m)
			if _, data, _, _ := r.Message(); err != nil || data != body+body {
				t.Errorf("exchange %d: %d bytes, %v", i, len(data), err)
			}
		})
	}
	wg.Wait()
	for range 50 {
		if !c.Reserve() {
			t.Fatal("a slot was not given back")
		}
	}
	if c.Reserve() {
		t.Error("more slots than MaxStreams")
	}
}

func wantError(t *testing.T, err error, status int, reason string, retry exchange.Retry) {
	t.Helper()
	var e *exchange.Error
	if !errors.As(err, &e) || e.Status != status || e.Reason != reason || e.Retry != retry || e.Side != exchange.UpstreamSide {
		t.Errorf("got %v (retry %v), want %d %s (retry %v)", err, retryOf(e), status, reason, retry)
	}
}

func retryOf(e *exchange.Error) any {
	if e == nil {
		return "none"
	}
	return e.Retry
}

func TestClientDeadlineAndReset(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 10)
	c := goServer(t, &h2.ClientOptions{ReadTimeout: 100 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gone <- struct{}{}
	})
	s := open(t, c)
	if d, ok := s.(exchange.Deadliner); ok {
		d.SetDeadline(time.Now().Add(30 * time.Millisecond))
	}
	if err := s.Head(newRequest("GET", "/", 0), true); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Feed(new(response)), 504, h2.ReasonDeadline, exchange.RetryNever)
	<-gone // Feed has reset the stream
	release(s)

	_, err := do(t, c, message{Head: newRequest("GET", "/", 0)})
	wantError(t, err, 504, h2.ReasonReadTimeout, exchange.RetryNever)
	<-gone

	s = open(t, c)
	if err := s.Head(newRequest("POST", "/", 100), false); err != nil {
		t.Fatal(err)
	}
	fed := make(chan error, 1)
	go func() { fed <- s.Feed(new(response)) }()
	time.Sleep(300 * time.Millisecond) // longer than the read timeout: the server is waiting for us
	select {
	case err := <-fed:
		t.Fatalf("given up although the request is not complete: %v", err)
	default:
	}
	s.Reset(exchange.CodeCancel)
	var e *exchange.Error
	if err := <-fed; !errors.As(err, &e) || !errors.Is(err, exchange.ErrReset) || e.Side != exchange.Internal {
		t.Errorf("after Reset: %v", err)
	}
	if err := s.Data([]byte("x"), false); !errors.Is(err, exchange.ErrReset) {
		t.Errorf("Data after Reset: %v", err)
	}
	release(s)
	if !c.Idle() {
		t.Error("streams that were reset keep their slots, or have cost the connection")
	}
}

// TestClientSmallReads: a server that reads in small pieces opens its windows in small
// steps, which is no flood.
func TestClientSmallReads(t *testing.T) {
	t.Parallel()
	for _, piece := range []int{512, 4 << 10} {
		c := goServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r.Body}, make([]byte, piece))
			_, _ = fmt.Fprint(w, n, err)
		})
		m := message{Head: newRequest("POST", "/", 32<<20)}
		for range 32 {
			m.Data = append(m.Data, strings.Repeat("x", 1<<20))
		}
		r, err := do(t, c, m)
		if _, data, _, _ := r.Message(); err != nil || data != fmt.Sprint(32<<20, " <nil>") {
			t.Errorf("pieces of %d: got %q, %v", piece, data, err)
		}
	}
}
