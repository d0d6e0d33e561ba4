package tlsconn_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"wproxy/core/certs/certstest"
	"wproxy/core/internal/tlsconn"
)

// A sealer makes the records of a TLS 1.3 client with TLS_AES_128_GCM_SHA256 (RFC 8446
// 5.2), for what crypto/tls never sends.
type sealer struct {
	t      *testing.T
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// newSealer begins with the secret in a key log.
func newSealer(t *testing.T, keys string) *sealer {
	t.Helper()
	s := &sealer{t: t}
	for line := range strings.Lines(keys) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			s.use(secret)
		}
	}
	return s
}

func (s *sealer) expand(label string, n int) []byte {
	s.t.Helper()
	info := append([]byte{byte(n >> 8), byte(n), byte(len("tls13 " + label))}, "tls13 "+label+"\x00"...)
	out, err := hkdf.Expand(sha256.New, s.secret, string(info), n)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *sealer) use(secret []byte) {
	s.t.Helper()
	s.secret, s.seq = secret, 0
	block, err := aes.NewCipher(s.expand("key", 16))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		s.t.Fatal(err)
	}
	s.iv = s.expand("iv", 12)
}

func (s *sealer) record(kind byte, content []byte) []byte {
	nonce := bytes.Clone(s.iv)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^s.seq)
	s.seq++
	n := len(content) + 1 + s.aead.Overhead()
	header := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return s.aead.Seal(header, nonce, append(bytes.Clone(content), kind), header)
}

// update asks the other side for new keys and takes some itself (RFC 8446 4.6.3).
func (s *sealer) update() []byte {
	s.t.Helper()
	b := s.record(22, []byte{24, 0, 0, 1, 1})
	s.use(s.expand("traffic upd", 32))
	return b
}

// TestUpdateWhileIdle: a client that asks for new keys when nothing is being written is answered
// by the reader. The deadline of what was written last has nothing to say to that.
func TestUpdateWhileIdle(t *testing.T) {
	for name, leave := range map[string]func(s net.Conn){
		"passed":  func(s net.Conn) { _ = s.SetWriteDeadline(time.Now().Add(-time.Second)) },
		"both":    func(s net.Conn) { _ = s.SetDeadline(time.Now().Add(20 * time.Millisecond)) },
		"to come": func(s net.Conn) { _ = s.SetWriteDeadline(time.Now().Add(time.Minute)) },
		"none":    func(net.Conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			var keys bytes.Buffer
			client, c, s := logged(t, &keys)
			defer s.Drop()
			seal := newSealer(t, keys.String())
			if _, err := s.Write([]byte("first")); err != nil {
				t.Fatal(err)
			}
			leave(s)
			time.Sleep(30 * time.Millisecond)
			_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
			go func() { _, _ = client.Write(append(seal.update(), seal.record(23, []byte("hello"))...)) }() // ends with what it sends
			b := make([]byte, 5)
			if _, err := io.ReadFull(s, b); err != nil {
				t.Fatal(err)
			}
			_ = s.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if _, err := s.Write([]byte("second")); err != nil {
				t.Fatalf("writing: %v", err)
			}
			all := make([]byte, len("firstsecond"))
			if _, err := io.ReadFull(c, all); err != nil || string(all) != "firstsecond" {
				t.Errorf("got %q, %v", all, err)
			}
		})
	}
}

// logged is pair over a socket, with the keys of the client.
func logged(t *testing.T, keys io.Writer) (net.Conn, *tls.Conn, *tlsconn.Conn) {
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
	s := tlsconn.Server(server, &tls.Config{Certificates: []tls.Certificate{p.TLS}, SessionTicketsDisabled: true})
	c := tls.Client(client, &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example", KeyLogWriter: keys})
	done := make(chan error, 1)
	go func() { done <- s.Handshake(context.Background()) }() // ends with the handshake
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	if c.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("this machine prefers another cipher suite")
	}
	return client, c, s
}
