//go:build !race && !invariants && linux

package h1_test

import (
	"context"
	"io"
	"net"
	"testing"

	"wproxy/core/exchange"
	"wproxy/core/h1"
)

// plainResponse is shared: an exchange must not change the head it is given.
func plainResponse() *exchange.Response {
	r := &exchange.Response{Status: 200, Length: 1024}
	r.Fields.Add("content-type", "text/plain")
	r.Fields.Add("server", "origin")
	r.Fields.Add("date", "Sat, 21 Nov 2026 23:06:29 GMT")
	return r
}

const plainRequest = "GET /index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: test/1.0 (like a browser)\r\n" +
	"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nCookie: a=b; c=d\r\n\r\n"

// requestSink drops a request.
type requestSink struct{ n int }

func (s *requestSink) Head(*exchange.Request, bool) error { return nil }
func (s *requestSink) Data(p []byte, _ bool) error        { s.n += len(p); return nil }
func (s *requestSink) Trailer(*exchange.Fields) error     { return nil }

// responseSink drops a response.
type responseSink struct{ n int }

func (s *responseSink) Head(*exchange.Response, bool) error { return nil }
func (s *responseSink) Data(p []byte, _ bool) error         { s.n += len(p); return nil }
func (s *responseSink) Trailer(*exchange.Fields) error      { return nil }

// TestServerAllocs: a whole exchange over a real socket allocates one string,
// that of the request head.
func TestServerAllocs(t *testing.T) {
	w := newWatcher(t)
	client, server := tcpPair(t)
	defer client.Close()
	res, body := plainResponse(), make([]byte, 1024)
	var sink requestSink
	s := h1.NewServer(h1.ServerOptions{Watcher: w}, func(_ context.Context, c exchange.Client) {
		if c.Feed(&sink) != nil || c.Head(res, false) != nil || c.Data(body, true) != nil {
			t.Error("the exchange has failed")
		}
	})
	go s.ServeConn(context.Background(), server, nil) // ends when the client closes
	request, answer := []byte(plainRequest), make([]byte, 4096)
	exchangeOnce(t, client, request, answer)
	if n := testing.AllocsPerRun(1000, func() { exchangeOnce(t, client, request, answer) }); n > 1 {
		t.Errorf("got %v allocations per exchange, want 1", n)
	}
}

func exchangeOnce(t *testing.T, client net.Conn, request, answer []byte) {
	t.Helper()
	if _, err := client.Write(request); err != nil {
		t.Fatal(err)
	}
	// The head and 1024 bytes behind it leave in one write, so they come in one read.
	if n, err := client.Read(answer); err != nil || n < 1100 {
		t.Fatalf("got %d bytes, %v", n, err)
	}
}

// TestClientAllocs: the same for the upstream's side: the response head.
func TestClientAllocs(t *testing.T) {
	client, upstream := tcpPair(t)
	defer client.Close()
	go func() { // ends when the client closes
		buf := make([]byte, 4096)
		answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nContent-Type: text/plain\r\nServer: x\r\n\r\n" + string(make([]byte, 1024)))
		for {
			if _, err := upstream.Read(buf); err != nil {
				return
			}
			if _, err := upstream.Write(answer); err != nil {
				return
			}
		}
	}()
	cc := h1.NewClientConn(client, &h1.ClientOptions{Watcher: newWatcher(t)})
	defer cc.Close()
	req := &exchange.Request{Method: "GET", Authority: "www.example.com"}
	req.SetTarget("/index.html", len("/index.html"))
	req.Fields.Add("user-agent", "test")
	var sink responseSink
	once := func() {
		if !cc.Reserve() {
			t.Fatal("no slot")
		}
		s, err := cc.Open(context.Background())
		if err != nil || s.Head(req, true) != nil || s.Feed(&sink) != nil {
			t.Fatal("the exchange has failed")
		}
		s.(exchange.Releaser).Release()
	}
	once()
	if n := testing.AllocsPerRun(1000, once); n > 1 {
		t.Errorf("got %v allocations per exchange, want 1", n)
	}
}

// TestStreamingAllocs: bodies cost nothing per piece.
func TestStreamingAllocs(t *testing.T) {
	client, server := tcpPair(t)
	defer client.Close()
	piece := make([]byte, 32<<10)
	res := &exchange.Response{Status: 200, Length: exchange.LengthUnknown}
	var sink requestSink
	s := h1.NewServer(h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
		if c.Feed(&sink) != nil || c.Head(res, false) != nil {
			t.Error("the exchange has failed")
		}
		if n := testing.AllocsPerRun(200, func() {
			if c.Data(piece, false) != nil || c.Data(piece[:100], false) != nil || c.Data(nil, false) != nil {
				t.Error("Data has failed")
			}
		}); n > 0 {
			t.Errorf("got %v allocations per piece, want 0", n)
		}
		_ = c.Data(nil, true)
	})
	done := make(chan struct{})
	go func() { // ends when the client closes
		defer close(done)
		s.ServeConn(context.Background(), server, nil)
	}()
	_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	buf := make([]byte, 64<<10)
	for {
		if _, err := client.Read(buf); err != nil {
			break
		}
	}
	<-done
}

func BenchmarkExchange(b *testing.B) {
	client, server := tcpPair(b)
	defer client.Close()
	res, body := plainResponse(), make([]byte, 1024)
	var sink requestSink
	s := h1.NewServer(h1.ServerOptions{}, func(_ context.Context, c exchange.Client) {
		if c.Feed(&sink) != nil || c.Head(res, false) != nil || c.Data(body, true) != nil {
			b.Error("the exchange has failed")
		}
	})
	go s.ServeConn(context.Background(), server, nil) // ends when the client closes
	request, answer := []byte(plainRequest), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := client.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
}
