package server_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/core/certs"
	"wproxy/core/certs/certstest"
	"wproxy/core/filter"
	"wproxy/core/server"
)

// deep is a filter that needs a big stack, as plugins and handshakes do.
type deep struct{ gate }

func (d *deep) New(*filter.Exchange) (filter.Filter, error) {
	if dig(100) == 0 {
		return nil, errors.New("unreachable: it keeps dig")
	}
	return d, nil
}

func (d *deep) Response(next responseSink) responseSink { return next }

// dig takes n frames of more than 256 bytes.
//
//go:noinline
func dig(n int) int {
	var frame [256]byte
	if n > 0 {
		frame[n%len(frame)] = byte(dig(n - 1))
	}
	return int(frame[n%len(frame)]) + 1
}

// TestIdleStack: the stack of a connection that has been served shrinks to 4 KiB while
// it waits. The runtime halves a stack of which less than a quarter is in use, counting
// 800 bytes more than are: the frames from the goroutine's first to the wait may have
// 1,248 bytes together. A connection of HTTP/2 keeps the goroutine of its last stream for a
// while.
func TestIdleStack(t *testing.T) {
	const connections = 400
	ca := certstest.New(t, "ca")
	pair := ca.Server("a.example")
	cert, key := pair.Write(t, t.TempDir(), "a")
	cc := &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example"}

	for _, tt := range []struct {
		name        string
		secure, two bool
		most        int64
	}{
		{"h1", false, false, 4<<10 + 512},
		{"h1 with TLS", true, false, 4<<10 + 512},
		{"h2c", false, true, 8<<10 + 512},
		{"h2 with TLS", true, true, 8<<10 + 512},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMaker()
			g := speaking(m.generation(t, "hello", []filter.Factory{new(deep)}, "a=127.0.0.1:0"), both)
			if tt.secure {
				secureFor(t, &g, certs.Pair{Cert: cert, Key: key})
			}
			at := address(t, m.start(t, g), "a")
			ask := askH1
			cc := cc.Clone()
			if tt.two {
				ask, cc.NextProtos = askH2, []string{"h2"}
			}
			open := func() {
				c, err := net.Dial("tcp", at)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close() })
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				if tt.secure {
					c = tls.Client(c, cc)
				}
				if err := ask(c); err != nil {
					t.Fatal(err)
				}
			}
			open() // what is needed once
			before := stacks()
			for range connections {
				open()
			}
			if raceDetector {
				tt.most *= 2 // frames are larger
			}
			if each := (stacks() - before) / connections; each > tt.most {
				t.Errorf("an idle connection has %d bytes of stack, want at most %d", each, tt.most)
			}
		})
	}
}

// stacks returns the bytes of all stacks when they have shrunk.
func stacks() int64 {
	for range 6 { // each halves them once
		runtime.GC()
	}
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.StackInuse)
}

// secureFor is secure for both versions of HTTP.
func secureFor(t *testing.T, g *server.Generation, p certs.Pair) {
	t.Helper()
	s, err := certs.Open(certs.Options{Pairs: []certs.Pair{p}, Protocols: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	g.Listeners[0].TLS = s
	g.Snapshot.Listeners[0].Secure = s
}

func askH1(c net.Conn) error { return get(c, bufio.NewReader(c), "a.example") }

// askH2 sends one request on a new connection, and reads until it is answered.
func askH2(c net.Conn) error {
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return err
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		return err
	}
	var head bytes.Buffer
	e := hpack.NewEncoder(&head)
	scheme := "http"
	if _, ok := c.(*tls.Conn); ok {
		scheme = "https"
	}
	for _, p := range [][2]string{{":method", "GET"}, {":scheme", scheme}, {":authority", "a.example"}, {":path", "/"}} {
		if err := e.WriteField(hpack.HeaderField{Name: p[0], Value: p[1]}); err != nil {
			return err
		}
	}
	err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true, EndStream: true})
	for err == nil {
		var got http2.Frame
		if got, err = f.ReadFrame(); err != nil {
			break
		}
		switch got := got.(type) {
		case *http2.SettingsFrame:
			if !got.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.DataFrame:
			if got.StreamEnded() {
				return nil
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			err = errors.New(got.Header().String())
		}
	}
	return err
}
