package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A speaker is a server's end of a connection in one protocol, in steps, so that a
// server can go wrong between any two of them. Its methods end the connection's
// goroutine when the other side has gone.
type speaker interface {
	request() string        // reads a whole request and returns its body
	head(status, size int)  // sends the head of an answer with a body of so many bytes
	body(p string)          // sends bytes of that body
	raw(p string)           // sends bytes that are nothing
	drip(gap time.Duration) // sends an answer byte by byte
	hang()                  // waits until the other side has gone
	reset()                 // resets the connection
}

// gone is what ends a connection's goroutine.
type gone struct{}

// h1Speaker speaks HTTP/1.1.
type h1Speaker struct {
	c *net.TCPConn
	r *bufio.Reader
}

func newH1Speaker(c *net.TCPConn) speaker { return &h1Speaker{c, bufio.NewReader(c)} }

func (s *h1Speaker) must(err error) {
	if err != nil {
		panic(gone{})
	}
}

func (s *h1Speaker) request() string {
	req, err := http.ReadRequest(s.r)
	s.must(err)
	body, err := io.ReadAll(req.Body)
	s.must(err)
	return string(body)
}

func (s *h1Speaker) head(status, size int) {
	s.raw(fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: %d\r\n\r\n", status, http.StatusText(status), size))
}

func (s *h1Speaker) body(p string) { s.raw(p) }

func (s *h1Speaker) raw(p string) {
	_, err := io.WriteString(s.c, p)
	s.must(err)
}

func (s *h1Speaker) drip(gap time.Duration) {
	for _, b := range []byte("HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 1000) + "\r\nContent-Length: 0\r\n\r\n") {
		s.raw(string(b))
		time.Sleep(gap)
	}
}

func (s *h1Speaker) hang() {
	_, _ = io.Copy(io.Discard, s.r)
	panic(gone{})
}

func (s *h1Speaker) reset() {
	_ = s.c.SetLinger(0)
	panic(gone{})
}

// A faultServer does the same to every connection.
type faultServer struct {
	addr string
	hits atomic.Int64 // connections

	mu    sync.Mutex
	l     net.Listener         // guarded by mu; nil: down
	conns map[net.Conn]bool    // guarded by mu
	wg    sync.WaitGroup       // of the goroutines
	speak func(c *net.TCPConn) // with a connection
}

// startFault starts a server that does f with each connection, which it closes
// afterwards. It ends with the test.
func startFault(t testing.TB, speak func(*net.TCPConn) speaker, f func(s speaker)) *faultServer {
	t.Helper()
	o := &faultServer{conns: map[net.Conn]bool{}}
	o.speak = func(c *net.TCPConn) {
		defer func() {
			if v := recover(); v != nil {
				if _, ok := v.(gone); !ok {
					panic(v)
				}
			}
		}()
		f(speak(c))
	}
	o.addr = quietAddress(t)
	if err := o.up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.wg.Wait)
	t.Cleanup(o.down)
	return o
}

// quietAddresses is how many there were.
var quietAddresses atomic.Uint32

// quietAddress returns an address nobody listens at, now or later, unless told to: others
// take ports of 127.0.0.1, for servers and for their ends of connections.
func quietAddress(t testing.TB) string {
	t.Helper()
	if runtime.GOOS != "linux" { // which has all of 127.0.0.0/8
		return freeAddress(t)
	}
	n := quietAddresses.Add(1) // no two have one, or who comes later could get the port of one that is to be down
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 7+n>>15, n>>7&255, 1+n&127))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// up lets connections in.
func (o *faultServer) up() error {
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		return err
	}
	o.mu.Lock()
	o.l = l
	o.mu.Unlock()
	o.wg.Go(func() { // ends with down
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.hits.Add(1)
			o.mu.Lock()
			if o.l != l {
				o.mu.Unlock()
				_ = c.Close()
				return
			}
			o.conns[c] = true
			o.wg.Go(func() { // ends when the other side, or down, closes the connection
				o.speak(c.(*net.TCPConn))
				o.mu.Lock()
				delete(o.conns, c)
				o.mu.Unlock()
				_ = c.Close()
			})
			o.mu.Unlock()
		}
	})
	return nil
}

// down lets nobody in any more and resets all connections, as the end of a process does.
func (o *faultServer) down() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.l == nil {
		return
	}
	_ = o.l.Close()
	o.l = nil
	for c := range o.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	clear(o.conns)
}

// flap takes the server down and up again, each for so long, until stop is called.
func (o *faultServer) flap(t testing.TB, period time.Duration) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			for _, step := range []func(){o.down, func() {
				if err := o.up(); err != nil {
					t.Error(err)
				}
			}} {
				select {
				case <-done:
					return
				case <-time.After(period):
					step()
				}
			}
		}
	})
	return sync.OnceFunc(func() { close(done); wg.Wait() })
}

// healthy answers every request with its body.
func healthy(s speaker) {
	for {
		got := "ok:" + s.request()
		s.head(200, len(got))
		s.body(got)
	}
}
