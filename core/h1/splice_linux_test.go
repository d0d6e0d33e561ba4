package h1_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/h1"
)

// A relay is a server that passes the answers of an upstream on.
type relay struct {
	client   net.Conn // to it
	upstream net.Conn // the other end of its connection to the upstream
	errs     chan error
}

// relayOptions say what is special about one.
type relayOptions struct {
	server h1.ServerOptions
	client h1.ClientOptions
	sink   func(exchange.Client) exchange.Sink[*exchange.Response] // nil: the client itself
}

func newRelay(t *testing.T, o relayOptions) *relay {
	t.Helper()
	client, server := tcpPair(t)
	here, upstream := tcpPair(t)
	o.client.Watcher = newWatcher(t)
	cc := h1.NewClientConn(here, &o.client)
	r := &relay{client, upstream, make(chan error, 10)}
	s := h1.NewServer(o.server, func(ctx context.Context, c exchange.Client) {
		var req anyRequest
		if err := c.Feed(&req); err != nil {
			r.errs <- err
			return
		}
		if !cc.Reserve() {
			r.errs <- errors.New("no slot")
			return
		}
		up, err := cc.Open(ctx)
		if err != nil {
			r.errs <- err
			return
		}
		head := &exchange.Request{Method: "GET", Authority: "a"}
		head.SetTarget("/", 1)
		err = up.Head(head, true)
		if err == nil {
			var to exchange.Sink[*exchange.Response] = c
			if o.sink != nil {
				to = o.sink(c)
			}
			err = up.Feed(to)
		}
		if err != nil {
			up.Reset(exchange.CodeCancel)
			c.Reset(exchange.CodeInternal)
		}
		up.(exchange.Releaser).Release()
		r.errs <- err
	})
	done := make(chan struct{})
	go func() { // ends when the client closes
		defer close(done)
		s.ServeConn(context.Background(), server, nil)
		_ = server.Close()
	}()
	t.Cleanup(func() {
		_, _ = client.Close(), upstream.Close()
		<-done
		_ = cc.Close()
		if open, idle := h1.Pipes(); open != idle {
			t.Errorf("%d of %d pipes are still in use", open-idle, open)
		}
	})
	return r
}

// anyRequest takes a request.
type anyRequest struct{}

func (*anyRequest) Head(*exchange.Request, bool) error { return nil }
func (*anyRequest) Data([]byte, bool) error            { return nil }
func (*anyRequest) Trailer(*exchange.Fields) error     { return nil }

// ask sends a request, and reads it at the upstream.
func (r *relay) ask(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(r.client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.upstream.Read(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
}

// readHead reads the head of the answer.
func (r *relay) readHead(t *testing.T) {
	t.Helper()
	var head []byte
	for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); {
		if _, err := io.ReadFull(r.client, b); err != nil {
			t.Fatalf("head: %v, %q", err, head)
		}
		head = append(head, b...)
	}
}

// counted counts bytes that came through a pipe.
type counted struct {
	exchange.Client
	piped *int
}

func (c counted) Pipes() bool { return c.Client.(exchange.Piper).Pipes() }

func (c counted) DataPipe(fd, n int, end bool) error {
	*c.piped += n
	return c.Client.(exchange.Piper).DataPipe(fd, n, end)
}

// TestSplice: large bodies go through a pipe, byte by byte as they were, at whatever pace,
// and the connections are used again.
func TestSplice(t *testing.T) {
	piped := 0
	r := newRelay(t, relayOptions{sink: func(c exchange.Client) exchange.Sink[*exchange.Response] { return counted{c, &piped} }})
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{100, h1.MinSplice - 1, h1.MinSplice + 70_000, 1 << 20, 3<<20 + 7, 5 << 20} {
		for _, pace := range []string{"fast", "slow upstream", "slow client"} {
			t.Run(fmt.Sprintf("%d/%s", size, pace), func(t *testing.T) {
				body := make([]byte, size)
				for i := range body {
					body[i] = byte(random.Uint32())
				}
				piped = 0
				r.ask(t)
				var wg sync.WaitGroup
				wg.Go(func() {
					b := append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size), body...)
					for len(b) > 0 {
						n := len(b)
						if pace == "slow upstream" {
							n = min(n, 1+random.IntN(200_000))
							time.Sleep(time.Millisecond) // so that reads meet an empty socket
						}
						if _, err := r.upstream.Write(b[:n]); err != nil {
							t.Error(err)
							return
						}
						b = b[n:]
					}
				})
				r.readHead(t)
				got := make([]byte, size)
				for p := got; len(p) > 0; {
					n := len(p)
					if pace == "slow client" {
						n = min(n, 100_000)
						time.Sleep(time.Millisecond) // so that writes meet a full socket
					}
					n, err := r.client.Read(p[:n])
					if err != nil {
						t.Fatal(err)
					}
					p = p[n:]
				}
				wg.Wait()
				if err := <-r.errs; err != nil {
					t.Error(err)
				}
				if !bytes.Equal(got, body) {
					t.Error("the body is another one")
				}
				if want := size > h1.MinSplice+64<<10; want != (piped > 0) || want && piped < size-70_000 {
					t.Errorf("%d bytes of %d came through a pipe", piped, size)
				}
			})
		}
	}
}

