package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// An Answer is what the origin sends back.
type Answer struct {
	Raw   []byte // written as it is
	Close bool   // close the connection afterwards
	// Then, if it is set, takes over the connection after Raw was sent; r has
	// what was read ahead. The connection is closed when it returns.
	Then func(c net.Conn, r io.Reader)
}

// Reply returns a plain answer with a body.
func Reply(status int, body string) Answer {
	return Answer{Raw: fmt.Appendf(nil, "HTTP/1.1 %d Status\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)}
}

// An Origin is a server that notes down all it receives.
type Origin struct {
	listener net.Listener
	answer   func(*Request) Answer
	wg       sync.WaitGroup

	mu       sync.Mutex // guards what follows
	conns    map[*originConn]bool
	accepted int
	requests []*Request
	partial  []*Request
	faults   []string
}

// maxRecord is how many bytes of a connection are kept for messages.
const maxRecord = 64 << 10

// NewOrigin starts an origin on a free loopback port; it ends with the test.
// answer is called with each complete request, from several goroutines. nil
// answers 200 "ok".
func NewOrigin(tb testing.TB, answer func(*Request) Answer) *Origin {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if answer == nil {
		answer = func(*Request) Answer { return Reply(200, "ok") }
	}
	o := &Origin{listener: l, answer: answer, conns: make(map[*originConn]bool)}
	o.wg.Go(o.accept) // ends with Close
	tb.Cleanup(o.Close)
	return o
}

// Addr returns its host:port.
func (o *Origin) Addr() string { return o.listener.Addr().String() }

// Close ends the listener and all connections and waits for them.
func (o *Origin) Close() {
	_ = o.listener.Close()
	o.CloseConns()
	o.wg.Wait()
}

// CloseConns closes all connections that are open now.
func (o *Origin) CloseConns() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		_ = c.Close()
	}
}

// An originConn is a connection that notes down what was received on it since
// the end of the last complete request.
type originConn struct {
	net.Conn
	o      *Origin
	n      int          // number, from 1
	record bytes.Buffer // guarded by o.mu; at most maxRecord
}

// Read implements io.Reader.
func (c *originConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.note(p[:n])
	return n, err
}

// CloseWrite sends a FIN.
func (c *originConn) CloseWrite() error {
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return errors.ErrUnsupported
	}
	return tcp.CloseWrite()
}

func (c *originConn) note(p []byte) {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	if room := maxRecord - c.record.Len(); room > 0 {
		c.record.Write(p[:min(len(p), room)])
	}
}

func (o *Origin) accept() {
	for {
		c, err := o.listener.Accept()
		if err != nil {
			return // closed
		}
		o.mu.Lock()
		o.accepted++
		oc := &originConn{Conn: c, o: o, n: o.accepted}
		o.conns[oc] = true
		o.mu.Unlock()
		o.wg.Go(func() { o.serve(oc) }) // ends with the connection, which the proxy or Close ends
	}
}

// serve reads requests until the connection ends or does something wrong.
func (o *Origin) serve(c *originConn) {
	defer func() {
		_ = c.Close()
		o.mu.Lock()
		delete(o.conns, c)
		o.mu.Unlock()
	}()
	r := NewReader(c)
	for {
		req, err := r.ReadRequest()
		if err != nil {
			o.failed(req, err, c)
			return
		}
		req.Conn = c.n
		ahead, _ := r.br.Peek(r.br.Buffered()) // cannot fail: it is there
		o.mu.Lock()
		o.requests = append(o.requests, req)
		c.record.Reset()
		c.record.Write(ahead)
		o.mu.Unlock()
		a := o.answer(req)
		if _, err := c.Write(a.Raw); err != nil {
			return
		}
		if a.Then != nil {
			a.Then(c, r.Buffered())
			return
		}
		if a.Close {
			return
		}
	}
}

// failed notes a request that did not get to its end.
func (o *Origin) failed(req *Request, err error, c *originConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var v *Violation
	switch {
	case errors.As(err, &v):
		o.faults = append(o.faults, fmt.Sprintf("connection %d: %v; it sent %q", c.n, err, c.record.Bytes()))
	case req != nil:
		req.Conn = c.n
		o.partial = append(o.partial, req)
	}
}

// Take returns what has come in since the last Take: complete requests,
// requests that broke off, and violations.
func (o *Origin) Take() (complete, partial []*Request, violations []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	complete, partial, violations = o.requests, o.partial, o.faults
	o.requests, o.partial, o.faults = nil, nil, nil
	return complete, partial, violations
}

// Return puts back what Take has taken, before what has come in since.
func (o *Origin) Return(complete, partial []*Request, violations []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = append(complete, o.requests...)
	o.partial = append(partial, o.partial...)
	o.faults = append(violations, o.faults...)
}

// Open returns how many connections are open.
func (o *Origin) Open() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.conns)
}

// Accepted returns how many connections there have been.
func (o *Origin) Accepted() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.accepted
}

// Idle reports whether no connection is within a request.
func (o *Origin) Idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		if c.record.Len() > 0 {
			return false
		}
	}
	return true
}

// patience is how long Eventually waits. Only a failure uses it up.
const patience = time.Minute

// Eventually polls until ok, for things that happen on the other side of a
// socket, and fails the test when that takes very long.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	Within(tb, patience, what, ok)
}

// Within is Eventually with another limit.
func Within(tb testing.TB, limit time.Duration, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Errorf("after %v: still not %s", limit, what)
			return
		}
	}
}
