package h1_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
	"wproxy/core/h1"
)

// A keeper is an h1.Owner that counts.
type keeper struct {
	active, rested, over atomic.Int64 // goroutines, rests so far, connections that are over
	all                  sync.WaitGroup
}

func (k *keeper) serve(s *h1.Server, nc net.Conn) {
	k.all.Add(1)
	k.run(func() bool { return s.Serve(context.Background(), nc, nil, k) })
}

func (k *keeper) run(serve func() bool) {
	k.active.Add(1)
	go func() { // ends with the connection, or when it rests
		rests := serve()
		k.active.Add(-1)
		if !rests {
			k.Over()
			return
		}
		k.rested.Add(1)
	}()
}

func (k *keeper) Resume(r h1.Resting) { k.run(r.Serve) }

func (k *keeper) Over() {
	k.over.Add(1)
	k.all.Done()
}

// until waits until ok, and fails the test if it takes too long.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it takes too long: %s", what)
		}
	}
}

// resting is a server of sockets that gives goroutines up soon.
type resting struct {
	*h1.Server
	keeper
	cc, sc *tls.Config // nil: without TLS
}

// forms are the ways that a test is run in.
var forms = map[string]uint16{"plain": 0, "TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// serveResting starts a server; version is that of TLS, 0: without.
func serveResting(t *testing.T, version uint16, o h1.ServerOptions, h exchange.Handler) *resting {
	t.Helper()
	if o.RestAfter == 0 {
		o.RestAfter = 5 * time.Millisecond
	}
	o.Watcher = newWatcher(t)
	r := &resting{Server: h1.NewServer(o, h)}
	if version != 0 {
		r.cc, r.sc = tlsConfigs(t)
		r.sc.MinVersion, r.sc.MaxVersion = version, version
	}
	t.Cleanup(func() {
		r.Drain()
		done := make(chan struct{})
		go func() { // ends with the connections
			r.all.Wait()
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Drain does not end them all")
		}
	})
	return r
}

func hello(_ context.Context, c exchange.Client) {
	var rec exchangetest.Recorder[*exchange.Request]
	if c.Feed(&rec) == nil {
		_ = answer(c, "hello")
	}
}

// dial makes a connection. raw is what is below TLS.
func (r *resting) dial(t *testing.T) (c net.Conn, raw *net.TCPConn) {
	t.Helper()
	client, server := tcpPair(t)
	_ = client.SetDeadline(time.Now().Add(patience))
	c, raw = client, client.(*net.TCPConn)
	t.Cleanup(func() { client.Close() })
	if r.cc != nil {
		c, server = secure(t, client, server, r.cc, r.sc)
	}
	r.serve(r.Server, server)
	return c, raw
}

// asleep waits until no connection has a goroutine, and n times one has been given up.
func (r *resting) asleep(t *testing.T, n int64) {
	t.Helper()
	until(t, fmt.Sprintf("%d rests", n), func() bool { return r.active.Load() == 0 && r.rested.Load() >= n })
}

const helloRequest = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func askHello(c io.Writer, br *bufio.Reader) (last bool, err error) {
	if _, err := io.WriteString(c, helloRequest); err != nil {
		return false, err
	}
	return readHello(br)
}

func readHello(br *bufio.Reader) (last bool, err error) {
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "hello" || res.StatusCode != 200 {
		return false, fmt.Errorf("%d %q %w", res.StatusCode, b, err)
	}
	return res.Close, nil
}

// TestRest: a connection without a request gives its goroutine up, before its first and
// between two, and is served when one comes, and when its client goes.
func TestRest(t *testing.T) {
	for name, version := range forms {
		t.Run(name, func(t *testing.T) {
			r := serveResting(t, version, h1.ServerOptions{}, hello)
			c, _ := r.dial(t)
			br := bufio.NewReader(c)
			for i := int64(1); i <= 3; i++ {
				r.asleep(t, i)
				for range 3 { // the first wakes it
					if _, err := askHello(c, br); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.asleep(t, 4)
			c.Close()
			until(t, "the end", func() bool { return r.over.Load() == 1 })
		})
	}
}

// TestRestGone: the end of a client is noticed, however it goes.
func TestRestGone(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){
		"FIN":   func(c *net.TCPConn) { _ = c.CloseWrite() },
		"reset": func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() },
	} {
		for form, version := range forms {
			t.Run(name+" "+form, func(t *testing.T) {
				r := serveResting(t, version, h1.ServerOptions{}, hello)
				_, raw := r.dial(t)
				r.asleep(t, 1)
				leave(raw)
				until(t, "the end", func() bool { return r.over.Load() == 1 })
			})
		}
	}
}

// TestRestIdle: a connection that rests is closed when its time is over, in the order of
// TLS, and one that has been served has it anew.
func TestRestIdle(t *testing.T) {
	const idle = 2 * time.Second // the request has to come in time on a busy machine
	for name, version := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := serveResting(t, version, h1.ServerOptions{Idle: idle}, hello)
			start := time.Now()
			silent, _ := r.dial(t)
			c, _ := r.dial(t)
			r.asleep(t, 2)
			time.Sleep(idle / 4)
			asked := time.Now() // not behind the answer: a client may hear of it late
			if _, err := askHello(c, bufio.NewReader(c)); err != nil {
				t.Fatal(err)
			}
			for _, x := range []struct {
				c    net.Conn
				from time.Time
			}{{silent, start}, {c, asked}} {
				if _, err := x.c.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // close_notify is exactly this
					t.Errorf("got %v, want EOF", err)
				}
				if took := time.Since(x.from); took < idle-10*time.Millisecond || took > idle+patience/2 {
					t.Errorf("it took %v, want %v", took, idle)
				}
			}
			until(t, "the end", func() bool { return r.over.Load() == 2 })
			if n := r.active.Load(); n != 0 {
				t.Errorf("%d goroutines", n)
			}
		})
	}
}

