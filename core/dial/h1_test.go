package dial_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/core/dial"
	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
	"wproxy/core/pool"
	"wproxy/core/upstream"
)

type response = exchangetest.Recorder[*exchange.Response]

// h1Conn dials a server that answers each request by f, and returns the connection.
func h1Conn(t *testing.T, version uint16, w *h1.Watcher, f func(c *tls.Conn, r *http.Request) (keep bool)) *h1.ClientConn {
	t.Helper()
	ca := newCA(t)
	address := serveTLS(t, &tls.Config{
		Certificates: []tls.Certificate{server(ca, "127.0.0.1")}, MinVersion: version, MaxVersion: version,
	}, func(c *tls.Conn) {
		for r := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if !f(c, req) {
				return
			}
		}
	})
	e, err := upstream.NewEndpoint("https://"+address, 1)
	if err != nil {
		t.Fatal(err)
	}
	o := &h1.ClientOptions{Watcher: w, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
	c, err := dial.New(dial.Options{
		TLS:     newTLS(t, dial.TLSOptions{CA: caFile(t, ca)}),
		NewConn: func(nc net.Conn) pool.Conn { return h1.NewClientConn(nc, o) },
	}).Dial(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	hc, ok := c.(*h1.ClientConn)
	if !ok {
		t.Fatalf("got %T", c)
	}
	t.Cleanup(func() { _ = hc.Close() })
	return hc
}

func get(path string) *exchange.Request {
	r := &exchange.Request{Method: "GET", Scheme: "http", Authority: "a.example"}
	r.SetTarget(path, len(path))
	return r
}

// roundTrip sends a request on c, which must have been reserved.
func roundTrip(t *testing.T, c pool.Conn) (*response, error) {
	t.Helper()
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var r response
	if err := s.Head(get("/"), true); err != nil {
		return &r, err
	}
	err = s.Feed(&r)
	return &r, err
}

func okay(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok") }

// settle is how long what was sent over loopback may take to arrive.
const settle = 20 * time.Millisecond

// TestIdleTLS: what comes on a connection at rest. Session tickets are no reason to close
// it; bytes that nobody asked for, and a goodbye, are.
func TestIdleTLS(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("a connection at rest is looked at on Linux only")
	}
	tests := []struct {
		name   string
		behind func(c *tls.Conn) (keep bool) // what the server does behind its answer
		usable bool
	}{
		{"nothing", func(*tls.Conn) bool { return true }, true},
		{"unasked bytes", func(c *tls.Conn) bool { okay(c); return true }, false},
		{"close", func(c *tls.Conn) bool { _ = c.Close(); return false }, false},
		{"goodbye without close", func(c *tls.Conn) bool { _ = c.CloseWrite(); return true }, false},
		{"close without goodbye", func(c *tls.Conn) bool { _ = c.NetConn().Close(); return false }, false},
		{"bytes that are no TLS", func(c *tls.Conn) bool { _, _ = c.NetConn().Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); return true }, false},
		{"half a record", func(c *tls.Conn) bool { _, _ = c.NetConn().Write([]byte{23, 3, 3}); return true }, true},
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} { // with tickets behind the handshake in 1.3
		for _, tt := range tests {
			t.Run(tls.VersionName(version)+", "+tt.name, func(t *testing.T) {
				t.Parallel()
				answered, said := make(chan struct{}, 2), make(chan struct{}, 2)
				c := h1Conn(t, version, nil, func(c *tls.Conn, _ *http.Request) bool {
					okay(c)
					<-answered // so that it is not in the same read as the answer
					keep := tt.behind(c)
					said <- struct{}{}
					return keep
				})
				if !c.Reserve() {
					t.Fatal("a new connection has no slot")
				}
				if _, err := roundTrip(t, c); err != nil {
					t.Fatal(err)
				}
				answered <- struct{}{}
				<-said
				time.Sleep(settle)
				if got := c.Reserve(); got != tt.usable || c.Idle() {
					t.Fatalf("usable: got %v, want %v", got, tt.usable)
				}
				if !tt.usable || tt.name == "half a record" {
					return
				}
				answered <- struct{}{}
				if r, err := roundTrip(t, c); err != nil || r.Calls() == "" || !c.Reused() {
					t.Errorf("second exchange: %v", err)
				}
				if st := c.TLS(); st == nil || st.Version != version {
					t.Errorf("TLS: got %+v", st)
				}
			})
		}
	}
}

