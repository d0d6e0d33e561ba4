package h1_test

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
	"os"
	"strings"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
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
	low := binary.BigEndian.Uint64(nonce[4:]) ^ s.seq
	binary.BigEndian.PutUint64(nonce[4:], low)
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

// clientSealer makes the one of a client whose secrets are in keys, a key log.
func clientSealer(t *testing.T, keys string) *sealer {
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

// TestDrainKeyUpdate: an idle client that asks for new keys and takes none, since it reads
// nothing, does not hold up Drain, and with it all who need the Server's lock.
func TestDrainKeyUpdate(t *testing.T) {
	cc, sc := tlsConfigs(t)
	var keys bytes.Buffer
	cc.KeyLogWriter = &keys
	client, server := tcpPair(t)
	defer client.Close()
	c, s := secure(t, client, server, cc, sc)
	if c.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("this machine prefers another cipher suite")
	}
	for full := false; !full; { // what would else be answers that fit
		_ = server.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := server.Write(make([]byte, 1<<20))
		if full = n == 0; full && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	_ = server.SetWriteDeadline(time.Time{})
	x := h1.NewServer(h1.ServerOptions{Watcher: newWatcher(t)}, nil)
	served := make(chan struct{})
	go func() { // ends with the connection
		defer close(served)
		x.ServeConn(context.Background(), s, nil)
	}()
	if _, err := client.Write(clientSealer(t, keys.String()).update()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // let the server come to where it cannot answer
	start := time.Now()
	x.Drain()
	<-served
	if took := time.Since(start); took > h1.DefaultWriteTimeout/4 {
		t.Errorf("it took %v", took)
	}
}

// TestKeyUpdateTLS: a client that asks for new keys again and again makes the reader write
// records between those of the writer.
func TestKeyUpdateTLS(t *testing.T) {
	cc, sc := tlsConfigs(t)
	var keys bytes.Buffer
	cc.KeyLogWriter = &keys
	client, server := tcpPair(t)
	// Little is under way, so that answers to updates come soon.
	if err := errors.Join(client.(*net.TCPConn).SetReadBuffer(64<<10), server.(*net.TCPConn).SetWriteBuffer(64<<10)); err != nil {
		t.Fatal(err)
	}
	c, s := secure(t, client, server, cc, sc)
	if c.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("this machine prefers another cipher suite")
	}
	_ = client.SetDeadline(time.Now().Add(patience))
	seal := clientSealer(t, keys.String())
	const size, pieces = 4 << 20, 15 // crypto/tls, the client, bears 16 answers in a row
	served := make(chan struct{})
	var rec exchangetest.Recorder[*exchange.Request]
	go func() { // ends with the connection
		defer close(served)
		h1.NewServer(h1.ServerOptions{Watcher: newWatcher(t)}, func(_ context.Context, x exchange.Client) {
			answered := make(chan error, 1)
			go func() { // ends with the answer
				err := x.Head(&exchange.Response{Status: 200, Length: size}, false)
				for n := 0; n < size && err == nil; n += 1000 {
					err = x.Data(bytes.Repeat([]byte{'x'}, min(1000, size-n)), false)
				}
				if err == nil {
					err = x.Data(nil, false)
				}
				answered <- err
			}()
			if err := x.Feed(&rec); err != nil {
				t.Errorf("Feed: %v", err)
			}
			if err := <-answered; err != nil {
				t.Errorf("answer: %v", err)
			}
			_ = x.Data(nil, true)
		}).ServeConn(context.Background(), s, nil)
	}()
	turns := make(chan struct{}, 1)
	go func(nc net.Conn) { // ends with what it sends
		_, _ = nc.Write(seal.record(23, []byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")))
		for range turns {
			_, _ = nc.Write(append(seal.update(), seal.record(23, []byte("5\r\nhello\r\n"))...))
		}
		_, _ = nc.Write(seal.record(23, []byte("0\r\n\r\n")))
	}(client)
	for range pieces {
		if _, err := io.CopyN(io.Discard, c, size/pieces); err != nil {
			t.Fatal(err)
		}
		turns <- struct{}{}
	}
	close(turns)
	if n, err := io.CopyN(io.Discard, c, size%pieces); err != nil {
		t.Errorf("after %d bytes: %v", n, err)
	}
	_, _ = client.Read(make([]byte, 1<<16)) // an answer to an update may come behind
	time.Sleep(50 * time.Millisecond)       // let the end of the request arrive
	client.Close()
	<-served
	if _, body, _, _ := rec.Message(); len(body) != 5*pieces {
		t.Errorf("the body has %d bytes, want %d", len(body), 5*pieces)
	}
}