// TestRestBrisk: a client that asks soon after its connection came to rest keeps the goroutine
// the next time, and not for ever.
func TestRestBrisk(t *testing.T) {
	const after = 200 * time.Millisecond
	r := serveResting(t, 0, h1.ServerOptions{RestAfter: after}, hello)
	c, _ := r.dial(t)
	br := bufio.NewReader(c)
	for range 10 {
		time.Sleep(after * 3 / 2)
		if _, err := askHello(c, br); err != nil {
			t.Fatal(err)
		}
	}
	n := r.rested.Load()
	if n == 0 || n > 4 { // it is the machine's clock
		t.Errorf("%d rests", n)
	}
	start := time.Now()
	r.asleep(t, n+1)
	if took := time.Since(start); took < 2*after {
		t.Errorf("it rests after %v", took)
	}
}

// TestRestBrief: who waits no longer than it takes to rest does not.
func TestRestBrief(t *testing.T) {
	r := serveResting(t, 0, h1.ServerOptions{Idle: 50 * time.Millisecond, RestAfter: 40 * time.Millisecond}, hello)
	c, _ := r.dial(t)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
	until(t, "the end", func() bool { return r.over.Load() == 1 })
	if n := r.rested.Load(); n != 0 {
		t.Errorf("it rested")
	}
}