// TestTicketsAtRest: tickets that come while a connection rests, in pieces and one after
// the other, are taken in, and the connection goes on.
func TestTicketsAtRest(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("a connection at rest is looked at on Linux only")
	}
	ca := newCA(t)
	slow := make(chan *drip, 1)
	cfg := &tls.Config{Certificates: []tls.Certificate{server(ca, "127.0.0.1")}}
	address := serve(t, func(nc net.Conn) {
		d := &drip{Conn: nc}
		slow <- d
		c := tls.Server(d, cfg)
		for r := bufio.NewReader(c); ; {
			if _, err := http.ReadRequest(r); err != nil { // the handshake, with its ticket, is in here
				return
			}
			okay(c)
		}
	})
	e, err := upstream.NewEndpoint("https://"+address, 1)
	if err != nil {
		t.Fatal(err)
	}
	pc, err := dial.New(dial.Options{
		TLS:     newTLS(t, dial.TLSOptions{CA: caFile(t, ca)}),
		NewConn: func(nc net.Conn) pool.Conn { return h1.NewClientConn(nc, nil) },
	}).Dial(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	d := <-slow
	for i := range 3 {
		if !pc.Reserve() {
			t.Fatalf("exchange %d: the connection is closed", i)
		}
		if _, err := roundTrip(t, pc); err != nil {
			t.Fatalf("exchange %d: %v", i, err)
		}
	}
	if n := d.tickets; n == 0 {
		t.Fatal("the server has sent no ticket: the test shows nothing")
	}
}

// A drip is a server's connection that sends small writes byte by byte, as tickets are.
type drip struct {
	net.Conn
	tickets int
}

func (d *drip) Write(p []byte) (int, error) {
	if len(p) > 2000 || len(p) < 100 { // the certificate, or answers
		return d.Conn.Write(p)
	}
	d.tickets++
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
		if i%16 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return len(p), nil
}

// TestWatcherTLS: a connection at rest whose server closes is found out at once.
func TestWatcherTLS(t *testing.T) {
	t.Parallel()
	w, err := h1.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if runtime.GOOS != "linux" {
		t.Skip("there is a watcher on Linux only")
	}
	seen := make(chan struct{})
	c := h1Conn(t, tls.VersionTLS13, w, func(c *tls.Conn, _ *http.Request) bool {
		okay(c)
		<-seen
		return false
	})
	atRest := sync.OnceFunc(func() { close(seen) })
	defer atRest()
	if !c.Reserve() {
		t.Fatal("a new connection has no slot")
	}
	if _, err := roundTrip(t, c); err != nil {
		t.Fatal(err)
	}
	if !c.Idle() {
		t.Fatal("not at rest")
	}
	atRest()
	for end := time.Now().Add(30 * time.Second); c.Idle(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody has noticed that the server has closed")
		}
	}
}

// TestCutTLS: an answer that ends with its connection is complete only if TLS says so.
func TestCutTLS(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{true, false} {
		c := h1Conn(t, tls.VersionTLS13, nil, func(c *tls.Conn, _ *http.Request) bool {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nsome of it")
			if clean {
				_ = c.Close()
			}
			return false // closes the socket
		})
		if !c.Reserve() {
			t.Fatal("a new connection has no slot")
		}
		r, err := roundTrip(t, c)
		_, data, _, ended := r.Message()
		if data != "some of it" || ended != clean || (err == nil) != clean {
			t.Errorf("goodbye %v: got %q, ended %v, %v", clean, data, ended, err)
		}
		var e *exchange.Error
		if !clean && (!errors.As(err, &e) || e.Reason != h1.ReasonTruncated || e.Retry != exchange.RetryNever) {
			t.Errorf("got %v", err)
		}
	}
}

// TestStaleTLS: a server that closes just before a request on a connection that it has
// served before is no failure of the request.
func TestStaleTLS(t *testing.T) {
	t.Parallel()
	n := 0
	c := h1Conn(t, tls.VersionTLS13, nil, func(c *tls.Conn, _ *http.Request) bool {
		n++
		if n == 1 {
			okay(c)
		}
		return n == 1
	})
	for i := range 2 {
		if !c.Reserve() {
			t.Fatal("no slot")
		}
		_, err := roundTrip(t, c)
		var e *exchange.Error
		if i == 0 && err != nil || i == 1 && (!errors.As(err, &e) || e.Retry != exchange.RetryIfReused || e.Reason != h1.ReasonClosed) {
			t.Errorf("exchange %d: %v", i, err)
		}
	}
}

// TestLargeTLS: bodies in both directions that are longer than a record, a socket's
// buffer, and what is joined into one write.
func TestLargeTLS(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789abcdef", 1<<16)
	c := h1Conn(t, tls.VersionTLS13, nil, func(c *tls.Conn, r *http.Request) bool {
		got, err := io.ReadAll(r.Body)
		answer := fmt.Sprintf("%v %v", string(got) == body, err)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(answer), answer)
		return true
	})
	for _, length := range []int64{int64(len(body)), exchange.LengthUnknown} {
		if !c.Reserve() {
			t.Fatal("no slot")
		}
		s, err := c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h := get("/")
		h.Method, h.Length = "POST", length
		pushed := make(chan error, 1)
		go func() { // ends with the request
			m := exchangetest.Message[*exchange.Request]{Head: h, Data: []string{body[:10], body[10:5000], "", body[5000:40_000], body[40_000:]}}
			pushed <- m.Push(s)
		}()
		var r response
		if err := s.Feed(&r); err != nil {
			t.Fatal(err)
		}
		if err := <-pushed; err != nil {
			t.Fatal(err)
		}
		if _, data, _, _ := r.Message(); data != "true <nil>" {
			t.Errorf("the server got the same body, error: %s", data)
		}
	}
}