// TestSpliceEnds: what ends a body early ends it as if it were copied, and leaves no pipe
// behind.
func TestSpliceEnds(t *testing.T) {
	const size = 4 << 20
	for _, tt := range []struct {
		name   string
		o      relayOptions
		sends  int
		then   func(r *relay)
		reads  bool
		reason string
		side   exchange.Side
	}{
		{"upstream closes", relayOptions{}, 1 << 20, func(r *relay) { _ = r.upstream.Close() }, true, h1.ReasonTruncated, exchange.UpstreamSide},
		{
			"upstream stalls",
			relayOptions{client: h1.ClientOptions{ReadTimeout: 50 * time.Millisecond}},
			1 << 20, func(*relay) {}, true,
			h1.ReasonReadTimeout, exchange.UpstreamSide,
		},
		{"client goes", relayOptions{}, 32 << 20, func(r *relay) { _ = r.client.Close() }, false, h1.ReasonClosed, exchange.ClientSide},
		{
			"client stalls",
			relayOptions{server: h1.ServerOptions{WriteTimeout: 50 * time.Millisecond}},
			32 << 20, func(*relay) {}, false,
			h1.ReasonWriteTimeout, exchange.ClientSide,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRelay(t, tt.o)
			r.ask(t)
			var wg sync.WaitGroup
			wg.Go(func() {
				_, _ = fmt.Fprintf(r.upstream, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", max(size, tt.sends))
				_, _ = r.upstream.Write(make([]byte, tt.sends)) // fails where the other end gives up
				if tt.reads {
					tt.then(r)
				}
			})
			if tt.reads {
				wg.Go(func() { _, _ = io.Copy(io.Discard, r.client) })
			} else {
				r.readHead(t)
				tt.then(r)
			}
			var e *exchange.Error
			if err := <-r.errs; !errors.As(err, &e) || e.Reason != tt.reason || e.Side != tt.side {
				t.Errorf("got %v, want %s", err, tt.reason)
			}
			_, _ = r.client.Close(), r.upstream.Close()
			wg.Wait()
		})
	}
}

// TestNoPipe: where there is none, bodies are copied.
func TestNoPipe(t *testing.T) {
	giveBack := h1.TakePipes(h1.MaxPipes)
	defer giveBack()
	piped := 0
	r := newRelay(t, relayOptions{sink: func(c exchange.Client) exchange.Sink[*exchange.Response] { return counted{c, &piped} }})
	r.ask(t)
	go func() { // ends with the body
		_, _ = fmt.Fprintf(r.upstream, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 1<<20)
		_, _ = r.upstream.Write(make([]byte, 1<<20))
	}()
	r.readHead(t)
	if n, err := io.CopyN(io.Discard, r.client, 1<<20); err != nil || piped != 0 {
		t.Errorf("%d bytes, %v; %d through a pipe", n, err, piped)
	}
	if err := <-r.errs; err != nil {
		t.Error(err)
	}
}