// TestRestDrain: Drain ends those that rest, and Leave those that ask once more.
func TestRestDrain(t *testing.T) {
	for name, version := range forms {
		t.Run(name, func(t *testing.T) {
			const n = 20
			r := serveResting(t, version, h1.ServerOptions{}, hello)
			clients := make([]net.Conn, n)
			for i := range clients {
				clients[i], _ = r.dial(t)
			}
			r.asleep(t, n)
			r.Leave()
			c := clients[0]
			if last, err := askHello(c, bufio.NewReader(c)); err != nil || !last {
				t.Fatalf("last: %t, %v, want an answer that is the last", last, err)
			}
			until(t, "the end of one", func() bool { return r.over.Load() == 1 })
			r.Drain()
			start := time.Now()
			for _, c := range clients {
				if _, err := c.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // close_notify is exactly this
					t.Errorf("got %v, want EOF", err)
				}
			}
			until(t, "the end of all", func() bool { return r.over.Load() == n })
			if took := time.Since(start); took > patience/2 {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestRestSlowHead: the first byte of a request wakes, and the rest of it has the time that
// it always has.
func TestRestSlowHead(t *testing.T) {
	const headerTime = 200 * time.Millisecond
	refused := make(chan string, 1)
	r := serveResting(t, 0, h1.ServerOptions{
		HeaderTime: headerTime,
		Refused:    func(r *h1.Refusal) { refused <- r.Reason },
	}, hello)
	c, _ := r.dial(t)
	r.asleep(t, 1)
	start := time.Now()
	for _, b := range []byte(helloRequest) {
		if _, err := c.Write([]byte{b}); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if reason := <-refused; reason != h1.ReasonHeadTimeout {
		t.Errorf("got %q", reason)
	}
	if took := time.Since(start); took < headerTime || took > headerTime+patience/2 {
		t.Errorf("it took %v", took)
	}
}

// TestRestPart: a part of a TLS record keeps the goroutine, and what brings no request does not
// make the wait longer.
func TestRestPart(t *testing.T) {
	const idle = 2 * time.Second
	r := serveResting(t, tls.VersionTLS13, h1.ServerOptions{Idle: idle}, hello)
	c, raw := r.dial(t)
	start := time.Now()
	r.asleep(t, 1)
	if _, err := raw.Write([]byte{23, 3, 3}); err != nil { // and the rest of it never comes
		t.Fatal(err)
	}
	until(t, "waking", func() bool { return r.active.Load() == 1 })
	time.Sleep(50 * time.Millisecond)
	if r.active.Load() != 1 {
		t.Error("it rests in the middle of a record")
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // close_notify is exactly this
		t.Errorf("got %v, want EOF", err)
	}
	if took := time.Since(start); took < idle-10*time.Millisecond || took > idle+patience/2 {
		t.Errorf("it took %v", took)
	}
}

// TestRestHTTP2: a client may think about it before it says that it speaks HTTP/2.
func TestRestHTTP2(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	got := make(chan []byte, 1)
	r := serveResting(t, 0, h1.ServerOptions{HTTP2: func(_ context.Context, nc net.Conn, _ *exchange.Conn, early []byte) {
		got <- early
		nc.Close()
	}}, hello)
	c, _ := r.dial(t)
	r.asleep(t, 1)
	if _, err := io.WriteString(c, preface); err != nil {
		t.Fatal(err)
	}
	if p := <-got; !strings.HasPrefix(preface, string(p)) || len(p) < len(preface)-6 {
		t.Errorf("got %q", p)
	}
	until(t, "the end", func() bool { return r.over.Load() == 1 })
}

// TestRestRace: bytes that come while a connection comes to rest, in one piece or several, are
// answered.
func TestRestRace(t *testing.T) {
	for name, version := range forms {
		t.Run(name, func(t *testing.T) {
			const after, least = time.Millisecond, 50
			r := serveResting(t, version, h1.ServerOptions{RestAfter: after}, hello)
			var clients sync.WaitGroup
			end := time.Now().Add(300 * time.Millisecond)
			var requests atomic.Int64
			for range 16 {
				c, raw := r.dial(t)
				clients.Go(func() { // ends soon
					br := bufio.NewReader(c)
					for time.Now().Before(end) || r.rested.Load() < least { // as often as it takes on a busy machine
						times := after // that it has for the first time, or after a brief rest
						if rand.N(2) == 0 {
							times *= 5
						}
						time.Sleep(times - 200*time.Microsecond + rand.N(400*time.Microsecond))
						var cut bytes.Buffer
						cut.WriteString(helloRequest)
						for cut.Len() > 0 {
							if _, err := c.Write(cut.Next(1 + rand.N(40))); err != nil {
								t.Error(err)
								return
							}
						}
						if _, err := readHello(br); err != nil {
							t.Error(err)
							return
						}
						requests.Add(1)
					}
					raw.Close()
				})
			}
			clients.Wait()
			if r.rested.Load() < least {
				t.Errorf("%d rests in %d requests prove nothing", r.rested.Load(), requests.Load())
			}
			t.Logf("%d requests, %d rests", requests.Load(), r.rested.Load())
		})
	}
}

// TestRestDrainRace: whatever a connection is at when Drain comes, it ends.
func TestRestDrainRace(t *testing.T) {
	for range 20 {
		r := serveResting(t, 0, h1.ServerOptions{RestAfter: time.Millisecond}, hello)
		var clients sync.WaitGroup
		for range 16 {
			c, _ := r.dial(t)
			clients.Go(func() { // ends with Drain
				br := bufio.NewReader(c)
				for {
					time.Sleep(rand.N(2 * time.Millisecond))
					if _, err := askHello(c, br); err != nil {
						if errors.Is(err, os.ErrDeadlineExceeded) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		time.Sleep(rand.N(5 * time.Millisecond))
		r.Drain()
		clients.Wait()
		until(t, "the end of all", func() bool { return r.over.Load() == 16 })
	}
}

// TestRestWithoutWatcher: nobody would wake it.
func TestRestWithoutWatcher(t *testing.T) {
	client, server := tcpPair(t)
	defer client.Close()
	var k keeper
	s := h1.NewServer(h1.ServerOptions{RestAfter: time.Millisecond}, hello)
	k.serve(s, server)
	time.Sleep(50 * time.Millisecond)
	_ = client.SetDeadline(time.Now().Add(patience))
	if _, err := askHello(client, bufio.NewReader(client)); err != nil {
		t.Error(err)
	}
	client.Close()
	k.all.Wait()
	if n := k.rested.Load(); n != 0 {
		t.Error("it rested")
	}
}

// TestRestLate: those whose time is over are closed in batches, and a request that comes before
// that is not less welcome than one that came in time.
func TestRestLate(t *testing.T) {
	const idle = 300 * time.Millisecond
	answered := 0
	for range 5 { // where the machine is slow they may be closed already
		r := serveResting(t, 0, h1.ServerOptions{Idle: idle}, hello)
		_, _ = r.dial(t) // its time is over first, and the next look is 100 ms later
		time.Sleep(20 * time.Millisecond)
		start := time.Now()
		c, _ := r.dial(t)
		r.asleep(t, 2)
		time.Sleep(idle + 30*time.Millisecond - time.Since(start))
		if _, err := askHello(c, bufio.NewReader(c)); err == nil {
			answered++
		}
	}
	if answered == 0 {
		t.Error("nobody was served")
	}
}
