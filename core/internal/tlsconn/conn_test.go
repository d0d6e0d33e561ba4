package tlsconn_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"wproxy/core/certs/certstest"
	"wproxy/core/internal/tlsconn"
)

// pair returns both ends of a connection over a socket, or over memory.
func pair(t *testing.T, memory bool) (*tls.Conn, *tlsconn.Conn) {
	t.Helper()
	ca := certstest.New(t, "ca")
	p := ca.Server("a.example")
	client, server := net.Pipe()
	if !memory {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if server, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	s := tlsconn.Server(server, &tls.Config{Certificates: []tls.Certificate{p.TLS}, SessionTicketsDisabled: true})
	c := tls.Client(client, &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"})
	done := make(chan error, 1)
	go func() { done <- s.Handshake(context.Background()) }() // ends with the handshake
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return c, s
}

// TestPlainUse: without a driver it is a net.Conn like any other: bytes come through,
// a read that timed out can be repeated, an end is an end.
func TestPlainUse(t *testing.T) {
	for name, memory := range map[string]bool{"socket": false, "memory": true} {
		t.Run(name, func(t *testing.T) {
			c, s := pair(t, memory)
			defer s.Drop()
			b := make([]byte, 100)
			_ = s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if _, err := s.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			_ = s.SetReadDeadline(time.Time{})
			want := bytes.Repeat([]byte("0123456789"), 10_000)
			go func() { // ends with what is read
				_, _ = c.Write(want)
				_ = c.CloseWrite()
			}()
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			go func() { // ends with what is read
				_, _ = s.Write(want)
				_ = s.Close()
			}()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
}

// TestCloseDoesNotWait: a client that does not read cannot hold up who closes.
func TestCloseDoesNotWait(t *testing.T) {
	_, s := pair(t, false)
	_ = s.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		if _, err := s.Write(make([]byte, 1<<16)); err != nil {
			break // full
		}
	}
	start := time.Now()
	_ = s.Close()
	if took := time.Since(start); took > 4*time.Second { // package tls waits for five
		t.Errorf("it took %v", took)
	}
}

// TestWait: who waits is woken by a deadline, by a record and by the end, and Read says which.
func TestWait(t *testing.T) {
	client, server := pair(t, false)
	_ = server.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if err := server.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
	p := make([]byte, 100)
	for range 3 {
		if _, err := client.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := server.Wait(); err != nil {
			t.Fatal(err)
		}
		if n, err := server.Read(p); string(p[:n]) != "hello" || err != nil {
			t.Fatalf("got %q, %v", p[:n], err)
		}
		if n := server.Records().Held(); n > 0 {
			t.Errorf("%d bytes are held", n)
		}
	}
	// A record that is cut, and something that is none, are for Read to judge.
	if _, err := client.NetConn().Write([]byte{23, 3, 3, 1, 0, 'x'}); err != nil {
		t.Fatal(err)
	}
	_ = client.NetConn().Close()
	if err := server.Wait(); err != nil {
		t.Errorf("at the end: got %v", err)
	}
	if _, err := server.Read(p); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the end in a record", err)
	}

	client, server = pair(t, false)
	if _, err := io.WriteString(client.NetConn(), "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := server.Wait(); err != nil {
		t.Errorf("what is no record: got %v", err)
	}
	var re tls.RecordHeaderError
	if _, err := server.Read(p); !errors.As(err, &re) {
		t.Errorf("got %v, want a bad record", err)
	}
}
