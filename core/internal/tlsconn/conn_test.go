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
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %v", took)
	}
}
