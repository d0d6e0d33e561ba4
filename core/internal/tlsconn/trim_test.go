package tlsconn

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"wproxy/core/certs/certstest"
)

// trimmed returns both ends of a connection.
func trimmed(t *testing.T, version uint16) (*tls.Conn, *Conn) {
	t.Helper()
	ca := certstest.New(t, "ca")
	p := ca.Server("a.example")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	s := Server(server, &tls.Config{Certificates: []tls.Certificate{p.TLS}, MaxVersion: version})
	c := tls.Client(client, &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"})
	done := make(chan error, 1)
	go func() { done <- s.Handshake(context.Background()) }() // ends with the handshake
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return c, s
}

// TestTrim: a connection whose buffers were given back goes on as before.
func TestTrim(t *testing.T) {
	if !leftovers.found {
		t.Error("the buffers are not where they were: a connection at rest takes 3.5 KiB more")
	}
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			c, s := trimmed(t, version)
			done := make(chan struct{})
			defer func() {
				_ = c.NetConn().Close()
				<-done
				s.Drop()
			}()
			go func() { // ends with the connection
				defer close(done)
				br := bufio.NewReader(s)
				for {
					s.Trim()
					line, err := br.ReadString('\n')
					if err != nil {
						return
					}
					s.Trim()
					if _, err := io.WriteString(s, line); err != nil {
						return
					}
				}
			}()
			br := bufio.NewReader(c)
			for range 10 {
				if _, err := io.WriteString(c, "hello\n"); err != nil {
					t.Fatal(err)
				}
				if line, err := br.ReadString('\n'); line != "hello\n" || err != nil {
					t.Fatalf("got %q, %v", line, err)
				}
			}
		})
	}
}

// TestTrimKeeps: what was not read yet stays.
func TestTrimKeeps(t *testing.T) {
	c, s := trimmed(t, tls.VersionTLS13)
	defer s.Drop()
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	for _, want := range "hello" {
		if _, err := s.Read(b); err != nil || b[0] != byte(want) {
			t.Fatalf("got %q, %v, want %q", b, err, want)
		}
		s.Trim()
	}
}

// TestTrimFrees: what it is for.
func TestTrimFrees(t *testing.T) {
	const n, least = 100, 2 << 10
	var all []*Conn
	for range n {
		_, s := trimmed(t, tls.VersionTLS13)
		all = append(all, s)
	}
	before := heap()
	for _, s := range all {
		s.Trim()
	}
	freed := (before - heap()) / n
	t.Logf("%d bytes", freed)
	if freed < least {
		t.Errorf("it frees %d bytes of a connection, want at least %d", freed, least)
	}
	runtime.KeepAlive(all)
}

func heap() int {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
