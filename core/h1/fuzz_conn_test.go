package h1_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// FuzzServerConn sends any bytes to a server that passes what it accepts on to an
// upstream through the client codec. No panic, an end, and no smuggling: each
// exchange puts exactly one complete request on the wire of its upstream, which
// net/http reads as what the Handler saw.
func FuzzServerConn(f *testing.F) {
	for _, file := range []string{"request-good", "request-bad", "request-body-bad"} {
		cases, err := exchangetest.ReadCorpus("../../testdata/h1/" + file + ".txt")
		if err != nil {
			f.Fatal(err)
		}
		for _, c := range cases {
			if len(c.Send) < 2000 {
				f.Add([]byte(c.Send))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		synctest.Test(t, func(t *testing.T) { serveBytes(t, b) })
	})
}

func serveBytes(t *testing.T, b []byte) {
	s := h1.NewServer(h1.ServerOptions{}, func(_ context.Context, c exchange.Client) { passOn(t, c) })
	client, server := exchangetest.Pipe()
	go func() { // ends with the writes; the server reads or closes
		_, _ = client.Write(b)
		_ = client.(interface{ CloseWrite() error }).CloseWrite()
	}()
	drained := make(chan struct{})
	go func() { // ends when the server closes
		defer close(drained)
		_, _ = io.Copy(io.Discard, client)
	}()
	s.ServeConn(t.Context(), server, nil)
	<-drained
	client.Close()
}

// passOn forwards one request and compares what an upstream reads with what the
// codec says.
func passOn(t *testing.T, c exchange.Client) {
	near, far := exchangetest.Pipe()
	cc := h1.NewClientConn(near, nil)
	cc.Reserve()
	up, err := cc.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer up.(exchange.Releaser).Release()
	wire := make(chan []byte, 1)
	go func() { // ends when the connection is closed below
		b, _ := io.ReadAll(far)
		wire <- b
	}()
	rec := new(exchangetest.Recorder[*exchange.Request])
	upgrade := false
	rec.OnHead = func(h *exchange.Request, end bool) error {
		if upgrade = h.Upgrade != "" && !end; upgrade { // refuse it, so that Feed goes on
			if err := c.Head(&exchange.Response{Status: 200}, true); err != nil {
				return err
			}
		}
		return up.Head(h, end)
	}
	rec.OnData, rec.OnTrailer = up.Data, up.Trailer
	err = c.Feed(rec)
	_ = near.(interface{ CloseWrite() error }).CloseWrite()
	sent := <-wire
	cc.Close()
	far.Close()
	check(t, rec, sent, err)
	status := 200
	if e, ok := errors.AsType[*exchange.Error](err); ok {
		status = e.Status
	}
	if !upgrade {
		_ = c.Head(&exchange.Response{Status: status}, true)
	}
}

// check compares what the codec pushed with what net/http reads from the wire.
func check(t *testing.T, rec *exchangetest.Recorder[*exchange.Request], sent []byte, err error) {
	h, body, _, ended := rec.Message()
	if v := rec.Violation(); v != "" {
		t.Fatalf("contract of Sink broken: %s: %s", v, rec.Calls())
	}
	if h == nil {
		if len(sent) > 0 {
			t.Fatalf("bytes without a head: %q", sent)
		}
		return
	}
	if (err == nil) != ended {
		t.Fatalf("Feed: %v, but ended %v", err, ended)
	}
	if len(sent) == 0 { // cut before anything was flushed
		if ended {
			t.Fatalf("a complete request was not sent")
		}
		return
	}
	br := bufio.NewReader(bytes.NewReader(sent))
	q, rerr := http.ReadRequest(br)
	if rerr != nil {
		if len(h.Target) > 1 && h.Target[:2] == "//" {
			return // see excepted in fuzz_test.go
		}
		t.Fatalf("net/http refuses %q: %v", sent, rerr)
	}
	if q.Method != h.Method || q.RequestURI != h.Target || q.Host != h.Authority {
		t.Fatalf("net/http sees %s %s %s, we see %s %s %s", q.Method, q.RequestURI, q.Host, h.Method, h.Target, h.Authority)
	}
	got, rerr := io.ReadAll(q.Body)
	if (rerr == nil) != ended {
		t.Fatalf("the request was complete: %v; net/http: %v; %q", ended, rerr, sent)
	}
	if ended && (string(got) != body || br.Buffered() > 0) {
		t.Fatalf("net/http reads body %q and %d bytes behind it, we passed on %q", got, br.Buffered(), body)
	}
}
